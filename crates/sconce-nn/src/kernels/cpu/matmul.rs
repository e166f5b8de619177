//! `y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n]`: f32 activations, weights in f32, f16 or bf16 as the checkpoint has them.
//!
//! Several matrices of one `x` are computed together. Every element of `y` is one dot product in an order that depends
//! on the machine and the shape of the weights only, so its bits depend neither on the number of rows nor on how the
//! work is cut. There are three ways: the matrix unit ([`super::tiles`]), 512-bit vectors ([`super::wide`]), and the
//! vectors of [`super::lanes`], here. In this last one few rows stream the weights once, directly from memory; many rows
//! widen a panel of half-precision weights into the cache and use it for all of them.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use half::{bf16, f16};

use super::lanes::{Kernel, LANES, Lanes, Weight, dispatch};
use super::operand::{Matrix, Operand, Part, Precision, operands};
use super::parallel;
use super::tile::{Ptr, dots};
use super::{pool, scratch};
use crate::weights::Rows;

/// From so many rows on, half-precision weights are widened once per panel instead of once per tile.
const WIDEN_FROM: usize = 8;

/// Bytes of a widened panel: it stays in half of a small second-level cache.
const PANEL_BYTES: usize = 192 << 10;

/// Panels hold multiples of so many weight rows, so that tiles of three and of four rows fit.
const PANEL_STEP: usize = 12;

/// Rows of `x` in a tile.
const TILE: usize = 4;

/// Panels for each thread: enough to even out threads of unequal speed.
const PANELS_PER_THREAD: usize = 4;

