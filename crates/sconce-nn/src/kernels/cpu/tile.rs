//! The inner loops of matrix products: a few rows of `x` against a few rows of weights.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lanes, Weight};

/// A matrix in memory: row `r` begins at `start + r * stride`.
#[derive(Clone, Copy)]
pub(super) struct Ptr<T> {
    pub(super) start: *const T,
    pub(super) stride: usize,
}

impl<T> Ptr<T> {
    /// The matrix from row `row` on.
    ///
    /// # Safety
    /// The row lies in the matrix, or directly behind its last one.
    #[inline(always)]
    pub(super) unsafe fn starting_at(self, row: usize) -> Self {
        // SAFETY: promised by the caller.
        Self {
            start: unsafe { self.start.add(row * self.stride) },
            stride: self.stride,
        }
    }

    /// The matrix from column `column` on.
    ///
    /// # Safety
    /// Every row has so many elements.
    #[inline(always)]
    pub(super) unsafe fn at(self, column: usize) -> Self {
        // SAFETY: promised by the caller.
        Self {
            start: unsafe { self.start.add(column) },
            stride: self.stride,
        }
    }
}

/// The dot products of `M` rows of `x` with `N` rows of `w` over `k` elements.
///
/// Every product is summed in one vector of eight lanes, lane `l` over elements `l, l + 8, ..` in that order, and the
/// lanes in the order of [`Lanes::sum`]: the same numbers for every `M` and `N`.
///
/// # Safety
/// `M` rows of `x` and `N` rows of `w` of `k` elements each are readable.
#[inline(always)]
pub(super) unsafe fn dots<L: Lanes, W: Weight, const M: usize, const N: usize>(
    x: Ptr<f32>,
    w: Ptr<W>,
    k: usize,
) -> [[f32; N]; M] {
    let mut sums = [[L::splat(0.0); N]; M];
    let whole = k - k % LANES;
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + LANES <= k`, within readable rows.
        unsafe { step(&mut sums, x, w, at) };
        at += LANES;
    }
    if whole < k {
        // SAFETY: elements `whole..k` are within readable rows.
        unsafe { last_step(&mut sums, x, w, whole, k - whole) };
    }
    let mut result = [[0.0; N]; M];
    for m in 0..M {
        for n in 0..N {
            result[m][n] = sums[m][n].sum();
        }
    }
    result
}

/// Elements `at..at + LANES`.
#[inline(always)]
unsafe fn step<L: Lanes, W: Weight, const M: usize, const N: usize>(
    sums: &mut [[L; N]; M],
    x: Ptr<f32>,
    w: Ptr<W>,
    at: usize,
) {
    let mut weights = [L::splat(0.0); N];
    for n in 0..N {
        // SAFETY: promised by the caller; arrays of numbers have the alignment of a number.
        weights[n] = W::load(unsafe { &*w.start.add(n * w.stride + at).cast() });
    }
    for m in 0..M {
        // SAFETY: as above.
        let x = L::load(unsafe { &*x.start.add(m * x.stride + at).cast() });
        for n in 0..N {
            sums[m][n] = x.mul_add(weights[n], sums[m][n]);
        }
    }
}

/// The last `len` elements, fewer than `LANES`, with zeros behind them.
#[inline(always)]
unsafe fn last_step<L: Lanes, W: Weight, const M: usize, const N: usize>(
    sums: &mut [[L; N]; M],
    x: Ptr<f32>,
    w: Ptr<W>,
    at: usize,
    len: usize,
) {
    let mut xs = [[0.0; LANES]; M];
    let mut ws = [[W::default(); LANES]; N];
    for m in 0..M {
        // SAFETY: promised by the caller of `dots`.
        xs[m][..len].copy_from_slice(unsafe {
            std::slice::from_raw_parts(x.start.add(m * x.stride + at), len)
        });
    }
    for n in 0..N {
        // SAFETY: as above.
        ws[n][..len].copy_from_slice(unsafe {
            std::slice::from_raw_parts(w.start.add(n * w.stride + at), len)
        });
    }
    let x = Ptr {
        start: xs.as_ptr().cast::<f32>(),
        stride: LANES,
    };
    let w = Ptr {
        start: ws.as_ptr().cast::<W>(),
        stride: LANES,
    };
    // SAFETY: both copies have whole vectors.
    unsafe { step(sums, x, w, 0) };
}
