//! `y += scale · (x · downᵀ) · up` for some rows of `x` and `y`: two thin products in one go, without a pause between them.
//!
//! Every number is summed in one order, whatever rows are computed beside it, so that a row has the same bits alone and
//! in a batch.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use super::lanes::{self, Kernel, LANES, Lanes, Weight};
use super::parallel::{Shared, WORTH_A_FORK};
use super::{pool, scratch};

/// Rows of one task: so many share what they read of the weights.
const ROWS: usize = 8;
/// Rows, and rows of `down`, that are computed at once: their sums are half of sixteen registers.
const TILE: usize = 4;
const RANKS: usize = 2;
/// Vectors of an output row that are computed at once.
const WIDE: usize = 4;

/// Two thin matrices. Their rows are padded with zeros to whole vectors.
#[derive(Clone, Copy)]
pub(crate) struct Thin<'a, T> {
    /// `[rank, inputs]`.
    pub(crate) down: &'a [T],
    /// `[rank, outputs]`.
    pub(crate) up: &'a [T],
    pub(crate) sizes: Sizes,
}

/// Sizes of two thin matrices, and what their product is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) rank: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) scale: f32,
}

/// A length rounded up to whole vectors.
pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(LANES)
}

/// Rows that one pair of matrices is for.
pub(crate) struct Group<'a> {
    /// Which rows, each at most once in all groups.
    pub(crate) rows: &'a [u32],
    pub(crate) matrices: Matrices<'a>,
}

/// Thin matrices of any type.
#[derive(Clone, Copy)]
pub(crate) enum Matrices<'a> {
    F32(Thin<'a, f32>),
    F16(Thin<'a, half::f16>),
    BF16(Thin<'a, half::bf16>),
}

impl Matrices<'_> {
    fn sizes(&self) -> Sizes {
        match self {
            Self::F32(thin) => thin.sizes,
            Self::F16(thin) => thin.sizes,
            Self::BF16(thin) => thin.sizes,
        }
    }
}

/// Adds to `y` `[rows, outputs]` what the groups make of `x` `[rows, inputs]`.
///
/// # Panics
/// If a row is not there, or sizes do not fit.
pub(crate) fn add(x: &[f32], y: &mut [f32], groups: &[Group<'_>]) {
    let Some(first) = groups.first() else {
        return;
    };
    let Sizes {
        inputs, outputs, ..
    } = first.matrices.sizes();
    let rows = y.len() / outputs;
    assert!(x.len() == rows * inputs && y.len() == rows * outputs);
    let mut cost = 0;
    for group in groups {
        let sizes = group.matrices.sizes();
        assert!(sizes.inputs == inputs && sizes.outputs == outputs);
        assert!(group.rows.iter().all(|&row| (row as usize) < rows));
        cost += group.rows.len() * sizes.rank * (inputs + outputs);
    }
    let count: usize = groups.iter().map(|group| group.rows.len()).sum();
    let threads = pool::threads();
    let each = match threads == 1 || cost < WORTH_A_FORK {
        true => ROWS,
        false => count.div_ceil(threads).clamp(1, ROWS),
    };
    let tasks: Vec<(&[u32], Matrices<'_>)> = groups
        .iter()
        .flat_map(|group| group.rows.chunks(each).map(|rows| (rows, group.matrices)))
        .collect();
    let y = Shared::new(y);
    let work = |task: usize| {
        let (rows, matrices) = tasks[task];
        match matrices {
            Matrices::F32(thin) => some(x, &y, rows, thin),
            Matrices::F16(thin) => some(x, &y, rows, thin),
            Matrices::BF16(thin) => some(x, &y, rows, thin),
        }
    };
    if cost < WORTH_A_FORK {
        (0..tasks.len()).for_each(work);
    } else {
        pool::run(tasks.len(), &work);
    }
}

fn some<T: Weight>(x: &[f32], y: &Shared<f32>, rows: &[u32], thin: Thin<'_, T>) {
    scratch::with(rows.len() * thin.sizes.rank, |inner| {
        lanes::dispatch(Some8 {
            x,
            y,
            rows,
            thin,
            inner,
        });
    });
}

/// At most [`ROWS`] rows of one pair of matrices.
struct Some8<'a, T> {
    x: &'a [f32],
    y: &'a Shared<f32>,
    rows: &'a [u32],
    thin: Thin<'a, T>,
    /// `[rows, rank]`, room for what is between the two products.
    inner: &'a mut [f32],
}

impl<T: Weight> Kernel for Some8<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let mut at = 0;
        while at + TILE <= self.rows.len() {
            self.tile::<L, TILE>(at);
            at += TILE;
        }
        while at < self.rows.len() {
            self.tile::<L, 1>(at);
            at += 1;
        }
    }
}

