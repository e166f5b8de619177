//! What the words of each block format mean, read for sixteen rows of weights at once.
//!
//! Layouts are those of `ggml-common.h`, meanings those of `dequantize_row_*` in `ggml-quants.c`, but for `q8_row`, which has
//! the layout of `q8_0`; how the rows lie is told by [`super::panels`]. A weight is `scale * (q - offset)` or `scale * q + minimum`, with `q` an unsigned byte here in
//! every format.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::activations::BLOCK;
use super::isa::{Isa, Line, SIDE};
use crate::weights::BlockFormat;

/// The same block of sixteen rows.
#[derive(Clone, Copy)]
pub(super) struct Source(pub(super) *const u8);

impl Source {
    /// A word of each row.
    #[inline(always)]
    unsafe fn word<I: Isa>(self, index: usize) -> I::Words {
        // SAFETY: the block has the word, which the caller promises.
        unsafe { I::load(self.0.add(index * size_of::<Line>())) }
    }

    /// An f32 number of each row.
    #[inline(always)]
    unsafe fn float<I: Isa>(self, index: usize) -> I::Floats {
        // SAFETY: as above.
        unsafe { I::load_floats(self.0.add(index * size_of::<Line>())) }
    }

    /// The f16 number of each row that lies behind so many words.
    #[inline(always)]
    unsafe fn half<I: Isa>(self, words: usize) -> I::Floats {
        // SAFETY: as above.
        unsafe { I::load_halves(self.0.add(words * size_of::<Line>())) }
    }

    /// The f16 numbers of which a word of each row consists.
    #[inline(always)]
    unsafe fn two_halves<I: Isa>(self, index: usize) -> [I::Floats; 2] {
        // SAFETY: as above.
        unsafe {
            let words = self.word::<I>(index);
            [
                I::widen(I::and(words, I::splat(0xffff))),
                I::widen(I::shift_right(words, 16)),
            ]
        }
    }
}

/// What formats with the same arithmetic share.
pub(super) trait Kind {
    /// Logarithm of the offset to base two; none where there are minima.
    const OFFSET: u32;
    /// The second scale is the negated minimum.
    const MINIMA: bool;
    /// The second scale is that of the last 16 weights.
    const HALVES: bool;
    /// Bytes may be above 127.
    const FULL: bool;
    /// All blocks of a row have one scale, so that products are added as integers over the blocks of `x` that share one.
    const WHOLE_ROWS: bool = false;
}

/// Offset `2^OFFSET` for 32 weights with one scale.
pub(super) struct Around<const OFFSET: u32>;

impl<const LOG: u32> Kind for Around<LOG> {
    const OFFSET: u32 = LOG;
    const MINIMA: bool = false;
    const HALVES: bool = false;
    const FULL: bool = LOG == 7;
}

/// Offset 128 and one scale for a row.
pub(super) struct WholeRows;

impl Kind for WholeRows {
    const OFFSET: u32 = 7;
    const MINIMA: bool = false;
    const HALVES: bool = false;
    const FULL: bool = true;
    const WHOLE_ROWS: bool = true;
}

/// A minimum instead of an offset.
pub(super) struct Minima;

impl Kind for Minima {
    const OFFSET: u32 = 0;
    const MINIMA: bool = true;
    const HALVES: bool = false;
    const FULL: bool = false;
}

/// Offset 32 and a scale for every 16 weights.
pub(super) struct Halves;

impl Kind for Halves {
    const OFFSET: u32 = 5;
    const MINIMA: bool = false;
    const HALVES: bool = true;
    const FULL: bool = false;
}

/// How a format is read. Of the format's own blocks, some hold several of 32 weights.
pub(super) trait Format {
    type Kind: Kind;
    /// Blocks of 32 weights in the format's own block.
    const BLOCKS: usize;
    /// Bytes of sixteen of the format's own blocks.
    const BYTES: usize;

    /// Four weights of each row, of block `block`, from weight `4 * index` on.
    ///
    /// # Safety
    /// As for [`Isa`]; the format's own block is readable at `from`, which has those weights.
    unsafe fn weights<I: Isa>(from: Source, block: usize, index: usize) -> I::Words;

    /// The scale of block `block`, and what [`Kind`] says of the second.
    ///
    /// # Safety
    /// As for [`Self::weights`].
    unsafe fn scales<I: Isa>(from: Source, block: usize) -> [I::Floats; 2];
}

/// Words of 32 weights, and lines of sixteen blocks that are unpacked: the words and two scales.
const WORDS: usize = BLOCK / size_of::<u32>();
pub(super) const LINES: usize = WORDS + 2;

/// Blocks of 32 weights as [`unpack`] writes them: bytes, then two scales as f32 numbers.
pub(super) struct Unpacked<K>(PhantomData<K>);

