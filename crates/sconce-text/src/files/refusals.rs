//! Files that cannot be right: the error names file, place and cure, and nothing panics.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::Tokenizer;
use crate::files::goldens::Case;

/// Writes the files of a case and `changes`, and says why it cannot be opened.
fn refused(case: &str, changes: &[(&str, &[u8])]) -> String {
    let folder = Case::named(case).folder();
    for (name, bytes) in changes {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    refusal(folder.path())
}

fn refusal(dir: &Path) -> String {
    match Tokenizer::open(dir) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn an_empty_folder_names_all_files_that_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let parts = [
        "tokenizer.json",
        "vocab.json with merges.txt",
        "vocab.txt",
        "tokenizer.model",
        "spiece.model",
        "save_pretrained",
    ];
    assert_says(&refusal(dir.path()), &parts);
    std::fs::write(dir.path().join("tekken.json"), "{}").unwrap();
    assert_says(
        &refusal(dir.path()),
        &["there is tekken.json, a form that is not read"],
    );
}

#[test]
fn a_missing_file_of_a_known_class_is_named_with_who_needs_it() {
    let folder = Case::named("gpt2").folder();
    std::fs::write(folder.path().join("vocab.txt"), "[UNK]\n").unwrap();
    std::fs::remove_file(folder.path().join("merges.txt")).unwrap();
    let parts = ["merges.txt does not exist", "GPT2Tokenizer", "vocab.json"];
    assert_says(&refusal(folder.path()), &parts);
}

#[test]
fn unknown_classes_are_refused_with_those_that_are_known() {
    let known = ["BertTokenizer", "LlamaTokenizer", "save_pretrained"];
    let config = json!({"tokenizer_class": "TapasTokenizer"}).to_string();
    let error = refused("bert", &[("tokenizer_config.json", config.as_bytes())]);
    assert_says(&error, &["tokenizer_config.json", "\"TapasTokenizer\""]);
    assert_says(&error, &known);
    let config = json!({"model_type": "xlm"}).to_string();
    let error = refused("gpt2", &[("config.json", config.as_bytes())]);
    assert_says(&error, &["config.json", "`model_type`", "\"xlm\""]);
    assert_says(&error, &known);
}

#[test]
fn a_vocabulary_of_several_classes_needs_a_name() {
    let parts = ["spiece.model", "several ways", "tokenizer_class"];
    assert_says(&refused("t5", &[("config.json", b"{}")]), &parts);
}

/// Case, file, its new contents, what the error says.
type Damage = (
    &'static str,
    &'static str,
    &'static [u8],
    &'static [&'static str],
);

const DAMAGES: &[Damage] = &[
    (
        "gpt2",
        "vocab.json",
        b"{\"a\": 0,\n oops",
        &["vocab.json", "line 2"],
    ),
    (
        "gpt2",
        "vocab.json",
        b"{\"a\": \"x\"}",
        &["vocab.json", "the id of a token"],
    ),
    (
        "gpt2",
        "vocab.json",
        b"{\"a\": 0, \"b\": 0}",
        &["\"a\" and \"b\" have the same id 0"],
    ),
    (
        "gpt2",
        "vocab.json",
        b"{\"a\": 0, \"b\": 7}",
        &["\"b\" has the id 7", "only 2 tokens"],
    ),
    (
        "gpt2",
        "vocab.json",
        b"version https://git-lfs.github.com/spec/v1\n",
        &["vocab.json", "git lfs"],
    ),
    (
        "gpt2",
        "merges.txt",
        b"#version: 0.2\na b\na b c\n",
        &["merges.txt", "line 3", "\"a b c\"", "two tokens"],
    ),
    (
        "gpt2",
        "merges.txt",
        b"#version: 0.2\nnever there\n",
        &["merges.txt", "never"],
    ),
    (
        "gpt2",
        "merges.txt",
        b"\xff\n",
        &["merges.txt", "byte 0 is not UTF-8"],
    ),
    (
        "bert",
        "vocab.txt",
        b"[UNK]\na\nb\na\n",
        &["vocab.txt", "\"a\"", "line 2", "line 4"],
    ),
    (
        "bert",
        "vocab.txt",
        b"a\nb\n",
        &["vocab.txt", "unknown token \"[UNK]\""],
    ),
    (
        "llama",
        "tokenizer.model",
        b"x",
        &["tokenizer.model", "no SentencePiece model"],
    ),
    (
        "llama",
        "tokenizer.model",
        b"",
        &["tokenizer.model", "ends before its trainer's settings"],
    ),
    (
        "vicuna",
        "added_tokens.json",
        b"{\"<pad>\": 800}",
        &["added_tokens.json", "\"<pad>\"", "800", "700"],
    ),
    (
        "t5_new",
        "tokenizer_config.json",
        b"{\"tokenizer_class\": \"T5Tokenizer\", \"extra_ids\": 4000000000}",
        &["extra_ids", "4000000000", "100000"],
    ),
    (
        "llama_eos",
        "tokenizer_config.json",
        b"{\"tokenizer_class\": \"LlamaTokenizer\", \"add_bos_token\": true, \"bos_token\": null}",
        &["tokenizer_config.json", "bos_token", "add_bos_token"],
    ),
    (
        "bert",
        "tokenizer_config.json",
        b"{\"do_lower_case\": \"no\"}",
        &["do_lower_case", "\"no\"", "true or false"],
    ),
];

