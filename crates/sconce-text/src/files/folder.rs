//! The configuration files beside a vocabulary, as `PreTrainedTokenizerBase._from_pretrained`
//! of transformers 4 reads them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::TextError;
use crate::json::{JsonFile, parse_map, read_bytes, read_map};

const TOKENIZER: &str = "tokenizer_config.json";
const MODEL: &str = "config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";
/// A thousand times what T5 has, and still little memory.
const MOST_EXTRA: u64 = 100_000;

/// A file that may name the tokenizer class.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// `tokenizer_config.json`.
    Tokenizer,
    /// `config.json`.
    Model,
}

/// A folder's settings for its tokenizer.
pub(super) struct Folder<'a> {
    pub(super) dir: &'a Path,
    config: Map<String, Value>,
    model: Map<String, Value>,
    /// `special_tokens_map.json`, which counts more than `tokenizer_config.json`; not read where
    /// that has `added_tokens_decoder`, as newer checkpoints do.
    special: Map<String, Value>,
    /// Tokens beside the vocabulary, in order of id.
    pub(super) added: Vec<(u32, AddedToken)>,
    /// Whether `added` is `added_tokens_decoder`, which says how the tokens of roles match.
    pub(super) decoder: bool,
}

impl<'a> Folder<'a> {
    /// Reads the configuration files; all of them may be absent.
    pub(super) fn read(dir: &'a Path) -> Result<Self, TextError> {
        let read = |name: &str| Ok(read_map(&dir.join(name))?.unwrap_or_default());
        let mut folder = Self {
            dir,
            config: read(TOKENIZER)?,
            model: read(MODEL)?,
            special: Map::new(),
            added: Vec::new(),
            decoder: false,
        };
        let path = dir.join(TOKENIZER);
        if let Some(decoder) = folder.config.get("added_tokens_decoder") {
            folder.added = JsonFile { path: &path }.added(decoder)?;
            folder.decoder = true;
        } else {
            folder.special = read(SPECIAL)?;
            folder.added = folder.added_file()?;
        }
        Ok(folder)
    }

    /// Whether the folder has a file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }

    /// A file that must be there.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>, TextError> {
        let path = self.dir.join(name);
        read_bytes(&path)?.ok_or_else(|| TextError::Missing {
            path,
            cure: "fetch it from where the checkpoint comes from".into(),
        })
    }

    /// The object in a file that must be there.
    pub(super) fn map(&self, name: &str) -> Result<Map<String, Value>, TextError> {
        parse_map(&self.dir.join(name), &self.bytes(name)?)
    }

    /// The text of a file that must be there; lines end with `\n` only.
    pub(super) fn lines(&self, name: &str) -> Result<String, TextError> {
        let text = String::from_utf8(self.bytes(name)?).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            self.damaged(name, format!("byte {at} is not UTF-8"))
        })?;
        Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
    }

    /// A file whose contents cannot be right.
    pub(super) fn damaged(&self, name: &str, cause: impl Into<String>) -> TextError {
        TextError::Damaged {
            path: self.dir.join(name),
            cause: cause.into(),
        }
    }

    pub(super) fn path(&self, source: Source) -> PathBuf {
        self.dir.join(match source {
            Source::Tokenizer => TOKENIZER,
            Source::Model => MODEL,
        })
    }

    /// A string of one file; `None` where it is absent or null.
    pub(super) fn text(&self, source: Source, key: &str) -> Result<Option<&str>, TextError> {
        let map = match source {
            Source::Tokenizer => &self.config,
            Source::Model => &self.model,
        };
        match map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                let path = &self.path(source);
                Err(JsonFile { path }.wrong(key, other, "a string"))
            }
        }
    }

    /// A flag of the tokenizer; as in Python, `null` counts as false.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, TextError> {
        let (name, map) = self.map_with(key);
        let path = &self.dir.join(name);
        Ok(JsonFile { path }.flag(map, key)?.unwrap_or(default))
    }

    /// A flag for which `null` and absence are a third choice.
    pub(super) fn choice(&self, key: &str) -> Result<Option<bool>, TextError> {
        match self.value(key) {
            None | Some((_, Value::Null)) => Ok(None),
            Some(_) => self.flag(key, false).map(Some),
        }
    }

    /// A number of tokens.
    pub(super) fn count(&self, key: &str, default: u64) -> Result<u64, TextError> {
        match self.value(key) {
            None => Ok(default),
            Some((name, value)) => value
                .as_u64()
                .filter(|&count| count <= MOST_EXTRA)
                .ok_or_else(|| self.wrong(name, key, value, "a number from 0 to 100000")),
        }
    }

    /// A value of the tokenizer's settings, and the file it is from.
    pub(super) fn value(&self, key: &str) -> Option<(&'static str, &Value)> {
        let (name, map) = self.map_with(key);
        map.get(key).map(|value| (name, value))
    }

    /// The values of a list, in both files.
    pub(super) fn list(&self, key: &str) -> Vec<(&'static str, &Value)> {
        let files = [(TOKENIZER, &self.config), (SPECIAL, &self.special)];
        let values = files
            .into_iter()
            .filter_map(|(name, map)| Some((name, map.get(key)?)));
        values.filter(|(_, value)| !value.is_null()).collect()
    }

    /// A token that a file writes as a string or as an object.
    pub(super) fn token(
        &self,
        name: &'static str,
        key: &str,
        value: &Value,
    ) -> Result<AddedToken, TextError> {
        let path = &self.dir.join(name);
        JsonFile { path }.token(key, value, name == SPECIAL)
    }

    pub(super) fn wrong(
        &self,
        name: &str,
        key: &str,
        value: &Value,
        wanted: &'static str,
    ) -> TextError {
        let path = &self.dir.join(name);
        JsonFile { path }.wrong(key, value, wanted)
    }

    /// The name of the file that `added` is from.
    pub(super) fn added_name(&self) -> &'static str {
        if self.decoder { TOKENIZER } else { ADDED }
    }

    fn map_with(&self, key: &str) -> (&'static str, &Map<String, Value>) {
        if self.special.contains_key(key) {
            (SPECIAL, &self.special)
        } else {
            (TOKENIZER, &self.config)
        }
    }

    /// `added_tokens.json`: contents and ids. Which of them are special, roles tell.
    fn added_file(&self) -> Result<Vec<(u32, AddedToken)>, TextError> {
        let path = &self.dir.join(ADDED);
        let mut added = Vec::new();
        for (content, id) in read_map(path)?.unwrap_or_default() {
            let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let number =
                number.ok_or_else(|| self.wrong(ADDED, &content, &id, "the id of a token"))?;
            added.push((number, AddedToken::from(content, false)));
        }
        added.sort_by_key(|&(id, _)| id);
        Ok(added)
    }
}
