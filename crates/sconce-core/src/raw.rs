//! Requests and answers whose meaning only a model's own code knows: bytes with names.

use bytes::Bytes;

/// A request as it came, but for its transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawInput {
    /// Headers and whatever else is said about the content; of equal names the last counts.
    pub properties: Vec<(String, String)>,
    /// The body under the key `data`, or its parts; a key may occur twice.
    pub content: Vec<(String, Bytes)>,
}

/// Which of a model's own functions change its requests and answers, whoever computes these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// One makes the request that is computed of the one that came.
    pub input: bool,
    /// One makes what the client gets of what was computed.
    pub output: bool,
}

/// A part of an answer to a [`RawInput`]: one head, then chunks, then the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawEvent {
    /// What comes before the content.
    Head(RawHead),
    /// The next bytes of the content.
    Chunk(Bytes),
    /// The content is complete.
    End,
}

/// What an answer says before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawHead {
    /// The HTTP status that the model's code chose.
    pub code: u16,
    /// Its reason; the code's own words for a failure.
    pub message: String,
    /// Headers of the answer.
    pub properties: Vec<(String, String)>,
    /// Whether the content comes as it is made, each chunk to be sent at once.
    pub streams: bool,
}
