//! CPU kernels: vectors, the pool of workers, and the loops over them.
//!
//! Kernels are generic over [`lanes::Lanes`] and run through [`lanes::dispatch`], which picks the widest vectors of
//! the machine; work is cut into tasks of the [`pool`].

mod broadcast;
pub(crate) mod elementwise;
pub(crate) mod gather;
pub(crate) mod groups;
pub(crate) mod lanes;
pub mod logits;
pub(crate) mod low_rank;
pub(crate) mod matmul;
pub(crate) mod mutual;
pub(crate) mod operand;
pub(crate) mod paged;
pub(crate) mod panels;
pub(crate) mod parallel;
pub(crate) mod patches;
pub mod pool;
pub(crate) mod quant;
pub(crate) mod rotate;
pub(crate) mod rows;
pub(crate) mod scratch;
pub(crate) mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod wide;
pub(crate) mod winograd;
