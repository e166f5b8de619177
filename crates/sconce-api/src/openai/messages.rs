//! What was said, and the tools: checked for what no template can make sense of, and made into what templates expect.
//!
//! Whether roles may follow each other in that order is the template's to say.

use sconce_core::ServeError;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, ServeError>;

const ROLES: &[&str] = &[
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];
/// Parts of contents that only models which see or hear make something of.
const SENSES: &[&str] = &[
    "image_url",
    "image",
    "input_audio",
    "audio_url",
    "video_url",
    "file",
];
/// Most messages and most tools.
const MOST: usize = 16_384;
/// Longest name of a function, as at OpenAI.
const LONGEST_NAME: usize = 64;

/// The messages of a request.
pub(super) fn messages(value: Option<Value>) -> Result<Vec<Value>> {
    const WANTED: &str = "must be a list of objects with role and content, at least one";
    match value {
        None => Err(ServeError::Malformed(format!(
            "`messages` is missing: it {WANTED}"
        ))),
        Some(Value::Array(items)) if !items.is_empty() && items.len() <= MOST => items
            .into_iter()
            .enumerate()
            .map(|(at, item)| message(&format!("messages[{at}]"), item))
            .collect(),
        Some(Value::Array(items)) if items.len() > MOST => {
            let value = format!("a list of {}", items.len());
            let problem = format!("may hold at most {MOST} messages");
            Err(ServeError::parameter("messages", value, problem))
        }
        Some(other) => Err(ServeError::parameter("messages", other, WANTED)),
    }
}

fn message(key: &str, item: Value) -> Result<Value> {
    let Value::Object(mut message) = item else {
        let problem = "must be an object with role and content";
        return Err(ServeError::parameter(key, item, problem));
    };
    let role = message.get("role").and_then(Value::as_str);
    let Some(role) = role.filter(|role| ROLES.contains(role)) else {
        let value = message.get("role").cloned().unwrap_or_default();
        let problem = format!("must be one of {}", ROLES.join(", "));
        return Err(ServeError::parameter(format!("{key}.role"), value, problem));
    };
    let role = role.to_owned();
    let calls = message
        .get("tool_calls")
        .is_some_and(|calls| !calls.is_null());
    let content = message.remove("content").unwrap_or_default();
    let content = match content {
        Value::Null if role == "assistant" => json!(""),
        Value::String(_) => content,
        Value::Array(parts) => parted(&format!("{key}.content"), parts)?,
        other => {
            let problem =
                "must be a text, or a list of parts such as {\"type\": \"text\", \"text\": \"…\"}";
            return Err(ServeError::parameter(
                format!("{key}.content"),
                other,
                problem,
            ));
        }
    };
    message.insert("content".into(), content);
    if calls {
        let taken = message.remove("tool_calls").unwrap_or_default();
        let calls = self::calls(&format!("{key}.tool_calls"), taken)?;
        message.insert("tool_calls".into(), calls);
    } else {
        message.remove("tool_calls");
    }
    Ok(Value::Object(message))
}

/// Parts of texts; refusals of the model itself are text too.
fn parted(key: &str, parts: Vec<Value>) -> Result<Value> {
    let part = |(at, part): (usize, Value)| {
        let kind = part.get("type").and_then(Value::as_str);
        let text = match kind {
            Some("text") => part.get("text"),
            Some("refusal") => part.get("refusal"),
            _ => None,
        };
        if let Some(text) = text.and_then(Value::as_str) {
            return Ok(json!({ "type": "text", "text": text }));
        }
        let key = format!("{key}[{at}]");
        match kind {
            Some(kind) if SENSES.contains(&kind) => {
                let problem = "this model reads text only; send parts of the type text";
                Err(ServeError::parameter(format!("{key}.type"), kind, problem))
            }
            _ => {
                let problem = "must be an object with type text and a text";
                Err(ServeError::parameter(key, part, problem))
            }
        }
    };
    parts.into_iter().enumerate().map(part).collect()
}

/// Calls that an assistant made. Templates want arguments as an object, while the API has them as a text of JSON.
fn calls(key: &str, value: Value) -> Result<Value> {
    let Value::Array(items) = value else {
        return Err(ServeError::parameter(key, value, "must be a list of calls"));
    };
    let one = |(at, mut call): (usize, Value)| {
        let key = format!("{key}[{at}].function");
        let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
            let problem = "must be an object with name and arguments";
            return Err(ServeError::parameter(key, call, problem));
        };
        let arguments = function.remove("arguments").unwrap_or_default();
        let read = match &arguments {
            Value::Null => Some(Map::new()),
            Value::Object(map) => Some(map.clone()),
            Value::String(text) if text.trim().is_empty() => Some(Map::new()),
            Value::String(text) => serde_json::from_str(text).ok(),
            _ => None,
        };
        let Some(read) = read else {
            let problem = "must be a text that is a JSON object";
            return Err(ServeError::parameter(
                format!("{key}.arguments"),
                arguments,
                problem,
            ));
        };
        function.insert("arguments".into(), Value::Object(read));
        Ok(call)
    };
    items.into_iter().enumerate().map(one).collect()
}

/// The functions that may be called; `None`: the request has none.
pub(super) fn tools(value: Option<Value>) -> Result<Option<Vec<Value>>> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) if items.is_empty() => Ok(None),
        Some(Value::Array(items)) if items.len() <= MOST => {
            for (at, item) in items.iter().enumerate() {
                tool(&format!("tools[{at}]"), item)?;
            }
            Ok(Some(items))
        }
        Some(other) => {
            let problem =
                "must be a list of objects such as {\"type\": \"function\", \"function\": {…}}";
            Err(ServeError::parameter("tools", other, problem))
        }
    }
}

fn tool(key: &str, item: &Value) -> Result<()> {
    if item["type"] != "function" {
        let problem = "must be function: other tools are not served";
        return Err(ServeError::parameter(
            format!("{key}.type"),
            &item["type"],
            problem,
        ));
    }
    let function = &item["function"];
    let fits = |name: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(letter)
    };
    if !function["name"].as_str().is_some_and(fits) {
        let problem = format!("must be a name of 1 to {LONGEST_NAME} letters, digits, _ and -");
        let value = &function["name"];
        return Err(ServeError::parameter(
            format!("{key}.function.name"),
            value,
            problem,
        ));
    }
    match &function["parameters"] {
        Value::Null | Value::Object(_) => Ok(()),
        other => {
            let problem = "must be a JSON schema, an object";
            Err(ServeError::parameter(
                format!("{key}.function.parameters"),
                other,
                problem,
            ))
        }
    }
}

/// Documents that the answer may rest on.
pub(super) fn documents(value: Option<Value>) -> Result<Option<Vec<Value>>> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(Some(items)),
        Some(other) => {
            let problem = "must be a list of objects such as {\"title\": \"…\", \"text\": \"…\"}";
            Err(ServeError::parameter("documents", other, problem))
        }
    }
}
