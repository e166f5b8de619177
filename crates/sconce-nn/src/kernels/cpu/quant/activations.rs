//! Activations as bytes: every 32 numbers of a row share a scale, as in ggml's q8_0, but one of single precision. For
//! weights with one scale for a row more of them do, so that products are integers for longer.
#![allow(unsafe_code)]

use super::isa::{Instructions, Isa, Kernel, SIDE};
use crate::kernels::cpu::parallel::{self, Shared};
use crate::kernels::cpu::pool;

/// Numbers that share a scale.
pub(super) const BLOCK: usize = 32;

/// Added to a number below 2^22, it leaves the nearest integer, the even one of two, in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

/// The largest byte.
const LARGEST: f32 = 127.0;

/// Blocks whose numbers are all smaller count as zero: dividing by their scale could overflow.
const SMALLEST: f32 = f32::MIN_POSITIVE * 256.0;

/// Elementary operations that quantising takes for each number.
const COST: usize = 2;

/// The most blocks that share a scale.
const MOST_SHARED: usize = 8;

/// What belongs to the bytes of a block.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Block {
    pub(super) scale: f32,
    /// The negated sum of the bytes; negated, so that offsets of weights are added. The first of blocks that share a scale
    /// has the sum of all.
    pub(super) minus_sum: i32,
    /// The same for the first and the last 16 bytes.
    pub(super) minus_sums: [i32; 2],
}

/// Rows of quantised activations.
#[derive(Clone, Copy)]
pub(super) struct Activations<'a> {
    pub(super) bytes: &'a [i8],
    pub(super) blocks: &'a [Block],
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) width: usize,
    /// Neighbours that share a scale.
    pub(super) shared: usize,
}

/// Words of memory that `rows` rows of `width` blocks take.
pub(super) fn words(rows: usize, width: usize) -> usize {
    rows * width * (BLOCK + size_of::<Block>()) / size_of::<f32>()
}

/// How many of the `width` blocks of a row share a scale where they may: as many as divide the row evenly.
pub(super) fn shared(width: usize) -> usize {
    let even = |count: &usize| width.is_multiple_of(*count);
    (1..=MOST_SHARED).rev().find(even).unwrap_or(1)
}

impl<'a> Activations<'a> {
    /// Quantises rows of `width` blocks, of which `shared` neighbours share a scale, into [`words`] of memory.
    pub(super) fn new(
        x: &[f32],
        width: usize,
        shared: usize,
        room: &'a mut [f32],
        instructions: Instructions,
    ) -> Self {
        let rows = x.len() / (width * BLOCK);
        let count = rows * width;
        debug_assert_eq!((x.len(), room.len()), (count * BLOCK, words(rows, width)));
        // SAFETY: any bits are a byte or a block, words are aligned for both, and `words` counts room for both.
        let (bytes, blocks) = unsafe {
            let start = room.as_mut_ptr().cast::<i8>();
            (
                std::slice::from_raw_parts_mut(start, count * BLOCK),
                std::slice::from_raw_parts_mut(start.add(count * BLOCK).cast::<Block>(), count),
            )
        };
        let (tasks, run) = parallel::cut(rows, width * BLOCK * COST);
        let (all_bytes, all_blocks) = (Shared::new(bytes), Shared::new(blocks));
        pool::run(tasks, &|task| {
            let first = task * run * width;
            let len = (run * width).min(count - first);
            // SAFETY: the runs of tasks do not overlap.
            let (bytes, blocks) = unsafe {
                (
                    all_bytes.part(first * BLOCK, len * BLOCK),
                    all_blocks.part(first, len),
                )
            };
            instructions.run(Quantise {
                x: &x[first * BLOCK..][..len * BLOCK],
                bytes,
                blocks,
                shared,
            });
        });
        Self {
            bytes,
            blocks,
            rows,
            width,
            shared,
        }
    }
}

struct Quantise<'a> {
    x: &'a [f32],
    bytes: &'a mut [i8],
    blocks: &'a mut [Block],
    shared: usize,
}

impl Kernel for Quantise<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let x = self.x.as_chunks::<BLOCK>().0.chunks_exact(self.shared);
        let bytes = self.bytes.as_chunks_mut::<BLOCK>().0;
        let bytes = bytes.chunks_exact_mut(self.shared);
        let blocks = self.blocks.chunks_exact_mut(self.shared);
        for ((x, bytes), blocks) in x.zip(bytes).zip(blocks) {
            // SAFETY: promised by the caller.
            unsafe { quantise::<I>(x, bytes, blocks) };
        }
    }
}

/// Blocks that share a scale.
///
/// # Safety
/// As for [`Isa`].
#[inline(always)]
unsafe fn quantise<I: Isa>(x: &[[f32; BLOCK]], bytes: &mut [[i8; BLOCK]], blocks: &mut [Block]) {
    // Bits without the sign are ordered as the numbers are, with infinity and what is no number above all.
    let largest = x.iter().fold(0, |most: u32, x| {
        // SAFETY: promised by the caller.
        most.max(unsafe { largest::<I>(x) })
    });
    let largest = f32::from_bits(largest);
    let (scale, inverse) = if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / LARGEST, LARGEST / largest)
    };
    let mut minus_sum = 0;
    for ((x, bytes), block) in x.iter().zip(bytes).zip(&mut *blocks) {
        // SAFETY: promised by the caller.
        let minus_sums = unsafe { round::<I>(x, inverse, bytes) };
        let own = minus_sums[0].wrapping_add(minus_sums[1]);
        minus_sum = own.wrapping_add(minus_sum);
        *block = Block {
            scale,
            minus_sum: own,
            minus_sums,
        };
    }
    if let Some(first) = blocks.first_mut() {
        first.minus_sum = minus_sum;
    }
}

