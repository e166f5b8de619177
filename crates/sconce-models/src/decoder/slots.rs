//! The places of a decoder that weights go to: their shapes and how they are cut across ranks, said once for all families.

use super::spec::Dims;

/// A place that weights go to, once per decoder or once per layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Token embedding `[vocab, width]`.
    Embed,
    /// Learned positions `[context, width]`.
    Position,
    /// Norm before attention.
    AttnNorm,
    /// Projection to queries `[heads * head, width]`.
    Query,
    /// Projection to keys `[kv_heads * head, width]`.
    Key,
    /// Projection to values `[kv_heads * head, width]`.
    Value,
    /// The three in one tensor, laid out as the spec's `Qkv` says.
    Qkv,
    /// Projection of the attended values `[width, heads * head]`.
    AttnOut,
    /// Norm before the MLP.
    MlpNorm,
    /// Projection whose activation gates `Up` `[inner, width]`.
    Gate,
    /// Projection into the MLP `[inner, width]`.
    Up,
    /// Projection out of the MLP `[width, inner]`.
    Down,
    /// Norm before the output projection.
    FinalNorm,
    /// Output projection `[vocab, width]`.
    Head,
}

/// How a slot is cut across ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Each rank has some rows (outputs) and their biases.
    Rows,
    /// Each rank has some columns (inputs); the results are summed, so the bias is added by rank 0 alone.
    Columns,
    /// Rows, in runs of equal length: the last ranks have fewer, and their logits are padded.
    Vocabulary,
    /// Every rank has all of it.
    Copied,
}

/// What a dimension of a weight counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The residual stream.
    Width,
    /// All query heads.
    Heads,
    /// All key or value heads.
    KvHeads,
    /// Queries, keys and values together.
    Fused,
    /// The inside of the MLP.
    Inner,
    /// Tokens of the vocabulary.
    Vocab,
    /// Positions.
    Context,
}

impl Slot {
    /// How it is cut across ranks.
    pub fn split(self) -> Split {
        match self {
            Self::Query | Self::Key | Self::Value | Self::Gate | Self::Up => Split::Rows,
            Self::AttnOut | Self::Down => Split::Columns,
            Self::Embed | Self::Head => Split::Vocabulary,
            // `Qkv` is cut after it is split into the three, never before.
            Self::Qkv | Self::Position | Self::AttnNorm | Self::MlpNorm | Self::FinalNorm => {
                Split::Copied
            }
        }
    }

    /// The dimensions of its weight: rows (outputs) and, but for norms, columns (inputs).
    pub fn axes(self) -> &'static [Axis] {
        match self {
            Self::Embed | Self::Head => &[Axis::Vocab, Axis::Width],
            Self::Position => &[Axis::Context, Axis::Width],
            Self::AttnNorm | Self::MlpNorm | Self::FinalNorm => &[Axis::Width],
            Self::Query => &[Axis::Heads, Axis::Width],
            Self::Key | Self::Value => &[Axis::KvHeads, Axis::Width],
            Self::Qkv => &[Axis::Fused, Axis::Width],
            Self::AttnOut => &[Axis::Width, Axis::Heads],
            Self::Gate | Self::Up => &[Axis::Inner, Axis::Width],
            Self::Down => &[Axis::Width, Axis::Inner],
        }
    }
}

impl Axis {
    /// Its length in a whole decoder.
    pub fn len(self, dims: &Dims) -> usize {
        match self {
            Self::Width => dims.width,
            Self::Heads => dims.heads * dims.head,
            Self::KvHeads => dims.kv_heads * dims.head,
            Self::Fused => (dims.heads + 2 * dims.kv_heads) * dims.head,
            Self::Inner => dims.inner,
            Self::Vocab => dims.vocab,
            Self::Context => dims.context,
        }
    }

    /// The keys of `config.json` that decide its length.
    pub fn keys(self) -> &'static str {
        match self {
            Self::Width => "hidden_size (n_embd)",
            Self::Heads => "num_attention_heads (n_head) × head_dim",
            Self::KvHeads => "num_key_value_heads × head_dim",
            Self::Fused => "three times hidden_size (n_embd)",
            Self::Inner => "intermediate_size (n_inner)",
            Self::Vocab => "vocab_size",
            Self::Context => "max_position_embeddings (n_positions)",
        }
    }
}
