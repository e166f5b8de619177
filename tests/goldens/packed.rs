//! Checkpoints that AutoAWQ and AutoGPTQ packed, against what these tools read back and transformers computes with it:
//! `tests/fixtures/packed/make.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_models::{HfConfig, LoadOptions, Quantisation, unpacked};
use sconce_nn::Solo;
use sconce_nn::weights::{self, BlockFormat, HostTensor, StoredDtype, WeightError, WeightSource};
use sconce_testkit::reference::Reference;

use super::player::{Player, on_ranks};

/// What is in each folder, and what its matrices are unpacked to.
const CASES: [(&str, StoredDtype); 7] = [
    ("awq", StoredDtype::Quantised(BlockFormat::Q4_1)),
    ("gptq", StoredDtype::Quantised(BlockFormat::Q4_0)),
    ("gptq-asymmetric", StoredDtype::Quantised(BlockFormat::Q4_1)),
    ("gptq-v2", StoredDtype::Quantised(BlockFormat::Q4_1)),
    ("gptq-act-order", StoredDtype::F16),
    ("gptq-8", StoredDtype::Quantised(BlockFormat::Q8_0)),
    ("gptq-gpt2", StoredDtype::Quantised(BlockFormat::Q4_0)),
];

/// How far logits are moved by inputs that are rounded to 8 bits, as a share of the largest: random layers of width 64
/// even out little.
const ROUNDED: f32 = 0.2;

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/packed");
    root.join(name)
}

fn open(dir: &Path) -> Arc<dyn WeightSource> {
    let config = HfConfig::read(dir).unwrap();
    unpacked(&config, weights::open(dir).unwrap().into()).unwrap()
}

/// What is beside the weights.
fn golden(dir: &Path) -> Reference {
    Reference::open(&dir.join("golden.safetensors")).expect("goldens")
}

/// Tokens, and the logits of all of them.
fn run(golden: &Reference) -> (Vec<u32>, Vec<f32>) {
    let (ids, logits) = (golden.ids("ids"), golden.numbers("logits"));
    (ids.expect("tokens"), logits.expect("logits"))
}

/// The same weights as f32, which kernels multiply without rounding the input; by way of f16, as the tools have them.
struct Wide(Arc<dyn WeightSource>);

impl WeightSource for Wide {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let tensor = self.0.get(name)?.to_dtype(StoredDtype::F16)?;
        tensor.to_dtype(StoredDtype::F32)
    }

    fn has_outputs_as_rows(&self, name: &str) -> bool {
        self.0.has_outputs_as_rows(name)
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
        let names = golden.names().unwrap();
        let matrices: Vec<_> = names.iter().filter(|name| name.contains('.')).collect();
        assert_eq!(matrices.len(), 2, "{names:?}");
        for matrix in matrices {
            let weight = source.get(&format!("{matrix}.weight")).unwrap();
            let shape = golden.shape(matrix).unwrap();
            assert_eq!((weight.dtype(), weight.shape()), (dtype, &*shape), "{name}");
            let wanted = golden.numbers(matrix).unwrap();
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
        let (ids, wanted) = run(&golden);
        let spread = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // The minimum of a block is rounded to f16, which moves all its numbers alike.
        let limit = match dtype {
            StoredDtype::Quantised(BlockFormat::Q4_1) => 8e-3,
            _ => 1e-5,
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
            rounded < spread * ROUNDED,
            "{name}: {rounded} of {spread} with inputs in 8 bits"
        );
    }
}

#[test]
fn ranks_cut_blocks_where_they_can_and_numbers_where_they_cannot() {
    for (name, _) in CASES {
        let dir = folder(name);
        let (source, golden) = (open(&dir), golden(&dir));
        let (ids, wanted) = run(&golden);
        let spread = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let ranks = on_ranks(2, |comm| {
            let options = LoadOptions::default();
            let player = Player::load(&dir, &*source, Box::new(comm), &options);
            player.expect("loadable").logits(&ids, &[ids.len()])
        });
        for rank in ranks {
            let distance = largest_distance(&rank, &wanted);
            assert!(
                distance < spread * ROUNDED,
                "{name}: {distance} of {spread}"
            );
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
    let (ids, _) = run(&golden);
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
            distance > 0.0 && distance < spread * ROUNDED,
            "{wanted}: {distance} of {spread}"
        );
    }
}
