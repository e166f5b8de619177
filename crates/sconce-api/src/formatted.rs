//! What the functions of a model's own `model.py` that change requests and answers are told: which
//! generation of them a dialect had, and the events of a generation as lines of JSON.
//!
//! The functions run in a worker of Python, whose script `sconce_formatters.py` reads these lines.
//! When it is asked and what becomes of its answers is HTTP's.

use sconce_core::{Event, PromptToken, Token};
use serde::Serialize;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::rolling::finish_reason;

/// Which functions the handlers of a dialect called, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Input: the decoded body. Output: vLLM's answer, or each event of its stream.
    Async,
    /// Input: the request as it came. Output: what was generated up to each token.
    Rolling,
    /// Input: the request as it came. Output: none is called.
    Fixed,
}

impl Generation {
    /// Of a dialect.
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Async => Self::Async,
            Dialect::Rolling | Dialect::RollingTgi | Dialect::Rolling2023 => Self::Rolling,
            _ => Self::Fixed,
        }
    }

    /// The name that the script knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Rolling => "rolling",
            Self::Fixed => "fixed",
        }
    }

    /// Whether answers are changed at all.
    pub fn has_output(self) -> bool {
        self != Self::Fixed
    }
}

/// Whether a request names the form of its answer itself, which wins over the function.
pub fn names_formatter(request: &[u8]) -> bool {
    let request: Option<Value> = serde_json::from_slice(request).ok();
    let named =
        request.and_then(|request| request.get("parameters")?.get("output_formatter").cloned());
    named.is_some_and(|named| !named.is_null())
}

/// Whether a request wants its answer as it is generated.
pub fn streams(request: &[u8]) -> bool {
    let request: Option<Value> = serde_json::from_slice(request).ok();
    let flag = |value: &Value| value.get("stream").and_then(Value::as_bool);
    request.is_some_and(|request| {
        let inner = || flag(request.get("parameters")?);
        flag(&request).or_else(inner).unwrap_or(false)
    })
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Token {
        id: u32,
        text: &'a str,
        logprob: f32,
        special: bool,
        last: bool,
        top: Vec<Top<'a>>,
    },
    Done {
        text: &'a str,
        finish_reason: &'static str,
        matched: Option<&'a str>,
        prompt_tokens: usize,
        generated_tokens: usize,
        prompt: Vec<Prompt<'a>>,
    },
}

#[derive(Serialize)]
struct Top<'a> {
    id: u32,
    text: &'a str,
    logprob: f32,
    special: bool,
}

#[derive(Serialize)]
struct Prompt<'a> {
    id: u32,
    text: &'a str,
    logprob: Option<f32>,
}

/// A line about an event; `None`: it is no part of a generated text.
pub fn line(event: &Event) -> Option<Vec<u8>> {
    let line = match event {
        Event::Token(token) => of_token(token),
        Event::Done(output) => Line::Done {
            text: &output.text,
            finish_reason: finish_reason(output.finish),
            matched: output.matched.as_deref(),
            prompt_tokens: output.prompt_tokens,
            generated_tokens: output.generated_tokens,
            prompt: output.prompt.iter().map(of_prompt).collect(),
        },
        _ => return None,
    };
    let mut bytes = serde_json::to_vec(&line).expect("the keys are texts");
    bytes.push(b'\n');
    Some(bytes)
}

fn of_token(token: &Token) -> Line<'_> {
    let top = token.top.iter().map(|top| Top {
        id: top.id,
        text: &top.text,
        logprob: top.logprob,
        special: top.special,
    });
    Line::Token {
        id: token.id,
        text: &token.text,
        logprob: token.logprob,
        special: token.special,
        last: token.last,
        top: top.collect(),
    }
}

fn of_prompt(token: &PromptToken) -> Prompt<'_> {
    Prompt {
        id: token.id,
        text: &token.text,
        logprob: token.logprob,
    }
}

#[cfg(test)]
mod tests {
    use sconce_core::{FinishReason, Output, TopToken};

    use super::*;

    #[test]
    fn events_are_lines_and_failures_are_not() {
        let token = Event::Token(Token {
            id: 7,
            text: "é\n".into(),
            logprob: -0.5,
            spelled: String::new(),
            special: false,
            last: true,
            top: vec![TopToken {
                id: 8,
                text: "a".into(),
                logprob: -1.0,
                special: true,
            }],
        });
        let text = String::from_utf8(line(&token).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"token\":{\"id\":7,\"text\":\"é\\n\",\"logprob\":-0.5,\"special\":false,\"last\":true,\
             \"top\":[{\"id\":8,\"text\":\"a\",\"logprob\":-1.0,\"special\":true}]}}\n"
        );
        let done = Event::Done(Output {
            text: "é".into(),
            finish: FinishReason::EosToken,
            prompt_tokens: 3,
            generated_tokens: 1,
            seed: None,
            prompt: vec![PromptToken {
                id: 1,
                text: "p".into(),
                logprob: None,
                ..PromptToken::default()
            }],
            echo: String::new(),
            matched: None,
            others: Vec::new(),
        });
        let text = String::from_utf8(line(&done).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"done\":{\"text\":\"é\",\"finish_reason\":\"eos_token\",\"matched\":null,\
             \"prompt_tokens\":3,\"generated_tokens\":1,\
             \"prompt\":[{\"id\":1,\"text\":\"p\",\"logprob\":null}]}}\n"
        );
        assert_eq!(
            line(&Event::Failed(sconce_core::ServeError::Draining)),
            None
        );
    }

    #[test]
    fn a_request_may_name_its_own_form() {
        let names = |body: &str| names_formatter(body.as_bytes());
        assert!(names(
            r#"{"inputs":"a","parameters":{"output_formatter":"json"}}"#
        ));
        assert!(!names(
            r#"{"inputs":"a","parameters":{"output_formatter":null}}"#
        ));
        assert!(!names(r#"{"inputs":"a"}"#) && !names("no JSON"));
        let streams = |body: &str| streams(body.as_bytes());
        assert!(streams(r#"{"stream":true}"#) && streams(r#"{"parameters":{"stream":true}}"#));
        assert!(!streams(r#"{"stream":false,"parameters":{"stream":true}}"#) && !streams("[]"));
    }

    #[test]
    fn only_dialects_with_such_handlers_change_answers() {
        let changing = Dialect::ALL.into_iter();
        let changing: Vec<_> = changing
            .filter(|dialect| Generation::of(*dialect).has_output())
            .map(Dialect::name)
            .collect();
        assert_eq!(changing, ["rolling-2023", "rolling", "tgi-compat", "async"]);
    }
}
