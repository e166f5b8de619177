//! `attend`: causal attention of a packed step over the paged cache. Which blocks a sequence has is the step's matter.

mod check;
mod cpu;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

use crate::cache::KvLayer;
use crate::step::Step;
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
    /// ALiBi: `slope * (key position - query position)` is added to the scores of each query head.
    pub slopes: Option<Vec<f32>>,
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
    cpu::write(&keys, &values, kv, &step.slots);
    let mut out = vec![0.0; queries.len()];
    cpu::attend(&queries, sizes.heads, kv, step, how, &mut out);
    tensors::tensor(out, &[sizes.tokens, sizes.heads * kv.shape.head_dim])
}
