//! 512-bit vectors: words of stored weights as f32 numbers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::{bf16, f16};

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// Whether this machine has all instructions that functions with these features need.
pub(in crate::kernels::cpu) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

/// Whether this machine multiplies bf16 numbers with each other.
pub(in crate::kernels::cpu) fn has_bf16() -> bool {
    is_available() && is_x86_feature_detected!("avx512bf16")
}

/// A stored weight of which a word holds one or two.
pub(in crate::kernels::cpu) trait Wide:
    super::super::lanes::Weight
{
    /// Weights in a word.
    const PER_WORD: usize;

    /// The first weight of each word, or the second.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn widen(words: __m512i, second: bool) -> __m512;
}

impl Wide for f32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn widen(words: __m512i, _: bool) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe { _mm512_castsi512_ps(words) }
    }
}

impl Wide for f16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn widen(words: __m512i, second: bool) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe {
            let words = if second {
                _mm512_srli_epi32::<16>(words)
            } else {
                words
            };
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
        }
    }
}

impl Wide for bf16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn widen(words: __m512i, second: bool) -> __m512 {
        // SAFETY: promised by the caller.
        unsafe {
            _mm512_castsi512_ps(if second {
                _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32))
            } else {
                _mm512_slli_epi32::<16>(words)
            })
        }
    }
}

/// Adds the products of two times 32 bf16 numbers, two to each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn dot(lanes: __m512, x: __m512i, w: __m512i) -> __m512 {
    // SAFETY: both types are 512 bits without any that are invalid.
    unsafe {
        let (x, w) = (
            std::mem::transmute::<__m512i, __m512bh>(x),
            std::mem::transmute::<__m512i, __m512bh>(w),
        );
        _mm512_dpbf16_ps(lanes, x, w)
    }
}
