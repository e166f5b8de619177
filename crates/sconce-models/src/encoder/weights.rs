//! The places of an encoder that weights go to. Which shape each has is said where it is loaded.

/// A place that weights go to, once per encoder or once per stored layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Embedding of tokens.
    Embed,
    /// Embedding of positions.
    Positions,
    /// Embedding of segments.
    Types,
    /// Norm of the embeddings.
    EmbedNorm,
    /// Projection of the embeddings to the width of the layers.
    EmbedIn,
    /// Projection to queries.
    Query,
    /// Projection to keys.
    Key,
    /// Projection to values.
    Value,
    /// The three in one tensor, in this order.
    Qkv,
    /// Projection of the attended values.
    AttnOut,
    /// Norm of attention.
    AttnNorm,
    /// Projection into the MLP.
    Up,
    /// Gate and projection into the MLP in one tensor, in this order.
    GateUp,
    /// Projection out of the MLP.
    Down,
    /// Norm of the MLP.
    MlpNorm,
    /// Convolution beside the first layer.
    Convolution,
    /// Norm of the sum of both.
    ConvolutionNorm,
    /// Norm behind the last layer.
    FinalNorm,
    /// Biases of distances `[buckets, heads]`.
    DistanceBiases,
    /// Vectors of distances `[buckets, width]`.
    DistanceVectors,
    /// Norm of these.
    DistanceNorm,
    /// Projection of these to what queries are multiplied with.
    DistanceKey,
    /// Projection of these to what keys are multiplied with.
    DistanceQuery,
}

/// Places and the names of their weights, without `.weight` and `.bias`; `{}` is the stored layer, or its group, in
/// which it is the one at `{inner}`.
pub type PlaceNames = &'static [(Place, &'static str)];
