//! `y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n]` in 512-bit vectors, for several matrices of one `x` at a time.
//!
//! Weights are widened in registers as they are read, once for every four rows of `x`: f32 sums, whatever the weights
//! are stored as. Where the caller allows it, `x` is rounded to bf16 for bf16 weights, whose products take half the time.
#![allow(unsafe_code)]

mod broadcast;
mod pairs;
mod tile;
mod vectors;

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use half::bf16;

use super::operand::Operand;
use super::parallel::{self, Shared};
use super::tile::Ptr;
use super::{pool, scratch};
use tile::{Exact, Multiply, Rounded, dots, dots_in_order};
use vectors::{CHUNK, LINE};

pub(super) use broadcast::multiply;
pub(super) use pairs::{multiply_pairs, round_in_place};
pub(super) use vectors::{Wide, is_available};

/// Rows of `x` in a tile, and of weights.
const TILE: usize = 4;

/// So many rows of `x` are multiplied with each row of weights as it comes from memory, in about the time that it takes
/// to come.
const FIRST: usize = 8;

/// Bytes of weights that are read again for each tile of rows: these and the next as many stay in the second-level
/// cache.
const PANEL_BYTES: usize = 128 << 10;

/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// Whether this machine multiplies bf16 numbers with each other.
pub(super) fn has_bf16() -> bool {
    is_available() && is_x86_feature_detected!("avx512bf16")
}

/// Computes all parts with f32 activations `[m, k]`. Only where [`is_available`].
pub(super) fn matmul<W: Wide>(x: &[f32], k: usize, parts: &[Operand<'_, W>]) {
    if k.is_multiple_of(CHUNK) && !W::INTERLEAVED {
        return Products::<Exact<W>>::new(x, k, k, parts).run();
    }
    let (rows, padded) = (x.len() / k.max(1), k.next_multiple_of(CHUNK));
    scratch::with(rows * padded, |room| {
        // SAFETY: the caller has asked for the instructions.
        each_row(x, k, room, padded, &|from, to| unsafe {
            lay_out(from, to, W::INTERLEAVED);
        });
        Products::<Exact<W>>::new(room, padded, k, parts).run();
    });
}

/// Computes all parts with activations rounded to bf16. Only where [`has_bf16`].
pub(super) fn matmul_rounded(x: &[f32], k: usize, parts: &[Operand<'_, bf16>]) {
    let (rows, padded) = (x.len() / k.max(1), k.next_multiple_of(CHUNK));
    scratch::with((rows * padded).div_ceil(2), |room| {
        // SAFETY: any bits are a bf16, and f32 numbers are aligned for two.
        let (_, room, _) = unsafe { room.align_to_mut::<bf16>() };
        // SAFETY: the caller has asked for the instructions.
        each_row(
            x,
            k,
            &mut room[..rows * padded],
            padded,
            &|from, to| unsafe {
                round(from, to);
            },
        );
        Products::<Rounded>::new(&room[..rows * padded], padded, k, parts).run();
    });
}

/// Calls `work` with every row of `x` and its room, on all threads where that is worth it.
fn each_row<T: Send>(
    x: &[f32],
    k: usize,
    room: &mut [T],
    padded: usize,
    work: &(dyn Fn(&[f32], &mut [T]) + Sync),
) {
    let rows = x.len() / k.max(1);
    let (tasks, run) = parallel::cut(rows, padded);
    let room = Shared::new(room);
    pool::run(tasks, &|task| {
        for row in task * run..rows.min((task + 1) * run) {
            // SAFETY: every row has room of its own, and belongs to one task.
            let to = unsafe { room.part(row * padded, padded) };
            work(&x[row * k..][..k], to);
        }
    });
}

/// Copies a row of `x` into whole chunks, where asked with the even elements of each chunk before the odd ones.
#[target_feature(enable = "avx512f")]
fn lay_out(from: &[f32], to: &mut [f32], interleaved: bool) {
    let (chunks, rest) = from.as_chunks::<CHUNK>();
    let (to, _) = to.as_chunks_mut::<CHUNK>();
    let mut last = [0.0; CHUNK];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (from, to) in chunks.iter().chain(last).zip(to) {
        if interleaved {
            let (even, odd) = to.split_at_mut(CHUNK / 2);
            for (pair, (even, odd)) in from.as_chunks::<2>().0.iter().zip(even.iter_mut().zip(odd))
            {
                (*even, *odd) = (pair[0], pair[1]);
            }
        } else {
            *to = *from;
        }
    }
}

/// Rounds a row of `x` to the nearest bf16 numbers, ties to even, into whole chunks.
#[target_feature(enable = "avx512f,avx512bf16,avx512bw")]
fn round(from: &[f32], to: &mut [bf16]) {
    let (chunks, rest) = from.as_chunks::<CHUNK>();
    let (to, _) = to.as_chunks_mut::<CHUNK>();
    let mut last = [0.0; CHUNK];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (from, to) in chunks.iter().chain(last).zip(to) {
        // SAFETY: a chunk is two vectors of f32 and one of bf16; neither needs alignment.
        unsafe {
            let (low, high) = (
                _mm512_loadu_ps(from.as_ptr()),
                _mm512_loadu_ps(from.as_ptr().add(CHUNK / 2)),
            );
            let both = _mm512_cvtne2ps_pbh(high, low);
            let bits = std::mem::transmute::<__m512bh, __m512i>(both);
            _mm512_storeu_si512(to.as_mut_ptr().cast(), bits);
        }
    }
}

/// Products of one `x`, laid out, with several matrices.
struct Products<'a, P: Multiply> {
    x: &'a [P::X],
    /// Elements from one row of `x` to the next: whole chunks.
    padded: usize,
    m: usize,
    k: usize,
    parts: &'a [Operand<'a, P::W>],
    way: PhantomData<P>,
}