/// The bits of the largest number, without its sign.
///
/// # Safety
/// As for [`Isa`].
#[inline(always)]
unsafe fn largest<I: Isa>(x: &[f32; BLOCK]) -> u32 {
    // SAFETY: promised by the caller; a block is two vectors.
    unsafe {
        let x = x.as_ptr();
        let magnitude = I::splat(0x7fff_ffff);
        let largest = [0, SIDE].map(|at| {
            let x = I::load_floats(x.add(at).cast());
            I::largest(I::and(I::bits(x), magnitude))
        });
        largest[0].max(largest[1])
    }
}

/// Rounds the multiples of `inverse` to bytes, and gives the negated sums of both halves.
///
/// # Safety
/// As for [`Isa`].
#[inline(always)]
unsafe fn round<I: Isa>(x: &[f32; BLOCK], inverse: f32, bytes: &mut [i8; BLOCK]) -> [i32; 2] {
    let mut minus_sums = [0; 2];
    for (half, minus_sum) in minus_sums.iter_mut().enumerate() {
        // SAFETY: promised by the caller; a block is two vectors.
        unsafe {
            let x = I::load_floats(x.as_ptr().add(half * SIDE).cast());
            let rounded = I::multiply_add(x, I::splat_float(inverse), I::splat_float(ROUNDING));
            let words = I::bits(rounded);
            I::store_bytes(words, bytes.as_mut_ptr().add(half * SIDE));
            // Every word is that of zero and the byte.
            let zeros = ROUNDING.to_bits().wrapping_mul(SIDE as u32);
            *minus_sum = zeros.wrapping_sub(I::sum(words)) as i32;
        }
    }
    minus_sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::numbers;

    fn with<R>(
        x: &[f32],
        width: usize,
        shared: usize,
        instructions: Instructions,
        work: impl Fn(Activations<'_>) -> R,
    ) -> R {
        let rows = x.len() / (width * BLOCK);
        let mut room = vec![f32::NAN; words(rows, width)];
        work(Activations::new(x, width, shared, &mut room, instructions))
    }

    #[test]
    fn every_byte_is_the_nearest_and_sums_are_negated_for_all_instructions() {
        let mut x = numbers(7 * 3 * BLOCK, 1);
        // Exactly between two bytes: the even one.
        x[..4].copy_from_slice(&[127.0, 0.5, 1.5, -2.5]);
        x[4..BLOCK].fill(-3.0);
        for instructions in Instructions::available() {
            with(&x, 3, 1, instructions, |x_bytes| {
                assert_eq!((x_bytes.rows, x_bytes.width), (7, 3));
                assert_eq!(x_bytes.bytes[..5], [127, 0, 2, -2, -3]);
                for (index, block) in x_bytes.blocks.iter().enumerate() {
                    let x = &x[index * BLOCK..][..BLOCK];
                    let bytes = &x_bytes.bytes[index * BLOCK..][..BLOCK];
                    let largest = x.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
                    assert_eq!(block.scale, largest / 127.0);
                    for (byte, x) in bytes.iter().zip(x) {
                        let error = f64::from(*byte) * f64::from(block.scale) - f64::from(*x);
                        assert!(error.abs() <= f64::from(block.scale) * 0.500_001, "{error}");
                    }
                    let sum = |bytes: &[i8]| -> i32 { bytes.iter().map(|&b| -i32::from(b)).sum() };
                    assert_eq!(block.minus_sums, [sum(&bytes[..16]), sum(&bytes[16..])]);
                    assert_eq!(block.minus_sum, sum(bytes));
                }
            });
        }
    }

    #[test]
    fn numbers_that_have_no_scale_spoil_their_block_only() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 3 * BLOCK];
            x[BLOCK + 3] = bad;
            x[2 * BLOCK..].fill(1e-44);
            for instructions in Instructions::available() {
                with(&x, 3, 1, instructions, |x| {
                    assert_eq!(x.blocks[0].scale, 1.0 / 127.0);
                    assert!(x.blocks[1].scale.is_nan());
                    assert_eq!((x.blocks[2].scale, x.blocks[2].minus_sum), (0.0, 0));
                });
            }
        }
    }

    #[test]
    fn blocks_share_the_scale_of_their_largest_number_and_the_first_has_their_sum() {
        assert_eq!([1, 2, 7, 9, 11, 18, 48].map(shared), [1, 2, 7, 3, 1, 6, 8]);
        let x = numbers(2 * 6 * BLOCK, 2);
        for instructions in Instructions::available() {
            with(&x, 6, 3, instructions, |quantised| {
                let groups = x.chunks_exact(3 * BLOCK);
                let bytes = quantised.bytes.chunks_exact(3 * BLOCK);
                let blocks = quantised.blocks.chunks_exact(3);
                assert_eq!((groups.len(), blocks.len()), (4, 4));
                for ((x, bytes), blocks) in groups.zip(bytes).zip(blocks) {
                    let largest = x.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
                    assert!(blocks.iter().all(|block| block.scale == largest / 127.0));
                    for (byte, x) in bytes.iter().zip(x) {
                        let error = f64::from(*byte) * f64::from(blocks[0].scale) - f64::from(*x);
                        assert!(error.abs() <= f64::from(blocks[0].scale) * 0.500_001);
                    }
                    let sum: i32 = bytes.iter().map(|&byte| -i32::from(byte)).sum();
                    assert_eq!(blocks[0].minus_sum, sum);
                }
            });
        }
    }
}
