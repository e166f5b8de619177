//! Sixteen words in an array, for other machines and as the twin of the faster ones.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use half::f16;

use super::{Isa, Line, Rows, SIDE, Tile};

#[derive(Clone, Copy)]
pub(super) struct Portable;

type Words = [u32; SIDE];
type Floats = [f32; SIDE];

#[inline(always)]
fn zip<T: Copy>(mut one: [T; SIDE], other: [T; SIDE], operation: impl Fn(T, T) -> T) -> [T; SIDE] {
    for lane in 0..SIDE {
        one[lane] = operation(one[lane], other[lane]);
    }
    one
}

#[inline(always)]
fn each<T, U: Copy + Default>(from: [T; SIDE], operation: impl Fn(&T) -> U) -> [U; SIDE] {
    let mut to = [U::default(); SIDE];
    for lane in 0..SIDE {
        to[lane] = operation(&from[lane]);
    }
    to
}

/// Four words of each of the rows 0, 4, 8 and 12.
#[inline(always)]
fn four(load: impl Fn(usize) -> [u8; 16]) -> Words {
    let mut words = [0; SIDE];
    for row in 0..4 {
        let bytes = load(4 * row);
        for word in 0..4 {
            let bytes = [0, 1, 2, 3].map(|byte| bytes[4 * word + byte]);
            words[4 * row + word] = u32::from_le_bytes(bytes);
        }
    }
    words
}

// SAFETY of every block below: promised by the callers, see the trait.
impl Isa for Portable {
    type Words = Words;
    type Floats = Floats;

    const TILE: Tile = Tile::Small;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Words {
        [word; SIDE]
    }

    #[inline(always)]
    unsafe fn load(from: *const Line) -> Words {
        unsafe { (*from).0 }
    }

    #[inline(always)]
    unsafe fn store(words: Words, to: *mut Line) {
        unsafe { *to = Line(words) }
    }

    #[inline(always)]
    unsafe fn load_four(row: *const u8, stride: usize) -> Words {
        four(|index| unsafe { row.add(index * stride).cast::<[u8; 16]>().read() })
    }

    #[inline(always)]
    unsafe fn load_words(row: *const u8, stride: usize) -> Words {
        let mut words = [0; SIDE];
        for lane in 0..SIDE {
            let bytes = unsafe { row.add(lane * stride).cast::<[u8; 4]>().read() };
            words[lane] = u32::from_le_bytes(bytes);
        }
        words
    }

    #[inline(always)]
    unsafe fn repeat(from: *const [i8; 16]) -> Words {
        let bytes = unsafe { (*from).map(|number| number as u8) };
        four(|_| bytes)
    }

    #[inline(always)]
    unsafe fn spread_bits(row: *const u8, stride: usize) -> Words {
        four(|index| {
            let bytes = unsafe { row.add(index * stride).cast::<[u8; 2]>().read() };
            let bits = u16::from_le_bytes(bytes);
            let mut spread = [0; 16];
            for bit in 0..16 {
                spread[bit] = ((bits >> bit) as u8 & 1) << 4;
            }
            spread
        })
    }

    #[inline(always)]
    unsafe fn and(one: Words, other: Words) -> Words {
        zip(one, other, |one, other| one & other)
    }

    #[inline(always)]
    unsafe fn or(one: Words, other: Words) -> Words {
        zip(one, other, |one, other| one | other)
    }

    #[inline(always)]
    unsafe fn xor(one: Words, other: Words) -> Words {
        zip(one, other, |one, other| one ^ other)
    }

    #[inline(always)]
    unsafe fn add(one: Words, other: Words) -> Words {
        zip(one, other, u32::wrapping_add)
    }

    #[inline(always)]
    unsafe fn shift_left(words: Words, bits: u32) -> Words {
        each(words, |word| word << bits)
    }

    #[inline(always)]
    unsafe fn shift_right(words: Words, bits: u32) -> Words {
        each(words, |word| word >> bits)
    }

    #[inline(always)]
    unsafe fn dot<const FULL: bool>(mut sums: Words, weights: Words, x: Words) -> Words {
        for lane in 0..SIDE {
            let (weights, x) = (weights[lane].to_le_bytes(), x[lane].to_le_bytes());
            for byte in 0..4 {
                let product = i32::from(weights[byte]) * i32::from(x[byte] as i8);
                sums[lane] = sums[lane].wrapping_add(product as u32);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn transpose(rows: Rows<Self>) -> Rows<Self> {
        let mut words = [[0; SIDE]; 4];
        for word in 0..4 {
            for row in 0..SIDE {
                words[word][row] = rows[row % 4][row / 4 * 4 + word];
            }
        }
        words
    }

    #[inline(always)]
    unsafe fn sum_rows(rows: Rows<Self>) -> Words {
        let mut sums = [0_u32; SIDE];
        for row in 0..SIDE {
            for word in 0..4 {
                sums[row] = sums[row].wrapping_add(rows[row % 4][row / 4 * 4 + word]);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn widen(words: Words) -> Floats {
        each(words, |&word| f16::from_bits(word as u16).to_f32())
    }

    #[inline(always)]
    unsafe fn load_halves(row: *const u8, stride: usize) -> Floats {
        let mut floats = [0.0; SIDE];
        for lane in 0..SIDE {
            let bytes = unsafe { row.add(lane * stride).cast::<[u8; 2]>().read() };
            floats[lane] = f16::from_le_bytes(bytes).to_f32();
        }
        floats
    }

    #[inline(always)]
    unsafe fn convert(words: Words) -> Floats {
        each(words, |&word| word as i32 as f32)
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> Floats {
        [number; SIDE]
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const Line) -> Floats {
        unsafe { (*from).0.map(f32::from_bits) }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: Floats, to: *mut Line) {
        unsafe { *to = Line(floats.map(f32::to_bits)) }
    }

    #[inline(always)]
    unsafe fn add_floats(one: Floats, other: Floats) -> Floats {
        zip(one, other, |one, other| one + other)
    }

    #[inline(always)]
    unsafe fn multiply(one: Floats, other: Floats) -> Floats {
        zip(one, other, |one, other| one * other)
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn prefetch_to_second_level(_: *const u8) {}
}
