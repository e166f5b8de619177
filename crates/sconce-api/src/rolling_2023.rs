//! The rolling batch of DJL Serving 0.23 to 0.25: every answer is streamed, piece by piece of one
//! JSON object, or as lines `{"outputs": ["…"]}`.
//!
//! It reads the parameters of the later rolling batch; those that only change what is told beside
//! the text (`details` and the like) have no effect, as in the releases themselves.

use sconce_core::{Generate, Output, Report, ServeError, Token};
use serde::Serialize;

use crate::beams;
use crate::dialect::{Accepted, Answer, Stream};
use crate::error::with_prefix;
use crate::json;
use crate::payload::Payload;
use crate::rolling::{Formatter, parameters};

/// What a request asks, and how it is answered.
pub(crate) fn accept(
    mut payload: Payload<'_>,
    formatter: Option<Formatter>,
) -> Result<Accepted, ServeError> {
    payload.refuse_chat()?;
    let prompts = payload.prompts()?;
    let prompt = prompts.only("this dialect answers one prompt only; send one string")?;
    let inner = payload.parameters()?;
    payload.fields.flag("stream")?;
    parameters::refuse_cached(&mut payload.fields)?;
    payload.finish(parameters::names())?;
    let mut asked = parameters::read(inner, false)?;
    asked.params.report = Report {
        skip_special_tokens: asked.params.report.skip_special_tokens,
        ..Report::default()
    };
    beams::refuse_stream("num_beams", asked.params.beams.as_ref(), true)?;
    if asked.best_of > 1 {
        let problem = "answers cannot be streamed, and this dialect streams always; leave it out";
        return Err(ServeError::parameter("best_of", asked.best_of, problem));
    }
    let formatter = asked.formatter.or(formatter).unwrap_or(Formatter::Json);
    Ok(Accepted {
        prompts: vec![Generate::new(prompt, asked.params)],
        answer: Answer::stream(Pieces {
            formatter,
            opened: false,
        }),
    })
}

/// `{"code": …, "error": "…"}`, which these releases sent with status 200.
pub(crate) fn failure(failure: &ServeError, code: u16) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        code: u16,
        error: String,
    }
    let error = with_prefix("", failure);
    json::spaced(&Body { code, error })
}

/// Writes an answer piece by piece.
struct Pieces {
    formatter: Formatter,
    /// Whether the object has begun.
    opened: bool,
}

impl Pieces {
    fn open(&mut self) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.opened, true);
        if first {
            br#"{"generated_text": ""#.to_vec()
        } else {
            Vec::new()
        }
    }
}

impl Stream for Pieces {
    fn content_type(&self) -> &'static str {
        self.formatter.content_type()
    }

    fn token(&mut self, _: usize, token: Token) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line {
            outputs: [String; 1],
        }
        let line = |text| json::spaced(&Line { outputs: [text] });
        match self.formatter {
            Formatter::Json => [self.open(), json::escaped(&token.text)].concat(),
            Formatter::JsonLines => [line(token.text).as_slice(), b"\n"].concat(),
            Formatter::Sse => [b"data: ", line(token.text).as_slice(), b"\n\n"].concat(),
            Formatter::Text => token.text.into_bytes(),
        }
    }

    fn done(&mut self, _: usize, _: &Output) -> Vec<u8> {
        match self.formatter {
            Formatter::Json => [self.open(), br#""}"#.to_vec()].concat(),
            Formatter::JsonLines | Formatter::Sse | Formatter::Text => Vec::new(),
        }
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        failure(error, code)
    }
}

#[cfg(test)]
mod tests;
