//! The rolling batch of LMI: `{"inputs": …, "parameters": {…}, "stream": false}`.
//!
//! This file reads the frame of a request; `parameters` reads what is inside `parameters`,
//! `render` and `stream` write answers, in LMI's own spelling or in that of `option.tgi_compat`.
//! Field names and texts follow DJL Serving 0.36; `DIALECTS.md` lists what differs on purpose.

pub(crate) mod parameters;
mod render;
mod stream;

use sconce_core::{Generate, GenerateParams, ServeError};

use crate::beams;
use crate::dialect::{Accepted, Answer};
use crate::parameters::{Details, agreed, seeded};
use crate::payload::{Payload, Prompts};

use render::Document;
pub(crate) use render::finish_reason;
use stream::Streamer;

/// A request that has been understood.
#[derive(Clone, Debug, PartialEq)]
struct Request {
    prompts: Prompts,
    /// How each prompt is continued.
    params: GenerateParams,
    /// How the answer is written.
    rendering: Rendering,
}

/// How an answer is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rendering {
    /// The layout of the body.
    formatter: Formatter,
    /// The names of its members.
    spelling: Spelling,
    /// What is told about the generation; `None`: the text only.
    details: Option<Details>,
    /// Whether the prompt is put before the generated text.
    full_text: bool,
    /// Answers to each prompt that are told, the likeliest first.
    n: usize,
    /// Answers to each prompt that are made.
    best_of: usize,
    /// Jobs that make them: one each, or a search one for all.
    jobs: usize,
}

/// Layouts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formatter {
    /// One object when all is generated.
    Json,
    /// A line for each token.
    JsonLines,
    /// A server-sent event for each token.
    Sse,
    /// The bare text as it comes.
    Text,
}

/// Whose names the members of an answer have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// LMI's: `log_prob`, `special_token`; details when asked for.
    Lmi,
    /// TGI's, `option.tgi_compat`: `logprob`, `special`; details unless refused, whole answers in
    /// a list, streams as events.
    Tgi,
}

impl Formatter {
    /// The value of Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonlines",
            Self::Sse => "text/event-stream",
            Self::Text => "text/plain",
        }
    }

    /// Whether tokens are sent as they come.
    pub fn streams(self) -> bool {
        self != Self::Json
    }

    /// The formatter of this name (`json`, `jsonlines`, `sse`, `none`).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "jsonlines" => Some(Self::JsonLines),
            "sse" => Some(Self::Sse),
            "none" => Some(Self::Text),
            _ => None,
        }
    }
}

/// What a request asks, and how it is answered. `formatter` is the model's
/// `option.output_formatter`.
pub(crate) fn accept(
    payload: Payload<'_>,
    formatter: Option<Formatter>,
    spelling: Spelling,
) -> Result<Accepted, ServeError> {
    let Request {
        prompts,
        params,
        rendering,
    } = parse(payload, formatter, spelling)?;
    let answers = rendering.jobs;
    let generate = |prompt: &String| {
        let first = Generate::new(prompt.as_str(), seeded(&params, 0));
        let params = &params;
        (0..answers).map(move |answer| first.again(seeded(params, answer)))
    };
    let generates = prompts.texts.iter().flat_map(generate).collect();
    let answer = if rendering.formatter.streams() {
        // `parse` refuses to stream a list.
        let prompt = prompts.texts.concat();
        Answer::stream(Streamer::new(rendering, prompt))
    } else {
        Answer::whole(Document { rendering, prompts })
    };
    Ok(Accepted {
        prompts: generates,
        answer,
    })
}

/// Reads a request. The request's own `output_formatter` replaces that of the model; with
/// neither, `stream` decides.
fn parse(
    mut payload: Payload<'_>,
    formatter: Option<Formatter>,
    spelling: Spelling,
) -> Result<Request, ServeError> {
    let prompts = payload.prompts()?;
    let inner = payload.parameters()?;
    let outer = payload.fields.flag("stream")?;
    parameters::refuse_cached(&mut payload.fields)?;
    payload.finish(parameters::names())?;
    let asked = parameters::read(inner, spelling == Spelling::Tgi)?;
    let stream = agreed("stream", outer, asked.stream)?.unwrap_or(false);
    let by_stream = match (stream, spelling) {
        (false, _) => Formatter::Json,
        (true, Spelling::Lmi) => Formatter::JsonLines,
        (true, Spelling::Tgi) => Formatter::Sse,
    };
    let formatter = asked.formatter.or(formatter).unwrap_or(by_stream);
    if prompts.list && formatter.streams() {
        let problem = "cannot be streamed; send one string, or leave `stream` out";
        return Err(ServeError::parameter("inputs", "a list", problem));
    }
    let search = asked.params.beams.as_ref();
    beams::refuse_stream("num_beams", search, formatter.streams())?;
    if asked.best_of > 1 && formatter.streams() {
        let problem =
            "answers cannot be streamed: which is best is known at the end; leave `stream` out";
        return Err(ServeError::parameter("best_of", asked.best_of, problem));
    }
    let rendering = Rendering {
        formatter,
        spelling,
        details: asked.details,
        full_text: asked.full_text,
        n: asked.n,
        best_of: asked.best_of,
        jobs: match search {
            Some(_) => 1,
            None => asked.best_of,
        },
    };
    Ok(Request {
        prompts,
        params: asked.params,
        rendering,
    })
}

#[cfg(test)]
mod tests;
