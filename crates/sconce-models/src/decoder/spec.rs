//! What a decoder can be: one enum with data for each axis in which the families differ.
//! A family's file in `arch/` fills a [`Spec`] in; `load` and `forward` match on it and never ask for names.

use sconce_nn::{Act, Alibi, RopeSpec};

use super::slots::Slot;

/// A decoder without its weights.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The sizes.
    pub dims: Dims,
    /// What happens to embeddings before the first layer.
    pub embed: Embed,
    /// How tokens know their place.
    pub position: Position,
    /// The kind of all normalisations of the residual stream.
    pub norm: NormKind,
    /// How attention and MLP join the residual stream.
    pub residual: Residual,
    /// What the outputs of attention and MLP are multiplied by before they join it; usually 1.
    pub residual_scale: f32,
    /// How the checkpoint lays out the projections to queries, keys and values.
    pub qkv: Qkv,
    /// Which numbers of a head the checkpoint means to be rotated together.
    pub pairing: Pairing,
    /// Queries, keys and values are clipped to plus and minus this.
    pub clip_qkv: Option<f32>,
    /// Normalisation of queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Attention scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
    /// In what the layers differ, one entry each.
    pub layers: Vec<Layer>,
    /// Whether there is a norm before the output projection.
    pub final_norm: bool,
    /// The output projection.
    pub head: Head,
    /// What happens to logits.
    pub logits: Logits,
    /// The linear layers that add a bias.
    pub biases: Vec<Slot>,
}

/// The sizes of a decoder, whole, before it is cut across ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dims {
    /// Blocks.
    pub layers: usize,
    /// Numbers of a token in the residual stream.
    pub width: usize,
    /// Numbers of a token in the embedding and before the output projection; `width` unless they are projected.
    pub embed: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head: usize,
    /// Numbers of a token inside a dense MLP.
    pub inner: usize,
    /// Numbers of a token inside one of several experts.
    pub expert: usize,
    /// Numbers of a token inside the expert that all tokens share.
    pub shared: usize,
    /// Number of experts.
    pub experts: usize,
    /// Rows of the embedding and of the output projection.
    pub vocab: usize,
    /// Longest sequence in tokens.
    pub context: usize,
    /// Rows of the table of learned positions: the last `context` are those of the positions.
    pub positions: usize,
}

/// What happens to embeddings before the first layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Embed {
    /// They are multiplied by this.
    pub scale: Option<f32>,
    /// They are normalised, which is BLOOM's way.
    pub norm: bool,
}

/// How tokens know their place.
#[derive(Clone, Debug)]
pub enum Position {
    /// A learned vector for each position is added to the embedding.
    Learned,
    /// Queries and keys are rotated, by the tables that the layers name.
    Rope(Vec<RopeSpec>),
    /// Scores are lowered with the distance of tokens, by a slope for each head.
    Alibi(Alibi),
}

/// A normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// Mean and variance.
    Layer {
        /// Added to the variance.
        eps: f64,
        /// Which parameters it has.
        affine: Affine,
    },
    /// Root mean square and weight.
    Rms {
        /// Added to the mean square.
        eps: f64,
        /// Whether the checkpoint stores the weight less one.
        plus_one: bool,
    },
}

/// The parameters of a layer norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affine {
    /// Weight and bias.
    Full,
    /// Weight only.
    Weight,
    /// None: weight one, bias zero.
    None,
}

/// How attention and MLP join the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// One after the other, each on the normalised stream.
    Pre,
    /// As `Pre`, but each is added to the normalised stream: BLOOM's `apply_residual_connection_post_layernorm`.
    PreFromNorm,
    /// One after the other, the sum normalised: the first GPT and OPT-350m.
    Post,
    /// One after the other, each with a norm of its own output: OLMo 2.
    Output,
    /// One after the other, each with a norm before and after it: Gemma 2.
    Sandwich,
    /// Both on the same stream, each with its own norm.
    Parallel,
    /// Both on the same normalised stream.
    ParallelShared,
}

