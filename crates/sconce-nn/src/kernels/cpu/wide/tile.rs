//! The inner loops: a few rows of `x` against a few rows of weights, with all sums in registers.
//!
//! Every product is summed in one vector, lane `l` over a fixed set of elements in their order, and the lanes as
//! [`super::vectors::sum`] does: the same bits for any number of rows at a time.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use half::bf16;

use super::vectors::{CHUNK, LANES, LINE, Wide, sum, sums};
use super::{Products, Task};
use crate::kernels::cpu::tile::Ptr;

/// How far ahead of a chunk of weights the first and the second cache level are filled, in bytes: rows that come from
/// memory are read in their order, across the pages where the processor stops guessing.
const AHEAD: [usize; 2] = [2 << 10, 8 << 10];

/// How `x` and the weights are multiplied: the numbers that `x` consists of, and a step over one chunk of both.
pub(super) trait Multiply: Sync + Sized {
    type X: Copy + Sync;
    type W: Wide;

    /// Adds the products of a chunk of `M` rows of `x` and `N` rows of weights, of which `len` elements exist.
    ///
    /// # Safety
    /// `x` has whole chunks, the weights `len` elements; the machine has the instructions.
    unsafe fn step<const M: usize, const N: usize>(
        lanes: &mut [[__m512; N]; M],
        x: Ptr<Self::X>,
        w: Ptr<Self::W>,
        len: usize,
    );

    /// [`Products::compute`], compiled with the instructions that [`Self::step`] needs.
    ///
    /// # Safety
    /// The machine has them.
    unsafe fn compute(products: &Products<'_, Self>, task: &Task);
}

/// f32 numbers against weights that are widened in registers.
pub(super) struct Exact<W>(std::marker::PhantomData<W>);

impl<W: Wide> Multiply for Exact<W> {
    type X = f32;
    type W = W;