/// Computes `[m, n]` of each part from the same `x[m, k]`, all row-major without gaps, with `m` from their lengths.
///
/// # Panics
/// When the lengths do not fit the matrices.
pub(crate) fn matmul(x: &[f32], parts: &mut [Part<'_>]) {
    for parts in parts.chunk_by_mut(are_alike) {
        of_one_kind(x, parts);
    }
}

/// Whether two parts are computed in the same way.
fn are_alike(one: &Part<'_>, other: &Part<'_>) -> bool {
    let (rows, others) = (&one.matrix.rows, &other.matrix.rows);
    std::mem::discriminant(rows) == std::mem::discriminant(others)
        && one.precision == other.precision
}

fn of_one_kind(x: &[f32], parts: &mut [Part<'_>]) {
    let (Matrix { rows, k, .. }, precision) = (parts[0].matrix, parts[0].precision);
    match rows {
        Rows::F32(_) => in_vectors::<f32>(x, k, &operands(x, k, parts)),
        Rows::F16(_) => in_vectors::<f16>(x, k, &operands(x, k, parts)),
        Rows::BF16(_) => of_brains(x, k, precision, &operands(x, k, parts)),
    }
}

/// bf16 weights have units of their own on some machines.
fn of_brains(x: &[f32], k: usize, precision: Precision, operands: &[Operand<'_, bf16>]) {
    #[cfg(target_arch = "x86_64")]
    {
        if operands.iter().all(|one| super::tiles::suits(one.n, k)) {
            return operands
                .iter()
                .for_each(|operand| super::tiles::matmul(x, k, operand));
        }
        if precision == Precision::Bf16 && super::wide::has_bf16() {
            return super::wide::matmul_rounded(x, k, operands);
        }
    }
    // Without such a unit rounding `x` would only cost precision.
    let _ = precision;
    in_vectors(x, k, operands);
}

#[cfg(target_arch = "x86_64")]
fn in_vectors<W: super::wide::Wide>(x: &[f32], k: usize, operands: &[Operand<'_, W>]) {
    if super::wide::is_available() {
        return super::wide::matmul(x, k, operands);
    }
    in_lanes(x, k, operands);
}

#[cfg(not(target_arch = "x86_64"))]
fn in_vectors<W: Weight>(x: &[f32], k: usize, operands: &[Operand<'_, W>]) {
    in_lanes(x, k, operands);
}

fn in_lanes<W: Weight>(x: &[f32], k: usize, operands: &[Operand<'_, W>]) {
    for operand in operands {
        Product::new(x, k, operand).run();
    }
}

/// One of the products, in vectors of [`LANES`].
struct Product<'a, W> {
    x: &'a [f32],
    weights: &'a [W],
    stride: usize,
    m: usize,
    n: usize,
    k: usize,
    operand: &'a Operand<'a, W>,
}

// SAFETY of the kernels below rests on the asserts of `Operand`: `m` rows of `x`, `n` rows of weights and `m * n`
// outputs exist.
impl<'a, W: Weight> Product<'a, W> {
    fn new(x: &'a [f32], k: usize, operand: &'a Operand<'a, W>) -> Self {
        Self {
            x,
            weights: operand.weights,
            stride: operand.stride,
            m: operand.m,
            n: operand.n,
            k,
            operand,
        }
    }

    fn run(&self) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        let widen = size_of::<W>() < size_of::<f32>() && self.m >= WIDEN_FROM;
        let cut = Cut::new(self);
        pool::run(cut.panels * cut.bands, &|task| {
            let columns = span(task / cut.bands, cut.columns, self.n);
            let rows = span(task % cut.bands, cut.rows, self.m);
            if widen {
                scratch::with(columns.len * self.k, |panel| {
                    dispatch(Widened {
                        product: self,
                        rows,
                        columns,
                        panel,
                    })
                });
            } else {
                dispatch(Direct {
                    product: self,
                    rows,
                    columns,
                });
            }
        });
    }
}

/// Consecutive rows or columns.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

fn span(index: usize, size: usize, end: usize) -> Span {
    let start = index * size;
    Span {
        start,
        len: size.min(end - start),
    }
}

/// How a product is cut into tasks: panels of weight rows times bands of rows of `x`.
struct Cut {
    panels: usize,
    columns: usize,
    bands: usize,
    rows: usize,
}

impl Cut {
    fn new<W>(product: &Product<'_, W>) -> Self {
        let Product { m, n, k, .. } = *product;
        let threads = pool::threads();
        if threads == 1 || m * n * k < parallel::WORTH_A_FORK {
            let columns = panel_rows(k).min(n.next_multiple_of(PANEL_STEP));
            return Self {
                panels: n.div_ceil(columns),
                columns,
                bands: 1,
                rows: m,
            };
        }
        let wanted = threads * PANELS_PER_THREAD;
        let columns = n
            .div_ceil(wanted)
            .next_multiple_of(PANEL_STEP)
            .min(panel_rows(k));
        let panels = n.div_ceil(columns);
        // Narrow matrices on many threads are cut along `x` too.
        let bands = wanted.div_ceil(panels).min(m.div_ceil(TILE * 8)).max(1);
        let rows = m.div_ceil(bands).next_multiple_of(TILE);
        Self {
            panels,
            columns,
            bands: m.div_ceil(rows),
            rows,
        }
    }
}

/// Weight rows of `k` elements in the largest panel.
fn panel_rows(k: usize) -> usize {
    let rows = PANEL_BYTES / (k * size_of::<f32>()).max(1);
    (rows - rows % PANEL_STEP).max(PANEL_STEP)
}

/// One task that reads the weights in place.
struct Direct<'a, W> {
    product: &'a Product<'a, W>,
    rows: Span,
    columns: Span,
}

impl<W: Weight> Kernel for Direct<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self {
            product,
            rows,
            columns,
        } = self;
        let weights = Ptr {
            start: product.weights.as_ptr(),
            stride: product.stride,
        };
        // SAFETY: the columns are rows of the weight matrix.
        unsafe { panel::<L, W, _>(product, rows, columns, weights.starting_at(columns.start)) };
    }
}

/// One task that widens its weights into `panel` first.
struct Widened<'a, W> {
    product: &'a Product<'a, W>,
    rows: Span,
    columns: Span,
    panel: &'a mut [f32],
}

impl<W: Weight> Kernel for Widened<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self {
            product,
            rows,
            columns,
            panel: widened,
        } = self;
        let k = product.k;
        for column in 0..columns.len {
            let start = (columns.start + column) * product.stride;
            widen::<L, W>(
                &product.weights[start..start + k],
                &mut widened[column * k..(column + 1) * k],
            );
        }
        let weights = Ptr {
            start: widened.as_ptr(),
            stride: k,
        };
        // SAFETY: the panel has a row of `k` for each of the columns.
        unsafe { panel::<L, f32, W>(product, rows, columns, weights) };
    }
}

/// Widens a row of weights.
#[inline(always)]
pub(super) fn widen<L: Lanes, W: Weight>(from: &[W], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<LANES>();
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    for (from, to) in from.iter().zip(to) {
        W::load::<L>(from).store(to);
    }
    let mut padded = [W::default(); LANES];
    padded[..from_rest.len()].copy_from_slice(from_rest);
    W::load::<L>(&padded).store_partial(to_rest);
}

