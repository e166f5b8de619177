//! Sixteen words in a 512-bit register: AVX-512 with VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Isa, Kernel, Line};

/// Whether this machine has all instructions that [`run`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// Runs the kernel with these instructions.
///
/// # Safety
/// Only where [`is_available`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    // SAFETY: promised by the caller.
    unsafe { kernel.run::<Avx512>() }
}

#[derive(Clone, Copy)]
pub(super) struct Avx512;

// SAFETY of every block below: promised by the callers, see the trait.
impl Isa for Avx512 {
    type Words = __m512i;
    type Floats = __m512;

    const ROWS: usize = 12;
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn splat(word: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(word as i32) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(words: __m512i, to: *mut Line) {
        unsafe { _mm512_store_si512(to.cast(), words) }
    }

    #[inline(always)]
    unsafe fn store_bytes(words: __m512i, to: *mut i8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(words)) }
    }

    #[inline(always)]
    unsafe fn and(one: __m512i, other: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(one, other) }
    }

    #[inline(always)]
    unsafe fn or(one: __m512i, other: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(one, other) }
    }

    #[inline(always)]
    unsafe fn shift_left(words: __m512i, bits: u32) -> __m512i {
        unsafe { _mm512_sll_epi32(words, _mm_cvtsi32_si128(bits as i32)) }
    }

    #[inline(always)]
    unsafe fn shift_right(words: __m512i, bits: u32) -> __m512i {
        unsafe { _mm512_srl_epi32(words, _mm_cvtsi32_si128(bits as i32)) }
    }

    #[inline(always)]
    unsafe fn largest(words: __m512i) -> u32 {
        unsafe { _mm512_reduce_max_epu32(words) }
    }

    #[inline(always)]
    unsafe fn sum(words: __m512i) -> u32 {
        unsafe { _mm512_reduce_add_epi32(words) as u32 }
    }

    #[inline(always)]
    unsafe fn dot<const FULL: bool>(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, x) }
    }

    #[inline(always)]
    unsafe fn widen(words: __m512i) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)) }
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn convert(words: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(words) }
    }

    #[inline(always)]
    unsafe fn bits(floats: __m512) -> __m512i {
        unsafe { _mm512_castps_si512(floats) }
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> __m512 {
        unsafe { _mm512_set1_ps(number) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> __m512 {
        unsafe { _mm512_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, floats) }
    }

    #[inline(always)]
    unsafe fn multiply(one: __m512, other: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(one, other) }
    }

    #[inline(always)]
    unsafe fn multiply_add(one: __m512, other: __m512, addend: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(one, other, addend) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_to_second_level(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}
