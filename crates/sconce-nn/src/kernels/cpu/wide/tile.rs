//! The inner loop: some rows of `x` against a panel of weights, with all sums in registers.
//!
//! Every output is summed in one lane over `k` in order: the same bits for any number of rows at a time, and however `k`
//! is cut.
#![allow(unsafe_code)]
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use half::bf16;

use super::vectors::{LANES, Wide, dot};
use super::{Products, ROWS, ROWS_OF_HALVES, Task};
use crate::kernels::cpu::tile::Ptr;

/// Vectors of a panel.
const VECTORS: usize = 2;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// How far ahead of the words of a step the first cache level is filled, in bytes, and the second where weights come from
/// memory: in their order, across the pages where the processor stops guessing.
const NEAR: usize = 2 << 10;
const FAR: usize = 8 << 10;

/// Sums of `M` rows of `x`.
type Sums<const M: usize> = [[__m512; VECTORS]; M];

/// How `x` and the weights are multiplied: the numbers that `x` consists of, and a step over one word of each weight row.
pub(super) trait Multiply: Sync + Sized {
    type X: Copy + Sync;
    type W: Sync;
    /// Numbers of `x` that a step takes.
    const TAKEN: usize;
    /// Rows of `x` for whose sums there are registers, at most [`ROWS`].
    const ROWS: usize;

    /// Adds the products of a step.
    ///
    /// # Safety
    /// `M` rows of [`Self::TAKEN`] numbers are readable at `x`; the machine has the instructions.
    unsafe fn step<const M: usize>(sums: &mut Sums<M>, x: Ptr<Self::X>, words: [__m512i; VECTORS]);

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
    const TAKEN: usize = W::PER_WORD;
    const ROWS: usize = if W::PER_WORD == 1 {
        ROWS
    } else {
        ROWS_OF_HALVES
    };

    #[inline(always)]
    unsafe fn step<const M: usize>(sums: &mut Sums<M>, x: Ptr<f32>, words: [__m512i; VECTORS]) {
        // SAFETY: promised by the caller.
        unsafe {
            for part in 0..W::PER_WORD {
                let weights = words.map(|words| W::widen(words, part == 1));
                for m in 0..M {
                    let x = _mm512_set1_ps(*x.start.add(m * x.stride + part));
                    for n in 0..VECTORS {
                        sums[m][n] = _mm512_fmadd_ps(x, weights[n], sums[m][n]);
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

/// Pairs of activations rounded to bf16 against pairs of bf16 weights.
pub(super) struct Rounded;

impl Multiply for Rounded {
    type X = u32;
    type W = bf16;
    const TAKEN: usize = 1;
    const ROWS: usize = ROWS;

    #[inline(always)]
    unsafe fn step<const M: usize>(sums: &mut Sums<M>, x: Ptr<u32>, words: [__m512i; VECTORS]) {
        // SAFETY: promised by the caller.
        unsafe {
            for m in 0..M {
                let x = _mm512_set1_epi32((*x.start.add(m * x.stride)).cast_signed());
                for n in 0..VECTORS {
                    sums[m][n] = dot(sums[m][n], x, words[n]);
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

/// Some steps of a panel.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) words: *const u32,
    /// Weight rows of it: words from one step to the next.
    pub(super) width: usize,
    pub(super) steps: usize,
}

/// Weights that the second cache level is asked for meanwhile: so many bytes with every step.
#[derive(Clone, Copy)]
pub(super) struct Fetch {
    pub(super) from: *const i8,
    pub(super) each: usize,
}

impl Panel {
    /// What comes behind the steps at hand.
    #[inline(always)]
    pub(super) fn behind(&self) -> Fetch {
        Fetch {
            from: self.words.cast::<i8>().wrapping_add(FAR),
            each: self.width * size_of::<u32>(),
        }
    }
}

/// Where sums go: `M` rows of as many as the panel is wide.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
    /// Whether sums go on from what is there.
    pub(super) goes_on: bool,
    /// Added at the end; null for nothing.
    pub(super) bias: *const f32,
}

/// The products of `M` rows of `x` with the steps of a panel.
///
/// # Safety
/// `M` rows of `x`, the panel, and the bias are readable, the output is the caller's alone; the machine has the
/// instructions.
#[inline(always)]
pub(super) unsafe fn multiply<P: Multiply, const M: usize>(
    x: Ptr<P::X>,
    panel: Panel,
    fetch: Fetch,
    out: Out,
) {
    let masks = [0, LANES].map(|first| mask(panel.width.saturating_sub(first)));
    // SAFETY: promised by the caller; the masks end where the panel does.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; M];
        if out.goes_on {
            for m in 0..M {
                for n in 0..VECTORS {
                    let from = out.start.wrapping_add(m * out.stride + n * LANES);
                    sums[m][n] = _mm512_maskz_loadu_ps(masks[n], from);
                }
            }
        }
        for step in 0..panel.steps {
            let words = panel.words.add(step * panel.width);
            ask(fetch, words, step);
            let words = [
                _mm512_maskz_loadu_epi32(masks[0], words.cast()),
                _mm512_maskz_loadu_epi32(masks[1], words.wrapping_add(LANES).cast()),
            ];
            P::step::<M>(&mut sums, x.at(step * P::TAKEN), words);
        }
        store(&sums, masks, out);
    }
}

/// The lanes of a vector that has `left` numbers to hold.
#[inline(always)]
fn mask(left: usize) -> __mmask16 {
    if left >= LANES {
        __mmask16::MAX
    } else {
        (1 << left) - 1
    }
}

#[inline(always)]
unsafe fn store<const M: usize>(sums: &Sums<M>, masks: [__mmask16; VECTORS], out: Out) {
    // SAFETY: promised by the caller of `multiply`.
    unsafe {
        for n in 0..VECTORS {
            let bias = if out.bias.is_null() {
                _mm512_setzero_ps()
            } else {
                _mm512_maskz_loadu_ps(masks[n], out.bias.wrapping_add(n * LANES))
            };
            for m in 0..M {
                let sum = if out.bias.is_null() {
                    sums[m][n]
                } else {
                    _mm512_add_ps(sums[m][n], bias)
                };
                let to = out.start.wrapping_add(m * out.stride + n * LANES);
                if masks[n] == __mmask16::MAX {
                    _mm512_storeu_ps(to, sum);
                } else {
                    _mm512_mask_storeu_ps(to, masks[n], sum);
                }
            }
        }
    }
}

/// Asks for the line behind each of the two cache levels' lines of this step. No branch: it would cost the loop registers.
#[inline(always)]
unsafe fn ask(fetch: Fetch, words: *const u32, step: usize) {
    let near = words.cast::<i8>().wrapping_add(NEAR);
    let far = fetch.from.wrapping_add(step * fetch.each);
    // SAFETY: hints, which read nothing and may point anywhere.
    unsafe {
        for line in [0, LINE] {
            _mm_prefetch::<_MM_HINT_T0>(near.wrapping_add(line));
            _mm_prefetch::<_MM_HINT_T1>(far.wrapping_add(line));
        }
    }
}
