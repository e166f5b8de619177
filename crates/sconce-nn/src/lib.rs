//! Layers, attention, cache, weights, collectives, kernels.
//!
//! Activations are contiguous tensors `[tokens, width]`: of f32 on the CPU, where weights are [`weights::Matrix`]es that
//! are read in place; of the weights' type on GPUs. Which layers a model has, and in which order, is left to `sconce-models`.
//!
//! Every number is computed by one fixed sequence of operations that depends neither on the other rows of a batch nor
//! on the number of threads, so the same request gives the same bytes in any company.

mod activation;
mod attention;
mod cache;
mod channels;
mod comm;
mod conv;
mod embedding;
mod error;
mod gpus;
mod group_norm;
mod kernels;
mod linear;
mod low_rank;
mod norm;
mod ops;
mod pulse;
mod replays;
mod rope;
mod row_sums;
mod scores;
mod step;
mod tensors;
pub mod weights;

pub use activation::{Act, clip};
pub use attention::{
    Alibi, AlibiBias, Attend, AttendAcross, AttendMutually, AttendToSums, Buckets, DistanceBiases,
    DistanceVectors, Distances, LookBack, attend, attend_across, attend_mutually, attend_stored,
    attend_to_sums, rotate_and_attend, store, sums_of_blocks,
};
pub use cache::{KvCache, KvDtype, KvLayer, KvShape};
pub use channels::join_channels;
pub use comm::{
    Communicator, GroupFailure, GroupHandle, Place, Solo, SoloOn, Threads, over_nccl, require_nccl,
};
pub use conv::{CONV_SCRATCH, Conv2d, ConvShape};
pub use embedding::{By, Embedding};
pub use error::NnError;
pub use gpus::{
    DeviceMemory, GpuError, GpuInfo, apart, device_memory, gpus, head_on_gpu, open_gpu,
    shared_memory,
};
pub use group_norm::GroupNorm;
pub use kernels::cpu::stream::read_bandwidth;
pub use kernels::cpu::{logits, pool};
pub use linear::Linear;
pub use low_rank::{Adapted, LowRank};
pub use norm::Norm;
pub use ops::{add, columns, multiply, rows, scale, to_host};
pub use pulse::{Attached, Pulse, Silence};
pub use replays::Replays;
pub use rope::{Rope, RopeScaling, RopeSpec};
pub use row_sums::RowSums;
pub use scores::{Best, MOST_BEST, Scores};
pub use step::{BLOCK, Placed, Step, StepRow};
