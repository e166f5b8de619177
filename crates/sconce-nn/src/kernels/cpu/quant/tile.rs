//! The inner loops: some rows of `x` against panels of weights. For few rows weights pass from memory through registers
//! once; for many they are unpacked into the cache first, unless they are bytes already.
//!
//! A vector of sums belongs to sixteen outputs of a row and begins with the bias, or ends with it where a row of weights
//! has one scale. Integers of a block are exact, and blocks
//! are added from the first to the last: the same bits for any number of rows at a time.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::ops::Range;

use super::Task;
use super::activations::{Activations, BLOCK, Block};
use super::formats::{Format, Kind, LINES, Source, Unpacked, unpack};
use super::isa::{Isa, Kernel, Line, SIDE};
use crate::kernels::cpu::parallel;

/// Bytes of `x` in a word, and words of a block.
const WORD: usize = 4;
const WORDS: usize = BLOCK / WORD;

/// How far ahead of the words at hand the first cache level is filled, in bytes, and the second: in their order, across the
/// pages where the processor stops guessing.
const NEAR: usize = 2 << 10;
const FAR: usize = 8 << 10;

/// So many rows are few where the halves of a block have their own sums.
const FEW_OF_HALVES: usize = 2;

/// Panels that are unpacked at once.
const PAIR: usize = 2;

/// A task with weights of that format.
pub(super) struct Job<'a, F> {
    pub(super) x: Activations<'a>,
    pub(super) task: &'a Task<'a>,
    /// As long as [`room`] says.
    pub(super) room: &'a mut [f32],
    pub(super) format: PhantomData<F>,
}

/// Numbers that a task with so many rows of so many blocks needs to unpack weights; lines have an alignment.
pub(super) fn room<F: Format>(rows: usize, width: usize) -> usize {
    if rows <= FEW_OF_HALVES || F::Kind::WHOLE_ROWS {
        return 0;
    }
    (PAIR * LINES * width + 1) * SIDE
}

impl<F: Format> Kernel for Job<'_, F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: the job's rows of `x` and its panels exist, and its outputs are its alone.
        unsafe {
            if self.task.rows.len() <= few::<I, F::Kind>() {
                self.run_few::<I>();
            } else if F::Kind::WHOLE_ROWS {
                self.run_in_place::<I>();
            } else {
                self.run_many::<I>();
            }
        }
    }
}

/// Rows that are few: as many as there are registers for, with sums of integers and of floats for each. Where the halves
/// of a block have sums of their own, unpacking takes the registers.
const fn few<I: Isa, K: Kind>() -> usize {
    if K::HALVES { FEW_OF_HALVES } else { I::ROWS }
}

/// Rows that are multiplied with a pair of panels at a time: fewer words of `x` and of weights are loaded for as many
/// products than with one.
const fn with_pairs<I: Isa, K: Kind>() -> usize {
    let rows = I::ROWS.div_ceil(PAIR);
    if K::HALVES {
        (rows * 2).div_ceil(3)
    } else {
        rows
    }
}

impl<F: Format> Job<'_, F> {
    /// The panels as they lie, from panel `first` on.
    fn in_place(&self, first: usize, from_memory: bool) -> Tiles<'_, F> {
        let panel_bytes = self.x.width / F::BLOCKS * F::BYTES;
        Tiles {
            x: self.x,
            task: self.task,
            panels: self.task.panels[first * panel_bytes..].as_ptr(),
            panel_bytes,
            column: first * SIDE,
            from_memory,
            format: PhantomData,
        }
    }

    #[inline(always)]
    unsafe fn run_few<I: Isa>(&self) {
        let tiles = self.in_place(0, true);
        for panel in 0..self.task.columns.div_ceil(SIDE) {
            // SAFETY: as for `Tiles::tile`.
            unsafe { tiles.one::<I>(self.task.rows, panel) };
        }
    }

    #[inline(always)]
    unsafe fn run_in_place<I: Isa>(&self) {
        let panels = self.task.columns.div_ceil(SIDE);
        for first in (0..panels).step_by(PAIR) {
            let tiles = self.in_place(first, false);
            // SAFETY: as for `Tiles::tile`.
            unsafe { tiles.strips::<I>(PAIR.min(panels - first)) };
        }
    }

    #[inline(always)]
    unsafe fn run_many<I: Isa>(self) {
        let width = self.x.width;
        let panels = self.task.columns.div_ceil(SIDE);
        let (packed, unpacked) = (width / F::BLOCKS * F::BYTES, width * LINES);
        // SAFETY: any bits are a line.
        let (_, room, _) = unsafe { self.room.align_to_mut::<Line>() };
        for first in (0..panels).step_by(PAIR) {
            let count = PAIR.min(panels - first);
            for index in 0..count {
                let from = &self.task.panels[(first + index) * packed..][..packed];
                let to = &mut room[index * unpacked..][..unpacked];
                // SAFETY: the slices are as long as a panel, packed and unpacked.
                unsafe { unpack::<I, F>(Source(from.as_ptr()), width, to.as_mut_ptr()) };
            }
            let tiles = Tiles::<Unpacked<F::Kind>> {
                x: self.x,
                task: self.task,
                panels: room.as_ptr().cast(),
                panel_bytes: unpacked * size_of::<Line>(),
                column: first * SIDE,
                from_memory: false,
                format: PhantomData,
            };
            // SAFETY: as for `Tiles::tile`.
            unsafe { tiles.strips::<I>(count) };
        }
    }
}

