//! `c[r, n] (+)= Σ a[r, p] · b[p, n]` of pairs of bf16 numbers, in 512-bit vectors with AVX-512 BF16.
//!
//! Every element is summed over `p` in order, the same for any number of rows and columns.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::vectors::{LANES, dot};
use crate::kernels::cpu::broadcast::{Sizes, Target};
use crate::kernels::cpu::tile::Ptr;

/// Which numbers of the first and of the last pair count.
#[derive(Clone, Copy)]
struct Edges {
    first: __m512i,
    last: __m512i,
}

/// Rounds numbers to the nearest bf16, ties to even, and puts them in the first half of their place; an odd one gets a
/// zero beside it.
///
/// # Safety
/// Inlined into code that has AVX-512 BF16.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn round_in_place(numbers: &mut [f32]) {
    let (len, start) = (numbers.len(), numbers.as_mut_ptr());
    let mut at = 0;
    while at < len {
        let left = len - at;
        let mask = |lanes: usize| ((1_u32 << lanes.min(LANES)) - 1) as __mmask16;
        // SAFETY: the masks end where the numbers do; words are written only where numbers were read before.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask(left), start.add(at));
            let behind = start.wrapping_add(at + LANES);
            let high = _mm512_maskz_loadu_ps(mask(left.saturating_sub(LANES)), behind);
            let both = _mm512_cvtne2ps_pbh(high, low);
            let words = std::mem::transmute::<__m512bh, __m512i>(both);
            let to = start.add(at / 2).cast();
            _mm512_mask_storeu_epi32(to, mask(left.div_ceil(2)), words);
        }
        at += 2 * LANES;
    }
}

/// Multiplies; `n` is a multiple of the vector's length. The first pair begins with number `seen.start`, or with the one
/// before if that is odd, and only numbers in `seen` are multiplied in.
///
/// # Safety
/// As for [`crate::kernels::cpu::broadcast::multiply`], in words, inlined into code that has AVX-512 BF16.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn multiply_pairs(
    a: Ptr<u32>,
    b: Ptr<u32>,
    c: Target,
    sizes: Sizes,
    seen: &Range<usize>,
) {
    let mut column = 0;
    // SAFETY: columns up to `sizes.n` are touched only.
    unsafe {
        let whole = _mm512_set1_epi32(-1);
        let edges = Edges {
            first: if seen.start.is_multiple_of(2) {
                whole
            } else {
                _mm512_slli_epi32::<16>(whole)
            },
            last: if seen.end.is_multiple_of(2) {
                whole
            } else {
                _mm512_srli_epi32::<16>(whole)
            },
        };
        while column + 4 * LANES <= sizes.n {
            rows::<4, 4>(a, b, c, sizes, column, edges);
            column += 4 * LANES;
        }
        while column + 2 * LANES <= sizes.n {
            rows::<8, 2>(a, b, c, sizes, column, edges);
            column += 2 * LANES;
        }
        while column + LANES <= sizes.n {
            rows::<8, 1>(a, b, c, sizes, column, edges);
            column += LANES;
        }
    }
    debug_assert_eq!(column, sizes.n);
}

/// All rows, `R` at a time, for `C` vectors of columns.
#[inline(always)]
unsafe fn rows<const R: usize, const C: usize>(
    a: Ptr<u32>,
    b: Ptr<u32>,
    c: Target,
    sizes: Sizes,
    column: usize,
    edges: Edges,
) {
    let mut row = 0;
    // SAFETY: rows up to `sizes.rows` are touched only.
    unsafe {
        while row + R <= sizes.rows {
            let (a, c) = (a.starting_at(row), c.starting_at(row));
            tile::<R, C>(a, b, c, sizes.k, column, edges);
            row += R;
        }
        while row + 3 <= sizes.rows {
            let (a, c) = (a.starting_at(row), c.starting_at(row));
            tile::<3, C>(a, b, c, sizes.k, column, edges);
            row += 3;
        }
        while row < sizes.rows {
            let (a, c) = (a.starting_at(row), c.starting_at(row));
            tile::<1, C>(a, b, c, sizes.k, column, edges);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<const R: usize, const C: usize>(
    a: Ptr<u32>,
    b: Ptr<u32>,
    c: Target,
    k: usize,
    column: usize,
    edges: Edges,
) {
    // SAFETY: elements of `a`, `b` and `c`, as the callers see to; `c` is theirs alone.
    unsafe {
        let to = |r: usize, n: usize| c.start.add(r * c.stride + column + n * LANES);
        let mut sums = [[_mm512_setzero_ps(); C]; R];
        if c.accumulate {
            for r in 0..R {
                for n in 0..C {
                    sums[r][n] = _mm512_loadu_ps(to(r, n));
                }
            }
        }
        for at in 0..k {
            let mut vectors = [_mm512_setzero_si512(); C];
            for n in 0..C {
                let from = b.start.add(at * b.stride + column + n * LANES);
                vectors[n] = _mm512_loadu_si512(from.cast());
                // Predicted well: it changes twice at most.
                if at == 0 {
                    vectors[n] = _mm512_and_si512(vectors[n], edges.first);
                }
                if at + 1 == k {
                    vectors[n] = _mm512_and_si512(vectors[n], edges.last);
                }
            }
            for r in 0..R {
                let pair = _mm512_set1_epi32(*a.start.add(r * a.stride + at) as i32);
                for n in 0..C {
                    sums[r][n] = dot(sums[r][n], pair, vectors[n]);
                }
            }
        }
        for r in 0..R {
            for n in 0..C {
                _mm512_storeu_ps(to(r, n), sums[r][n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::numbers;
    use crate::kernels::cpu::wide::has_bf16;
    use half::bf16;

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn round(numbers: &mut [f32]) {
        // SAFETY: these are the instructions.
        unsafe { round_in_place(numbers) }
    }

    #[test]
    fn rounded_numbers_lie_in_the_first_half_of_their_place_and_the_rest_is_left_alone() {
        if !has_bf16() {
            return;
        }
        for len in [1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 80, 129] {
            let exact = numbers(len + 1, 1);
            let mut got = exact.clone();
            // SAFETY: the machine has the instructions.
            unsafe { round(&mut got[..len]) };
            let words: Vec<u32> = got[..len.div_ceil(2)].iter().map(|x| x.to_bits()).collect();
            for (index, exact) in exact[..len].iter().enumerate() {
                let bits = (words[index / 2] >> (16 * (index % 2))) as u16;
                assert_eq!(bits, bf16::from_f32(*exact).to_bits(), "{index} of {len}");
            }
            if len % 2 == 1 {
                assert_eq!(words[len / 2] >> 16, 0, "nothing beside the last of {len}");
            }
            assert_eq!(got[len], exact[len]);
        }
    }
}
