//! Few rows of `x`: the weights stream from memory once, through registers only.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::activations::{BLOCK, Block};
use super::formats::{Format, Kind, Visit, Weights};
use super::isa::{Isa, Kernel, Rows, SIDE};
use super::{Ahead, Job, add_block};

/// So many rows of `x` are few.
pub(super) const MOST: usize = 2;

/// A task with few rows.
pub(super) struct Few<'a, F> {
    pub(super) job: Job<'a>,
    pub(super) format: PhantomData<F>,
}

impl<F: Format> Kernel for Few<'_, F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as for `Isa`; the job's operands exist.
        unsafe {
            match self.job.rows.len() {
                1 => rows::<I, F, 1>(&self.job),
                _ => rows::<I, F, MOST>(&self.job),
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<I: Isa, F: Format, const M: usize>(job: &Job<'_>) {
    let width = job.x.width;
    for panel in 0..job.columns.div_ceil(SIDE) {
        // SAFETY: the job's rows of `x` and its weights exist.
        unsafe {
            let from = job.from.at(panel * SIDE * job.from.stride);
            let first = job.rows.start * width;
            let mut dots = Dots::<I, F, M> {
                bytes: job.x.bytes.as_ptr().add(first * BLOCK),
                blocks: job.x.blocks.as_ptr().add(first),
                width,
                ahead: Ahead::of::<F>(from),
                sums: [I::splat_float(0.0); M],
                format: PhantomData,
            };
            for block in 0..width / F::BLOCKS {
                F::read::<I, _>(from.at(block * F::BYTES), &mut dots);
            }
            for row in 0..M {
                job.store::<I>(row, panel * SIDE, dots.sums[row]);
            }
        }
    }
}

/// The sums of `M` rows of `x` with sixteen rows of weights.
struct Dots<I: Isa, F, const M: usize> {
    /// The current block of the first row.
    bytes: *const i8,
    blocks: *const Block,
    /// Blocks from row to row.
    width: usize,
    ahead: Ahead,
    sums: [I::Floats; M],
    format: PhantomData<F>,
}

impl<I: Isa, F: Format, const M: usize> Visit<I> for Dots<I, F, M> {
    #[inline(always)]
    unsafe fn block(&mut self, weights: Weights<I>) {
        // SAFETY: the block lies in the rows of `x`; addresses ahead are not read.
        unsafe {
            self.ahead.fetch::<I>();
            for row in 0..M {
                let x = self.bytes.add(row * self.width * BLOCK).cast::<[i8; 16]>();
                let x = [I::repeat(x), I::repeat(x.add(1))];
                let none = [I::splat(0); 4];
                let first = dot::<I, F>(none, weights.bytes[0], x[0]);
                let sums = if F::Kind::HALVES {
                    let last = dot::<I, F>(none, weights.bytes[1], x[1]);
                    [I::sum_rows(first), I::sum_rows(last)]
                } else {
                    [I::sum_rows(dot::<I, F>(first, weights.bytes[1], x[1])); 2]
                };
                let block = &*self.blocks.add(row * self.width);
                self.sums[row] =
                    add_block::<I, F::Kind>(self.sums[row], sums, block, weights.scales);
            }
            self.bytes = self.bytes.add(BLOCK);
            self.blocks = self.blocks.add(1);
        }
    }
}

#[inline(always)]
unsafe fn dot<I: Isa, F: Format>(mut sums: Rows<I>, weights: Rows<I>, x: I::Words) -> Rows<I> {
    for row in 0..4 {
        // SAFETY: as for `Isa`.
        sums[row] = unsafe {
            if F::Kind::FULL {
                I::dot::<true>(sums[row], weights[row], x)
            } else {
                I::dot::<false>(sums[row], weights[row], x)
            }
        };
    }
    sums
}
