//! Many rows of `x`: panels of weights are unpacked into the cache once and used for all of them.
//!
//! An unpacked block of sixteen rows has eight lines of bytes, four from each row, so that one vector of sums belongs to
//! sixteen outputs, and two lines of scales.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::activations::{BLOCK, Block};
use super::formats::{Format, Kind, Visit, Weights};
use super::isa::{Isa, Kernel, Line, SIDE, Tile};
use super::{Job, WORD, add_block};

/// Lines of bytes, and of all, in an unpacked block.
const BYTE_LINES: usize = BLOCK / WORD;
const LINES: usize = BYTE_LINES + 2;
/// Panels of sixteen weight rows that are unpacked at once.
pub(super) const PANELS: usize = 2;

/// Lines that a task needs to unpack rows of `width` blocks.
pub(super) fn lines(width: usize) -> usize {
    PANELS * width * LINES
}

/// A task with many rows.
pub(super) struct Many<'a, F> {
    pub(super) job: Job<'a>,
    /// As many as [`lines`] says.
    pub(super) room: &'a mut [Line],
    pub(super) format: PhantomData<F>,
}

impl<F: Format> Kernel for Many<'_, F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { job, room, .. } = self;
        let width = job.x.width;
        debug_assert_eq!(room.len(), lines(width));
        let panels = job.columns.div_ceil(SIDE);
        let mut panel = 0;
        // SAFETY: as for `Isa`; the job's operands exist, and the room is large enough.
        unsafe {
            while panel < panels {
                let count = PANELS.min(panels - panel);
                let mut unpack = Unpack::<F> {
                    to: room.as_mut_ptr(),
                    format: PhantomData,
                };
                for panel in panel..panel + count {
                    let from = job.from.at(panel * SIDE * job.from.stride);
                    for block in 0..width / F::BLOCKS {
                        F::read::<I, _>(from.at(block * F::BYTES), &mut unpack);
                    }
                }
                match I::TILE {
                    Tile::Large => large::<I, F::Kind>(&job, panel, count, room.as_ptr()),
                    Tile::Small => small::<I, F::Kind>(&job, panel, count, room.as_ptr()),
                }
                panel += count;
            }
        }
    }
}

struct Unpack<F> {
    to: *mut Line,
    format: PhantomData<F>,
}

impl<I: Isa, F: Format> Visit<I> for Unpack<F> {
    #[inline(always)]
    unsafe fn block(&mut self, weights: Weights<I>) {
        // SAFETY: the room has lines for every block.
        unsafe {
            for half in 0..2 {
                let words = I::transpose(weights.bytes[half]);
                for word in 0..4 {
                    I::store(words[word], self.to.add(4 * half + word));
                }
            }
            for index in 0..2 {
                I::store_floats(weights.scales[index], self.to.add(BYTE_LINES + index));
            }
            self.to = self.to.add(LINES);
        }
    }
}

/// Tiles of four rows and up to two panels.
#[inline(always)]
unsafe fn large<I: Isa, K: Kind>(job: &Job<'_>, panel: usize, count: usize, room: *const Line) {
    let rows = job.rows.len();
    let mut row = 0;
    // SAFETY: as for `tile`.
    unsafe {
        while row < rows {
            match (count, rows - row) {
                (1, 1) => tile::<I, K, 1, 1>(job, row, panel, room),
                (1, 2) => tile::<I, K, 2, 1>(job, row, panel, room),
                (1, 3) => tile::<I, K, 3, 1>(job, row, panel, room),
                (1, _) => tile::<I, K, 4, 1>(job, row, panel, room),
                (_, 1) => tile::<I, K, 1, 2>(job, row, panel, room),
                (_, 2) => tile::<I, K, 2, 2>(job, row, panel, room),
                (_, 3) => tile::<I, K, 3, 2>(job, row, panel, room),
                _ => tile::<I, K, 4, 2>(job, row, panel, room),
            }
            row += 4;
        }
    }
}

/// Tiles of two rows and one panel.
#[inline(always)]
unsafe fn small<I: Isa, K: Kind>(job: &Job<'_>, panel: usize, count: usize, room: *const Line) {
    let rows = job.rows.len();
    for offset in 0..count {
        let mut row = 0;
        // SAFETY: as for `tile`.
        unsafe {
            let room = room.add(offset * job.x.width * LINES);
            while row < rows {
                match rows - row {
                    1 => tile::<I, K, 1, 1>(job, row, panel + offset, room),
                    _ => tile::<I, K, 2, 1>(job, row, panel + offset, room),
                }
                row += 2;
            }
        }
    }
}

/// Rows `row..row + M` of the job against `N` panels from `panel` on, which begin at `room`.
///
/// # Safety
/// As for [`Isa`]; all this exists.
#[inline(always)]
unsafe fn tile<I: Isa, K: Kind, const M: usize, const N: usize>(
    job: &Job<'_>,
    row: usize,
    panel: usize,
    room: *const Line,
) {
    let width = job.x.width;
    // SAFETY: promised by the caller.
    unsafe {
        let first = (job.rows.start + row) * width;
        let (bytes, blocks) = (job.x.bytes.as_ptr(), job.x.blocks.as_ptr());
        let (bytes, blocks) = (bytes.add(first * BLOCK), blocks.add(first));
        let mut sums = [[I::splat_float(0.0); N]; M];
        for index in 0..width {
            let bytes = bytes.add(index * BLOCK);
            let lines = room.add(index * LINES);
            let mut words = [[[I::splat(0); N]; M]; 2];
            for half in 0..2 {
                // One sum for both halves, unless each has its own scale.
                let target = if K::HALVES { half } else { 0 };
                for word in 0..BYTE_LINES / 2 {
                    let word = half * BYTE_LINES / 2 + word;
                    let mut weights = [I::splat(0); N];
                    for n in 0..N {
                        weights[n] = I::load(lines.add(n * width * LINES + word));
                    }
                    for m in 0..M {
                        let x = bytes.add(m * width * BLOCK + word * WORD);
                        let x = I::splat(x.cast::<u32>().read_unaligned());
                        for n in 0..N {
                            let sum = &mut words[target][m][n];
                            *sum = if K::FULL {
                                I::dot::<true>(*sum, weights[n], x)
                            } else {
                                I::dot::<false>(*sum, weights[n], x)
                            };
                        }
                    }
                }
            }
            for n in 0..N {
                let scales = lines.add(n * width * LINES + BYTE_LINES);
                let scales = [I::load_floats(scales), I::load_floats(scales.add(1))];
                for m in 0..M {
                    let block: &Block = &*blocks.add(m * width + index);
                    let words = [words[0][m][n], words[1][m][n]];
                    sums[m][n] = add_block::<I, K>(sums[m][n], words, block, scales);
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                job.store::<I>(row + m, (panel + n) * SIDE, sums[m][n]);
            }
        }
    }
}
