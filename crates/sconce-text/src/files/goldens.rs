//! Every case of `tests/fixtures/tokenizers` against transformers 4.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;
use sconce_core::Stop;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::testing::repository;
use crate::{TextStream, Tokenizer};

/// A folder: which files it has.
#[derive(Deserialize)]
pub(super) struct Case {
    name: String,
    full: bool,
    /// Of a class that transformers has no fast tokenizer for.
    slow: bool,
    files: Map<String, Value>,
    configs: Map<String, Value>,
}

/// What transformers gives; see `make.py`.
#[derive(Deserialize)]
struct Golden {
    vocab_size: usize,
    around: [usize; 2],
    ids: Vec<Vec<u32>>,
    random: Vec<Vec<u32>>,
    keep: Vec<Option<String>>,
    skip: Vec<Option<String>>,
    pairs: Vec<(usize, usize, Vec<u32>)>,
}

fn fixtures() -> PathBuf {
    repository("tests/fixtures/tokenizers")
}

fn packed<T: DeserializeOwned>(path: &Path) -> T {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Case {
    fn all() -> Vec<Self> {
        let text = std::fs::read(fixtures().join("cases.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The case with this name.
    pub(super) fn named(name: &str) -> Self {
        let mut all = Self::all().into_iter();
        all.find(|case| case.name == name).unwrap()
    }

    /// Writes the folder.
    pub(super) fn folder(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, source) in &self.files {
            let source = fixtures().join("vocab").join(source.as_str().unwrap());
            std::fs::copy(source, dir.path().join(name)).unwrap();
        }
        for (name, value) in &self.configs {
            std::fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        dir
    }

    fn open(&self) -> Arc<Tokenizer> {
        match Tokenizer::open(self.folder().path()) {
            Ok(tokenizer) => Arc::new(tokenizer),
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    fn golden(&self) -> (Golden, Vec<String>) {
        let name = format!("golden/{}.json.gz", self.name);
        let texts: Vec<String> = packed(&fixtures().join("texts.json.gz"));
        let step = if self.full { 1 } else { 8 };
        let texts: Vec<_> = texts.into_iter().step_by(step).collect();
        let golden: Golden = packed(&fixtures().join(name));
        assert_eq!(golden.ids.len(), texts.len());
        (golden, texts)
    }
}

/// Runs `check` on all cases, and names those where it found differences.
fn check_all(check: impl Fn(&Case) -> Vec<String>) {
    let mut wrong = Vec::new();
    for case in Case::all() {
        let differences = check(&case);
        if let Some(first) = differences.first() {
            let count = differences.len();
            wrong.push(format!("{}: {count} differences, first {first}", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn compare<T: PartialEq + std::fmt::Debug>(
    differences: &mut Vec<String>,
    what: &dyn Fn() -> String,
    got: &T,
    want: &T,
) {
    if got != want {
        differences.push(format!("{}: {got:?}, but should be {want:?}", what()));
    }
}

#[test]
fn ids_equal_transformers_with_and_without_special_tokens() {
    check_all(|case| {
        let tokenizer = case.open();
        let (golden, texts) = case.golden();
        let mut found = Vec::new();
        let size = || "vocabulary".to_owned();
        compare(
            &mut found,
            &size,
            &tokenizer.vocab_size(),
            &golden.vocab_size,
        );
        let [front, back] = golden.around;
        for (text, ids) in texts.iter().zip(&golden.ids) {
            // ByT5's tokenizer adds no end to a text that spells one.
            if case.name == "byt5" && text.ends_with("</s>") {
                continue;
            }
            let marks: &[&str] = match case.name.as_str() {
                "marian" => &["▁", "<s>"],
                "m2m100" => &["▁"],
                _ => &[],
            };
            // SentencePiece knows its own marks in a text, see `mapped::cutter`.
            if marks.iter().any(|mark| text.contains(mark)) {
                continue;
            }
            let what = || format!("{text:?}");
            compare(&mut found, &what, &tokenizer.encode(text).unwrap(), ids);
            if case.slow {
                continue;
            }
            let plain = ids[front..ids.len() - back].to_vec();
            compare(
                &mut found,
                &what,
                &tokenizer.ids(text.as_str(), false).unwrap(),
                &plain,
            );
        }
        for (first, second, ids) in &golden.pairs {
            // To transformers an empty second text is none, and CodeLlama's pair is a gap to fill.
            if texts[*second].is_empty() || case.name == "code_llama" {
                continue;
            }
            let what = || format!("the pair {first}, {second}");
            let pair = (texts[*first].as_str(), texts[*second].as_str());
            compare(&mut found, &what, &tokenizer.ids(pair, true).unwrap(), ids);
        }
        found
    });
}

/// Slow tokenizers take spaces off the ends of what they decode.
fn compare_slow(name: &str, tokenizer: &Tokenizer, golden: &Golden) -> Vec<String> {
    let mut found = Vec::new();
    for (ids, want) in golden.ids.iter().zip(&golden.skip) {
        let got = tokenizer.decode_cleaned(ids, true, false).unwrap();
        let want = want.as_deref().unwrap_or_default().trim();
        // ByT5's decoder drops it where it is spelled, too: see `stages::without_invalid`.
        if name == "byt5" && want.contains('\u{FFFD}') {
            continue;
        }
        compare(&mut found, &|| format!("{ids:?}"), &got.trim(), &want);
    }
    found
}

#[test]
fn texts_equal_transformers_at_once_and_token_by_token() {
    check_all(|case| {
        let tokenizer = case.open();
        let (golden, texts) = case.golden();
        if case.slow {
            return compare_slow(&case.name, &tokenizer, &golden);
        }
        let texts = texts.iter().map(Some).chain(std::iter::repeat(None));
        let runs = golden.ids.iter().chain(&golden.random);
        let decoded = golden.keep.iter().zip(&golden.skip);
        let mut found = Vec::new();
        for ((ids, (keep, skip)), text) in runs.zip(decoded).zip(texts) {
            let keep = keep.as_ref().or(text).unwrap();
            let skip = skip.as_ref().unwrap_or(keep);
            for (want, skip_special) in [(keep, false), (skip, true)] {
                let what = || format!("{ids:?}, special tokens skipped: {skip_special}");
                let whole = tokenizer.decode(ids, skip_special).unwrap();
                compare(&mut found, &what, &whole, want);
                let mut stream =
                    TextStream::new(Arc::clone(&tokenizer), &Stop::default(), skip_special);
                let mut pieces: String = ids.iter().map(|&id| stream.push(id).text).collect();
                pieces.push_str(&stream.finish());
                compare(
                    &mut found,
                    &|| format!("stream of {}", what()),
                    &pieces,
                    want,
                );
            }
        }
        found
    });
}
