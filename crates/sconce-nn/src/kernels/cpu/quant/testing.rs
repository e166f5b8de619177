//! What tests share: blocks without a pattern, and the plain twin of the product.

use half::f16;

use crate::kernels::cpu::testing::numbers;
use crate::weights::BlockFormat;

/// Deterministic bytes.
pub(super) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let numbers = numbers(len, seed).into_iter();
    numbers.map(|x| ((x + 1.0) * 127.99) as u8).collect()
}

/// Where the f16 numbers of a block begin.
fn halves(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 | BlockFormat::Q8Row => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        BlockFormat::Q6K => &[208],
    }
}

/// Writes the f16 number with this index into a block.
pub(super) fn set_half(format: BlockFormat, block: &mut [u8], index: usize, value: f16) {
    let at = halves(format)[index];
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Blocks with scales between -0.1 and 0.1, all other bits at random.
pub(super) fn blocks(format: BlockFormat, count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = bytes(count * format.bytes(), seed);
    let mut scales = numbers(count * 2, seed + 1).into_iter();
    for block in bytes.chunks_exact_mut(format.bytes()) {
        for index in 0..halves(format).len() {
            let scale = scales.next().expect("two for each block");
            set_half(format, block, index, f16::from_f32(scale * 0.1));
        }
    }
    bytes
}

/// Rows of `count` [`blocks`]: of the formats with one scale for a row, they have the first one's.
pub(super) fn rows(format: BlockFormat, n: usize, count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = blocks(format, n * count, seed);
    if format == BlockFormat::Q8Row {
        for row in bytes.chunks_exact_mut(count * format.bytes()) {
            let scale = f16::from_le_bytes([row[0], row[1]]);
            for block in row.chunks_exact_mut(format.bytes()) {
                set_half(format, block, 0, scale);
            }
        }
    }
    bytes
}

/// One weight as `scale * quant + minimum`, after the loops of `dequantize_row_*` in `ggml-quants.c`.
fn weight(format: BlockFormat, block: &[u8], index: usize) -> (f64, i32, f64) {
    let half = |at: usize| f64::from(f16::from_le_bytes([block[at], block[at + 1]]));
    let nibble = |qs: &[u8], of: usize, index: usize| {
        let (byte, shift) = (qs[index % of], index / of * 4);
        i32::from(byte >> shift & 15)
    };
    let fifth = |qh: &[u8]| i32::from(qh[index / 8] >> (index % 8) & 1) << 4;
    match format {
        BlockFormat::Q4_0 => (half(0), nibble(&block[2..], 16, index) - 8, 0.0),
        BlockFormat::Q4_1 => (half(0), nibble(&block[4..], 16, index), half(2)),
        BlockFormat::Q5_0 => {
            let quant = nibble(&block[6..], 16, index) | fifth(&block[2..]);
            (half(0), quant - 16, 0.0)
        }
        BlockFormat::Q5_1 => {
            let quant = nibble(&block[8..], 16, index) | fifth(&block[4..]);
            (half(0), quant, half(2))
        }
        BlockFormat::Q8_0 | BlockFormat::Q8Row => (half(0), i32::from(block[2 + index] as i8), 0.0),
        BlockFormat::Q4K | BlockFormat::Q5K => {
            let (run, scales) = (index / 32, &block[4..16]);
            let (scale, minimum) = if run < 4 {
                (scales[run] & 63, scales[run + 4] & 63)
            } else {
                (
                    scales[run + 4] & 15 | scales[run - 4] >> 6 << 4,
                    scales[run + 4] >> 4 | scales[run] >> 6 << 4,
                )
            };
            let quant = if format == BlockFormat::Q4K {
                nibble(&block[16 + run / 2 * 32..], 32, index % 64)
            } else {
                let high = i32::from(block[16 + index % 32] >> run & 1) << 4;
                nibble(&block[48 + run / 2 * 32..], 32, index % 64) | high
            };
            (
                half(0) * f64::from(scale),
                quant,
                -half(2) * f64::from(minimum),
            )
        }
        BlockFormat::Q6K => {
            let (group, within) = (index / 128, index % 128);
            let low = nibble(&block[64 * group..], 64, within);
            let high = block[128 + 32 * group + within % 32] >> (within / 32 * 2) & 3;
            let scale = block[192 + index / 16] as i8;
            (
                half(208) * f64::from(scale),
                (low | i32::from(high) << 4) - 32,
                0.0,
            )
        }
    }
}

/// A row of weights in double precision.
pub(super) fn weights(format: BlockFormat, row: &[u8]) -> Vec<f64> {
    let blocks = row.chunks_exact(format.bytes());
    let weight = |block, index| {
        let (scale, quant, minimum) = weight(format, block, index);
        scale * f64::from(quant) + minimum
    };
    blocks
        .flat_map(|block| (0..format.numbers()).map(move |index| weight(block, index)))
        .collect()
}

/// What is left of numbers that were bytes with a scale for so many.
pub(super) fn rounded(x: &[f32], shared: usize) -> Vec<f64> {
    let round = |x: &[f32]| {
        let largest = x.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let (scale, inverse) = (largest / 127.0, 127.0 / largest);
        let byte = move |x: &f32| f64::from((x * inverse).round_ties_even() * 1.0);
        let round = move |x: &f32| {
            if largest == 0.0 {
                0.0
            } else {
                byte(x) * f64::from(scale)
            }
        };
        x.iter().map(round).collect::<Vec<f64>>()
    };
    x.chunks_exact(shared).flat_map(round).collect()
}

/// The product in double precision, with the sum of the magnitudes of its terms.
pub(super) fn product(x: &[f64], w: &[f64]) -> (f64, f64) {
    let terms = || x.iter().zip(w).map(|(x, w)| x * w);
    (terms().sum(), terms().map(f64::abs).sum())
}
