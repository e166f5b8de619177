//! Learned numbers that scores of a causal attention get by the distance of key and query, T5's way.

use std::sync::Arc;

use super::mutual::DistanceBiases;

/// A number for each head and each distance of a key before its query; all long distances share the last.
#[derive(Clone, Debug, PartialEq)]
pub struct LookBack {
    /// `[heads, reach]`.
    numbers: Arc<[f32]>,
    reach: usize,
}

impl LookBack {
    /// Of the biases, which are the same from the distance `longest` on.
    pub fn new(biases: &DistanceBiases, longest: usize) -> Self {
        Self {
            numbers: biases.before(longest).into(),
            reach: longest + 1,
        }
    }

    /// Number of heads.
    pub(super) fn heads(&self) -> usize {
        self.numbers.len() / self.reach
    }

    /// The numbers of some heads by distance, and how many each has.
    pub(crate) fn of_heads(&self, first: usize, count: usize) -> (&[f32], usize) {
        let reach = self.reach;
        (&self.numbers[first * reach..(first + count) * reach], reach)
    }
}
