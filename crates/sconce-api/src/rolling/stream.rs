//! Streamed answers: a line or a server-sent event for each token, the last with the whole text;
//! or the bare text.
//!
//! The last token's line carries the text and the details too, so it waits for them; every other
//! token is written as soon as it comes.

use std::borrow::Cow;

use sconce_core::{Output, ServeError, Token, TopToken};
use serde::Serialize;

use super::render::{self, WireDetails, WireToken};
use super::{Formatter, Rendering};
use crate::dialect::Stream;
use crate::{error, json};

/// Writes the stream of one prompt.
#[derive(Debug)]
pub(super) struct Streamer {
    rendering: Rendering,
    prompt: String,
    held: Option<Token>,
    tops: Vec<Vec<TopToken>>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<WireToken<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<WireDetails<'a>>,
}

impl Streamer {
    /// A stream that continues this prompt.
    pub(super) fn new(rendering: Rendering, prompt: String) -> Self {
        Self {
            rendering,
            prompt,
            held: None,
            tops: Vec::new(),
        }
    }

    /// The line of a token, unless it is the last one.
    fn push(&mut self, token: Token) -> Vec<u8> {
        if self.rendering.formatter == Formatter::Text {
            return token.text.into_bytes();
        }
        if token.last {
            self.held = Some(token);
            return Vec::new();
        }
        self.line(token)
    }

    /// The line of the last token, with text and details.
    fn finish(&mut self, output: &Output) -> Vec<u8> {
        if self.rendering.formatter == Formatter::Text {
            return Vec::new();
        }
        let spelling = self.rendering.spelling;
        let last = self.held.take();
        if let Some(token) = &last {
            self.remember(token);
        }
        let tops = self.tops.iter().map(Vec::as_slice);
        let line = Line {
            token: last.as_ref().map(|token| spelling.token(token)),
            generated_text: Some(render::text(&self.rendering, &self.prompt, output)),
            details: self
                .rendering
                .details
                .map(|asked| render::details(asked, spelling, &self.prompt, output, tops)),
        };
        frame(self.rendering.formatter, &json::spaced(&line))
    }

    fn line(&mut self, token: Token) -> Vec<u8> {
        self.remember(&token);
        let line = Line {
            token: Some(self.rendering.spelling.token(&token)),
            generated_text: None,
            details: None,
        };
        frame(self.rendering.formatter, &json::spaced(&line))
    }

    fn remember(&mut self, token: &Token) {
        if self
            .rendering
            .details
            .is_some_and(|details| details.top_tokens)
        {
            self.tops.push(token.top.clone());
        }
    }
}

impl Stream for Streamer {
    fn content_type(&self) -> &'static str {
        self.rendering.formatter.content_type()
    }

    fn token(&mut self, _: usize, token: Token) -> Vec<u8> {
        self.push(token)
    }

    fn done(&mut self, _: usize, output: &Output) -> Vec<u8> {
        self.finish(output)
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        let last = self.held.take();
        let mut bytes = last.map_or_else(Vec::new, |token| self.line(token));
        bytes.extend(frame(self.rendering.formatter, &error::lmi(error, code)));
        bytes
    }
}

fn frame(formatter: Formatter, json: &[u8]) -> Vec<u8> {
    match formatter {
        Formatter::Sse => [b"data: ", json, b"\n\n"].concat(),
        Formatter::Json | Formatter::JsonLines | Formatter::Text => [json, b"\n"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{done, last, request, token};
    use super::*;

    fn streamer(parameters: &str) -> Streamer {
        let body = format!(r#"{{"inputs": "Hi", "stream": true, "parameters": {{{parameters}}}}}"#);
        Streamer::new(request(&body).rendering, "Hi".into())
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_those_of_the_reference() {
        let mut stream = streamer(r#""details": true"#);
        assert_eq!(
            text(stream.push(token(15043, "Hello", -0.5))),
            "{\"token\": {\"id\": 15043, \"text\": \"Hello\", \"log_prob\": -0.5}}\n"
        );
        assert_eq!(text(stream.push(last(3186, " world", -0.25))), "");
        assert_eq!(
            text(stream.finish(&done("Hello world", 2))),
            "{\"token\": {\"id\": 3186, \"text\": \" world\", \"log_prob\": -0.25}, \
             \"generated_text\": \"Hello world\", \"details\": {\"finish_reason\": \"length\", \
             \"generated_tokens\": 2, \"inputs\": \"Hi\"}}\n"
        );
    }

    #[test]
    fn events_are_framed_for_browsers() {
        let mut stream = streamer(r#""output_formatter": "sse""#);
        stream.push(last(1, "a", -1.0));
        assert_eq!(
            text(stream.finish(&done("a", 1))),
            "data: {\"token\": {\"id\": 1, \"text\": \"a\", \"log_prob\": -1.0}, \
             \"generated_text\": \"a\"}\n\n"
        );
    }

    #[test]
    fn a_failure_is_the_last_line_and_loses_no_token() {
        let mut stream = streamer("");
        stream.push(last(1, "a", -1.0));
        let error = ServeError::Timeout { seconds: 3 };
        assert_eq!(
            text(stream.fail(&error, 503)),
            "{\"token\": {\"id\": 1, \"text\": \"a\", \"log_prob\": -1.0}}\n\
             {\"error\":\"the request was not finished after predict_timeout = 3 s\",\
             \"code\":503}\n"
        );
    }

    #[test]
    fn alternatives_of_all_tokens_are_in_the_last_line() {
        let mut stream =
            streamer(r#""details": true, "top_n_tokens": 1, "return_full_text": true"#);
        let with_top = |id| Token {
            top: vec![TopToken {
                id,
                text: "t".into(),
                logprob: -1.0,
                special: false,
            }],
            ..token(id, "t", -1.0)
        };
        stream.push(with_top(1));
        stream.push(Token {
            last: true,
            ..with_top(2)
        });
        let line = text(stream.finish(&done("tt", 2)));
        assert!(line.contains(r#""generated_text": "Hitt""#), "{line}");
        assert!(
            line.contains(
                r#""top_tokens": [[{"id": 1, "text": "t", "log_prob": -1.0}], [{"id": 2, "#
            ),
            "{line}"
        );
    }
}
