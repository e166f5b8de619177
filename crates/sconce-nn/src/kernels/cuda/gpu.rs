//! One GPU: whether it can be used, its kernels, and launches on its stream.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, DeviceRepr, LaunchConfig, PushKernelArg, result, sys,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr, cudarc};
use candle_core::{DType, Device, Result, Tensor};

use super::arena::Arena;
use super::numbers::pointer;
use crate::error::NnError;
use crate::gpus::{DeviceMemory, GpuError, GpuInfo};

/// Machine code of all generations and code for later ones, as `make cuda-kernels` compiles it.
static KERNELS: &[u8] = include_bytes!(env!(
    "SCONCE_CUDA_KERNELS",
    "the path of the compiled kernels: build with `make cuda`"
));

/// Threads of a block where the kernel does not say.
const THREADS: u32 = 256;

/// Bytes that cuBLAS gets to work in; what it recommends for Hopper.
const SCRATCH: usize = 32 << 20;

/// Blocks of a launch that goes over numbers by itself.
const MOST_BLOCKS: usize = 4096;

/// A GPU with its stream; all that a rank does there is in the order of that stream.
#[derive(Clone)]
pub(crate) struct Gpu {
    device: CudaDevice,
    kernels: Arc<Kernels>,
}

/// The kernels of one GPU, by name.
struct Kernels {
    module: Arc<CudaModule>,
    /// Whether kernels for tensor cores are compiled for it: from compute capability 8.0 on.
    has_tiles: bool,
    functions: Mutex<HashMap<String, CudaFunction>>,
}

/// An argument of a kernel.
pub(crate) enum Arg {
    Pointer(u64),
    Int(usize),
    Index(u32),
    Count(usize),
    Number(f32),
    Scoring(Scoring),
}

/// How scores are made; `Scoring` in paged.cuh.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Scoring {
    pub(crate) scale: f32,
    pub(crate) window: u32,
    pub(crate) softcap: f32,
    pub(crate) slopes: u64,
    pub(crate) rounded: i32,
    pub(crate) factor: f32,
}

// SAFETY: it lies as the struct of the kernels does.
unsafe impl DeviceRepr for Scoring {}

/// What a library says, or that there is none.
fn caught<T>(what: &'static str, call: impl FnOnce() -> T) -> std::result::Result<T, GpuError> {
    // cudarc panics where a library lacks a function.
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| GpuError::Library { what })
}

/// Fails where a library is missing, which cudarc would panic at.
fn require_libraries() -> std::result::Result<(), GpuError> {
    #[cfg(feature = "dynamic-loading")]
    {
        // SAFETY: only looks for files and opens them.
        let there = unsafe {
            [
                (
                    "libcuda.so.1 (the driver)",
                    cudarc::driver::sys::is_culib_present(),
                ),
                ("libcublas.so", cudarc::cublas::sys::is_culib_present()),
                ("libcurand.so", cudarc::curand::sys::is_culib_present()),
            ]
        };
        if let Some((what, _)) = there.into_iter().find(|(_, present)| !present) {
            return Err(GpuError::Missing { what });
        }
    }
    Ok(())
}

/// The GPUs that the driver shows to this process.
pub(crate) fn list() -> std::result::Result<Vec<GpuInfo>, GpuError> {
    require_libraries()?;
    let driver = |error: cudarc::driver::DriverError| GpuError::Driver {
        cause: error.to_string(),
    };
    caught("libcuda.so.1", || {
        result::init().map_err(driver)?;
        let count = result::device::get_count().map_err(driver)?;
        let info = |ordinal: i32| {
            let device = result::device::get(ordinal).map_err(driver)?;
            // SAFETY: the device was just given.
            let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
            let bytes = unsafe { result::device::total_mem(device) };
            use sys::CUdevice_attribute as Attribute;
            Ok(GpuInfo {
                ordinal: ordinal as usize,
                name: result::device::get_name(device).map_err(driver)?,
                bytes: bytes.map_err(driver)? as u64,
                capability: (
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
                        .map_err(driver)? as u32,
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
                        .map_err(driver)? as u32,
                ),
            })
        };
        (0..count).map(info).collect()
    })?
}

