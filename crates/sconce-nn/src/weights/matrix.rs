//! `Matrix`: weights as products read them, be it row by row, in blocks, or in the panels that this machine multiplies
//! fastest. What lies where in a panel is left to the kernels.

use candle_core::Device;

use super::block_format::BlockFormat;
use super::buffer::{self, AlignedBytes, Buffer};
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::HostTensor;
#[cfg(feature = "cuda")]
use crate::error::NnError;
use crate::kernels::cpu::panels;
use crate::kernels::cpu::quant::panels as block_panels;
use crate::tensors;

/// Bytes of a matrix that are converted at a time before they are laid out.
const BAND_BYTES: usize = 4 << 20;

/// A matrix `[outputs, inputs]` that is multiplied with; clones share the bytes.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The rows; or one dimension, all panels.
    numbers: HostTensor,
    shape: [usize; 2],
    in_panels: bool,
    /// The rows on a GPU; `numbers` has only their shape then.
    #[cfg(feature = "cuda")]
    on_gpu: Option<candle_core::Tensor>,
}

impl Matrix {
    /// The matrix in that type: a view where products read it as it is, else a copy.
    pub fn of(tensor: &HostTensor, wanted: StoredDtype) -> Result<Self, WeightError> {
        if Self::suits_panels(tensor, wanted) {
            return Self::laid_out(tensor, wanted, AlignedBytes::zeroed);
        }
        Self::of_rows(tensor.to_dtype(wanted)?.packed()?)
    }

    /// Whether products of this machine read the matrix in panels once it has that type; blocks are read so by all.
    pub(super) fn suits_panels(tensor: &HostTensor, wanted: StoredDtype) -> bool {
        match *tensor.shape() {
            [n, k] => wanted.is_quantised() || panels::suit(wanted, n, k),
            _ => false,
        }
    }

    /// A matrix whose rows can be read in place.
    pub fn of_rows(rows: HostTensor) -> Result<Self, WeightError> {
        let shape = two(&rows)?;
        Ok(Self {
            numbers: rows,
            shape,
            in_panels: false,
            #[cfg(feature = "cuda")]
            on_gpu: None,
        })
    }

    /// A copy in panels, in zeroed bytes that `room` gives. The pages of a file that it was mapped from are given back.
    pub(super) fn laid_out(
        tensor: &HostTensor,
        wanted: StoredDtype,
        room: impl FnOnce(usize) -> AlignedBytes,
    ) -> Result<Self, WeightError> {
        let shape = two(tensor)?;
        let [n, k] = shape;
        tensor.require_rows_of(wanted)?;
        let numbers = match wanted {
            StoredDtype::Quantised(_) => block_panels::rows(n) * k,
            _ => n * panels::words(wanted.bytes(k)) * size_of::<u32>() / wanted.size(),
        };
        let flat = vec![numbers];
        let numbers = if tensor.is_outline() {
            HostTensor::outline_of_copy(wanted, flat)?
        } else {
            let mut bytes = room(wanted.bytes(numbers));
            // Not band by band, where it is elsewhere.
            write(&tensor.at_hand()?, wanted, bytes.bytes_mut())?;
            tensor.give_back_pages();
            HostTensor::owned(bytes, wanted, flat)?
        };
        Ok(Self {
            numbers,
            shape,
            in_panels: true,
            #[cfg(feature = "cuda")]
            on_gpu: None,
        })
    }

    /// The same matrix where a device computes with it: its rows on a GPU, unless they are there; else itself.
    pub fn on(self, device: &Device, what: &'static str) -> candle_core::Result<Self> {
        #[cfg(feature = "cuda")]
        if device.is_cuda() && self.on_gpu.is_none() {
            let dtype = self.dtype();
            let Some(rows) = self.rows() else {
                return Err(NnError::WeightDtype { what, dtype }.into());
            };
            let on_gpu = Some(crate::kernels::cuda::upload(rows, device, what)?);
            let unread = |cause| NnError::Weight { what, cause };
            let shape = HostTensor::outline_of_copy(dtype, self.shape.to_vec()).map_err(unread)?;
            return Ok(Self {
                on_gpu,
                ..Self::of_rows(shape).map_err(unread)?
            });
        }
        tensors::require_device(device, what)?;
        Ok(self)
    }

