//! OpenAI's chat and completions: bodies with `messages` or `prompt`, on OpenAI's own routes and on those of DJL Serving.
//!
//! `chat` and `completions` read requests, `messages` what was said and the tools, `choice` which of
//! them may be called, `calls` finds calls in what is written, `parameters` what both have in common;
//! `render` writes whole answers, `stream` those that come token by token. What differs where such a body comes to
//! `/invocations` is a `Habit`.

mod calls;
mod chat;
mod choice;
mod completions;
mod messages;
mod parameters;
mod render;
mod stream;

use sconce_core::ServeError;
use serde::Deserialize;
use serde_json::Value;

use crate::dialect::{Accepted, Incoming};
use crate::fields::Fields;
use crate::payload;

/// Which of OpenAI's routes a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenAiRoute {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp<'a> {
    /// What is unique about the request.
    pub id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model, where the request names none.
    pub model: &'a str,
}

/// Whose habits an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// OpenAI's own: server-sent events that end with `[DONE]`.
    OpenAi,
    /// LMI's asynchronous mode: the same objects, a line each, without the end mark.
    Async,
    /// LMI's rolling batch: events, with its own reasons for an end and its own form of log-probabilities.
    Rolling,
}

/// Reads a request that came by one of OpenAI's routes.
pub fn accept(route: OpenAiRoute, incoming: &Incoming<'_>) -> Result<Accepted, ServeError> {
    let Value::Object(object) = payload::value(incoming.body)? else {
        return Err(ServeError::Malformed(match route {
            OpenAiRoute::Chat => "the body must be an object with `messages`".into(),
            OpenAiRoute::Completions => "the body must be an object with `prompt`".into(),
        }));
    };
    let fields = Fields::new(object);
    match route {
        OpenAiRoute::Chat => chat(fields, Habit::OpenAi, incoming.stamp),
        OpenAiRoute::Completions => completions(fields, Habit::OpenAi, incoming.stamp),
    }
}

/// The model that a body names, if it does.
pub fn named_model(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    serde_json::from_slice::<Named>(payload::unmarked(body))
        .ok()?
        .model
}

/// Whether a body has the texts that dialects of DJL Serving read, and no messages.
pub fn is_native(body: &[u8]) -> bool {
    let members = payload::value(body);
    let members = members.as_ref().ok().and_then(Value::as_object);
    members
        .is_some_and(|members| members.contains_key("inputs") && !members.contains_key("messages"))
}

/// Reads a chat request.
pub(crate) fn chat(fields: Fields, habit: Habit, stamp: Stamp<'_>) -> Result<Accepted, ServeError> {
    chat::accept(fields, habit, stamp)
}

/// Reads a request to complete texts.
pub(crate) fn completions(
    fields: Fields,
    habit: Habit,
    stamp: Stamp<'_>,
) -> Result<Accepted, ServeError> {
    completions::accept(fields, habit, stamp)
}

#[cfg(test)]
mod tests;
