//! The JSON files of a checkpoint, read with errors that name the file, the key and the value.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::TextError;

/// The bytes of a file; `None` if there is none.
pub(crate) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, TextError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(TextError::Unreadable {
                path: path.into(),
                source,
            });
        }
    };
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(TextError::LfsPointer { path: path.into() });
    }
    Ok(Some(bytes))
}

/// The object that a file holds; `None` if there is no file.
pub(crate) fn read_map(path: &Path) -> Result<Option<Map<String, Value>>, TextError> {
    read_bytes(path)?
        .map(|bytes| parse_map(path, &bytes))
        .transpose()
}

/// The object that a file's bytes describe.
pub(crate) fn parse_map(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, TextError> {
    match serde_json::from_slice(bytes).map_err(|error| not_json(path, &error))? {
        Value::Object(map) => Ok(map),
        other => Err(JsonFile { path }.wrong("the file", &other, "an object")),
    }
}

/// A JSON syntax error with its place.
pub(crate) fn not_json(path: &Path, error: &serde_json::Error) -> TextError {
    let place = format!(" at line {} column {}", error.line(), error.column());
    TextError::NotJson {
        path: path.into(),
        line: error.line(),
        column: error.column(),
        cause: error.to_string().replace(&place, ""),
    }
}

/// Typed reads of one file's values.
#[derive(Clone, Copy)]
pub(crate) struct JsonFile<'a> {
    pub(crate) path: &'a Path,
}

impl JsonFile<'_> {
    /// A flag; as in Python, `null` counts as false. `None` where the key is absent.
    pub(crate) fn flag(
        self,
        map: &Map<String, Value>,
        key: &str,
    ) -> Result<Option<bool>, TextError> {
        match map.get(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(false)),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    /// `added_tokens_decoder`, in order of id.
    pub(crate) fn added(self, value: &Value) -> Result<Vec<(u32, AddedToken)>, TextError> {
        let wanted = "an object of token ids and their tokens";
        let key = "added_tokens_decoder";
        let map = value
            .as_object()
            .ok_or_else(|| self.wrong(key, value, wanted))?;
        let mut added = Vec::with_capacity(map.len());
        for (id, token) in map {
            let key = format!("{key}.{id}");
            let number: u32 = id.parse().map_err(|_| self.wrong(&key, token, wanted))?;
            added.push((number, self.token(&key, token, false)?));
        }
        added.sort_by_key(|&(id, _)| id);
        Ok(added)
    }

    /// A token written as a string or as an object; `special` holds where an object does not say.
    pub(crate) fn token(
        self,
        key: &str,
        value: &Value,
        special: bool,
    ) -> Result<AddedToken, TextError> {
        if let Some(content) = value.as_str() {
            return Ok(AddedToken::from(content, true));
        }
        let wanted = "a string, or an object with the string `content`";
        let content = value.get("content").and_then(Value::as_str);
        let content = content.ok_or_else(|| self.wrong(key, value, wanted))?;
        let flag =
            |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
        let special = flag("special", special);
        Ok(AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)))
    }

    /// The error for a value of the wrong kind.
    pub(crate) fn wrong(self, key: &str, value: &Value, wanted: &'static str) -> TextError {
        const LONGEST: usize = 60;
        let mut value = value.to_string();
        if value.chars().count() > LONGEST {
            value = value.chars().take(LONGEST).chain("…".chars()).collect();
        }
        TextError::Setting {
            path: self.path.into(),
            key: key.into(),
            value,
            wanted,
        }
    }
}
