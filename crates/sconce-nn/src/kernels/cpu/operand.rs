//! What a matrix product needs besides `x`: the weights, a bias, and where the results go, with their lengths checked.
#![allow(unsafe_code)]

use half::{bf16, f16};

use super::panels;
use super::parallel::Shared;
use crate::weights::Rows;

/// The weight matrix `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) numbers: Rows<'a>,
    pub(crate) layout: Layout,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// How the numbers of a matrix lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Row `r` begins at element `r * stride`.
    Rows { stride: usize },
    /// As [`super::panels`] has them.
    Panels,
}

/// One of several products of the same `x`; `out` is `[m, n]`.
pub(crate) struct Part<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) precision: Precision,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) out: &'a mut [f32],
}

/// How precisely `x` enters a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precision {
    /// As it is, in f32.
    #[default]
    Exact,
    /// Rounded to bf16 where the weights are bf16 and the machine multiplies such numbers faster.
    Bf16,
}

/// A part whose weights have one type and whose lengths fit.
pub(super) struct Operand<'a, W> {
    pub(super) weights: &'a [W],
    /// Elements from one row to the next; of no meaning for panels.
    pub(super) stride: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Shared<f32>,
}

/// A type of weights.
pub(super) trait OfRows: Sized {
    /// The rows, when they have this type.
    fn of(rows: Rows<'_>) -> Option<&[Self]>;
}

macro_rules! of_rows {
    ($($number:ty => $rows:ident),*) => {$(
        impl OfRows for $number {
            fn of(rows: Rows<'_>) -> Option<&[Self]> {
                match rows {
                    Rows::$rows(numbers) => Some(numbers),
                    _ => None,
                }
            }
        }
    )*};
}

of_rows!(f32 => F32, f16 => F16, bf16 => BF16);

/// The parts as operands of one type.
///
/// # Panics
/// When one is of another type, has another `k`, or lengths do not fit.
pub(super) fn operands<'a, W: OfRows>(
    x: &[f32],
    k: usize,
    parts: &'a mut [Part<'_>],
) -> Vec<Operand<'a, W>> {
    let one = |part: &'a mut Part<'_>| {
        let Matrix {
            numbers,
            layout,
            n,
            k: own,
        } = part.matrix;
        assert_eq!(own, k, "matrices of one input");
        let weights = W::of(numbers).expect("matrices of one type");
        let (stride, least) = match layout {
            Layout::Rows { stride } if n == 0 || k == 0 => (stride, 0),
            Layout::Rows { stride } => (stride, (n - 1) * stride + k),
            Layout::Panels => (
                0,
                n * panels::words(k * size_of::<W>()) * size_of::<u32>() / size_of::<W>(),
            ),
        };
        let m = part.out.len().checked_div(n).unwrap_or(0);
        assert_eq!(
            (part.out.len(), x.len()),
            (m * n, if n == 0 { x.len() } else { m * k }),
            "lengths of a product of {m} rows, [{n}, {k}]"
        );
        assert!(weights.len() >= least, "[{n}, {k}] leaves the weights");
        assert!(
            part.bias.is_none_or(|bias| bias.len() == n),
            "a bias for each of {n} outputs"
        );
        Operand {
            weights,
            stride,
            m,
            n,
            bias: part.bias,
            out: Shared::new(part.out),
        }
    };
    parts.iter_mut().map(one).collect()
}

impl<W> Operand<'_, W> {
    /// Adds the bias and writes a tile of results, `M` rows from `row` and `N` columns from `column` on.
    ///
    /// # Safety
    /// The tile lies in the output, which is still borrowed, and belongs to the caller.
    #[inline(always)]
    pub(super) unsafe fn store<const M: usize, const N: usize>(
        &self,
        row: usize,
        column: usize,
        sums: &[[f32; N]; M],
    ) {
        for (m, sums) in sums.iter().enumerate() {
            // SAFETY: promised by the caller.
            let out = unsafe { self.out.part((row + m) * self.n + column, N) };
            match self.bias {
                None => out.copy_from_slice(sums),
                Some(bias) => {
                    let bias = &bias[column..column + N];
                    for (out, (sum, bias)) in out.iter_mut().zip(sums.iter().zip(bias)) {
                        *out = sum + bias;
                    }
                }
            }
        }
    }
}
