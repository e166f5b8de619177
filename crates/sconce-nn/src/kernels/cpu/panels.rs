//! How matrices lie for the products of [`super::wide`]: in panels, so that a vector holds one word of each of sixteen
//! rows, and sums need no adding up of lanes. A word is one f32 or two neighbours of half the size, which is what
//! instructions that multiply pairs of bf16 numbers read.
//!
//! A panel has [`COLUMNS`] rows of the matrix, which are columns of the product; the last one has what is left. Its words
//! lie in the order of `k`, for each the words of all its rows. Nothing is padded but rows that end within a word.
#![allow(unsafe_code)]

use super::parallel::{self, Shared};
use super::pool;
use crate::weights::StoredDtype;

/// Rows of the matrix in a panel: two vectors of words, which stay in registers beside the sums of twelve rows of `x`.
pub(super) const COLUMNS: usize = 32;

/// Bytes of a word.
const WORD: usize = size_of::<u32>();

/// Words of a row that are moved at a time: a line of the cache.
const RUN: usize = 16;

/// Whether this machine multiplies matrices `[n, k]` of that type in panels.
#[cfg(target_arch = "x86_64")]
pub(crate) fn suit(dtype: StoredDtype, n: usize, k: usize) -> bool {
    let wide = match dtype {
        StoredDtype::F32 | StoredDtype::F16 => true,
        StoredDtype::BF16 => !super::tiles::suits(n, k),
        _ => false,
    };
    wide && super::wide::is_available()
}

/// Whether this machine multiplies matrices `[n, k]` of that type in panels.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn suit(_: StoredDtype, _: usize, _: usize) -> bool {
    false
}

/// Words of a row.
pub(crate) fn words(row_bytes: usize) -> usize {
    row_bytes.div_ceil(WORD)
}

/// So many rows rounded down to whole panels, at least one.
pub(crate) fn whole(rows: usize) -> usize {
    (rows - rows % COLUMNS).max(COLUMNS)
}

/// Lays rows of `row_bytes`, which begin `stride` bytes apart, out in panels: as many rows as `to` has room for.
pub(crate) fn lay_out(rows: &[u8], stride: usize, row_bytes: usize, to: &mut [u32]) {
    let steps = words(row_bytes);
    let n = to.len().checked_div(steps).unwrap_or(0);
    let to = Shared::new(to);
    let (tasks, run) = parallel::cut(n.div_ceil(COLUMNS), COLUMNS * steps);
    pool::run(tasks, &|task| {
        for panel in task * run..((task + 1) * run).min(n.div_ceil(COLUMNS)) {
            let first = panel * COLUMNS;
            let width = COLUMNS.min(n - first);
            // SAFETY: a panel belongs to one task.
            let to = unsafe { to.part(first * steps, width * steps) };
            lay_out_panel(&rows[first * stride..], stride, row_bytes, width, to);
        }
    });
}

fn lay_out_panel(rows: &[u8], stride: usize, row_bytes: usize, width: usize, to: &mut [u32]) {
    // Of all rows the words of one line, so that both sides stay in the cache.
    for (run, to) in to.chunks_mut(RUN * width).enumerate() {
        let begin = run * RUN * WORD;
        let end = row_bytes.min(begin + RUN * WORD);
        for column in 0..width {
            let row = &rows[column * stride..][begin..end];
            let (whole, rest) = row.as_chunks::<WORD>();
            for (word, to) in whole.iter().zip(to.iter_mut().skip(column).step_by(width)) {
                *to = u32::from_ne_bytes(*word);
            }
            if !rest.is_empty() {
                let mut word = [0; WORD];
                word[..rest.len()].copy_from_slice(rest);
                to[whole.len() * width + column] = u32::from_ne_bytes(word);
            }
        }
    }
}

/// The words of row `row` of a matrix whose rows have `steps` words.
pub(crate) fn row(panels: &[u32], steps: usize, row: usize) -> impl Iterator<Item = u32> {
    let n = panels.len().checked_div(steps).unwrap_or(0);
    let first = row - row % COLUMNS;
    let width = COLUMNS.min(n - first);
    let panel = &panels[first * steps..][..width * steps];
    panel.iter().skip(row - first).step_by(width).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_where_it_was_put() {
        for (n, row_bytes) in [(1, 4), (5, 6), (32, 64), (33, 130), (70, 1), (95, 260)] {
            let stride = row_bytes + 3;
            let byte = |row: usize, at: usize| (row * 31 + at * 7 + 1) as u8;
            let mut rows = vec![0xff; n * stride];
            for row in 0..n {
                for at in 0..row_bytes {
                    rows[row * stride + at] = byte(row, at);
                }
            }
            rows.truncate((n - 1) * stride + row_bytes);
            let steps = words(row_bytes);
            let mut panels = vec![u32::MAX; n * steps];
            lay_out(&rows, stride, row_bytes, &mut panels);
            for row in 0..n {
                let words: Vec<u32> = super::row(&panels, steps, row).collect();
                let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
                for (at, got) in bytes.into_iter().enumerate() {
                    let wanted = if at < row_bytes { byte(row, at) } else { 0 };
                    assert_eq!(got, wanted, "byte {at} of row {row} of {n} of {row_bytes}");
                }
            }
        }
        lay_out(&[], 0, 0, &mut []);
    }

    #[test]
    fn the_rows_of_a_panel_lie_side_by_side() {
        let rows: Vec<u8> = (0..40_u32 * 3).flat_map(u32::to_ne_bytes).collect();
        let mut panels = vec![0; 40 * 3];
        lay_out(&rows, 12, 12, &mut panels);
        assert_eq!(panels[..3], [0, 3, 6]);
        assert_eq!(panels[COLUMNS..COLUMNS + 3], [1, 4, 7]);
        // The last panel has eight rows.
        assert_eq!(
            panels[3 * COLUMNS..3 * COLUMNS + 9],
            [96, 99, 102, 105, 108, 111, 114, 117, 97]
        );
    }
}
