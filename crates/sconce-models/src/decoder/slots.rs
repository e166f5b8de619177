//! The places of a decoder that weights go to: their shapes and how they are cut across ranks, said once for all families.

use super::load::At;
use super::spec::Dims;

/// A place that weights go to, once per decoder or once per layer (or once per expert of a layer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Token embedding `[vocab, embed]`.
    Embed,
    /// Norm of the embeddings.
    EmbedNorm,
    /// Projection of the embeddings into the residual stream `[width, embed]`.
    EmbedIn,
    /// Learned positions `[positions, width]`.
    Position,
    /// Norm before attention, or after its sum where the residual stream is normalised.
    AttnNorm,
    /// Norm of what attention gives.
    AttnOutNorm,
    /// Projection to queries `[heads * head, width]`.
    Query,
    /// Projection to keys `[kv_heads * head, width]`.
    Key,
    /// Projection to values `[kv_heads * head, width]`.
    Value,
    /// The three in one tensor, laid out as the spec's `Qkv` says.
    Qkv,
    /// Norm of queries.
    QueryNorm,
    /// Norm of keys.
    KeyNorm,
    /// Projection of the attended values `[width, heads * head]`.
    AttnOut,
    /// Norm before the MLP, or after its sum where the residual stream is normalised.
    MlpNorm,
    /// Norm of what the MLP gives.
    MlpOutNorm,
    /// Projection whose activation gates `Up` `[inner, width]`.
    Gate,
    /// Projection into the MLP `[inner, width]`.
    Up,
    /// `Gate` and `Up` in one tensor, in this order.
    GateUp,
    /// Projection out of the MLP `[width, inner]`.
    Down,
    /// Projection to the experts' scores `[experts, width]`.
    Router,
    /// `Gate` of one expert `[expert, width]`.
    ExpertGate,
    /// `Up` of one expert `[expert, width]`.
    ExpertUp,
    /// `Down` of one expert `[width, expert]`.
    ExpertDown,
    /// Projection to the weight of the shared expert `[1, width]`.
    SharedRouter,
    /// `Gate` of the shared expert `[shared, width]`.
    SharedGate,
    /// `Up` of the shared expert `[shared, width]`.
    SharedUp,
    /// `Down` of the shared expert `[width, shared]`.
    SharedDown,
    /// Norm before the output projection.
    FinalNorm,
    /// Projection from the residual stream to what `Head` takes `[embed, width]`.
    HeadIn,
    /// Output projection `[vocab, embed]`.
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
    /// The embedding.
    Embed,
    /// Numbers of one head.
    Head,
    /// All query heads.
    Heads,
    /// All key or value heads.
    KvHeads,
    /// Queries, keys and values together.
    Fused,
    /// The inside of the MLP.
    Inner,
    /// The inside of the MLP twice.
    TwiceInner,
    /// The inside of one expert.
    Expert,
    /// The inside of the shared expert.
    Shared,
    /// The experts.
    Experts,
    /// A single number.
    One,
    /// Tokens of the vocabulary.
    Vocab,
    /// Learned positions, with those for padding.
    Positions,
}

