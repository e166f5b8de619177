//! How the keys and values of a block are multiplied, by the type that they are kept in.
//!
//! Numbers of half the size lie in pairs that share a word: two elements of a key, one element of the values of two
//! tokens. So they suit instructions that multiply pairs of bf16 numbers ([`Paired`]); without these, blocks are widened
//! first ([`Widened`]).
#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;

use super::Paged;
use crate::kernels::cpu::broadcast::{Sizes, Target, multiply};
use crate::kernels::cpu::lanes::{LANES, Lanes};
use crate::kernels::cpu::tile::Ptr;
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::wide;

/// A type of numbers in the cache; any bits are one.
pub(crate) trait Stored: Copy + Send + Sync + 'static {
    /// Numbers in a word.
    const PAIR: usize;
    /// Rows of values are padded to a multiple of so many numbers.
    const VECTOR: usize;

    fn of(number: f32) -> Self;

    /// Attends in the way of these instructions.
    fn attend<L: Lanes>(task: Paged<'_, Self>);
}

impl Stored for f32 {
    const PAIR: usize = 1;
    const VECTOR: usize = LANES;

    #[inline(always)]
    fn of(number: f32) -> Self {
        number
    }

    #[inline(always)]
    fn attend<L: Lanes>(task: Paged<'_, Self>) {
        task.attend::<L, Exact>();
    }
}

impl Stored for bf16 {
    const PAIR: usize = 2;
    const VECTOR: usize = 2 * LANES;

    #[inline(always)]
    fn of(number: f32) -> Self {
        Self::from_f32(number)
    }

    #[inline(always)]
    fn attend<L: Lanes>(task: Paged<'_, Self>) {
        #[cfg(target_arch = "x86_64")]
        if L::BF16 {
            return task.attend::<L, Paired>();
        }
        task.attend::<L, Widened>();
    }
}

/// A way to multiply rows of f32 numbers with a block `[depth, n]` of words.
pub(super) trait Way {
    type Stored: Stored;
    type Word: Copy;
    /// Numbers of a row that one word holds.
    const PAIR: usize;

    /// Turns rows of `k` numbers into words, in the same place; rows stay as far apart.
    ///
    /// # Safety
    /// The code around has the instructions of `L`.
    unsafe fn rows<L: Lanes>(rows: &mut [f32], k: usize) -> Ptr<Self::Word>;

    /// The words of a block whose rows have `n` words; `room` has place for its numbers.
    fn block(stored: &[Self::Stored], n: usize, room: &mut [f32]) -> *const Self::Word;

    /// Multiplies; of the first and the last word of a row only the numbers in `seen` count, where the row begins with
    /// number `seen.start` rounded down to a whole word.
    ///
    /// # Safety
    /// As for [`multiply`], in words.
    unsafe fn multiply<L: Lanes>(
        a: Ptr<Self::Word>,
        b: Ptr<Self::Word>,
        c: Target,
        sizes: Sizes,
        seen: &Range<usize>,
    );
}

/// Kept in f32.
pub(super) struct Exact;

impl Way for Exact {
    type Stored = f32;
    type Word = f32;
    const PAIR: usize = 1;

    #[inline(always)]
    unsafe fn rows<L: Lanes>(rows: &mut [f32], k: usize) -> Ptr<f32> {
        Ptr {
            start: rows.as_ptr(),
            stride: k,
        }
    }

    #[inline(always)]
    fn block(stored: &[f32], _: usize, _: &mut [f32]) -> *const f32 {
        stored.as_ptr()
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes>(
        a: Ptr<f32>,
        b: Ptr<f32>,
        c: Target,
        sizes: Sizes,
        _: &Range<usize>,
    ) {
        // SAFETY: promised by the caller.
        unsafe { multiply::<L>(a, b, c, sizes) };
    }
}

/// Kept in bf16, computed in f32.
pub(super) struct Widened;

impl Way for Widened {
    type Stored = bf16;
    type Word = f32;
    const PAIR: usize = 1;

    #[inline(always)]
    unsafe fn rows<L: Lanes>(rows: &mut [f32], k: usize) -> Ptr<f32> {
        // SAFETY: promised by the caller.
        unsafe { Exact::rows::<L>(rows, k) }
    }

    #[inline(always)]
    fn block(stored: &[bf16], n: usize, room: &mut [f32]) -> *const f32 {
        for (pairs, rows) in stored.chunks_exact(2 * n).zip(room.chunks_exact_mut(2 * n)) {
            let (even, odd) = rows.split_at_mut(n);
            let pairs = pairs.as_chunks::<2>().0;
            for (pair, (even, odd)) in pairs.iter().zip(even.iter_mut().zip(odd)) {
                (*even, *odd) = (widen(pair[0]), widen(pair[1]));
            }
        }
        room.as_ptr()
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes>(
        a: Ptr<f32>,
        b: Ptr<f32>,
        c: Target,
        sizes: Sizes,
        seen: &Range<usize>,
    ) {
        // SAFETY: promised by the caller.
        unsafe { Exact::multiply::<L>(a, b, c, sizes, seen) };
    }
}

/// The number as f32. `bf16::to_f32` also makes signalling NaNs quiet, which no vector does.
#[inline(always)]
fn widen(number: bf16) -> f32 {
    f32::from_bits(u32::from(number.to_bits()) << 16)
}

/// Kept in bf16; queries and weights are rounded to bf16 too, and pairs are summed in f32.
#[cfg(target_arch = "x86_64")]
pub(super) struct Paired;

#[cfg(target_arch = "x86_64")]
impl Way for Paired {
    type Stored = bf16;
    type Word = u32;
    const PAIR: usize = 2;

