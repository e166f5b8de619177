//! `RowSums`: adds weighted rows of several tensors into the rows of one, in the order of the calls. Which rows and
//! with what weight (the routing of experts) is the caller's.

use candle_core::{Result, Tensor};

use crate::error::NnError;
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::tensors::{self, Numbers};

/// Sums `[rows, width]` in f32.
#[derive(Debug)]
pub struct RowSums(Place);

#[derive(Debug)]
enum Place {
    Host {
        numbers: Vec<f32>,
        width: usize,
    },
    #[cfg(feature = "cuda")]
    Gpu(cuda::RowSums),
}

impl RowSums {
    /// All zero, in memory of the host.
    pub fn zeros(rows: usize, width: usize) -> Self {
        Self(Place::Host {
            numbers: vec![0.0; rows * width],
            width,
        })
    }

    /// All zero, of the shape of `x` `[rows, width]` and where it is.
    pub fn zeros_like(x: &Tensor) -> Result<Self> {
        let (rows, width) = x.dims2()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let sums = cuda::RowSums::zeros(rows, width, x.dtype(), x.device())?;
            return Ok(Self(Place::Gpu(sums)));
        }
        Ok(Self::zeros(rows, width))
    }

    /// Beginning with the numbers of `x` `[rows, width]`.
    pub fn of(x: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return Ok(Self(Place::Gpu(cuda::RowSums::of(x)?)));
        }
        Ok(Self(Place::Host {
            numbers: Numbers::of(x, "the first summand")?.to_vec(),
            width: x.dim(1)?,
        }))
    }

    /// Adds row `i` of `y` `[rows.len(), width]`, times `weights[i]`, to row `rows[i]`, in this order. On GPUs no two of one
    /// call may name the same row.
    pub fn add(&mut self, rows: &[u32], weights: &[f32], y: &Tensor) -> Result<()> {
        let [height, width] = self.shape();
        let fits = y.dims() == [rows.len(), width]
            && weights.len() == rows.len()
            && rows.iter().all(|&row| (row as usize) < height);
        if !fits {
            return Err(NnError::Shape {
                what: SUMMAND,
                shape: y.dims().to_vec(),
                wanted: format!("[{}, {width}] for rows below {height}", rows.len()),
            }
            .into());
        }
        match &mut self.0 {
            Place::Host { numbers, width } => {
                let summands = Numbers::of(y, SUMMAND)?;
                let summands = summands.chunks_exact(*width).zip(weights);
                for (&row, (summand, weight)) in rows.iter().zip(summands) {
                    let sums = &mut numbers[row as usize * *width..][..*width];
                    for (sum, number) in sums.iter_mut().zip(summand) {
                        *sum += weight * number;
                    }
                }
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Place::Gpu(sums) => sums.add(rows, weights, y),
        }
    }

    /// The sums, `[rows, width]`.
    pub fn into_tensor(self) -> Result<Tensor> {
        let shape = self.shape();
        match self.0 {
            Place::Host { numbers, .. } => tensors::tensor(numbers, &shape),
            #[cfg(feature = "cuda")]
            Place::Gpu(sums) => sums.into_tensor(),
        }
    }

    fn shape(&self) -> [usize; 2] {
        match &self.0 {
            Place::Host { numbers, width } => [numbers.len() / (*width).max(1), *width],
            #[cfg(feature = "cuda")]
            Place::Gpu(sums) => [sums.height(), sums.width()],
        }
    }
}

const SUMMAND: &str = "a summand of rows";

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
