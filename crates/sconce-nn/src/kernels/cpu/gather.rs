//! Copies and widens chosen rows of a table, be it of numbers or of blocks.

use super::lanes::{Kernel, Lanes, Weight, dispatch};
use super::matmul::widen;
use super::parallel;
use crate::weights::{Blocks, Rows, dequantise};

/// Writes row `wanted[i]` of the table, `width` numbers from element `row * stride`, to row `i` of `out`; zeros for none.
pub(crate) fn gather(
    rows: Rows<'_>,
    stride: usize,
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
) {
    match rows {
        Rows::F32(rows) => gather_from(rows, stride, width, wanted, out),
        Rows::F16(rows) => gather_from(rows, stride, width, wanted, out),
        Rows::BF16(rows) => gather_from(rows, stride, width, wanted, out),
    }
}

/// The same from a table of blocks.
pub(crate) fn gather_blocks(
    blocks: Blocks<'_>,
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
) {
    assert_eq!(out.len(), wanted.len() * width);
    let bytes = width / blocks.format.numbers() * blocks.format.bytes();
    parallel::over_rows(out, width, width, &|first, out| {
        for (row, out) in wanted[first..].iter().zip(out.chunks_exact_mut(width)) {
            match row {
                Some(row) => {
                    let row = &blocks.bytes[row * blocks.stride..][..bytes];
                    dequantise(blocks.format, row, out);
                }
                None => out.fill(0.0),
            }
        }
    });
}

fn gather_from<W: Weight>(
    rows: &[W],
    stride: usize,
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
) {
    assert_eq!(out.len(), wanted.len() * width);
    parallel::over_rows(out, width, width, &|first, out| {
        for (row, out) in wanted[first..].iter().zip(out.chunks_exact_mut(width)) {
            match row {
                Some(row) => dispatch(Widen {
                    from: &rows[row * stride..][..width],
                    out,
                }),
                None => out.fill(0.0),
            }
        }
    });
}

struct Widen<'a, W> {
    from: &'a [W],
    out: &'a mut [f32],
}

impl<W: Weight> Kernel for Widen<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        widen::<L, W>(self.from, self.out);
    }
}
