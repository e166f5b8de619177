//! Reads candle tensors as slices and makes tensors of results; checks device, type and layout on the way.

use std::ops::Deref;

use candle_core::{CpuStorage, Device, Result, Storage, StorageRef, Tensor};

use crate::error::NnError;
use crate::weights::{HostTensor, Matrix, StoredDtype};

/// The numbers of a contiguous f32 tensor on the CPU, in row-major order; holds the tensor's lock.
pub(crate) struct Numbers<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> Numbers<'a> {
    /// Fails when the tensor is elsewhere, of another type, or strided; `what` names it in the error.
    pub(crate) fn of(tensor: &'a Tensor, what: &'static str) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => {}
            Storage::Cpu(_) => {
                let dtype = tensor.dtype().as_str();
                return Err(NnError::Dtype { what, dtype }.into());
            }
            _ => {
                let device = format!("{:?}", tensor.device().location());
                return Err(NnError::Device { what, device }.into());
            }
        }
        let Some((start, end)) = layout.contiguous_offsets() else {
            let shape = tensor.dims().to_vec();
            return Err(NnError::Strided { what, shape }.into());
        };
        Ok(Self {
            storage,
            start,
            end,
        })
    }
}

impl Deref for Numbers<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.start..self.end],
            _ => unreachable!("checked when it was made"),
        }
    }
}

/// Room for `len` results, which are nothing yet: zeros would be written twice, on one thread while the others wait.
///
/// # Safety
/// Every number is written before it is read. Where debug assertions are on they are NaN, so that tests see those that
/// are not.
#[allow(unsafe_code)]
pub(crate) unsafe fn unwritten(len: usize) -> Vec<f32> {
    if cfg!(debug_assertions) {
        return vec![f32::NAN; len];
    }
    let mut room = Vec::with_capacity(len);
    // SAFETY: within the capacity; the caller writes before it reads.
    #[allow(clippy::uninit_vec)]
    unsafe {
        room.set_len(len);
    }
    room
}

/// A CPU tensor over the numbers, without a copy.
pub(crate) fn tensor(numbers: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// Fails unless the layer is to live on the CPU.
pub(crate) fn require_cpu(device: &Device, what: &'static str) -> Result<()> {
    if device.is_cpu() {
        return Ok(());
    }
    let device = format!("{:?}", device.location());
    Err(NnError::Device { what, device }.into())
}

/// Fails where this build computes nothing.
pub(crate) fn require_device(device: &Device, what: &'static str) -> Result<()> {
    match cfg!(feature = "cuda") && device.is_cuda() {
        true => Ok(()),
        false => require_cpu(device, what),
    }
}

/// Fails unless the last dimension is `width`.
pub(crate) fn require_width(x: &Tensor, width: usize, what: &'static str) -> Result<()> {
    if x.dims().last() == Some(&width) {
        return Ok(());
    }
    Err(NnError::Shape {
        what,
        shape: x.dims().to_vec(),
        wanted: format!("[.., {width}]"),
    }
    .into())
}

/// A float vector of `len` weights as f32.
pub(crate) fn vector(weight: &HostTensor, len: usize, what: &'static str) -> Result<Vec<f32>> {
    if weight.shape() != [len] {
        let shape = weight.shape().to_vec();
        return Err(NnError::Shape {
            what,
            shape,
            wanted: format!("[{len}]"),
        }
        .into());
    }
    weight
        .to_vec_f32()
        .map_err(|cause| NnError::Weight { what, cause }.into())
}

/// A float or quantised matrix as kernels read it; copied where it lies otherwise.
pub(crate) fn matrix(weight: &HostTensor, what: &'static str) -> Result<Matrix> {
    require_matrix(weight, what)?;
    let matrix = Matrix::of(weight, weight.dtype());
    matrix.map_err(|cause| NnError::Weight { what, cause }.into())
}

/// A float or quantised matrix whose rows kernels can read in place; copied only when they are scattered.
pub(crate) fn rows(weight: &HostTensor, what: &'static str) -> Result<HostTensor> {
    require_matrix(weight, what)?;
    let rows = weight.packed();
    rows.map_err(|cause| NnError::Weight { what, cause }.into())
}

fn require_matrix(weight: &HostTensor, what: &'static str) -> Result<()> {
    if weight.shape().len() != 2 {
        let shape = weight.shape().to_vec();
        return Err(NnError::Shape {
            what,
            shape,
            wanted: "a matrix".to_owned(),
        }
        .into());
    }
    require_multiplied(weight.dtype(), what)
}

/// Fails unless kernels read weights of that type.
pub(crate) fn require_multiplied(dtype: StoredDtype, what: &'static str) -> Result<()> {
    match dtype {
        StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16 | StoredDtype::Quantised(_) => {
            Ok(())
        }
        _ => Err(NnError::WeightDtype { what, dtype }.into()),
    }
}
