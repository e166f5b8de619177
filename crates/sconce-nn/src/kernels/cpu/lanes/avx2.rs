//! Eight numbers in a 256-bit register: AVX2, FMA and F16C; where there is AVX-512, products of blocks use its vectors.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Kernel, LANES, Lanes};
use crate::kernels::cpu::wide;

/// Whether this machine has all instructions that [`run`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Runs the kernel with these vectors; only where [`is_available`].
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn with_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Avx2<false, false>>()
    }
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn with_wide_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Avx2<true, false>>()
    }
    debug_assert!(is_available());
    if wide::is_available() {
        // SAFETY: asked.
        return unsafe { with_wide_features(kernel) };
    }
    // SAFETY: `dispatch`, the only caller, has asked `is_available`.
    unsafe { with_features(kernel) }
}

/// As [`run`], with the products of bf16 numbers; only where [`wide::has_bf16`].
pub(super) fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn with_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Avx2<true, true>>()
    }
    debug_assert!(is_available() && wide::has_bf16());
    // SAFETY: `dispatch_bf16`, the only caller, has asked; machines with AVX-512 have AVX2 as well.
    unsafe { with_features(kernel) }
}

/// Only the functions above name this type, so every method is inlined into a function that has the instructions;
/// `WIDE`: those of AVX-512 too, `BF16`: its products of bf16 numbers too.
#[derive(Clone, Copy)]
struct Avx2<const WIDE: bool, const BF16: bool>(__m256);

// SAFETY of every block below: the instructions exist, since only these functions make kernels of this type; loads and
// stores are of whole arrays and need no alignment.
impl<const WIDE: bool, const BF16: bool> Lanes for Avx2<WIDE, BF16> {
    const WIDE: bool = WIDE;
    const BF16: bool = BF16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn load_f16(from: &[f16; LANES]) -> Self {
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) })
    }

    #[inline(always)]
    fn load_bf16(from: &[bf16; LANES]) -> Self {
        Self(unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn select_below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        Self(unsafe {
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, limit.0);
            _mm256_blendv_ps(otherwise.0, then.0, below)
        })
    }

    #[inline(always)]
    fn exp2_of_low_bits(self) -> Self {
        Self(unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
            let one = _mm256_set1_epi32(1.0f32.to_bits() as i32);
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, one))
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let fours = _mm_add_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let twos = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));
            _mm_cvtss_f32(_mm_add_ss(twos, _mm_shuffle_ps::<1>(twos, twos)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let fours = _mm_max_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let twos = _mm_max_ps(fours, _mm_movehl_ps(fours, fours));
            _mm_cvtss_f32(_mm_max_ss(twos, _mm_shuffle_ps::<1>(twos, twos)))
        }
    }
}
