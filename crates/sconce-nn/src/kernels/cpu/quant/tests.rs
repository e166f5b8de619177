//! Products with blocks against plain loops, and the same bits from all instructions and in any company.

use std::panic::catch_unwind;

use half::f16;

use super::testing::{blocks, product, rounded, rows, set_half, weights};
use super::*;
use crate::kernels::cpu::testing::numbers;

/// Inner dimensions that a format allows.
fn depths(format: BlockFormat) -> Vec<usize> {
    let depths = [32, 64, 256, 576, 1024];
    let allowed = |k: &usize| k.is_multiple_of(format.numbers());
    depths.into_iter().filter(allowed).collect()
}

/// Numbers of activations that share a scale.
fn shared(format: BlockFormat, k: usize) -> usize {
    match format {
        BlockFormat::Q8Row => activations::shared(k / BLOCK) * BLOCK,
        _ => BLOCK,
    }
}

/// A matrix, as rows and in panels, which begin at an odd address.
struct Stored {
    format: BlockFormat,
    bytes: Vec<u8>,
    panels: Vec<u8>,
    n: usize,
    k: usize,
}

impl Stored {
    fn new(format: BlockFormat, n: usize, k: usize, seed: u64) -> Self {
        let bytes = rows(format, n, k / format.numbers(), seed);
        Self::of(format, bytes, n, k)
    }

    fn of(format: BlockFormat, bytes: Vec<u8>, n: usize, k: usize) -> Self {
        let row = k / format.numbers() * format.bytes();
        let mut panels = vec![0; 1 + panels::rows(n) * row];
        panels::lay_out(format, &bytes, row, row, n, &mut panels[1..]);
        Self {
            format,
            bytes,
            panels,
            n,
            k,
        }
    }

    fn row(&self, row: usize) -> &[u8] {
        let len = self.bytes.len() / self.n;
        &self.bytes[row * len..][..len]
    }

    fn matrix(&self) -> QuantMatrix<'_> {
        QuantMatrix {
            format: self.format,
            panels: &self.panels[1..],
            n: self.n,
            k: self.k,
        }
    }

    fn times(&self, instructions: Instructions, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len() / self.k * self.n];
        let part = Part {
            matrix: self.matrix(),
            bias,
            out: &mut out,
        };
        matmul_with(instructions, x, &mut [part]);
        out
    }
}

