//! The paged key/value cache of one rank, reserved whole when it is made. Which block belongs to which sequence is
//! left to `sconce-sched`.
//!
//! A block holds [`BLOCK`] tokens of one layer and one kv head. Keys lie transposed, `[head_dim, BLOCK]`, so that one
//! vector holds the scores of eight keys; values lie as `[BLOCK, width]`, with the head padded to whole vectors.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};

use candle_core::{Device, Result};
use memmap2::MmapMut;

use crate::error::NnError;
use crate::step::BLOCK;
use crate::tensors;

/// Numbers in a vector; the rows of values are padded to a multiple.
const VECTOR: usize = 8;

/// Sizes of one rank's part of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Decoder layers.
    pub layers: usize,
    /// Heads of keys and values on this rank.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
}

impl KvShape {
    /// Numbers in a row of values.
    pub(crate) fn value_width(&self) -> usize {
        self.head_dim.next_multiple_of(VECTOR)
    }

    /// Numbers in the keys of one block and kv head.
    pub(crate) fn key_block(&self) -> usize {
        self.head_dim * BLOCK
    }

    /// Numbers in the values of one block and kv head.
    pub(crate) fn value_block(&self) -> usize {
        self.value_width() * BLOCK
    }
}

/// Keys and values of all layers.
#[derive(Debug)]
pub struct KvCache {
    shape: KvShape,
    blocks: usize,
    layers: Vec<KvLayer>,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct KvLayer {
    pub(crate) shape: KvShape,
    pub(crate) blocks: usize,
    /// `[blocks, kv_heads, head_dim, BLOCK]`.
    pub(crate) keys: Pages,
    /// `[blocks, kv_heads, BLOCK, value_width]`.
    pub(crate) values: Pages,
}

impl KvCache {
    /// Reserves `blocks` blocks, filled with zeros; fails on a device without kernels or when memory does not suffice.
    pub fn new(shape: KvShape, blocks: usize, device: &Device) -> Result<Self> {
        tensors::require_cpu(device, "the key/value cache")?;
        if shape.kv_heads == 0 || shape.head_dim == 0 {
            let (what, wanted) = (
                "the shape of the cache",
                "at least one head of at least one number".to_owned(),
            );
            return Err(NnError::Value {
                what,
                value: format!("{shape:?}"),
                wanted,
            }
            .into());
        }
        let layers = (0..shape.layers)
            .map(|_| KvLayer::new(shape, blocks))
            .collect::<Result<_>>()?;
        Ok(Self {
            shape,
            blocks,
            layers,
        })
    }

    /// Bytes that one block takes in all layers.
    pub fn bytes_per_block(shape: &KvShape) -> usize {
        shape.layers * shape.kv_heads * (shape.key_block() + shape.value_block()) * size_of::<f32>()
    }

    /// Sizes as given.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The part of one layer.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn layer(&mut self, index: usize) -> &mut KvLayer {
        &mut self.layers[index]
    }
}

impl KvLayer {
    fn new(shape: KvShape, blocks: usize) -> Result<Self> {
        let heads = blocks.checked_mul(shape.kv_heads);
        let reserve = |block: usize| {
            heads
                .and_then(|heads| heads.checked_mul(block))
                .and_then(Pages::zeroed)
        };
        match (reserve(shape.key_block()), reserve(shape.value_block())) {
            (Some(keys), Some(values)) => Ok(Self {
                shape,
                blocks,
                keys,
                values,
            }),
            _ => Err(NnError::Value {
                what: "the number of cache blocks",
                value: blocks.to_string(),
                wanted: format!(
                    "within the memory that the system gives at {} bytes a block",
                    KvCache::bytes_per_block(&shape)
                ),
            }
            .into()),
        }
    }
}

/// Numbers in pages of their own, zeros until they are written: a page takes memory and time from then on only. Of a
/// vector the allocator may take memory that was used, and fill all of it.
#[derive(Debug)]
pub(crate) struct Pages {
    map: MmapMut,
    len: usize,
}

impl Pages {
    /// `None` where the system refuses so much.
    fn zeroed(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        let bytes = Some(bytes).filter(|&bytes| bytes <= isize::MAX as usize)?;
        // An empty map is an error.
        let map = MmapMut::map_anon(bytes.max(1)).ok()?;
        Some(Self { map, len })
    }
}

impl Deref for Pages {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: so many numbers lie in the map, which begins on a page and outlives the borrow; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: KvShape = KvShape {
        layers: 2,
        kv_heads: 3,
        head_dim: 12,
    };

    #[test]
    fn bytes_per_block_is_what_a_block_takes() {
        let mut cache = KvCache::new(SHAPE, 5, &Device::Cpu).unwrap();
        let layer = cache.layer(1);
        let held = (layer.keys.len() + layer.values.len()) * size_of::<f32>() * SHAPE.layers;
        assert_eq!(held, 5 * KvCache::bytes_per_block(&SHAPE));
        assert!(cache.layer(0).keys.iter().all(|&key| key == 0.0));
    }

    #[test]
    fn an_impossible_reservation_is_an_error_that_names_the_size() {
        for blocks in [usize::MAX, usize::MAX / 4096, 1 << 50] {
            let error = KvCache::new(SHAPE, blocks, &Device::Cpu)
                .unwrap_err()
                .to_string();
            assert!(error.contains(&blocks.to_string()), "{error}");
        }
    }
}
