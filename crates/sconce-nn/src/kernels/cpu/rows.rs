//! Layer and root-mean-square normalisation of rows. The sums of a row have one order: eight lanes, then the rest.

use super::elementwise::Add;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::parallel::{self, Shared};

/// Elementary operations per element, for deciding about a fork.
const COST: usize = 4;

/// What to do to each row.
#[derive(Clone, Copy)]
pub(crate) enum RowNorm<'a> {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer {
        weight: &'a [f32],
        bias: Option<&'a [f32]>,
        eps: f32,
    },
    /// `x / sqrt(mean of squares + eps) * weight`.
    Rms { weight: &'a [f32], eps: f32 },
}

impl RowNorm<'_> {
    fn width(&self) -> usize {
        match self {
            Self::Layer { weight, .. } | Self::Rms { weight, .. } => weight.len(),
        }
    }
}

/// Normalises every row of `x` into `out`.
pub(crate) fn normalise(x: &[f32], norm: RowNorm<'_>, out: &mut [f32]) {
    let width = norm.width();
    assert_eq!(x.len(), out.len());
    parallel::over_rows(out, width, width * COST, &|first, out| {
        let x = &x[first * width..][..out.len()];
        dispatch(NormRows { x, norm, out });
    });
}

/// Adds `x` and `y` into `sum` and normalises every row of the sum into `out`.
pub(crate) fn add_and_normalise(
    x: &[f32],
    y: &[f32],
    norm: RowNorm<'_>,
    sum: &mut [f32],
    out: &mut [f32],
) {
    let width = norm.width();
    assert_eq!(
        (x.len(), y.len(), sum.len()),
        (out.len(), out.len(), out.len())
    );
    let sums = Shared::new(sum);
    parallel::over_rows(out, width, width * COST, &|first, out| {
        let part = first * width..first * width + out.len();
        // The rows of a task are its own in `sum` as they are in `out`.
        #[allow(unsafe_code)]
        // SAFETY: `over_rows` hands every row to one task only, and `sum` is borrowed during the call.
        let sum = unsafe { sums.part(part.start, part.len()) };
        dispatch(Add {
            x: &x[part.clone()],
            y: &y[part],
            out: sum,
        });
        dispatch(NormRows { x: sum, norm, out });
    });
}

struct NormRows<'a> {
    x: &'a [f32],
    norm: RowNorm<'a>,
    out: &'a mut [f32],
}

impl Kernel for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.norm.width();
        for (x, out) in self
            .x
            .chunks_exact(width)
            .zip(self.out.chunks_exact_mut(width))
        {
            match self.norm {
                RowNorm::Layer { weight, bias, eps } => {
                    let mean = sum::<L>(x) / width as f32;
                    let variance = squares::<L>(x, mean) / width as f32;
                    scale::<L>(x, mean, 1.0 / (variance + eps).sqrt(), weight, out);
                    if let Some(bias) = bias {
                        add_to::<L>(out, bias);
                    }
                }
                RowNorm::Rms { weight, eps } => {
                    let mean = squares::<L>(x, 0.0) / width as f32;
                    scale::<L>(x, 0.0, 1.0 / (mean + eps).sqrt(), weight, out);
                }
            }
        }
    }
}

#[inline(always)]
fn sum<L: Lanes>(x: &[f32]) -> f32 {
    let (vectors, rest) = x.as_chunks::<LANES>();
    let mut sums = L::splat(0.0);
    for vector in vectors {
        sums = sums.add(L::load(vector));
    }
    let mut total = sums.sum();
    for x in rest {
        total += x;
    }
    total
}

/// Sum of the squared distances from `centre`.
#[inline(always)]
fn squares<L: Lanes>(x: &[f32], centre: f32) -> f32 {
    let (vectors, rest) = x.as_chunks::<LANES>();
    let mut sums = L::splat(0.0);
    for vector in vectors {
        let distance = L::load(vector).sub(L::splat(centre));
        sums = distance.mul_add(distance, sums);
    }
    let mut total = sums.sum();
    for x in rest {
        total += (x - centre) * (x - centre);
    }
    total
}

