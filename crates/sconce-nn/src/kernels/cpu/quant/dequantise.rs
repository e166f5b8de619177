//! Rows of weights as f32, for embeddings. What candle does with a block is right and fast enough for some rows.
#![allow(unsafe_code)]

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};

use crate::weights::BlockFormat;

/// The numbers of a row of whole blocks.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn dequantise_row(format: BlockFormat, blocks: &[u8], out: &mut [f32]) {
    assert!(
        blocks.len().is_multiple_of(format.bytes())
            && blocks.len() / format.bytes() * format.numbers() == out.len(),
        "{} bytes of {format} are not {} numbers",
        blocks.len(),
        out.len()
    );
    match format {
        BlockFormat::Q4_0 => row::<BlockQ4_0>(format, blocks, out),
        BlockFormat::Q4_1 => row::<BlockQ4_1>(format, blocks, out),
        BlockFormat::Q5_0 => row::<BlockQ5_0>(format, blocks, out),
        BlockFormat::Q5_1 => row::<BlockQ5_1>(format, blocks, out),
        BlockFormat::Q8_0 => row::<BlockQ8_0>(format, blocks, out),
        BlockFormat::Q4K => row::<BlockQ4K>(format, blocks, out),
        BlockFormat::Q5K => row::<BlockQ5K>(format, blocks, out),
        BlockFormat::Q6K => row::<BlockQ6K>(format, blocks, out),
    }
}

fn row<B: GgmlType>(format: BlockFormat, blocks: &[u8], out: &mut [f32]) {
    assert_eq!(size_of::<B>(), format.bytes());
    let blocks = blocks.chunks_exact(format.bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(format.numbers())) {
        // SAFETY: candle's blocks are numbers and arrays of them, for which any bits will do; the chunk is as long as one.
        let block = unsafe { block.as_ptr().cast::<B>().read_unaligned() };
        B::to_float(&[block], out);
    }
}
