//! `tokenizer.json`, with the meaning that transformers gives it.
//!
//! The `tokenizers` crate does the work; here are the files, the special tokens and the clean-up
//! that transformers adds, and a guard: a panic of the crate on a strange file is an error.

use std::path::Path;

use tokenizers::{Decoder, EncodeInput, Model, ModelWrapper};

use crate::error::TextError;
use crate::files::{self, Vocabulary};
use crate::guard::guarded;
use crate::roles::{Role, Roles};
use crate::settings::Settings;
use crate::source::Source;
use crate::stages::{CLEAN_UP, Stage, clean_up_stages, stages};

/// Text to ids and back, for one checkpoint. Shared between threads as it is.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What cuts texts, if that is another.
    source: Option<Source>,
    added_as_written: bool,
    clean_up: bool,
    stages: Vec<Stage>,
    roles: Roles,
}

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint's folder: `tokenizer.json`, or else the vocabulary
    /// files of older checkpoints, with `tokenizer_config.json` and the other configuration files
    /// beside them. Truncation and padding in the files are not applied.
    pub fn open(dir: &Path) -> Result<Self, TextError> {
        let settings = Settings::read(dir)?;
        let read = files::read(dir, &settings)?;
        let bpe = matches!(read.inner.get_model(), ModelWrapper::BPE(_));
        let wanted = settings.clean_up.unwrap_or(read.clean_up);
        let clean_up = wanted && (!bpe || settings.clean_up_bpe);
        let mut stages = stages(read.inner.get_decoder());
        if clean_up {
            stages.extend(clean_up_stages());
        }
        Ok(Self {
            inner: read.inner,
            source: read.source,
            added_as_written: read.added_as_written,
            clean_up,
            stages,
            roles: Roles::read(dir)?,
        })
    }

    /// The tokenizer of a vocabulary at hand.
    pub fn of(vocabulary: &Vocabulary) -> Result<Self, TextError> {
        let inner = vocabulary.build()?;
        Ok(Self {
            stages: stages(inner.get_decoder()),
            inner,
            source: None,
            added_as_written: true,
            clean_up: false,
            roles: Roles::default(),
        })
    }

    /// The ids of a text, with the special tokens that the post-processor adds
    /// (`add_special_tokens=True`); special tokens written in the text become their ids.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let ids = match &self.source {
            None => self.ids(text, true),
            Some(source) => source.cut(text, &self.inner).map(|pieces| {
                let [before, behind] = source.ends();
                let ids = pieces.iter().map(|piece| piece.id).collect::<Vec<_>>();
                [before, &ids, behind].concat()
            }),
        };
        ids.map_err(|cause| TextError::Encode {
            bytes: text.len(),
            cause,
        })
    }

    /// The ids of a text to which nothing is added (`add_special_tokens=False`); special tokens written in the text become
    /// their ids.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let ids = match &self.source {
            None => self.ids(text, false),
            Some(source) => source
                .cut(text, &self.inner)
                .map(|pieces| pieces.iter().map(|piece| piece.id).collect()),
        };
        ids.map_err(|cause| TextError::Encode {
            bytes: text.len(),
            cause,
        })
    }

    /// The ids of a text or a pair of texts, with or without the special tokens that the
    /// post-processor adds; or why there are none.
    pub(crate) fn ids<'t>(
        &self,
        input: impl Into<EncodeInput<'t>>,
        add_special: bool,
    ) -> Result<Vec<u32>, String> {
        guarded(|| self.inner.encode_fast(input, add_special))
            .map(|encoding| encoding.get_ids().to_vec())
    }

    /// The text of all ids at once, cleaned up as the configuration says. Ids beyond the vocabulary have no text.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        self.decode_cleaned(ids, skip_special, self.clean_up)
    }

    /// The same, cleaned up or not whatever the configuration says (`clean_up_tokenization_spaces`).
    pub fn decode_cleaned(
        &self,
        ids: &[u32],
        skip_special: bool,
        clean: bool,
    ) -> Result<String, TextError> {
        let tokens: Vec<_> = ids
            .iter()
            .filter_map(|&id| self.token(id, skip_special))
            .collect();
        if tokens.is_empty() {
            return Ok(String::new());
        }
        let text = match self.inner.get_decoder() {
            Some(decoder) => {
                guarded(|| decoder.decode(tokens)).map_err(|cause| TextError::Decode {
                    count: ids.len(),
                    cause,
                })?
            }
            None => tokens.join(" "),
        };
        Ok(if clean { clean_up(text) } else { text })
    }

    /// The text of one id by itself, special or not; empty beyond the vocabulary, U+FFFD for a
    /// part of a code point.
    pub fn token_text(&self, id: u32) -> String {
        self.decode(&[id], false).unwrap_or_default()
    }

    /// Whether the id is a special token, which `skip_special` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id, false).is_some() && self.token(id, true).is_none()
    }

    /// The id of the token with a role, if there is one.
    pub fn role(&self, role: Role) -> Option<u32> {
        self.roles.id(role, |text| self.id_of(text))
    }

    /// Tokens of the longest text that the configuration allows (`model_max_length`), if it says so.
    pub fn max_len(&self) -> Option<usize> {
        self.roles.max_len
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How the vocabulary spells a token; `None` beyond it.
    pub fn spelling(&self, id: u32) -> Option<String> {
        self.token(id, false)
    }

    /// The text that these spellings make (`convert_tokens_to_string`).
    pub fn joined(&self, spellings: Vec<String>) -> String {
        match self.inner.get_decoder() {
            Some(decoder) => guarded(|| decoder.decode(spellings)).unwrap_or_default(),
            None => spellings.join(" "),
        }
    }

    /// Whether parts of words that do not begin one are spelled with a prefix, as WordPiece does.
    pub fn has_word_parts(&self) -> bool {
        match self.inner.get_model() {
            ModelWrapper::WordPiece(model) => !model.continuing_subword_prefix.is_empty(),
            ModelWrapper::BPE(model) => {
                let prefix = model.continuing_subword_prefix.as_ref();
                prefix.is_some_and(|prefix| !prefix.is_empty())
            }
            _ => false,
        }
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id's token as the vocabulary spells it; `None` beyond the vocabulary, or if special
    /// tokens are to be skipped and this is one.
    pub(crate) fn token(&self, id: u32, skip_special: bool) -> Option<String> {
        let added = self.inner.get_added_vocabulary();
        let written = || Some(added.get_added_tokens_decoder().get(&id)?.content.clone());
        let token = if self.added_as_written {
            written()
        } else {
            added.simple_id_to_token(id)
        };
        let token = token.or_else(|| self.inner.get_model().id_to_token(id))?;
        (!skip_special || !added.is_special_token(&token)).then_some(token)
    }

    /// The tokenizer of the crate.
    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// What cuts texts, if that is another.
    pub(crate) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Fresh stages for a stream.
    pub(crate) fn stages(&self) -> &[Stage] {
        &self.stages
    }
}

/// transformers' `clean_up_tokenization`.
fn clean_up(text: String) -> String {
    CLEAN_UP
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{byte_level, llama_decoder, open, repository, unigram};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn broken_files_are_reported_by_kind() {
        let error = open("{\"version\": \"1.0\",\n oops", "{}").err().unwrap();
        assert!(
            matches!(error, TextError::NotJson { line: 2, .. }),
            "{error}"
        );
        let error = open("{\"version\": \"1.0\"}", "{}").err().unwrap();
        assert!(matches!(error, TextError::NotTokenizer { .. }), "{error}");
        let error = open("version https://git-lfs.github.com/spec/v1\n", "{}")
            .err()
            .unwrap();
        assert!(matches!(error, TextError::LfsPointer { .. }), "{error}");
    }

    #[test]
    fn ids_beyond_the_vocabulary_have_no_text() {
        let tokenizer = byte_level();
        assert_eq!(tokenizer.decode(&[9999, u32::MAX], false).unwrap(), "");
        assert_eq!(tokenizer.token_text(9999), "");
        assert!(!tokenizer.is_special(9999));
    }

    #[test]
    fn special_tokens_in_the_text_are_recognised_and_skipped() {
        let tokenizer = byte_level();
        let end = tokenizer.vocab_size() as u32 - 1;
        let found = tokenizer.encode("the</s>").unwrap();
        assert_eq!(found.last(), Some(&end));
        assert!(tokenizer.is_special(end) && !tokenizer.is_special(0));
        assert_eq!(tokenizer.decode(&found, true).unwrap(), "the");
        assert_eq!(tokenizer.decode(&found, false).unwrap(), "the</s>");
    }

    #[test]
    fn a_role_in_the_configuration_makes_a_token_special() {
        let tokenizer = unigram(
            llama_decoder(),
            json!({"eos_token": "dle", "pad_token": "[PAD]"}),
        );
        let id = tokenizer
            .encode("dle")
            .unwrap()
            .into_iter()
            .find(|&id| tokenizer.is_special(id));
        assert_eq!(tokenizer.token_text(id.unwrap()), "dle");
        // A role without an id gets none.
        assert_eq!(
            tokenizer.vocab_size(),
            unigram(llama_decoder(), json!({})).vocab_size()
        );
    }

    #[test]
    fn transformers_gives_the_same_ids_and_texts() {
        let path = repository("tests/fixtures/text/golden.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let name = &case["name"];
            let tokenizer =
                open(&case["tokenizer"].to_string(), &case["config"].to_string()).unwrap();
            assert_eq!(json!(tokenizer.vocab_size()), case["vocab_size"], "{name}");
            for run in case["encode"].as_array().unwrap() {
                let found = tokenizer.encode(run["text"].as_str().unwrap()).unwrap();
                assert_eq!(found, ids(&run["ids"]), "{name}: {}", run["text"]);
            }
            for run in case["decode"].as_array().unwrap() {
                let ids = ids(&run["ids"]);
                assert_eq!(
                    json!(tokenizer.decode(&ids, true).unwrap()),
                    run["skip"],
                    "{name}: {ids:?}"
                );
                assert_eq!(
                    json!(tokenizer.decode(&ids, false).unwrap()),
                    run["keep"],
                    "{name}: {ids:?}"
                );
            }
        }
    }

    #[test]
    fn the_tiny_models_prompts_give_the_reference_ids() {
        let mut checked = 0;
        for entry in std::fs::read_dir(repository("models/tiny")).unwrap() {
            let dir = entry.unwrap().path();
            let Ok(golden) = std::fs::read(dir.join("golden.json")) else {
                continue;
            };
            let golden: Value = serde_json::from_slice(&golden).unwrap();
            let tokenizer = Tokenizer::open(&dir).unwrap();
            for run in golden["runs"].as_array().unwrap() {
                let found = tokenizer.encode(run["prompt"].as_str().unwrap()).unwrap();
                assert_eq!(
                    found,
                    ids(&run["ids"]),
                    "{}: {}",
                    dir.display(),
                    run["prompt"]
                );
                let text = tokenizer.decode(&ids(&run["greedy"]), true).unwrap();
                assert_eq!(json!(text), run["text"], "{}", dir.display());
                checked += 1;
            }
        }
        assert!(checked > 0, "no golden.json under models/tiny");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z▁ ]{0,3}".prop_map(Value::from),
            prop_oneof![
                Just("BPE"),
                Just("Unigram"),
                Just("Sequence"),
                Just("Strip"),
                Just("ByteLevel")
            ]
            .prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("type"),
            Just("model"),
            Just("vocab"),
            Just("merges"),
            Just("decoder"),
            Just("decoders"),
            Just("added_tokens"),
            Just("content"),
            Just("id"),
            Just("pattern"),
            Just("unk_id"),
            Just("start"),
            Just("stop"),
            Just("normalizer"),
            Just("pre_tokenizer"),
            Just("post_processor"),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            let object = proptest::collection::vec((key.clone(), inner.clone()), 0..6);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                object
                    .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            ]
        })
    }

    static GOOD: LazyLock<Value> = LazyLock::new(|| {
        let path = repository("tests/fixtures/text/golden.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        golden["cases"][0]["tokenizer"].clone()
    });

    proptest! {
        #[test]
        fn foreign_json_never_panics(value in any_json(), part in "[a-z]{1,12}", file in any_json()) {
            let _ = open(&file.to_string(), "{}");
            let _ = open("{}", &value.to_string());
            // A good file in which one part is strange.
            let mut good = GOOD.clone();
            let keys: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
            good[&keys[part.len() % keys.len()]] = value;
            if let Ok(tokenizer) = open(&good.to_string(), "{}") {
                let ids = tokenizer.encode("a b").unwrap_or_default();
                let _ = tokenizer.decode(&ids, true);
            }
        }
    }
}
