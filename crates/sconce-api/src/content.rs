//! What a request's body says, whatever its Content-Type: always the JSON that dialects read.
//!
//! | Content-Type | read as |
//! | --- | --- |
//! | none, `application/json`, `application/octet-stream`, unknown ones | the JSON it is |
//! | `application/jsonlines` and its other names | one line of JSON |
//! | `application/x-www-form-urlencoded` | JSON if it begins as such, else a form |
//! | `multipart/form-data` | a form |
//! | `text/plain` | `{"inputs": "<text>"}` |
//! | `text/csv` with a column `inputs` | `{"inputs": ["<row>", …]}` |
//! | `text/csv` with `question` and `context` | `{"inputs": [{"question": …, "context": …}, …]}` |
//! | `tensor/*`, NumPy arrays, `image/*`, `audio/*`, `video/*` | refused by name |
//!
//! Forms are `form`'s. JSON is not parsed here: what a dialect says about a payload that is none
//! is a part of the dialect. Text of DJL's static handlers becomes a list of one string there;
//! their answers to a string and to such a list are the same, so a string is enough.

mod form;

use std::borrow::Cow;

use bytes::Bytes;
use mime::Mime;
use sconce_core::ServeError;
use serde_json::json;

/// What of a request decides what its body says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw<'a> {
    /// The whole body.
    pub body: &'a [u8],
    /// The header Content-Type, if there is one.
    pub content_type: Option<&'a str>,
    /// The parameters of the query, decoded; DJL Serving calls them content too.
    pub query: &'a [(String, String)],
    /// Whether CSV may have the columns of questions and their contexts.
    pub tables: bool,
}

/// What a request's body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// JSON, unless the client says so of something that is not.
    pub json: Cow<'a, [u8]>,
    /// The fields of a form that say where the request goes, such as `model_name`.
    pub routing: Vec<(String, String)>,
}

/// What curl says of every body unless told otherwise.
const FORM: &str = "application/x-www-form-urlencoded";

/// Names of form fields and query parameters that say where a request goes, not what it asks.
pub const ROUTING: &[&str] = &["handler", "model_name", "model_version"];

/// Reads a body by its Content-Type.
///
/// # Errors
/// [`ServeError::Malformed`] with the type, and with what the task takes.
pub fn decode<'a>(raw: &Raw<'a>) -> Result<Content<'a>, ServeError> {
    let kind = raw
        .content_type
        .and_then(|value| value.parse::<Mime>().ok());
    if raw.body.is_empty() && raw.query.iter().any(|(name, _)| name == "inputs") {
        return form::from_query(raw.query);
    }
    match kind.as_ref().map_or("", Mime::essence_str) {
        FORM => form::urlencoded(raw.body),
        "multipart/form-data" => form::multipart(raw.body, raw.content_type.unwrap_or_default()),
        _ => Ok(Content {
            json: single(kind.as_ref(), raw.body, raw.tables)?,
            routing: Vec::new(),
        }),
    }
}

