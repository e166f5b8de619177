//! What `tokenizer_config.json` adds to `tokenizer.json`, read as transformers reads it.
//!
//! Only what changes ids or text: added and special tokens, clean-up. Chat templates and lengths
//! are not read here.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::TextError;
use crate::json::{JsonFile, read_map};

/// Forces the clean-up upon BPE.
const CLEAN_UP_BPE: &str =
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output";

/// The settings beside `tokenizer.json`; every default is that of transformers 5.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// `clean_up_tokenization_spaces`, if the file says.
    pub(crate) clean_up: Option<bool>,
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
        let file = JsonFile { path: &path };
        let mut settings = Self {
            clean_up: file.flag(&config, "clean_up_tokenization_spaces")?,
            clean_up_bpe: file.flag(&config, CLEAN_UP_BPE)?.unwrap_or(false),
            split_special: file.flag(&config, "split_special_tokens")?.unwrap_or(false),
            added: Vec::new(),
            named: named(file, &config)?,
        };
        match config.get("added_tokens_decoder") {
            Some(added) => {
                let added = file.added(added)?.into_iter();
                settings.added = added.map(|(_, token)| token).collect();
            }
            None => {
                let path = dir.join("special_tokens_map.json");
                let roles = read_map(&path)?.unwrap_or_default();
                settings
                    .named
                    .extend(named(JsonFile { path: &path }, &roles)?);
            }
        }
        Ok(settings)
    }
}

fn named(file: JsonFile, map: &Map<String, Value>) -> Result<Vec<AddedToken>, TextError> {
    let mut named = Vec::new();
    for (key, value) in map {
        let several = matches!(
            key.as_str(),
            "additional_special_tokens" | "extra_special_tokens"
        );
        match value {
            Value::Array(tokens) if several => {
                for token in tokens {
                    named.push(file.token(key, token, false)?);
                }
            }
            Value::Object(tokens) if several => {
                for (name, token) in tokens {
                    named.push(file.token(&format!("{key}.{name}"), token, false)?);
                }
            }
            // Other values under such names, as `add_bos_token`, are no tokens.
            Value::String(_) | Value::Object(_) if key.ends_with("_token") => {
                named.push(file.token(key, value, false)?);
            }
            _ => {}
        }
    }
    named.iter_mut().for_each(|token| token.special = true);
    Ok(named)
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
