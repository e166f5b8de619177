//! `LowRank`: what an adapter (LoRA) adds to a linear layer, the product of two thin matrices.

use half::{bf16, f16};

use crate::kernels::cpu::low_rank::{self as kernel, Matrices, Sizes, Thin, padded};
use crate::weights::{HostTensor, StoredDtype, WeightError};

/// `y += scale · (x · downᵀ) · upᵀ`.
#[derive(Clone, Debug)]
pub struct LowRank {
    numbers: Numbers,
    sizes: Sizes,
}

/// Both matrices, the second one transposed, rows padded to whole vectors.
#[derive(Clone, Debug)]
enum Numbers {
    F32([Vec<f32>; 2]),
    F16([Vec<f16>; 2]),
    BF16([Vec<bf16>; 2]),
}

/// Rows of a batch that one adapter is for.
#[derive(Clone, Copy, Debug)]
pub struct Adapted<'a> {
    /// Indices of rows, each in one group at most.
    pub rows: &'a [u32],
    /// What is added to them.
    pub part: &'a LowRank,
}

impl LowRank {
    /// `down` `[rank, inputs]` and `up` `[outputs, rank]`, kept in f16 or bf16 if `dtype` says so, else in f32.
    ///
    /// # Errors
    /// If they cannot be read.
    ///
    /// # Panics
    /// If their ranks differ; whoever reads a file has checked shapes.
    pub fn new(
        down: &HostTensor,
        up: &HostTensor,
        scale: f32,
        dtype: StoredDtype,
    ) -> Result<Self, WeightError> {
        let (rank, inputs, outputs) = (down.shape()[0], down.shape()[1], up.shape()[0]);
        assert_eq!(rank, up.shape()[1], "both have the same rank");
        let (down, up) = (down.to_vec_f32()?, up.to_vec_f32()?);
        let turned: Vec<f32> = (0..rank)
            .flat_map(|row| up.iter().skip(row).step_by(rank.max(1)).copied())
            .collect();
        let sizes = Sizes {
            rank,
            inputs,
            outputs,
            scale,
        };
        let numbers = match dtype {
            StoredDtype::F16 => Numbers::F16([
                laid_out(&down, inputs, f16::from_f32),
                laid_out(&turned, outputs, f16::from_f32),
            ]),
            StoredDtype::BF16 => Numbers::BF16([
                laid_out(&down, inputs, bf16::from_f32),
                laid_out(&turned, outputs, bf16::from_f32),
            ]),
            _ => Numbers::F32([
                laid_out(&down, inputs, |number| number),
                laid_out(&turned, outputs, |number| number),
            ]),
        };
        Ok(Self { numbers, sizes })
    }

    /// Bytes that one of these sizes takes.
    pub fn bytes(rank: usize, inputs: usize, outputs: usize, dtype: StoredDtype) -> u64 {
        let each = match dtype {
            StoredDtype::F16 | StoredDtype::BF16 => 2,
            _ => 4,
        };
        (rank * (padded(inputs) + padded(outputs)) * each) as u64
    }

    /// Bytes that it takes.
    pub fn byte_len(&self) -> u64 {
        let Sizes {
            rank,
            inputs,
            outputs,
            ..
        } = self.sizes;
        let dtype = match &self.numbers {
            Numbers::F32(_) => StoredDtype::F32,
            Numbers::F16(_) => StoredDtype::F16,
            Numbers::BF16(_) => StoredDtype::BF16,
        };
        Self::bytes(rank, inputs, outputs, dtype)
    }

    /// Width of what it adds.
    pub fn outputs(&self) -> usize {
        self.sizes.outputs
    }

    /// Width of what it is made from.
    pub fn inputs(&self) -> usize {
        self.sizes.inputs
    }

    fn matrices(&self) -> Matrices<'_> {
        fn thin<T>([down, up]: &[Vec<T>; 2], sizes: Sizes) -> Thin<'_, T> {
            Thin { down, up, sizes }
        }
        match &self.numbers {
            Numbers::F32(both) => Matrices::F32(thin(both, self.sizes)),
            Numbers::F16(both) => Matrices::F16(thin(both, self.sizes)),
            Numbers::BF16(both) => Matrices::BF16(thin(both, self.sizes)),
        }
    }

    /// Adds to `y` `[rows, outputs]` what the groups make of `x` `[rows, inputs]`.
    pub(crate) fn add(x: &[f32], y: &mut [f32], groups: &[Adapted<'_>]) {
        let groups: Vec<_> = groups
            .iter()
            .map(|group| kernel::Group {
                rows: group.rows,
                matrices: group.part.matrices(),
            })
            .collect();
        kernel::add(x, y, &groups);
    }
}

