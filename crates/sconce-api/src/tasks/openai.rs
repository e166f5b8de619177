//! OpenAI's `/v1/embeddings`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sconce_core::task::{Embed, Subject, Truncation};
use sconce_core::{Answered, Ask, ServeError};
use serde::Serialize;
use serde_json::Value;

use super::read::MOST_TEXTS;
use super::render::vectors;
use super::{AcceptedTask, TaskForm};
use crate::fields::Fields;
use crate::payload;

/// Understands a request; `model` is the name that answers give.
pub fn embeddings(body: &[u8], model: &str) -> Result<AcceptedTask, ServeError> {
    let Value::Object(object) = payload::value(body)? else {
        return Err(ServeError::Malformed(
            "the body must be an object with `input`, a text or a list of texts".into(),
        ));
    };
    let mut fields = Fields::new(object);
    let subjects = subjects(fields.take("input"))?;
    let named = fields.text("model")?;
    let base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let problem = "must be float or base64";
            return Err(ServeError::parameter("encoding_format", other, problem));
        }
    };
    let problem = "must be a whole number of at least 1";
    let dimensions = fields.integer("dimensions", 1..=i128::from(u32::MAX), problem)?;
    // Who asks does not change what is answered.
    fields.text("user")?;
    fields.finish(|_| None)?;
    let ask = |text| {
        Ask::Embed(Embed {
            text,
            normalize: Some(true),
            dimensions: dimensions.map(|dimensions| dimensions as usize),
            prompt_name: None,
            // OpenAI refuses what is too long.
            truncation: Some(Truncation::default()),
        })
    };
    let asks = subjects.into_iter().map(ask).collect();
    let model = named.unwrap_or_else(|| model.to_owned());
    Ok(AcceptedTask::new(asks, Embeddings { model, base64 }))
}

/// A text, texts, the tokens of one, or of several.
pub(super) fn subjects(input: Option<Value>) -> Result<Vec<Subject>, ServeError> {
    const WANTED: &str =
        "must be a string, a list of strings, a list of token ids, or a list of such lists";
    let wrong = |value: &Value| ServeError::parameter("input", value, WANTED);
    let tokens = |items: &[Value]| -> Option<Vec<u32>> {
        let id = |item: &Value| u32::try_from(item.as_u64()?).ok();
        items.iter().map(id).collect()
    };
    let subject = |item: &Value| match item {
        Value::String(text) => Ok(Subject::Text(text.clone())),
        Value::Array(items) => tokens(items)
            .map(Subject::Tokens)
            .ok_or_else(|| wrong(item)),
        other => Err(wrong(other)),
    };
    match input {
        None => Err(ServeError::Malformed(format!(
            "`input` is missing: it {WANTED}"
        ))),
        Some(Value::Array(items)) if items.is_empty() => Err(ServeError::parameter(
            "input",
            "[]",
            "is empty; send at least one text",
        )),
        Some(Value::Array(items)) if items.iter().all(Value::is_number) => {
            let whole = Value::Array(items);
            Ok(vec![subject(&whole)?])
        }
        Some(Value::Array(items)) if items.len() > MOST_TEXTS => {
            let problem = format!("may hold at most {MOST_TEXTS} texts; send several requests");
            let value = format!("a list of {}", items.len());
            Err(ServeError::parameter("input", value, problem))
        }
        Some(Value::Array(items)) => items.iter().map(subject).collect(),
        Some(one) => Ok(vec![subject(&one)?]),
    }
}

/// OpenAI's list of embeddings.
struct Embeddings {
    model: String,
    base64: bool,
}

impl TaskForm for Embeddings {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        #[derive(Serialize)]
        struct List<'a> {
            object: &'static str,
            data: Vec<Item<'a>>,
            model: &'a str,
            usage: Usage,
        }
        #[derive(Serialize)]
        struct Item<'a> {
            object: &'static str,
            embedding: Numbers<'a>,
            index: usize,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Numbers<'a> {
            Floats(&'a [f32]),
            Base64(String),
        }
        #[derive(Serialize)]
        struct Usage {
            prompt_tokens: usize,
            total_tokens: usize,
        }
        let tokens = answers.iter().map(|answered| answered.tokens).sum();
        let in_base64 = |vector: &[f32]| {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            BASE64_STANDARD.encode(bytes)
        };
        let vectors = vectors(answers);
        let data = vectors.into_iter().enumerate().map(|(index, vector)| Item {
            object: "embedding",
            embedding: match self.base64 {
                true => Numbers::Base64(in_base64(vector)),
                false => Numbers::Floats(vector),
            },
            index,
        });
        let list = List {
            object: "list",
            data: data.collect(),
            model: &self.model,
            usage: Usage {
                prompt_tokens: tokens,
                total_tokens: tokens,
            },
        };
        serde_json::to_vec(&list).expect("plain data serialises")
    }
}

/// The body that tells of a refusal for what is not in the body of a request, by a code of OpenAI's.
pub fn refused(message: &str, code: &str) -> Vec<u8> {
    let body = serde_json::json!({
        "error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}
    });
    body.to_string().into_bytes()
}

/// The body that tells of a failure, in the shape of OpenAI's servers.
pub fn failure(error: &ServeError, code: u16) -> Vec<u8> {
    let kind = match error.blame() {
        sconce_core::Blame::Client => "invalid_request_error",
        _ => "server_error",
    };
    let param = match error {
        ServeError::Parameter { key, .. } => Some(key.as_str()),
        _ => None,
    };
    let body = serde_json::json!({
        "error": {"message": error.to_string(), "type": kind, "param": param, "code": code}
    });
    body.to_string().into_bytes()
}
