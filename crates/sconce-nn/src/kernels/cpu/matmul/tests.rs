//! All ways to multiply against plain loops, and the same bits in any company.

use super::*;
use crate::kernels::cpu::lanes::Portable;
use crate::kernels::cpu::operand::Matrix;
use crate::kernels::cpu::panels;
use crate::kernels::cpu::testing::{assert_close, numbers};
use crate::weights::StoredDtype;

/// The plain twin, in double precision.
fn reference(
    x: &[f32],
    w: &[f32],
    stride: usize,
    (m, n, k): (usize, usize, usize),
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let dot = |row: usize, column: usize| {
        let terms = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[column * stride + i]));
        (terms.sum::<f64>() + bias.map_or(0.0, |bias| f64::from(bias[column]))) as f32
    };
    (0..m * n).map(|index| dot(index / n, index % n)).collect()
}

/// A way to compute a product: as this machine does it, with bf16 activations, or in the vectors of any machine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Best(Precision),
    Lanes,
}

const WAYS: [Way; 3] = [
    Way::Best(Precision::Exact),
    Way::Best(Precision::Bf16),
    Way::Lanes,
];

/// A matrix in rows.
fn in_rows(numbers: Rows<'_>, stride: usize, n: usize, k: usize) -> Matrix<'_> {
    let layout = Layout::Rows { stride };
    Matrix {
        numbers,
        layout,
        n,
        k,
    }
}

/// The matrix as this machine multiplies it, with its words in `room` where these are panels.
fn as_multiplied<'a>(matrix: Matrix<'a>, room: &'a mut Vec<u32>) -> Matrix<'a> {
    let Matrix {
        numbers,
        layout: Layout::Rows { stride },
        n,
        k,
    } = matrix
    else {
        return matrix;
    };
    let (dtype, bytes) = match numbers {
        Rows::F32(numbers) => (StoredDtype::F32, bytes_of(numbers)),
        Rows::F16(numbers) => (StoredDtype::F16, bytes_of(numbers)),
        Rows::BF16(numbers) => (StoredDtype::BF16, bytes_of(numbers)),
    };
    if !panels::suit(dtype, n, k) {
        return matrix;
    }
    let row_bytes = dtype.bytes(k);
    room.resize(n * panels::words(row_bytes), u32::MAX);
    panels::lay_out(bytes, dtype.bytes(stride), row_bytes, room);
    let numbers = match numbers {
        Rows::F32(_) => Rows::F32(of_words(room)),
        Rows::F16(_) => Rows::F16(of_words(room)),
        Rows::BF16(_) => Rows::BF16(of_words(room)),
    };
    Matrix {
        numbers,
        layout: Layout::Panels,
        n,
        k,
    }
}

fn bytes_of<T: Weight>(numbers: &[T]) -> &[u8] {
    // SAFETY: numbers have no padding.
    unsafe { numbers.align_to().1 }
}

fn of_words<T: Weight>(words: &[u32]) -> &[T] {
    // SAFETY: any bits are a number; words are aligned for all.
    unsafe { words.align_to().1 }
}

impl Way {
    fn product(self, x: &[f32], matrix: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len() / matrix.k * matrix.n];
        let mut room = Vec::new();
        let matrix = match self {
            Self::Best(_) => as_multiplied(matrix, &mut room),
            Self::Lanes => matrix,
        };
        let part = Part {
            matrix,
            precision: match self {
                Self::Best(precision) => precision,
                Self::Lanes => Precision::Exact,
            },
            bias,
            out: &mut out,
        };
        match self {
            Self::Best(_) => matmul(x, &mut [part]),
            Self::Lanes => in_lanes_of(x, &mut [part]),
        }
        out
    }

    /// The numbers that this way takes of `x`.
    fn taken(self, x: &[f32], matrix: Matrix<'_>) -> Vec<f32> {
        let rounds = self == Self::Best(Precision::Bf16)
            && matches!(matrix.numbers, Rows::BF16(_))
            && rounds(matrix.n, matrix.k);
        let taken = |&x| {
            if rounds {
                bf16::from_f32(x).to_f32()
            } else {
                x
            }
        };
        x.iter().map(taken).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn rounds(n: usize, k: usize) -> bool {
    !crate::kernels::cpu::tiles::suits(n, k) && crate::kernels::cpu::wide::has_bf16()
}

#[cfg(not(target_arch = "x86_64"))]
fn rounds(_: usize, _: usize) -> bool {
    false
}

fn in_lanes_of(x: &[f32], parts: &mut [Part<'_>]) {
    let Matrix { numbers, k, .. } = parts[0].matrix;
    match numbers {
        Rows::F32(_) => in_lanes::<f32>(x, k, &operands(x, k, parts)),
        Rows::F16(_) => in_lanes::<f16>(x, k, &operands(x, k, parts)),
        Rows::BF16(_) => in_lanes::<bf16>(x, k, &operands(x, k, parts)),
    }
}

#[test]
fn odd_sizes_in_all_types_equal_the_plain_loops() {
    // The last three suit the matrix unit, where there is one.
    for (n, k) in [
        (1, 1),
        (3, 7),
        (13, 8),
        (17, 33),
        (29, 100),
        (64, 32),
        (75, 96),
        (150, 64),
    ] {
        let stride = k + 3;
        // Cut columns end before the stride of their last row does.
        let wide = numbers((n - 1) * stride + k, 1);
        let bias = numbers(n, 2);
        let halves: Vec<f16> = wide.iter().map(|&w| f16::from_f32(w)).collect();
        let brains: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
        let cases = [
            (Rows::F32(&wide), wide.clone()),
            (
                Rows::F16(&halves),
                halves.iter().map(|w| w.to_f32()).collect(),
            ),
            (
                Rows::BF16(&brains),
                brains.iter().map(|w| w.to_f32()).collect(),
            ),
        ];
        for (rows, exact) in cases {
            let matrix = in_rows(rows, stride, n, k);
            for (m, way) in [1, 2, 3, 4, 5, 6, 7, 8, 9, 21, 32, 40]
                .into_iter()
                .flat_map(|m| WAYS.map(|way| (m, way)))
            {
                let x = numbers(m * k, 3);
                let taken = way.taken(&x, matrix);
                for bias in [None, Some(&*bias)] {
                    let got = way.product(&x, matrix, bias);
                    let wanted = reference(&taken, &exact, stride, (m, n, k), bias);
                    assert_close(&got, &wanted, 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_on_any_number_of_threads() {
    for (n, k) in [(61, 203), (101, 224)] {
        for way in WAYS {
            rows_have_the_same_bits(70, n, k, way);
        }
    }
}

fn rows_have_the_same_bits(m: usize, n: usize, k: usize, way: Way) {
    let (x, wide) = (numbers(m * k, 1), numbers(n * k, 2));
    let halves: Vec<f16> = wide.iter().map(|&w| f16::from_f32(w)).collect();
    let brains: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
    for rows in [Rows::F32(&wide), Rows::F16(&halves), Rows::BF16(&brains)] {
        let matrix = in_rows(rows, k, n, k);
        let mut alone = Vec::new();
        {
            let _turn = pool::turn(1);
            x.chunks_exact(k)
                .for_each(|x| alone.extend(way.product(x, matrix, None)));
        }
        for threads in [1, 2, 7] {
            let _turn = pool::turn(threads);
            for company in 1..m {
                let got = way.product(&x[..company * k], matrix, None);
                assert!(
                    got == alone[..company * n],
                    "{way:?}: {company} rows on {threads} threads"
                );
            }
        }
    }
}

#[test]
fn matrices_of_one_input_have_the_bits_of_each_alone() {
    let k = 100;
    let wide = numbers(300 * k, 1);
    let brains: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
    let bias = numbers(91, 2);
    let mut rooms = [const { Vec::new() }; 5];
    let [one, two, none, long, short] = &mut rooms;
    let later = Rows::BF16(&brains[91 * k..]);
    let later = as_multiplied(in_rows(later, k, 130, k), two);
    let of_brains = [
        as_multiplied(in_rows(Rows::BF16(&brains), k, 91, k), one),
        later,
        as_multiplied(in_rows(Rows::BF16(&brains), k, 0, k), none),
    ];
    let mixed = [
        as_multiplied(in_rows(Rows::F32(&wide), k, 91, k), long),
        later,
        as_multiplied(in_rows(Rows::F32(&wide), k, 7, k), short),
    ];
    for precision in [Precision::Exact, Precision::Bf16] {
        for (m, matrices) in [1, 3, 70]
            .into_iter()
            .flat_map(|m| [(m, of_brains), (m, mixed)])
        {
            let x = numbers(m * k, 3);
            let biases = [Some(&*bias), None, None];
            let mut outs = matrices.map(|matrix| vec![f32::NAN; m * matrix.n]);
            let mut parts: Vec<Part<'_>> = matrices
                .into_iter()
                .zip(biases)
                .zip(&mut outs)
                .map(|((matrix, bias), out)| Part {
                    matrix,
                    precision,
                    bias,
                    out,
                })
                .collect();
            matmul(&x, &mut parts);
            for ((matrix, bias), out) in matrices.into_iter().zip(biases).zip(outs) {
                assert_eq!(out, Way::Best(precision).product(&x, matrix, bias));
            }
        }
    }
}

#[test]
fn rows_longer_than_a_panel_are_multiplied_too() {
    let (m, n, k) = (6, 9, 70_000);
    let (x, wide) = (numbers(m * k, 1), numbers(n * k, 2));
    let brains: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
    for rows in [Rows::F32(&wide), Rows::BF16(&brains)] {
        let matrix = in_rows(rows, k, n, k);
        for way in WAYS {
            let all = way.product(&x, matrix, None);
            let last = way.product(&x[(m - 1) * k..], matrix, None);
            assert_eq!(all[(m - 1) * n..], last);
        }
    }
}

#[test]
fn plain_vectors_give_close_numbers() {
    let (m, n, k) = (5, 7, 37);
    let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
    let mut out = vec![0.0; m * n];
    let mut parts = [Part {
        matrix: in_rows(Rows::F32(&w), k, n, k),
        precision: Precision::Exact,
        bias: None,
        out: &mut out,
    }];
    let operands = operands::<f32>(&x, k, &mut parts);
    let product = Product {
        x: &x,
        k,
        operand: &operands[0],
    };
    let (rows, columns) = (Span { start: 0, len: m }, Span { start: 0, len: n });
    Direct {
        product: &product,
        rows,
        columns,
    }
    .run::<Portable>();
    assert_close(&out, &reference(&x, &w, k, (m, n, k), None), 1e-5);
}

#[test]
fn empty_products_write_nothing_and_no_inner_dimension_leaves_the_bias() {
    let matrix = |n, k| in_rows(Rows::F32(&[]), 0, n, k);
    let laid_out = |n, k| Matrix {
        layout: Layout::Panels,
        ..matrix(n, k)
    };
    let mut out = [9.0; 4];
    let mut parts = [Part {
        matrix: matrix(2, 0),
        precision: Precision::Exact,
        bias: Some(&[1.0, 2.0]),
        out: &mut out,
    }];
    matmul(&[], &mut parts);
    assert_eq!(parts[0].out, [1.0, 2.0, 1.0, 2.0]);
    parts[0].out.fill(9.0);
    in_lanes_of(&[], &mut parts);
    assert_eq!(parts[0].out, [1.0, 2.0, 1.0, 2.0]);
    if panels::suit(StoredDtype::F32, 2, 0) {
        parts[0].out.fill(9.0);
        parts[0].matrix = laid_out(2, 0);
        matmul(&[], &mut parts);
        assert_eq!(parts[0].out, [1.0, 2.0, 1.0, 2.0]);
        parts[0].matrix = laid_out(0, 5);
        parts[0].bias = None;
        parts[0].out = &mut [];
        matmul(&[], &mut parts);
    }
    let mut parts = [Part {
        matrix: matrix(0, 5),
        precision: Precision::Exact,
        bias: None,
        out: &mut [],
    }];
    matmul(&[], &mut parts);
    matmul(&[], &mut []);
}