/// One task: columns of a part for a band of rows.
struct Task {
    part: usize,
    columns: Range<usize>,
    rows: Range<usize>,
}

/// How the products are cut into tasks.
struct Cut {
    columns: usize,
    rows: usize,
    bands: usize,
}

impl<'a, P: Multiply> Products<'a, P> {
    fn new(x: &'a [P::X], padded: usize, k: usize, parts: &'a [Operand<'a, P::W>]) -> Self {
        Self {
            x,
            padded,
            // A matrix without rows does not tell.
            m: parts.iter().map(|part| part.m).max().unwrap_or(0),
            k,
            parts,
            way: PhantomData,
        }
    }

    fn run(&self) {
        let cut = self.cut();
        let tasks = |part: &Operand<'_, P::W>| part.n.div_ceil(cut.columns) * cut.bands;
        pool::run(self.parts.iter().map(tasks).sum(), &|mut index| {
            for (part, matrix) in self.parts.iter().enumerate() {
                let of_part = tasks(matrix);
                if index < of_part {
                    let (column, row) = (
                        index / cut.bands * cut.columns,
                        index % cut.bands * cut.rows,
                    );
                    let task = Task {
                        part,
                        columns: column..matrix.n.min(column + cut.columns),
                        rows: row..self.m.min(row + cut.rows),
                    };
                    // SAFETY: whoever made the products has asked for the instructions.
                    return unsafe { P::compute(self, &task) };
                }
                index -= of_part;
            }
        });
    }

    fn cut(&self) -> Cut {
        let columns: usize = self.parts.iter().map(|part| part.n).sum();
        let threads = pool::threads();
        if threads == 1 || self.m * columns * self.k < parallel::WORTH_A_FORK {
            return Cut {
                columns: columns.max(1).next_multiple_of(TILE),
                rows: self.m.max(1),
                bands: usize::from(self.m > 0),
            };
        }
        let wanted = threads * TASKS_PER_THREAD;
        let columns_each = columns.div_ceil(wanted).next_multiple_of(TILE);
        // Narrow matrices on many threads are cut along `x` too.
        let panels = columns.div_ceil(columns_each);
        let bands = wanted
            .div_ceil(panels)
            .min(self.m.div_ceil(TILE * 8))
            .max(1);
        let rows = self.m.div_ceil(bands).next_multiple_of(TILE);
        Cut {
            columns: columns_each,
            rows,
            bands: self.m.div_ceil(rows),
        }
    }
}

impl<P: Multiply> Products<'_, P> {
    /// Runs a task.
    ///
    /// # Safety
    /// As for [`dots`].
    #[inline(always)]
    unsafe fn compute(&self, task: &Task) {
        let part = &self.parts[task.part];
        let rows = task.rows.end - task.rows.start;
        let row_bytes = (self.k * size_of::<P::W>()).max(1);
        let panel = match rows {
            // Every weight is read once.
            ..=FIRST => part.n,
            // Rows longer than a panel go one tile at a time.
            _ => (PANEL_BYTES / row_bytes).max(1).next_multiple_of(TILE),
        };
        let mut start = task.columns.start;
        while start < task.columns.end {
            let columns = start..task.columns.end.min(start + panel);
            let next = columns.end..task.columns.end.min(columns.end + panel);
            // The first rows of the first panel have enough to wait for.
            let busy = if start == task.columns.start {
                FIRST
            } else {
                0
            };
            let strips = rows.saturating_sub(busy).div_ceil(TILE);
            let tiles = strips * (columns.end - columns.start).div_ceil(TILE);
            // Nothing lies behind the last row, not even what the stride leaves out between rows.
            let from = part.weights.get(next.start * part.stride..);
            let from = from.unwrap_or_default();
            let from = &from[..from.len().min((next.end - next.start) * part.stride)];
            let mut ahead = Ahead::of(from, tiles);
            // SAFETY: the task's rows are in `x`, its columns in the matrix; the outputs are this task's alone.
            unsafe { self.panel(part, task, columns, &mut ahead) };
            start += panel;
        }
    }

