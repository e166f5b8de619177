//! The paged key/value cache of one rank, reserved whole when it is made. Which block belongs to which sequence is
//! left to `sconce-sched`.
//!
//! A block holds [`BLOCK`] tokens of one layer and one kv head. Keys lie transposed, `[head_dim, BLOCK]`, so that one
//! vector holds the scores of several keys; values lie as `[BLOCK, width]`, with the head padded to whole vectors. In
//! bf16 two numbers share a word: `[head_dim / 2, BLOCK, 2]` and `[BLOCK / 2, width, 2]`.
#![allow(unsafe_code)]

use candle_core::{Device, Result};
use half::bf16;
use memmap2::MmapMut;

use crate::error::NnError;
use crate::kernels::cpu::paged::Stored;
use crate::step::BLOCK;
use crate::tensors;

/// What keys and values are kept as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvDtype {
    /// As they were computed.
    #[default]
    F32,
    /// In half the memory. Where the machine multiplies bf16 numbers, queries and the weights of values are rounded too.
    BF16,
    /// In half the memory, on GPUs only.
    F16,
}

impl KvDtype {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::BF16 | Self::F16 => size_of::<bf16>(),
        }
    }

    /// Numbers in a word, and those of which the rows of values are a multiple.
    fn layout(self) -> (usize, usize) {
        match self {
            Self::F32 => (f32::PAIR, f32::VECTOR),
            Self::BF16 | Self::F16 => (bf16::PAIR, bf16::VECTOR),
        }
    }
}

/// Sizes of one rank's part of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Decoder layers.
    pub layers: usize,
    /// Heads of keys and values on this rank.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// The type of its numbers.
    pub dtype: KvDtype,
}

impl KvShape {
    /// Numbers in a row of values.
    pub(crate) fn value_width(&self) -> usize {
        self.head_dim.next_multiple_of(self.dtype.layout().1)
    }

    /// Numbers in the keys of one block and kv head.
    pub(crate) fn key_block(&self) -> usize {
        self.head_dim.next_multiple_of(self.dtype.layout().0) * BLOCK
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
    /// `[blocks, kv_heads, head_dim, BLOCK]`, but for pairs.
    pub(crate) keys: Pages,
    /// `[blocks, kv_heads, BLOCK, value_width]`, but for pairs.
    pub(crate) values: Pages,
    /// Keys and values on a GPU, in place of both.
    #[cfg(feature = "cuda")]
    pub(crate) on_gpu: Option<[candle_core::Tensor; 2]>,
}

impl KvCache {
    /// Reserves `blocks` blocks, filled with zeros; fails on a device without kernels or when memory does not suffice.
    pub fn new(shape: KvShape, blocks: usize, device: &Device) -> Result<Self> {
        tensors::require_device(device, "the key/value cache")?;
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
            .map(|_| KvLayer::on(device, shape, blocks))
            .collect::<Result<_>>()?;
        Ok(Self {
            shape,
            blocks,
            layers,
        })
    }

    /// Bytes that one block takes in all layers.
    pub fn bytes_per_block(shape: &KvShape) -> usize {
        let numbers = shape.key_block() + shape.value_block();
        shape.layers * shape.kv_heads * numbers * shape.dtype.bytes()
    }

    /// Copies all that a block holds to another.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let shape = self.shape;
        let bytes = |numbers: usize| shape.kv_heads * numbers * shape.dtype.bytes();
        let (key_bytes, value_bytes) = (bytes(shape.key_block()), bytes(shape.value_block()));
        let copy = |pages: &mut Pages, bytes: usize| {
            let start = from as usize * bytes;
            pages
                .map
                .copy_within(start..start + bytes, to as usize * bytes);
        };
        for layer in &mut self.layers {
            copy(&mut layer.keys, key_bytes);
            copy(&mut layer.values, value_bytes);
        }
    }

