//! Tokens with a role that tasks ask for (mask, unknown, class, padding), and the longest text, from
//! `tokenizer_config.json` and `special_tokens_map.json`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::TextError;
use crate::json::read_map;

/// A role of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stands for a word that is to be found.
    Mask,
    /// Stands for what the vocabulary lacks.
    Unknown,
    /// Begins a text.
    Class,
    /// Fills up short texts.
    Padding,
}

impl Role {
    const ALL: [Self; 4] = [Self::Mask, Self::Unknown, Self::Class, Self::Padding];

    fn key(self) -> &'static str {
        match self {
            Self::Mask => "mask_token",
            Self::Unknown => "unk_token",
            Self::Class => "cls_token",
            Self::Padding => "pad_token",
        }
    }

    /// How the tokenizer classes spell it where no file does.
    fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Mask => &["[MASK]", "<mask>"],
            Self::Unknown => &["[UNK]", "<unk>"],
            Self::Class => &["[CLS]", "<s>"],
            Self::Padding => &["[PAD]", "<pad>"],
        }
    }
}

/// The texts of the tokens with a role, and the longest text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    named: [Option<String>; 4],
    pub(crate) max_len: Option<usize>,
}

impl Roles {
    pub(crate) fn read(dir: &Path) -> Result<Self, TextError> {
        let config = read_map(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let map = read_map(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        let named = Role::ALL.map(|role| {
            let of = |map: &Map<String, Value>| content(map.get(role.key())?);
            of(&config).or_else(|| of(&map))
        });
        // transformers writes 10^30 for "no limit".
        let max_len = config.get("model_max_length").and_then(Value::as_u64);
        Ok(Self {
            named,
            max_len: max_len.map(|len| len as usize).filter(|len| *len > 0),
        })
    }

    /// The id of a role's token, as `id_of` finds it in the vocabulary.
    pub(crate) fn id(&self, role: Role, id_of: impl Fn(&str) -> Option<u32>) -> Option<u32> {
        match &self.named[role as usize] {
            Some(text) => id_of(text),
            None => role.usual().iter().find_map(|text| id_of(text)),
        }
    }
}

/// A token written as a string or as an object.
fn content(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str());
    text.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::unigram;
    use serde_json::json;

    #[test]
    fn roles_come_from_the_files_or_are_spelled_as_usual() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"mask_token": {"content": "[M]"}, "model_max_length": 1e30});
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let map = json!({"mask_token": "no", "cls_token": "[C]"});
        std::fs::write(dir.path().join("special_tokens_map.json"), map.to_string()).unwrap();
        let roles = Roles::read(dir.path()).unwrap();
        let ids = |text: &str| match text {
            "[M]" => Some(7),
            "<pad>" => Some(1),
            _ => None,
        };
        assert_eq!(roles.id(Role::Mask, ids), Some(7));
        assert_eq!(roles.id(Role::Padding, ids), Some(1));
        assert_eq!(roles.id(Role::Class, ids), None);
        assert_eq!(roles.max_len, None);
    }

    #[test]
    fn a_tokenizer_knows_its_roles_and_its_longest_text() {
        let config = json!({"unk_token": "dle", "model_max_length": 12});
        let tokenizer = unigram(crate::testing::llama_decoder(), config);
        assert_eq!(tokenizer.max_len(), Some(12));
        let id = tokenizer.role(Role::Unknown).unwrap();
        assert_eq!(tokenizer.spelling(id).as_deref(), Some("dle"));
        assert_eq!(tokenizer.role(Role::Mask), None);
    }
}
