//! Whole answers: events are collected, then written as one JSON object, or a list of them.

use std::borrow::Cow;

use sconce_core::{FinishReason, Output, PromptToken, Token, TopToken};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Rendering, Spelling};
use crate::dialect::{Finished, Whole};
use crate::json;
use crate::parameters::Details;
use crate::payload::Prompts;

/// An answer that is sent at once.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) rendering: Rendering,
    pub(super) prompts: Prompts,
}

impl Whole for Document {
    fn content_type(&self) -> &'static str {
        self.rendering.formatter.content_type()
    }

    fn keeps_tokens(&self) -> bool {
        self.rendering.details.is_some() || self.rendering.best_of > 1
    }

    fn body(&self, finished: &[Finished]) -> Vec<u8> {
        let list = self.prompts.list || self.rendering.spelling == Spelling::Tgi;
        let groups = finished.chunks(self.rendering.jobs);
        let answers: Vec<_> = (self.prompts.texts.iter().zip(groups))
            .map(|(prompt, group)| best(&self.rendering, prompt, group))
            .collect();
        match answers.as_slice() {
            [one] if !list => json::spaced(one),
            many => json::spaced(&many),
        }
    }
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    generated_text: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<WireDetails<'a>>,
}

#[derive(Serialize)]
pub(super) struct WireDetails<'a> {
    finish_reason: &'static str,
    generated_tokens: usize,
    inputs: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<WireToken<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill: Option<Vec<WireToken<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_tokens: Option<Vec<Vec<WireToken<'a>>>>,
    /// Those that are less likely, if several were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    best_of_sequences: Option<Vec<WireOther<'a>>>,
}

/// An answer that is not the likeliest.
#[derive(Serialize)]
struct WireOther<'a> {
    finish_reason: &'static str,
    generated_tokens: usize,
    tokens: Option<Vec<WireToken<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_tokens: Option<Vec<Vec<WireToken<'a>>>>,
    generated_text: Cow<'a, str>,
}

/// A token under the names of a spelling.
pub(super) struct WireToken<'a> {
    spelling: Spelling,
    id: u32,
    text: &'a str,
    logprob: Option<f32>,
    special: bool,
}

impl Serialize for WireToken<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (logprob, special) = match self.spelling {
            Spelling::Lmi => ("log_prob", "special_token"),
            Spelling::Tgi => ("logprob", "special"),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("text", self.text)?;
        map.serialize_entry(logprob, &self.logprob)?;
        if self.special {
            map.serialize_entry(special, &true)?;
        }
        map.end()
    }
}

impl Spelling {
    pub(super) fn token(self, token: &Token) -> WireToken<'_> {
        WireToken {
            spelling: self,
            id: token.id,
            text: &token.text,
            logprob: Some(token.logprob),
            special: token.special,
        }
    }

    fn top(self, token: &TopToken) -> WireToken<'_> {
        WireToken {
            spelling: self,
            id: token.id,
            text: &token.text,
            logprob: Some(token.logprob),
            special: token.special,
        }
    }

    fn prompt(self, token: &PromptToken) -> WireToken<'_> {
        WireToken {
            spelling: self,
            id: token.id,
            text: &token.text,
            logprob: token.logprob,
            special: false,
        }
    }
}

/// The text of an answer, with the prompt before it if asked for.
pub(super) fn text<'a>(rendering: &Rendering, prompt: &str, output: &'a Output) -> Cow<'a, str> {
    if rendering.full_text {
        Cow::Owned(format!("{prompt}{}", output.text))
    } else {
        Cow::Borrowed(&output.text)
    }
}

/// What a stream and a whole answer tell alike; `tops` are the alternatives of each token.
pub(super) fn details<'a>(
    asked: Details,
    spelling: Spelling,
    prompt: &'a str,
    output: &'a Output,
    tops: impl Iterator<Item = &'a [TopToken]>,
) -> WireDetails<'a> {
    let wire = |tokens: &'a [TopToken]| tokens.iter().map(|token| spelling.top(token)).collect();
    WireDetails {
        finish_reason: finish_reason(output.finish),
        generated_tokens: output.generated_tokens,
        inputs: prompt,
        tokens: None,
        prefill: asked.prefill.then(|| {
            output
                .prompt
                .iter()
                .map(|token| spelling.prompt(token))
                .collect()
        }),
        top_tokens: asked.top_tokens.then(|| tops.map(wire).collect()),
        best_of_sequences: None,
    }
}

/// The name of a reason in LMI and in TGI.
pub(crate) fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Length => "length",
        FinishReason::EosToken => "eos_token",
        FinishReason::StopSequence => "stop_sequence",
    }
}

/// The likeliest answer of a group, with the others that are told in its details.
fn best<'a>(rendering: &Rendering, prompt: &'a str, group: &'a [Finished]) -> WireAnswer<'a> {
    if rendering.best_of == 1 {
        return whole(rendering, prompt, &group[0]);
    }
    let likely = |one: &Finished| {
        one.tokens
            .iter()
            .map(|token| f64::from(token.logprob))
            .sum::<f64>()
    };
    let mut ranked: Vec<&Finished> = group.iter().flat_map(Finished::texts).collect();
    // Stable: of equals the first. Beams are ranked by their scores already.
    if rendering.jobs > 1 {
        ranked.sort_by(|one, other| likely(other).total_cmp(&likely(one)));
    }
    let asked = rendering.details.unwrap_or(Details {
        prefill: false,
        top_tokens: false,
    });
    let rendering = Rendering {
        details: Some(asked),
        ..rendering.clone()
    };
    let other = |finished: &&'a Finished| {
        let WireAnswer {
            generated_text,
            details,
        } = whole(&rendering, prompt, finished);
        let details = details.expect("details were asked for");
        WireOther {
            finish_reason: details.finish_reason,
            generated_tokens: details.generated_tokens,
            tokens: details.tokens,
            top_tokens: details.top_tokens,
            generated_text,
        }
    };
    let others = ranked.iter().take(rendering.n).skip(1);
    let others = others.map(other).collect();
    let mut answer = whole(&rendering, prompt, ranked[0]);
    if let Some(details) = &mut answer.details {
        details.best_of_sequences = Some(others);
    }
    answer
}

