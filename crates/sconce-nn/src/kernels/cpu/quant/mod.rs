//! `y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n]` with weights in ggml's block formats, read where they are.
//!
//! Activations become bytes with a scale for every 32 numbers, products are summed in integers, and the blocks of a row
//! are added up as floats from the first to the last: the same bits for any number of rows, threads and any
//! [instructions](isa). [`few`] and [`several`] rows of `x` read the weights directly, [`many`] unpack them into the
//! cache; all take sixteen rows of weights at a time, through the one reader of each format.
#![allow(unsafe_code)]

mod activations;
mod ahead;
mod few;
mod formats;
mod isa;
mod many;
mod room;
mod several;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::ops::Range;

use activations::{Activations, BLOCK, Block};
use ahead::Ahead;
use few::Few;
use formats::{Format, Kind, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Source};
use isa::{Instructions, Isa, Line, SIDE};
use many::Many;
use several::Several;

use super::parallel;
use super::pool;
use crate::weights::BlockFormat;

/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// Bytes of `x` in a word.
const WORD: usize = 4;

/// The least number of rows of `x` in a task, where matrices are so narrow that rows are divided too.
const BAND: usize = 32;

/// A matrix `[n, k]` of whole blocks; row `r` begins at byte `r * stride`.
#[derive(Clone, Copy)]
pub(crate) struct QuantMatrix<'a> {
    pub(crate) format: BlockFormat,
    pub(crate) blocks: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// One of the products of an input.
pub(crate) struct Part<'a> {
    pub(crate) matrix: QuantMatrix<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    /// `[m, n]`.
    pub(crate) out: &'a mut [f32],
}

