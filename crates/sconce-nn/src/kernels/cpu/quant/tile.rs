//! The inner loops: some rows of `x` against panels of weights, whose words pass through registers once for all of them.
//!
//! A vector of sums belongs to sixteen outputs of a row. Integers of a block are exact, and blocks are added from the first
//! to the last: the same bits for any number of rows at a time.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::ops::Range;

use super::Task;
use super::activations::{Activations, BLOCK, Block};
use super::formats::{Format, Kind, Source};
use super::isa::{Isa, Kernel, Line, SIDE};

/// Bytes of `x` in a word, and words of a block.
const WORD: usize = 4;
const WORDS: usize = BLOCK / WORD;

/// Bytes of panels that are read again for the next rows of `x`, while the next as many come from memory. Few, so that
/// memory is never waited for long.
const GROUP_BYTES: usize = 64 << 10;

/// How far ahead of the words at hand the first cache level is filled, in bytes, and the second: in their order, across the
/// pages where the processor stops guessing.
const NEAR: usize = 2 << 10;
const FAR: usize = 8 << 10;

/// The most rows at a time of any instructions.
const MOST: usize = 12;

/// A task with weights of that format.
pub(super) struct Job<'a, F> {
    pub(super) x: Activations<'a>,
    pub(super) task: &'a Task<'a>,
    pub(super) format: PhantomData<F>,
}

impl<F: Format> Kernel for Job<'_, F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let panels = self.task.columns.div_ceil(SIDE);
        let bytes = self.x.width / F::BLOCKS * F::BYTES;
        let strips = self.task.rows.len().div_ceil(most::<I, F::Kind>());
        let group = match strips {
            // Every weight is read once.
            1 => panels,
            _ => (GROUP_BYTES / bytes.max(1)).max(1),
        };
        for first in (0..panels).step_by(group.max(1)) {
            for strip in 0..strips {
                let rows = share(self.task.rows, strip, strips);
                for panel in first..panels.min(first + group) {
                    // SAFETY: the job's rows of `x` and its panels exist, and its outputs are its alone.
                    unsafe { self.strip::<I>(&rows, panel) };
                }
            }
        }
    }
}

/// Rows at a time: as many as there are registers for, with sums of integers and of floats for each.
const fn most<I: Isa, K: Kind>() -> usize {
    match K::HALVES {
        true => I::ROWS.div_ceil(3) * 2,
        false => I::ROWS,
    }
}

/// Part `index` of a range that is cut into `count` parts of nearly the same length.
fn share(range: &Range<usize>, index: usize, count: usize) -> Range<usize> {
    let at = |index| range.start + range.len() * index / count;
    at(index)..at(index + 1)
}

impl<F: Format> Job<'_, F> {
    #[inline(always)]
    unsafe fn strip<I: Isa>(&self, rows: &Range<usize>, panel: usize) {
        // SAFETY: as for `tile`.
        unsafe {
            match rows.len() {
                1 => self.tile::<I, 1>(rows.start, panel),
                2 => self.tile::<I, 2>(rows.start, panel),
                3 if I::ROWS >= 3 => self.tile::<I, 3>(rows.start, panel),
                4 if I::ROWS >= 4 => self.tile::<I, 4>(rows.start, panel),
                5 if I::ROWS >= 5 => self.tile::<I, 5>(rows.start, panel),
                6 if I::ROWS >= 6 => self.tile::<I, 6>(rows.start, panel),
                7 if I::ROWS >= 7 => self.tile::<I, 7>(rows.start, panel),
                8 if I::ROWS >= 8 => self.tile::<I, 8>(rows.start, panel),
                9 if I::ROWS >= 9 => self.tile::<I, 9>(rows.start, panel),
                10 if I::ROWS >= 10 => self.tile::<I, 10>(rows.start, panel),
                11 if I::ROWS >= 11 => self.tile::<I, 11>(rows.start, panel),
                MOST if I::ROWS >= MOST => self.tile::<I, MOST>(rows.start, panel),
                _ => unreachable!("strips have at most as many rows as there are registers for"),
            }
        }
    }

    /// Rows `row..row + M` of `x` against a panel.
    ///
    /// # Safety
    /// As for [`Isa`]; all this exists.
    #[inline(always)]
    unsafe fn tile<I: Isa, const M: usize>(&self, row: usize, panel: usize) {
        let width = self.x.width;
        // SAFETY: promised by the caller; addresses ahead are not read.
        unsafe {
            let first = row * width;
            let bytes = self.x.bytes.as_ptr().add(first * BLOCK);
            let blocks = self.x.blocks.as_ptr().add(first);
            let own_blocks = width / F::BLOCKS;
            let panel_at = self.task.panels.as_ptr().add(panel * own_blocks * F::BYTES);
            let mut sums = [I::splat_float(0.0); M];
            for own in 0..own_blocks {
                let from = Source(panel_at.add(own * F::BYTES));
                for block in 0..F::BLOCKS {
                    ask::<I, F>(from, block);
                    let index = own * F::BLOCKS + block;
                    let x = Rows {
                        bytes: bytes.add(index * BLOCK),
                        blocks: blocks.add(index),
                        width,
                    };
                    x.add_block::<I, F, M>(&mut sums, from, block);
                }
            }
            for m in 0..M {
                self.store::<I>(row + m, panel * SIDE, sums[m]);
            }
        }
    }

    /// Writes up to sixteen outputs from `column` on, with the bias.
    #[inline(always)]
    unsafe fn store<I: Isa>(&self, row: usize, column: usize, sums: I::Floats) {
        let mut line = Line([0; SIDE]);
        let columns = SIDE.min(self.task.columns - column);
        // SAFETY: row and column are the job's own.
        unsafe {
            I::store_floats(sums, &raw mut line);
            let out = self.task.out.add(row * self.task.stride + column);
            for index in 0..columns {
                let sum = f32::from_bits(line.0[index]);
                *out.add(index) = self
                    .task
                    .bias
                    .map_or(sum, |bias| sum + bias[column + index]);
            }
        }
    }
}