impl Slot {
    /// Whether it belongs to experts of which a token uses only some.
    pub(crate) fn is_of_experts(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertDown)
    }

    /// How it is cut across ranks.
    pub fn split(self) -> Split {
        use Slot::*;
        match self {
            Query | Key | Value | Gate | Up | ExpertGate | ExpertUp | SharedGate | SharedUp => {
                Split::Rows
            }
            AttnOut | Down | ExpertDown | SharedDown => Split::Columns,
            Embed | Head => Split::Vocabulary,
            // `Qkv` and `GateUp` are cut after they are split into their parts, never before.
            Qkv | GateUp => Split::Copied,
            EmbedNorm | EmbedIn | Position | AttnNorm | AttnOutNorm | QueryNorm | KeyNorm
            | MlpNorm | MlpOutNorm | Router | SharedRouter | FinalNorm | HeadIn => Split::Copied,
        }
    }

    /// The dimensions of its weight: rows (outputs) and, but for norms, columns (inputs).
    /// Those of `QueryNorm` and `KeyNorm` depend on what is normalised together; these are of a norm of one head.
    pub fn axes(self) -> &'static [Axis] {
        use Slot::*;
        match self {
            Embed | Head => &[Axis::Vocab, Axis::Embed],
            EmbedIn => &[Axis::Width, Axis::Embed],
            HeadIn => &[Axis::Embed, Axis::Width],
            Position => &[Axis::Positions, Axis::Width],
            EmbedNorm | AttnNorm | AttnOutNorm | MlpNorm | MlpOutNorm | FinalNorm => &[Axis::Width],
            QueryNorm | KeyNorm => &[Axis::Head],
            Query => &[Axis::Heads, Axis::Width],
            Key | Value => &[Axis::KvHeads, Axis::Width],
            Qkv => &[Axis::Fused, Axis::Width],
            AttnOut => &[Axis::Width, Axis::Heads],
            Gate | Up => &[Axis::Inner, Axis::Width],
            GateUp => &[Axis::TwiceInner, Axis::Width],
            Down => &[Axis::Width, Axis::Inner],
            Router => &[Axis::Experts, Axis::Width],
            ExpertGate | ExpertUp => &[Axis::Expert, Axis::Width],
            ExpertDown => &[Axis::Width, Axis::Expert],
            SharedRouter => &[Axis::One, Axis::Width],
            SharedGate | SharedUp => &[Axis::Shared, Axis::Width],
            SharedDown => &[Axis::Width, Axis::Shared],
        }
    }
}

impl Axis {
    /// Its length in a whole decoder.
    pub fn len(self, dims: &Dims) -> usize {
        match self {
            Self::Width => dims.width,
            Self::Embed => dims.embed,
            Self::Head => dims.head,
            Self::Heads => dims.heads * dims.head,
            Self::KvHeads => dims.kv_heads * dims.head,
            Self::Fused => (dims.heads + 2 * dims.kv_heads) * dims.head,
            Self::Inner => dims.inner,
            Self::TwiceInner => 2 * dims.inner,
            Self::Expert => dims.expert,
            Self::Shared => dims.shared,
            Self::Experts => dims.experts,
            Self::One => 1,
            Self::Vocab => dims.vocab,
            Self::Positions => dims.positions,
        }
    }

    /// The keys of `config.json` that decide its length.
    pub fn keys(self) -> &'static str {
        match self {
            Self::Width => "hidden_size (n_embd, d_model)",
            Self::Embed => "word_embed_proj_dim (else hidden_size, n_embd, d_model)",
            Self::Head => "head_dim",
            Self::Heads => "num_attention_heads (n_head) × head_dim",
            Self::KvHeads => "num_key_value_heads × head_dim",
            Self::Fused => {
                "(num_attention_heads (n_head) + 2 × num_key_value_heads (num_kv_heads)) × head_dim"
            }
            Self::Inner => "intermediate_size (n_inner, ffn_dim)",
            Self::TwiceInner => "2 × intermediate_size",
            Self::Expert => "moe_intermediate_size (else intermediate_size)",
            Self::Shared => "shared_expert_intermediate_size",
            Self::Experts => "num_experts (num_local_experts)",
            Self::One => "1",
            Self::Vocab => "vocab_size",
            Self::Positions => "max_position_embeddings (n_positions)",
        }
    }
}

impl Slot {
    /// Its only tensor in a layer.
    pub(crate) fn of(self, layer: usize) -> At {
        self.item(layer, 0)
    }

    /// Its tensor of one expert or head.
    pub(crate) fn item(self, layer: usize, item: usize) -> At {
        At {
            slot: self,
            layer,
            item,
        }
    }
}
