//! From the bytes of a request to the object that a dialect reads, and the prompts inside it.
//!
//! Every dialect begins with [`read`]: what a content type means for the body is decided there.

use std::fmt;

use sconce_core::ServeError;
use serde_json::{Map, Value};

use crate::dialect::Incoming;
use crate::fields::Fields;

/// DJL's sentence for a payload that is not a request.
const WANTED: &str = "Request payload should be a json object specifying the 'inputs' field.";

/// The members of a request, and its bytes for error texts.
pub(crate) struct Payload<'a> {
    pub(crate) fields: Fields,
    excerpt: Excerpt<'a>,
}

/// The texts to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompts {
    /// At least one, none empty.
    pub(crate) texts: Vec<String>,
    /// Whether they were a list.
    pub(crate) list: bool,
}

/// Reads a body that must be a JSON object.
pub(crate) fn read<'a>(incoming: &Incoming<'a>) -> Result<Payload<'a>, ServeError> {
    let excerpt = Excerpt(incoming.body);
    let value = value(incoming.body)?;
    match value {
        Value::Object(map) => Ok(Payload {
            fields: Fields::new(map),
            excerpt,
        }),
        _ => Err(invalid(format!("{WANTED} Received payload {excerpt}"))),
    }
}

/// The JSON of a body; `null` for one that is empty.
pub(crate) fn value(body: &[u8]) -> Result<Value, ServeError> {
    let text = unmarked(body);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(text).map_err(|error| {
        ServeError::Malformed(format!("The request payload is not valid JSON: {error}"))
    })
}

/// A body without the byte order mark that some clients on Windows begin with, which Python's reader skips.
pub(crate) fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

impl Payload<'_> {
    /// Takes `inputs`: a string or a list of strings.
    pub(crate) fn prompts(&mut self) -> Result<Prompts, ServeError> {
        let excerpt = &self.excerpt;
        match self.fields.take("inputs") {
            None => Err(invalid(format!("{WANTED} Received payload {excerpt}"))),
            Some(Value::Array(items)) if items.is_empty() => Err(self.no_content()),
            Some(Value::Array(items)) => {
                let texts: Result<_, _> = items.into_iter().map(|item| self.prompt(item)).collect();
                Ok(Prompts {
                    texts: texts?,
                    list: true,
                })
            }
            Some(one) => Ok(Prompts {
                texts: vec![self.prompt(one)?],
                list: false,
            }),
        }
    }

    /// Takes `parameters`; absent is an empty object.
    pub(crate) fn parameters(&mut self) -> Result<Fields, ServeError> {
        match self.fields.take("parameters") {
            None => Ok(Fields::new(Map::new())),
            Some(Value::Object(map)) => Ok(Fields::new(map)),
            Some(_) => Err(invalid(format!(
                "'parameters' must be provided as an object of key-value pairs. Received payload \
                 {}",
                self.excerpt
            ))),
        }
    }

    /// Refuses chat requests, which no dialect serves yet.
    pub(crate) fn refuse_chat(&mut self) -> Result<(), ServeError> {
        let Some(messages) = self.fields.take("messages") else {
            return Ok(());
        };
        let problem = "chat requests are not served in this dialect; send them to /v1/chat/completions, or the text itself as `inputs`";
        Err(ServeError::parameter("messages", messages, problem))
    }

    /// Fails on the first member that was not taken; `parameters` are the names that belong
    /// inside `parameters`.
    pub(crate) fn finish(self, parameters: &[&str]) -> Result<(), ServeError> {
        self.fields.finish(|key| {
            let inner = parameters.contains(&key);
            inner.then(|| "it belongs inside `parameters`".to_owned())
        })
    }

    fn prompt(&self, value: Value) -> Result<String, ServeError> {
        match value {
            Value::String(text) if text.is_empty() => Err(self.no_content()),
            Value::String(text) => Ok(text),
            other => Err(invalid(format!(
                "The 'inputs' field must be a string or a list of strings. Received type <class \
                 '{}'>",
                python_class(&other)
            ))),
        }
    }

    fn no_content(&self) -> ServeError {
        invalid(format!(
            "The 'inputs' field does not contain any content. Received payload {}",
            self.excerpt
        ))
    }
}

impl Prompts {
    /// The only one; `problem` says why there may not be several.
    pub(crate) fn only(mut self, problem: &str) -> Result<String, ServeError> {
        match self.texts.len() {
            1 => Ok(self.texts.remove(0)),
            count => {
                let value = format!("a list of {count}");
                Err(ServeError::parameter("inputs", value, problem))
            }
        }
    }
}

fn invalid(text: String) -> ServeError {
    ServeError::Malformed(format!("Invalid request payload. {text}"))
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
#[derive(Clone, Copy)]
struct Excerpt<'a>(&'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        if self.0.is_empty() {
            return write!(f, "is empty");
        }
        let shown = &self.0[..self.0.len().min(LONGEST)];
        let more = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "{}{more}", String::from_utf8_lossy(shown))
    }
}