/// The fields of a form, as they are; `None`: the body is no form.
pub(crate) fn fields(raw: &Raw<'_>) -> Result<Option<Vec<(String, Bytes)>>, ServeError> {
    let kind = raw
        .content_type
        .and_then(|value| value.parse::<Mime>().ok());
    match kind.as_ref().map_or("", Mime::essence_str) {
        FORM if !is_mistyped_json(raw) => Ok(Some(form::urlencoded_fields(raw.body))),
        "multipart/form-data" => {
            form::multipart_fields(raw.body, raw.content_type.unwrap_or_default()).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether a body of this Content-Type may be a form.
pub fn may_be_form(content_type: Option<&str>) -> bool {
    let kind = content_type.and_then(|value| value.parse::<Mime>().ok());
    kind.is_some_and(|kind| matches!(kind.essence_str(), FORM | "multipart/form-data"))
}

/// Whether the body is JSON that is called a form.
pub(crate) fn is_mistyped_json(raw: &Raw<'_>) -> bool {
    let kind = raw
        .content_type
        .and_then(|value| value.parse::<Mime>().ok());
    kind.is_some_and(|kind| kind.essence_str() == FORM) && form::begins_json(raw.body)
}

/// Reads a body, or a part of one, that is not a form.
fn single<'a>(
    kind: Option<&Mime>,
    bytes: &'a [u8],
    tables: bool,
) -> Result<Cow<'a, [u8]>, ServeError> {
    let Some(kind) = kind else {
        return Ok(bytes.into());
    };
    let essence = kind.essence_str();
    match (kind.type_().as_str(), kind.subtype().as_str()) {
        ("text", "plain") => {
            let text = text(kind, bytes)?;
            Ok(to_json(&json!({"inputs": text})).into())
        }
        ("text", "csv") => csv(kind, bytes, tables).map(Cow::from),
        ("application", "jsonlines" | "x-jsonlines" | "jsonl" | "x-ndjson") => {
            one_line(essence, bytes)
        }
        ("tensor" | "image" | "audio" | "video", _)
        | ("application", "x-npy" | "x-npz" | "x-recordio-protobuf" | "zip") => {
            Err(ServeError::Malformed(format!(
                "Content-Type {essence} is not text, and this model takes text: send \
                 application/json as {{\"inputs\": \"…\"}}, text/plain, or text/csv with a column \
                 `inputs`"
            )))
        }
        _ => {
            charset(kind)?;
            Ok(bytes.into())
        }
    }
}

/// Text is UTF-8; the other encodings that clients still name are refused by name.
fn charset(kind: &Mime) -> Result<(), ServeError> {
    match kind.get_param(mime::CHARSET) {
        Some(name) if name != "utf-8" && name != "utf8" && name != "us-ascii" => {
            Err(ServeError::Malformed(format!(
                "Content-Type {} has charset={name}; send UTF-8",
                kind.essence_str()
            )))
        }
        _ => Ok(()),
    }
}

fn text<'a>(kind: &Mime, bytes: &'a [u8]) -> Result<&'a str, ServeError> {
    charset(kind)?;
    std::str::from_utf8(bytes).map_err(|error| {
        let essence = kind.essence_str();
        ServeError::Malformed(format!("the {essence} body is not UTF-8: {error}"))
    })
}

/// A client of JSON lines sends several requests in one body; here a body is one request.
fn one_line<'a>(essence: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, ServeError> {
    let full = |line: &&[u8]| !line.iter().all(u8::is_ascii_whitespace);
    let lines = bytes.split(|&byte| byte == b'\n').filter(full).count();
    // JSON itself may have line breaks, but then no line of it stands alone.
    let whole = || serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    if lines <= 1 || whole() {
        return Ok(bytes.into());
    }
    Err(ServeError::Malformed(format!(
        "the {essence} body has {lines} lines, and one request is one line; send each line by \
         itself, or one object whose `inputs` is a list"
    )))
}

/// The column `inputs` as a list; or the rows of questions and contexts as a list of objects.
fn csv(kind: &Mime, bytes: &[u8], tables: bool) -> Result<Vec<u8>, ServeError> {
    let text = text(kind, bytes)?;
    let wrong = |error: csv::Error| ServeError::Malformed(format!("the text/csv body: {error}"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().map_err(wrong)?.clone();
    let column = |wanted: &str| headers.iter().position(|name| name.trim() == wanted);
    let questions = column("question").zip(column("context")).filter(|_| tables);
    let row = |record: csv::StringRecord| {
        let cell = |column: usize| record.get(column).unwrap_or_default();
        match (column("inputs"), questions) {
            (Some(column), _) => Some(json!(cell(column))),
            (None, Some((question, context))) => {
                Some(json!({"question": cell(question), "context": cell(context)}))
            }
            (None, None) => None,
        }
    };
    if column("inputs").is_none() && questions.is_none() {
        let names: Vec<_> = headers.iter().collect();
        return Err(ServeError::Malformed(format!(
            "You need to provide the correct CSV with Header columns: the first row is {:?} and \
             this model takes a column `inputs`",
            names.join(",")
        )));
    }
    let rows: Result<Vec<_>, _> = reader.records().map(|record| Ok(row(record?))).collect();
    let rows: Vec<_> = rows.map_err(wrong)?.into_iter().flatten().collect();
    if rows.is_empty() {
        let problem = "the text/csv body has a header and no rows";
        return Err(ServeError::Malformed(problem.into()));
    }
    Ok(to_json(&json!({"inputs": rows})))
}

fn to_json(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
