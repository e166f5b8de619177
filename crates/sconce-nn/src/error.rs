//! What a layer, the cache or a collective refuses to do, with the values that were at fault.
//! Errors of reading weights are `WeightError`.

use crate::comm::GroupFailure;
use crate::weights::{StoredDtype, WeightError};

/// Why a layer could not be built or a computation could not run.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// The device has no kernel for it in this build.
    #[error(
        "{what} is on {device}, where this build computes nothing of the kind: set option.device=cpu"
    )]
    Device {
        /// The tensor or layer.
        what: &'static str,
        /// Where it is.
        device: String,
    },
    /// Activations of another type than f32.
    #[error("{what} has {dtype}: kernels take float32 activations")]
    Dtype {
        /// The tensor.
        what: &'static str,
        /// Its element type.
        dtype: &'static str,
    },
    /// A weight in a type that the layer cannot read.
    #[error(
        "{what} is stored as {dtype}: layers read float32, float16, bfloat16 and ggml's blocks, convert it while loading"
    )]
    WeightDtype {
        /// The weight.
        what: &'static str,
        /// Its stored type.
        dtype: StoredDtype,
    },
    /// A tensor whose elements are not in row-major order.
    #[error("{what} of shape {shape:?} is a strided view: kernels take contiguous tensors")]
    Strided {
        /// The tensor.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Sizes that do not go together.
    #[error("{what} has shape {shape:?}, where {wanted} is needed")]
    Shape {
        /// The tensor or weight.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// The shape in words and numbers.
        wanted: String,
    },
    /// A value outside its range.
    #[error("{what} is {value}, which is not {wanted}")]
    Value {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: String,
        /// The range in words and numbers.
        wanted: String,
    },
    /// A step whose index vectors contradict each other, its tensors or the cache.
    #[error("the step is inconsistent at {what} {index}: {problem}")]
    Step {
        /// The kind of entry, such as `row`.
        what: &'static str,
        /// The entry's index.
        index: usize,
        /// The contradiction, with the values.
        problem: String,
    },
    /// A weight could not be read in place.
    #[error("{what}: {cause}")]
    Weight {
        /// The weight.
        what: &'static str,
        /// Why.
        #[source]
        cause: WeightError,
    },
    /// There is no NCCL.
    #[error(
        "libnccl.so is not there, which joins GPUs: install NVIDIA's NCCL 2.17 or later, with a link libnccl.so to \
         libnccl.so.2 on LD_LIBRARY_PATH, or serve from one GPU with option.tensor_parallel_degree=1"
    )]
    NoNccl,
    /// NCCL is too old.
    #[error(
        "NCCL has version {version}, and 21700 (2.17) or later is needed: install a newer libnccl"
    )]
    OldNccl {
        /// Its number: 10,000 times the major version, 100 times the minor one, the patch.
        version: i32,
    },
    /// NCCL refuses.
    #[error("NCCL fails at {what}: {state}; NCCL_DEBUG=INFO tells more")]
    Nccl {
        /// The call.
        what: &'static str,
        /// NCCL's word.
        state: String,
    },
    /// A rank of the group is gone.
    #[error("rank {rank} {how}, so rank {waiting} cannot finish its {operation}")]
    RankGone {
        /// The rank that is gone.
        rank: usize,
        /// The rank that needs it.
        waiting: usize,
        /// How it went: `left` or `panicked`.
        how: &'static str,
        /// The collective operation.
        operation: &'static str,
    },
    /// The group of ranks is of no use any more.
    #[error("rank {waiting} cannot finish its {operation}: {failure}")]
    Group {
        /// The rank that needs the others.
        waiting: usize,
        /// The collective operation.
        operation: &'static str,
        /// The first failure.
        failure: GroupFailure,
    },
}

impl From<NnError> for candle_core::Error {
    fn from(error: NnError) -> Self {
        // Not `wrap`: it would write a backtrace into the message.
        Self::Wrapped(Box::new(error))
    }
}
