//! Sixteen words in four 128-bit registers of NEON, which every 64-bit Arm processor has.
//!
//! Products of four bytes are multiplications to 16 bits and sums of pairs: the instruction that does both at once has
//! no stable name yet, and not every processor has it.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Isa, Line};

#[derive(Clone, Copy)]
pub(super) struct Neon;

/// Words 0 to 3, 4 to 7, 8 to 11, 12 to 15.
type Words = [uint32x4_t; 4];
type Floats = [float32x4_t; 4];

#[inline(always)]
fn zip<T: Copy>(one: [T; 4], other: [T; 4], operation: impl Fn(T, T) -> T) -> [T; 4] {
    [0, 1, 2, 3].map(|quarter| operation(one[quarter], other[quarter]))
}

/// Adds the products of four bytes to every word: two of them together fit 16 bits, as long as weights are below 128.
/// The upper bit of a full byte is 128 times what it stands at.
///
/// # Safety
/// Only needs what the target has.
#[inline(always)]
unsafe fn dot<const FULL: bool>(
    sums: uint32x4_t,
    weights: uint32x4_t,
    x: uint32x4_t,
) -> uint32x4_t {
    unsafe {
        let mut sums = vreinterpretq_s32_u32(sums);
        let (mut weights, x) = (vreinterpretq_u8_u32(weights), vreinterpretq_s8_u32(x));
        if FULL {
            let upper = vshrq_n_s8::<7>(vreinterpretq_s8_u8(weights));
            let pairs = vpaddlq_s8(vandq_s8(upper, x));
            sums = vpadalq_s16(sums, vshlq_n_s16::<7>(pairs));
            weights = vandq_u8(weights, vdupq_n_u8(0x7f));
        }
        let weights = vreinterpretq_s8_u8(weights);
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
        let high = vmull_high_s8(weights, x);
        vreinterpretq_u32_s32(vpadalq_s16(sums, vpaddq_s16(low, high)))
    }
}

// SAFETY of every block below: promised by the callers, see the trait.
impl Isa for Neon {
    type Words = Words;
    type Floats = Floats;

    const ROWS: usize = 2;
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Words {
        unsafe { [vdupq_n_u32(word); 4] }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Words {
        [0, 16, 32, 48].map(|at| unsafe { vreinterpretq_u32_u8(vld1q_u8(from.add(at))) })
    }

    #[inline(always)]
    unsafe fn store(words: Words, to: *mut Line) {
        let to = to.cast::<u32>();
        for (quarter, words) in words.into_iter().enumerate() {
            unsafe { vst1q_u32(to.add(4 * quarter), words) };
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(words: Words, to: *mut i8) {
        unsafe {
            let [first, second, third, fourth] = words.map(|words| vmovn_u32(words));
            let low = vmovn_u16(vcombine_u16(first, second));
            let high = vmovn_u16(vcombine_u16(third, fourth));
            vst1q_u8(to.cast(), vcombine_u8(low, high));
        }
    }

    #[inline(always)]
    unsafe fn and(one: Words, other: Words) -> Words {
        zip(one, other, |one, other| unsafe { vandq_u32(one, other) })
    }

    #[inline(always)]
    unsafe fn or(one: Words, other: Words) -> Words {
        zip(one, other, |one, other| unsafe { vorrq_u32(one, other) })
    }

    #[inline(always)]
    unsafe fn shift_left(words: Words, bits: u32) -> Words {
        words.map(|words| unsafe { vshlq_u32(words, vdupq_n_s32(bits as i32)) })
    }

    #[inline(always)]
    unsafe fn shift_right(words: Words, bits: u32) -> Words {
        // The instruction shifts to the left.
        words.map(|words| unsafe { vshlq_u32(words, vdupq_n_s32(-(bits as i32))) })
    }

    #[inline(always)]
    unsafe fn largest(words: Words) -> u32 {
        unsafe {
            let low = vmaxq_u32(words[0], words[1]);
            let high = vmaxq_u32(words[2], words[3]);
            vmaxvq_u32(vmaxq_u32(low, high))
        }
    }

    #[inline(always)]
    unsafe fn sum(words: Words) -> u32 {
        unsafe {
            let low = vaddq_u32(words[0], words[1]);
            let high = vaddq_u32(words[2], words[3]);
            vaddvq_u32(vaddq_u32(low, high))
        }
    }

    #[inline(always)]
    unsafe fn dot<const FULL: bool>(sums: Words, weights: Words, x: Words) -> Words {
        [0, 1, 2, 3]
            .map(|quarter| unsafe { dot::<FULL>(sums[quarter], weights[quarter], x[quarter]) })
    }

    #[inline(always)]
    unsafe fn widen(words: Words) -> Floats {
        words.map(|words| unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(words))) })
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> Floats {
        let four = |at: usize| unsafe { vreinterpret_f16_u8(vld1_u8(from.add(at))) };
        [0, 8, 16, 24].map(|at| unsafe { vcvt_f32_f16(four(at)) })
    }

    #[inline(always)]
    unsafe fn convert(words: Words) -> Floats {
        words.map(|words| unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(words)) })
    }

    #[inline(always)]
    unsafe fn bits(floats: Floats) -> Words {
        floats.map(|floats| unsafe { vreinterpretq_u32_f32(floats) })
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> Floats {
        unsafe { [vdupq_n_f32(number); 4] }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> Floats {
        unsafe { Self::load(from) }.map(|words| unsafe { vreinterpretq_f32_u32(words) })
    }

    #[inline(always)]
    unsafe fn store_floats(floats: Floats, to: *mut f32) {
        for (quarter, floats) in floats.into_iter().enumerate() {
            unsafe { vst1q_f32(to.add(4 * quarter), floats) };
        }
    }

    #[inline(always)]
    unsafe fn multiply(one: Floats, other: Floats) -> Floats {
        zip(one, other, |one, other| unsafe { vmulq_f32(one, other) })
    }

    #[inline(always)]
    unsafe fn multiply_add(one: Floats, other: Floats, addend: Floats) -> Floats {
        std::array::from_fn(|part| unsafe { vfmaq_f32(addend[part], one[part], other[part]) })
    }

    // The library's functions for these two have no stable names.
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags))
        }
    }

    #[inline(always)]
    unsafe fn prefetch_to_second_level(at: *const u8) {
        unsafe {
            asm!("prfm pldl2keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags))
        }
    }
}
