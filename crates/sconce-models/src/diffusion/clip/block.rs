//! One layer of CLIP, of texts and of images alike: `modeling_clip.py` of transformers.

use candle_core::{Result, Tensor};
use sconce_nn::{Act, AttendAcross, Linear, Norm, add, attend_across};

use crate::HfConfig;
use crate::config_error::ConfigError;
use crate::decoder::{Affine, LoadError, NormKind};
use crate::layers::{Expected, Layers, Role};

/// The sizes of a stack of layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipDims {
    /// Width of the residual stream.
    pub width: usize,
    /// Inner width of the MLPs.
    pub inner: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// The MLPs' function.
    pub act: Act,
    /// What norms add to the variance.
    pub eps: f64,
}

const EXPECTED: Expected = Expected {
    keys: "hidden_size, intermediate_size, num_attention_heads",
    hint: "; is num_hidden_layers wrong, or does the folder belong to another model?",
};

impl ClipDims {
    /// Of a configuration, with the defaults of transformers.
    pub(super) fn read(
        config: &HfConfig,
        defaults: [usize; 4],
    ) -> std::result::Result<Self, ConfigError> {
        let [width, inner, layers, heads] = defaults;
        let width = config.size_or("hidden_size", width)?;
        let heads = config.size_or("num_attention_heads", heads)?;
        config.multiple("hidden_size", width, "num_attention_heads", heads)?;
        Ok(Self {
            width,
            inner: config.size_or("intermediate_size", inner)?,
            layers: config.size_or("num_hidden_layers", layers)?,
            heads,
            act: config.act("hidden_act", Act::QuickGelu)?,
            eps: config.float("layer_norm_eps", 1e-5)?,
        })
    }

    /// The kind of its norms.
    pub(super) fn norm(&self) -> NormKind {
        NormKind::Layer {
            eps: self.eps,
            affine: Affine::Full,
        }
    }
}

/// A layer.
#[derive(Debug)]
pub(super) struct ClipBlock {
    first_norm: Norm,
    qkv: [Linear; 3],
    out: Linear,
    second_norm: Norm,
    up: Linear,
    down: Linear,
    act: Act,
    heads: usize,
}

impl ClipBlock {
    pub(super) fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        dims: &ClipDims,
    ) -> std::result::Result<Self, LoadError> {
        let (width, inner) = (dims.width, dims.inner);
        let mut linear = |part: &str, shape: [usize; 2]| {
            layers.linear(
                &format!("{prefix}.{part}"),
                shape,
                true,
                Role::Whole,
                EXPECTED,
            )
        };
        let square = [width, width];
        let qkv = [
            linear("self_attn.q_proj", square)?,
            linear("self_attn.k_proj", square)?,
            linear("self_attn.v_proj", square)?,
        ];
        let out = linear("self_attn.out_proj", square)?;
        let (up, down) = (
            linear("mlp.fc1", [inner, width])?,
            linear("mlp.fc2", [width, inner])?,
        );
        let mut norm =
            |part: &str| layers.norm(&format!("{prefix}.{part}"), dims.norm(), width, EXPECTED);
        Ok(Self {
            first_norm: norm("layer_norm1")?,
            second_norm: norm("layer_norm2")?,
            qkv,
            out,
            up,
            down,
            act: dims.act,
            heads: dims.heads,
        })
    }

    /// `x` `[texts * tokens, width]` to the same.
    pub(super) fn forward(&self, x: &Tensor, texts: usize, causal: bool) -> Result<Tensor> {
        let [query, key, value] = &self.qkv;
        let normed = self.first_norm.forward(x)?;
        let [q, k, v] = Linear::forward_all([query, key, value], &normed)?;
        let how = AttendAcross {
            scale: 1.0 / ((x.dim(1)? / self.heads) as f32).sqrt(),
            causal,
        };
        let attended = attend_across([&q, &k, &v], self.heads, texts, how)?;
        let x = add(x, &self.out.forward(&attended)?)?;
        let normed = self.second_norm.forward(&x)?;
        let inner = self.act.apply(&self.up.forward(&normed)?)?;
        add(&x, &self.down.forward(&inner)?)
    }
}
