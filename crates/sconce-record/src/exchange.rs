//! A request and its answer.

use serde::{Deserialize, Serialize};

use crate::content::Content;

/// What was asked, what was fixed for it, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The request.
    pub asked: Asked,
    /// What the answer depends on beside the request.
    pub fixed: Fixed,
    /// The answer.
    pub answer: Answer,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers in their order, but for those of the connection and those that are secret.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Content,
}

/// What is drawn or read from a clock for a request, once, so that it can be the same again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// The seed of the first of its prompts that names none; the next has the next.
    pub seed: u64,
    /// What the answer calls itself.
    pub id: String,
    /// When it came, in seconds since 1970.
    pub created: u64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// `content-type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body, as far as it was sent.
    pub body: Content,
    /// Whether all of it was sent: the client may have left.
    pub complete: bool,
    /// Whether it was longer than what is kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// Whether the model's own code answered, of which nothing is known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_code: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}
