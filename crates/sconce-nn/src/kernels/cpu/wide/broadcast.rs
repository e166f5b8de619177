//! [`crate::kernels::cpu::broadcast`] in 512-bit vectors: the same sums in the same order.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::vectors::LANES;
use crate::kernels::cpu::broadcast::{Sizes, Target};
use crate::kernels::cpu::tile::Ptr;

/// Multiplies the columns that fill whole vectors; how many these are.
///
/// # Safety
/// As for [`crate::kernels::cpu::broadcast::multiply`], inlined into code that has the instructions.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn multiply(
    a: Ptr<f32>,
    b: Ptr<f32>,
    c: Target,
    sizes: Sizes,
) -> usize {
    let mut column = 0;
    // SAFETY: columns up to `sizes.n` are touched only.
    unsafe {
        while column + 4 * LANES <= sizes.n {
            rows::<4, 4>(a, b, c, sizes, column);
            column += 4 * LANES;
        }
        while column + 2 * LANES <= sizes.n {
            rows::<8, 2>(a, b, c, sizes, column);
            column += 2 * LANES;
        }
        while column + LANES <= sizes.n {
            rows::<8, 1>(a, b, c, sizes, column);
            column += LANES;
        }
    }
    column
}

/// All rows, `R` at a time, for `C` vectors of columns.
#[inline(always)]
unsafe fn rows<const R: usize, const C: usize>(
    a: Ptr<f32>,
    b: Ptr<f32>,
    c: Target,
    sizes: Sizes,
    column: usize,
) {
    let mut row = 0;
    // SAFETY: rows up to `sizes.rows` are touched only.
    unsafe {
        while row + R <= sizes.rows {
            tile::<R, C>(a.starting_at(row), b, c.starting_at(row), sizes.k, column);
            row += R;
        }
        while row + 3 <= sizes.rows {
            tile::<3, C>(a.starting_at(row), b, c.starting_at(row), sizes.k, column);
            row += 3;
        }
        while row < sizes.rows {
            tile::<1, C>(a.starting_at(row), b, c.starting_at(row), sizes.k, column);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<const R: usize, const C: usize>(
    a: Ptr<f32>,
    b: Ptr<f32>,
    c: Target,
    k: usize,
    column: usize,
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
            let mut vectors = [_mm512_setzero_ps(); C];
            for n in 0..C {
                vectors[n] = _mm512_loadu_ps(b.start.add(at * b.stride + column + n * LANES));
            }
            for r in 0..R {
                let factor = _mm512_set1_ps(*a.start.add(r * a.stride + at));
                for n in 0..C {
                    sums[r][n] = _mm512_fmadd_ps(factor, vectors[n], sums[r][n]);
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
