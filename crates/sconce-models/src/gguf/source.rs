//! The tensors of a GGUF file with stacked experts taken apart: `[experts, n, k]` becomes so many views `[n, k]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use sconce_nn::weights::gguf::Gguf;
use sconce_nn::weights::{HostTensor, Numbers, WeightError, WeightSource};

/// How the names of stacked experts end.
const STACKED: &str = "_exps.weight";
/// More experts than any model has: others are left as they are.
const MOST_EXPERTS: usize = 4096;
/// The projection to the weight of the shared expert, which files have as a vector.
const VECTOR: &str = "ffn_gate_inp_shexp.weight";

/// A GGUF file as a source of matrices.
pub struct Unstacked {
    file: Arc<Gguf>,
    /// The names of experts, and which part of which tensor they are.
    experts: BTreeMap<String, (String, usize)>,
}

impl Unstacked {
    pub(super) fn new(file: Arc<Gguf>) -> Self {
        let mut experts = BTreeMap::new();
        for name in file.names() {
            let Some(stem) = name.strip_suffix(STACKED) else {
                continue;
            };
            let count = match file.get(&name).as_ref().map(HostTensor::shape) {
                Ok(&[count, n, k]) if n.min(k) > 0 && count <= MOST_EXPERTS => count,
                _ => continue,
            };
            for item in 0..count {
                experts.insert(format!("{stem}_exps.{item}.weight"), (name.clone(), item));
            }
        }
        Self { file, experts }
    }
}

impl WeightSource for Unstacked {
    fn names(&self) -> Vec<String> {
        let mut names = self.file.names();
        names.retain(|name| {
            let stem = name.strip_suffix(STACKED);
            stem.is_none_or(|stem| !self.experts.contains_key(&format!("{stem}_exps.0.weight")))
        });
        names.extend(self.experts.keys().cloned());
        names.sort();
        names
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        if let Some((stack, item)) = self.experts.get(name) {
            let part = self.file.get(stack)?.narrow(0, *item, 1)?;
            let shape = part.shape()[1..].to_vec();
            return part.reshape(&shape);
        }
        let tensor = self.file.get(name)?;
        match *tensor.shape() {
            [width] if name.ends_with(VECTOR) => tensor.reshape(&[1, width]),
            _ => Ok(tensor),
        }
    }

    fn numbers(&self) -> Option<&Arc<dyn Numbers>> {
        self.file.numbers()
    }

    fn total_bytes(&self) -> u64 {
        self.file.total_bytes()
    }

    fn describe(&self) -> String {
        self.file.describe()
    }
}

#[cfg(test)]
mod tests {
    use sconce_nn::weights::{BlockFormat, StoredDtype};

    use super::*;

    const Q8_0: u32 = 8;
    const F32: u32 = 0;

    /// A file of these tensors: name, sizes as such files order them, type, bytes.
    fn file(tensors: &[(&str, &[u64], u32, Vec<u8>)]) -> Arc<Gguf> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        let mut data = Vec::new();
        for (name, sizes, kind, numbers) in tensors {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((sizes.len() as u32).to_le_bytes());
            bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            data.extend(numbers);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, bytes).expect("written");
        Arc::new(Gguf::open(&path).expect("a file"))
    }

    /// A block of 32 numbers that are all the same, with a scale of one half.
    fn block(number: i8) -> Vec<u8> {
        let mut block = vec![0x00, 0x38];
        block.extend([number as u8; 32]);
        block
    }

    #[test]
    fn stacked_experts_are_views_of_their_parts_also_in_blocks() {
        let blocks: Vec<u8> = (1..=6).flat_map(block).collect();
        let numbers = [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
        let source = Unstacked::new(file(&[
            ("blk.0.ffn_up_exps.weight", &[32, 2, 3], Q8_0, blocks),
            ("blk.0.ffn_gate_inp_shexp.weight", &[4], F32, numbers),
        ]));
        let names = [
            "ffn_gate_inp_shexp",
            "ffn_up_exps.0",
            "ffn_up_exps.1",
            "ffn_up_exps.2",
        ];
        assert_eq!(
            source.names(),
            names.map(|name| format!("blk.0.{name}.weight"))
        );
        let expert = source.get("blk.0.ffn_up_exps.2.weight").expect("an expert");
        assert_eq!(expert.dtype(), StoredDtype::Quantised(BlockFormat::Q8_0));
        assert_eq!((expert.shape(), expert.is_owned()), (&[2, 32][..], false));
        let rows = expert.to_vec_f32().expect("numbers");
        assert_eq!(
            (rows[0], rows[31], rows[32], rows[63]),
            (2.5, 2.5, 3.0, 3.0)
        );
        let vector = source
            .get("blk.0.ffn_gate_inp_shexp.weight")
            .expect("a row");
        assert_eq!(vector.shape(), [1, 4]);
        assert!(source.get("blk.0.ffn_up_exps.3.weight").is_err());
    }

    #[test]
    fn stacks_of_no_sensible_size_are_left_as_they_are() {
        let source = Unstacked::new(file(&[
            (
                "blk.0.ffn_up_exps.weight",
                &[0, 4, 1 << 40],
                F32,
                Vec::new(),
            ),
            ("blk.1.ffn_up_exps.weight", &[4, 4], F32, vec![0; 64]),
        ]));
        let names = ["blk.0.ffn_up_exps.weight", "blk.1.ffn_up_exps.weight"];
        assert_eq!(source.names(), names);
    }
}
