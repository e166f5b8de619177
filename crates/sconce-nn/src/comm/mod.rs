//! Collectives between the ranks of one model. What is split between ranks is left to `sconce-models`.

mod failure;
#[cfg(feature = "cuda")]
mod nccl;
mod solo;
mod threads;

use candle_core::{Device, Result, Tensor};

pub use failure::{GroupFailure, Place};
pub use solo::{Solo, SoloOn};
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

    /// Where this rank computes.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Waits until this rank's device has done what it was told, and fails when it never will because another rank's
    /// has not.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
}

/// Fails where GPUs cannot be joined to a group: there is no NCCL, or it is too old.
pub fn require_nccl() -> Result<()> {
    #[cfg(feature = "cuda")]
    return nccl::require_library();
    #[cfg(not(feature = "cuda"))]
    Err(crate::error::NnError::NoNccl.into())
}

/// The ranks of a group of threads on GPUs of their own, each on its `device`: collectives are NCCL's. Returns when all
/// ranks have come.
///
/// # Errors
/// Without NCCL, and when a rank goes or the group fails before.
pub fn over_nccl(threads: Threads, device: Device) -> Result<Box<dyn Communicator + Send>> {
    #[cfg(feature = "cuda")]
    return Ok(Box::new(nccl::Nccl::join(threads, device)?));
    #[cfg(not(feature = "cuda"))]
    {
        drop(threads);
        let (what, device) = ("a group of ranks", format!("{:?}", device.location()));
        Err(crate::error::NnError::Device { what, device }.into())
    }
}