    /// Its rows on a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(&self) -> Option<&candle_core::Tensor> {
        self.on_gpu.as_ref()
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The stored element type.
    pub fn dtype(&self) -> StoredDtype {
        self.numbers.dtype()
    }

    /// What holds its numbers: the matrix itself, unless they lie otherwise.
    pub fn storage(&self) -> &HostTensor {
        &self.numbers
    }

    /// Its rows, unless they lie in panels.
    pub fn rows(&self) -> Option<&HostTensor> {
        (!self.in_panels).then_some(&self.numbers)
    }

    /// Its words, if they are numbers that lie in panels.
    pub(crate) fn panels(&self) -> Option<&[u32]> {
        let bytes = self.numbers.run(0, self.numbers.elements());
        (self.in_panels && !self.dtype().is_quantised())
            .then(|| buffer::cast(bytes).expect("made of whole words"))
    }

    /// Its panels, if they hold blocks.
    pub(crate) fn panels_of_blocks(&self) -> Result<(BlockFormat, &[u8]), WeightError> {
        match self.dtype() {
            StoredDtype::Quantised(format) if self.in_panels => {
                Ok((format, self.numbers.run(0, self.numbers.elements())))
            }
            _ => Err(self
                .numbers
                .layout("panels", "it has no blocks in panels".to_owned())),
        }
    }
}

fn two(tensor: &HostTensor) -> Result<[usize; 2], WeightError> {
    let wanted = || tensor.layout("matrix", "two dimensions are needed".to_owned());
    tensor.shape().try_into().map_err(|_| wanted())
}

/// Lays the numbers out in zeroed bytes, converted where they have another type.
fn write(tensor: &HostTensor, wanted: StoredDtype, to: &mut [u8]) -> Result<(), WeightError> {
    let [n, k] = two(tensor)?;
    let row_bytes = wanted.bytes(k);
    if n == 0 || k == 0 {
        return Ok(());
    }
    if tensor.dtype() == wanted && tensor.is_packed() {
        let stride = tensor.row_stride();
        let rows = tensor.run(0, (n - 1) * stride + k);
        lay_out(wanted, rows, wanted.bytes(stride), row_bytes, n, to);
        return Ok(());
    }
    // What is computed as a whole is not computed again for every band.
    let band = match &*tensor.buffer {
        Buffer::Computed(_) => n,
        _ => panels::whole(BAND_BYTES / row_bytes),
    };
    let mut bytes = AlignedBytes::zeroed(row_bytes * band.min(n));
    let room = match wanted {
        StoredDtype::Quantised(_) => block_panels::rows(band) * row_bytes,
        _ => band * panels::words(row_bytes) * size_of::<u32>(),
    };
    for (index, to) in to.chunks_mut(room).enumerate() {
        let rows = band.min(n - index * band);
        let bytes = &mut bytes.bytes_mut()[..rows * row_bytes];
        bytes.fill(0);
        let part = tensor.narrow(0, index * band, rows)?;
        part.write_as(wanted, bytes)?;
        lay_out(wanted, bytes, row_bytes, row_bytes, rows, to);
    }
    Ok(())
}

