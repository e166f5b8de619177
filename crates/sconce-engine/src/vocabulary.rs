//! The tokenizer of a GGUF file: the keys `tokenizer.ggml.*` as a vocabulary for `sconce-text`.

use sconce_nn::weights::WeightError;
use sconce_nn::weights::gguf::Metadata;
use sconce_text::{ChatTemplate, TextError, TokenKind, Tokenizer, Vocabulary, VocabularyModel};

use crate::error::EngineError;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const TEMPLATE: &str = "tokenizer.chat_template";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
/// Ids that SentencePiece's own files have, where such a file does not say others.
const UNKNOWN_TOKEN: u32 = 0;
const FIRST_TOKEN: u32 = 1;
const LAST_TOKEN: u32 = 2;

/// Builds the tokenizer that the file describes.
pub(crate) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer, EngineError> {
    let kind = metadata
        .text(MODEL)?
        .ok_or_else(|| metadata.refuse(MODEL, "gpt2 or llama, the kind of its tokenizer"))?;
    let tokens = metadata
        .texts(TOKENS)?
        .ok_or_else(|| metadata.refuse(TOKENS, "the list of all tokens"))?;
    let (bos, eos) = (id(metadata, "bos")?, id(metadata, "eos")?);
    let (model, bos, eos) = match kind {
        "gpt2" => (byte_level(metadata)?, bos, eos),
        "llama" => (
            sentence_piece(metadata)?,
            bos.or(Some(FIRST_TOKEN)),
            eos.or(Some(LAST_TOKEN)),
        ),
        other => {
            return Err(EngineError::Text(TextError::Vocabulary {
                path: metadata.path().to_owned(),
                cause: format!("its key `{MODEL}` is {other:?}, a tokenizer that is not read"),
                supported: "gpt2, llama".to_owned(),
            }));
        }
    };
    let vocabulary = Vocabulary {
        path: metadata.path(),
        model,
        tokens: tokens.collect(),
        kinds: kinds(metadata)?,
        bos,
        eos,
        add_bos: metadata.flag("tokenizer.ggml.add_bos_token")?,
        add_eos: metadata
            .flag("tokenizer.ggml.add_eos_token")?
            .unwrap_or(false),
    };
    Ok(Tokenizer::of(&vocabulary)?)
}

/// The templates of dialogues in the file, with the tokens that they may write.
pub(crate) fn templates(metadata: &Metadata) -> Result<Option<ChatTemplate>, TextError> {
    let text = |key: &str| metadata.text(key).ok().flatten();
    let Some(default) = text(TEMPLATE) else {
        return Ok(None);
    };
    let names = metadata.texts("tokenizer.chat_templates").ok().flatten();
    let names: Vec<String> = names.into_iter().flatten().map(str::to_owned).collect();
    let mut found = vec![("default", default)];
    for name in &names {
        if let Some(more) = text(&format!("{TEMPLATE}.{name}")) {
            found.push((name, more));
        }
    }
    let spelled = |role: &str| {
        let id = id(metadata, role).ok().flatten()? as usize;
        let token = metadata.texts(TOKENS).ok().flatten()?.nth(id)?;
        Some(token.to_owned())
    };
    let roles = [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("pad_token", "padding"),
        ("unk_token", "unknown"),
    ];
    let tokens = roles
        .iter()
        .filter_map(|(key, role)| Some((*key, spelled(role)?)));
    let tokens: Vec<_> = tokens.collect();
    ChatTemplate::of(metadata.path(), &found, &tokens).map(Some)
}

fn byte_level(metadata: &Metadata) -> Result<VocabularyModel<'_>, WeightError> {
    let pre = metadata.text(PRE)?.ok_or_else(|| {
        metadata.refuse(
            PRE,
            "the name of its pre-tokenizer, which files made before April 2024 lack: convert the model anew, or put its \
             tokenizer.json beside the file",
        )
    })?;
    let merges = metadata
        .texts(MERGES)?
        .ok_or_else(|| metadata.refuse(MERGES, "the list of its merges"))?;
    Ok(VocabularyModel::ByteLevel {
        pre,
        merges: merges.collect(),
    })
}

fn sentence_piece(metadata: &Metadata) -> Result<VocabularyModel<'_>, WeightError> {
    let scores = metadata
        .numbers(SCORES)?
        .ok_or_else(|| metadata.refuse(SCORES, "the list of the scores of its tokens"))?;
    Ok(VocabularyModel::SentencePiece {
        scores: scores.collect(),
        unknown: id(metadata, "unknown")?.unwrap_or(UNKNOWN_TOKEN),
        prefix: metadata
            .flag("tokenizer.ggml.add_space_prefix")?
            .unwrap_or(true),
    })
}

fn kinds(metadata: &Metadata) -> Result<Vec<TokenKind>, WeightError> {
    const WANTED: &str = "a list of numbers from 1 to 6, the types of its tokens";
    let refuse = || metadata.refuse(TYPES, WANTED);
    let numbers = metadata.numbers(TYPES)?.ok_or_else(refuse)?;
    numbers
        .map(|number| TokenKind::of(number).ok_or_else(refuse))
        .collect()
}