#[test]
fn all_formats_and_instructions_equal_the_plain_loops() {
    for format in BlockFormat::ALL {
        for k in depths(format) {
            for n in [1, 15, 16, 33, 50] {
                let stored = Stored::new(format, n, k, 1);
                let bias = numbers(n, 2);
                let rows: Vec<_> = (0..n).map(|row| weights(format, stored.row(row))).collect();
                for m in [1, 2, 3, 4, 7, 11, 12, 17, 26] {
                    let x = numbers(m * k, 3);
                    let exact = rounded(&x, shared(format, k));
                    for instructions in Instructions::available() {
                        let got = stored.times(instructions, &x, Some(&bias));
                        for (index, got) in got.into_iter().enumerate() {
                            let (row, column) = (index / n, index % n);
                            let (sum, size) = product(&exact[row * k..][..k], &rows[column]);
                            let error = (f64::from(got) - sum - f64::from(bias[column])).abs();
                            assert!(
                                error <= (size + 1.0) * 1e-6,
                                "{format} [{m}, {n}, {k}] {instructions:?}: {got}, not {sum}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rounding_activations_costs_less_than_a_percent() {
    let (m, n, k) = (4, 40, 1024);
    for format in BlockFormat::ALL {
        let stored = Stored::new(format, n, k, 4);
        let x = numbers(m * k, 5);
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let got = stored.times(Instructions::best(), &x, None);
        let (mut errors, mut squares) = (0.0, 0.0);
        for (index, got) in got.into_iter().enumerate() {
            let row = weights(format, stored.row(index % n));
            let (sum, _) = product(&wide[index / n * k..][..k], &row);
            errors += (f64::from(got) - sum).powi(2);
            squares += sum.powi(2);
        }
        let relative = (errors / squares).sqrt();
        assert!((1e-6..1e-2).contains(&relative), "{format}: {relative}");
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_on_any_number_of_threads_and_instructions() {
    let (m, n, k) = (70, 75, 512);
    for format in BlockFormat::ALL {
        let stored = Stored::new(format, n, k, 6);
        let x = numbers(m * k, 7);
        let mut alone = Vec::new();
        {
            let _turn = pool::turn(1);
            for x in x.chunks_exact(k) {
                alone.extend(stored.times(Instructions::Portable, x, None));
            }
        }
        for threads in [1, 2, 7] {
            let _turn = pool::turn(threads);
            for instructions in Instructions::available() {
                for company in [1, 2, 3, 4, 5, 7, 8, 31, 70] {
                    let got = stored.times(instructions, &x[..company * k], None);
                    assert!(
                        got == alone[..company * n],
                        "{format}: {company} rows, {threads} threads, {instructions:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn several_matrices_of_one_input_are_multiplied_as_each_alone() {
    let k = 512;
    let x = numbers(37 * k, 8);
    let sizes = [3, 64, 0, 17, 16, 5, 33, 100, 48];
    let stored: Vec<_> = BlockFormat::ALL
        .into_iter()
        .zip(sizes)
        .map(|(format, n)| Stored::new(format, n, k, 9))
        .collect();
    let biases: Vec<_> = sizes.iter().map(|&n| numbers(n, 10)).collect();
    for m in [1, 2, 37] {
        let x = &x[..m * k];
        let mut outs: Vec<_> = sizes.iter().map(|n| vec![f32::NAN; m * n]).collect();
        let mut parts: Vec<_> = stored
            .iter()
            .zip(&biases)
            .zip(&mut outs)
            .map(|((stored, bias), out)| Part {
                matrix: stored.matrix(),
                bias: Some(bias),
                out,
            })
            .collect();
        matmul(x, &mut parts);
        drop(parts);
        for ((stored, bias), out) in stored.iter().zip(&biases).zip(outs) {
            if stored.n > 0 {
                assert_eq!(out, stored.times(Instructions::best(), x, Some(bias)));
            }
        }
    }
}

#[test]
fn what_is_no_number_spoils_its_row_and_zeros_give_the_bias() {
    let (n, k) = (20, 512);
    for format in BlockFormat::ALL {
        let stored = Stored::new(format, n, k, 11);
        let bias = numbers(n, 12);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for m in [2, 5] {
                let mut x = numbers(m * k, 13);
                let clean = x.clone();
                x[k + 77] = bad;
                for instructions in Instructions::available() {
                    let got = stored.times(instructions, &x, Some(&bias));
                    let wanted = stored.times(instructions, &clean, Some(&bias));
                    assert!(got[n..2 * n].iter().all(|y| y.is_nan()));
                    assert_eq!(got[..n], wanted[..n]);
                    assert_eq!(got[2 * n..], wanted[2 * n..]);
                }
            }
        }
        for instructions in Instructions::available() {
            for tiny in [0.0, -0.0, 1e-45, f32::MIN_POSITIVE] {
                let got = stored.times(instructions, &vec![tiny; 3 * k], Some(&bias));
                assert!(got.chunks_exact(n).all(|row| row == bias));
            }
            let largest = stored.times(instructions, &vec![f32::MAX; 3 * k], None);
            let one = stored.times(instructions, &vec![f32::MAX; k], None);
            assert!(largest.chunks_exact(n).all(|row| {
                let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
                row.iter().zip(&one).all(same)
            }));
        }
    }
}

#[test]
fn weights_without_a_scale_spoil_their_output_only() {
    let (n, k) = (20, 512);
    for format in BlockFormat::ALL {
        for bad in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
            let stored = Stored::new(format, n, k, 14);
            let x = numbers(5 * k, 15);
            let clean = stored.times(Instructions::best(), &x, None);
            let mut bytes = stored.bytes;
            let row = bytes.len() / n;
            set_half(format, &mut bytes[3 * row..], 0, bad);
            let stored = Stored::of(format, bytes, n, k);
            for instructions in Instructions::available() {
                for m in [1, 5] {
                    let got = stored.times(instructions, &x[..m * k], None);
                    for (index, (got, clean)) in got.iter().zip(&clean).enumerate() {
                        let fine = if index % n == 3 {
                            !got.is_finite()
                        } else {
                            got == clean
                        };
                        assert!(fine, "{format} {bad} {instructions:?}: {index} is {got}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_largest_bytes_do_not_saturate() {
    let k = 512;
    for format in BlockFormat::ALL {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes = vec![byte; 17 * k / format.numbers() * format.bytes()];
            for block in bytes.chunks_exact_mut(format.bytes()) {
                set_half(format, block, 0, f16::from_f32(0.5));
                if matches!(format, BlockFormat::Q4_1 | BlockFormat::Q5_1) {
                    set_half(format, block, 1, f16::from_f32(-0.25));
                }
                if matches!(format, BlockFormat::Q4K | BlockFormat::Q5K) {
                    set_half(format, block, 1, f16::from_f32(0.25));
                }
            }
            let stored = Stored::of(format, bytes, 17, k);
            let wanted = weights(format, stored.row(0));
            for x in [vec![1.0; 3 * k], vec![-1.0; 3 * k]] {
                let (sum, size) = product(&rounded(&x[..k], shared(format, k)), &wanted);
                for instructions in Instructions::available() {
                    for got in stored.times(instructions, &x, None) {
                        let error = (f64::from(got) - sum).abs();
                        assert!(error <= size * 1e-6, "{format} {byte:#x}: {got}, not {sum}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_is_dequantised_as_ggml_does() {
    for format in BlockFormat::ALL {
        let row = blocks(format, 6, 17);
        let mut got = vec![f32::NAN; 6 * format.numbers()];
        crate::weights::dequantise(format, &row, &mut got);
        for (got, wanted) in got.iter().zip(weights(format, &row)) {
            let error = (f64::from(*got) - wanted).abs();
            assert!(
                error <= 1e-6 * wanted.abs().max(1.0),
                "{format}: {got}, not {wanted}"
            );
        }
    }
}

#[test]
fn empty_products_write_nothing_and_no_inner_dimension_leaves_the_bias() {
    matmul(&[1.0], &mut []);
    let none = |n, k| QuantMatrix {
        format: BlockFormat::Q8_0,
        panels: &[],
        n,
        k,
    };
    let mut out = [9.0; 4];
    for (matrix, len) in [(none(0, 32), 0), (none(2, 0), 4)] {
        let part = Part {
            matrix,
            bias: (len > 0).then_some(&[1.0, 2.0]),
            out: &mut out[..len],
        };
        matmul(&[], &mut [part]);
    }
    assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn operands_that_do_not_fit_are_refused_before_they_are_read() {
    let refused = |n: usize, k: usize, bytes: usize, x: usize, bias: Option<usize>| {
        let outcome = catch_unwind(|| {
            let (blocks, bias) = (vec![0; bytes], bias.map(|len| vec![0.0; len]));
            let part = Part {
                matrix: QuantMatrix {
                    format: BlockFormat::Q4K,
                    panels: &blocks,
                    n,
                    k,
                },
                bias: bias.as_deref(),
                out: &mut [0.0; 2],
            };
            matmul(&vec![0.0; x], &mut [part]);
        });
        outcome.is_err()
    };
    assert!(!refused(2, 256, 2304, 256, None));
    assert!(refused(2, 256, 2303, 256, None));
    assert!(refused(2, 128, 2304, 128, None));
    assert!(refused(2, 256, 2304, 255, None));
    assert!(refused(2, 256, 2304, 512, None));
    assert!(refused(2, 256, 2304, 256, Some(3)));
}