/// Asks for as much as a block of 32 takes.
#[inline(always)]
unsafe fn ask<I: Isa, F: Format>(from: Source, block: usize) {
    let bytes = F::BYTES / F::BLOCKS;
    for line in 0..bytes.div_ceil(size_of::<Line>()) {
        let at = from
            .0
            .wrapping_add(block * bytes + line * size_of::<Line>());
        // SAFETY: as for `Isa`; nothing is read.
        unsafe {
            I::prefetch(at.wrapping_add(NEAR));
            I::prefetch_to_second_level(at.wrapping_add(FAR));
        }
    }
}

/// A block of rows of `x`.
struct Rows {
    bytes: *const i8,
    blocks: *const Block,
    /// Blocks from row to row.
    width: usize,
}

impl Rows {
    /// Adds the products with block `block` of weights.
    #[inline(always)]
    unsafe fn add_block<I: Isa, F: Format, const M: usize>(
        &self,
        sums: &mut [I::Floats; M],
        from: Source,
        block: usize,
    ) {
        // SAFETY: promised by the caller of `tile`.
        unsafe {
            // One sum for both halves, unless each has its own scale.
            let mut words = [[I::splat(0); M]; 2];
            for m in 0..M {
                let minus = &*self.blocks.add(m * self.width);
                if F::Kind::HALVES {
                    words[0][m] = offset::<I, F::Kind>(minus.minus_sums[0]);
                    words[1][m] = offset::<I, F::Kind>(minus.minus_sums[1]);
                } else if !F::Kind::MINIMA {
                    words[0][m] = offset::<I, F::Kind>(minus.minus_sum);
                }
            }
            for index in 0..WORDS {
                let weights = F::weights::<I>(from, block, index);
                let half = if F::Kind::HALVES { index / 4 } else { 0 };
                for m in 0..M {
                    let x = self.bytes.add(m * self.width * BLOCK + index * WORD);
                    let x = I::splat(x.cast::<u32>().read_unaligned());
                    let sum = &mut words[half][m];
                    *sum = if F::Kind::FULL {
                        I::dot::<true>(*sum, weights, x)
                    } else {
                        I::dot::<false>(*sum, weights, x)
                    };
                }
            }
            let scales = F::scales::<I>(from, block);
            for m in 0..M {
                let block = &*self.blocks.add(m * self.width);
                let first = I::multiply(I::convert(words[0][m]), scales[0]);
                let product = if F::Kind::HALVES {
                    let last = I::multiply(I::convert(words[1][m]), scales[1]);
                    I::add_floats(first, last)
                } else if F::Kind::MINIMA {
                    let sum = I::convert(I::splat(block.minus_sum as u32));
                    I::add_floats(first, I::multiply(sum, scales[1]))
                } else {
                    first
                };
                let product = I::multiply(product, I::splat_float(block.scale));
                sums[m] = I::add_floats(sums[m], product);
            }
        }
    }
}

/// What the offset of the weights has to be taken from: sums begin with it.
#[inline(always)]
unsafe fn offset<I: Isa, K: Kind>(minus_sum: i32) -> I::Words {
    // SAFETY: as for `Isa`.
    unsafe { I::shift_left(I::splat(minus_sum as u32), K::OFFSET) }
}