/// How the checkpoint lays out the projections to queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// Three tensors.
    Split,
    /// One tensor: all queries, then all keys, then all values.
    Stacked,
    /// One tensor: for each key/value head its queries, its key, its value. With as many key/value heads as query
    /// heads, that is query, key and value of each head.
    PerGroup,
    /// One tensor of so many equal blocks, each with its part of the queries, of the values and of the keys.
    Blocks(usize),
}

/// Which numbers of a head the checkpoint means to be rotated together. The decoder rotates halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// A number of the first half with the one at the same place in the second half.
    Half,
    /// Neighbours, as GPT-J has them: they are moved to halves while loading, which no score notices.
    Adjacent,
}

/// Normalisation of queries and keys before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNorm {
    /// Its kind.
    pub kind: NormKind,
    /// Over what.
    pub over: QkNormOver,
}

/// What one normalisation of queries or keys spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNormOver {
    /// Each head by itself; all have the same weight.
    Head,
    /// Each head by itself, with its own weight.
    OwnHead,
    /// All heads together.
    AllHeads,
}

/// In what one layer can differ from the next.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// What attention scores are multiplied by.
    pub scale: f32,
    /// A token sees itself and at most `window - 1` tokens before.
    pub window: Option<usize>,
    /// Which table of [`Position::Rope`] rotates it; `None`: positions are not seen here.
    pub rope: Option<usize>,
    /// The feed-forward part.
    pub mlp: Mlp,
}

/// The feed-forward part of a layer.
#[derive(Clone, Copy, Debug)]
pub enum Mlp {
    /// Up, activation, down.
    Plain(Act),
    /// Up times the activation of a gate, down.
    Gated(Act),
    /// Several gated ones, of which each token uses some.
    Experts(Act, Routing),
}

/// Which experts a token uses, and with what weight: the best `picked` by the softmax of the router's outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts for each token.
    pub picked: usize,
    /// Whether the weights are divided by their sum.
    pub renormalise: bool,
    /// Whether there is an expert that all tokens share.
    pub shared: Shared,
}

/// The expert that all tokens share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// There is none.
    None,
    /// Its output is added, times the sigmoid of a projection of the token.
    Gated,
}

/// The output projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The embedding, used again.
    Tied,
    /// A tensor of its own.
    Own,
}

/// What happens to logits, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logits {
    /// They are multiplied by this.
    pub scale: Option<f32>,
    /// They become `softcap * tanh(logit / softcap)`.
    pub softcap: Option<f32>,
}

impl Spec {
    /// The plainest decoder of these sizes, with rotary or learned positions; families say in what they differ.
    pub fn plain(dims: Dims, position: Position, mlp: Mlp) -> Self {
        let rope = matches!(position, Position::Rope(_)).then_some(0);
        let layer = Layer {
            scale: (dims.head as f32).sqrt().recip(),
            window: None,
            rope,
            mlp,
        };
        Self {
            dims,
            embed: Embed::default(),
            position,
            norm: NormKind::layer(1e-5),
            residual: Residual::Pre,
            residual_scale: 1.0,
            qkv: Qkv::Split,
            pairing: Pairing::Half,
            clip_qkv: None,
            qk_norm: None,
            softcap: None,
            layers: vec![layer; dims.layers],
            final_norm: true,
            head: Head::Own,
            logits: Logits::default(),
            biases: Vec::new(),
        }
    }

    /// Length in tokens beyond which a sequence has other keys from its beginning on, if there is one.
    pub fn border(&self) -> Option<usize> {
        match &self.position {
            Position::Rope(tables) => tables.iter().find_map(RopeSpec::border),
            _ => None,
        }
    }

    /// Itself with every layer changed; `change` gets the layer's index, counted from 0.
    pub fn with_layers(mut self, change: impl Fn(usize, &mut Layer)) -> Self {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            change(index, layer);
        }
        self
    }
}

impl NormKind {
    /// A layer norm with weight and bias.
    pub fn layer(eps: f64) -> Self {
        Self::Layer {
            eps,
            affine: Affine::Full,
        }
    }

    /// A root-mean-square norm with its weight as stored.
    pub fn rms(eps: f64) -> Self {
        Self::Rms {
            eps,
            plus_one: false,
        }
    }
}
