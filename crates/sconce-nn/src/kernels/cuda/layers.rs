//! What layers compute, as launches. Tensors are contiguous and of one type; the layers have checked shapes.

use candle_core::{DType, Device, Result, Tensor};

use super::gpu::{Arg, Gpu};
use super::numbers::{dtype_of, pointer, suffix};
use crate::activation::Act;
use crate::error::NnError;
use crate::weights::HostTensor;

/// A copy of a weight on a GPU, in the type that it has.
pub(crate) fn upload(weight: &HostTensor, device: &Device, what: &'static str) -> Result<Tensor> {
    let dtype = weight.dtype();
    let Some(numbers) = dtype_of(dtype) else {
        return Err(NnError::WeightDtype { what, dtype }.into());
    };
    // Columns of a larger matrix have gaps between their rows.
    let whole = match weight.is_contiguous() {
        true => weight.clone(),
        false => weight
            .copied()
            .map_err(|cause| NnError::Weight { what, cause })?,
    };
    let bytes = whole.run(0, whole.elements());
    let tensor = Tensor::from_raw_buffer(bytes, numbers, whole.shape(), device)?;
    weight.give_back_pages();
    Ok(tensor)
}

/// f32 numbers on a GPU.
fn floats(numbers: &[f32], device: &Device) -> Result<Tensor> {
    Tensor::new(numbers, device)
}

/// `x` `[.., inputs]` times the weight `[outputs, inputs]`, plus the bias `[outputs]` in f32.
pub(crate) fn linear(weight: &Tensor, bias: Option<&Tensor>, x: &Tensor) -> Result<Tensor> {
    let (gpu, (n, k)) = (Gpu::of(x)?, weight.dims2()?);
    let rows = x.elem_count() / k.max(1);
    let product = gpu.room(x.dtype(), &[rows, n])?;
    gpu.multiply(weight, x, &product)?;
    if let Some(bias) = bias {
        let count = product.elem_count();
        let args = [
            pointer(&product, "a product")?,
            pointer(bias, "a bias")?,
            Arg::Int(n),
            Arg::Count(count),
        ];
        gpu.launch_each(format!("biased_{}", suffix(x.dtype())?), count, &args)?;
    }
    let mut shape = x.dims().to_vec();
    if let Some(width) = shape.last_mut() {
        *width = n;
    }
    product.reshape(shape)
}

/// The rows of a table that `ids` name, from `first` on; zeros for others.
pub(crate) fn embed(table: &Tensor, ids: &[u32], first: usize) -> Result<Tensor> {
    let ids = Tensor::new(ids, table.device())?;
    gather(table, &ids, first)
}

/// Rows of `x`.
pub(crate) fn rows(x: &Tensor, indices: &[u32]) -> Result<Tensor> {
    embed(x, indices, 0)
}

/// The same, of ids that are there.
pub(crate) fn gather(table: &Tensor, ids: &Tensor, first: usize) -> Result<Tensor> {
    let (gpu, (count, width), asked) = (Gpu::of(table)?, table.dims2()?, ids.elem_count());
    let out = gpu.room(table.dtype(), &[asked, width])?;
    let args = [
        pointer(table, "a table")?,
        pointer(ids, "ids")?,
        Arg::Index(first as u32),
        Arg::Index(count as u32),
        pointer(&out, "rows")?,
        Arg::Int(width),
    ];
    gpu.launch_rows(
        format!("gather_{}", suffix(table.dtype())?),
        asked,
        width,
        &args,
    )?;
    Ok(out)
}

/// Columns `start` to `start + len` of the last dimension; zeros beyond the last one.
pub(crate) fn columns(x: &Tensor, start: usize, len: usize) -> Result<Tensor> {
    let (gpu, width) = (Gpu::of(x)?, x.dims().last().copied().unwrap_or(0));
    let rows = x.elem_count() / width.max(1);
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = len;
    }
    let out = gpu.room(x.dtype(), &shape)?;
    let args = [
        pointer(x, "columns")?,
        Arg::Int(width),
        Arg::Int(start),
        pointer(&out, "columns")?,
        Arg::Int(len),
    ];
    gpu.launch_rows(format!("columns_{}", suffix(x.dtype())?), rows, len, &args)?;
    Ok(out)
}

/// Parts `[parts, rows, width]` side by side, `[rows, parts * width]`.
pub(crate) fn side_by_side(x: &Tensor) -> Result<Tensor> {
    let (gpu, (parts, rows, width)) = (Gpu::of(x)?, x.dims3()?);
    let out = gpu.room(x.dtype(), &[rows, parts * width])?;
    let args = [
        pointer(x, "parts")?,
        pointer(&out, "rows")?,
        Arg::Int(width),
    ];
    let threads = (width.div_ceil(32) * 32).clamp(32, 1024) as u32;
    let name = format!("side_by_side_{}", suffix(x.dtype())?);
    gpu.launch(name, [rows, parts, 1], threads, &args)?;
    Ok(out)
}

/// What each number becomes, from it and what else there is.
fn each(x: &Tensor, kernel: &str, between: impl IntoIterator<Item = Arg>) -> Result<Tensor> {
    let (gpu, count) = (Gpu::of(x)?, x.elem_count());
    let out = gpu.room(x.dtype(), x.dims())?;
    let mut args = vec![pointer(x, "the input of a kernel")?];
    args.extend(between);
    args.extend([pointer(&out, "the result of a kernel")?, Arg::Count(count)]);
    gpu.launch_each(format!("{kernel}_{}", suffix(x.dtype())?), count, &args)?;
    Ok(out)
}