/// All rows of `x` in `rows` against the weight rows of `columns`, the first of which is at `weights`.
///
/// # Safety
/// `weights` has a row for each of the columns.
#[inline(always)]
unsafe fn panel<L: Lanes, P: Weight, W: Weight>(
    product: &Product<'_, W>,
    rows: Span,
    columns: Span,
    weights: Ptr<P>,
) {
    let end = rows.start + rows.len;
    let mut row = rows.start;
    while row < end {
        // SAFETY: rows `row..end` are in `x`; the tile's outputs are this task's alone.
        unsafe {
            match end - row {
                1 => strip::<L, P, W, 1, 4>(product, row, columns, weights),
                2 => strip::<L, P, W, 2, 4>(product, row, columns, weights),
                3 => strip::<L, P, W, 3, 4>(product, row, columns, weights),
                _ => strip::<L, P, W, TILE, 3>(product, row, columns, weights),
            }
        }
        row += TILE;
    }
}

/// `M` rows of `x` from `row` on against all weight rows of the panel, `N` at a time.
#[inline(always)]
unsafe fn strip<L: Lanes, P: Weight, W: Weight, const M: usize, const N: usize>(
    product: &Product<'_, W>,
    row: usize,
    columns: Span,
    weights: Ptr<P>,
) {
    let x = Ptr {
        start: product.x.as_ptr(),
        stride: product.k,
    };
    // SAFETY: rows `row..row + M` are in `x`, weight rows up to `columns.len` in the panel.
    unsafe {
        let x = x.starting_at(row);
        let mut column = 0;
        while column + N <= columns.len {
            let sums = dots::<L, P, M, N>(x, weights.starting_at(column), product.k);
            product.operand.store(row, columns.start + column, &sums);
            column += N;
        }
        while column < columns.len {
            let sums = dots::<L, P, M, 1>(x, weights.starting_at(column), product.k);
            product.operand.store(row, columns.start + column, &sums);
            column += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::lanes::Portable;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    /// The plain twin, in double precision.
    fn reference(
        x: &[f32],
        w: &[f32],
        stride: usize,
        (m, n, k): (usize, usize, usize),
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let dot = |row: usize, column: usize| {
            let terms =
                (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[column * stride + i]));
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

    impl Way {
        fn product(self, x: &[f32], matrix: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
            let mut out = vec![f32::NAN; x.len() / matrix.k * matrix.n];
            let (precision, compute): (_, fn(&[f32], &mut [Part<'_>])) = match self {
                Self::Best(precision) => (precision, matmul),
                Self::Lanes => (Precision::Exact, in_lanes_of),
            };
            let part = Part {
                matrix,
                precision,
                bias,
                out: &mut out,
            };
            compute(x, &mut [part]);
            out
        }

        /// The numbers that this way takes of `x`.
        fn taken(self, x: &[f32], matrix: Matrix<'_>) -> Vec<f32> {
            let rounds = self == Self::Best(Precision::Bf16)
                && matches!(matrix.rows, Rows::BF16(_))
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
        !super::super::tiles::suits(n, k) && super::super::wide::has_bf16()
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn rounds(_: usize, _: usize) -> bool {
        false
    }

    fn in_lanes_of(x: &[f32], parts: &mut [Part<'_>]) {
        let Matrix { rows, k, .. } = parts[0].matrix;
        match rows {
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
            let wide = numbers(n * stride, 1);
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
                let matrix = Matrix { rows, stride, n, k };
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
            let matrix = Matrix {
                rows,
                stride: k,
                n,
                k,
            };
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
        let matrix = |rows, n| Matrix {
            rows,
            stride: k,
            n,
            k,
        };
        let later = matrix(Rows::BF16(&brains[91 * k..]), 130);
        let of_brains = [
            matrix(Rows::BF16(&brains), 91),
            later,
            matrix(later.rows, 0),
        ];
        let mixed = [
            matrix(Rows::F32(&wide), 91),
            later,
            matrix(Rows::F32(&wide), 7),
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
    fn plain_vectors_give_close_numbers() {
        let (m, n, k) = (5, 7, 37);
        let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
        let mut out = vec![0.0; m * n];
        let mut parts = [Part {
            matrix: Matrix {
                rows: Rows::F32(&w),
                stride: k,
                n,
                k,
            },
            precision: Precision::Exact,
            bias: None,
            out: &mut out,
        }];
        let operands = operands::<f32>(&x, k, &mut parts);
        let product = Product::new(&x, k, &operands[0]);
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
        let matrix = |n, k| Matrix {
            rows: Rows::F32(&[]),
            stride: 0,
            n,
            k,
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
        assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
        let mut parts = [Part {
            matrix: matrix(0, 5),
            precision: Precision::Exact,
            bias: None,
            out: &mut [],
        }];
        matmul(&[], &mut parts);
        matmul(&[], &mut []);
    }
}
