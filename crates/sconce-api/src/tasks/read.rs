//! A body as input and parameters.

use sconce_core::ServeError;
use sconce_core::task::Truncation;
use serde_json::{Map, Value};

use crate::fields::Fields;
use crate::payload;

/// Most texts of one request.
pub(crate) const MOST_TEXTS: usize = 4096;

/// A request as pipelines see it.
pub(crate) struct Request {
    /// The pipeline's input.
    pub(crate) inputs: Value,
    /// The pipeline's arguments.
    pub(crate) parameters: Fields,
}

impl Request {
    /// Takes a body apart.
    pub(crate) fn read(body: &[u8]) -> Result<Self, ServeError> {
        match payload::value(body)? {
            Value::Object(mut object) if object.contains_key("inputs") => {
                let inputs = object.shift_remove("inputs").unwrap_or_default();
                let parameters = match object.shift_remove("parameters") {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(map)) => map,
                    Some(other) => {
                        let problem = "must be an object of names and values";
                        return Err(ServeError::parameter("parameters", other, problem));
                    }
                };
                let mut rest = Fields::new(object);
                // Clients of text generation send it; nothing here is streamed.
                rest.flag("stream")?;
                let names = parameters.clone();
                rest.finish(|key| {
                    let cure = "pipelines take it inside `parameters`";
                    (!names.contains_key(key)).then(|| cure.to_owned())
                })?;
                Ok(Self {
                    inputs,
                    parameters: Fields::new(parameters),
                })
            }
            Value::Null => Err(nothing()),
            inputs => Ok(Self {
                inputs,
                parameters: Fields::new(Map::new()),
            }),
        }
    }

    /// The input as a list: a list as it is, anything else as the only item.
    pub(crate) fn items(&mut self) -> Result<Vec<Value>, ServeError> {
        match std::mem::take(&mut self.inputs) {
            Value::Array(items) if items.is_empty() => Err(nothing()),
            Value::Array(items) if items.len() > MOST_TEXTS => {
                let value = format!("a list of {}", items.len());
                let problem = format!("may hold at most {MOST_TEXTS} texts; send several requests");
                Err(ServeError::parameter("inputs", value, problem))
            }
            Value::Array(items) => Ok(items),
            Value::Null => Err(nothing()),
            one => Ok(vec![one]),
        }
    }

    /// The input as texts.
    pub(crate) fn texts(&mut self) -> Result<Vec<String>, ServeError> {
        self.items()?.into_iter().map(text).collect()
    }

    /// Takes `truncation`, `max_length` and `padding`, which are the tokenizer's.
    pub(crate) fn truncation(&mut self) -> Result<Truncation, ServeError> {
        truncation(&mut self.parameters)
    }

    /// Fails on the first parameter that nobody took.
    pub(crate) fn finish(self) -> Result<(), ServeError> {
        self.parameters.finish(|_| None)
    }
}

/// Takes the tokenizer's arguments.
pub(crate) fn truncation(parameters: &mut Fields) -> Result<Truncation, ServeError> {
    const PROBLEM: &str = "must be true, false, \"longest_first\" or \"do_not_truncate\"";
    let cut = match parameters.take("truncation") {
        None => false,
        Some(Value::Bool(cut)) => cut,
        Some(Value::String(name)) if name == "longest_first" => true,
        Some(Value::String(name)) if name == "do_not_truncate" => false,
        Some(other) => return Err(ServeError::parameter("truncation", other, PROBLEM)),
    };
    let problem = "must be a number of tokens of at least 1";
    let max_len = parameters.integer("max_length", 1..=i128::from(u32::MAX), problem)?;
    // There is no padding, and the answer does not depend on it.
    parameters.take("padding");
    Ok(Truncation {
        cut,
        max_len: max_len.map(|len| len as usize),
    })
}

/// A text.
pub(crate) fn text(value: Value) -> Result<String, ServeError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(ServeError::parameter(
            "inputs",
            other,
            "must be a string or a list of strings",
        )),
    }
}

/// An object with these members, all of them strings.
pub(crate) fn members<const N: usize>(
    value: Value,
    keys: [&'static str; N],
) -> Result<[String; N], ServeError> {
    let wanted = || {
        let listed: Vec<String> = keys.iter().map(|key| format!("\"{key}\": \"…\"")).collect();
        format!(
            "must be an object {{{}}}, or a list of such",
            listed.join(", ")
        )
    };
    let Value::Object(map) = value else {
        return Err(ServeError::parameter("inputs", value, wanted()));
    };
    let whole = Value::Object(map.clone()).to_string();
    let mut fields = Fields::new(map);
    let mut found = keys.map(|_| String::new());
    for (found, key) in found.iter_mut().zip(keys) {
        match fields.text(key)? {
            Some(text) => *found = text,
            None => return Err(ServeError::parameter("inputs", whole, wanted())),
        }
    }
    fields.finish(|_| None)?;
    Ok(found)
}

/// There is nothing to compute.
pub(crate) fn nothing() -> ServeError {
    ServeError::Malformed(
        "the request has no input: send {\"inputs\": …} with a text or a list of texts".into(),
    )
}