/// The id of a token with a role.
fn id(metadata: &Metadata, role: &str) -> Result<Option<u32>, WeightError> {
    let key = format!("tokenizer.ggml.{role}_token_id");
    let id = metadata.whole(&key)?.map(u32::try_from).transpose();
    id.map_err(|_| metadata.refuse(&key, "the id of a token"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::{Path, PathBuf};

    use flate2::read::GzDecoder;
    use sconce_nn::weights::gguf::Gguf;
    use serde_json::Value;

    use super::*;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
    }

    fn open(name: &str) -> Tokenizer {
        let path = fixtures()
            .join("gguf/tokenizers")
            .join(name)
            .with_extension("gguf");
        tokenizer(Gguf::open(&path).unwrap().metadata()).unwrap()
    }

    fn packed(name: &str) -> Value {
        let file = std::fs::File::open(fixtures().join("tokenizers").join(name)).unwrap();
        let mut text = String::new();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// Compares with transformers' goldens of the same vocabulary; every `step`th text has one. `differ` may: texts
    /// that need what such files do not tell.
    fn check(name: &str, step: usize, differ: impl Fn(&str) -> bool) {
        check_with(name, step, differ, &[]);
    }

    /// The same; lists with one of the `odd` ids are not decoded.
    fn check_with(name: &str, step: usize, differ: impl Fn(&str) -> bool, odd: &[u32]) {
        let tokenizer = open(name);
        let golden = packed(&format!("golden/{name}.json.gz"));
        let texts = packed("texts.json.gz");
        let texts = texts.as_array().unwrap().iter().step_by(step);
        let mut compared = 0;
        for (text, want) in texts.zip(golden["ids"].as_array().unwrap()) {
            let text = text.as_str().unwrap();
            if differ(text) {
                continue;
            }
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                ids(want),
                "{name}: {text:?}"
            );
            compared += 1;
        }
        assert!(compared > 100 / step, "{name}: {compared}");
        let decoded = golden["ids"].as_array().unwrap().iter();
        let decoded = decoded.chain(golden["random"].as_array().unwrap());
        for (place, list) in decoded.enumerate() {
            let ids = ids(list);
            if ids.iter().any(|id| odd.contains(id)) {
                continue;
            }
            for (key, skip) in [("keep", false), ("skip", true)] {
                if let Some(want) = golden[key][place].as_str() {
                    let got = tokenizer.decode(&ids, skip).unwrap();
                    assert_eq!(got, want, "{name}: {ids:?}, {key}");
                }
            }
        }
    }

    #[test]
    fn byte_level_vocabularies_give_the_ids_of_transformers() {
        check("gpt2", 1, |_| false);
        // That this token takes the spaces behind it, no key says.
        check("qwen2", 1, |text| text.contains("NEW WORD"));
    }

    #[test]
    fn sentence_piece_vocabularies_give_the_ids_of_transformers() {
        check("llama", 1, |_| false);
        // Its special tokens are looked for in the normalised text, which no key says.
        let special = ["<unk>", "<s>", "</s>"];
        check("llama_eos", 8, |text| {
            special.iter().any(|token| text.contains(token))
        });
        // Its tokens of several spaces are spelled with spaces in such files, and with these in the checkpoint; its
        // mask is no control token there.
        check_with("gemma", 1, |text| text.contains('▁'), &[4, 9, 10]);
    }

    #[test]
    fn missing_and_impossible_keys_are_named() {
        let whole = std::fs::read(fixtures().join("gguf/tokenizers/gpt2.gguf")).unwrap();
        let changed = |find: &str, with: &str| {
            let mut bytes = whole.clone();
            let find = find.as_bytes();
            let at = bytes.windows(find.len()).position(|window| window == find);
            let end = at.unwrap() + find.len();
            bytes[end - with.len()..end].copy_from_slice(with.as_bytes());
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.gguf");
            std::fs::write(&path, bytes).unwrap();
            let file = Gguf::open(&path).unwrap();
            tokenizer(file.metadata()).err().unwrap().to_string()
        };
        for (find, with, part) in [
            (
                "tokenizer.ggml.model",
                "X",
                "no key `tokenizer.ggml.model`, which must be gpt2 or llama",
            ),
            (
                "tokenizer.ggml.pre",
                "X",
                "no key `tokenizer.ggml.pre`, which must be the name of its pre-tokenizer",
            ),
            (
                "tokenizer.ggml.tokens",
                "X",
                "no key `tokenizer.ggml.tokens`",
            ),
            (
                "tokenizer.ggml.token_type",
                "X",
                "no key `tokenizer.ggml.token_type`",
            ),
            (
                "tokenizer.ggml.merges",
                "X",
                "no key `tokenizer.ggml.merges`",
            ),
            (
                "\u{5}\0\0\0\0\0\0\0gpt-2",
                "9",
                "its pre-tokenizer \"gpt-9\" is not supported; supported: llama-bpe",
            ),
            (
                "\u{4}\0\0\0\0\0\0\0gpt2",
                "bert",
                "is \"bert\", a tokenizer that is not read; supported: gpt2, llama",
            ),
        ] {
            let message = changed(find, with);
            assert!(
                message.contains("m.gguf") && message.contains(part),
                "{message}"
            );
        }
    }
}
