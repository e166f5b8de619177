//! Projections to queries, keys and values, their norms and rotation, attention over the cache, projection back.

use candle_core::{Result, Tensor};
use sconce_nn::{Alibi, Attend, KvLayer, Linear, clip, rotate_and_attend};

use super::Pass;
use super::load::Loader;
use super::load_error::LoadError;
use super::qk_norm::HeadNorm;
use super::slots::{Axis, Slot};
use super::spec::{Position, Spec};
use crate::adapter::Place;

/// This rank's heads of one layer.
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    /// Of queries and of keys.
    norms: Option<[HeadNorm; 2]>,
    out: Linear,
    how: Attend,
    clip: Option<f32>,
    /// Index of the table that rotates.
    rope: Option<usize>,
    heads: usize,
    kv_heads: usize,
    head: usize,
}

impl Attention {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let [query, key, value] = loader.qkv(layer)?;
        let here = &spec.layers[layer];
        let norms = match spec.qk_norm {
            Some(norm) => Some([
                HeadNorm::load(loader, spec, norm, Slot::QueryNorm, layer)?,
                HeadNorm::load(loader, spec, norm, Slot::KeyNorm, layer)?,
            ]),
            None => None,
        };
        Ok(Self {
            query,
            key,
            value,
            norms,
            out: loader.linear(Slot::AttnOut, layer)?,
            how: Attend {
                scale: here.scale,
                window: here.window,
                softcap: spec.softcap,
                alibi: alibi(loader, spec),
                look_back: None,
            },
            clip: spec.clip_qkv,
            rope: here.rope,
            heads: loader.share.heads(),
            kv_heads: loader.share.kv_heads(),
            head: spec.dims.head,
        })
    }

    /// `[tokens, width]` to this rank's summand of the same; writes keys and values to the cache.
    pub(crate) fn forward(&self, x: &Tensor, kv: &mut KvLayer, pass: &Pass) -> Result<Tensor> {
        let layers = [&self.query, &self.key, &self.value];
        let [q, k, v] = pass.linear(layers, [Place::Query, Place::Key, Place::Value], x)?;
        let mut q = self.in_heads(q, self.heads)?;
        let mut k = self.in_heads(k, self.kv_heads)?;
        let v = self.in_heads(v, self.kv_heads)?;
        if let Some([queries, keys]) = &self.norms {
            q = queries.forward(&q, pass.comm)?;
            k = keys.forward(&k, pass.comm)?;
        }
        let rope = self.rope.map(|index| &pass.ropes[index]);
        let attended = rotate_and_attend(rope, [&q, &k, &v], kv, pass.step, &self.how)?;
        let [out] = pass.linear([&self.out], [Place::Out], &attended)?;
        Ok(out)
    }

    /// A projection as `[tokens, heads, head]`.
    fn in_heads(&self, mut y: Tensor, heads: usize) -> Result<Tensor> {
        if let Some(limit) = self.clip {
            y = clip(&y, limit)?;
        }
        let tokens = y.dim(0)?;
        y.reshape((tokens, heads, self.head))
    }
}

/// The slopes of this rank's heads.
fn alibi(loader: &Loader, spec: &Spec) -> Option<Alibi> {
    let Position::Alibi(alibi) = &spec.position else {
        return None;
    };
    let numbers = loader.share.range(Axis::Heads);
    let heads = numbers.start / spec.dims.head..numbers.end / spec.dims.head;
    Some(Alibi {
        slopes: alibi.slopes[heads].to_vec(),
        ..alibi.clone()
    })
}
