//! `attend`: causal attention of a packed step over the paged cache. Which blocks a sequence has is the step's matter.

mod across;
mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod gpu;
mod look_back;
pub(crate) mod mutual;
#[cfg(test)]
pub(crate) mod reference;
mod stored;
mod sums;
#[cfg(test)]
mod tests;

pub use across::{AttendAcross, attend_across};
pub use look_back::LookBack;
pub use mutual::{
    AttendMutually, Buckets, DistanceBiases, DistanceVectors, Distances, attend_mutually,
};
pub use stored::{attend_stored, store};
pub use sums::{AttendToSums, attend_to_sums, sums_of_blocks};

use candle_core::{Result, Tensor};
use half::bf16;

use crate::cache::{KvDtype, KvLayer};
use crate::error::NnError;
use crate::rope::Rope;
use crate::step::{Placed, Step};
use crate::tensors::{self, Numbers};
use check::Sizes;

/// How scores are made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attend {
    /// Factor of the dot products, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// A token sees itself and at most `window - 1` tokens before; at least 1.
    pub window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
    /// Scores are lowered with the distance of tokens.
    pub alibi: Option<Alibi>,
    /// What is added to a score by how far the key lies before the query.
    pub look_back: Option<LookBack>,
}

/// Attention with linear biases: a slope for each query head (Press et al., 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Alibi {
    /// `[heads]`.
    pub slopes: Vec<f32>,
    /// What is added to a score.
    pub bias: AlibiBias,
}

/// What a slope adds to a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AlibiBias {
    /// `slope * (key position - query position)`.
    Distance,
    /// `factor * bf16(bf16(slope) * key position)`: Falcon's, whose tables are made in bfloat16 for every dtype, so
    /// that far keys are told apart coarsely.
    Rounded {
        /// The factor.
        factor: f32,
    },
}

impl AlibiBias {
    /// What is added to the score of a key for a query, by their positions.
    #[inline(always)]
    pub(crate) fn of(self, slope: f32, key: usize, query: usize) -> f32 {
        match self {
            Self::Distance => slope * (key as f32 - query as f32),
            Self::Rounded { factor } => {
                let position = bf16::from_f32(key as f32);
                let product = bf16::from_f32(slope).to_f32() * position.to_f32();
                factor * bf16::from_f32(product).to_f32()
            }
        }
    }
}

/// [`attend`] with queries and keys that `rope` rotates first, all three `[tokens, heads, head]`; a GPU rotates and
/// writes in one go.
pub fn rotate_and_attend(
    rope: Option<&Rope>,
    [q, k, v]: [&Tensor; 3],
    kv: &mut KvLayer,
    step: &Placed,
    how: &Attend,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() {
        return gpu::rotate_and_attend(rope, [q, k, v], kv, step, how);
    }
    match rope {
        Some(rope) => {
            let (q, k) = (rope.apply(q, step)?, rope.apply(k, step)?);
            attend(&q, &k, v, kv, step, how)
        }
        None => attend(q, k, v, kv, step, how),
    }
}

/// Writes `k` and `v` `[tokens, kv_heads, head]` to their slots, attends causally over each row's blocks and returns
/// `[tokens, heads * head]`.
///
/// `q` is `[tokens, heads, head]` or `[tokens, heads * head]`; query head `h` uses kv head `h / (heads / kv_heads)`.
/// Fails, before anything is written, when the step contradicts the tensors or the cache.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    kv: &mut KvLayer,
    step: &Step,
    how: &Attend,
) -> Result<Tensor> {
    let sizes = Sizes::of(q, k, v, kv)?;
    check::step(step, &sizes, kv)?;
    check::how(how, &sizes)?;
    let (queries, keys, values) = (
        Numbers::of(q, "the queries")?,
        Numbers::of(k, "the keys")?,
        Numbers::of(v, "the values")?,
    );
    // SAFETY: the rows of the step are all tokens, and every head of each is written.
    #[allow(unsafe_code)]
    let mut out = unsafe { tensors::unwritten(queries.len()) };
    match kv.shape.dtype {
        KvDtype::F32 => {
            cpu::write::<f32>(&keys, &values, kv, &step.slots);
            cpu::attend::<f32>(&queries, sizes.heads, kv, step, how, &mut out);
        }
        KvDtype::BF16 => {
            cpu::write::<bf16>(&keys, &values, kv, &step.slots);
            cpu::attend::<bf16>(&queries, sizes.heads, kv, step, how, &mut out);
        }
        KvDtype::F16 => return Err(only_on_gpus()),
    }
    tensors::tensor(out, &[sizes.tokens, sizes.heads * kv.shape.head_dim])
}

/// No kernel of the processor reads such a cache.
fn only_on_gpus() -> candle_core::Error {
    NnError::Value {
        what: "the type of the cache",
        value: "float16".to_owned(),
        wanted: "float32 or bfloat16, as the processor keeps keys and values".to_owned(),
    }
    .into()
}
