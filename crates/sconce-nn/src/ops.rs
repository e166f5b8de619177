//! What is computed between layers, on whichever device the tensors are: sums, factors, rows and columns; and the way
//! to the host.

use candle_core::{Device, Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::elementwise;
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::tensors::{self, Numbers};

/// `x + y`, element by element.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let what = "a summand";
    if x.dims() != y.dims() {
        let wanted = format!("that of the other, {:?},", y.dims());
        let shape = x.dims().to_vec();
        return Err(NnError::Shape {
            what,
            shape,
            wanted,
        }
        .into());
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::add(x, y);
    }
    let (left, right) = (Numbers::of(x, what)?, Numbers::of(y, what)?);
    // SAFETY: every sum is written.
    #[allow(unsafe_code)]
    let mut out = unsafe { tensors::unwritten(left.len()) };
    elementwise::add(&left, &right, &mut out);
    tensors::tensor(out, x.dims())
}

/// `x * factor`, element by element.
pub fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::scale(x, factor);
    }
    x * f64::from(factor)
}

/// `x * weight`, where `weight` has one number for each place of the last dimensions of `x`, or for each of its rows
/// (`[.., 1]`).
pub fn multiply(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let of_rows = weight.dims().last() == Some(&1);
        let run = match of_rows {
            true => x.elem_count() / weight.elem_count().max(1),
            false => 1,
        };
        return cuda::multiply(x, weight, run);
    }
    x.broadcast_mul(weight)
}

/// The rows of `x` `[rows, width]` that the indices name, in their order.
pub fn rows(x: &Tensor, indices: &[u32]) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::rows(x, indices);
    }
    x.index_select(&Tensor::new(indices, x.device())?, 0)
}

/// Columns `start` to `start + len` of `x` `[.., width]`, contiguous; zeros beyond the last one.
pub fn columns(x: &Tensor, start: usize, len: usize) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::columns(x, start, len);
    }
    let last = x.rank().saturating_sub(1);
    let there = x.dim(last)?.saturating_sub(start).min(len);
    let part = x.narrow(last, start, there)?;
    part.pad_with_zeros(last, 0, len - there)?.contiguous()
}

/// The numbers of `x` as f32 in memory of the host, once they are computed; `settle` waits for that where other GPUs
/// take part.
pub fn to_host(x: &Tensor, settle: &dyn Fn() -> Result<()>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Tensor::from_vec(cuda::to_host(x, settle)?, x.dims(), &Device::Cpu);
    }
    let _ = settle;
    x.to_device(&Device::Cpu)
}
