//! What the bytes of each block format mean, read for sixteen rows of weights at once.
//!
//! Layouts are those of `ggml-common.h`, meanings those of `dequantize_row_*` in `ggml-quants.c`. A weight is
//! `scale * (q - offset)` or `scale * q + minimum`, with `q` an unsigned byte here in every format.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers, closures would not be compiled with the instructions.
#![allow(clippy::needless_range_loop)]

use super::isa::{Isa, Rows};

/// Sixteen rows of weights in memory.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) start: *const u8,
    pub(super) stride: usize,
}

impl Source {
    /// The same rows from another byte on.
    #[inline(always)]
    pub(super) unsafe fn at(self, byte: usize) -> Self {
        // SAFETY: the byte lies in the row, which the caller promises.
        Self {
            start: unsafe { self.start.add(byte) },
            stride: self.stride,
        }
    }

    /// Sixteen bytes of each row.
    #[inline(always)]
    unsafe fn rows<I: Isa>(self) -> Rows<I> {
        let Self { start, stride } = self;
        // SAFETY: as above.
        unsafe {
            [
                I::load_four(start, stride),
                I::load_four(start.add(stride), stride),
                I::load_four(start.add(2 * stride), stride),
                I::load_four(start.add(3 * stride), stride),
            ]
        }
    }

    /// `0x10` for each set bit of two bytes of each row.
    #[inline(always)]
    unsafe fn bits<I: Isa>(self) -> Rows<I> {
        let Self { start, stride } = self;
        // SAFETY: as above.
        unsafe {
            [
                I::spread_bits(start, stride),
                I::spread_bits(start.add(stride), stride),
                I::spread_bits(start.add(2 * stride), stride),
                I::spread_bits(start.add(3 * stride), stride),
            ]
        }
    }
}

/// 32 weights of each of sixteen rows.
#[derive(Clone, Copy)]
pub(super) struct Weights<I: Isa> {
    /// The first and the last 16.
    pub(super) bytes: [Rows<I>; 2],
    /// The scale, and what [`Kind`] says of the second.
    pub(super) scales: [I::Floats; 2],
}

/// Takes the weights of sixteen rows, block by block.
pub(super) trait Visit<I: Isa> {
    /// # Safety
    /// As for [`Isa`].
    unsafe fn block(&mut self, weights: Weights<I>);
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
}

/// Offset `2^OFFSET` for 32 weights with one scale.
pub(super) struct Around<const OFFSET: u32>;

impl<const LOG: u32> Kind for Around<LOG> {
    const OFFSET: u32 = LOG;
    const MINIMA: bool = false;
    const HALVES: bool = false;
    const FULL: bool = LOG == 7;
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

/// How a format is read.
pub(super) trait Format {
    type Kind: Kind;
    /// Bytes and blocks of 32 weights in the format's own block.
    const BYTES: usize;
    const BLOCKS: usize;

    /// Hands the blocks of one of the format's own blocks to `visit`, in order.
    ///
    /// # Safety
    /// As for [`Isa`]; sixteen such blocks are readable at `from`.
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V);
}

const LOW_NIBBLES: u32 = 0x0f0f_0f0f;
const HIGH_BITS: u32 = 0x8080_8080;

/// The bits of `mask` of every word, after a shift to the right.
#[inline(always)]
unsafe fn extract<I: Isa>(mut rows: Rows<I>, shift: u32, mask: u32) -> Rows<I> {
    for row in 0..4 {
        // SAFETY: as for `Isa`, here and below.
        rows[row] = unsafe { I::and(I::shift_right(rows[row], shift), I::splat(mask)) };
    }
    rows
}

/// The low or, shifted by four, the high four bits of every byte.
#[inline(always)]
unsafe fn nibbles<I: Isa>(rows: Rows<I>, shift: u32) -> Rows<I> {
    unsafe { extract::<I>(rows, shift, LOW_NIBBLES) }
}

/// Puts bits of `high`, those of `mask` after a shift to the right, above nibbles.
#[inline(always)]
unsafe fn above<I: Isa>(mut low: Rows<I>, high: Rows<I>, shift: u32, mask: u32) -> Rows<I> {
    let high = unsafe { extract::<I>(high, shift, mask) };
    for row in 0..4 {
        low[row] = unsafe { I::or(low[row], I::shift_left(high[row], 4)) };
    }
    low
}

#[inline(always)]
unsafe fn or<I: Isa>(mut one: Rows<I>, other: Rows<I>) -> Rows<I> {
    for row in 0..4 {
        one[row] = unsafe { I::or(one[row], other[row]) };
    }
    one
}

