//! `c[r, n] (+)= a[r, k] · b[k, n]` for small blocks: one number of `a` against vectors of `b`.
//!
//! Every element is summed over `k` in order, the same for any number of rows and columns.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lanes};
use super::tile::Ptr;

/// Sizes of a product; `n` is a multiple of the vector length.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) n: usize,
}

/// Where the products go.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
    /// Adds to what is there instead of to zero.
    pub(super) accumulate: bool,
}

/// Multiplies.
///
/// # Safety
/// `a` has `rows` rows of `k`, `b` has `k` rows of `n` and `c` has `rows` rows of `n` numbers, which nobody else uses.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes>(a: Ptr<f32>, b: Ptr<f32>, c: Target, sizes: Sizes) {
    #[cfg(target_arch = "x86_64")]
    if L::WIDE {
        // SAFETY: as promised by the caller; the code around has the instructions.
        let done = unsafe { super::wide::multiply(a, b, c, sizes) };
        // SAFETY: the columns that are left.
        return unsafe {
            in_lanes::<L>(
                a,
                b.at(done),
                c.at(done),
                Sizes {
                    n: sizes.n - done,
                    ..sizes
                },
            )
        };
    }
    // SAFETY: as promised by the caller.
    unsafe { in_lanes::<L>(a, b, c, sizes) };
}

#[inline(always)]
unsafe fn in_lanes<L: Lanes>(a: Ptr<f32>, b: Ptr<f32>, c: Target, sizes: Sizes) {
    let mut column = 0;
    // SAFETY: columns up to `sizes.n` are touched only.
    unsafe {
        while column + 4 * LANES <= sizes.n {
            rows::<L, 3, 4>(a, b, c, sizes, column);
            column += 4 * LANES;
        }
        while column + 2 * LANES <= sizes.n {
            rows::<L, 6, 2>(a, b, c, sizes, column);
            column += 2 * LANES;
        }
        while column < sizes.n {
            rows::<L, 8, 1>(a, b, c, sizes, column);
            column += LANES;
        }
    }
}

impl Target {
    #[inline(always)]
    pub(super) unsafe fn starting_at(self, row: usize) -> Self {
        // SAFETY: the row exists, as the caller promises.
        Self {
            start: unsafe { self.start.add(row * self.stride) },
            ..self
        }
    }

    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    unsafe fn at(self, column: usize) -> Self {
        // SAFETY: the column exists, as the caller promises.
        Self {
            start: unsafe { self.start.add(column) },
            ..self
        }
    }
}

/// All rows, `R` at a time as long as they last, for `C` vectors of columns.
#[inline(always)]
unsafe fn rows<L: Lanes, const R: usize, const C: usize>(
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
            tile::<L, R, C>(a.starting_at(row), b, c.starting_at(row), sizes.k, column);
            row += R;
        }
        while row < sizes.rows {
            tile::<L, 1, C>(a.starting_at(row), b, c.starting_at(row), sizes.k, column);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const C: usize>(
    a: Ptr<f32>,
    b: Ptr<f32>,
    c: Target,
    k: usize,
    column: usize,
) {
    let mut sums = [[L::splat(0.0); C]; R];
    if c.accumulate {
        for r in 0..R {
            for n in 0..C {
                // SAFETY: an element of `c`; arrays of numbers have the alignment of a number.
                sums[r][n] =
                    L::load(unsafe { &*c.start.add(r * c.stride + column + n * LANES).cast() });
            }
        }
    }
    for at in 0..k {
        let mut vectors = [L::splat(0.0); C];
        for n in 0..C {
            // SAFETY: an element of `b`.
            vectors[n] =
                L::load(unsafe { &*b.start.add(at * b.stride + column + n * LANES).cast() });
        }
        for r in 0..R {
            // SAFETY: an element of `a`.
            let factor = L::splat(unsafe { *a.start.add(r * a.stride + at) });
            for n in 0..C {
                sums[r][n] = factor.mul_add(vectors[n], sums[r][n]);
            }
        }
    }
    for r in 0..R {
        for n in 0..C {
            // SAFETY: an element of `c`, which is ours alone.
            sums[r][n]
                .store(unsafe { &mut *c.start.add(r * c.stride + column + n * LANES).cast() });
        }
    }
}
