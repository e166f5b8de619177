//! What `tokenizer_config.json` adds to `tokenizer.json`, read as transformers reads it.
//!
//! Only what changes ids or text: added and special tokens, clean-up. Chat templates and lengths
//! are not read here.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::TextError;

/// The settings beside `tokenizer.json`; every default is that of transformers 5.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// `clean_up_tokenization_spaces`.
    pub(crate) clean_up: bool,
    /// The clean-up is wanted for BPE too, where transformers leaves it out unless forced.
    pub(crate) clean_up_bpe: bool,
    /// `split_special_tokens`: special tokens in a text are text.
    pub(crate) split_special: bool,
    /// `added_tokens_decoder`, in order of id.
    pub(crate) added: Vec<AddedToken>,
    /// Tokens with a special role (`eos_token`, `additional_special_tokens`, …).
    pub(crate) named: Vec<AddedToken>,
}

impl Settings {
    /// Reads the directory's `tokenizer_config.json`, and `special_tokens_map.json` where older
    /// checkpoints keep the roles; both may be absent.
    pub(crate) fn read(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer_config.json");
        let config = read_map(&path)?.unwrap_or_default();
        let file = File { path: &path };
        let mut settings = Self {
            clean_up: file.flag(&config, "clean_up_tokenization_spaces")?,
            clean_up_bpe: file.flag(
                &config,
                "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
            )?,
            split_special: file.flag(&config, "split_special_tokens")?,
            added: Vec::new(),
            named: file.named(&config)?,
        };
        match config.get("added_tokens_decoder") {
            Some(added) => settings.added = file.added(added)?,
            None => {
                let path = dir.join("special_tokens_map.json");
                let roles = read_map(&path)?.unwrap_or_default();
                settings.named.extend(File { path: &path }.named(&roles)?);
            }
        }
        Ok(settings)
    }
}

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

fn read_map(path: &Path) -> Result<Option<Map<String, Value>>, TextError> {
    let Some(bytes) = read_bytes(path)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes).map_err(|error| not_json(path, &error))? {
        Value::Object(map) => Ok(Some(map)),
        other => Err(File { path }.wrong("the file", &other, "an object")),
    }
}

/// Typed reads that name the file in their errors.
struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn flag(&self, map: &Map<String, Value>, key: &str) -> Result<bool, TextError> {
        match map.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    fn added(&self, value: &Value) -> Result<Vec<AddedToken>, TextError> {
        let wanted = "an object of token ids and their tokens";
        let key = "added_tokens_decoder";
        let map = value
            .as_object()
            .ok_or_else(|| self.wrong(key, value, wanted))?;
        let mut added = Vec::with_capacity(map.len());
        for (id, token) in map {
            let key = format!("{key}.{id}");
            let number: u32 = id.parse().map_err(|_| self.wrong(&key, token, wanted))?;
            added.push((number, self.token(&key, token)?));
        }
        added.sort_by_key(|&(id, _)| id);
        Ok(added.into_iter().map(|(_, token)| token).collect())
    }

    fn named(&self, map: &Map<String, Value>) -> Result<Vec<AddedToken>, TextError> {
        let mut named = Vec::new();
        for (key, value) in map {
            let several = matches!(
                key.as_str(),
                "additional_special_tokens" | "extra_special_tokens"
            );
            match value {
                Value::Array(tokens) if several => {
                    for token in tokens {
                        named.push(self.token(key, token)?);
                    }
                }
                Value::Object(tokens) if several => {
                    for (name, token) in tokens {
                        named.push(self.token(&format!("{key}.{name}"), token)?);
                    }
                }
                // Other values under such names, as `add_bos_token`, are no tokens.
                Value::String(_) | Value::Object(_) if key.ends_with("_token") => {
                    named.push(self.token(key, value)?);
                }
                _ => {}
            }
        }
        named.iter_mut().for_each(|token| token.special = true);
        Ok(named)
    }

    fn token(&self, key: &str, value: &Value) -> Result<AddedToken, TextError> {
        if let Some(content) = value.as_str() {
            return Ok(AddedToken::from(content, true));
        }
        let wanted = "a string, or an object with the string `content`";
        let content = value.get("content").and_then(Value::as_str);
        let content = content.ok_or_else(|| self.wrong(key, value, wanted))?;
        let flag =
            |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
        let special = flag("special", false);
        Ok(AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)))
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &'static str) -> TextError {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Result<Settings, TextError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        Settings::read(dir.path())
    }

    #[test]
    fn nothing_beside_the_tokenizer_means_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(dir.path()).unwrap(), Settings::default());
    }

    #[test]
    fn roles_are_read_from_strings_and_objects() {
        let settings = read(
            r#"{"eos_token": "</s>", "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": true},
                "pad_token": null, "add_bos_token": true, "additional_special_tokens": ["<a>"],
                "added_tokens_decoder": {"10": {"content": "b"}, "9": {"content": "a", "special": true}}}"#,
        )
        .unwrap();
        let named: Vec<_> = settings
            .named
            .iter()
            .map(|t| (t.content.as_str(), t.lstrip))
            .collect();
        assert_eq!(named, [("</s>", false), ("<s>", true), ("<a>", false)]);
        assert!(settings.named.iter().all(|token| token.special));
        assert_eq!(
            settings.added,
            [AddedToken::from("a", true), AddedToken::from("b", false)]
        );
    }

    #[test]
    fn a_wrong_value_names_file_key_and_value() {
        let error = read(r#"{"clean_up_tokenization_spaces": "yes"}"#)
            .unwrap_err()
            .to_string();
        for part in [
            "tokenizer_config.json",
            "clean_up_tokenization_spaces",
            "\"yes\"",
            "true or false",
        ] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(read("[]").is_err());
        assert!(read(r#"{"added_tokens_decoder": {"x": {"content": "b"}}}"#).is_err());
    }

    #[test]
    fn broken_json_is_reported_with_its_place() {
        let error = read("{\n  \"a\": }").unwrap_err();
        assert!(
            matches!(
                error,
                TextError::NotJson {
                    line: 2,
                    column: 8,
                    ..
                }
            ),
            "{error}"
        );
    }
}