/// Multiplies the rows of `x` with several matrices of the same `k`.
///
/// # Panics
/// When lengths do not fit.
pub(crate) fn matmul(x: &[f32], parts: &mut [Part<'_>]) {
    matmul_with(Instructions::best(), x, parts);
}

fn matmul_with(instructions: Instructions, x: &[f32], parts: &mut [Part<'_>]) {
    let Some(k) = parts.first().map(|part| part.matrix.k) else {
        return;
    };
    if k == 0 {
        parts.iter_mut().for_each(only_bias);
        return;
    }
    let m = x.len() / k;
    assert_eq!(x.len(), m * k, "whole rows of {k} numbers");
    parts.iter().for_each(|part| part.check(m, k));
    if m == 0 {
        return;
    }
    let width = k / BLOCK;
    room::with(&room::OF_CALL, activations::lines(m, width), |room| {
        let x = Activations::new(x, width, room, instructions);
        let call = Call {
            instructions,
            x,
            parts: parts.as_mut_ptr(),
            count: parts.len(),
        };
        call.run();
    });
}

/// What is left of a product without an inner dimension.
fn only_bias(part: &mut Part<'_>) {
    match part.bias {
        Some(bias) if !bias.is_empty() => {
            let rows = part.out.chunks_exact_mut(bias.len());
            rows.for_each(|row| row.copy_from_slice(bias));
        }
        _ => part.out.fill(0.0),
    }
}

impl Part<'_> {
    // SAFETY of all below rests on the asserts here.
    fn check(&self, m: usize, k: usize) {
        let QuantMatrix {
            format,
            blocks,
            stride,
            n,
            k: own,
        } = self.matrix;
        assert_eq!(own, k, "matrices of one input have one inner dimension");
        assert!(
            k.is_multiple_of(format.numbers()),
            "{k} numbers are no whole blocks of {format}"
        );
        let row = k / format.numbers() * format.bytes();
        assert!(
            n == 0 || (stride >= row && blocks.len() >= (n - 1) * stride + row),
            "[{n}, {k}] of {format}, rows {stride} bytes apart, leaves {} bytes",
            blocks.len()
        );
        assert_eq!(self.out.len(), m * n, "{m} rows of {n} outputs");
        assert!(
            self.bias.is_none_or(|bias| bias.len() == n),
            "a bias for each of {n} outputs"
        );
    }

    /// Groups of sixteen outputs, the last one perhaps smaller.
    fn panels(&self) -> usize {
        self.matrix.n.div_ceil(SIDE)
    }
}

/// Checked operands of one call.
struct Call<'a, 'b> {
    instructions: Instructions,
    x: Activations<'a>,
    parts: *mut Part<'b>,
    count: usize,
}

// SAFETY: tasks write disjoint elements of the outputs, and read all else.
unsafe impl Sync for Call<'_, '_> {}

impl<'b> Call<'_, 'b> {
    fn run(&self) {
        let panels: usize = (0..self.count).map(|index| self.panels(index)).sum();
        let cut = Cut::new(self.x, panels);
        pool::run(cut.tasks * cut.bands, &|task| {
            let first = task / cut.bands * cut.panels;
            let band = task % cut.bands * cut.rows;
            let rows = band..(band + cut.rows).min(self.x.rows);
            self.task(first..(first + cut.panels).min(panels), &rows);
        });
    }

    fn panels(&self, index: usize) -> usize {
        // SAFETY: the part exists, and only the elements of its output change meanwhile.
        unsafe { (*self.parts.add(index)).panels() }
    }

    /// Panels of all parts, counted through.
    fn task(&self, panels: Range<usize>, rows: &Range<usize>) {
        let mut before = 0;
        for index in 0..self.count {
            let own = self.panels(index);
            let start = panels.start.clamp(before, before + own) - before;
            let end = panels.end.clamp(before, before + own) - before;
            before += own;
            if start == end {
                continue;
            }
            // SAFETY: as in `panels`; the output is only turned into a pointer.
            let (matrix, bias, out) = unsafe {
                let part = self.parts.add(index);
                let out = (&raw mut *(*part).out).cast::<f32>();
                ((*part).matrix, (*part).bias, out)
            };
            let job = |first: usize, columns: usize, from: Source| Job {
                x: self.x,
                rows: rows.clone(),
                from,
                columns,
                bias: bias.map(|bias| &bias[first..first + columns]),
                // SAFETY: the column lies in the output.
                out: unsafe { out.add(rows.start * matrix.n + first) },
                stride: matrix.n,
            };
            let (start, end) = (start * SIDE, (end * SIDE).min(matrix.n));
            let whole = start + (end - start) / SIDE * SIDE;
            if start < whole {
                let from = Source {
                    start: matrix.blocks[start * matrix.stride..].as_ptr(),
                    stride: matrix.stride,
                };
                self.dispatch(matrix.format, job(start, whole - start, from));
            }
            if whole < end {
                with_padding(matrix, whole, |from| {
                    self.dispatch(matrix.format, job(whole, end - whole, from));
                });
            }
        }
    }

    fn dispatch(&self, format: BlockFormat, job: Job<'_>) {
        match format {
            BlockFormat::Q4_0 => self.run_job::<Q4_0>(job),
            BlockFormat::Q4_1 => self.run_job::<Q4_1>(job),
            BlockFormat::Q5_0 => self.run_job::<Q5_0>(job),
            BlockFormat::Q5_1 => self.run_job::<Q5_1>(job),
            BlockFormat::Q8_0 => self.run_job::<Q8_0>(job),
            BlockFormat::Q4K => self.run_job::<Q4K>(job),
            BlockFormat::Q5K => self.run_job::<Q5K>(job),
            BlockFormat::Q6K => self.run_job::<Q6K>(job),
        }
    }

    fn run_job<F: Format>(&self, job: Job<'_>) {
        let format = PhantomData;
        if self.x.rows <= few::MOST {
            return self.instructions.run(Few::<F> { job, format });
        }
        if self.x.rows <= several::MOST {
            return self.instructions.run(Several::<F> { job, format });
        }
        room::with(&room::OF_TASK, many::lines(self.x.width), |room| {
            self.instructions.run(Many::<F> { job, room, format });
        });
    }
}

/// Copies the rows from `first` on, fewer than sixteen, and puts rows of zeros behind them.
fn with_padding(matrix: QuantMatrix<'_>, first: usize, work: impl FnOnce(Source)) {
    let row = matrix.k / matrix.format.numbers() * matrix.format.bytes();
    let lines = (SIDE * row).div_ceil(size_of::<Line>());
    room::with(&room::OF_REST, lines, |room| {
        room.fill(Line([0; SIDE]));
        let start = room.as_mut_ptr().cast::<u8>();
        for index in first..matrix.n {
            let from = &matrix.blocks[index * matrix.stride..][..row];
            // SAFETY: the room has sixteen rows.
            unsafe {
                let to = start.add((index - first) * row);
                to.copy_from_nonoverlapping(from.as_ptr(), row);
            }
        }
        work(Source { start, stride: row });
    });
}

