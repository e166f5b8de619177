//! `RowSums`: adds weighted rows of several tensors into the rows of one, in the order of the calls. Which rows and
//! with what weight (the routing of experts) is the caller's.

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::tensors::{self, Numbers};

/// Sums `[rows, width]` in f32.
#[derive(Debug)]
pub struct RowSums {
    numbers: Vec<f32>,
    width: usize,
}

impl RowSums {
    /// All zero.
    pub fn zeros(rows: usize, width: usize) -> Self {
        Self {
            numbers: vec![0.0; rows * width],
            width,
        }
    }

    /// Beginning with the numbers of `x` `[rows, width]`.
    pub fn of(x: &Tensor) -> Result<Self> {
        Ok(Self {
            numbers: Numbers::of(x, "the first summand")?.to_vec(),
            width: x.dim(1)?,
        })
    }

    /// Adds row `i` of `y` `[rows.len(), width]`, times `weights[i]`, to row `rows[i]`.
    pub fn add(&mut self, rows: &[u32], weights: &[f32], y: &Tensor) -> Result<()> {
        let what = "a summand of rows";
        let numbers = Numbers::of(y, what)?;
        let height = self.numbers.len() / self.width.max(1);
        let fits = y.dims() == [rows.len(), self.width]
            && weights.len() == rows.len()
            && rows.iter().all(|&row| (row as usize) < height);
        if !fits {
            let wanted = format!("[{}, {}] for rows below {height}", rows.len(), self.width);
            let shape = y.dims().to_vec();
            return Err(NnError::Shape {
                what,
                shape,
                wanted,
            }
            .into());
        }
        let summands = numbers.chunks_exact(self.width).zip(weights);
        for (&row, (summand, weight)) in rows.iter().zip(summands) {
            let sums = &mut self.numbers[row as usize * self.width..][..self.width];
            for (sum, number) in sums.iter_mut().zip(summand) {
                *sum += weight * number;
            }
        }
        Ok(())
    }

    /// The sums, `[rows, width]`.
    pub fn into_tensor(self) -> Result<Tensor> {
        let rows = self.numbers.len() / self.width.max(1);
        tensors::tensor(self.numbers, &[rows, self.width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_are_weighted_and_added_where_they_belong() {
        let first = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap();
        let mut sums = RowSums::of(&first).unwrap();
        let y = Tensor::new(&[[10f32, 20.0], [100.0, 200.0]], &Device::Cpu).unwrap();
        sums.add(&[2, 0], &[0.5, 2.0], &y).unwrap();
        let got = sums.into_tensor().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(got, [[201.0, 402.0], [3.0, 4.0], [10.0, 16.0]]);
    }

    #[test]
    fn rows_and_widths_that_do_not_fit_are_errors() {
        let y = Tensor::zeros((1, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = |rows: &[u32], weights: &[f32], width| {
            let result = RowSums::zeros(2, width).add(rows, weights, &y);
            result.unwrap_err().to_string()
        };
        assert!(error(&[2], &[1.0], 2).contains("below 2"));
        assert!(error(&[0, 1], &[1.0, 1.0], 2).contains("[2, 2]"));
        assert!(error(&[0], &[1.0], 3).contains("[1, 3]"));
    }
}
