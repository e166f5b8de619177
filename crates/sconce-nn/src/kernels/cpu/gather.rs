//! Copies and widens chosen rows of a table, be it of numbers, in rows or panels, or of blocks.

use half::{bf16, f16};

use super::lanes::{Kernel, Lanes, Weight, dispatch};
use super::matmul::widen;
use super::{panels, parallel, quant};
use crate::weights::{BlockFormat, Blocks, Rows, StoredDtype, dequantise};

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
    let bytes = width / blocks.format.numbers() * blocks.format.bytes();
    each_row(width, wanted, out, &|row, out| {
        let row = &blocks.bytes[row * blocks.stride..][..bytes];
        dequantise(blocks.format, row, out);
    });
}

/// The same from a table of blocks in panels.
pub(crate) fn gather_panels_of_blocks(
    format: BlockFormat,
    panels: &[u8],
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
) {
    let bytes = width / format.numbers() * format.bytes();
    each_row(width, wanted, out, &|row, out| {
        let mut blocks = vec![0; bytes];
        quant::panels::take(format, panels, row, &mut blocks);
        dequantise(format, &blocks, out);
    });
}

/// The same from a table in panels of numbers of that type.
pub(crate) fn gather_panels(
    words: &[u32],
    dtype: StoredDtype,
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
) {
    let steps = panels::words(dtype.bytes(width));
    each_row(width, wanted, out, &|row, out| {
        widen_words(panels::row(words, steps, row), dtype, out);
    });
}

/// Has `write` fill the rows that are wanted, and zeros the others.
fn each_row(
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
    write: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    assert_eq!(out.len(), wanted.len() * width);
    parallel::over_rows(out, width, width, &|first, out| {
        for (row, out) in wanted[first..].iter().zip(out.chunks_exact_mut(width)) {
            match row {
                Some(row) => write(*row, out),
                None => out.fill(0.0),
            }
        }
    });
}

/// Widens the numbers that the words hold, one or two each.
fn widen_words(words: impl Iterator<Item = u32>, dtype: StoredDtype, out: &mut [f32]) {
    let halves = |word: u32| [word as u16, (word >> 16) as u16];
    match dtype {
        StoredDtype::F32 => {
            for (word, out) in words.zip(out) {
                *out = f32::from_bits(word);
            }
        }
        StoredDtype::F16 => {
            for (half, out) in words.flat_map(halves).zip(out) {
                *out = f16::from_bits(half).to_f32();
            }
        }
        _ => {
            for (half, out) in words.flat_map(halves).zip(out) {
                *out = bf16::from_bits(half).to_f32();
            }
        }
    }
}

fn gather_from<W: Weight>(
    rows: &[W],
    stride: usize,
    width: usize,
    wanted: &[Option<usize>],
    out: &mut [f32],
) {
    each_row(width, wanted, out, &|row, out| {
        dispatch(Widen {
            from: &rows[row * stride..][..width],
            out,
        });
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
