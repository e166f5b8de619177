//! Weights without a checkpoint: reproducible pseudo-random numbers of given shapes, for benchmarks and tests.

use std::collections::BTreeMap;

use super::WeightSource;
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::HostTensor;

/// Half the width of the uniform distribution: its deviation is 0.02, as of freshly initialised transformers.
const BOUND: f32 = 0.034_64;

/// Uniform numbers around zero; the same for the same name, shape and type on every machine.
pub struct RandomSource {
    shapes: BTreeMap<String, Vec<usize>>,
    dtype: StoredDtype,
}

impl RandomSource {
    /// A source of the named shapes; `dtype` is a floating-point type.
    pub fn new(shapes: impl IntoIterator<Item = (String, Vec<usize>)>, dtype: StoredDtype) -> Self {
        Self {
            shapes: shapes.into_iter().collect(),
            dtype,
        }
    }
}

impl WeightSource for RandomSource {
    fn names(&self) -> Vec<String> {
        self.shapes.keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let shape = self.shapes.get(name).ok_or_else(|| WeightError::NoTensor {
            name: name.to_owned(),
            origin: self.describe(),
            similar: Vec::new(),
        })?;
        // FNV-1a of the name seeds each tensor, so that the order of reading does not matter.
        let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let numbers = (0..shape.iter().product())
            .map(|_| uniform(&mut state))
            .collect();
        HostTensor::from_f32(numbers, shape).to_dtype(self.dtype)
    }

    fn total_bytes(&self) -> u64 {
        self.shapes
            .values()
            .map(|shape| self.dtype.bytes(shape.iter().product()) as u64)
            .sum()
    }

    fn describe(&self) -> String {
        format!("random numbers for {} tensors", self.shapes.len())
    }
}

/// The next number of a splitmix64 sequence, scaled to ±`BOUND`.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    ((bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * BOUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_name_only_and_spread_as_stated() {
        let shapes = [
            ("a".to_owned(), vec![64, 64]),
            ("b".to_owned(), vec![64, 64]),
        ];
        let source = RandomSource::new(shapes.clone(), StoredDtype::F32);
        let first = source.get("a").unwrap().to_vec_f32().unwrap();
        assert_eq!(
            first,
            RandomSource::new(shapes, StoredDtype::F32)
                .get("a")
                .unwrap()
                .to_vec_f32()
                .unwrap()
        );
        assert_ne!(first, source.get("b").unwrap().to_vec_f32().unwrap());
        let deviation = (first.iter().map(|n| n * n).sum::<f32>() / first.len() as f32).sqrt();
        assert!((deviation - 0.02).abs() < 0.001, "{deviation}");
        assert_eq!(source.total_bytes(), 2 * 64 * 64 * 4);
        assert!(source.get("c").is_err());
    }
}
