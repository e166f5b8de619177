//! `y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n]` with weights in ggml's block formats, which lie in [`panels`].
//!
//! Activations become bytes with a scale for every 32 numbers (more where weights have one scale for a row), products are
//! summed in integers, and the blocks of a row are added up as floats from the first to the last: the same bits for any number of rows, threads and any
//! [instructions](isa). Weights are unpacked in registers, for as many rows of `x` as there are registers for.
#![allow(unsafe_code)]

mod activations;
mod formats;
mod isa;
pub(crate) mod panels;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tile;

use std::marker::PhantomData;
use std::ops::Range;

use activations::{Activations, BLOCK};
use formats::{Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8Row};
use isa::{Instructions, SIDE};
use tile::Job;

use super::{parallel, pool, scratch};
use crate::weights::BlockFormat;

/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// The least number of rows of `x` in a task, where matrices are so narrow that rows are divided too.
const BAND: usize = 32;

/// A matrix `[n, k]` of whole blocks in panels.
#[derive(Clone, Copy)]
pub(crate) struct QuantMatrix<'a> {
    pub(crate) format: BlockFormat,
    pub(crate) panels: &'a [u8],
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
    // Which blocks of `x` share a scale depends on the format, so neighbours of one kind are a call.
    let kind = |part: &Part<'_>| part.matrix.format == BlockFormat::Q8Row;
    for parts in parts.chunk_by_mut(|one, next| kind(one) == kind(next)) {
        let width = k / BLOCK;
        let shared = if kind(&parts[0]) {
            activations::shared(width)
        } else {
            1
        };
        scratch::with(activations::words(m, width), |room| {
            let x = Activations::new(x, width, shared, room, instructions);
            let call = Call {
                instructions,
                x,
                parts: parts.as_mut_ptr(),
                count: parts.len(),
            };
            call.run();
        });
    }
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

impl QuantMatrix<'_> {
    fn row_bytes(&self) -> usize {
        self.k / self.format.numbers() * self.format.bytes()
    }
}

impl Part<'_> {
    // SAFETY of all below rests on the asserts here.
    fn check(&self, m: usize, k: usize) {
        let QuantMatrix {
            format,
            panels,
            n,
            k: own,
        } = self.matrix;
        assert_eq!(own, k, "matrices of one input have one inner dimension");
        assert!(
            k.is_multiple_of(format.numbers()),
            "{k} numbers are no whole blocks of {format}"
        );
        assert!(
            panels.len() >= panels::rows(n) * self.matrix.row_bytes(),
            "[{n}, {k}] of {format} leaves {} bytes",
            panels.len()
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
            let bytes = SIDE * matrix.row_bytes();
            let first = start * SIDE;
            let columns = matrix.n.min(end * SIDE) - first;
            let task = Task {
                rows,
                panels: &matrix.panels[start * bytes..end * bytes],
                columns,
                bias: bias.map(|bias| &bias[first..first + columns]),
                // SAFETY: the column lies in the output.
                out: unsafe { out.add(first) },
                stride: matrix.n,
            };
            match matrix.format {
                BlockFormat::Q4_0 => self.multiply::<Q4_0>(&task),
                BlockFormat::Q4_1 => self.multiply::<Q4_1>(&task),
                BlockFormat::Q5_0 => self.multiply::<Q5_0>(&task),
                BlockFormat::Q5_1 => self.multiply::<Q5_1>(&task),
                BlockFormat::Q8_0 => self.multiply::<Q8_0>(&task),
                BlockFormat::Q8Row => self.multiply::<Q8Row>(&task),
                BlockFormat::Q4K => self.multiply::<Q4K>(&task),
                BlockFormat::Q5K => self.multiply::<Q5K>(&task),
                BlockFormat::Q6K => self.multiply::<Q6K>(&task),
            }
        }
    }

    fn multiply<F: Format>(&self, task: &Task<'_>) {
        scratch::with(tile::room::<F>(task.rows.len(), self.x.width), |room| {
            self.instructions.run(Job::<F> {
                x: self.x,
                task,
                room,
                format: PhantomData,
            });
        });
    }
}

/// Some rows of `x` against some panels, for one thread.
struct Task<'a> {
    rows: &'a Range<usize>,
    /// As many panels as the columns need.
    panels: &'a [u8],
    columns: usize,
    bias: Option<&'a [f32]>,
    /// The first output of the first row of `x`, and outputs from row to row.
    out: *mut f32,
    stride: usize,
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
        let run = panels.div_ceil(wanted);
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
