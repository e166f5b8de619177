//! What an encoder-decoder can be: one enum with data for each axis in which the families differ, as the decoder's and
//! the encoder's `spec` have it. Both stacks are of one form; only their sizes differ.

use sconce_nn::{Act, KvDtype, KvShape};

use super::weights::Side;
use crate::decoder::{Dims, Head, NormKind};
use crate::encoder::Order;

/// An encoder-decoder without its weights.
#[derive(Clone, Debug)]
pub struct Seq2SeqSpec {
    /// Numbers of a token between the layers.
    pub width: usize,
    /// Rows of the embedding, which both stacks share.
    pub vocab: usize,
    /// The stack that reads.
    pub encoder: StackDims,
    /// The stack that writes.
    pub decoder: StackDims,
    /// How tokens know their place.
    pub positions: Positions,
    /// How far a token sees on either side in each layer of the encoder; empty: all that is read.
    pub reaches: Vec<usize>,
    /// Tokens of the blocks whose sums each token of the encoder sees too, beside its reach.
    pub block: Option<usize>,
    /// Embeddings are multiplied by this.
    pub embed_scale: Option<f32>,
    /// Whether embeddings with their positions are normalised.
    pub embed_norm: bool,
    /// The kind of all normalisations.
    pub norm: NormKind,
    /// Whether a norm stands before attention and MLP, or behind their sum.
    pub order: Order,
    /// Whether there is a norm behind the last layer of each stack.
    pub final_norm: bool,
    /// Whether linear layers add biases.
    pub biases: bool,
    /// The feed-forward part.
    pub mlp: Seq2SeqMlp,
    /// What attention scores are multiplied by; `None`: one over the root of a head's size.
    pub scale: Option<f32>,
    /// The output projection.
    pub head: Head,
    /// What the output projection's input is multiplied by.
    pub head_scale: Option<f32>,
}

/// The sizes of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackDims {
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Numbers of a head.
    pub head: usize,
    /// Numbers of a token inside the MLP.
    pub inner: usize,
    /// Longest text in tokens; `None`: positions are relative, and any length is computed.
    pub context: Option<usize>,
}

/// How tokens know their place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// Scores of self-attention get a learned number for each head and bucket of distances; the decoder has all its
    /// buckets for what lies before.
    Buckets {
        /// Whether each layer has its own numbers, or all of a stack the same.
        per_layer: bool,
        /// How many there are.
        count: usize,
        /// From here on all distances share the last.
        longest: usize,
    },
    /// A learned vector is added, the first `offset` of the table being of no position.
    Learned {
        /// How many.
        offset: usize,
    },
    /// A vector of sines and cosines is added.
    Sinusoids(Sinusoids),
}

/// Which sines and cosines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sinusoids {
    /// Of the angles `position / 10000^(2k / width)`, as Marian has them.
    Marian,
    /// Of the angles `(position + padding + 1) * 10000^(-k / (width / 2 - 1))`, as fairseq has them. Tokens with the id
    /// of the padding have zeros, and none that is read counts.
    Fairseq {
        /// The id.
        padding: u32,
    },
}

/// The feed-forward part of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seq2SeqMlp {
    /// Up, activation, down.
    Plain(Act),
    /// Up times the activation of a gate, down.
    Gated(Act),
}

impl StackDims {
    /// Numbers of all heads.
    pub(crate) fn all_heads(&self) -> usize {
        self.heads * self.head
    }
}

impl Sinusoids {
    /// The id of tokens without a position.
    pub(crate) fn padding(self) -> Option<u32> {
        match self {
            Self::Marian => None,
            Self::Fairseq { padding } => Some(padding),
        }
    }

    /// The vectors of the positions from 0 on, `[positions, width]`, sines before cosines.
    pub(crate) fn table(self, positions: usize, width: usize) -> Vec<f32> {
        let half = width.div_ceil(2);
        let mut numbers = Vec::with_capacity(positions * width);
        for position in 0..positions {
            match self {
                // In f64, as numpy computes it.
                Self::Marian => {
                    let angle = |k: usize| {
                        let power = (2 * k) as f64 / width as f64;
                        position as f64 / 10_000f64.powf(power)
                    };
                    numbers.extend((0..half).map(|k| angle(k).sin() as f32));
                    numbers.extend((0..width - half).map(|k| angle(k).cos() as f32));
                }
                // In f32, as torch computes it; an odd width ends with a zero.
                Self::Fairseq { padding } => {
                    let half = width / 2;
                    let step = (10_000f64.ln() / (half - 1) as f64) as f32;
                    let first = padding as usize + 1;
                    let angle = |k: usize| (position + first) as f32 * (k as f32 * -step).exp();
                    numbers.extend((0..half).map(|k| angle(k).sin()));
                    numbers.extend((0..half).map(|k| angle(k).cos()));
                    numbers.extend((2 * half..width).map(|_| 0.0));
                }
            }
        }
        numbers
    }
}

impl Seq2SeqSpec {
    /// The cache that the decoder needs on each of `world` ranks, for its own tokens and for those of the encoder alike.
    pub fn kv_shape(&self, dtype: KvDtype, world: usize) -> KvShape {
        KvShape {
            layers: self.decoder.layers,
            kv_heads: self.decoder.heads / world,
            head_dim: self.decoder.head,
            dtype,
        }
    }

    /// The sizes of a stack as they are divided among ranks.
    pub(super) fn dims(&self, side: Side) -> Dims {
        let stack = match side {
            Side::Encoder => self.encoder,
            Side::Decoder => self.decoder,
        };
        Dims {
            layers: stack.layers,
            width: self.width,
            embed: self.width,
            heads: stack.heads,
            kv_heads: stack.heads,
            head: stack.head,
            inner: stack.inner,
            vocab: self.vocab,
            ..Dims::default()
        }
    }

    /// Bytes that encoding `read` tokens, and writing one token of `written` sequences, takes beside the weights on each
    /// of `world` ranks, at most: activations in f32, with the logits of each sequence.
    pub fn working(&self, read: usize, written: usize, world: usize) -> u64 {
        let of = |stack: &StackDims| {
            // The stream, its norm, queries, keys and values, the result.
            let attention = 4 * self.width + 4 * stack.all_heads().div_ceil(world);
            let mlp = 3 * self.width + 3 * stack.inner.div_ceil(world);
            // Inputs of products are packed to three pieces of bf16.
            let widest = self.width.max(stack.inner).max(stack.all_heads());
            (attention.max(mlp) * 4 + widest * 6) as u64
        };
        // Logits as the model gives them, and as they are changed and ranked.
        let logits = (self.vocab * 4 * 3) as u64;
        let reading = read as u64 * of(&self.encoder).max(of(&self.decoder));
        reading.max(written as u64 * (of(&self.decoder) + logits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got}, not {want}");
        }
    }

    /// Values of transformers 4.57: `MarianSinusoidalPositionalEmbedding` and `M2M100SinusoidalPositionalEmbedding`.
    #[test]
    fn sinusoids_are_those_of_the_families() {
        let marian = Sinusoids::Marian.table(2, 6);
        close(&marian[..6], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        close(
            &marian[6..],
            &[
                0.841_471, 0.046_399, 0.002_154, 0.540_302, 0.998_923, 0.999_998,
            ],
        );
        let fairseq = Sinusoids::Fairseq { padding: 1 }.table(1, 6);
        close(
            &fairseq,
            &[0.909_297, 0.019_999, 0.000_2, -0.416_147, 0.999_8, 1.0],
        );
    }
}
