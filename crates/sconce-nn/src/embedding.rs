//! `Embedding`: looks up rows of a table that stays in the checkpoint's type and place.

use candle_core::{Device, Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::gather::{gather, gather_blocks, gather_panels, gather_panels_of_blocks};
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::step::Placed;
use crate::tensors;
use crate::weights::{HostTensor, Matrix, WeightError};

/// What errors say of it.
const TABLE: &str = "the table of an embedding";

/// By which numbers of a step rows are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Those of its tokens.
    Ids,
    /// Where they stand.
    Positions,
}

/// A table of rows, or one rank's part of it.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Matrix,
    first_id: usize,
}

impl Embedding {
    /// A table `[rows, width]` in f32, f16, bf16 or blocks for the ids from `first_id` on.
    pub fn new(weight: HostTensor, first_id: usize, device: &Device) -> Result<Self> {
        let rows = tensors::rows(&weight, TABLE)?;
        let weight = Matrix::of_rows(rows).map_err(unreadable)?;
        Self::of(weight, first_id, device)
    }

    /// As [`Self::new`], of a matrix that is multiplied with too.
    pub fn of(weight: Matrix, first_id: usize, device: &Device) -> Result<Self> {
        tensors::require_multiplied(weight.dtype(), TABLE)?;
        Ok(Self {
            weight: weight.on(device, TABLE)?,
            first_id,
        })
    }

    /// Rows for the ids, `[ids, width]` in f32; zeros for ids of other ranks, so that the sum over ranks is the row.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(table) = self.weight.on_gpu() {
            return cuda::embed(table, ids, self.first_id);
        }
        let [count, width] = self.weight.shape();
        let row_of = |&id: &u32| {
            (id as usize)
                .checked_sub(self.first_id)
                .filter(|&row| row < count)
        };
        let wanted: Vec<Option<usize>> = ids.iter().map(row_of).collect();
        // SAFETY: every row is written, those of other ranks with zeros.
        #[allow(unsafe_code)]
        let mut out = unsafe { tensors::unwritten(ids.len() * width) };
        let quantised = self.weight.dtype().is_quantised();
        match (self.weight.rows(), self.weight.panels()) {
            (Some(rows), _) if quantised => {
                let blocks = rows.blocks().map_err(unreadable)?;
                gather_blocks(blocks, width, &wanted, &mut out);
            }
            (Some(rows), _) => {
                let (rows, stride) = rows.rows().map_err(unreadable)?;
                gather(rows, stride, width, &wanted, &mut out);
            }
            (None, Some(panels)) => {
                gather_panels(panels, self.weight.dtype(), width, &wanted, &mut out);
            }
            (None, None) => {
                let (format, panels) = self.weight.panels_of_blocks().map_err(unreadable)?;
                gather_panels_of_blocks(format, panels, width, &wanted, &mut out);
            }
        }
        tensors::tensor(out, &[ids.len(), width])
    }

    /// Rows for the ids or the positions of a step, `[tokens, width]`; where they are on a GPU already, for those.
    pub fn forward_step(&self, step: &Placed, by: By) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(table) = self.weight.on_gpu() {
            let there = step.on_gpu(table.device())?;
            return cuda::gather(table, there.by(by), self.first_id);
        }
        self.forward(match by {
            By::Ids => &step.ids,
            By::Positions => &step.positions,
        })
    }

    /// Width of a row.
    pub fn width(&self) -> usize {
        self.weight.shape()[1]
    }
}

fn unreadable(cause: WeightError) -> NnError {
    NnError::Weight { what: TABLE, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    use crate::weights::{BlockFormat, StoredDtype};

    #[test]
    fn rows_of_blocks_are_what_the_blocks_hold() {
        let table: Vec<f32> = (0..5 * 512)
            .map(|n| ((n * 37) % 101) as f32 - 50.0)
            .collect();
        let table = HostTensor::from_f32(table, &[5, 512]);
        for format in BlockFormat::ALL {
            let table = table.to_dtype(StoredDtype::Quantised(format)).unwrap();
            let (cut, numbers) = (
                table.narrow(1, 256, 256).unwrap(),
                table.to_vec_f32().unwrap(),
            );
            let multiplied = Matrix::of(&cut, cut.dtype()).unwrap();
            for out in [
                Embedding::new(cut, 7, &Device::Cpu).unwrap(),
                Embedding::of(multiplied, 7, &Device::Cpu).unwrap(),
            ] {
                let out = out.forward(&[9, 6, 11]).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!(out[0], numbers[2 * 512 + 256..3 * 512], "{format}");
                assert!(out[1].iter().all(|&x| x == 0.0));
                assert_eq!(out[2], numbers[4 * 512 + 256..], "{format}");
            }
        }
    }

    #[test]
    fn the_parts_of_two_ranks_add_up_to_the_whole_table() {
        let table: Vec<bf16> = (0..44).map(|n| bf16::from_f32(n as f32)).collect();
        let table = HostTensor::from_slice(&table, &[4, 11]);
        let ids = [3, 0, 2, 3];
        let look = |weight: HostTensor, first| {
            let out = Embedding::new(weight, first, &Device::Cpu)
                .unwrap()
                .forward(&ids)
                .unwrap();
            out.to_vec2::<f32>().unwrap()
        };
        let whole = look(table.clone(), 0);
        assert_eq!(whole[0][..3], [33.0, 34.0, 35.0]);
        assert_eq!((whole[1][10], whole[2][0]), (10.0, 22.0));
        let (low, high) = (
            look(table.narrow(0, 0, 3).unwrap(), 0),
            look(table.narrow(0, 3, 1).unwrap(), 3),
        );
        for row in 0..4 {
            for column in 0..11 {
                assert_eq!(low[row][column] + high[row][column], whole[row][column]);
            }
        }
        assert!(low[0].iter().all(|&x| x == 0.0) && high[1].iter().all(|&x| x == 0.0));
    }
}
