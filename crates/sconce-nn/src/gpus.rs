//! Which GPUs there are, and how one is opened. Without the feature `cuda`, and where a library of NVIDIA's is missing,
//! there are none, and an error says which of both it is. What goes onto which is left to the engine.

use candle_core::Device;

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its index among those that this process sees.
    pub ordinal: usize,
    /// The maker's name for it.
    pub name: String,
    /// All its memory.
    pub bytes: u64,
    /// Its compute capability, major and minor.
    pub capability: (u32, u32),
}

/// The memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What nobody has taken.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// The memory of a device now, once it has done what it was told; `None`: it is the processor, or does not say.
pub fn device_memory(device: &Device) -> Option<DeviceMemory> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return crate::kernels::cuda::memory(device).ok();
    }
    let _ = device;
    None
}

/// Why GPUs cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is no code for them.
    #[error("this build of sconce computes on the processor only")]
    NotBuilt,
    /// A library is not installed.
    #[error(
        "{what} is not there: run the container with --gpus all, or install the driver and put CUDA's libraries on \
         LD_LIBRARY_PATH"
    )]
    Missing {
        /// The library.
        what: &'static str,
    },
    /// A library lacks what is called.
    #[error("{what} is too old or incomplete: CUDA 13 needs a driver of version 580 or later")]
    Library {
        /// The library.
        what: &'static str,
    },
    /// The driver refuses.
    #[error("the driver of the GPUs says {cause}")]
    Driver {
        /// Its words.
        cause: String,
    },
    /// One GPU cannot be used.
    #[error("GPU {ordinal} cannot be used: {cause}")]
    Open {
        /// Which.
        ordinal: usize,
        /// Why.
        cause: String,
    },
}

/// The GPUs that this process may use.
pub fn gpus() -> Result<Vec<GpuInfo>, GpuError> {
    #[cfg(feature = "cuda")]
    return crate::kernels::cuda::list();
    #[cfg(not(feature = "cuda"))]
    Err(GpuError::NotBuilt)
}

/// Two of the GPUs that cannot reach each other's memory, if there are such.
pub fn apart(ordinals: &[usize]) -> Option<[usize; 2]> {
    #[cfg(feature = "cuda")]
    return crate::kernels::cuda::apart(ordinals);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = ordinals;
        None
    }
}

/// Bytes that are free in `/dev/shm`, through which GPUs exchange numbers that cannot reach each other; `None`: the system
/// does not tell.
pub fn shared_memory() -> Option<u64> {
    let mut told = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and the system writes the whole of what it tells.
    #[allow(unsafe_code)]
    let told = unsafe {
        if libc::statvfs(c"/dev/shm".as_ptr(), told.as_mut_ptr()) != 0 {
            return None;
        }
        told.assume_init()
    };
    Some(told.f_bavail * told.f_frsize)
}

/// One GPU with a stream of its own, for one rank: whoever opens it twice has to synchronise both.
pub fn open_gpu(ordinal: usize) -> Result<Device, GpuError> {
    #[cfg(feature = "cuda")]
    return crate::kernels::cuda::open(ordinal);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = ordinal;
        Err(GpuError::NotBuilt)
    }
}

/// The numbers of keys and values that GPUs keep for a head of so many: kernels have some sizes only. `None`: none is
/// large enough.
pub fn head_on_gpu(head: usize) -> Option<usize> {
    HEADS.into_iter().find(|&padded| head <= padded)
}

/// Heads that kernels are compiled for; others are padded to the next with zeros.
pub(crate) const HEADS: [usize; 10] = [16, 32, 64, 80, 96, 112, 128, 160, 192, 256];
