//! Room for weights in huge pages. A mapped file lies in pages of 4 KiB: products that stream weights from memory then
//! wait for the address of every page, which costs about a quarter of a decode step. Which weights are kept is left to
//! the loader.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::buffer::Buffer;
use super::error::WeightError;
use super::host_tensor::{HostTensor, row_major};

/// Bytes of a piece of memory that tensors share.
const CHUNK: usize = 64 << 20;

/// Tensors begin on lines of the cache.
const ALIGNMENT: usize = 64;

/// Whether the system gives huge pages to whoever asks for them.
pub fn has_huge_pages() -> bool {
    let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    modes.is_ok_and(|modes| !modes.contains("[never]"))
}

/// Copies tensors one behind the other.
#[derive(Default)]
pub struct Arena {
    chunk: Option<Arc<Buffer>>,
    /// Bytes of the chunk that are taken.
    used: usize,
}

impl Arena {
    /// A row-major copy of the tensor, or itself where the system has no memory for one; the pages of a file that it
    /// was mapped from are given back.
    pub fn hold(&mut self, tensor: &HostTensor) -> Result<HostTensor, WeightError> {
        let shape = tensor.shape().to_vec();
        if tensor.is_outline() {
            return HostTensor::outline_of_copy(tensor.dtype(), shape);
        }
        let len = tensor.byte_len();
        let Some((chunk, begin)) = self.room(len) else {
            return Ok(tensor.clone());
        };
        // SAFETY: `room` gives out every byte once, and the view that reads these is made below.
        unsafe { chunk.fill(begin, len, |target| tensor.write_to(target)) };
        tensor.give_back_pages();
        let strides = row_major(&shape);
        HostTensor::view(chunk, begin, tensor.dtype(), shape, strides)
    }

    /// A chunk with that much room, and where it begins.
    fn room(&mut self, len: usize) -> Option<(Arc<Buffer>, usize)> {
        let begin = self.used.next_multiple_of(ALIGNMENT);
        let open = self.chunk.take();
        let (chunk, begin) = match open.filter(|chunk| begin + len <= chunk.len()) {
            Some(chunk) => (chunk, begin),
            None => (Arc::new(Buffer::anonymous(len.max(CHUNK))?), 0),
        };
        self.used = begin + len;
        self.chunk = Some(Arc::clone(&chunk));
        Some((chunk, begin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_keep_their_numbers_wherever_they_lie() {
        let mut arena = Arena::default();
        let numbers: Vec<f32> = (0..9 << 20).map(|n| n as f32).collect();
        let large = HostTensor::from_f32(numbers, &[9, 1 << 20]);
        let cut = large.narrow(1, 3, 5).unwrap();
        let mut held = Vec::new();
        // The second copy of the large one does not fit behind the first.
        for tensor in [&cut, &large, &cut, &large, &cut] {
            held.push((tensor.to_vec_f32().unwrap(), arena.hold(tensor).unwrap()));
        }
        for (numbers, tensor) in held {
            assert!(tensor.is_contiguous() && tensor.is_owned());
            assert_eq!(tensor.to_vec_f32().unwrap(), numbers);
        }
    }
}