pub(crate) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    each(x, "added", [pointer(y, "a summand")?])
}

pub(crate) fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    each(x, "scaled", [Arg::Number(factor)])
}

pub(crate) fn clip(x: &Tensor, limit: f32) -> Result<Tensor> {
    each(x, "clipped", [Arg::Number(limit)])
}

/// Number `i` times number `i / run % period` of `weight`.
pub(crate) fn multiply(x: &Tensor, weight: &Tensor, run: usize) -> Result<Tensor> {
    let period = Arg::Count(weight.elem_count());
    let between = [pointer(weight, "a factor")?, Arg::Count(run), period];
    each(x, "multiplied", between)
}

pub(crate) fn act(act: Act, gate: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
    let up = match up {
        Some(up) => pointer(up, "the gated input of an activation")?,
        None => Arg::Pointer(0),
    };
    each(gate, "gated", [up, Arg::Int(act as usize)])
}

/// The numbers of a norm on a GPU.
#[derive(Clone, Debug)]
pub(crate) struct NormWeights {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f32,
    centred: bool,
}

impl NormWeights {
    pub(crate) fn new(
        weight: &[f32],
        bias: Option<&[f32]>,
        (eps, centred): (f32, bool),
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            weight: floats(weight, device)?,
            bias: bias.map(|bias| floats(bias, device)).transpose()?,
            eps,
            centred,
        })
    }
}

/// The norm of `x`, or of its sum with `residual`, which comes first then.
pub(crate) fn norm(
    weights: &NormWeights,
    x: &Tensor,
    residual: Option<&Tensor>,
) -> Result<(Option<Tensor>, Tensor)> {
    let gpu = Gpu::of(x)?;
    let width = weights.weight.elem_count();
    let rows = x.elem_count() / width.max(1);
    let sum = residual
        .map(|_| gpu.room(x.dtype(), x.dims()))
        .transpose()?;
    let out = gpu.room(x.dtype(), x.dims())?;
    let optional = |tensor: Option<&Tensor>, what| match tensor {
        Some(tensor) => pointer(tensor, what),
        None => Ok(Arg::Pointer(0)),
    };
    let args = [
        pointer(x, "the input of a norm")?,
        optional(residual, "the residual")?,
        pointer(&weights.weight, "the weight of a norm")?,
        optional(weights.bias.as_ref(), "the bias of a norm")?,
        Arg::Number(weights.eps),
        Arg::Int(usize::from(weights.centred)),
        optional(sum.as_ref(), "a sum")?,
        pointer(&out, "a norm")?,
        Arg::Int(width),
    ];
    let name = format!("add_and_normalise_{}", suffix(x.dtype())?);
    gpu.launch_rows(name, rows, width, &args)?;
    Ok((sum, out))
}

/// Sums of weighted rows, in f32.
#[derive(Debug)]
pub(crate) struct RowSums {
    sums: Tensor,
    dtype: DType,
}

impl RowSums {
    pub(crate) fn zeros(rows: usize, width: usize, dtype: DType, device: &Device) -> Result<Self> {
        let sums = floats(&vec![0.0; rows * width], device)?.reshape((rows, width))?;
        Ok(Self { sums, dtype })
    }

    pub(crate) fn of(x: &Tensor) -> Result<Self> {
        let (gpu, count) = (Gpu::of(x)?, x.elem_count());
        let sums = gpu.room(DType::F32, x.dims())?;
        let args = [
            pointer(x, "the first summand")?,
            pointer(&sums, "sums")?,
            Arg::Count(count),
        ];
        gpu.launch_each(format!("widened_{}", suffix(x.dtype())?), count, &args)?;
        Ok(Self {
            sums,
            dtype: x.dtype(),
        })
    }

    pub(crate) fn height(&self) -> usize {
        self.sums.dims()[0]
    }

    pub(crate) fn width(&self) -> usize {
        self.sums.dims()[1]
    }

    pub(crate) fn add(&mut self, rows: &[u32], weights: &[f32], y: &Tensor) -> Result<()> {
        let (gpu, device) = (Gpu::of(y)?, y.device());
        let (indices, factors) = (Tensor::new(rows, device)?, floats(weights, device)?);
        let args = [
            pointer(y, "a summand of rows")?,
            pointer(&indices, "rows")?,
            pointer(&factors, "weights")?,
            pointer(&self.sums, "sums")?,
            Arg::Int(self.width()),
        ];
        let name = format!("add_to_rows_{}", suffix(y.dtype())?);
        gpu.launch_rows(name, rows.len(), self.width(), &args)
    }

    pub(crate) fn into_tensor(self) -> Result<Tensor> {
        let (gpu, count) = (Gpu::of(&self.sums)?, self.sums.elem_count());
        let out = gpu.room(self.dtype, self.sums.dims())?;
        let args = [
            pointer(&self.sums, "sums")?,
            pointer(&out, "rows")?,
            Arg::Count(count),
        ];
        gpu.launch_each(format!("narrowed_{}", suffix(self.dtype)?), count, &args)?;
        Ok(out)
    }
}
