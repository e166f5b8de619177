//! Sixteen words in an array, for other machines and as the twin of the faster ones.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use half::f16;

use super::{Isa, Line, SIDE};

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

// SAFETY of every block below: promised by the callers, see the trait.
impl Isa for Portable {
    type Words = Words;
    type Floats = Floats;

    const ROWS: usize = 2;
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Words {
        [word; SIDE]
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Words {
        each(unsafe { from.cast::<[[u8; 4]; SIDE]>().read() }, |word| {
            u32::from_le_bytes(*word)
        })
    }

    #[inline(always)]
    unsafe fn store(words: Words, to: *mut Line) {
        unsafe { *to = Line(words) }
    }

    #[inline(always)]
    unsafe fn store_bytes(words: Words, to: *mut i8) {
        unsafe {
            to.cast::<[i8; SIDE]>()
                .write(each(words, |word| *word as i8))
        }
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
    unsafe fn shift_left(words: Words, bits: u32) -> Words {
        each(words, |word| word << bits)
    }

    #[inline(always)]
    unsafe fn shift_right(words: Words, bits: u32) -> Words {
        each(words, |word| word >> bits)
    }

    #[inline(always)]
    unsafe fn largest(words: Words) -> u32 {
        words.into_iter().fold(0, u32::max)
    }

    #[inline(always)]
    unsafe fn sum(words: Words) -> u32 {
        words.into_iter().fold(0, u32::wrapping_add)
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
    unsafe fn widen(words: Words) -> Floats {
        each(words, |&word| f16::from_bits(word as u16).to_f32())
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> Floats {
        let halves = unsafe { from.cast::<[[u8; 2]; SIDE]>().read() };
        each(halves, |half| f16::from_le_bytes(*half).to_f32())
    }

    #[inline(always)]
    unsafe fn convert(words: Words) -> Floats {
        each(words, |&word| word as i32 as f32)
    }

    #[inline(always)]
    unsafe fn bits(floats: Floats) -> Words {
        floats.map(f32::to_bits)
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> Floats {
        [number; SIDE]
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> Floats {
        each(unsafe { Self::load(from) }, |word| f32::from_bits(*word))
    }

    #[inline(always)]
    unsafe fn store_floats(floats: Floats, to: *mut f32) {
        unsafe { to.cast::<Floats>().write_unaligned(floats) }
    }

    #[inline(always)]
    unsafe fn multiply(one: Floats, other: Floats) -> Floats {
        zip(one, other, |one, other| one * other)
    }

    #[inline(always)]
    unsafe fn multiply_add(one: Floats, other: Floats, addend: Floats) -> Floats {
        std::array::from_fn(|index| one[index].mul_add(other[index], addend[index]))
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn prefetch_to_second_level(_: *const u8) {}
}
