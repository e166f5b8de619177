//! Softmax without its division, of scores in 512-bit vectors.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::vectors::LANES;

/// Below it exponentials are zero: none that is smaller than what products compute quickly with.
const LEAST: f32 = -87.33;

/// Turns scores into the exponentials of their distance to the largest, within two units in the last place; their sum. What
/// is no number stays so, and makes the sum none.
///
/// # Safety
/// Inlined into code that has the instructions.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn soften(scores: &mut [f32]) -> f32 {
    let whole = scores.len() / LANES * LANES;
    let rest: __mmask16 = (1 << (scores.len() - whole)) - 1;
    let start = scores.as_mut_ptr();
    // SAFETY: whole vectors within the scores, and what the mask leaves of the last one.
    unsafe {
        let least = _mm512_set1_ps(f32::NEG_INFINITY);
        let mut largest = [least; 2];
        for (index, at) in (0..whole).step_by(LANES).enumerate() {
            let vector = _mm512_loadu_ps(start.add(at));
            largest[index % 2] = _mm512_max_ps(largest[index % 2], vector);
        }
        let last = _mm512_mask_loadu_ps(least, rest, start.wrapping_add(whole));
        let all = _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), last);
        let largest = _mm512_set1_ps(_mm512_reduce_max_ps(all));
        let mut total = [_mm512_setzero_ps(); 2];
        for (index, at) in (0..whole).step_by(LANES).enumerate() {
            let vector = _mm512_loadu_ps(start.add(at));
            let weight = exp(_mm512_sub_ps(vector, largest));
            _mm512_storeu_ps(start.add(at), weight);
            total[index % 2] = _mm512_add_ps(total[index % 2], weight);
        }
        let weight = exp(_mm512_sub_ps(last, largest));
        _mm512_mask_storeu_ps(start.wrapping_add(whole), rest, weight);
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(total[0], total[1]), weight))
    }
}

/// e to the power of each lane, of which none is above zero; what is no number stays so.
#[inline(always)]
unsafe fn exp(x: __m512) -> __m512 {
    // SAFETY: arithmetic of registers, for which the caller has the instructions.
    unsafe {
        let counts = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(LEAST));
        // The second one where either is no number.
        let x = _mm512_max_ps(_mm512_set1_ps(LEAST), x);
        let scaled = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E));
        let whole =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(scaled);
        // ln 2 in two parts, so that the remainder is exact to beyond single precision.
        let rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693_359_4), x);
        let rest = _mm512_fmadd_ps(whole, _mm512_set1_ps(2.121_944_4e-4), rest);
        let mut series = _mm512_set1_ps(1.987_569_1e-4);
        for coefficient in [
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_6e-1,
            0.5,
        ] {
            series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(coefficient));
        }
        let square = _mm512_mul_ps(rest, rest);
        let series = _mm512_add_ps(_mm512_fmadd_ps(series, square, rest), _mm512_set1_ps(1.0));
        _mm512_maskz_scalef_ps(counts, series, whole)
    }
}
