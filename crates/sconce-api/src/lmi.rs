//! The rolling-batch schema of LMI: `{"inputs": …, "parameters": {…}, "stream": false}`.
//!
//! This file reads the frame of a request; `parameters` reads what is inside `parameters`,
//! `render` and `stream` write answers. Field names and texts follow DJL Serving 0.36. Three
//! things differ from it on purpose: a list of prompts is answered with a list, unknown names
//! are errors, and values out of range are reported for the one request that has them.

mod parameters;
mod render;
mod stream;

use sconce_core::{Generate, GenerateParams, ServeError};
use serde_json::{Map, Value};

use crate::dialect::{Accepted, Answer, Incoming};
use crate::error::PAYLOAD;
use crate::fields::Fields;

use render::Document;
use stream::Streamer;

/// A request that has been understood.
#[derive(Clone, Debug, PartialEq)]
struct LmiRequest {
    /// The prompts, at least one, none empty.
    prompts: Vec<String>,
    /// Whether `inputs` was a list, so that the answer is one too.
    list: bool,
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
    /// What is told about the generation; `None`: the text only.
    details: Option<Details>,
    /// Whether the prompt is put before the generated text.
    full_text: bool,
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
}

/// What `details` contain beside reason, count and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Details {
    /// The prompt's tokens.
    prefill: bool,
    /// The likeliest alternatives of each token.
    top_tokens: bool,
}

impl Formatter {
    /// The value of Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonlines",
            Self::Sse => "text/event-stream",
        }
    }

    /// Whether tokens are sent as they come.
    pub fn streams(self) -> bool {
        self != Self::Json
    }

    /// The formatter of this name (`json`, `jsonlines`, `sse`).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "jsonlines" => Some(Self::JsonLines),
            "sse" => Some(Self::Sse),
            _ => None,
        }
    }
}

/// What a request asks, and how it is answered. `formatter` is the model's `option.output_formatter`.
pub(crate) fn accept(
    incoming: &Incoming<'_>,
    formatter: Option<Formatter>,
) -> Result<Accepted, ServeError> {
    let LmiRequest {
        prompts,
        list,
        params,
        rendering,
    } = parse(incoming.body, formatter)?;
    let generate = |prompt: &String| Generate {
        prompt: prompt.clone(),
        params: params.clone(),
    };
    let generates = prompts.iter().map(generate).collect();
    let answer = if rendering.formatter.streams() {
        // `parse` refuses to stream a list.
        let prompt = prompts.concat();
        Answer::Stream(Box::new(Streamer::new(rendering, prompt)))
    } else {
        Answer::Whole(Box::new(Document {
            rendering,
            prompts,
            list,
        }))
    };
    Ok(Accepted {
        prompts: generates,
        answer,
    })
}

/// Reads a request body. `formatter` is the model's `option.output_formatter`, which the
/// request's own `output_formatter` replaces; with neither, `stream` decides.
fn parse(bytes: &[u8], formatter: Option<Formatter>) -> Result<LmiRequest, ServeError> {
    let mut fields = Fields::new(object(bytes)?);
    let payload = Excerpt(bytes);
    refuse_chat(&mut fields)?;
    let inputs = fields.take("inputs");
    let (prompts, list) = prompts(inputs, &payload)?;
    let parameters = match fields.take("parameters") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            return Err(invalid(format!(
                "'parameters' must be provided as an object of key-value pairs. Received payload \
                 {payload}"
            )));
        }
    };
    let outer = fields.flag("stream")?;
    parameters::refuse_adapters(&mut fields)?;
    fields.finish(|key| {
        let inner = parameters::names().contains(&key);
        inner.then(|| "it belongs inside `parameters`".to_owned())
    })?;
    let asked = parameters::read(parameters)?;
    let stream = agreed("stream", outer, asked.stream)?.unwrap_or(false);
    let by_stream = if stream {
        Formatter::JsonLines
    } else {
        Formatter::Json
    };
    let formatter = asked.formatter.or(formatter).unwrap_or(by_stream);
    if list && formatter.streams() {
        let problem = "cannot be streamed; send one string, or leave `stream` out";
        return Err(ServeError::parameter("inputs", "a list", problem));
    }
    let rendering = Rendering {
        formatter,
        details: asked.details,
        full_text: asked.full_text,
    };
    Ok(LmiRequest {
        prompts,
        list,
        params: asked.params,
        rendering,
    })
}

/// One value from two keys that mean the same.
fn agreed(key: &str, one: Option<bool>, other: Option<bool>) -> Result<Option<bool>, ServeError> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            let problem = "is given twice with different values; keep one of them";
            Err(ServeError::parameter(key, "both true and false", problem))
        }
        _ => Ok(one.or(other)),
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ServeError> {
    // Some clients on Windows begin with a byte order mark, which Python's reader skips.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(invalid(format!("{WANTED} Received payload is empty")));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(invalid(format!(
            "{WANTED} Received payload {}",
            Excerpt(bytes)
        ))),
        Err(error) => Err(ServeError::Malformed(format!(
            "{PAYLOAD}The request payload is not valid JSON: {error}"
        ))),
    }
}

/// DJL's sentence for a payload that is not a request.
const WANTED: &str = "Request payload should be a json object specifying the 'inputs' field.";

fn refuse_chat(fields: &mut Fields) -> Result<(), ServeError> {
    let Some(messages) = fields.take("messages") else {
        return Ok(());
    };
    let problem = "chat requests are not served yet; send the text itself as `inputs`";
    Err(ServeError::parameter("messages", messages, problem))
}

fn prompts(inputs: Option<Value>, payload: &Excerpt) -> Result<(Vec<String>, bool), ServeError> {
    match inputs {
        None => Err(invalid(format!("{WANTED} Received payload {payload}"))),
        Some(Value::Array(items)) if items.is_empty() => Err(no_content(payload)),
        Some(Value::Array(items)) => {
            let prompts: Result<_, _> = items
                .into_iter()
                .map(|item| prompt(item, payload))
                .collect();
            Ok((prompts?, true))
        }
        Some(one) => Ok((vec![prompt(one, payload)?], false)),
    }
}

fn prompt(value: Value, payload: &Excerpt) -> Result<String, ServeError> {
    match value {
        Value::String(text) if text.is_empty() => Err(no_content(payload)),
        Value::String(text) => Ok(text),
        other => Err(invalid(format!(
            "The 'inputs' field must be a string or a list of strings. Received type <class '{}'>",
            python_class(&other)
        ))),
    }
}

fn no_content(payload: &Excerpt) -> ServeError {
    invalid(format!(
        "The 'inputs' field does not contain any content. Received payload {payload}"
    ))
}

fn invalid(text: String) -> ServeError {
    ServeError::Malformed(format!("{PAYLOAD}Invalid request payload. {text}"))
}

fn python_class(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// The beginning of a payload, for error texts.
struct Excerpt<'a>(&'a [u8]);

impl std::fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const LONGEST: usize = 200;
        let shown = &self.0[..self.0.len().min(LONGEST)];
        let more = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "{}{more}", String::from_utf8_lossy(shown))
    }
}

#[cfg(test)]
mod tests;
