//! Sixteen words in two 256-bit registers: AVX2 with F16C.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Isa, Kernel, Line, Rows, Tile};

/// Whether this machine has all instructions that [`run`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
}

/// Runs the kernel with these instructions.
///
/// # Safety
/// Only where [`is_available`].
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    // SAFETY: promised by the caller.
    unsafe { kernel.run::<Avx2>() }
}

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Words 0 to 7 and 8 to 15.
type Words = [__m256i; 2];
type Floats = [__m256; 2];

/// Eight words, one from each row.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn eight_words(row: *const u8, stride: usize) -> __m256i {
    // SAFETY: promised by the caller, here and below.
    let word = |index: usize| unsafe { row.add(index * stride).cast::<i32>().read_unaligned() };
    #[rustfmt::skip]
    let words = _mm256_setr_epi32(
        word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7),
    );
    words
}

/// `0x10` for each set bit of rows 0 and 4.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn spread_two(row: *const u8, stride: usize) -> __m256i {
    let bits = |index: usize| unsafe { row.add(index * stride).cast::<i16>().read_unaligned() };
    let (low, high) = (_mm_set1_epi16(bits(0)), _mm_set1_epi16(bits(4)));
    let ones = 0x0101_0101_0101_0101;
    let bytes = _mm256_shuffle_epi8(
        _mm256_set_m128i(high, low),
        _mm256_set_epi64x(ones, 0, ones, 0),
    );
    // Every byte looks at its own bit.
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    _mm256_and_si256(set, _mm256_set1_epi8(0x10))
}

/// Pairs of products are summed in 16 bits, where a byte of 255 would saturate: a full byte goes in as its upper bit and
/// the rest.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn dot<const FULL: bool>(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    if FULL {
        let upper = _mm256_set1_epi8(i8::MIN);
        let rest = _mm256_maddubs_epi16(_mm256_andnot_si256(upper, weights), x);
        let upper = _mm256_maddubs_epi16(_mm256_and_si256(upper, weights), x);
        let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(rest, ones));
        _mm256_add_epi32(sums, _mm256_madd_epi16(upper, ones))
    } else {
        let pairs = _mm256_maddubs_epi16(weights, x);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones))
    }
}

/// Transposes the words of each half of the registers.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn transpose(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> [__m256i; 4] {
    let low = [_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d)];
    let high = [_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d)];
    [
        _mm256_unpacklo_epi64(low[0], low[1]),
        _mm256_unpackhi_epi64(low[0], low[1]),
        _mm256_unpacklo_epi64(high[0], high[1]),
        _mm256_unpackhi_epi64(high[0], high[1]),
    ]
}

/// Sums the words of each half of the registers.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn sum(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

// SAFETY of every block below: promised by the callers, see the trait.
impl Isa for Avx2 {
    type Words = Words;
    type Floats = Floats;

    const TILE: Tile = Tile::Small;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Words {
        unsafe { [_mm256_set1_epi32(word as i32); 2] }
    }

    #[inline(always)]
    unsafe fn load(from: *const Line) -> Words {
        unsafe {
            let from = from.cast::<__m256i>();
            [_mm256_load_si256(from), _mm256_load_si256(from.add(1))]
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
    unsafe fn load_four(row: *const u8, stride: usize) -> Words {
        unsafe {
            let load = |index: usize| _mm_loadu_si128(row.add(4 * index * stride).cast());
            [
                _mm256_set_m128i(load(1), load(0)),
                _mm256_set_m128i(load(3), load(2)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_words(row: *const u8, stride: usize) -> Words {
        unsafe {
            [
                eight_words(row, stride),
                eight_words(row.add(8 * stride), stride),
            ]
        }
    }

    #[inline(always)]
    unsafe fn repeat(from: *const [i8; 16]) -> Words {
        unsafe { [_mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast())); 2] }
    }

    #[inline(always)]
    unsafe fn spread_bits(row: *const u8, stride: usize) -> Words {
        unsafe {
            [
                spread_two(row, stride),
                spread_two(row.add(8 * stride), stride),
            ]
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
    unsafe fn xor(one: Words, other: Words) -> Words {
        unsafe {
            [
                _mm256_xor_si256(one[0], other[0]),
                _mm256_xor_si256(one[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add(one: Words, other: Words) -> Words {
        unsafe {
            [
                _mm256_add_epi32(one[0], other[0]),
                _mm256_add_epi32(one[1], other[1]),
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
    unsafe fn dot<const FULL: bool>(sums: Words, weights: Words, x: Words) -> Words {
        unsafe {
            [
                dot::<FULL>(sums[0], weights[0], x[0]),
                dot::<FULL>(sums[1], weights[1], x[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn transpose(rows: Rows<Self>) -> Rows<Self> {
        unsafe {
            let [a, b, c, d] = rows;
            let one = transpose(a[0], b[0], c[0], d[0]);
            let other = transpose(a[1], b[1], c[1], d[1]);
            [
                [one[0], other[0]],
                [one[1], other[1]],
                [one[2], other[2]],
                [one[3], other[3]],
            ]
        }
    }

    #[inline(always)]
    unsafe fn sum_rows(rows: Rows<Self>) -> Words {
        unsafe {
            let [a, b, c, d] = rows;
            [sum(a[0], b[0], c[0], d[0]), sum(a[1], b[1], c[1], d[1])]
        }
    }

    #[inline(always)]
    unsafe fn widen(words: Words) -> Floats {
        unsafe {
            // Packing goes lane by lane; the order of quarters is 0 2 1 3 afterwards.
            let packed = _mm256_packus_epi32(words[0], words[1]);
            let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            [
                _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_halves(row: *const u8, stride: usize) -> Floats {
        unsafe {
            let half = |index: usize| row.add(index * stride).cast::<i16>().read_unaligned();
            #[rustfmt::skip]
            let eight = |from: usize| _mm_setr_epi16(
                half(from), half(from + 1), half(from + 2), half(from + 3),
                half(from + 4), half(from + 5), half(from + 6), half(from + 7),
            );
            [_mm256_cvtph_ps(eight(0)), _mm256_cvtph_ps(eight(8))]
        }
    }

    #[inline(always)]
    unsafe fn convert(words: Words) -> Floats {
        unsafe { [_mm256_cvtepi32_ps(words[0]), _mm256_cvtepi32_ps(words[1])] }
    }

    #[inline(always)]
    unsafe fn splat_float(number: f32) -> Floats {
        unsafe { [_mm256_set1_ps(number); 2] }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const Line) -> Floats {
        unsafe {
            let from = from.cast::<f32>();
            [_mm256_load_ps(from), _mm256_load_ps(from.add(8))]
        }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: Floats, to: *mut Line) {
        unsafe {
            let to = to.cast::<f32>();
            _mm256_store_ps(to, floats[0]);
            _mm256_store_ps(to.add(8), floats[1]);
        }
    }

    #[inline(always)]
    unsafe fn add_floats(one: Floats, other: Floats) -> Floats {
        unsafe {
            [
                _mm256_add_ps(one[0], other[0]),
                _mm256_add_ps(one[1], other[1]),
            ]
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
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_to_second_level(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}
