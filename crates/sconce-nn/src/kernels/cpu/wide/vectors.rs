//! 512-bit vectors: stored weights as f32 numbers, and sums of lanes in one fixed order.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::{bf16, f16};

/// Elements that are read at a time: two vectors of f32.
pub(super) const CHUNK: usize = 32;

/// Bytes of a line of the cache.
pub(super) const LINE: usize = 64;

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// Whether this machine has all instructions that functions with these features need.
pub(in crate::kernels::cpu) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

/// A stored weight that is widened to f32 while it is read, a chunk at a time.
pub(in crate::kernels::cpu) trait Wide:
    super::super::lanes::Weight
{
    /// Whether a chunk comes as its even and its odd elements, instead of its first and its second half: the cheapest
    /// way to widen numbers that are the upper halves of f32. `x` is then laid out likewise.
    const INTERLEAVED: bool;

    /// # Safety
    /// [`CHUNK`] elements are readable, and the machine has the instructions.
    unsafe fn load(from: *const Self) -> [__m512; 2];

    /// The first `len` elements and zeros.
    ///
    /// # Safety
    /// `len` elements are readable, at most [`CHUNK`], and the machine has the instructions.
    #[inline(always)]
    unsafe fn load_partial(from: *const Self, len: usize) -> [__m512; 2] {
        let mut padded = [Self::default(); CHUNK];
        // SAFETY: promised by the caller.
        unsafe {
            padded[..len].copy_from_slice(std::slice::from_raw_parts(from, len));
            <Self as Wide>::load(padded.as_ptr())
        }
    }
}

// SAFETY of the blocks: promised by the callers of `load`; no load needs alignment.
impl Wide for f32 {
    const INTERLEAVED: bool = false;

    #[inline(always)]
    unsafe fn load(from: *const Self) -> [__m512; 2] {
        unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES))] }
    }
}

impl Wide for f16 {
    const INTERLEAVED: bool = false;

    #[inline(always)]
    unsafe fn load(from: *const Self) -> [__m512; 2] {
        let half = |at: usize| unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.add(at).cast())) };
        [half(0), half(LANES)]
    }
}

impl Wide for bf16 {
    const INTERLEAVED: bool = true;

    #[inline(always)]
    unsafe fn load(from: *const Self) -> [__m512; 2] {
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)),
                _mm512_castsi512_ps(odd),
            ]
        }
    }
}

/// The sum of all lanes: those eight apart first, then four, two and one.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn sum(lanes: __m512) -> f32 {
    let eights = _mm256_add_ps(
        _mm512_castps512_ps256(lanes),
        _mm512_extractf32x8_ps::<1>(lanes),
    );
    let fours = _mm_add_ps(
        _mm256_castps256_ps128(eights),
        _mm256_extractf128_ps::<1>(eights),
    );
    let twos = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));
    _mm_cvtss_f32(_mm_add_ss(twos, _mm_shuffle_ps::<1>(twos, twos)))
}

/// [`sum`] of sixteen vectors at once, in their order: each step adds halves of two vectors and leaves one.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn sums(all: &[__m512; LANES]) -> __m512 {
    let mut eights = [_mm512_setzero_ps(); 8];
    for (to, pair) in eights.iter_mut().zip(all.as_chunks::<2>().0) {
        let lower = _mm512_shuffle_f32x4::<0b01_00_01_00>(pair[0], pair[1]);
        let upper = _mm512_shuffle_f32x4::<0b11_10_11_10>(pair[0], pair[1]);
        *to = _mm512_add_ps(lower, upper);
    }
    let mut fours = [_mm512_setzero_ps(); 4];
    for (to, pair) in fours.iter_mut().zip(eights.as_chunks::<2>().0) {
        let lower = _mm512_shuffle_f32x4::<0b10_00_10_00>(pair[0], pair[1]);
        let upper = _mm512_shuffle_f32x4::<0b11_01_11_01>(pair[0], pair[1]);
        *to = _mm512_add_ps(lower, upper);
    }
    // From here on each quarter of a vector holds sums of one vector: 4 i, 4 i + 1, 4 i + 2 and 4 i + 3 of `all`.
    let mut twos = [_mm512_setzero_ps(); 2];
    for (to, pair) in twos.iter_mut().zip(fours.as_chunks::<2>().0) {
        let lower = _mm512_shuffle_ps::<0b01_00_01_00>(pair[0], pair[1]);
        let upper = _mm512_shuffle_ps::<0b11_10_11_10>(pair[0], pair[1]);
        *to = _mm512_add_ps(lower, upper);
    }
    let even = _mm512_shuffle_ps::<0b10_00_10_00>(twos[0], twos[1]);
    let odd = _mm512_shuffle_ps::<0b11_01_11_01>(twos[0], twos[1]);
    let mixed = _mm512_add_ps(even, odd);
    // Lane `4 q + v` is the sum of vector `4 v + q`.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_ps(order, mixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::numbers;

    #[test]
    fn sixteen_sums_at_once_have_the_bits_of_each_alone() {
        if !is_available() {
            return;
        }
        let all = numbers(LANES * LANES, 1);
        let mut vectors = [unsafe { _mm512_setzero_ps() }; LANES];
        for (vector, lanes) in vectors.iter_mut().zip(all.chunks_exact(LANES)) {
            *vector = unsafe { _mm512_loadu_ps(lanes.as_ptr()) };
        }
        let mut got = [0.0; LANES];
        unsafe { _mm512_storeu_ps(got.as_mut_ptr(), sums(&vectors)) };
        let alone = vectors.map(|vector| unsafe { sum(vector) });
        assert_eq!(got, alone);
        let plain: f32 = all[..LANES].iter().sum();
        assert!((got[0] - plain).abs() < 1e-5);
    }
}
