//! How blocks lie for the products of [`super`]: sixteen rows side by side, so that a vector holds the same four weights,
//! or eight halves of a byte, of each of sixteen outputs, and sums need no adding up of lanes.
//!
//! Where sixteen rows lay one behind the other, a panel has their first blocks, then their second ones and so on. A block
//! of ggml's is a run of 32-bit words, but for one f16 number in some formats: of sixteen blocks the first words come
//! first, one from each row, then the second words, and behind all words the f16 numbers. Bytes with sign get an offset, as
//! the quants of all other formats have one. A panel that the matrix does not fill has zeros for the rest.
#![allow(unsafe_code)]

use super::isa::SIDE;
use crate::kernels::cpu::parallel::{self, Shared};
use crate::kernels::cpu::pool;
use crate::weights::BlockFormat;

/// Bytes of a word and of an f16 number.
const WORD: usize = 4;
const HALF: usize = 2;

/// Gives bytes with sign an offset of 128, and takes it away again.
const UPPER_BITS: u32 = 0x8080_8080;

/// Where the f16 number of a block lies that is not part of a word.
fn half_at(format: BlockFormat) -> Option<usize> {
    match format {
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 | BlockFormat::Q8Row => Some(0),
        BlockFormat::Q6K => Some(208),
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => None,
    }
}

/// What is exchanged in every word.
fn exchanged(format: BlockFormat) -> u32 {
    match format {
        BlockFormat::Q8_0 | BlockFormat::Q8Row => UPPER_BITS,
        _ => 0,
    }
}

/// Rows that a matrix of `n` rows takes in panels.
pub(crate) fn rows(n: usize) -> usize {
    n.next_multiple_of(SIDE)
}

/// Lays `n` rows of `row_bytes`, which begin `stride` bytes apart, out in zeroed panels.
pub(crate) fn lay_out(
    format: BlockFormat,
    from: &[u8],
    stride: usize,
    row_bytes: usize,
    n: usize,
    to: &mut [u8],
) {
    let bytes = SIDE * row_bytes;
    let panels = n.div_ceil(SIDE);
    assert!(to.len() >= panels * bytes, "room for {n} rows");
    let to = Shared::new(to);
    let (tasks, run) = parallel::cut(panels, bytes);
    pool::run(tasks, &|task| {
        for panel in task * run..((task + 1) * run).min(panels) {
            // SAFETY: a panel belongs to one task.
            let to = unsafe { to.part(panel * bytes, bytes) };
            for place in 0..SIDE.min(n - panel * SIDE) {
                let row = &from[(panel * SIDE + place) * stride..][..row_bytes];
                put(format, row, place, to);
            }
        }
    });
}

/// Puts a row into a place of a panel.
fn put(format: BlockFormat, row: &[u8], place: usize, panel: &mut [u8]) {
    let exchanged = exchanged(format);
    let sixteen = panel.chunks_exact_mut(SIDE * format.bytes());
    for (block, to) in row.chunks_exact(format.bytes()).zip(sixteen) {
        let (before, half, after) = match half_at(format) {
            Some(at) => (&block[..at], &block[at..at + HALF], &block[at + HALF..]),
            None => (block, &[][..], &[][..]),
        };
        let (words, halves) = to.split_at_mut(SIDE * (block.len() - half.len()));
        let from = before.as_chunks().0.iter().chain(after.as_chunks().0);
        for (from, to) in from.zip(words.chunks_exact_mut(SIDE * WORD)) {
            let word = u32::from_le_bytes(*from) ^ exchanged;
            to[place * WORD..][..WORD].copy_from_slice(&word.to_le_bytes());
        }
        halves[place * half.len()..][..half.len()].copy_from_slice(half);
    }
}

/// Writes the blocks of row `row` of a matrix in panels.
pub(crate) fn take(format: BlockFormat, panels: &[u8], row: usize, blocks: &mut [u8]) {
    let exchanged = exchanged(format);
    let panel = &panels[row / SIDE * SIDE * blocks.len()..][..SIDE * blocks.len()];
    let (place, sixteen) = (row % SIDE, panel.chunks_exact(SIDE * format.bytes()));
    for (block, from) in blocks.chunks_exact_mut(format.bytes()).zip(sixteen) {
        let half_at = half_at(format);
        let len = half_at.map_or(0, |_| HALF);
        let (words, halves) = from.split_at(SIDE * (block.len() - len));
        let (before, behind) = block.split_at_mut(half_at.unwrap_or(block.len()));
        let (half, after) = behind.split_at_mut(len);
        let to = before.as_chunks_mut().0.iter_mut();
        for (to, from) in to
            .chain(after.as_chunks_mut().0)
            .zip(words.as_chunks().0.chunks_exact(SIDE))
        {
            *to = (u32::from_le_bytes(from[place]) ^ exchanged).to_le_bytes();
        }
        half.copy_from_slice(&halves[place * len..][..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::quant::testing::blocks;

    #[test]
    fn every_row_is_found_where_it_was_put() {
        for format in BlockFormat::ALL {
            for (n, count) in [(1, 1), (15, 3), (16, 2), (50, 5)] {
                let row = count * format.bytes();
                let stride = row + 3;
                let all = blocks(format, n * count, 1);
                let mut rows = vec![0xa5; n * stride];
                for (to, from) in rows.chunks_exact_mut(stride).zip(all.chunks_exact(row)) {
                    to[..row].copy_from_slice(from);
                }
                rows.truncate((n - 1) * stride + row);
                let mut panels = vec![0; super::rows(n) * row];
                lay_out(format, &rows, stride, row, n, &mut panels);
                let mut got = vec![0xa5; row];
                for (index, wanted) in all.chunks_exact(row).enumerate() {
                    take(format, &panels, index, &mut got);
                    assert_eq!(got, wanted, "{format}: row {index} of {n}");
                }
            }
        }
        lay_out(BlockFormat::Q8_0, &[], 0, 0, 0, &mut []);
    }

    #[test]
    fn words_lie_side_by_side_and_halves_behind_them() {
        // Two blocks: the number of the row as f16, then bytes that are the index of their word, the second from 8 on.
        let block = |row: u8, first: u8| -> Vec<u8> {
            let bytes = (0..32).map(move |byte| first + byte / 4);
            [row, 0x80].into_iter().chain(bytes).collect()
        };
        let rows = (0..16).flat_map(|row| [block(row, 0), block(row, 8)].concat());
        let rows: Vec<u8> = rows.collect();
        let mut panel = vec![0; rows.len()];
        lay_out(BlockFormat::Q8_0, &rows, 68, 68, 16, &mut panel);
        for (index, sixteen) in panel.chunks_exact(16 * 34).enumerate() {
            let (lines, halves) = sixteen.split_at(512);
            for (line, bytes) in lines.chunks_exact(64).enumerate() {
                let wanted = 0x80 | (8 * index + line) as u8;
                assert!(bytes.iter().all(|&byte| byte == wanted));
            }
            for (row, half) in halves.chunks_exact(2).enumerate() {
                assert_eq!(half, [row as u8, 0x80]);
            }
        }
    }
}