    /// Sizes as given.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Where it is on a GPU, if it is: another cache is elsewhere.
    #[cfg(feature = "cuda")]
    pub(crate) fn address(&self) -> Option<u64> {
        let [keys, _] = self.layers.first()?.on_gpu.as_ref()?;
        crate::kernels::cuda::address(keys).ok()
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
    fn on(device: &Device, shape: KvShape, blocks: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            return Self::of_gpu(device, shape, blocks);
        }
        debug_assert!(device.is_cpu(), "others are refused before");
        Self::new(shape, blocks)
    }

    /// With a block more than is counted, for tokens that nobody asked for: they fill steps up to sizes that are recorded.
    #[cfg(feature = "cuda")]
    fn of_gpu(device: &Device, shape: KvShape, blocks: usize) -> Result<Self> {
        let blocks = blocks + 1;
        use crate::kernels::cuda;
        let sizes = cuda::Sizes {
            kv_heads: shape.kv_heads,
            head: shape.head_dim,
        };
        let dtype = match shape.dtype {
            KvDtype::F32 => candle_core::DType::F32,
            KvDtype::BF16 => candle_core::DType::BF16,
            KvDtype::F16 => candle_core::DType::F16,
        };
        let reserve = || cuda::reserve(sizes, blocks, dtype, device);
        let nothing = || Pages::zeroed(0).expect("an empty map is never refused");
        Ok(Self {
            shape,
            blocks,
            keys: nothing(),
            values: nothing(),
            on_gpu: Some([reserve()?, reserve()?]),
        })
    }

    fn new(shape: KvShape, blocks: usize) -> Result<Self> {
        let heads = blocks.checked_mul(shape.kv_heads);
        let reserve = |block: usize| {
            heads
                .and_then(|heads| heads.checked_mul(block))
                .and_then(|numbers| numbers.checked_mul(shape.dtype.bytes()))
                .and_then(Pages::zeroed)
        };
        match (reserve(shape.key_block()), reserve(shape.value_block())) {
            (Some(keys), Some(values)) => Ok(Self {
                shape,
                blocks,
                keys,
                values,
                #[cfg(feature = "cuda")]
                on_gpu: None,
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
    bytes: usize,
}

impl Pages {
    /// `None` where the system refuses so much.
    fn zeroed(bytes: usize) -> Option<Self> {
        let bytes = Some(bytes).filter(|&bytes| bytes <= isize::MAX as usize)?;
        // An empty map is an error.
        let map = MmapMut::map_anon(bytes.max(1)).ok()?;
        Some(Self { map, bytes })
    }

    /// The numbers, of the type that the cache was made for.
    pub(crate) fn numbers<T: Stored>(&self) -> &[T] {
        let len = self.bytes / size_of::<T>();
        // SAFETY: so many numbers lie in the map, which begins on a page and outlives the borrow; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), len) }
    }

    /// As [`Self::numbers`].
    pub(crate) fn numbers_mut<T: Stored>(&mut self) -> &mut [T] {
        let len = self.bytes / size_of::<T>();
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: KvShape = KvShape {
        layers: 2,
        kv_heads: 3,
        head_dim: 13,
        dtype: KvDtype::F32,
    };

    #[test]
    fn bytes_per_block_is_what_a_block_takes() {
        for (dtype, bytes) in [
            // Values of 16 numbers.
            (KvDtype::F32, (13 + 16) * 4),
            // Keys of 14, since two share a word.
            (KvDtype::BF16, (14 + 16) * 2),
        ] {
            let shape = KvShape { dtype, ..SHAPE };
            let mut cache = KvCache::new(shape, 5, &Device::Cpu).unwrap();
            let layer = cache.layer(1);
            let held = (layer.keys.bytes + layer.values.bytes) * shape.layers;
            assert_eq!(held, 5 * KvCache::bytes_per_block(&shape));
            assert_eq!(held, 5 * bytes * BLOCK * shape.layers * shape.kv_heads);
            let keys = cache.layer(0).keys.numbers::<f32>();
            assert!(keys.iter().all(|&key| key == 0.0));
        }
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
