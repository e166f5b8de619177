//! Memory of a recorded step: the same addresses each time, given out from the front.
//!
//! What a layer computes lives until the next one has read it, so two regions take turns: a layer writes into one while its
//! input lies in the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{DType, Result, Tensor};

use super::gpu::Gpu;

/// Numbers of the first chunk of a region.
const LEAST: usize = 1 << 18;

/// Numbers on whose multiples results begin, for aligned reads.
const ALIGNED: usize = 128;

/// Memory that results are put into while a step is recorded, or computed as one that will be.
#[derive(Debug)]
pub(super) struct Arena(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    regions: [Vec<Chunk>; 2],
    /// The region that is written.
    at: usize,
    /// Whether nothing more may be asked of the GPU.
    is_sealed: bool,
}

/// Numbers of one type, and how many are given out.
#[derive(Debug)]
struct Chunk {
    numbers: Tensor,
    used: usize,
}

/// The arenas of steps that are under way, by the device that they are on.
fn in_use() -> MutexGuard<'static, HashMap<DeviceId, Arc<Arena>>> {
    static IN_USE: OnceLock<Mutex<HashMap<DeviceId, Arc<Arena>>>> = OnceLock::new();
    lock(IN_USE.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, results of a device are put into an arena.
pub(super) struct InUse(DeviceId);

impl Drop for InUse {
    fn drop(&mut self) {
        in_use().remove(&self.0);
    }
}

impl Arena {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// The one that the results of a device go to now.
    pub(super) fn of(device: &CudaDevice) -> Option<Arc<Self>> {
        in_use().get(&device.id()).cloned()
    }

    /// Begins a step from the front. A sealed arena has to do with the memory that it has.
    pub(super) fn begin(self: &Arc<Self>, device: &CudaDevice, is_sealed: bool) -> InUse {
        let mut state = lock(&self.0);
        state.at = 0;
        state.is_sealed = is_sealed;
        let chunks = state.regions.iter_mut().flatten();
        chunks.for_each(|chunk| chunk.used = 0);
        in_use().insert(device.id(), Arc::clone(self));
        InUse(device.id())
    }

    /// Writes into the other region from now on; what lies there has been read.
    pub(super) fn turn(&self) {
        let state = &mut *lock(&self.0);
        state.at = 1 - state.at;
        state.regions[state.at]
            .iter_mut()
            .for_each(|chunk| chunk.used = 0);
    }

    /// Numbers that are not yet written.
    pub(super) fn take(&self, gpu: &Gpu, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let len = shape.iter().product::<usize>().max(1);
        let state = &mut *lock(&self.0);
        let region = &mut state.regions[state.at];
        let fits = |chunk: &&mut Chunk| {
            chunk.numbers.dtype() == dtype && chunk.used + len <= chunk.numbers.elem_count()
        };
        let chunk = match region.iter_mut().find(fits) {
            Some(chunk) => chunk,
            None if state.is_sealed => {
                candle_core::bail!("a recorded step needs other memory than when it was tried")
            }
            None => {
                let have = region.iter().map(|chunk| chunk.numbers.elem_count()).sum();
                let numbers = gpu.allocate(dtype, &[len.max(have).max(LEAST)])?;
                region.push(Chunk { numbers, used: 0 });
                let last = region.len() - 1;
                &mut region[last]
            }
        };
        let taken = chunk.numbers.narrow(0, chunk.used, len)?;
        chunk.used += len.next_multiple_of(ALIGNED);
        taken.reshape(shape)
    }
}
