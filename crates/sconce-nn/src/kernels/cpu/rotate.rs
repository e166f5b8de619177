//! Rotates pairs of numbers in the heads of each token: element `i` of the first half with `i` of the second.

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::parallel;

/// Elementary operations per element, for deciding about a fork.
const COST: usize = 2;

/// Sizes of the rotated tensor `[tokens, heads, head]`.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) head: usize,
    /// Leading numbers of each head that are rotated; even.
    pub(crate) dim: usize,
}

/// Rotates `x` into `out`; `angles` gives cosines and sines `[dim / 2]` of a token by its index.
pub(crate) fn rotate<'t>(
    x: &[f32],
    sizes: Heads,
    angles: &(dyn Fn(usize) -> (&'t [f32], &'t [f32]) + Sync),
    out: &mut [f32],
) {
    let width = sizes.heads * sizes.head;
    assert_eq!(x.len(), out.len());
    parallel::over_rows(out, width, width * COST, &|first, out| {
        let tokens = x[first * width..][..out.len()].chunks_exact(width);
        for (index, (x, out)) in tokens.zip(out.chunks_exact_mut(width)).enumerate() {
            let (cos, sin) = angles(first + index);
            dispatch(RotateToken {
                x,
                sizes,
                cos,
                sin,
                out,
            });
        }
    });
}

struct RotateToken<'a> {
    x: &'a [f32],
    sizes: Heads,
    cos: &'a [f32],
    sin: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for RotateToken<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Heads { head, dim, .. } = self.sizes;
        for (x, out) in self
            .x
            .chunks_exact(head)
            .zip(self.out.chunks_exact_mut(head))
        {
            let (rotated, kept) = out.split_at_mut(dim);
            kept.copy_from_slice(&x[dim..]);
            let (x1, x2) = x[..dim].split_at(dim / 2);
            let (out1, out2) = rotated.split_at_mut(dim / 2);
            rotate_half::<L>(x1, x2, self.cos, self.sin, false, out1);
            rotate_half::<L>(x2, x1, self.cos, self.sin, true, out2);
        }
    }
}

/// `x * cos ± other * sin`.
#[inline(always)]
fn rotate_half<L: Lanes>(
    x: &[f32],
    other: &[f32],
    cos: &[f32],
    sin: &[f32],
    plus: bool,
    out: &mut [f32],
) {
    let sign = if plus { 1.0 } else { -1.0 };
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (others, other_rest) = other.as_chunks::<LANES>();
    let (coss, cos_rest) = cos.as_chunks::<LANES>();
    let (sins, sin_rest) = sin.as_chunks::<LANES>();
    let (outs, out_rest) = out.as_chunks_mut::<LANES>();
    for ((((x, other), cos), sin), out) in xs.iter().zip(others).zip(coss).zip(sins).zip(outs) {
        let turned = L::load(other).mul(L::load(sin)).mul(L::splat(sign));
        L::load(x).mul(L::load(cos)).add(turned).store(out);
    }
    for ((((x, other), cos), sin), out) in x_rest
        .iter()
        .zip(other_rest)
        .zip(cos_rest)
        .zip(sin_rest)
        .zip(out_rest)
    {
        *out = x * cos + other * sin * sign;
    }
}
