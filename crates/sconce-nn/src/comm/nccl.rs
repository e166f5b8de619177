//! Ranks on GPUs of their own: collectives are NCCL's. Who takes part, who left and why is known to the group of
//! threads that the ranks are; whoever waits here asks it, so that nobody waits for a rank that does not come.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::ptr::{null, null_mut};
use std::time::Duration;

use candle_core::cuda_backend::cudarc::driver::sys as driver;
use candle_core::cuda_backend::cudarc::nccl::{result, sys};
use candle_core::{DType, Device, Result, Tensor};

use super::threads::Operation;
use super::{Communicator, Threads};
use crate::error::NnError;
use crate::kernels::cuda::{self, Gpu};

/// Looks at a stream before the thread sleeps between two.
const SPINS: usize = 4096;

/// Sleep between two looks.
const NAP: Duration = Duration::from_micros(50);

/// The first version whose calls need not block: 2.17.
const OLDEST: c_int = 21_700;

/// Bytes of NCCL's name of a group.
const ID: usize = 128;

/// One rank of a group on GPUs.
pub(super) struct Nccl {
    threads: Threads,
    device: Device,
    comm: sys::ncclComm_t,
    aborted: Cell<bool>,
}

// SAFETY: the handle is used by the one thread that its rank is in.
unsafe impl Send for Nccl {}

/// The beginning of `ncclConfig_t` that every version since 2.17 has; its size says where it ends.
#[repr(C)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

impl Config {
    /// Calls return at once, so that a rank can give up on others.
    fn without_blocking() -> Self {
        const UNDEFINED: c_int = c_int::MIN;
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: 21_700,
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: UNDEFINED,
            net_name: null(),
            split_share: UNDEFINED,
        }
    }
}

/// Fails where there is no NCCL that can be used.
pub(super) fn require_library() -> Result<()> {
    #[cfg(feature = "dynamic-loading")]
    // SAFETY: only looks for the file and opens it.
    if !unsafe { sys::is_culib_present() } {
        return Err(NnError::NoNccl.into());
    }
    let version = result::get_nccl_version().map_err(|error| failed("ncclGetVersion", error.0))?;
    if version < OLDEST {
        return Err(NnError::OldNccl { version }.into());
    }
    Ok(())
}

impl Nccl {
    /// Joins the ranks of a group of threads on their GPUs; returns when all have come.
    pub(super) fn join(threads: Threads, device: Device) -> Result<Self> {
        require_library()?;
        // The first rank's name of the group reaches the others as numbers.
        let name = match threads.rank() {
            0 => result::get_uniqueid().map_err(|error| failed("ncclGetUniqueId", error.0))?,
            _ => sys::ncclUniqueId { internal: [0; ID] },
        };
        let bytes = name.internal.map(|byte| u32::from(byte as u8));
        let all = threads.all_gather(&Tensor::new(&bytes, &Device::Cpu)?, 0)?;
        let all = all.to_vec1::<u32>()?;
        let mut name = sys::ncclUniqueId { internal: [0; ID] };
        for (to, &byte) in name.internal.iter_mut().zip(&all[..ID]) {
            *to = byte as u8 as c_char;
        }
        let stream = device.as_cuda_device()?.cuda_stream();
        let bound = stream.context().bind_to_thread();
        bound.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        let (rank, world) = (threads.rank() as c_int, threads.world() as c_int);
        let mut group = Self {
            threads,
            device,
            comm: null_mut(),
            aborted: Cell::new(false),
        };
        let mut config = Config::without_blocking();
        // SAFETY: NCCL reads as much of the configuration as its size says.
        let begun = unsafe {
            let config = (&raw mut config).cast();
            sys::ncclCommInitRankConfig(&mut group.comm, world, name, rank, config)
        };
        group.finish(begun, "ncclCommInitRankConfig")?;
        Ok(group)
    }

    /// Waits until a call that does not block is complete.
    fn finish(&self, begun: sys::ncclResult_t, what: &'static str) -> Result<()> {
        let mut state = begun;
        let mut looks = 0;
        while state == sys::ncclResult_t::ncclInProgress {
            self.rest(&mut looks, what, true)?;
            // SAFETY: the communicator is being made, or was.
            let asked = unsafe { sys::ncclCommGetAsyncError(self.comm, &mut state) };
            if asked != sys::ncclResult_t::ncclSuccess {
                state = asked;
            }
        }
        match state {
            sys::ncclResult_t::ncclSuccess => Ok(()),
            other => Err(failed(what, other)),
        }
    }