    #[inline(always)]
    unsafe fn step<const M: usize, const N: usize>(
        lanes: &mut [[__m512; N]; M],
        x: Ptr<f32>,
        w: Ptr<W>,
        len: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let mut weights = [[_mm512_setzero_ps(); 2]; N];
            for n in 0..N {
                let from = w.start.add(n * w.stride);
                weights[n] = if len == CHUNK {
                    <W as Wide>::load(from)
                } else {
                    W::load_partial(from, len)
                };
            }
            for half in 0..2 {
                for m in 0..M {
                    let x = _mm512_loadu_ps(x.start.add(m * x.stride + half * LANES));
                    for n in 0..N {
                        lanes[m][n] = _mm512_fmadd_ps(x, weights[n][half], lanes[m][n]);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn compute(products: &Products<'_, Self>, task: &Task) {
        // SAFETY: these are the instructions.
        unsafe { products.compute(task) }
    }
}

/// Activations rounded to bf16 against bf16 weights, two products to a lane.
pub(super) struct Rounded;

impl Multiply for Rounded {
    type X = bf16;
    type W = bf16;

    #[inline(always)]
    unsafe fn step<const M: usize, const N: usize>(
        lanes: &mut [[__m512; N]; M],
        x: Ptr<bf16>,
        w: Ptr<bf16>,
        len: usize,
    ) {
        // SAFETY: promised by the caller; vectors of bf16 are bits like any other.
        unsafe {
            let mut weights = [_mm512_setzero_si512(); N];
            for n in 0..N {
                let from = w.start.add(n * w.stride);
                weights[n] = if len == CHUNK {
                    _mm512_loadu_si512(from.cast())
                } else {
                    let mut padded = [bf16::ZERO; CHUNK];
                    padded[..len].copy_from_slice(std::slice::from_raw_parts(from, len));
                    _mm512_loadu_si512(padded.as_ptr().cast())
                };
            }
            for m in 0..M {
                let x = _mm512_loadu_si512(x.start.add(m * x.stride).cast());
                for n in 0..N {
                    lanes[m][n] = dot(lanes[m][n], x, weights[n]);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn compute(products: &Products<'_, Self>, task: &Task) {
        // SAFETY: these are the instructions.
        unsafe { products.compute(task) }
    }
}

/// Adds the products of two times 32 bf16 numbers, two to each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn dot(lanes: __m512, x: __m512i, w: __m512i) -> __m512 {
    // SAFETY: both types are 512 bits without any that are invalid.
    unsafe {
        let (x, w) = (
            std::mem::transmute::<__m512i, __m512bh>(x),
            std::mem::transmute::<__m512i, __m512bh>(w),
        );
        _mm512_dpbf16_ps(lanes, x, w)
    }
}

/// The dot products of `M` rows of `x` with `N` rows of weights over `k` elements, a row of `N` for each of `x`.
///
/// # Safety
/// `M` rows of `x` of whole chunks and `N` rows of weights of `k` elements are readable; the machine has the
/// instructions.
#[inline(always)]
pub(super) unsafe fn dots<P: Multiply, const M: usize, const N: usize>(
    x: Ptr<P::X>,
    w: Ptr<P::W>,
    k: usize,
) -> [[f32; N]; M] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut lanes = [[_mm512_setzero_ps(); N]; M];
        products::<P, M, N>(&mut lanes, x, w, k, |_| {});
        summed(&lanes)
    }
}

/// As [`dots`], but the rows of weights are read one after the other, with those that follow on their way from memory.
///
/// # Safety
/// As for [`dots`].
#[inline(always)]
pub(super) unsafe fn dots_in_order<P: Multiply, const M: usize, const N: usize>(
    x: Ptr<P::X>,
    w: Ptr<P::W>,
    k: usize,
) -> [[f32; N]; M] {
    // SAFETY: promised by the caller; what is fetched ahead is not read.
    unsafe {
        let mut lanes = [[_mm512_setzero_ps(); N]; M];
        for n in 0..N {
            let mut row = [[_mm512_setzero_ps(); 1]; M];
            let w = w.starting_at(n);
            products::<P, M, 1>(&mut row, x, w, k, |at| fetch_ahead(w.start.add(at)));
            for m in 0..M {
                lanes[m][n] = row[m][0];
            }
        }
        summed(&lanes)
    }
}

/// Adds the products over `k` elements; `before` is called with the first element of every whole chunk.
#[inline(always)]
unsafe fn products<P: Multiply, const M: usize, const N: usize>(
    lanes: &mut [[__m512; N]; M],
    x: Ptr<P::X>,
    w: Ptr<P::W>,
    k: usize,
    before: impl Fn(usize),
) {
    // SAFETY: chunks up to `k` are read only.
    unsafe {
        let whole = k - k % CHUNK;
        let mut at = 0;
        while at < whole {
            before(at);
            P::step(lanes, x.at(at), w.at(at), CHUNK);
            at += CHUNK;
        }
        if whole < k {
            P::step(lanes, x.at(whole), w.at(whole), k - whole);
        }
    }
}

/// Asks for the weights that come [`AHEAD`] of this chunk.
#[inline(always)]
unsafe fn fetch_ahead<W>(chunk: *const W) {
    let mut line = 0;
    while line < CHUNK * size_of::<W>() {
        let here = chunk.cast::<i8>().wrapping_add(line);
        // SAFETY: a hint, which reads nothing and may point anywhere.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(here.wrapping_add(AHEAD[0]));
            _mm_prefetch::<_MM_HINT_T1>(here.wrapping_add(AHEAD[1]));
        }
        line += LINE;
    }
}

/// The sums of all vectors of a tile.
#[inline(always)]
unsafe fn summed<const M: usize, const N: usize>(lanes: &[[__m512; N]; M]) -> [[f32; N]; M] {
    let mut result = [[0.0; N]; M];
    // SAFETY: the caller's machine has the instructions; a tile of sixteen is sixteen vectors without gaps.
    unsafe {
        if M * N == LANES {
            let all = sums(&*lanes.as_ptr().cast::<[__m512; LANES]>());
            _mm512_storeu_ps(result.as_mut_ptr().cast(), all);
        } else {
            for m in 0..M {
                for n in 0..N {
                    result[m][n] = sum(lanes[m][n]);
                }
            }
        }
    }
    result
}
