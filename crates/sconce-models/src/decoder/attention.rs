//! Projections to queries, keys and values, rotation, attention over the cache, projection back.

use candle_core::{Result, Tensor};
use sconce_nn::{Attend, KvLayer, Linear, attend};

use super::Pass;
use super::load::Loader;
use super::load_error::LoadError;
use super::share::Share;
use super::slots::Slot;
use super::spec::Spec;

/// This rank's heads of one layer.
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    how: Attend,
    heads: usize,
    kv_heads: usize,
    head: usize,
}

impl Attention {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        share: Share,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let [query, key, value] = loader.qkv(layer)?;
        Ok(Self {
            query,
            key,
            value,
            out: loader.linear(Slot::AttnOut, layer)?,
            how: Attend {
                scale: spec.scale.at(layer),
                window: None,
                softcap: None,
                slopes: None,
            },
            heads: share.heads(),
            kv_heads: share.kv_heads(),
            head: spec.dims.head,
        })
    }

    /// `[tokens, width]` to this rank's summand of the same; writes keys and values to the cache.
    pub(crate) fn forward(&self, x: &Tensor, kv: &mut KvLayer, pass: &Pass) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let mut q = self
            .query
            .forward(x)?
            .reshape((tokens, self.heads, self.head))?;
        let mut k = self
            .key
            .forward(x)?
            .reshape((tokens, self.kv_heads, self.head))?;
        let v = self
            .value
            .forward(x)?
            .reshape((tokens, self.kv_heads, self.head))?;
        if let Some(rope) = pass.rope {
            q = rope.apply(&q, &pass.step.positions)?;
            k = rope.apply(&k, &pass.step.positions)?;
        }
        self.out
            .forward(&attend(&q, &k, &v, kv, pass.step, &self.how)?)
    }
}