/// Lays `n` rows of `row_bytes`, which begin `stride` bytes apart, out in panels.
fn lay_out(
    dtype: StoredDtype,
    rows: &[u8],
    stride: usize,
    row_bytes: usize,
    n: usize,
    to: &mut [u8],
) {
    match dtype {
        StoredDtype::Quantised(format) => {
            block_panels::lay_out(format, rows, stride, row_bytes, n, to);
        }
        _ => {
            let to = buffer::cast_mut(to).expect("aligned, and whole words");
            panels::lay_out(rows, stride, row_bytes, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::weights::dequantise;

    /// The numbers of a matrix, wherever they lie.
    fn numbers(matrix: &Matrix) -> Vec<f32> {
        let [n, k] = matrix.shape();
        let row_bytes = matrix.dtype().bytes(k);
        if let Ok((format, panels)) = matrix.panels_of_blocks() {
            let mut blocks = vec![0; n * row_bytes];
            for (row, blocks) in blocks.chunks_exact_mut(row_bytes.max(1)).enumerate() {
                block_panels::take(format, panels, row, blocks);
            }
            let mut numbers = vec![0.0; n * k];
            dequantise(format, &blocks, &mut numbers);
            return numbers;
        }
        let Some(words) = matrix.panels() else {
            return matrix.storage().to_vec_f32().unwrap();
        };
        let bytes = (0..n).flat_map(|row| {
            let steps = panels::words(matrix.dtype().bytes(k));
            let row = panels::row(words, steps, row).flat_map(u32::to_ne_bytes);
            row.take(row_bytes).collect::<Vec<_>>()
        });
        let bytes: Vec<u8> = bytes.collect();
        let mut aligned = AlignedBytes::zeroed(bytes.len());
        aligned.bytes_mut().copy_from_slice(&bytes);
        let tensor = HostTensor::owned(aligned, matrix.dtype(), vec![n, k]).unwrap();
        tensor.to_vec_f32().unwrap()
    }

    #[test]
    fn a_matrix_has_the_numbers_that_it_is_made_of_however_they_lie() {
        // More than a band of f32, and rows that end within a word in the types of half the size.
        let (n, k) = (3001, 451);
        let all: Vec<f32> = (0..n * k)
            .map(|i| ((i * 37) % 251) as f32 - 125.0)
            .collect();
        let whole = HostTensor::from_f32(all, &[n, k]);
        let brains: Vec<bf16> = (0..70 * 34).map(|i| bf16::from_f32(i as f32)).collect();
        let brains = HostTensor::from_slice(&brains, &[70, 34]);
        let cases = [
            whole.clone(),
            whole.narrow(1, 3, 100).unwrap(),
            whole.transpose().unwrap(),
            whole.narrow(0, 5, 1).unwrap(),
            whole.narrow(0, 0, 0).unwrap(),
            brains.clone(),
            brains.narrow(1, 1, 33).unwrap(),
        ];
        for tensor in &cases {
            for wanted in [StoredDtype::F32, StoredDtype::F16, StoredDtype::BF16] {
                let matrix = Matrix::of(tensor, wanted).unwrap();
                assert_eq!(
                    (&matrix.shape()[..], matrix.dtype()),
                    (tensor.shape(), wanted)
                );
                let wide = tensor.to_dtype(wanted).unwrap().to_vec_f32().unwrap();
                assert!(numbers(&matrix) == wide, "{tensor:?} as {wanted}");
                let outline = Matrix::of(&tensor.outline(), wanted).unwrap();
                let bytes = |matrix: &Matrix| matrix.storage().byte_len();
                assert_eq!(bytes(&outline), bytes(&matrix));
            }
        }
        for format in BlockFormat::ALL {
            let wanted = StoredDtype::Quantised(format);
            let part = whole.narrow(1, 3, 256).unwrap();
            let blocks = part.to_dtype(wanted).unwrap();
            let cases = [
                part,
                whole.narrow(0, 0, 256).unwrap().transpose().unwrap(),
                blocks.narrow(0, 7, 50).unwrap(),
                blocks.narrow(0, 0, 0).unwrap(),
            ];
            for tensor in &cases {
                let matrix = Matrix::of(tensor, wanted).unwrap();
                let wide = tensor.to_dtype(wanted).unwrap().to_vec_f32().unwrap();
                assert!(numbers(&matrix) == wide, "{tensor:?} as {wanted}");
                let outline = Matrix::of(&tensor.outline(), wanted).unwrap();
                let bytes = |matrix: &Matrix| matrix.storage().byte_len();
                assert_eq!(bytes(&outline), bytes(&matrix));
            }
        }
        let bad = Matrix::of(&HostTensor::from_f32(vec![0.0; 4], &[4]), StoredDtype::F32);
        assert!(bad.unwrap_err().to_string().contains("two dimensions"));
        let bad = Matrix::of(&whole, StoredDtype::I8).unwrap_err();
        assert!(matches!(bad, WeightError::Convert { .. }), "{bad}");
    }
}
