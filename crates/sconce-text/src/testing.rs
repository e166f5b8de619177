//! Small tokenizers for the tests of this crate.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::error::TextError;
use crate::tokenizer::Tokenizer;

/// Opens a directory with these two files.
pub(crate) fn open(tokenizer: &str, config: &str) -> Result<Tokenizer, TextError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    Tokenizer::open(dir.path())
}

/// A tokenizer of these parts; special tokens `<s>` and `</s>` get the ids after `model`.
pub(crate) fn build(
    model: Value,
    decoder: Value,
    pre_tokenizer: Value,
    config: Value,
) -> Arc<Tokenizer> {
    let entries = model["vocab"].as_object().map_or_else(
        || model["vocab"].as_array().unwrap().len(),
        serde_json::Map::len,
    );
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(entries, "<s>"), special(entries + 1, "</s>")],
        "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": decoder, "model": model,
    });
    Arc::new(open(&file.to_string(), &config.to_string()).unwrap())
}

/// All bytes in GPT-2's spelling, and three merges.
pub(crate) fn byte_level() -> Arc<Tokenizer> {
    let mut alphabet: Vec<_> = ByteLevel::alphabet()
        .into_iter()
        .map(String::from)
        .collect();
    alphabet.sort();
    alphabet.extend(["th", "Ġth", "ðŁ"].map(String::from));
    let vocab: serde_json::Map<_, _> = (0..)
        .zip(alphabet)
        .map(|(id, token)| (token, json!(id)))
        .collect();
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    build(
        json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
               "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
               "vocab": vocab, "merges": ["t h", "Ġ th", "ð Ł"]}),
        level.clone(),
        level,
        json!({}),
    )
}

/// Words and all byte tokens, decoded by `decoder`.
pub(crate) fn unigram(decoder: Value, config: Value) -> Arc<Tokenizer> {
    let words = [
        "<unk>", "▁", "▁the", "▁can", "dle", "s", "▁.", "▁'", "▁n't", "▁", "é", "世", "\u{FFFD}",
        "▁▁a", ".", "re",
    ];
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let mut seen = std::collections::HashSet::new();
    let vocab: Vec<_> = words
        .map(String::from)
        .into_iter()
        .chain(bytes)
        .filter(|token| seen.insert(token.clone()))
        .enumerate()
        .map(|(rank, token)| json!([token, -(rank as f64)]))
        .collect();
    build(
        json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": vocab}),
        decoder,
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}),
        config,
    )
}

/// The decoder of Llama's SentencePiece tokenizers.
pub(crate) fn llama_decoder() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]})
}

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
