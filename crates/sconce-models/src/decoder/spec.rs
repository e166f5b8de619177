//! What a decoder can be: one enum with data for each axis in which the families differ.
//! A family's file in `arch/` fills a [`Spec`] in; `load` and `forward` match on it and never ask for names.

use sconce_nn::{Act, RopeSpec};

use super::slots::Slot;

/// A decoder without its weights.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The sizes.
    pub dims: Dims,
    /// How tokens know their place.
    pub position: Position,
    /// The kind of all normalisations.
    pub norm: NormKind,
    /// How attention and MLP join the residual stream.
    pub residual: Residual,
    /// How the checkpoint lays out the projections to queries, keys and values.
    pub qkv: Qkv,
    /// What attention scores are multiplied by.
    pub scale: Scale,
    /// The feed-forward part.
    pub mlp: Mlp,
    /// The output projection.
    pub head: Head,
    /// The linear layers that add a bias. Layer norms always do, RMS norms never.
    pub biases: Vec<Slot>,
}

/// The sizes of a decoder, whole, before it is cut across ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Blocks.
    pub layers: usize,
    /// Numbers of a token in the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head: usize,
    /// Numbers of a token inside the MLP.
    pub inner: usize,
    /// Rows of the embedding and of the output projection.
    pub vocab: usize,
    /// Longest sequence in tokens.
    pub context: usize,
}

/// How tokens know their place.
#[derive(Clone, Debug)]
pub enum Position {
    /// A learned vector for each position is added to the embedding.
    Learned,
    /// Queries and keys are rotated.
    Rope(RopeSpec),
}

/// The kind of all normalisations of a decoder.
#[derive(Clone, Copy, Debug)]
pub enum NormKind {
    /// Mean and variance, weight and bias.
    Layer {
        /// Added to the variance.
        eps: f64,
    },
    /// Root mean square, weight.
    Rms {
        /// Added to the mean square.
        eps: f64,
    },
}

/// How attention and MLP join the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// One after the other, each on the normalised stream.
    Pre,
    /// Both on the same stream, each with its own norm.
    Parallel,
}

/// How the checkpoint lays out the projections to queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// Three tensors.
    Split,
    /// One tensor: all queries, then all keys, then all values.
    Stacked,
    /// One tensor: query, key and value of the first head, then of the next; as many key/value heads as heads.
    PerHead,
}

/// What attention scores are multiplied by.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// The same in all layers.
    Same(f32),
    /// Divided by the number of the layer, counted from 1.
    ByLayer(f32),
}

impl Scale {
    /// The factor in `layer`, counted from 0.
    pub fn at(self, layer: usize) -> f32 {
        match self {
            Self::Same(scale) => scale,
            Self::ByLayer(scale) => scale / (layer + 1) as f32,
        }
    }
}

/// The feed-forward part.
#[derive(Clone, Copy, Debug)]
pub enum Mlp {
    /// Up, activation, down.
    Plain(Act),
    /// Up times the activation of a gate, down.
    Gated(Act),
}

/// The output projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The embedding, used again.
    Tied,
    /// A tensor of its own.
    Own,
}

impl Spec {
    /// The plainest decoder of these sizes; families say in what they differ.
    pub fn plain(dims: Dims) -> Self {
        Self {
            dims,
            position: Position::Learned,
            norm: NormKind::Layer { eps: 1e-5 },
            residual: Residual::Pre,
            qkv: Qkv::Split,
            scale: Scale::Same((dims.head as f32).sqrt().recip()),
            mlp: Mlp::Plain(Act::Gelu),
            head: Head::Own,
            biases: Vec::new(),
        }
    }
}
