//! A dialogue that a model is to go on with, in the words of transformers' `apply_chat_template`.
//!
//! Messages, tools and documents are JSON: which of their members mean something is the checkpoint's template's to say.

use serde_json::{Map, Value};

/// What a template makes a prompt of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dialogue {
    /// Objects with `role`, `content` and whatever else a template reads, in order.
    pub messages: Vec<Value>,
    /// Functions that the model may call, as JSON schemas; `None` and an empty list are two things to templates.
    pub tools: Option<Vec<Value>>,
    /// Objects with `title` and `text` that the answer may rest on.
    pub documents: Option<Vec<Value>>,
    /// Whether the prompt ends with what begins an answer.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends within the last message, which the answer goes on with.
    pub continue_final_message: bool,
    /// The template of that name, of checkpoints that have several.
    pub template: Option<String>,
    /// Further variables of the template (`enable_thinking`); they count before its special tokens.
    pub arguments: Map<String, Value>,
    /// The time that a template is told, in seconds since 1970; `None`: the present.
    pub now: Option<u64>,
}
