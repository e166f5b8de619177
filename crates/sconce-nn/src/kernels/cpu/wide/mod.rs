//! `y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n]` in 512-bit vectors, for several matrices of one `x` at a time, which lie in
//! [`super::panels`].
//!
//! A number of `x`, or a pair, is multiplied with a vector of weights, each of another row. Weights are widened in
//! registers: f32 sums, whatever they are stored as. Where the caller allows it, `x` is rounded to bf16 for bf16 weights,
//! whose products take half the time.
#![allow(unsafe_code)]

mod broadcast;
mod pairs;
mod soften;
mod tile;
mod vectors;

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use half::bf16;

use super::operand::Operand;
use super::panels::COLUMNS;
use super::parallel::{self, Shared};
use super::tile::Ptr;
use super::{pool, scratch};
use tile::{Exact, Fetch, Multiply, Out, Panel, Rounded};
use vectors::LANES;

pub(super) use broadcast::multiply;
pub(super) use pairs::{multiply_pairs, round_in_place};
pub(super) use soften::soften;
pub(super) use vectors::{Wide, has_bf16, is_available};

/// Rows of `x` that are multiplied with a panel at a time, at most: their sums take 24 of 32 registers.
const ROWS: usize = 12;

/// The same where weights are widened: with more of them compilers keep sums in memory.
const ROWS_OF_HALVES: usize = 8;

/// So few rows of `x` never push each other out of the cache.
const FEW: usize = 6;

/// Steps of a panel that are multiplied at a time: with as many of `x` they stay in the first two levels of the cache.
const STEPS: usize = 1024;

/// Bytes of panels that are read again for the next rows of `x`, while the next as many come from memory. Few, so that
/// memory is never waited for long.
const GROUP_BYTES: usize = 64 << 10;

/// Bytes of a step of a whole panel.
const STEP_BYTES: usize = COLUMNS * size_of::<u32>();

/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// Computes all parts with f32 activations `[m, k]`. Only where [`is_available`].
pub(super) fn matmul<W: Wide>(x: &[f32], k: usize, parts: &[Operand<'_, W>]) {
    debug_assert!(is_available());
    let steps = k.div_ceil(W::PER_WORD);
    let rows = x.len() / k.max(1);
    let stride = match rows {
        ..=FEW => steps * W::PER_WORD,
        _ => apart(steps * W::PER_WORD),
    };
    if stride == k {
        return Products::<Exact<W>>::new(x, stride, steps, parts).run();
    }
    scratch::with(rows * stride, |room| {
        each_row(x, k, room, stride, &|from, to| {
            to[..k].copy_from_slice(from);
            to[k..].fill(0.0);
        });
        Products::<Exact<W>>::new(room, stride, steps, parts).run();
    });
}

/// Computes all parts with activations rounded to bf16. Only where [`has_bf16`].
pub(super) fn matmul_rounded(x: &[f32], k: usize, parts: &[Operand<'_, bf16>]) {
    debug_assert!(has_bf16());
    let steps = k.div_ceil(2);
    let (rows, stride) = (x.len() / k.max(1), apart(steps));
    scratch::with(rows * stride, |room| {
        // SAFETY: any bits are a word, and f32 numbers are as large and aligned as one.
        let (_, room, _) = unsafe { room.align_to_mut::<u32>() };
        // SAFETY: the caller has asked for the instructions.
        each_row(x, k, room, stride, &|from, to| unsafe { round(from, to) });
        Products::<Rounded>::new(room, stride, steps, parts).run();
    });
}

/// Words from one row of `x` to the next, of which each has so many: never so that the rows of a tile share few sets of
/// the first-level cache, from where they would push each other.
fn apart(words: usize) -> usize {
    const SETS: usize = 32;
    let lines = words.div_ceil(LANES);
    if lines.is_multiple_of(SETS) {
        words.next_multiple_of(LANES) + LANES
    } else {
        words
    }
}

/// Calls `work` with every row of `x` and its room, on all threads where that is worth it.
fn each_row<T: Send>(
    x: &[f32],
    k: usize,
    room: &mut [T],
    stride: usize,
    work: &(dyn Fn(&[f32], &mut [T]) + Sync),
) {
    let rows = x.len() / k.max(1);
    let (tasks, run) = parallel::cut(rows, stride);
    let room = Shared::new(room);
    pool::run(tasks, &|task| {
        for row in task * run..rows.min((task + 1) * run) {
            // SAFETY: every row has room of its own, and belongs to one task.
            let to = unsafe { room.part(row * stride, stride) };
            work(&x[row * k..][..k], to);
        }
    });
}

/// Rounds a row of `x` to pairs of the nearest bf16 numbers, ties to even; an odd last one gets a zero beside it.
#[target_feature(enable = "avx512f,avx512bf16,avx512bw")]
fn round(from: &[f32], to: &mut [u32]) {
    const TAKEN: usize = 2 * LANES;
    let (chunks, rest) = from.as_chunks::<TAKEN>();
    let mut last = [0.0; TAKEN];
    last[..rest.len()].copy_from_slice(rest);
    let pairs = |from: &[f32; TAKEN], to: &mut [u32; LANES]| {
        // SAFETY: two vectors of f32 and one of pairs; neither needs alignment.
        unsafe {
            let (low, high) = (
                _mm512_loadu_ps(from.as_ptr()),
                _mm512_loadu_ps(from.as_ptr().add(LANES)),
            );
            let both = _mm512_cvtne2ps_pbh(high, low);
            let bits = std::mem::transmute::<__m512bh, __m512i>(both);
            _mm512_storeu_si512(to.as_mut_ptr().cast(), bits);
        }
    };
    let (whole, behind) = to.split_at_mut(chunks.len() * LANES);
    for (from, to) in chunks.iter().zip(whole.as_chunks_mut().0) {
        pairs(from, to);
    }
    if !rest.is_empty() {
        let mut words = [0; LANES];
        pairs(&last, &mut words);
        let len = rest.len().div_ceil(2);
        behind[..len].copy_from_slice(&words[..len]);
    }
}

/// Products of one `x` with several matrices.
struct Products<'a, P: Multiply> {
    x: &'a [P::X],
    /// Elements from one row of `x` to the next.
    stride: usize,
    m: usize,
    /// Words of a row of weights.
    steps: usize,
    parts: &'a [Operand<'a, P::W>],
    way: PhantomData<P>,
}

