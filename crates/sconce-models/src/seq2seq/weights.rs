//! The places of an encoder-decoder that weights go to. Which shape each has is said where it is loaded.

/// A place that weights go to: once, once for each stack, or once for each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    /// Embedding of tokens; the first of its names that a checkpoint has counts, the others are copies.
    Shared,
    /// Output projection.
    Head,
    /// What is added to logits, under its full name.
    LogitsBias,
    /// Embedding of positions of a stack.
    Positions,
    /// Norm of the embeddings of a stack.
    EmbedNorm,
    /// Norm behind the last layer of a stack.
    FinalNorm,
    /// Biases of distances `[buckets, heads]` of a stack, or of each layer.
    Distances,
    /// Biases of the distances of blocks whose sums are attended to.
    BlockDistances,
    /// Norm of the sums of blocks.
    SumsNorm,
    /// Projection to queries.
    Query,
    /// Projection to keys.
    Key,
    /// Projection to values.
    Value,
    /// Projection of the attended values.
    Out,
    /// Norm of attention.
    AttnNorm,
    /// Projection to queries of what was read.
    CrossQuery,
    /// Projection of what was read to keys.
    CrossKey,
    /// Projection of what was read to values.
    CrossValue,
    /// Projection of the attended values of what was read.
    CrossOut,
    /// Norm of attention to what was read.
    CrossNorm,
    /// Projection whose activation gates `Up`.
    Gate,
    /// Projection into the MLP.
    Up,
    /// The same where it is gated.
    GatedUp,
    /// Projection out of the MLP.
    Down,
    /// Norm of the MLP.
    MlpNorm,
}

/// One of the two stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that reads.
    Encoder = 0,
    /// The one that writes.
    Decoder = 1,
}

impl Side {
    /// As checkpoints spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        }
    }
}

/// Seats and the names of their weights, without `.weight` and `.bias`; `{side}` is the stack, `{}` the layer.
pub type SeatNames = &'static [(Seat, &'static str)];