/// Panels of one form.
struct Tiles<'a, F> {
    x: Activations<'a>,
    task: &'a Task<'a>,
    panels: *const u8,
    /// From panel to panel.
    panel_bytes: usize,
    /// The first column of the first panel.
    column: usize,
    /// Whether the panels are asked for ahead.
    from_memory: bool,
    format: PhantomData<F>,
}

impl<F: Format> Tiles<'_, F> {
    /// All rows against the first `count` panels, one or two.
    #[inline(always)]
    unsafe fn strips<I: Isa>(&self, count: usize) {
        let strips = self.task.rows.len().div_ceil(with_pairs::<I, F::Kind>());
        for strip in 0..strips {
            let rows = parallel::share(self.task.rows, strip, strips);
            // SAFETY: as for `tile`.
            unsafe {
                if count == PAIR {
                    self.pair::<I>(&rows);
                } else {
                    self.one::<I>(&rows, 0);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pair<I: Isa>(&self, rows: &Range<usize>) {
        // SAFETY: as for `tile`.
        unsafe {
            match rows.len() {
                1 => self.tile::<I, 1, PAIR>(rows.start, 0),
                2 if I::ROWS >= 4 => self.tile::<I, 2, PAIR>(rows.start, 0),
                3 if I::ROWS >= 6 => self.tile::<I, 3, PAIR>(rows.start, 0),
                4 if I::ROWS >= 8 => self.tile::<I, 4, PAIR>(rows.start, 0),
                5 if I::ROWS >= 10 => self.tile::<I, 5, PAIR>(rows.start, 0),
                6 if I::ROWS >= 12 => self.tile::<I, 6, PAIR>(rows.start, 0),
                _ => unreachable!("no more rows than there are registers for"),
            }
        }
    }

    #[inline(always)]
    unsafe fn one<I: Isa>(&self, rows: &Range<usize>, panel: usize) {
        // SAFETY: as for `tile`.
        unsafe {
            match rows.len() {
                1 => self.tile::<I, 1, 1>(rows.start, panel),
                2 => self.tile::<I, 2, 1>(rows.start, panel),
                3 if I::ROWS >= 3 => self.tile::<I, 3, 1>(rows.start, panel),
                4 if I::ROWS >= 4 => self.tile::<I, 4, 1>(rows.start, panel),
                5 if I::ROWS >= 5 => self.tile::<I, 5, 1>(rows.start, panel),
                6 if I::ROWS >= 6 => self.tile::<I, 6, 1>(rows.start, panel),
                7 if I::ROWS >= 7 => self.tile::<I, 7, 1>(rows.start, panel),
                8 if I::ROWS >= 8 => self.tile::<I, 8, 1>(rows.start, panel),
                9 if I::ROWS >= 9 => self.tile::<I, 9, 1>(rows.start, panel),
                10 if I::ROWS >= 10 => self.tile::<I, 10, 1>(rows.start, panel),
                11 if I::ROWS >= 11 => self.tile::<I, 11, 1>(rows.start, panel),
                12 if I::ROWS >= 12 => self.tile::<I, 12, 1>(rows.start, panel),
                _ => unreachable!("no more rows than there are registers for"),
            }
        }
    }

    /// Rows `row..row + M` of `x` against `N` panels.
    ///
    /// # Safety
    /// As for [`Isa`]; all this exists.
    #[inline(always)]
    unsafe fn tile<I: Isa, const M: usize, const N: usize>(&self, row: usize, panel: usize) {
        if F::Kind::WHOLE_ROWS {
            // SAFETY: promised by the caller.
            unsafe { self.tile_of_whole_rows::<I, M, N>(row, panel) };
            return;
        }
        let width = self.x.width;
        // SAFETY: promised by the caller; addresses ahead are not read.
        unsafe {
            let first = row * width;
            let bytes = self.x.bytes.as_ptr().add(first * BLOCK);
            let blocks = self.x.blocks.as_ptr().add(first);
            let panels = self.panels.add(panel * self.panel_bytes);
            let mut sums = [self.begin::<I, N>(panel); M];
            for own in 0..width / F::BLOCKS {
                let mut from = [Source(panels.add(own * F::BYTES)); N];
                for n in 1..N {
                    from[n] = Source(from[0].0.add(n * self.panel_bytes));
                }
                for block in 0..F::BLOCKS {
                    if self.from_memory {
                        ask::<I, F>(from[0], block);
                    }
                    let index = own * F::BLOCKS + block;
                    let x = Rows {
                        bytes: bytes.add(index * BLOCK),
                        blocks: blocks.add(index),
                        width,
                    };
                    x.add_block::<I, F, M, N>(&mut sums, from, block);
                }
            }
            self.end::<I, M, N>(row, panel, sums);
        }
    }

    /// The same where each row of weights has one scale: integers are added up over the blocks of `x` that share one.
    ///
    /// # Safety
    /// As for [`Self::tile`].
    #[inline(always)]
    unsafe fn tile_of_whole_rows<I: Isa, const M: usize, const N: usize>(
        &self,
        row: usize,
        panel: usize,
    ) {
        let Activations { width, shared, .. } = self.x;
        // SAFETY: promised by the caller; addresses ahead are not read.
        unsafe {
            let mut x = Rows {
                bytes: self.x.bytes.as_ptr().add(row * width * BLOCK),
                blocks: self.x.blocks.as_ptr().add(row * width),
                width,
            };
            let mut from = [Source(self.panels.add(panel * self.panel_bytes)); N];
            for n in 1..N {
                from[n] = Source(from[0].0.add(n * self.panel_bytes));
            }
            let mut scales = [I::splat_float(0.0); N];
            for n in 0..N {
                scales[n] = F::scales::<I>(from[n], 0)[0];
            }
            let mut sums = [[I::splat_float(0.0); N]; M];
            for _ in 0..width / shared {
                let mut words = [[I::splat(0); N]; M];
                for m in 0..M {
                    let minus_sum = (*x.blocks.add(m * width)).minus_sum;
                    words[m] = [offset::<I, F::Kind>(minus_sum); N];
                }
                for _ in 0..shared {
                    if self.from_memory {
                        ask::<I, F>(from[0], 0);
                    }
                    for index in 0..WORDS {
                        x.add_word::<I, F, M, N>(&mut words, from, 0, index);
                    }
                    x.bytes = x.bytes.add(BLOCK);
                    for n in 0..N {
                        from[n] = Source(from[n].0.add(F::BYTES));
                    }
                }
                for m in 0..M {
                    let scale = I::splat_float((*x.blocks.add(m * width)).scale);
                    for n in 0..N {
                        sums[m][n] = I::multiply_add(I::convert(words[m][n]), scale, sums[m][n]);
                    }
                }
                x.blocks = x.blocks.add(shared);
            }
            let bias = self.begin::<I, N>(panel);
            for m in 0..M {
                for n in 0..N {
                    sums[m][n] = I::multiply_add(sums[m][n], scales[n], bias[n]);
                }
            }
            self.end::<I, M, N>(row, panel, sums);
        }
    }

    /// What outputs have of the bias.
    #[inline(always)]
    unsafe fn begin<I: Isa, const N: usize>(&self, panel: usize) -> [I::Floats; N] {
        // SAFETY: as for `Isa`.
        unsafe {
            let mut sums = [I::splat_float(0.0); N];
            if let Some(bias) = self.task.bias {
                for n in 0..N {
                    let bias = &bias[self.column + (panel + n) * SIDE..];
                    let count = SIDE.min(bias.len());
                    let mut line = [0.0; SIDE];
                    line[..count].copy_from_slice(&bias[..count]);
                    sums[n] = I::load_floats(line.as_ptr().cast());
                }
            }
            sums
        }
    }

    /// Writes outputs; the last panel may have fewer than sixteen columns.
    #[inline(always)]
    unsafe fn end<I: Isa, const M: usize, const N: usize>(
        &self,
        row: usize,
        panel: usize,
        sums: [[I::Floats; N]; M],
    ) {
        for n in 0..N {
            let column = self.column + (panel + n) * SIDE;
            let columns = self.task.columns - column;
            for m in 0..M {
                // SAFETY: row and columns are the job's own.
                unsafe {
                    let out = self.task.out.add((row + m) * self.task.stride + column);
                    if columns >= SIDE {
                        I::store_floats(sums[m][n], out);
                    } else {
                        let mut line = [0.0; SIDE];
                        I::store_floats(sums[m][n], line.as_mut_ptr());
                        out.copy_from_nonoverlapping(line.as_ptr(), columns);
                    }
                }
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
    /// Adds the products of a word of each row of `x` with four weights of each output.
    #[inline(always)]
    unsafe fn add_word<I: Isa, F: Format, const M: usize, const N: usize>(
        &self,
        sums: &mut [[I::Words; N]; M],
        from: [Source; N],
        block: usize,
        index: usize,
    ) {
        // SAFETY: promised by the caller of `tile`.
        unsafe {
            let mut weights = [I::splat(0); N];
            for n in 0..N {
                weights[n] = F::weights::<I>(from[n], block, index);
            }
            for m in 0..M {
                let x = self.bytes.add(m * self.width * BLOCK + index * WORD);
                let x = I::splat(x.cast::<u32>().read_unaligned());
                for n in 0..N {
                    let sum = &mut sums[m][n];
                    *sum = if F::Kind::FULL {
                        I::dot::<true>(*sum, weights[n], x)
                    } else {
                        I::dot::<false>(*sum, weights[n], x)
                    };
                }
            }
        }
    }

    /// Adds the products with block `block` of the weights of `N` panels.
    #[inline(always)]
    unsafe fn add_block<I: Isa, F: Format, const M: usize, const N: usize>(
        &self,
        sums: &mut [[I::Floats; N]; M],
        from: [Source; N],
        block: usize,
    ) {
        // SAFETY: promised by the caller of `tile`.
        unsafe {
            // One sum for both halves, unless each has its own scale.
            let mut words = [[[I::splat(0); N]; M]; 2];
            for m in 0..M {
                let minus = &*self.blocks.add(m * self.width);
                if F::Kind::HALVES {
                    words[0][m] = [offset::<I, F::Kind>(minus.minus_sums[0]); N];
                    words[1][m] = [offset::<I, F::Kind>(minus.minus_sums[1]); N];
                } else if !F::Kind::MINIMA {
                    words[0][m] = [offset::<I, F::Kind>(minus.minus_sum); N];
                }
            }
            for index in 0..WORDS {
                let half = if F::Kind::HALVES { index / 4 } else { 0 };
                self.add_word::<I, F, M, N>(&mut words[half], from, block, index);
            }
            for n in 0..N {
                let scales = F::scales::<I>(from[n], block);
                for m in 0..M {
                    let block = &*self.blocks.add(m * self.width);
                    let scale = I::splat_float(block.scale);
                    let mut sum = sums[m][n];
                    if F::Kind::MINIMA {
                        let minus_sum = I::splat_float(block.scale * block.minus_sum as f32);
                        sum = I::multiply_add(minus_sum, scales[1], sum);
                    }
                    for half in 0..=usize::from(F::Kind::HALVES) {
                        let scale = I::multiply(scale, scales[half]);
                        sum = I::multiply_add(I::convert(words[half][m][n]), scale, sum);
                    }
                    sums[m][n] = sum;
                }
            }
        }
    }
}

/// What the offset of the weights has to be taken from: sums begin with it.
#[inline(always)]
unsafe fn offset<I: Isa, K: Kind>(minus_sum: i32) -> I::Words {
    // SAFETY: as for `Isa`.
    unsafe {
        if K::FULL && I::SIGNED {
            I::splat(0)
        } else {
            I::shift_left(I::splat(minus_sum as u32), K::OFFSET)
        }
    }
}
