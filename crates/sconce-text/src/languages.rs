//! The tokens of languages: how the tokenizers of models that translate between many of them name a language, and where
//! its token stands beside what is read (transformers' `set_src_lang_special_tokens` of each class).

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::TextError;
use crate::json::read_map;
use crate::tokenizer::Tokenizer;

/// How the tokenizer of a folder names languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Languages {
    class: Class,
    /// Whether the language stands behind the text, as NLLB's first tokenizers had it.
    legacy: bool,
    eos: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    MBart,
    MBart50,
    M2m100,
    Nllb,
}

const CLASSES: [(&str, Class); 4] = [
    ("MBartTokenizer", Class::MBart),
    ("MBart50Tokenizer", Class::MBart50),
    ("M2M100Tokenizer", Class::M2m100),
    ("NllbTokenizer", Class::Nllb),
];

/// The class of a model whose files name none.
const MODEL_TYPES: [(&str, Class); 2] = [("mbart", Class::MBart), ("m2m_100", Class::M2m100)];

impl Languages {
    /// Of the folder's tokenizer; `None`: it has no tokens for languages.
    pub fn read(dir: &Path) -> Result<Option<Self>, TextError> {
        let settings = read_map(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let config = read_map(&dir.join("config.json"))?.unwrap_or_default();
        let text = |map: &Map<String, Value>, key: &str| {
            map.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        let class = text(&settings, "tokenizer_class").or_else(|| text(&config, "tokenizer_class"));
        let class = match class {
            Some(name) => {
                let name = name.strip_suffix("Fast").unwrap_or(&name);
                CLASSES.iter().find(|(known, _)| *known == name)
            }
            None => {
                let kind = text(&config, "model_type").unwrap_or_default();
                MODEL_TYPES.iter().find(|(known, _)| *known == kind)
            }
        };
        let eos = settings.get("eos_token").and_then(|eos| {
            let content = eos.as_str().or_else(|| eos.get("content")?.as_str());
            content.map(str::to_owned)
        });
        let legacy = settings.get("legacy_behaviour").and_then(Value::as_bool);
        Ok(class.map(|(_, class)| Self {
            class: *class,
            legacy: legacy.unwrap_or(false),
            eos: eos.unwrap_or_else(|| "</s>".into()),
        }))
    }

    /// How the vocabulary spells the token of a language.
    pub fn spelled(&self, language: &str) -> String {
        match self.class {
            Class::M2m100 => format!("__{language}__"),
            _ => language.to_owned(),
        }
    }

    /// Languages as such models name them, as the name of a task has them.
    pub fn example(&self) -> &'static str {
        match self.class {
            Class::MBart | Class::MBart50 => "en_XX_to_ro_RO",
            Class::M2m100 => "en_to_fr",
            Class::Nllb => "eng_Latn_to_fra_Latn",
        }
    }

    /// The token of a language, if there is one.
    pub fn token(&self, tokenizer: &Tokenizer, language: &str) -> Option<u32> {
        let id = tokenizer.id_of(&self.spelled(language))?;
        // A word of the vocabulary is no language.
        tokenizer.is_special(id).then_some(id)
    }

    /// What stands before a text of the language with that token, and behind it.
    pub fn frame(&self, tokenizer: &Tokenizer, language: u32) -> (Vec<u32>, Vec<u32>) {
        let eos: Vec<u32> = tokenizer.id_of(&self.eos).into_iter().collect();
        match (self.class, self.legacy) {
            (Class::MBart, _) | (Class::Nllb, true) => {
                (Vec::new(), eos.into_iter().chain([language]).collect())
            }
            _ => (vec![language], eos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &str, config: &str) -> Option<Languages> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Languages::read(dir.path()).unwrap()
    }

    #[test]
    fn the_class_of_the_tokenizer_says_how_languages_are_named() {
        let m2m = read("{}", r#"{"model_type": "m2m_100"}"#).unwrap();
        assert_eq!(m2m.spelled("en"), "__en__");
        let nllb = read(
            r#"{"tokenizer_class": "NllbTokenizerFast"}"#,
            r#"{"model_type": "m2m_100"}"#,
        );
        assert_eq!(nllb.unwrap().spelled("eng_Latn"), "eng_Latn");
        assert_eq!(
            read(
                r#"{"tokenizer_class": "T5Tokenizer"}"#,
                r#"{"model_type": "mbart"}"#
            ),
            None
        );
        assert_eq!(read("{}", r#"{"model_type": "t5"}"#), None);
    }
}