/// Two of the GPUs that cannot reach each other's memory, if the driver knows of such.
pub(crate) fn apart(ordinals: &[usize]) -> Option<[usize; 2]> {
    require_libraries().ok()?;
    let reaches = |one: usize, other: usize| {
        let asked = caught("libcuda.so.1", || {
            let (one, other) = (
                result::device::get(one as i32)?,
                result::device::get(other as i32)?,
            );
            let mut can = 0;
            // SAFETY: both were just given.
            unsafe { sys::cuDeviceCanAccessPeer(&mut can, one, other) }.result()?;
            Ok::<_, cudarc::driver::DriverError>(can != 0)
        });
        // Who cannot say is not accused.
        asked.ok().and_then(std::result::Result::ok).unwrap_or(true)
    };
    let pairs = ordinals.iter().enumerate();
    pairs
        .flat_map(|(index, &one)| ordinals[..index].iter().map(move |&other| [other, one]))
        .find(|&[one, other]| !reaches(one, other))
}

/// A GPU with a stream of its own. Weights, activations and the cache of one rank live there.
pub(crate) fn open(ordinal: usize) -> std::result::Result<Device, GpuError> {
    require_libraries()?;
    let opened = caught("a library of CUDA", || {
        Device::new_cuda_with_stream(ordinal)
    })?;
    let failed = |cause: String| GpuError::Open { ordinal, cause };
    let device = opened.map_err(|error| failed(error.to_string()))?;
    let cuda = device
        .as_cuda_device()
        .map_err(|error| failed(error.to_string()))?;
    // SAFETY: everything of a rank is on its one stream, and ranks hand each other nothing that is under way.
    unsafe { cuda.disable_event_tracking() };
    keep_freed_memory(&cuda.cuda_stream().context().clone())
        .map_err(|error| failed(error.to_string()))?;
    Gpu::of_device(cuda).map_err(|error| failed(error.to_string()))?;
    Ok(device)
}

/// The memory of a GPU, when its stream is done.
pub(crate) fn memory(device: &Device) -> Result<DeviceMemory> {
    let stream = device.as_cuda_device()?.cuda_stream();
    stream.synchronize().w()?;
    let (free, total) = stream.context().mem_get_info().w()?;
    Ok(DeviceMemory {
        free: free as u64,
        total: total as u64,
    })
}

/// Memory that is freed stays the process's: else every synchronisation gives it back, and the next step asks again.
fn keep_freed_memory(context: &Arc<CudaContext>) -> Result<()> {
    context.bind_to_thread().w()?;
    let mut all = u64::MAX;
    // SAFETY: the context is bound, and the attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).w()?;
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut all).cast(),
        )
        .w()
    }
}

impl Gpu {
    /// The one that a tensor is on.
    pub(crate) fn of(tensor: &Tensor) -> Result<Self> {
        Self::of_device(tensor.device().as_cuda_device()?)
    }

    pub(crate) fn of_device(device: &CudaDevice) -> Result<Self> {
        static LOADED: OnceLock<Mutex<HashMap<usize, Arc<Kernels>>>> = OnceLock::new();
        let context = device.cuda_stream().context().clone();
        let mut loaded = lock(LOADED.get_or_init(Mutex::default));
        let kernels = match loaded.get(&context.ordinal()) {
            Some(kernels) => Arc::clone(kernels),
            None => {
                let image = cudarc::nvrtc::Ptx::from_binary(KERNELS.to_vec());
                let kernels = Arc::new(Kernels {
                    module: context.load_module(image).w()?,
                    has_tiles: context.compute_capability().w()?.0 >= 8,
                    functions: Mutex::default(),
                });
                loaded.insert(context.ordinal(), Arc::clone(&kernels));
                kernels
            }
        };
        Ok(Self {
            device: device.clone(),
            kernels,
        })
    }