/// `(x - centre) * factor * weight`.
#[inline(always)]
fn scale<L: Lanes>(x: &[f32], centre: f32, factor: f32, weight: &[f32], out: &mut [f32]) {
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (weights, weight_rest) = weight.as_chunks::<LANES>();
    let (outs, out_rest) = out.as_chunks_mut::<LANES>();
    for ((x, weight), out) in xs.iter().zip(weights).zip(outs) {
        let normal = L::load(x).sub(L::splat(centre)).mul(L::splat(factor));
        normal.mul(L::load(weight)).store(out);
    }
    for ((x, weight), out) in x_rest.iter().zip(weight_rest).zip(out_rest) {
        *out = (x - centre) * factor * weight;
    }
}

#[inline(always)]
fn add_to<L: Lanes>(out: &mut [f32], bias: &[f32]) {
    for (out, bias) in out.iter_mut().zip(bias) {
        *out += bias;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    fn reference(x: &[f32], norm: RowNorm<'_>) -> Vec<f32> {
        let width = norm.width();
        let row = |x: &[f32]| -> Vec<f32> {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
            let moment = |centre: f64| {
                x.iter()
                    .map(|&x| (f64::from(x) - centre).powi(2))
                    .sum::<f64>()
                    / width as f64
            };
            let element = |index: usize| match norm {
                RowNorm::Layer { weight, bias, eps } => {
                    let normal =
                        (f64::from(x[index]) - mean) / (moment(mean) + f64::from(eps)).sqrt();
                    normal * f64::from(weight[index])
                        + bias.map_or(0.0, |bias| f64::from(bias[index]))
                }
                RowNorm::Rms { weight, eps } => {
                    f64::from(x[index]) / (moment(0.0) + f64::from(eps)).sqrt()
                        * f64::from(weight[index])
                }
            };
            (0..width).map(|index| element(index) as f32).collect()
        };
        x.chunks_exact(width).flat_map(row).collect()
    }

    #[test]
    fn odd_widths_equal_the_plain_loops_and_rows_do_not_depend_on_company() {
        for width in [1, 7, 8, 33, 576] {
            let (weight, bias) = (numbers(width, 1), numbers(width, 2));
            let x: Vec<f32> = numbers(width * 60, 3)
                .iter()
                .map(|x| x * 5.0 + 2.0)
                .collect();
            let norms = [
                RowNorm::Layer {
                    weight: &weight,
                    bias: None,
                    eps: 1e-5,
                },
                RowNorm::Layer {
                    weight: &weight,
                    bias: Some(&bias),
                    eps: 1e-5,
                },
                RowNorm::Rms {
                    weight: &weight,
                    eps: 1e-6,
                },
            ];
            for norm in norms {
                let mut got = vec![f32::NAN; x.len()];
                normalise(&x, norm, &mut got);
                assert_close(&got, &reference(&x, norm), 2e-6);
                let mut alone = vec![f32::NAN; width];
                normalise(&x[width * 41..width * 42], norm, &mut alone);
                assert_eq!(alone, got[width * 41..width * 42]);
            }
        }
    }

    #[test]
    fn adding_first_gives_the_sum_and_its_norm() {
        let (x, y, weight) = (numbers(300, 1), numbers(300, 2), numbers(30, 3));
        let norm = RowNorm::Rms {
            weight: &weight,
            eps: 1e-6,
        };
        let (mut sum, mut out, mut wanted) = (vec![0.0; 300], vec![0.0; 300], vec![0.0; 300]);
        add_and_normalise(&x, &y, norm, &mut sum, &mut out);
        assert!(
            sum.iter()
                .zip(x.iter().zip(&y))
                .all(|(sum, (x, y))| *sum == x + y)
        );
        normalise(&sum, norm, &mut wanted);
        assert_eq!(out, wanted);
    }
}