#[test]
fn damaged_files_are_named_with_place_and_cause() {
    for (case, file, bytes, parts) in DAMAGES {
        assert_says(&refused(case, &[(file, bytes)]), parts);
    }
}

#[test]
fn a_vocabulary_alone_is_read_where_one_class_must_be_meant() {
    for case in ["gpt2", "bert", "llama"] {
        let folder = Case::named(case).folder();
        let named = Tokenizer::open(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        let alone = Tokenizer::open(folder.path()).unwrap();
        assert_eq!(alone.encode("a b").unwrap(), named.encode("a b").unwrap());
    }
}

#[test]
fn a_model_file_that_was_cut_off_is_never_read() {
    for (case, name) in [
        ("llama", "tokenizer.model"),
        ("camembert", "sentencepiece.bpe.model"),
    ] {
        let folder = Case::named(case).folder();
        let path = folder.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        // The last bytes are settings that are not used.
        for length in (0..whole.len() - 400).step_by(61) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_says(&refusal(folder.path()), &[name]);
        }
    }
}

#[test]
fn a_piece_that_stands_twice_is_named() {
    // Protobuf messages end to end are one message: all pieces come again.
    let folder = Case::named("llama").folder();
    let path = folder.path().join("tokenizer.model");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, bytes.repeat(2)).unwrap();
    let parts = ["tokenizer.model", "the ids 0 and 700 are both \"<unk>\""];
    assert_says(&refusal(folder.path()), &parts);
}

/// One case a kind, and its vocabulary's file.
const KINDS: [(&str, &str); 6] = [
    ("gpt2", "vocab.json"),
    ("gpt2", "merges.txt"),
    ("bert", "vocab.txt"),
    ("llama", "tokenizer.model"),
    ("xlnet", "spiece.model"),
    ("xlm_roberta", "sentencepiece.bpe.model"),
];

const KEYS: [&str; 8] = [
    "add_prefix_space",
    "added_tokens_decoder",
    "additional_special_tokens",
    "bos_token",
    "extra_special_tokens",
    "legacy",
    "tokenizer_class",
    "unk_token",
];

fn any_setting() -> impl Strategy<Value = Value> {
    let token = || "[<>a-z▁ ]{0,4}".prop_map(Value::from);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        token(),
        token().prop_map(|token| json!({"content": token})),
        token().prop_map(|token| json!([token])),
        (0..2000u32, token()).prop_map(|(id, token)| json!({id.to_string(): {"content": token}})),
    ]
}

/// Opens what may be broken, and uses it if it opens.
fn try_all(dir: &Path) {
    if let Ok(tokenizer) = Tokenizer::open(dir) {
        let ids = tokenizer.encode("a <s> b").unwrap_or_default();
        let _ = tokenizer.decode(&ids, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_bytes_never_panic(
        kind in 0..KINDS.len(), at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 0..4), cut: bool,
    ) {
        let (case, file) = KINDS[kind];
        let folder = Case::named(case).folder();
        let path = folder.path().join(file);
        let mut contents = std::fs::read(&path).unwrap();
        let at = at.index(contents.len());
        let end = if cut { contents.len() } else { contents.len().min(at + bytes.len()) };
        contents.splice(at..end, bytes);
        std::fs::write(&path, contents).unwrap();
        try_all(folder.path());
    }

    #[test]
    fn strange_settings_never_panic(
        kind in 0..KINDS.len(), settings in prop::collection::vec((0..KEYS.len(), any_setting()), 1..4), special: bool,
    ) {
        let folder = Case::named(KINDS[kind].0).folder();
        let map: serde_json::Map<_, _> =
            settings.into_iter().map(|(key, value)| (KEYS[key].to_owned(), value)).collect();
        let name = if special { "special_tokens_map.json" } else { "tokenizer_config.json" };
        std::fs::write(folder.path().join(name), Value::from(map).to_string()).unwrap();
        try_all(folder.path());
    }
}
