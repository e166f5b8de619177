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
use super::operand::{Layout, Operand, Part, Precision, operands};
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

/// Whether two parts are computed in the same way, which each of them would be alone.
fn are_alike(one: &Part<'_>, other: &Part<'_>) -> bool {
    let (numbers, others) = (&one.matrix.numbers, &other.matrix.numbers);
    std::mem::discriminant(numbers) == std::mem::discriminant(others)
        && one.precision == other.precision
        && way(one) == way(other)
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the vectors of [`super::lanes`], of the width that the machine has.
    Lanes,
    /// In vectors of 512 bits.
    Wide,
    /// On the matrix unit.
    Tiles,
}

fn way(part: &Part<'_>) -> Way {
    match part.matrix.layout {
        Layout::Panels => Way::Wide,
        Layout::Rows { .. } if suits_tiles(part) => Way::Tiles,
        Layout::Rows { .. } => Way::Lanes,
    }
}

#[cfg(target_arch = "x86_64")]
fn suits_tiles(part: &Part<'_>) -> bool {
    matches!(part.matrix.numbers, Rows::BF16(_))
        && super::tiles::suits(part.matrix.n, part.matrix.k)
}

#[cfg(not(target_arch = "x86_64"))]
fn suits_tiles(_: &Part<'_>) -> bool {
    false
}

fn of_one_kind(x: &[f32], parts: &mut [Part<'_>]) {
    let (k, precision, way) = (parts[0].matrix.k, parts[0].precision, way(&parts[0]));
    match parts[0].matrix.numbers {
        Rows::F32(_) => of_numbers::<f32>(x, k, way, &operands(x, k, parts)),
        Rows::F16(_) => of_numbers::<f16>(x, k, way, &operands(x, k, parts)),
        Rows::BF16(_) => of_brains(x, k, way, precision, &operands(x, k, parts)),
    }
}

/// bf16 weights have units of their own on some machines.
fn of_brains(x: &[f32], k: usize, way: Way, precision: Precision, operands: &[Operand<'_, bf16>]) {
    #[cfg(target_arch = "x86_64")]
    match way {
        Way::Tiles => {
            return operands
                .iter()
                .for_each(|operand| super::tiles::matmul(x, k, operand));
        }
        Way::Wide if precision == Precision::Bf16 && super::wide::has_bf16() => {
            return super::wide::matmul_rounded(x, k, operands);
        }
        _ => {}
    }
    // Without such a unit rounding `x` would only cost precision.
    let _ = precision;
    of_numbers(x, k, way, operands);
}

#[cfg(target_arch = "x86_64")]
fn of_numbers<W: super::wide::Wide>(x: &[f32], k: usize, way: Way, operands: &[Operand<'_, W>]) {
    match way {
        Way::Wide => super::wide::matmul(x, k, operands),
        Way::Lanes | Way::Tiles => in_lanes(x, k, operands),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn of_numbers<W: Weight>(x: &[f32], k: usize, way: Way, operands: &[Operand<'_, W>]) {
    debug_assert_eq!(way, Way::Lanes, "no other has its instructions here");
    in_lanes(x, k, operands);
}

fn in_lanes<W: Weight>(x: &[f32], k: usize, operands: &[Operand<'_, W>]) {
    for operand in operands {
        Product { x, k, operand }.run();
    }
}

/// One of the products, in vectors of [`LANES`].
struct Product<'a, W> {
    x: &'a [f32],
    k: usize,
    operand: &'a Operand<'a, W>,
}

// SAFETY of the kernels below rests on the asserts of `Operand`: `m` rows of `x`, `n` rows of weights and `m * n`
// outputs exist.
impl<W: Weight> Product<'_, W> {
    fn run(&self) {
        let Operand { m, n, .. } = *self.operand;
        if m == 0 || n == 0 {
            return;
        }
        let widen = size_of::<W>() < size_of::<f32>() && m >= WIDEN_FROM;
        let cut = Cut::new(self);
        pool::run(cut.panels * cut.bands, &|task| {
            let columns = span(task / cut.bands, cut.columns, n);
            let rows = span(task % cut.bands, cut.rows, m);
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
        let (m, n, k) = (product.operand.m, product.operand.n, product.k);
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
            start: product.operand.weights.as_ptr(),
            stride: product.operand.stride,
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
            let start = (columns.start + column) * product.operand.stride;
            widen::<L, W>(
                &product.operand.weights[start..start + k],
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
mod tests;
