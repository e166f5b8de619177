//! Answers of the asynchronous mode: an object and a line feed, or an object per token.

use sconce_core::{FinishReason, GenerateParams, Output, ServeError, Token};
use serde::Serialize;

use crate::dialect::{Finished, Stream, Whole};
use crate::json;

/// An answer that is sent at once.
pub(super) struct Document {
    pub(super) details: bool,
    /// The prompt, if it is to be put before the text.
    pub(super) before: Option<String>,
    /// The seed as the request gave it.
    pub(super) seed: Option<u64>,
    /// Tokens that the request lets end the text; one that did is told by its id.
    pub(super) stop_token_ids: Vec<u32>,
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    generated_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<WireDetails<'a>>,
}

#[derive(Serialize)]
struct WireDetails<'a> {
    finish_reason: Option<StopReason<'a>>,
    generated_tokens: usize,
    seed: Option<u64>,
    prefill: Vec<WireToken<'a>>,
    tokens: Vec<WireToken<'a>>,
}

/// vLLM's `stop_reason`: what stopped the text, null at its own end and at the length's.
#[derive(Serialize)]
#[serde(untagged)]
enum StopReason<'a> {
    Sequence(&'a str),
    Token(u32),
}

#[derive(Serialize)]
struct WireToken<'a> {
    id: u32,
    text: &'a str,
    logprob: f32,
}

impl<'a> From<&'a Token> for WireToken<'a> {
    fn from(token: &'a Token) -> Self {
        Self {
            id: token.id,
            text: &token.text,
            logprob: token.logprob,
        }
    }
}

impl Document {
    fn stop_reason<'a>(&self, finished: &'a Finished) -> Option<StopReason<'a>> {
        if let Some(sequence) = &finished.output.matched {
            return Some(StopReason::Sequence(sequence));
        }
        let last = finished.tokens.last()?.id;
        self.stop_token_ids
            .contains(&last)
            .then_some(StopReason::Token(last))
    }

    fn details<'a>(&self, finished: &'a Finished) -> WireDetails<'a> {
        let Finished { tokens, output } = finished;
        let prefill = output.prompt.iter().filter_map(|token| {
            Some(WireToken {
                id: token.id,
                text: &token.text,
                // The first token has none and is left out.
                logprob: token.logprob?,
            })
        });
        WireDetails {
            finish_reason: self.stop_reason(finished),
            generated_tokens: output.generated_tokens,
            seed: self.seed,
            prefill: prefill.collect(),
            tokens: tokens.iter().map(WireToken::from).collect(),
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
        let mut body = Vec::new();
        for one in finished {
            let before = self.before.as_deref().unwrap_or_default();
            body.extend(json::spaced(&WireAnswer {
                generated_text: format!("{before}{}", one.output.text),
                details: self.details.then(|| self.details(one)),
            }));
            body.push(b'\n');
        }
        body
    }
}

/// An object for each token; the last has the text. It waits for the end, and two empty lines
/// follow it, as vLLM's count of tokens and its end mark have no place in this schema.
pub(super) struct Lines {
    details: bool,
    before: Option<String>,
    seed: Option<u64>,
    held: Option<Token>,
}

#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    token: WireToken<'a>,
    generated_text: Option<String>,
    details: Option<StreamDetails>,
}

#[derive(Serialize)]
struct StreamDetails {
    finish_reason: &'static str,
    seed: Option<u64>,
    generated_tokens: usize,
    input_length: usize,
}

impl Lines {
    /// A stream with or without details, and with the prompt before the whole text if one is
    /// given.
    pub(super) fn new(details: bool, before: Option<String>, params: &GenerateParams) -> Self {
        Self {
            details,
            before,
            seed: params.sampling.seed,
            held: None,
        }
    }

    fn line(token: &Token, end: Option<(String, Option<StreamDetails>)>) -> Vec<u8> {
        let (generated_text, details) = match end {
            Some((text, details)) => (Some(text), details),
            None => (None, None),
        };
        let mut bytes = json::spaced(&Line {
            index: 0,
            token: token.into(),
            generated_text,
            details,
        });
        bytes.push(b'\n');
        bytes
    }
}

impl Stream for Lines {
    fn content_type(&self) -> &'static str {
        "application/jsonlines"
    }

    fn token(&mut self, _: usize, token: Token) -> Vec<u8> {
        if token.last {
            self.held = Some(token);
            return Vec::new();
        }
        Self::line(&token, None)
    }

    fn done(&mut self, _: usize, output: &Output) -> Vec<u8> {
        let before = self.before.take().unwrap_or_default();
        let text = format!("{before}{}", output.text);
        let details = self.details.then(|| StreamDetails {
            finish_reason: match output.finish {
                FinishReason::Length => "length",
                FinishReason::EosToken | FinishReason::StopSequence => "stop",
            },
            seed: self.seed,
            // One too many, as DJL counts here.
            generated_tokens: output.generated_tokens + 1,
            input_length: output.prompt_tokens,
        });
        let Some(token) = self.held.take() else {
            return Vec::new();
        };
        let mut bytes = Self::line(&token, Some((text, details)));
        bytes.extend_from_slice(b"\n\n");
        bytes
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body {
            error: Inner,
        }
        #[derive(Serialize)]
        struct Inner {
            message: String,
            r#type: &'static str,
            param: Option<String>,
            code: u16,
        }
        let last = self.held.take();
        let mut bytes = last.map_or_else(Vec::new, |token| Self::line(&token, None));
        let error = Inner {
            message: error.to_string(),
            r#type: "InternalServerError",
            param: None,
            code,
        };
        bytes.extend(json::spaced(&Body { error }));
        bytes.push(b'\n');
        bytes
    }
}
