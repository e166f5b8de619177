//! Sixteen words in a 512-bit register: AVX-512 with VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Isa, Kernel, Line, Rows, Tile};

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

    const TILE: Tile = Tile::Large;

    #[inline(always)]
    unsafe fn splat(word: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(word as i32) }
    }

    #[inline(always)]
    unsafe fn load(from: *const Line) -> __m512i {
        unsafe { _mm512_load_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(words: __m512i, to: *mut Line) {
        unsafe { _mm512_store_si512(to.cast(), words) }
    }

    #[inline(always)]
    unsafe fn load_four(row: *const u8, stride: usize) -> __m512i {
        unsafe {
            let load = |index: usize| _mm_loadu_si128(row.add(4 * index * stride).cast());
            let words = _mm512_castsi128_si512(load(0));
            let words = _mm512_inserti32x4::<1>(words, load(1));
            let words = _mm512_inserti32x4::<2>(words, load(2));
            _mm512_inserti32x4::<3>(words, load(3))
        }
    }

    #[inline(always)]
    unsafe fn load_words(row: *const u8, stride: usize) -> __m512i {
        unsafe {
            let word = |index: usize| row.add(index * stride).cast::<i32>().read_unaligned();
            let four = |from: usize| {
                _mm_setr_epi32(word(from), word(from + 1), word(from + 2), word(from + 3))
            };
            let words = _mm512_castsi128_si512(four(0));
            let words = _mm512_inserti32x4::<1>(words, four(4));
            let words = _mm512_inserti32x4::<2>(words, four(8));
            _mm512_inserti32x4::<3>(words, four(12))
        }
    }

    #[inline(always)]
    unsafe fn repeat(from: *const [i8; 16]) -> __m512i {
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn spread_bits(row: *const u8, stride: usize) -> __m512i {
        unsafe {
            let bits = |index: usize| {
                let bits = row.add(4 * index * stride).cast::<u16>().read_unaligned();
                u64::from(bits) << (16 * index)
            };
            _mm512_maskz_set1_epi8(bits(0) | bits(1) | bits(2) | bits(3), 0x10)
        }
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
    unsafe fn xor(one: __m512i, other: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(one, other) }
    }

    #[inline(always)]
    unsafe fn add(one: __m512i, other: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(one, other) }
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
    unsafe fn dot<const FULL: bool>(sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, x) }
    }

    #[inline(always)]
    unsafe fn transpose(rows: Rows<Self>) -> Rows<Self> {
        unsafe {
            let low = [
                _mm512_unpacklo_epi32(rows[0], rows[1]),
                _mm512_unpacklo_epi32(rows[2], rows[3]),
            ];
            let high = [
                _mm512_unpackhi_epi32(rows[0], rows[1]),
                _mm512_unpackhi_epi32(rows[2], rows[3]),
            ];
            [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn sum_rows(rows: Rows<Self>) -> __m512i {
        unsafe {
            let one = _mm512_add_epi32(
                _mm512_unpacklo_epi32(rows[0], rows[1]),
                _mm512_unpackhi_epi32(rows[0], rows[1]),
            );
            let other = _mm512_add_epi32(
                _mm512_unpacklo_epi32(rows[2], rows[3]),
                _mm512_unpackhi_epi32(rows[2], rows[3]),
            );
            _mm512_add_epi32(
                _mm512_unpacklo_epi64(one, other),
                _mm512_unpackhi_epi64(one, other),
            )
        }
    }

    #[inline(always)]
    unsafe fn widen(words: __m512i) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)) }
    }

    #[inline(always)]
    unsafe fn load_halves(row: *const u8, stride: usize) -> __m512 {
        unsafe {
            let half = |index: usize| row.add(index * stride).cast::<i16>().read_unaligned();
            #[rustfmt::skip]
            let halves = _mm256_setr_epi16(
                half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7),
                half(8), half(9), half(10), half(11), half(12), half(13), half(14), half(15),
            );
            _mm512_cvtph_ps(halves)
        }
    }

    #[inline(always)]
    unsafe fn convert(words: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(words) }
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> __m512 {
        unsafe { _mm512_set1_ps(number) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const Line) -> __m512 {
        unsafe { _mm512_load_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: __m512, to: *mut Line) {
        unsafe { _mm512_store_ps(to.cast(), floats) }
    }

    #[inline(always)]
    unsafe fn add_floats(one: __m512, other: __m512) -> __m512 {
        unsafe { _mm512_add_ps(one, other) }
    }

    #[inline(always)]
    unsafe fn multiply(one: __m512, other: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(one, other) }
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
