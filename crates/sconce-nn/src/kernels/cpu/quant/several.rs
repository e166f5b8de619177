//! Several rows of `x`: the weights stream from memory once, through registers only, turned so that one vector of sums
//! belongs to sixteen outputs.
//!
//! Turning a block costs as much as two rows of `x`, adding up its rows afterwards as in [`few`](super::few) one row each.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::activations::{BLOCK, Block};
use super::formats::{Format, Kind, Visit, Weights};
use super::isa::{Isa, Kernel, Line, SIDE};
use super::{Ahead, Job, WORD, add_block};

/// So many rows of `x` are several.
pub(super) const MOST: usize = 16;

/// A task with several rows.
pub(super) struct Several<'a, F> {
    pub(super) job: Job<'a>,
    pub(super) format: PhantomData<F>,
}

impl<F: Format> Kernel for Several<'_, F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let job = self.job;
        let (width, rows) = (job.x.width, job.rows.len());
        debug_assert!(rows <= MOST);
        for panel in 0..job.columns.div_ceil(SIDE) {
            // SAFETY: as for `Isa`; the job's rows of `x` and its weights exist.
            unsafe {
                let from = job.from.at(panel * SIDE * job.from.stride);
                let first = job.rows.start * width;
                let mut dots = Dots::<F> {
                    bytes: job.x.bytes.as_ptr().add(first * BLOCK),
                    blocks: job.x.blocks.as_ptr().add(first),
                    width,
                    rows,
                    ahead: Ahead::of::<F>(from),
                    sums: [Line([0; SIDE]); MOST],
                    format: PhantomData,
                };
                for block in 0..width / F::BLOCKS {
                    F::read::<I, _>(from.at(block * F::BYTES), &mut dots);
                }
                for row in 0..rows {
                    job.store::<I>(row, panel * SIDE, I::load_floats(&raw const dots.sums[row]));
                }
            }
        }
    }
}

/// The sums of several rows of `x` with sixteen rows of weights.
struct Dots<F> {
    /// The current block of the first row.
    bytes: *const i8,
    blocks: *const Block,
    /// Blocks from row to row.
    width: usize,
    rows: usize,
    ahead: Ahead,
    /// Floats, in the first-level cache: registers are taken by the weights, and a loop over any number of rows is one
    /// piece of code.
    sums: [Line; MOST],
    format: PhantomData<F>,
}

impl<I: Isa, F: Format> Visit<I> for Dots<F> {
    #[inline(always)]
    unsafe fn block(&mut self, weights: Weights<I>) {
        // SAFETY: the block lies in the rows of `x`; addresses ahead are not read.
        unsafe {
            self.ahead.fetch::<I>();
            let halves = [
                I::transpose(weights.bytes[0]),
                I::transpose(weights.bytes[1]),
            ];
            let (mut bytes, mut blocks) = (self.bytes, self.blocks);
            for sums in &mut self.sums[..self.rows] {
                let mut words = [I::splat(0); 2];
                for half in 0..2 {
                    // One sum for both halves, unless each has its own scale.
                    let target = if F::Kind::HALVES { half } else { 0 };
                    for word in 0..4 {
                        let x = bytes.add((4 * half + word) * WORD).cast::<u32>();
                        let x = I::splat(x.read_unaligned());
                        let sum = &mut words[target];
                        *sum = if F::Kind::FULL {
                            I::dot::<true>(*sum, halves[half][word], x)
                        } else {
                            I::dot::<false>(*sum, halves[half][word], x)
                        };
                    }
                }
                let sum = I::load_floats(&raw const *sums);
                let sum = add_block::<I, F::Kind>(sum, words, &*blocks, weights.scales);
                I::store_floats(sum, &raw mut *sums);
                bytes = bytes.add(self.width * BLOCK);
                blocks = blocks.add(self.width);
            }
            self.bytes = self.bytes.add(BLOCK);
            self.blocks = self.blocks.add(1);
        }
    }
}