fn whole<'a>(rendering: &Rendering, prompt: &'a str, finished: &'a Finished) -> WireAnswer<'a> {
    let Finished { tokens, output } = finished;
    let spelling = rendering.spelling;
    let details = rendering.details.map(|asked| WireDetails {
        tokens: Some(tokens.iter().map(|token| spelling.token(token)).collect()),
        ..details(
            asked,
            spelling,
            prompt,
            output,
            tokens.iter().map(|token| token.top.as_slice()),
        )
    });
    WireAnswer {
        generated_text: text(rendering, prompt, output),
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::super::tests::{done, request, token};
    use super::*;
    use crate::dialect::Collector;
    use sconce_core::Event;

    fn document(request: Request) -> Document {
        let Request {
            prompts, rendering, ..
        } = request;
        Document { rendering, prompts }
    }

    fn rendered(parameters: &str, events: Vec<Event>) -> String {
        let request = request(&format!(
            r#"{{"inputs": "Hi", "parameters": {{{parameters}}}}}"#
        ));
        let document = document(request);
        let mut collector = Collector::new(document.keeps_tokens());
        let ended = events.into_iter().find_map(|event| collector.push(event));
        let finished = ended.expect("the events end").expect("the job succeeds");
        String::from_utf8(document.body(&[finished])).unwrap()
    }

    fn hello() -> Vec<Event> {
        vec![
            Event::Token(token(15043, "Hello", -0.5)),
            Event::Token(token(3186, " world", -0.25)),
            Event::Done(done("Hello world", 2)),
        ]
    }

    #[test]
    fn the_plain_answer_is_the_text() {
        assert_eq!(
            rendered("", hello()),
            r#"{"generated_text": "Hello world"}"#
        );
        assert_eq!(
            rendered(r#""return_full_text": true"#, hello()),
            r#"{"generated_text": "HiHello world"}"#
        );
    }

    #[test]
    fn details_are_those_of_the_reference() {
        assert_eq!(
            rendered(r#""details": true"#, hello()),
            r#"{"generated_text": "Hello world", "details": {"finish_reason": "length", "generated_tokens": 2, "inputs": "Hi", "tokens": [{"id": 15043, "text": "Hello", "log_prob": -0.5}, {"id": 3186, "text": " world", "log_prob": -0.25}]}}"#
        );
    }

    #[test]
    fn prefill_alternatives_and_special_tokens_are_added_when_asked_for() {
        let top = TopToken {
            id: 7,
            text: "é".into(),
            logprob: -1.0,
            special: false,
        };
        let last = Token {
            special: true,
            top: vec![top],
            ..token(2, "", -0.125)
        };
        let output = Output {
            finish: FinishReason::EosToken,
            prompt: vec![
                PromptToken {
                    id: 1,
                    text: "H".into(),
                    logprob: None,
                    ..PromptToken::default()
                },
                PromptToken {
                    id: 5,
                    text: "i".into(),
                    logprob: Some(-2.0),
                    ..PromptToken::default()
                },
            ],
            ..done("", 1)
        };
        assert_eq!(
            rendered(
                r#""details": true, "decoder_input_details": true, "top_n_tokens": 1"#,
                vec![Event::Token(last), Event::Done(output)]
            ),
            r#"{"generated_text": "", "details": {"finish_reason": "eos_token", "generated_tokens": 1, "inputs": "Hi", "tokens": [{"id": 2, "text": "", "log_prob": -0.125, "special_token": true}], "prefill": [{"id": 1, "text": "H", "log_prob": null}, {"id": 5, "text": "i", "log_prob": -2.0}], "top_tokens": [[{"id": 7, "text": "é", "log_prob": -1.0}]]}}"#
        );
    }

    #[test]
    fn of_several_answers_the_likeliest_comes_first_and_the_others_in_its_details() {
        let asked = request(r#"{"inputs": "Hi", "parameters": {"n": 2, "best_of": 3, "seed": 5}}"#);
        assert_eq!((asked.rendering.n, asked.rendering.best_of), (2, 3));
        let one = |text: &str, logprob: f32| Finished {
            tokens: vec![token(7, text, logprob)],
            output: done(text, 1),
        };
        let body = document(asked).body(&[one("a", -2.0), one("b", -0.5), one("c", -1.0)]);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"generated_text": "b", "details": {"finish_reason": "length", "generated_tokens": 1, "inputs": "Hi", "tokens": [{"id": 7, "text": "b", "log_prob": -0.5}], "best_of_sequences": [{"finish_reason": "length", "generated_tokens": 1, "tokens": [{"id": 7, "text": "c", "log_prob": -1.0}], "generated_text": "c"}]}}"#
        );
    }

    #[test]
    fn a_list_of_prompts_is_answered_with_a_list() {
        let one = |text| Finished {
            tokens: vec![],
            output: done(text, 1),
        };
        let two = request(r#"{"inputs": ["a", "b"]}"#);
        assert_eq!(
            document(two).body(&[one("A"), one("B")]),
            br#"[{"generated_text": "A"}, {"generated_text": "B"}]"#
        );
        assert_eq!(
            document(request(r#"{"inputs": ["a"]}"#)).body(&[one("A")]),
            br#"[{"generated_text": "A"}]"#
        );
    }
}
