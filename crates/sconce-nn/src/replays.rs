//! Steps that are computed by playing them again, where a device can record what it is told.

use candle_core::{Device, Result, Tensor};

use crate::cache::KvCache;
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::rope::Rope;
use crate::step::{Placed, Step};

/// Steps of one rank that were recorded.
#[derive(Default)]
pub struct Replays {
    #[cfg(feature = "cuda")]
    on_gpu: Option<cuda::Replays>,
}

impl Replays {
    /// Records steps of a device that can.
    pub fn on(device: &Device) -> Self {
        #[cfg(not(feature = "cuda"))]
        let _ = device;
        Self {
            #[cfg(feature = "cuda")]
            on_gpu: device.is_cuda().then(|| cuda::Replays::new(device)),
        }
    }

    /// What `compute` gives for a step, `[sampled, vocab]`: by calling it, or by playing again what it launched for another
    /// step of that shape. It must launch the same for every step of a shape, but for numbers that it takes from the
    /// [`Placed`], and say there when a layer begins. The result is good until the next call.
    pub fn run(
        &mut self,
        step: &Step,
        ropes: &[Rope],
        kv: &mut KvCache,
        compute: &mut dyn FnMut(&Placed, &mut KvCache) -> Result<Tensor>,
    ) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(replays) = &mut self.on_gpu {
            return replays.run(step, ropes, kv, compute);
        }
        compute(&Placed::new(step, ropes), kv)
    }

    /// The number of recorded steps.
    pub fn count(&self) -> usize {
        #[cfg(feature = "cuda")]
        if let Some(replays) = &self.on_gpu {
            return replays.count();
        }
        0
    }

    /// Why nothing is recorded any more, if that failed.
    pub fn problem(&self) -> Option<&str> {
        #[cfg(feature = "cuda")]
        if let Some(replays) = &self.on_gpu {
            return replays.problem();
        }
        None
    }
}
