//! Checkpoints that AutoAWQ and AutoGPTQ packed, against what these tools read back and transformers computes with it:
//! `tests/fixtures/packed/make.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_models::{HfConfig, LoadOptions, Quantisation, unpacked};
use sconce_nn::weights::{self, BlockFormat, HostTensor, StoredDtype, WeightError, WeightSource};
use sconce_nn::{Solo, Threads};

use super::player::Player;

/// What is in each folder, and what its matrices are unpacked to.
const CASES: [(&str, StoredDtype); 6] = [
    ("awq", StoredDtype::Quantised(BlockFormat::Q4_1)),
    ("gptq", StoredDtype::Quantised(BlockFormat::Q4_0)),
    ("gptq-asymmetric", StoredDtype::Quantised(BlockFormat::Q4_1)),
    ("gptq-v2", StoredDtype::Quantised(BlockFormat::Q4_1)),
    ("gptq-act-order", StoredDtype::F16),
    ("gptq-8", StoredDtype::Quantised(BlockFormat::Q8_0)),
];

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/packed");
    root.join(name)
}

fn open(dir: &Path) -> Arc<dyn WeightSource> {
    let config = HfConfig::read(dir).unwrap();
    unpacked(&config, weights::open(dir).unwrap().into()).unwrap()
}

/// The tensors of a file beside the weights.
fn golden(dir: &Path) -> safetensors::SafeTensors<'static> {
    let bytes = std::fs::read(dir.join("golden.safetensors")).unwrap();
    safetensors::SafeTensors::deserialize(Box::leak(bytes.into_boxed_slice())).unwrap()
}

fn ids(golden: &safetensors::SafeTensors<'_>) -> Vec<u32> {
    let ids = golden.tensor("ids").unwrap();
    let ids = ids.data().chunks_exact(8);
    ids.map(|id| i64::from_le_bytes(id.try_into().unwrap()) as u32)
        .collect()
}

fn logits(golden: &safetensors::SafeTensors<'_>) -> Vec<f32> {
    let logits = golden.tensor("logits").unwrap();
    let logits = logits.data().chunks_exact(4);
    logits
        .map(|x| f32::from_le_bytes(x.try_into().unwrap()))
        .collect()
}

/// The same weights as f32, which kernels multiply without rounding the input.
struct Wide(Arc<dyn WeightSource>);