/// Rows of `width`, each padded with zeros.
fn laid_out<T: Clone + Default>(numbers: &[f32], width: usize, narrow: fn(f32) -> T) -> Vec<T> {
    let rows = numbers.len() / width.max(1);
    let mut laid = Vec::with_capacity(rows * padded(width));
    for row in numbers.chunks(width.max(1)) {
        laid.extend(row.iter().map(|&number| narrow(number)));
        laid.resize(
            laid.len().next_multiple_of(padded(width).max(1)),
            T::default(),
        );
    }
    laid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        let number = |at: usize| ((at * 37 + salt * 101) % 97) as f32 / 48.0 - 1.0;
        (0..count).map(number).collect()
    }

    fn part(
        rank: usize,
        inputs: usize,
        outputs: usize,
        salt: usize,
        dtype: StoredDtype,
    ) -> LowRank {
        let down = HostTensor::from_f32(numbers(rank * inputs, salt), &[rank, inputs]);
        let up = HostTensor::from_f32(numbers(outputs * rank, salt + 1), &[outputs, rank]);
        LowRank::new(&down, &up, 0.5, dtype).expect("readable")
    }

    /// In the order of the definition, in double precision.
    fn plain(part: &LowRank, salt: usize, x: &[f32]) -> Vec<f64> {
        let Sizes {
            rank,
            inputs,
            outputs,
            ..
        } = part.sizes;
        let (down, up) = (
            numbers(rank * inputs, salt),
            numbers(outputs * rank, salt + 1),
        );
        let inner: Vec<f64> = down
            .chunks(inputs)
            .map(|row| {
                row.iter()
                    .zip(x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x))
                    .sum()
            })
            .collect();
        up.chunks(rank)
            .map(|row| {
                row.iter()
                    .zip(&inner)
                    .map(|(w, x)| f64::from(*w) * x)
                    .sum::<f64>()
                    * 0.5
            })
            .collect()
    }

    #[test]
    fn it_adds_the_product_of_both_matrices() {
        for (rank, inputs, outputs) in [(1, 1, 1), (3, 20, 7), (8, 64, 96), (16, 33, 50)] {
            for (dtype, near) in [
                (StoredDtype::F32, 1e-4),
                (StoredDtype::BF16, 0.3),
                (StoredDtype::F16, 0.05),
            ] {
                let part = part(rank, inputs, outputs, 5, dtype);
                let x = numbers(2 * inputs, 9);
                let mut y = vec![1.0; 2 * outputs];
                LowRank::add(
                    &x,
                    &mut y,
                    &[Adapted {
                        rows: &[1],
                        part: &part,
                    }],
                );
                assert_eq!(y[..outputs], vec![1.0; outputs], "a row of nobody");
                let wanted = plain(&part, 5, &x[inputs..]);
                for (got, wanted) in y[outputs..].iter().zip(&wanted) {
                    let off = (f64::from(*got) - 1.0 - wanted).abs();
                    assert!(off < near * (rank as f64).sqrt(), "{rank} {dtype}: {off}");
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_beside_others_of_any_adapter() {
        let (inputs, outputs, count) = (100, 75, 23);
        let parts: Vec<_> = [(8, 1), (16, 2), (5, 3)]
            .map(|(rank, salt)| part(rank, inputs, outputs, salt, StoredDtype::BF16))
            .into();
        let x = numbers(count * inputs, 4);
        let rows: Vec<Vec<u32>> = (0..3)
            .map(|which| (0..count as u32).filter(|row| row % 4 == which).collect())
            .collect();
        let groups: Vec<_> = parts
            .iter()
            .zip(&rows)
            .map(|(part, rows)| Adapted { rows, part })
            .collect();
        let mut together = numbers(count * outputs, 8);
        let mut alone = together.clone();
        LowRank::add(&x, &mut together, &groups);
        for group in &groups {
            for row in group.rows {
                let one = Adapted {
                    rows: &[0],
                    part: group.part,
                };
                let at = *row as usize;
                let y = &mut alone[at * outputs..][..outputs];
                LowRank::add(&x[at * inputs..][..inputs], y, &[one]);
            }
        }
        assert_eq!(together, alone);
    }

    #[test]
    fn bytes_are_those_that_it_takes() {
        let part = part(3, 20, 7, 1, StoredDtype::BF16);
        let Numbers::BF16(both) = &part.numbers else {
            panic!("kept in bf16");
        };
        let taken = both.iter().map(|numbers| numbers.len() * 2).sum::<usize>();
        assert_eq!(taken as u64, LowRank::bytes(3, 20, 7, StoredDtype::BF16));
    }
}
