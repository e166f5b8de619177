//! Tensors of a GPU as addresses, and the way of their numbers to the host.
#![allow(unsafe_code)]

use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{DType, Result, Storage, Tensor};
use half::{bf16, f16};

use super::gpu::{Arg, Gpu};
use crate::error::NnError;
use crate::weights::StoredDtype;

/// How kernels are named by their numbers.
pub(super) fn suffix(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("float"),
        DType::F16 => Ok("f16"),
        DType::BF16 => Ok("bf16"),
        other => candle_core::bail!("no kernel of GPUs computes with {}", other.as_str()),
    }
}

/// What candle calls a stored type that GPUs compute with.
pub(crate) fn dtype_of(stored: StoredDtype) -> Option<DType> {
    match stored {
        StoredDtype::F32 => Some(DType::F32),
        StoredDtype::F16 => Some(DType::F16),
        StoredDtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// Where the numbers of a tensor begin.
pub(super) fn pointer(tensor: &Tensor, what: &'static str) -> Result<Arg> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        let device = format!("{:?}", tensor.device().location());
        return Err(NnError::Device { what, device }.into());
    };
    let Some((start, _)) = layout.contiguous_offsets() else {
        let shape = tensor.dims().to_vec();
        return Err(NnError::Strided { what, shape }.into());
    };
    let stream = storage.device.cuda_stream();
    let address = match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        _ => {
            let dtype = tensor.dtype().as_str();
            return Err(NnError::Dtype { what, dtype }.into());
        }
    };
    let bytes = start * tensor.dtype().size_in_bytes();
    Ok(Arg::Pointer(address + bytes as u64))
}

/// The same as a number, of the part of a rank.
pub(crate) fn address(tensor: &Tensor) -> Result<u64> {
    address_of(tensor, "the part of a rank")
}

/// The same of any.
pub(super) fn address_of(tensor: &Tensor, what: &'static str) -> Result<u64> {
    match pointer(tensor, what)? {
        Arg::Pointer(address) => Ok(address),
        _ => unreachable!("a pointer"),
    }
}

/// The numbers as f32, when all that was launched before is done. `settle` waits for that, so that who waits for other
/// GPUs can give up.
pub(crate) fn to_host(tensor: &Tensor, settle: &dyn Fn() -> Result<()>) -> Result<Vec<f32>> {
    settle()?;
    let gpu = Gpu::of(tensor)?;
    let stream = gpu.device().cuda_stream();
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        let (what, shape) = ("what goes to the host", tensor.dims().to_vec());
        return Err(NnError::Strided { what, shape }.into());
    };
    match &storage.slice {
        CudaStorageSlice::F32(slice) => stream.clone_dtoh(&slice.slice(start..end)).w(),
        CudaStorageSlice::F16(slice) => {
            let numbers: Vec<f16> = stream.clone_dtoh(&slice.slice(start..end)).w()?;
            Ok(numbers.into_iter().map(f16::to_f32).collect())
        }
        CudaStorageSlice::BF16(slice) => {
            let numbers: Vec<bf16> = stream.clone_dtoh(&slice.slice(start..end)).w()?;
            Ok(numbers.into_iter().map(bf16::to_f32).collect())
        }
        _ => {
            let (what, dtype) = ("what goes to the host", tensor.dtype().as_str());
            Err(NnError::Dtype { what, dtype }.into())
        }
    }
}

/// Words of a GPU, when all that was launched before is done.
pub(super) fn words_to_host(tensor: &Tensor) -> Result<Vec<u32>> {
    let stream = Gpu::of(tensor)?.device().cuda_stream();
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        let (what, shape) = ("words for the host", tensor.dims().to_vec());
        return Err(NnError::Strided { what, shape }.into());
    };
    match &storage.slice {
        CudaStorageSlice::U32(slice) => stream.clone_dtoh(&slice.slice(start..end)).w(),
        _ => {
            let (what, dtype) = ("words for the host", tensor.dtype().as_str());
            Err(NnError::Dtype { what, dtype }.into())
        }
    }
}
