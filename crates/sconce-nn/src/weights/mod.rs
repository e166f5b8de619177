//! Checkpoints on disk as read-only tensors: safetensors, torch and GGUF files, whole or in shards.
//! Which tensors a model wants, under which names and in which cut, is left to `sconce-models`.

mod arena;
mod block_format;
mod blocks;
mod buffer;
mod checkpoint;
mod convert;
mod dtype;
mod elsewhere;
mod error;
pub mod gguf;
mod host_tensor;
mod index;
mod matrix;
mod open;
mod outline;
mod packed;
mod pieces;
mod random;
mod safetensors;
mod torch;

use std::sync::Arc;

pub use arena::{Arena, has_huge_pages};
pub use block_format::BlockFormat;
pub(crate) use blocks::dequantise;
pub use checkpoint::is_lfs_pointer;
pub use dtype::{Element, StoredDtype};
pub use elsewhere::{Numbers, Part, Rehearsal};
pub use error::WeightError;
pub use host_tensor::{Blocks, HostTensor, Rows};
pub use matrix::Matrix;
pub use open::{open, open_adapter, open_elsewhere, open_part};
pub use outline::Outlines;
pub use packed::{Packed, PackedKind, Unpacked};
pub use random::RandomSource;
pub use torch::{PickleError, PickleProblem};

/// A checkpoint, or something that stands for one.
pub trait WeightSource: Send + Sync {
    /// All tensor names, sorted.
    fn names(&self) -> Vec<String>;

    /// A view of one tensor; for files nothing is read until the numbers are used.
    fn get(&self, name: &str) -> Result<HostTensor, WeightError>;

    /// The tensor without its numbers.
    fn outline(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.get(name).map(|tensor| tensor.outline())
    }

    /// Whether there is a tensor of that name that is not listed, because nothing is lost where it has no place.
    fn has_unlisted(&self, _name: &str) -> bool {
        false
    }

    /// Whether the matrix of that name has outputs as rows, though the checkpoints of its family may have inputs there.
    fn has_outputs_as_rows(&self, _name: &str) -> bool {
        false
    }

    /// Where its numbers come from, if they are not in its files; `None`: in those, or nobody has to be told what will be
    /// read.
    fn numbers(&self) -> Option<&Arc<dyn Numbers>> {
        None
    }

    /// Bytes of all tensors together, shared storages counted for each tensor: the sum of [`HostTensor::byte_len`].
    fn total_bytes(&self) -> u64;

    /// What was opened, for the log: the file's path, with the number of shards.
    fn describe(&self) -> String;
}