impl WeightSource for Wide {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.0.get(name)?.to_dtype(StoredDtype::F32)
    }

    fn total_bytes(&self) -> u64 {
        let names = self.names();
        let bytes = |name: &String| self.get(name).unwrap().byte_len() as u64;
        names.iter().map(bytes).sum()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

fn largest_distance(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let pairs = one.iter().zip(other);
    pairs.fold(0.0, |most, (one, other)| most.max((one - other).abs()))
}

#[test]
fn matrices_are_unpacked_to_the_numbers_that_their_tools_read_back() {
    for (name, dtype) in CASES {
        let dir = folder(name);
        let (source, golden) = (open(&dir), golden(&dir));
        for matrix in [
            "model.layers.0.self_attn.q_proj",
            "model.layers.1.mlp.down_proj",
        ] {
            let weight = source.get(&format!("{matrix}.weight")).unwrap();
            let wanted = golden.tensor(matrix).unwrap();
            assert_eq!(
                (weight.dtype(), weight.shape()),
                (dtype, wanted.shape()),
                "{name}"
            );
            let wanted = wanted.data().chunks_exact(2);
            let wanted: Vec<f32> = wanted
                .map(|x| half::f16::from_le_bytes(x.try_into().unwrap()).to_f32())
                .collect();
            let got = weight.to_vec_f32().unwrap();
            let distance = largest_distance(&got, &wanted);
            // The tools round products to f16; the minimum of q4_1 is rounded so as well.
            let most = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(
                distance <= most / 1024.0,
                "{name} {matrix}: {distance} of {most}"
            );
        }
    }
}

#[test]
fn logits_are_those_of_the_numbers_that_are_packed() {
    for (name, dtype) in CASES {
        let dir = folder(name);
        let (source, golden) = (open(&dir), golden(&dir));
        let (ids, wanted) = (ids(&golden), logits(&golden));
        let spread = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // The minimum of a block is rounded to f16, which moves all its numbers alike.
        let limit = match dtype {
            StoredDtype::Quantised(BlockFormat::Q4_1) => 8e-3,
            _ => 1e-3,
        };
        let play = |source: &dyn WeightSource| {
            let player = Player::load(&dir, source, Box::new(Solo), &LoadOptions::default());
            player.expect("loadable").logits(&ids, &[ids.len()])
        };
        let exact = largest_distance(&play(&Wide(Arc::clone(&source))), &wanted);
        assert!(
            exact < spread * limit,
            "{name}: {exact} of {spread} with f32 inputs"
        );
        let rounded = largest_distance(&play(&*source), &wanted);
        assert!(
            rounded < spread * 5e-2,
            "{name}: {rounded} of {spread} with inputs in 8 bits"
        );
    }
}

#[test]
fn ranks_cut_blocks_where_they_can_and_numbers_where_they_cannot() {
    for (name, _) in CASES {
        let dir = folder(name);
        let (source, golden) = (open(&dir), golden(&dir));
        let (ids, wanted) = (ids(&golden), logits(&golden));
        let spread = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let ranks: Vec<_> = Threads::group(2)
            .into_iter()
            .map(|comm| {
                let (dir, source, ids) = (dir.clone(), Arc::clone(&source), ids.clone());
                std::thread::spawn(move || {
                    let options = LoadOptions::default();
                    let player = Player::load(&dir, &*source, Box::new(comm), &options);
                    player.expect("loadable").logits(&ids, &[ids.len()])
                })
            })
            .collect();
        for rank in ranks {
            let distance = largest_distance(&rank.join().expect("computable"), &wanted);
            assert!(distance < spread * 5e-2, "{name}: {distance} of {spread}");
        }
    }
}

/// A checkpoint whose matrices were quantised before.
struct Blocks<'a> {
    source: &'a dyn WeightSource,
    matrices: BlockFormat,
    head: BlockFormat,
    wide: bool,
}

impl WeightSource for Blocks<'_> {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let tensor = self.source.get(name)?;
        let format = match name {
            "lm_head.weight" => self.head,
            name if name.contains("norm") => return Ok(tensor),
            _ => self.matrices,
        };
        let blocks = tensor.to_dtype(StoredDtype::Quantised(format))?;
        if self.wide {
            blocks.to_dtype(StoredDtype::F32)
        } else {
            Ok(blocks)
        }
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |name: &String| self.get(name).unwrap().byte_len() as u64;
        self.names().iter().map(bytes).sum()
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

#[test]
fn what_is_quantised_while_loading_computes_as_what_was_quantised_before() {
    use BlockFormat::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let dir = folder("gptq-act-order");
    let (source, golden) = (Wide(open(&dir)), golden(&dir));
    let ids = ids(&golden);
    let play = |source: &dyn WeightSource, quantise| {
        let options = LoadOptions {
            quantise,
            ..LoadOptions::default()
        };
        let player = Player::load(&dir, source, Box::new(Solo), &options);
        player.expect("loadable").logits(&ids, &[ids.len()])
    };
    // Rows of 64 and 96 numbers fill no block of 256.
    for (wanted, matrices) in [
        (Quantisation::Blocks(Q8_0), Q8_0),
        (Quantisation::Blocks(Q6K), Q8_0),
        (Quantisation::Blocks(Q5K), Q5_1),
        (Quantisation::Blocks(Q5_1), Q5_1),
        (Quantisation::Blocks(Q4K), Q5_0),
        (Quantisation::Blocks(Q5_0), Q5_0),
        (Quantisation::Blocks(Q4_1), Q4_1),
        (Quantisation::Blocks(Q4_0), Q4_0),
        (Quantisation::Int4, Q4_0),
    ] {
        let before = |wide| Blocks {
            source: &source,
            matrices,
            head: Q8_0,
            wide,
        };
        let got = play(&source, Some(wanted));
        assert_eq!(got, play(&before(false), None), "{wanted}");
        let exact = play(&before(true), None);
        let spread = exact.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let distance = largest_distance(&got, &exact);
        assert!(
            distance > 0.0 && distance < spread * 5e-2,
            "{wanted}: {distance} of {spread}"
        );
    }
}
