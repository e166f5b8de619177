//! Sixteen words in two 256-bit registers: AVX2 with F16C.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Isa, Kernel, Line};

/// Whether this machine has all instructions that [`run`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Runs the kernel with these instructions.
///
/// # Safety
/// Only where [`is_available`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    // SAFETY: promised by the caller.
    unsafe { kernel.run::<Avx2>() }
}

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Words 0 to 7 and 8 to 15.
type Words = [__m256i; 2];
type Floats = [__m256; 2];

/// Pairs of products are summed in 16 bits, where a byte of 255 would saturate: a full byte goes in as its distance from 128,
/// and its sign with `x`, which is above -128.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn dot<const FULL: bool>(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    let pairs = if FULL {
        let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(i8::MIN));
        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
    } else {
        _mm256_maddubs_epi16(weights, x)
    };
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Words 0 to 3 and 4 to 7.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(words: __m256i) -> [__m128i; 2] {
    [
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words),
    ]
}

// SAFETY of every block below: promised by the callers, see the trait.
impl Isa for Avx2 {
    type Words = Words;
    type Floats = Floats;

    const ROWS: usize = 2;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Words {
        unsafe { [_mm256_set1_epi32(word as i32); 2] }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Words {
        unsafe {
            let from = from.cast::<__m256i>();
            [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))]
        }
    }

    #[inline(always)]
    unsafe fn store(words: Words, to: *mut Line) {
        unsafe {
            let to = to.cast::<__m256i>();
            _mm256_store_si256(to, words[0]);
            _mm256_store_si256(to.add(1), words[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(words: Words, to: *mut i8) {
        unsafe {
            let bytes = _mm256_set1_epi32(0xff);
            let [low, high] = [
                _mm256_and_si256(words[0], bytes),
                _mm256_and_si256(words[1], bytes),
            ];
            // As in `widen`.
            let packed = _mm256_packus_epi32(low, high);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            let [low, high] = halves(words);
            _mm_storeu_si128(to.cast(), _mm_packus_epi16(low, high));
        }
    }

    #[inline(always)]
    unsafe fn and(one: Words, other: Words) -> Words {
        unsafe {
            [
                _mm256_and_si256(one[0], other[0]),
                _mm256_and_si256(one[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn or(one: Words, other: Words) -> Words {
        unsafe {
            [
                _mm256_or_si256(one[0], other[0]),
                _mm256_or_si256(one[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn shift_left(words: Words, bits: u32) -> Words {
        unsafe {
            let bits = _mm_cvtsi32_si128(bits as i32);
            [
                _mm256_sll_epi32(words[0], bits),
                _mm256_sll_epi32(words[1], bits),
            ]
        }
    }

    #[inline(always)]
    unsafe fn shift_right(words: Words, bits: u32) -> Words {
        unsafe {
            let bits = _mm_cvtsi32_si128(bits as i32);
            [
                _mm256_srl_epi32(words[0], bits),
                _mm256_srl_epi32(words[1], bits),
            ]
        }
    }

    #[inline(always)]
    unsafe fn largest(words: Words) -> u32 {
        unsafe {
            let eight = _mm256_max_epu32(words[0], words[1]);
            let [low, high] = halves(eight);
            let four = _mm_max_epu32(low, high);
            let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
            _mm_cvtsi128_si32(one) as u32
        }
    }

    #[inline(always)]
    unsafe fn sum(words: Words) -> u32 {
        unsafe {
            let [low, high] = halves(_mm256_add_epi32(words[0], words[1]));
            let four = _mm_add_epi32(low, high);
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
            _mm_cvtsi128_si32(one) as u32
        }
    }

    #[inline(always)]
    unsafe fn dot<const FULL: bool>(sums: Words, weights: Words, x: Words) -> Words {
        unsafe {
            [
                dot::<FULL>(sums[0], weights[0], x[0]),
                dot::<FULL>(sums[1], weights[1], x[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn widen(words: Words) -> Floats {
        unsafe {
            // Packing goes lane by lane; the order of quarters is 0 2 1 3 afterwards.
            let packed = _mm256_packus_epi32(words[0], words[1]);
            let [low, high] = halves(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> Floats {
        unsafe {
            let from = from.cast::<__m128i>();
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from)),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(1))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn convert(words: Words) -> Floats {
        unsafe { [_mm256_cvtepi32_ps(words[0]), _mm256_cvtepi32_ps(words[1])] }
    }

    #[inline(always)]
    unsafe fn bits(floats: Floats) -> Words {
        unsafe {
            [
                _mm256_castps_si256(floats[0]),
                _mm256_castps_si256(floats[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> Floats {
        unsafe { [_mm256_set1_ps(number); 2] }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> Floats {
        unsafe {
            let from = from.cast::<f32>();
            [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]
        }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: Floats, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, floats[0]);
            _mm256_storeu_ps(to.add(8), floats[1]);
        }
    }

    #[inline(always)]
    unsafe fn multiply(one: Floats, other: Floats) -> Floats {
        unsafe {
            [
                _mm256_mul_ps(one[0], other[0]),
                _mm256_mul_ps(one[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(one: Floats, other: Floats, addend: Floats) -> Floats {
        unsafe {
            [
                _mm256_fmadd_ps(one[0], other[0], addend[0]),
                _mm256_fmadd_ps(one[1], other[1], addend[1]),
            ]
        }
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