/// Adds 128 to bytes with sign.
#[inline(always)]
unsafe fn without_sign<I: Isa>(mut rows: Rows<I>) -> Rows<I> {
    for row in 0..4 {
        rows[row] = unsafe { I::xor(rows[row], I::splat(HIGH_BITS)) };
    }
    rows
}

/// An f16 scale and minimum that share the words.
#[inline(always)]
unsafe fn scale_and_minimum<I: Isa>(words: I::Words) -> [I::Floats; 2] {
    unsafe {
        [
            I::widen(I::and(words, I::splat(0xffff))),
            I::widen(I::shift_right(words, 16)),
        ]
    }
}

#[inline(always)]
unsafe fn negate<I: Isa>(floats: I::Floats) -> I::Floats {
    unsafe { I::multiply(floats, I::splat_float(-1.0)) }
}

pub(super) struct Q4_0;

impl Format for Q4_0 {
    type Kind = Around<3>;
    const BYTES: usize = 18;
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let rows = from.at(2).rows::<I>();
            let scale = I::load_halves(from.start, from.stride);
            visit.block(Weights {
                bytes: [nibbles::<I>(rows, 0), nibbles::<I>(rows, 4)],
                scales: [scale; 2],
            });
        }
    }
}

pub(super) struct Q4_1;

impl Format for Q4_1 {
    type Kind = Minima;
    const BYTES: usize = 20;
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let rows = from.at(4).rows::<I>();
            let [scale, minimum] = scale_and_minimum::<I>(I::load_words(from.start, from.stride));
            visit.block(Weights {
                bytes: [nibbles::<I>(rows, 0), nibbles::<I>(rows, 4)],
                scales: [scale, negate::<I>(minimum)],
            });
        }
    }
}

/// Nibbles with a fifth bit from four bytes at `bits`, which has one for every weight.
#[inline(always)]
unsafe fn five_bits<I: Isa>(nibbles_at: Source, bits: Source) -> [Rows<I>; 2] {
    unsafe {
        let rows = nibbles_at.rows::<I>();
        [
            or::<I>(nibbles::<I>(rows, 0), bits.bits::<I>()),
            or::<I>(nibbles::<I>(rows, 4), bits.at(2).bits::<I>()),
        ]
    }
}

pub(super) struct Q5_0;

impl Format for Q5_0 {
    type Kind = Around<4>;
    const BYTES: usize = 22;
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let scale = I::load_halves(from.start, from.stride);
            visit.block(Weights {
                bytes: five_bits::<I>(from.at(6), from.at(2)),
                scales: [scale; 2],
            });
        }
    }
}

pub(super) struct Q5_1;

impl Format for Q5_1 {
    type Kind = Minima;
    const BYTES: usize = 24;
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let [scale, minimum] = scale_and_minimum::<I>(I::load_words(from.start, from.stride));
            visit.block(Weights {
                bytes: five_bits::<I>(from.at(8), from.at(4)),
                scales: [scale, negate::<I>(minimum)],
            });
        }
    }
}

pub(super) struct Q8_0;

impl Format for Q8_0 {
    type Kind = Around<7>;
    const BYTES: usize = 34;
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let first = without_sign::<I>(from.at(2).rows::<I>());
            let last = without_sign::<I>(from.at(18).rows::<I>());
            let scale = I::load_halves(from.start, from.stride);
            visit.block(Weights {
                bytes: [first, last],
                scales: [scale; 2],
            });
        }
    }
}

/// The head of q4_k and q5_k: scales and minima of eight blocks in six bits each, under an f16 scale for either.
struct SixBits<I: Isa> {
    scale: I::Floats,
    /// Subtracted in these formats, so it is negated already.
    minimum: I::Floats,
    /// Bytes of blocks 0 to 3 and 4 to 7.
    scales: [I::Words; 2],
    minima: [I::Words; 2],
}

impl<I: Isa> SixBits<I> {
    #[inline(always)]
    unsafe fn read(from: Source) -> Self {
        unsafe {
            let [head, first, second, third] = I::transpose(from.rows::<I>());
            let [scale, minimum] = scale_and_minimum::<I>(head);
            let (six, four, two) = (
                I::splat(0x3f3f_3f3f),
                I::splat(LOW_NIBBLES),
                I::splat(0x3030_3030),
            );
            // Of the last four, the upper two bits lie above the first four.
            let scales_above = I::and(I::shift_right(first, 2), two);
            let minima_above = I::and(I::shift_right(second, 2), two);
            Self {
                scale,
                minimum,
                scales: [I::and(first, six), I::or(I::and(third, four), scales_above)],
                minima: [
                    I::and(second, six),
                    I::or(I::and(I::shift_right(third, 4), four), minima_above),
                ],
            }
        }
    }

