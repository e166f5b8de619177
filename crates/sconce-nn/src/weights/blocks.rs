//! Numbers to blocks and back, as ggml defines both. Candle's `k_quants` is a port of its reference and does most of
//! the arithmetic; this adds the format that ggml has not, checks, rows in parallel, and the tensors around them. Products with blocks are kernels.

mod super_blocks;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::quantized::k_quants::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};
use half::f16;

use super::block_format::BlockFormat;
use super::buffer::{self, Block};
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::HostTensor;
use crate::kernels::cpu::lanes::dispatch;
use crate::kernels::cpu::{parallel, pool};
use crate::pulse;
use super_blocks::SuperBlocks;

/// The largest number that is quantised: scales and minima are f16, and a minimum can be as large as the numbers.
const LARGEST: f32 = 65504.0;

/// Elementary operations for each number, for deciding about a fork.
const COST: usize = 16;

/// Writes the numbers of whole blocks.
///
/// # Panics
/// When `out` has not as many numbers as the blocks.
pub(crate) fn dequantise(format: BlockFormat, blocks: &[u8], out: &mut [f32]) {
    match format {
        BlockFormat::Q4_0 => widen::<BlockQ4_0>(blocks, out),
        BlockFormat::Q4_1 => widen::<BlockQ4_1>(blocks, out),
        BlockFormat::Q5_0 => widen::<BlockQ5_0>(blocks, out),
        BlockFormat::Q5_1 => widen::<BlockQ5_1>(blocks, out),
        BlockFormat::Q8_0 | BlockFormat::Q8Row => widen::<BlockQ8_0>(blocks, out),
        BlockFormat::Q4K => widen::<BlockQ4K>(blocks, out),
        BlockFormat::Q5K => widen::<BlockQ5K>(blocks, out),
        BlockFormat::Q6K => widen::<BlockQ6K>(blocks, out),
    }
}

/// Writes the blocks of the finite numbers of a row into zeroed bytes.
fn quantise(format: BlockFormat, numbers: &[f32], out: &mut [u8]) {
    match format {
        BlockFormat::Q4_0 => narrow::<BlockQ4_0>(numbers, out),
        BlockFormat::Q4_1 => narrow::<BlockQ4_1>(numbers, out),
        BlockFormat::Q5_0 => narrow::<BlockQ5_0>(numbers, out),
        BlockFormat::Q5_1 => narrow::<BlockQ5_1>(numbers, out),
        BlockFormat::Q8_0 => narrow::<BlockQ8_0>(numbers, out),
        BlockFormat::Q8Row => narrow_row(numbers, out),
        BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => dispatch(SuperBlocks {
            format,
            numbers,
            out,
        }),
    }
}

fn widen<B: Block>(blocks: &[u8], out: &mut [f32]) {
    assert_eq!(blocks.len() * B::BLCK_SIZE, out.len() * size_of::<B>());
    let blocks = blocks.chunks_exact(size_of::<B>());
    for (block, out) in blocks.zip(out.chunks_exact_mut(B::BLCK_SIZE)) {
        B::to_float(&[buffer::block::<B>(block)], out);
    }
}

fn narrow<B: Block>(numbers: &[f32], out: &mut [u8]) {
    assert_eq!(out.len() * B::BLCK_SIZE, numbers.len() * size_of::<B>());
    let numbers = numbers.chunks_exact(B::BLCK_SIZE);
    for (numbers, out) in numbers.zip(out.chunks_exact_mut(size_of::<B>())) {
        let mut block = [B::zeros()];
        B::from_float(numbers, &mut block);
        out.copy_from_slice(buffer::bytes_of_blocks(&block));
    }
}

/// The blocks of a row that share one scale: that with which 127 is the largest, as an f16 number.
fn narrow_row(numbers: &[f32], out: &mut [u8]) {
    let largest = numbers
        .iter()
        .fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = match scale.to_f32() {
        0.0 => 0.0,
        scale => 1.0 / scale,
    };
    let numbers = numbers.as_chunks::<{ BlockFormat::Q8Row.numbers() }>().0;
    let blocks = out.as_chunks_mut::<{ BlockFormat::Q8Row.bytes() }>().0;
    for (numbers, block) in numbers.iter().zip(blocks) {
        let (half, bytes) = block.split_at_mut(size_of::<f16>());
        half.copy_from_slice(&scale.to_le_bytes());
        for (number, byte) in numbers.iter().zip(bytes) {
            *byte = (number * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
        }
    }
}

impl HostTensor {
    /// Fails unless its numbers can be had in blocks of that format.
    pub(super) fn require_quantisable(&self, format: BlockFormat) -> Result<(), WeightError> {
        if !self.dtype().is_float() && !self.dtype().is_quantised() {
            return Err(WeightError::Convert {
                from: self.dtype(),
                to: StoredDtype::Quantised(format),
            });
        }
        let width = self.shape().last().copied().unwrap_or(1);
        if !width.is_multiple_of(format.numbers()) {
            return Err(self.layout(
                "quantising",
                format!(
                    "rows of {width} numbers are not whole blocks of {}, the size of {format}",
                    format.numbers()
                ),
            ));
        }
        Ok(())
    }

    /// Writes its numbers, which are [quantisable](Self::require_quantisable), in blocks of that format, rounded as ggml
    /// rounds, into zeroed bytes; on all threads of the pool.
    pub(super) fn quantise_to(
        &self,
        format: BlockFormat,
        target: &mut [u8],
    ) -> Result<(), WeightError> {
        let wanted = StoredDtype::Quantised(format);
        let width = self.shape().last().copied().unwrap_or(1);
        if self.elements() == 0 {
            return Ok(());
        }
        let source = self.in_order()?;
        // Where the first number lies that has no place in the format.
        let bad = AtomicUsize::new(usize::MAX);
        let (_, run) = parallel::cut(self.elements() / width, width * COST);
        let part = wanted.bytes(run * width);
        let parts: Vec<_> = target.chunks_mut(part).map(Mutex::new).collect();
        pool::run(parts.len(), &|task| {
            let mut out = parts[task].lock().expect("each part has one task");
            let mut row = vec![0.0; width];
            let rows = out.chunks_exact_mut(wanted.bytes(width));
            for (first, out) in (task * run..).map(|row| row * width).zip(rows) {
                source
                    .widen(first, &mut row)
                    .expect("packed numbers of a type that was checked");
                if let Some(place) = row.iter().position(|x| !fits(*x)) {
                    bad.fetch_min(first + place, Ordering::Relaxed);
                    return;
                }
                quantise(format, &row, out);
                pulse::beat();
            }
        });
        match bad.into_inner() {
            usize::MAX => Ok(()),
            place => Err(self.layout(
                "quantising",
                format!(
                    "number {} of row {} is not finite or beyond ±{LARGEST}, which {format} cannot hold; \
                     load the weights unquantised",
                    place % width,
                    place / width
                ),
            )),
        }
    }
}

/// Whether a number is finite and its block's scale fits f16.
fn fits(number: f32) -> bool {
    number.abs() <= LARGEST
}

#[cfg(test)]
mod tests;
