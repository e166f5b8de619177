//! Collectives between the ranks of one model. What is split between ranks is left to `sconce-models`.

mod failure;
mod solo;
mod threads;

use candle_core::{Result, Tensor};

pub use failure::{GroupFailure, Place};
pub use solo::Solo;
pub use threads::{GroupHandle, Threads};

/// One rank's end of a group. All ranks call the same operations in the same order.
pub trait Communicator {
    /// Index of this rank.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world(&self) -> usize;

    /// The sum of every rank's `x` of the same shape, added in the order of ranks: the same bits on all of them.
    fn all_reduce(&self, x: &Tensor) -> Result<Tensor>;

    /// Every rank's `x` joined along `dim` in the order of ranks; the other dimensions are equal.
    fn all_gather(&self, x: &Tensor, dim: usize) -> Result<Tensor>;
}
