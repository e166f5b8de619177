//! What an encoder can be: one enum with data for each axis in which the families differ, as the decoder's `spec` has
//! it. A family's file in `arch/` fills an [`EncoderSpec`] in; `load` and `forward` never ask for names.

use sconce_nn::{Act, Buckets, RopeSpec};

use crate::decoder::NormKind;

/// An encoder without its weights.
#[derive(Clone, Debug)]
pub struct EncoderSpec {
    /// The sizes.
    pub dims: EncoderDims,
    /// From ids to the first layer.
    pub embed: EncoderEmbed,
    /// The kind of all normalisations.
    pub norm: NormKind,
    /// Whether a norm stands before attention and MLP, or behind their sum.
    pub order: Order,
    /// How the checkpoint lays out queries, keys and values.
    pub stacked_qkv: bool,
    /// Whether the projections of attention add biases.
    pub attention_biases: bool,
    /// The feed-forward part.
    pub mlp: EncoderMlp,
    /// What the distance of two tokens adds to their score.
    pub distances: Option<DistanceKind>,
    /// Tables of rotations that the layers name.
    pub ropes: Vec<RopeSpec>,
    /// In what the layers differ, one entry each.
    pub layers: Vec<EncoderLayer>,
    /// Stored layers that lie together under one number in the checkpoint.
    pub group: usize,
    /// A convolution of the embeddings that is added to what the first layer gives.
    pub convolution: Option<Convolution>,
    /// Whether there is a norm behind the last layer.
    pub final_norm: bool,
}

/// A convolution over the tokens of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Tokens that it looks at, as many on either side of one in the middle.
    pub taps: usize,
    /// The activation.
    pub act: Act,
}

/// The sizes of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderDims {
    /// Numbers of a token between the layers.
    pub width: usize,
    /// Numbers of a token in the embedding.
    pub embed: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Numbers of a token inside the MLP.
    pub inner: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Rows of the table of positions; 0: there is none.
    pub positions: usize,
    /// Rows of the table of segments; 0: there is none.
    pub types: usize,
    /// Longest text in tokens.
    pub context: usize,
}

/// From ids to the first layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderEmbed {
    /// Positions count from the row behind this one, and tokens with this id have it for their position: RoBERTa's
    /// padding.
    pub padding: Option<u32>,
    /// A projection to the width of the layers.
    pub project: Project,
}

/// Where the embedding is projected to the width of the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Project {
    /// Nowhere: the widths are the same.
    #[default]
    No,
    /// Behind the norm, with a bias.
    BehindNorm,
    /// Before the norm, without a bias.
    BeforeNorm,
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Behind the sum of the input with attention, and with the MLP.
    Post,
    /// Before attention, and before the MLP.
    Pre,
}

/// The feed-forward part of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderMlp {
    /// Up, activation, down, with biases.
    Plain(Act),
    /// The activation of a gate times up, down; gate and up are one tensor.
    Gated {
        /// The activation.
        act: Act,
        /// Whether its projections add biases.
        biases: bool,
    },
}

/// What the distance of two tokens adds to their score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistanceKind {
    /// A number for each head, the same in all layers.
    Biases(Buckets),
    /// Products of queries and keys with vectors.
    Vectors(VectorsOfDistances),
}

/// Disentangled attention, as DeBERTa has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorsOfDistances {
    /// The buckets.
    pub buckets: Buckets,
    /// Whether queries are multiplied with vectors (`c2p`).
    pub for_queries: bool,
    /// Whether keys are (`p2c`).
    pub for_keys: bool,
    /// Whether the vectors are projected as queries and keys are, rather than by weights of their own.
    pub shared: bool,
    /// Whether they are normalised first.
    pub normed: bool,
}

/// In what one layer can differ from the next.
#[derive(Clone, Copy, Debug)]
pub struct EncoderLayer {
    /// Which of the stored layers it is; several may be the same.
    pub stored: usize,
    /// What attention scores are multiplied by.
    pub scale: f32,
    /// A token sees those at most so far away.
    pub reach: Option<usize>,
    /// Which table of [`EncoderSpec::ropes`] rotates it.
    pub rope: Option<usize>,
    /// Whether a norm stands before attention, where the order is [`Order::Pre`].
    pub attn_norm: bool,
}

impl EncoderSpec {
    /// BERT's form of these sizes; families say in what they differ.
    pub fn plain(dims: EncoderDims, layers: usize, norm: NormKind, act: Act) -> Self {
        let layer = |stored| EncoderLayer {
            stored,
            scale: ((dims.width / dims.heads) as f32).sqrt().recip(),
            reach: None,
            rope: None,
            attn_norm: true,
        };
        Self {
            dims,
            embed: EncoderEmbed::default(),
            norm,
            order: Order::Post,
            stacked_qkv: false,
            attention_biases: true,
            mlp: EncoderMlp::Plain(act),
            distances: None,
            ropes: Vec::new(),
            layers: (0..layers).map(layer).collect(),
            group: 1,
            convolution: None,
            final_norm: false,
        }
    }

    /// Number of stored layers.
    pub fn stored_layers(&self) -> usize {
        let stored = self.layers.iter().map(|layer| layer.stored + 1);
        stored.max().unwrap_or(0)
    }

    /// Bytes that computing `tokens` tokens takes beside the weights, at most: activations in f32, with the logits of
    /// `outputs` classes for each token.
    pub fn working(&self, tokens: usize, outputs: usize) -> u64 {
        let dims = &self.dims;
        // The stream, its norm, queries, keys and values before and after rotation, the result.
        let attention = 9 * dims.width;
        let mlp = 3 * dims.width + 3 * dims.inner;
        // The neighbours of a token end to end, as they stand beside the streams.
        let taps = self.convolution.map_or(0, |kind| kind.taps * dims.width);
        let convolved = 4 * dims.width + taps;
        let numbers = attention
            .max(mlp)
            .max(convolved)
            .max(2 * dims.width + outputs);
        // Inputs of products are packed to three pieces of bf16.
        let widest = dims.width.max(dims.inner).max(taps);
        tokens as u64 * (numbers as u64 * 4 + widest as u64 * 6)
    }
}