    /// Scale and negated minimum of a block.
    #[inline(always)]
    unsafe fn of(&self, block: usize) -> [I::Floats; 2] {
        let shift = 8 * (block as u32 % 4);
        unsafe {
            let byte = I::splat(0xff);
            let scale = I::and(I::shift_right(self.scales[block / 4], shift), byte);
            let minimum = I::and(I::shift_right(self.minima[block / 4], shift), byte);
            [
                I::multiply(self.scale, I::convert(scale)),
                I::multiply(self.minimum, I::convert(minimum)),
            ]
        }
    }
}

pub(super) struct Q4K;

impl Format for Q4K {
    type Kind = Minima;
    const BYTES: usize = 144;
    const BLOCKS: usize = 8;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let head = SixBits::<I>::read(from);
            // Two blocks share 32 bytes: the low and the high nibbles.
            for pair in 0..4 {
                let first = from.at(16 + 32 * pair).rows::<I>();
                let last = from.at(32 + 32 * pair).rows::<I>();
                visit.block(Weights {
                    bytes: [nibbles::<I>(first, 0), nibbles::<I>(last, 0)],
                    scales: head.of(2 * pair),
                });
                visit.block(Weights {
                    bytes: [nibbles::<I>(first, 4), nibbles::<I>(last, 4)],
                    scales: head.of(2 * pair + 1),
                });
            }
        }
    }
}

pub(super) struct Q5K;

impl Format for Q5K {
    type Kind = Minima;
    const BYTES: usize = 176;
    const BLOCKS: usize = 8;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        unsafe {
            let head = SixBits::<I>::read(from);
            for pair in 0..4 {
                // Bit `block` of the bytes in front is the fifth one of a block.
                let ahead = [from.at(16).rows::<I>(), from.at(32).rows::<I>()];
                let first = from.at(48 + 32 * pair).rows::<I>();
                let last = from.at(64 + 32 * pair).rows::<I>();
                for high in 0..2 {
                    let block = 2 * pair + high;
                    let (shift, bit) = (4 * high as u32, block as u32);
                    let first = nibbles::<I>(first, shift);
                    let last = nibbles::<I>(last, shift);
                    visit.block(Weights {
                        bytes: [
                            above::<I>(first, ahead[0], bit, 0x0101_0101),
                            above::<I>(last, ahead[1], bit, 0x0101_0101),
                        ],
                        scales: head.of(block),
                    });
                }
            }
        }
    }
}

pub(super) struct Q6K;

impl Format for Q6K {
    type Kind = Halves;
    const BYTES: usize = 210;
    const BLOCKS: usize = 8;

    #[inline(always)]
    unsafe fn read<I: Isa, V: Visit<I>>(from: Source, visit: &mut V) {
        const HIGH: usize = 128;
        const SCALES: usize = 192;
        const SCALE: usize = 208;
        unsafe {
            let scale = I::load_halves(from.start.add(SCALE), from.stride);
            let scales = I::transpose(from.at(SCALES).rows::<I>());
            for block in 0..8 {
                // Four blocks share 64 bytes of low bits, two for each nibble, and 32 bytes of high bits.
                let (group, member) = (block / 4, block % 4);
                let low = from.at(64 * group + 32 * (member % 2));
                let high = from.at(HIGH + 32 * group);
                let (shift, bits) = (4 * (member as u32 / 2), 2 * member as u32);
                let first = nibbles::<I>(low.rows::<I>(), shift);
                let last = nibbles::<I>(low.at(16).rows::<I>(), shift);
                // Moved to the upper end and back, a byte keeps its sign.
                let upper = I::shift_left(scales[block / 2], 16 * (1 - block as u32 % 2));
                visit.block(Weights {
                    bytes: [
                        above::<I>(first, high.rows::<I>(), bits, 0x0303_0303),
                        above::<I>(last, high.at(16).rows::<I>(), bits, 0x0303_0303),
                    ],
                    scales: [
                        I::multiply(scale, upper_byte::<I>(I::shift_left(upper, 8))),
                        I::multiply(scale, upper_byte::<I>(upper)),
                    ],
                });
            }
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