    #[inline(always)]
    unsafe fn rows<L: Lanes>(rows: &mut [f32], k: usize) -> Ptr<u32> {
        for row in rows.chunks_exact_mut(k) {
            // SAFETY: the instructions are there, since this way is only taken with them.
            unsafe { wide::round_in_place(row) };
        }
        Ptr {
            start: rows.as_ptr().cast(),
            stride: k,
        }
    }

    #[inline(always)]
    fn block(stored: &[bf16], _: usize, _: &mut [f32]) -> *const u32 {
        stored.as_ptr().cast()
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes>(
        a: Ptr<u32>,
        b: Ptr<u32>,
        c: Target,
        sizes: Sizes,
        seen: &Range<usize>,
    ) {
        // SAFETY: promised by the caller; the instructions are there, since this way is only taken with them.
        unsafe { wide::multiply_pairs(a, b, c, sizes, seen) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::lanes::{Kernel, Portable, dispatch, dispatch_bf16};
    use crate::kernels::cpu::testing::numbers;
    #[cfg(target_arch = "x86_64")]
    use crate::kernels::cpu::wide::has_bf16;
    use std::marker::PhantomData;

    const DEPTH: usize = 32;

    /// `rows[.., seen] · block[seen, n]`.
    struct Product<'a, W> {
        rows: &'a [f32],
        block: &'a [bf16],
        n: usize,
        seen: Range<usize>,
        way: PhantomData<W>,
    }

    impl<W: Way<Stored = bf16>> Kernel for Product<'_, W> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<f32> {
            let (n, seen) = (self.n, self.seen);
            let mut rows = self.rows.to_vec();
            let count = rows.len() / DEPTH;
            let mut room = vec![0.0; self.block.len()];
            let mut sums = vec![1.0; count * n];
            let first = seen.start / W::PAIR;
            let sizes = Sizes {
                rows: count,
                k: seen.end.div_ceil(W::PAIR) - first,
                n,
            };
            let sums_at = Target {
                start: sums.as_mut_ptr(),
                stride: n,
                accumulate: true,
            };
            // SAFETY: `[count, DEPTH]`, `[DEPTH, n]` and `[count, n]`; the tests ask for the instructions.
            unsafe {
                let a = W::rows::<L>(&mut rows, DEPTH).at(first);
                let b = Ptr {
                    start: W::block(self.block, n, &mut room),
                    stride: n,
                };
                W::multiply::<L>(a, b.starting_at(first), sums_at, sizes, &seen);
            }
            sums
        }
    }

    /// Pairs of rows share words; what is not seen is no number.
    fn block(values: &[f32], n: usize, seen: &Range<usize>) -> Vec<bf16> {
        let mut block = vec![bf16::NAN; values.len()];
        for (index, value) in values.iter().enumerate() {
            let (row, column) = (index / n, index % n);
            if seen.contains(&row) {
                block[(row / 2 * n + column) * 2 + row % 2] = bf16::from_f32(*value);
            }
        }
        block
    }

    #[test]
    fn both_ways_of_pairs_add_what_is_seen_and_nothing_else() {
        for (count, n) in [(1, 16), (3, 32), (7, 64), (9, 80), (2, 112)] {
            for seen in [0..32, 0..1, 1..2, 5..6, 4..20, 3..20, 3..17, 31..32] {
                let mut rows = numbers(count * DEPTH, 1);
                for (index, number) in rows.iter_mut().enumerate() {
                    // As weights are, and so that rounding them changes nothing.
                    let is_seen = seen.contains(&(index % DEPTH));
                    *number = if is_seen {
                        bf16::from_f32(*number).to_f32()
                    } else {
                        0.0
                    };
                }
                let values = numbers(DEPTH * n, 2);
                let block = block(&values, n, &seen);
                let check = |way: &str, got: Vec<f32>| {
                    for (index, got) in got.into_iter().enumerate() {
                        let (row, column) = (index / n, index % n);
                        let product = |at: usize| {
                            let value = bf16::from_f32(values[at * n + column]);
                            f64::from(rows[row * DEPTH + at]) * value.to_f64()
                        };
                        let wanted = 1.0 + seen.clone().map(product).sum::<f64>();
                        let error = (f64::from(got) - wanted).abs();
                        assert!(
                            error < 1e-5,
                            "{way} [{count}, {n}] {seen:?}: {got}, not {wanted}"
                        );
                    }
                };
                fn product<'a, W>(
                    rows: &'a [f32],
                    block: &'a [bf16],
                    n: usize,
                    seen: &Range<usize>,
                ) -> Product<'a, W> {
                    Product {
                        rows,
                        block,
                        n,
                        seen: seen.clone(),
                        way: PhantomData,
                    }
                }
                let widened = || product::<Widened>(&rows, &block, n, &seen);
                check("plain", widened().run::<Portable>());
                check("widened", dispatch(widened()));
                #[cfg(target_arch = "x86_64")]
                if has_bf16() {
                    let paired = product::<Paired>(&rows, &block, n, &seen);
                    check("paired", dispatch_bf16(paired));
                }
            }
        }
    }
}