/// Writes a panel of so many blocks of 32 weights, [`LINES`] each.
///
/// # Safety
/// As for [`Format::weights`]; there is room for all.
#[inline(always)]
pub(super) unsafe fn unpack<I: Isa, F: Format>(from: Source, blocks: usize, mut to: *mut Line) {
    for own in 0..blocks / F::BLOCKS {
        // SAFETY: promised by the caller.
        unsafe {
            let from = Source(from.0.add(own * F::BYTES));
            for block in 0..F::BLOCKS {
                for index in 0..WORDS {
                    I::store(F::weights::<I>(from, block, index), to.add(index));
                }
                let scales = F::scales::<I>(from, block);
                for index in 0..scales.len() {
                    I::store_floats(scales[index], to.add(WORDS + index).cast());
                }
                to = to.add(LINES);
            }
        }
    }
}

impl<K: Kind> Format for Unpacked<K> {
    type Kind = K;
    const BLOCKS: usize = 1;
    const BYTES: usize = LINES * size_of::<Line>();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, _: usize, index: usize) -> I::Words {
        unsafe { from.word::<I>(index) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, _: usize) -> [I::Floats; 2] {
        unsafe { [from.float::<I>(WORDS), from.float::<I>(WORDS + 1)] }
    }
}

const LOW_NIBBLES: u32 = 0x0f0f_0f0f;

/// The bits of `mask` of every word, after a shift to the right.
#[inline(always)]
unsafe fn extract<I: Isa>(words: I::Words, shift: u32, mask: u32) -> I::Words {
    // SAFETY: as for `Isa`, here and below.
    unsafe { I::and(I::shift_right(words, shift), I::splat(mask)) }
}

/// Of words that have 16 weights in their low and 16 in their high four bits, those of word `index` of 32.
#[inline(always)]
unsafe fn nibbles<I: Isa>(from: Source, first: usize, index: usize) -> I::Words {
    unsafe {
        let words = from.word::<I>(first + index % 4);
        extract::<I>(words, 4 * (index as u32 / 4), LOW_NIBBLES)
    }
}

/// The fifth bits of the weights of word `index`, of which a word has one for each of 32.
#[inline(always)]
unsafe fn fifth<I: Isa>(bits: I::Words, index: usize) -> I::Words {
    unsafe {
        let four = extract::<I>(bits, 4 * index as u32, 0xf);
        // A copy for each byte, in which the bit of that byte comes to lie lowest.
        let two = I::or(four, I::shift_left(four, 7));
        let all = I::or(two, I::shift_left(two, 14));
        I::shift_left(I::and(all, I::splat(0x0101_0101)), 4)
    }
}

/// Puts the bits of `mask` of `high`, after a shift to the right, above nibbles.
#[inline(always)]
unsafe fn above<I: Isa>(low: I::Words, high: I::Words, shift: u32, mask: u32) -> I::Words {
    unsafe {
        let high = extract::<I>(high, shift, mask);
        I::or(low, I::shift_left(high, 4))
    }
}

#[inline(always)]
unsafe fn scale_and_negated_minimum<I: Isa>(from: Source) -> [I::Floats; 2] {
    unsafe {
        let [scale, minimum] = from.two_halves::<I>(0);
        [scale, I::multiply(minimum, I::splat_float(-1.0))]
    }
}

pub(super) struct Q4_0;

impl Format for Q4_0 {
    type Kind = Around<3>;
    const BLOCKS: usize = BlockFormat::Q4_0.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q4_0.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, _: usize, index: usize) -> I::Words {
        unsafe { nibbles::<I>(from, 0, index) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, _: usize) -> [I::Floats; 2] {
        unsafe { [from.half::<I>(4); 2] }
    }
}

pub(super) struct Q4_1;

impl Format for Q4_1 {
    type Kind = Minima;
    const BLOCKS: usize = BlockFormat::Q4_1.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q4_1.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, _: usize, index: usize) -> I::Words {
        unsafe { nibbles::<I>(from, 1, index) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, _: usize) -> [I::Floats; 2] {
        unsafe { scale_and_negated_minimum::<I>(from) }
    }
}

pub(super) struct Q5_0;

impl Format for Q5_0 {
    type Kind = Around<4>;
    const BLOCKS: usize = BlockFormat::Q5_0.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q5_0.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, _: usize, index: usize) -> I::Words {
        unsafe {
            let low = nibbles::<I>(from, 1, index);
            I::or(low, fifth::<I>(from.word::<I>(0), index))
        }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, _: usize) -> [I::Floats; 2] {
        unsafe { [from.half::<I>(5); 2] }
    }
}

pub(super) struct Q5_1;

impl Format for Q5_1 {
    type Kind = Minima;
    const BLOCKS: usize = BlockFormat::Q5_1.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q5_1.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, _: usize, index: usize) -> I::Words {
        unsafe {
            let low = nibbles::<I>(from, 2, index);
            I::or(low, fifth::<I>(from.word::<I>(1), index))
        }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, _: usize) -> [I::Floats; 2] {
        unsafe { scale_and_negated_minimum::<I>(from) }
    }
}

pub(super) struct Q8_0;