    pub(crate) fn device(&self) -> &CudaDevice {
        &self.device
    }

    /// Whether it multiplies tiles of numbers of that type on tensor cores, as kernels here need them.
    pub(super) fn has_tiles_of(&self, dtype: DType) -> bool {
        self.kernels.has_tiles && matches!(dtype, DType::F16 | DType::BF16)
    }

    /// Numbers that are not yet written. A launch must write all of them before another reads them.
    pub(crate) fn room(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        match Arena::of(&self.device) {
            Some(arena) => arena.take(self, dtype, shape),
            None => self.allocate(dtype, shape),
        }
    }

    /// The same, whatever step is under way.
    pub(super) fn allocate(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        use candle_core::op::BackpropOp;
        use candle_core::{CudaStorage, Storage};
        let len = shape.iter().product::<usize>().max(1);
        let device = self.device.clone();
        // SAFETY: the caller's launch writes it.
        let storage = unsafe {
            match dtype {
                DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(len)?, device),
                DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<half::f16>(len)?, device),
                DType::BF16 => {
                    CudaStorage::wrap_cuda_slice(device.alloc::<half::bf16>(len)?, device)
                }
                DType::U32 => CudaStorage::wrap_cuda_slice(device.alloc::<u32>(len)?, device),
                other => candle_core::bail!("no kernel of GPUs computes with {}", other.as_str()),
            }
        };
        Ok(Tensor::from_storage(
            Storage::Cuda(storage),
            shape,
            BackpropOp::none(),
            false,
        ))
    }

    /// Fills the first `bytes` of a tensor with zeros.
    pub(crate) fn clear(&self, tensor: &Tensor, bytes: usize) -> Result<()> {
        let Arg::Pointer(address) = pointer(tensor, "a tensor")? else {
            return Ok(());
        };
        let stream = self.device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        // SAFETY: so many bytes were given, and the stream orders it before their use.
        unsafe { result::memset_d8_async(address, 0, bytes, stream.cu_stream()) }.w()
    }

    /// Writes words from the host over those of a tensor.
    pub(super) fn overwrite(&self, tensor: &Tensor, words: &[u32]) -> Result<()> {
        let Arg::Pointer(address) = pointer(tensor, "words")? else {
            return Ok(());
        };
        if tensor.dtype() != DType::U32 || tensor.elem_count() != words.len() {
            let (what, shape) = ("words", tensor.dims().to_vec());
            let wanted = format!("{} of them", words.len());
            return Err(NnError::Shape {
                what,
                shape,
                wanted,
            }
            .into());
        }
        let stream = self.device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        // SAFETY: so many words are there, on this stream, and what is copied of ordinary memory is copied at once.
        unsafe { result::memcpy_htod_async(address, words, stream.cu_stream()) }.w()
    }

    /// Scratch for cuBLAS of this device, which else asks for some in the middle of what is recorded. It is in use for as
    /// long as products are computed.
    pub(super) fn give_scratch(&self) -> Result<Tensor> {
        let scratch = self.allocate(DType::F32, &[SCRATCH / size_of::<f32>()])?;
        let address = super::numbers::address_of(&scratch, "scratch")?;
        let handle = self.device.cublas_handle();
        // SAFETY: so many bytes are there, on the stream of the handle; the caller keeps them.
        let set = unsafe {
            cudarc::cublas::sys::cublasSetWorkspace_v2(*handle.handle(), address as *mut _, SCRATCH)
        };
        set.result().w()?;
        Ok(scratch)
    }

    /// `out` `[rows, n]` becomes `x` `[.., k]` times the weight `[n, k]`, all of one type; sums are f32.
    pub(super) fn multiply(&self, weight: &Tensor, x: &Tensor, out: &Tensor) -> Result<()> {
        use cudarc::cublas::{result::gemm_ex, sys as blas};
        let ((n, k), rows) = (weight.dims2()?, out.dim(0)?);
        let what = "the input of a linear layer";
        if weight.dtype() != x.dtype() {
            let dtype = x.dtype().as_str();
            return Err(NnError::Dtype { what, dtype }.into());
        }
        if rows == 0 || n == 0 || k == 0 {
            return Ok(());
        }
        let kind = match x.dtype() {
            DType::F32 => blas::cudaDataType_t::CUDA_R_32F,
            DType::F16 => blas::cudaDataType_t::CUDA_R_16F,
            DType::BF16 => blas::cudaDataType_t::CUDA_R_16BF,
            other => candle_core::bail!("no product of GPUs computes with {}", other.as_str()),
        };
        let address = |tensor, what| super::numbers::address_of(tensor, what);
        let (a, b, c) = (
            address(weight, "the weight of a linear layer")?,
            address(x, what)?,
            address(out, "a product")?,
        );
        let (one, zero) = (1f32, 0f32);
        let [n, rows, k] = [n, rows, k].map(|size| size as i32);
        let stream = self.device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        // SAFETY: by columns, as cuBLAS counts, the weight is [k, n], the input [k, rows], the product [n, rows]; they are
        // on the stream of the handle.
        let done = unsafe {
            gemm_ex(
                *self.device.cublas_handle().handle(),
                blas::cublasOperation_t::CUBLAS_OP_T,
                blas::cublasOperation_t::CUBLAS_OP_N,
                n,
                rows,
                k,
                (&raw const one).cast(),
                a as *const _,
                kind,
                k,
                b as *const _,
                kind,
                k,
                (&raw const zero).cast(),
                c as *mut _,
                kind,
                n,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        done.w()
    }

    /// Launches a kernel over a grid.
    pub(crate) fn launch(
        &self,
        name: String,
        grid: [usize; 3],
        threads: u32,
        args: &[Arg],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let function = self.kernels.function(name)?;
        let stream = self.device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        // The kernels count with `int`.
        let ints: Vec<i32> = args
            .iter()
            .map(|arg| match arg {
                Arg::Int(int) => *int as i32,
                _ => 0,
            })
            .collect();
        for (arg, int) in args.iter().zip(&ints) {
            match arg {
                Arg::Pointer(pointer) => builder.arg(pointer),
                Arg::Int(_) => builder.arg(int),
                Arg::Index(index) => builder.arg(index),
                Arg::Count(count) => builder.arg(count),
                Arg::Number(number) => builder.arg(number),
                Arg::Scoring(scoring) => builder.arg(scoring),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid[0] as u32, grid[1] as u32, grid[2] as u32),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel of that name in kernels.cu; what they point to is on this
        // stream, so nothing is freed before the kernel has run.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }

    /// Launches a kernel that has a block for each row.
    pub(crate) fn launch_rows(
        &self,
        name: String,
        rows: usize,
        width: usize,
        args: &[Arg],
    ) -> Result<()> {
        let threads = (width.div_ceil(32) * 32).clamp(32, 1024) as u32;
        self.launch(name, [rows, 1, 1], threads, args)
    }

    /// Launches a kernel that goes over `count` numbers.
    pub(crate) fn launch_each(&self, name: String, count: usize, args: &[Arg]) -> Result<()> {
        let blocks = count.div_ceil(THREADS as usize).min(MOST_BLOCKS);
        self.launch(name, [blocks, 1, 1], THREADS, args)
    }
}

impl Kernels {
    fn function(&self, name: String) -> Result<CudaFunction> {
        let mut functions = lock(&self.functions);
        if let Some(function) = functions.get(&name) {
            return Ok(function.clone());
        }
        let function = self.module.load_function(&name).w()?;
        functions.insert(name, function.clone());
        Ok(function)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
