//! What an answer has to look like.

use std::sync::Arc;

/// A rule that holds an answer to a form; several answers to one request share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guide {
    /// The parameter that asked for it, for messages.
    pub key: &'static str,
    /// The form.
    pub rule: Arc<Rule>,
}

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A JSON object.
    Json,
    /// JSON that a schema describes; the schema as a text of JSON.
    Schema(String),
    /// What a regular expression matches, in the syntax of Rust's crate `regex`.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// What a grammar derives, in the syntax of Lark.
    Grammar(String),
}

impl Rule {
    /// Bytes of its texts.
    pub fn len(&self) -> usize {
        match self {
            Self::Json => 0,
            Self::Schema(text) | Self::Regex(text) | Self::Grammar(text) => text.len(),
            Self::Choice(texts) => texts.iter().map(String::len).sum(),
        }
    }

    /// What a request wrote, for messages.
    pub fn shown(&self) -> String {
        match self {
            Self::Json => "json_object".into(),
            Self::Schema(text) | Self::Regex(text) | Self::Grammar(text) => text.clone(),
            Self::Choice(texts) => format!("{texts:?}"),
        }
    }

    /// Whether it has no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