impl<T: Weight> Some8<'_, T> {
    /// `R` rows from `at` on.
    #[inline(always)]
    fn tile<L: Lanes, const R: usize>(&mut self, at: usize) {
        let Sizes {
            rank,
            inputs,
            outputs,
            ..
        } = self.thin.sizes;
        let mut x = [&[][..]; R];
        for r in 0..R {
            x[r] = &self.x[self.rows[at + r] as usize * inputs..][..inputs];
        }
        let mut row = 0;
        while row + RANKS <= rank {
            self.shrink::<L, R, RANKS>(&x, at, row);
            row += RANKS;
        }
        while row < rank {
            self.shrink::<L, R, 1>(&x, at, row);
            row += 1;
        }
        for r in 0..R {
            let row = self.rows[at + r] as usize;
            // SAFETY: no other task has this row, and the output is borrowed while they run.
            let y = unsafe { self.y.part(row * outputs, outputs) };
            self.grow::<L>(&self.inner[(at + r) * rank..][..rank], y);
        }
    }

    /// The products of the `R` rows `x`, from `at` on, with `J` rows of `down` from `first` on.
    #[inline(always)]
    fn shrink<L: Lanes, const R: usize, const J: usize>(
        &mut self,
        x: &[&[f32]; R],
        at: usize,
        first: usize,
    ) {
        let Sizes { rank, inputs, .. } = self.thin.sizes;
        let stride = padded(inputs);
        let mut down = [&[][..]; J];
        for j in 0..J {
            down[j] = &self.thin.down[(first + j) * stride..][..stride];
        }
        let mut sums = [[L::splat(0.0); J]; R];
        let whole = inputs / LANES * LANES;
        for k in (0..stride).step_by(LANES) {
            let mut weights = [L::splat(0.0); J];
            for j in 0..J {
                weights[j] = T::load::<L>(vector(down[j], k));
            }
            for r in 0..R {
                let numbers = match k < whole {
                    true => L::load(vector(x[r], k)),
                    false => L::load_partial(&x[r][k..]),
                };
                for j in 0..J {
                    sums[r][j] = numbers.mul_add(weights[j], sums[r][j]);
                }
            }
        }
        for r in 0..R {
            for j in 0..J {
                self.inner[(at + r) * rank + first + j] = sums[r][j].sum();
            }
        }
    }

    /// Adds the product of one row between with `up`.
    #[inline(always)]
    fn grow<L: Lanes>(&self, inner: &[f32], y: &mut [f32]) {
        let mut at = 0;
        while at + WIDE * LANES <= y.len() {
            self.columns::<L, WIDE>(inner, at, &mut y[at..][..WIDE * LANES]);
            at += WIDE * LANES;
        }
        while at < y.len() {
            let len = LANES.min(y.len() - at);
            self.columns::<L, 1>(inner, at, &mut y[at..][..len]);
            at += len;
        }
    }

    #[inline(always)]
    fn columns<L: Lanes, const C: usize>(&self, inner: &[f32], at: usize, y: &mut [f32]) {
        let Sizes { outputs, scale, .. } = self.thin.sizes;
        let stride = padded(outputs);
        let mut sums = [L::splat(0.0); C];
        for (row, &factor) in inner.iter().enumerate() {
            let factor = L::splat(factor);
            let up = &self.thin.up[row * stride + at..][..C * LANES];
            for c in 0..C {
                sums[c] = factor.mul_add(T::load::<L>(vector(up, c * LANES)), sums[c]);
            }
        }
        for (c, part) in y.chunks_mut(LANES).enumerate() {
            let before = L::load_partial(part);
            sums[c].mul_add(L::splat(scale), before).store_partial(part);
        }
    }
}

/// The vector that begins at `at`.
#[inline(always)]
fn vector<T>(numbers: &[T], at: usize) -> &[T; LANES] {
    let vector = &numbers[at..at + LANES];
    vector.try_into().expect("as many as a vector has")
}