    /// All rows of a task against a panel of its columns, with the next one on its way from memory meanwhile.
    #[inline(always)]
    unsafe fn panel(
        &self,
        part: &Operand<'_, P::W>,
        task: &Task,
        columns: Range<usize>,
        ahead: &mut Ahead,
    ) {
        let end = task.rows.end;
        let mut row = task.rows.start;
        // SAFETY: as the caller promises.
        unsafe {
            if columns.start == task.columns.start {
                // Nobody has fetched these: they are read in their order, which is when memory gives most.
                match end - row {
                    1 => self.strip_in_order::<1, 4>(part, row, &columns),
                    2 => self.strip_in_order::<2, 4>(part, row, &columns),
                    3 => self.strip_in_order::<3, 4>(part, row, &columns),
                    4 => self.strip_in_order::<4, 4>(part, row, &columns),
                    5 => self.strip_in_order::<5, 2>(part, row, &columns),
                    6 => self.strip_in_order::<6, 2>(part, row, &columns),
                    7 => self.strip_in_order::<7, 2>(part, row, &columns),
                    _ => self.strip_in_order::<FIRST, 2>(part, row, &columns),
                }
                row += FIRST;
            }
            while row < end {
                match end - row {
                    1 => self.strip::<1>(part, row, &columns, ahead),
                    2 => self.strip::<2>(part, row, &columns, ahead),
                    3 => self.strip::<3>(part, row, &columns, ahead),
                    _ => self.strip::<TILE>(part, row, &columns, ahead),
                }
                row += TILE;
            }
        }
    }

    /// `M` rows of `x` from `row` on against the weight rows of `columns`, four at a time.
    #[inline(always)]
    unsafe fn strip<const M: usize>(
        &self,
        part: &Operand<'_, P::W>,
        row: usize,
        columns: &Range<usize>,
        ahead: &mut Ahead,
    ) {
        // SAFETY: as the caller promises.
        let (x, weights) = unsafe { self.at(part, row) };
        let Range { mut start, end } = *columns;
        // SAFETY: rows `row..row + M` are in `x`, the columns are rows of the matrix.
        unsafe {
            while start + TILE <= end {
                ahead.fetch();
                let sums = dots::<P, M, TILE>(x, weights.starting_at(start), self.k);
                part.store(row, start, &sums);
                start += TILE;
            }
            while start < end {
                let sums = dots::<P, M, 1>(x, weights.starting_at(start), self.k);
                part.store(row, start, &sums);
                start += 1;
            }
        }
    }

    /// The same one by one; sums of `N` are added up together.
    #[inline(always)]
    unsafe fn strip_in_order<const M: usize, const N: usize>(
        &self,
        part: &Operand<'_, P::W>,
        row: usize,
        columns: &Range<usize>,
    ) {
        // SAFETY: as the caller promises.
        let (x, weights) = unsafe { self.at(part, row) };
        let Range { mut start, end } = *columns;
        // SAFETY: as above.
        unsafe {
            while start + N <= end {
                let sums = dots_in_order::<P, M, N>(x, weights.starting_at(start), self.k);
                part.store(row, start, &sums);
                start += N;
            }
            while start < end {
                let sums = dots_in_order::<P, M, 1>(x, weights.starting_at(start), self.k);
                part.store(row, start, &sums);
                start += 1;
            }
        }
    }

    /// `x` from a row on, and all weights of a part.
    #[inline(always)]
    unsafe fn at(&self, part: &Operand<'_, P::W>, row: usize) -> (Ptr<P::X>, Ptr<P::W>) {
        let x = Ptr {
            start: self.x.as_ptr(),
            stride: self.padded,
        };
        let weights = Ptr {
            start: part.weights.as_ptr(),
            stride: part.stride,
        };
        // SAFETY: the row is in `x`.
        (unsafe { x.starting_at(row) }, weights)
    }
}

/// Weights that are on their way to the second-level cache, some lines with each tile.
struct Ahead {
    at: *const i8,
    end: *const i8,
    lines: usize,
}

impl Ahead {
    /// All of these weights in so many tiles.
    fn of<W>(weights: &[W], tiles: usize) -> Self {
        let range = weights.as_ptr_range();
        let lines = size_of_val(weights).div_ceil(LINE);
        Self {
            at: range.start.cast(),
            end: range.end.cast(),
            lines: lines.div_ceil(tiles.max(1)),
        }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.lines {
            if self.at >= self.end {
                return;
            }
            // SAFETY: a hint, which reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.at) };
            self.at = self.at.wrapping_add(LINE);
        }
    }
}