impl Format for Q8_0 {
    type Kind = Around<7>;
    const BLOCKS: usize = BlockFormat::Q8_0.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q8_0.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, _: usize, index: usize) -> I::Words {
        // Laid out with their offset.
        unsafe { from.word::<I>(index) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, _: usize) -> [I::Floats; 2] {
        unsafe { [from.half::<I>(8); 2] }
    }
}

pub(super) struct Q8Row;

impl Format for Q8Row {
    type Kind = WholeRows;
    const BLOCKS: usize = Q8_0::BLOCKS;
    const BYTES: usize = Q8_0::BYTES;

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, block: usize, index: usize) -> I::Words {
        unsafe { Q8_0::weights::<I>(from, block, index) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, block: usize) -> [I::Floats; 2] {
        unsafe { Q8_0::scales::<I>(from, block) }
    }
}

/// Scale and minimum of a block of q4_k and q5_k: six bits each, under an f16 scale for either. These formats subtract
/// their minima, which are negated ones therefore.
#[inline(always)]
unsafe fn six_bits<I: Isa>(from: Source, block: usize) -> [I::Floats; 2] {
    let shift = 8 * (block as u32 % 4);
    unsafe {
        let [scale, minimum] = from.two_halves::<I>(0);
        let (first, second) = (from.word::<I>(1), from.word::<I>(2));
        let (own_scale, own_minimum) = if block < 4 {
            (
                extract::<I>(first, shift, 0x3f),
                extract::<I>(second, shift, 0x3f),
            )
        } else {
            // Of the last four, the upper two bits lie above the first four.
            let third = from.word::<I>(3);
            let upper = |words| extract::<I>(words, shift + 6, 3);
            (
                I::or(
                    extract::<I>(third, shift, 0xf),
                    I::shift_left(upper(first), 4),
                ),
                I::or(
                    extract::<I>(third, shift + 4, 0xf),
                    I::shift_left(upper(second), 4),
                ),
            )
        };
        [
            I::multiply(scale, I::convert(own_scale)),
            I::multiply(minimum, I::convert(own_minimum)),
        ]
    }
}

pub(super) struct Q4K;

impl Format for Q4K {
    type Kind = Minima;
    const BLOCKS: usize = BlockFormat::Q4K.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q4K.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, block: usize, index: usize) -> I::Words {
        // Two blocks share eight words: the low and the high nibbles.
        unsafe {
            let words = from.word::<I>(4 + 8 * (block / 2) + index);
            extract::<I>(words, 4 * (block as u32 % 2), LOW_NIBBLES)
        }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, block: usize) -> [I::Floats; 2] {
        unsafe { six_bits::<I>(from, block) }
    }
}

pub(super) struct Q5K;

impl Format for Q5K {
    type Kind = Minima;
    const BLOCKS: usize = BlockFormat::Q5K.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q5K.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, block: usize, index: usize) -> I::Words {
        // Bit `block` of the bytes in front is the fifth one of a block.
        unsafe {
            let words = from.word::<I>(12 + 8 * (block / 2) + index);
            let low = extract::<I>(words, 4 * (block as u32 % 2), LOW_NIBBLES);
            above::<I>(low, from.word::<I>(4 + index), block as u32, 0x0101_0101)
        }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, block: usize) -> [I::Floats; 2] {
        unsafe { six_bits::<I>(from, block) }
    }
}

pub(super) struct Q6K;

impl Format for Q6K {
    type Kind = Halves;
    const BLOCKS: usize = BlockFormat::Q6K.numbers() / BLOCK;
    const BYTES: usize = SIDE * BlockFormat::Q6K.bytes();

    #[inline(always)]
    unsafe fn weights<I: Isa>(from: Source, block: usize, index: usize) -> I::Words {
        // Four blocks share sixteen words of low bits, two for each nibble, and eight words of high bits.
        let (group, member) = (block / 4, block % 4);
        unsafe {
            let words = from.word::<I>(16 * group + 8 * (member % 2) + index);
            let low = extract::<I>(words, 4 * (member as u32 / 2), LOW_NIBBLES);
            let high = from.word::<I>(32 + 8 * group + index);
            above::<I>(low, high, 2 * member as u32, 0x0303_0303)
        }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(from: Source, block: usize) -> [I::Floats; 2] {
        unsafe {
            let scale = from.half::<I>(52);
            let words = from.word::<I>(48 + block / 2);
            // Moved to the upper end and back, a byte keeps its sign.
            let upper = I::shift_left(words, 16 * (1 - block as u32 % 2));
            [
                I::multiply(scale, upper_byte::<I>(I::shift_left(upper, 8))),
                I::multiply(scale, upper_byte::<I>(upper)),
            ]
        }
    }
}

/// The upper byte of every word, with its sign.
#[inline(always)]
unsafe fn upper_byte<I: Isa>(words: I::Words) -> I::Floats {
    unsafe {
        let top = I::and(words, I::splat(0xff00_0000));
        I::multiply(I::convert(top), I::splat_float(1.0 / (1 << 24) as f32))
    }
}
