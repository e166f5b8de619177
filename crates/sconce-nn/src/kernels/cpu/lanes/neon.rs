//! Eight numbers in two 128-bit registers of NEON, which every 64-bit Arm processor has.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::{LANES, Lanes};

/// The lower and the upper four lanes.
#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t, float32x4_t);

impl Neon {
    #[inline(always)]
    fn each(
        self,
        other: Self,
        operation: impl Fn(float32x4_t, float32x4_t) -> float32x4_t,
    ) -> Self {
        Self(operation(self.0, other.0), operation(self.1, other.1))
    }
}

/// The larger of each pair; `other` where either is not a number.
#[inline(always)]
fn larger(one: float32x4_t, other: float32x4_t) -> float32x4_t {
    // SAFETY: as of every block of this file: the target has the instructions, and loads and stores are of whole arrays.
    unsafe { vbslq_f32(vcgtq_f32(one, other), one, other) }
}

impl Lanes for Neon {
    const WIDE: bool = false;
    const BF16: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        unsafe { Self(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        unsafe { Self(vld1q_f32(from.as_ptr()), vld1q_f32(from.as_ptr().add(4))) }
    }

    #[inline(always)]
    fn load_f16(from: &[f16; LANES]) -> Self {
        unsafe {
            let bits = vld1q_u16(from.as_ptr().cast());
            Self(
                vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(bits))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(bits))),
            )
        }
    }

    #[inline(always)]
    fn load_bf16(from: &[bf16; LANES]) -> Self {
        unsafe {
            let bits = vld1q_u16(from.as_ptr().cast());
            Self(
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(bits))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(bits))),
            )
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        unsafe {
            vst1q_f32(to.as_mut_ptr(), self.0);
            vst1q_f32(to.as_mut_ptr().add(4), self.1);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.each(other, |one, other| unsafe { vaddq_f32(one, other) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.each(other, |one, other| unsafe { vsubq_f32(one, other) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.each(other, |one, other| unsafe { vmulq_f32(one, other) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.each(other, |one, other| unsafe { vdivq_f32(one, other) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe {
            Self(
                vfmaq_f32(addend.0, self.0, factor.0),
                vfmaq_f32(addend.1, self.1, factor.1),
            )
        }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.each(other, larger)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.each(other, |one, other| unsafe {
            vbslq_f32(vcltq_f32(one, other), one, other)
        })
    }

    #[inline(always)]
    fn select_below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        unsafe {
            Self(
                vbslq_f32(vcltq_f32(self.0, limit.0), then.0, otherwise.0),
                vbslq_f32(vcltq_f32(self.1, limit.1), then.1, otherwise.1),
            )
        }
    }

    #[inline(always)]
    fn exp2_of_low_bits(self) -> Self {
        let of_four = |four: float32x4_t| unsafe {
            let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(four));
            let one = vdupq_n_s32(1.0f32.to_bits() as i32);
            vreinterpretq_f32_s32(vaddq_s32(exponent, one))
        };
        Self(of_four(self.0), of_four(self.1))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let fours = vaddq_f32(self.0, self.1);
            let twos = vadd_f32(vget_low_f32(fours), vget_high_f32(fours));
            vget_lane_f32::<0>(twos) + vget_lane_f32::<1>(twos)
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let fours = larger(self.0, self.1);
            let swapped = larger(fours, vextq_f32::<2>(fours, fours));
            vgetq_lane_f32::<0>(larger(swapped, vextq_f32::<1>(swapped, swapped)))
        }
    }
}
