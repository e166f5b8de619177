//! Answers of TGI: an object, a list of one, or server-sent events.

use sconce_core::{Output, PromptToken, ServeError, Token, TopToken};
use serde::Serialize;

use crate::dialect::{Finished, Stream, Whole};
use crate::rolling::finish_reason;

/// An answer that is sent at once.
pub(super) struct Document {
    pub(super) details: bool,
    /// The prompt, if it is to be put before the text.
    pub(super) before: Option<String>,
    /// Whether the answer is a list of one.
    pub(super) list: bool,
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    generated_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<WireDetails<'a>>,
}

#[derive(Serialize)]
struct WireDetails<'a> {
    finish_reason: &'static str,
    generated_tokens: usize,
    seed: Option<u64>,
    prefill: Vec<Prefill<'a>>,
    tokens: Vec<WireToken<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_tokens: Vec<Vec<WireToken<'a>>>,
}

#[derive(Serialize)]
struct Prefill<'a> {
    id: u32,
    text: &'a str,
    logprob: Option<f32>,
}

impl<'a> From<&'a PromptToken> for Prefill<'a> {
    fn from(token: &'a PromptToken) -> Self {
        Self {
            id: token.id,
            text: &token.text,
            logprob: token.logprob,
        }
    }
}

#[derive(Serialize)]
struct WireToken<'a> {
    id: u32,
    text: &'a str,
    logprob: f32,
    special: bool,
}

impl<'a> From<&'a Token> for WireToken<'a> {
    fn from(token: &'a Token) -> Self {
        Self {
            id: token.id,
            text: &token.text,
            logprob: token.logprob,
            special: token.special,
        }
    }
}

impl<'a> From<&'a TopToken> for WireToken<'a> {
    fn from(token: &'a TopToken) -> Self {
        Self {
            id: token.id,
            text: &token.text,
            logprob: token.logprob,
            special: token.special,
        }
    }
}

fn tops(token: &Token) -> Vec<WireToken<'_>> {
    token.top.iter().map(WireToken::from).collect()
}

impl Document {
    fn answer<'a>(&self, Finished { tokens, output }: &'a Finished) -> WireAnswer<'a> {
        let listed = tokens.iter().any(|token| !token.top.is_empty());
        let details = self.details.then(|| WireDetails {
            finish_reason: finish_reason(output.finish),
            generated_tokens: output.generated_tokens,
            seed: output.seed,
            prefill: output.prompt.iter().map(Prefill::from).collect(),
            tokens: tokens.iter().map(WireToken::from).collect(),
            top_tokens: if listed {
                tokens.iter().map(tops).collect()
            } else {
                Vec::new()
            },
        });
        WireAnswer {
            generated_text: full_text(self.before.as_deref(), output),
            details,
        }
    }
}

impl Whole for Document {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn keeps_tokens(&self) -> bool {
        self.details
    }

    fn body(&self, finished: &[Finished]) -> Vec<u8> {
        let answers: Vec<_> = finished.iter().map(|one| self.answer(one)).collect();
        match answers.as_slice() {
            [one] if !self.list => compact(one),
            many => compact(&many),
        }
    }
}

/// An event for each token; the last has the text and waits for the end.
pub(super) struct Events {
    details: bool,
    before: Option<String>,
    held: Option<Token>,
    index: usize,
}

#[derive(Serialize)]
struct Event<'a> {
    index: usize,
    token: WireToken<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_tokens: Vec<WireToken<'a>>,
    generated_text: Option<String>,
    details: Option<StreamDetails>,
}

#[derive(Serialize)]
struct StreamDetails {
    finish_reason: &'static str,
    generated_tokens: usize,
    seed: Option<u64>,
    input_length: usize,
}

impl Events {
    /// A stream with or without details, and with the prompt before the whole text if one is
    /// given.
    pub(super) fn new(details: bool, before: Option<String>) -> Self {
        Self {
            details,
            before,
            held: None,
            index: 0,
        }
    }

    fn event(&mut self, token: &Token, end: Option<&Output>) -> Vec<u8> {
        self.index += 1;
        let before = self.before.as_deref();
        frame(&compact(&Event {
            index: self.index,
            token: token.into(),
            top_tokens: tops(token),
            generated_text: end.map(|output| full_text(before, output)),
            details: end.filter(|_| self.details).map(|output| StreamDetails {
                finish_reason: finish_reason(output.finish),
                generated_tokens: output.generated_tokens,
                seed: output.seed,
                input_length: output.prompt_tokens,
            }),
        }))
    }
}

impl Stream for Events {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn token(&mut self, _: usize, token: Token) -> Vec<u8> {
        if token.last {
            self.held = Some(token);
            return Vec::new();
        }
        self.event(&token, None)
    }

    fn done(&mut self, _: usize, output: &Output) -> Vec<u8> {
        let last = self.held.take();
        last.map_or_else(Vec::new, |token| self.event(&token, Some(output)))
    }

    fn fail(&mut self, error: &ServeError, _: u16) -> Vec<u8> {
        let last = self.held.take();
        let mut bytes = last.map_or_else(Vec::new, |token| self.event(&token, None));
        bytes.extend(frame(&super::failure(error)));
        bytes
    }
}

fn full_text(before: Option<&str>, output: &Output) -> String {
    format!("{}{}", before.unwrap_or_default(), output.text)
}

/// No space behind the colon: that is how TGI's framework writes events.
fn frame(json: &[u8]) -> Vec<u8> {
    [b"data:", json, b"\n\n"].concat()
}

fn compact<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire structs have string keys only")
}