    /// Lets time pass; fails, and frees the GPU from the collective it is in, once the group is of no use.
    fn rest(&self, looks: &mut usize, what: &'static str, all_are_needed: bool) -> Result<()> {
        if let Err(failure) = self.threads.standing(what, all_are_needed) {
            self.abort();
            return Err(failure.into());
        }
        *looks += 1;
        match *looks < SPINS {
            true => std::hint::spin_loop(),
            false => std::thread::sleep(NAP),
        }
        Ok(())
    }

    fn abort(&self) {
        if !self.comm.is_null() && !self.aborted.replace(true) {
            // SAFETY: once only. What it returns changes nothing: the communicator is not used again.
            let _ = unsafe { result::comm_abort(self.comm) };
        }
    }

    /// Addresses, and what NCCL calls their type.
    fn buffers(&self, x: &Tensor, out: &Tensor) -> Result<(u64, u64, sys::ncclDataType_t)> {
        let dtype = match x.dtype() {
            DType::F32 => sys::ncclDataType_t::ncclFloat32,
            DType::F16 => sys::ncclDataType_t::ncclFloat16,
            DType::BF16 => sys::ncclDataType_t::ncclBfloat16,
            other => {
                let (what, dtype) = ("the part of a rank", other.as_str());
                return Err(NnError::Dtype { what, dtype }.into());
            }
        };
        Ok((cuda::address(x)?, cuda::address(out)?, dtype))
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.threads.rank()
    }

    fn world(&self) -> usize {
        self.threads.world()
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        let shape = x.dims().to_vec();
        self.threads.note(Operation::AllReduce { shape });
        let out = Gpu::of(x)?.room(x.dtype(), x.dims())?;
        let (from, to, dtype) = self.buffers(x, &out)?;
        let stream = self.device.as_cuda_device()?.cuda_stream();
        // SAFETY: both have so many numbers of that type, on the GPU of the communicator.
        let begun = unsafe {
            sys::ncclAllReduce(
                from as *const _,
                to as *mut _,
                x.elem_count(),
                dtype,
                sys::ncclRedOp_t::ncclSum,
                self.comm,
                stream.cu_stream().cast(),
            )
        };
        self.finish(begun, "all_reduce")?;
        Ok(out)
    }

    fn all_gather(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        if dim > 1 || x.rank() != 2 {
            let (what, wanted) = ("the part of a rank", "two dimensions".to_owned());
            return Err(NnError::Shape {
                what,
                shape,
                wanted,
            }
            .into());
        }
        shape[dim] = 0;
        self.threads.note(Operation::AllGather { dim, shape });
        let (world, (rows, width)) = (self.world(), x.dims2()?);
        let out = Gpu::of(x)?.room(x.dtype(), &[world, rows, width])?;
        let (from, to, dtype) = self.buffers(x, &out)?;
        let stream = self.device.as_cuda_device()?.cuda_stream();
        // SAFETY: as above; the result has room for all ranks.
        let begun = unsafe {
            sys::ncclAllGather(
                from as *const _,
                to as *mut _,
                x.elem_count(),
                dtype,
                self.comm,
                stream.cu_stream().cast(),
            )
        };
        self.finish(begun, "all_gather")?;
        match dim {
            0 => out.reshape((world * rows, width)),
            _ => cuda::side_by_side(&out),
        }
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn settle(&self) -> Result<()> {
        let stream = self.device.as_cuda_device()?.cuda_stream();
        let mut looks = 0;
        loop {
            // SAFETY: the stream lives as long as its device.
            match unsafe { driver::cuStreamQuery(stream.cu_stream()) } {
                driver::CUresult::CUDA_SUCCESS => {
                    return self.threads.standing("step", false).map_err(Into::into);
                }
                driver::CUresult::CUDA_ERROR_NOT_READY => self.rest(&mut looks, "step", false)?,
                other => candle_core::bail!("the GPU of rank {} failed: {other:?}", self.rank()),
            }
        }
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // Not the orderly way, which would wait for ranks that may be gone.
        self.abort();
    }
}

fn failed(what: &'static str, state: sys::ncclResult_t) -> candle_core::Error {
    let hint = match state {
        sys::ncclResult_t::ncclSystemError => {
            "; is /dev/shm large enough (docker run --shm-size=1g), and may GPUs reach each other?"
        }
        _ => "",
    };
    NnError::Nccl {
        what,
        state: format!("{state:?}{hint}"),
    }
    .into()
}