/// One task: panels of a part for a band of rows.
struct Task {
    part: usize,
    panels: Range<usize>,
    rows: Range<usize>,
}

/// How the products are cut into tasks.
struct Cut {
    panels: usize,
    rows: usize,
    bands: usize,
}

impl<'a, P: Multiply> Products<'a, P> {
    fn new(x: &'a [P::X], stride: usize, steps: usize, parts: &'a [Operand<'a, P::W>]) -> Self {
        Self {
            x,
            stride,
            // A matrix without rows does not tell.
            m: parts.iter().map(|part| part.m).max().unwrap_or(0),
            steps,
            parts,
            way: PhantomData,
        }
    }

    fn run(&self) {
        let cut = self.cut();
        let tasks = |part: &Operand<'_, P::W>| panels(part.n).div_ceil(cut.panels) * cut.bands;
        pool::run(self.parts.iter().map(tasks).sum(), &|mut index| {
            for (part, matrix) in self.parts.iter().enumerate() {
                let of_part = tasks(matrix);
                if index < of_part {
                    let (panel, row) =
                        (index / cut.bands * cut.panels, index % cut.bands * cut.rows);
                    let task = Task {
                        part,
                        panels: panel..panels(matrix.n).min(panel + cut.panels),
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
        let all: usize = self.parts.iter().map(|part| panels(part.n)).sum();
        let threads = pool::threads();
        let operations = self.m * all * COLUMNS * self.steps * P::TAKEN;
        if threads == 1 || operations < parallel::WORTH_A_FORK {
            return Cut {
                panels: all.max(1),
                rows: self.m.max(1),
                bands: usize::from(self.m > 0),
            };
        }
        let wanted = threads * TASKS_PER_THREAD;
        let panels_each = all.div_ceil(wanted).max(1);
        // Narrow matrices on many threads are cut along `x` too.
        let bands = wanted
            .div_ceil(all.div_ceil(panels_each).max(1))
            .min(self.m.div_ceil(P::ROWS * 3))
            .max(1);
        let rows = self.m.div_ceil(bands).next_multiple_of(P::ROWS);
        Cut {
            panels: panels_each,
            rows,
            bands: self.m.div_ceil(rows),
        }
    }
}

/// Weights that are asked for while others are multiplied.
#[derive(Clone, Copy)]
enum Ahead {
    /// Those that come behind the ones at hand, which come from memory.
    Behind,
    /// A part of a panel of the next group, if there is one.
    Panel {
        panel: usize,
        part: usize,
        parts: usize,
    },
    Nothing,
}

/// Panels of a matrix of `n` rows.
fn panels(n: usize) -> usize {
    n.div_ceil(COLUMNS)
}

impl<P: Multiply> Products<'_, P> {
    /// Runs a task.
    ///
    /// # Safety
    /// The machine has the instructions of `P`, in which this is inlined.
    #[inline(always)]
    unsafe fn compute(&self, task: &Task) {
        let strips = task.rows.len().div_ceil(P::ROWS);
        let blocks = self.steps.div_ceil(STEPS).max(1);
        for block in 0..blocks {
            let steps = parallel::share(&(0..self.steps), block, blocks);
            let group = match strips {
                // Every weight is read once.
                1 => task.panels.len(),
                _ => (GROUP_BYTES / (STEP_BYTES * steps.len()).max(1)).max(1),
            };
            let mut first = task.panels.start;
            while first < task.panels.end {
                let panels = first..task.panels.end.min(first + group);
                for strip in 0..strips {
                    let rows = parallel::share(&task.rows, strip, strips);
                    for panel in panels.clone() {
                        let ahead = match strip {
                            0 if first == task.panels.start => Ahead::Behind,
                            0 => Ahead::Nothing,
                            _ => Ahead::Panel {
                                panel: panel + group,
                                part: strip - 1,
                                parts: strips - 1,
                            },
                        };
                        // SAFETY: the task's rows are in `x`, its panels in the matrix; the outputs are its alone.
                        unsafe { self.strip(task, &rows, panel, &steps, ahead) };
                    }
                }
                first += group;
            }
        }
    }

    /// The lines to ask for while `at_hand` is multiplied.
    #[inline(always)]
    fn fetch(&self, task: &Task, steps: &Range<usize>, at_hand: &Panel, ahead: Ahead) -> Fetch {
        match ahead {
            Ahead::Behind => at_hand.behind(),
            Ahead::Panel { panel, part, parts } if panel < task.panels.end => {
                let words = self.parts[task.part].weights.as_ptr().cast::<i8>();
                let begin = (panel * self.steps + steps.start) * STEP_BYTES;
                let each = (STEP_BYTES / parts).max(1);
                Fetch {
                    from: words.wrapping_add(begin + part * steps.len() * each),
                    each,
                }
            }
            // A line that is there.
            _ => Fetch {
                from: at_hand.words.cast(),
                each: 0,
            },
        }
    }

    /// Some rows against some steps of a panel.
    #[inline(always)]
    unsafe fn strip(
        &self,
        task: &Task,
        rows: &Range<usize>,
        panel: usize,
        steps: &Range<usize>,
        ahead: Ahead,
    ) {
        let part = &self.parts[task.part];
        let column = panel * COLUMNS;
        let width = COLUMNS.min(part.n - column);
        let last = steps.end == self.steps;
        let bias = part.bias.filter(|_| last);
        let x = Ptr {
            start: self.x.as_ptr(),
            stride: self.stride,
        };
        // SAFETY: promised by the caller.
        unsafe {
            let x = x.starting_at(rows.start).at(steps.start * P::TAKEN);
            let words = part.weights.as_ptr().cast::<u32>();
            let panel = Panel {
                words: words.add(column * self.steps + steps.start * width),
                width,
                steps: steps.len(),
            };
            let fetch = self.fetch(task, steps, &panel, ahead);
            let out = Out {
                start: part.out.at(rows.start * part.n + column),
                stride: part.n,
                goes_on: steps.start > 0,
                bias: bias.map_or(std::ptr::null(), |bias| bias.as_ptr().add(column)),
            };
            match rows.len() {
                1 => tile::multiply::<P, 1>(x, panel, fetch, out),
                2 => tile::multiply::<P, 2>(x, panel, fetch, out),
                3 => tile::multiply::<P, 3>(x, panel, fetch, out),
                4 => tile::multiply::<P, 4>(x, panel, fetch, out),
                5 => tile::multiply::<P, 5>(x, panel, fetch, out),
                6 => tile::multiply::<P, 6>(x, panel, fetch, out),
                7 => tile::multiply::<P, 7>(x, panel, fetch, out),
                8 => tile::multiply::<P, 8>(x, panel, fetch, out),
                9 => tile::multiply::<P, 9>(x, panel, fetch, out),
                10 => tile::multiply::<P, 10>(x, panel, fetch, out),
                11 => tile::multiply::<P, 11>(x, panel, fetch, out),
                _ => tile::multiply::<P, ROWS>(x, panel, fetch, out),
            }
        }
    }
}