/// How a call is cut into tasks: runs of panels, times bands of rows of `x`.
struct Cut {
    tasks: usize,
    panels: usize,
    bands: usize,
    rows: usize,
}

impl Cut {
    fn new(x: Activations<'_>, panels: usize) -> Self {
        let threads = pool::threads();
        let cost = x.rows * panels * SIDE * x.width * BLOCK;
        if threads == 1 || cost < parallel::WORTH_A_FORK {
            return Self {
                tasks: panels.min(1),
                panels,
                bands: 1,
                rows: x.rows,
            };
        }
        let wanted = threads * TASKS_PER_THREAD;
        let step = if x.rows <= several::MOST {
            1
        } else {
            many::PANELS
        };
        let run = panels.div_ceil(wanted).next_multiple_of(step);
        let tasks = panels.div_ceil(run);
        let bands = (wanted / tasks).clamp(1, x.rows.div_ceil(BAND));
        let rows = x.rows.div_ceil(bands);
        Self {
            tasks,
            panels: run,
            bands: x.rows.div_ceil(rows),
            rows,
        }
    }
}

/// Some rows of `x` against some rows of weights, for one thread.
struct Job<'a> {
    x: Activations<'a>,
    rows: Range<usize>,
    /// The weights: sixteen readable rows for each sixteen columns begun.
    from: Source,
    columns: usize,
    bias: Option<&'a [f32]>,
    /// The first output, and outputs from row to row.
    out: *mut f32,
    stride: usize,
}

impl Job<'_> {
    /// Writes up to sixteen outputs from `column` on, with the bias.
    ///
    /// # Safety
    /// As for [`Isa`]; row and column are the job's own.
    #[inline(always)]
    unsafe fn store<I: Isa>(&self, row: usize, column: usize, sums: I::Floats) {
        let mut line = Line([0; SIDE]);
        let columns = SIDE.min(self.columns - column);
        // SAFETY: promised by the caller.
        unsafe {
            I::store_floats(sums, &raw mut line);
            let out = self.out.add(row * self.stride + column);
            for index in 0..columns {
                let sum = f32::from_bits(line.0[index]);
                *out.add(index) = self.bias.map_or(sum, |bias| sum + bias[column + index]);
            }
        }
    }
}

/// Adds a block to the sums of sixteen outputs; `words` has the integer sums of the block, or of its halves.
///
/// # Safety
/// As for [`Isa`].
#[inline(always)]
unsafe fn add_block<I: Isa, K: Kind>(
    sums: I::Floats,
    words: [I::Words; 2],
    block: &Block,
    scales: [I::Floats; 2],
) -> I::Floats {
    let [first, second] = block.minus_sums;
    // SAFETY: promised by the caller.
    unsafe {
        let product = if K::HALVES {
            I::add_floats(
                I::multiply(without_offset::<I, K>(words[0], first), scales[0]),
                I::multiply(without_offset::<I, K>(words[1], second), scales[1]),
            )
        } else if K::MINIMA {
            I::add_floats(
                I::multiply(I::convert(words[0]), scales[0]),
                I::multiply(I::splat_float(block.minus_sum), scales[1]),
            )
        } else {
            I::multiply(without_offset::<I, K>(words[0], first + second), scales[0])
        };
        I::add_floats(sums, I::multiply(product, I::splat_float(block.scale)))
    }
}

/// Integer sums without the offset of the weights in them.
#[inline(always)]
unsafe fn without_offset<I: Isa, K: Kind>(words: I::Words, minus_sum: i32) -> I::Floats {
    // SAFETY: as for `Isa`.
    unsafe {
        let offset = I::shift_left(I::splat(minus_sum as u32), K::OFFSET);
        I::convert(I::add(words, offset))
    }
}
