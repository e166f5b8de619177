//! The schemas of the official JSON-Schema-Test-Suite: what is written by one is valid by it, whatever the model would like
//! to write; what cannot be kept to is refused before anything is written. The crate `jsonschema` judges.

use std::collections::BTreeMap;
use std::sync::Arc;

use sconce_core::guide::Rule;
use serde::Deserialize;
use serde_json::Value;

use super::Guides;
use crate::testing::byte_level;

#[derive(Deserialize)]
struct Suite {
    schemas: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    description: String,
    schema: Value,
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Answers for each schema.
const SEEDS: u64 = 12;
/// Tokens of a whim; then what ends the text is taken wherever it can be.
const WHIM: usize = 40;
/// Most tokens of an answer.
const LONGEST: usize = 400;

fn suite() -> Vec<Case> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/schemas/suite.json"
    );
    let text = std::fs::read(path).expect("the suite");
    let suite: Suite = serde_json::from_slice(&text).expect("the suite");
    // Others are of vocabularies that their own documents describe.
    let is_standard = |case: &Case| {
        case.schema
            .get("$schema")
            .is_none_or(|draft| draft == DRAFT)
    };
    suite.schemas.into_iter().filter(is_standard).collect()
}

/// A text by a rule, of which each token is drawn among those that may come; `None`: it did not end.
fn written(guides: &Guides, rule: &Arc<Rule>, seed: u64) -> Option<String> {
    let tokenizer = byte_level();
    let end = end_of(&tokenizer);
    let vocab = end as usize + 1;
    let mut follower = guides.follow(rule).expect("it was followed before");
    let mut random = fastrand(seed);
    let mut tokens = Vec::new();
    let closing = closing(&tokenizer);
    while tokens.len() < LONGEST {
        let mut scores = vec![0.0; vocab];
        follower.restrict(&mut scores).expect("a mask");
        let fits = |id: &u32| scores[*id as usize] == 0.0;
        let all: Vec<u32> = (0..vocab as u32).filter(fits).collect();
        assert!(!all.is_empty(), "nothing may come behind {tokens:?}");
        let ends = closing.iter().copied().find(fits);
        let token = match ends.filter(|_| tokens.len() >= WHIM) {
            Some(token) => token,
            None => all[random() as usize % all.len()],
        };
        follower.take(token).expect("a step");
        if token == end {
            return Some(tokenizer.decode(&tokens, true).expect("a text"));
        }
        tokens.push(token);
    }
    None
}

/// The token that ends a text: one without a text of its own, behind all others.
fn end_of(tokenizer: &crate::Tokenizer) -> u32 {
    tokenizer.vocab_size() as u32
}

/// Whether a number has more digits than the judge's floating-point numbers tell apart.
fn has_long_number(text: &str) -> bool {
    let digits = |run: &[u8]| run.len() > 15 && run[0].is_ascii_digit();
    let same = |one: &u8, other: &u8| one.is_ascii_digit() == other.is_ascii_digit();
    text.as_bytes().chunk_by(same).any(digits)
}

/// Tokens that end something, the whole text first.
fn closing(tokenizer: &crate::Tokenizer) -> Vec<u32> {
    let of = |text: &str| tokenizer.id_of(text);
    let bytes = ["\"", "}", "]"].into_iter().filter_map(of);
    std::iter::once(end_of(tokenizer)).chain(bytes).collect()
}

fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

#[test]
fn whatever_is_written_by_a_schema_is_valid_by_it() {
    let tokenizer = byte_level();
    let end = end_of(&tokenizer);
    let guides = Guides::new(&tokenizer, end as usize + 1, &[end]).expect("a trie");
    let (mut kept, mut ended, mut open) = (0, 0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for Case {
        file,
        description,
        schema,
    } in suite()
    {
        let rule = Arc::new(Rule::Schema(schema.to_string()));
        if let Err(cause) = guides.follow(&rule) {
            assert!(!cause.is_empty(), "{file}, {description}");
            *refused.entry(file).or_default() += 1;
            continue;
        }
        kept += 1;
        // What cannot be judged refers to documents that are elsewhere.
        let Ok(judge) = jsonschema::validator_for(&schema) else {
            wrong.push(format!("{file}, {description}: kept, and cannot be judged"));
            continue;
        };
        for seed in 0..SEEDS {
            let Some(text) = written(&guides, &rule, seed) else {
                open += 1;
                continue;
            };
            ended += 1;
            let told = match serde_json::from_str(&text) {
                Ok(value) if judge.is_valid(&value) => continue,
                Ok(_) if has_long_number(&text) => continue,
                Ok(_) => String::new(),
                // JSON has no largest number, and floating-point numbers have.
                Err(error) if error.to_string().contains("out of range") => continue,
                Err(error) => error.to_string(),
            };
            wrong.push(format!(
                "{file}, {description}: {schema} wrote {text} {told}"
            ));
        }
    }
    println!("{kept} schemas kept, {ended} texts ended, {open} did not; refused: {refused:?}");
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "{count} of {ended} are not valid:\n{}",
        wrong.join("\n")
    );
    assert!(
        kept > 170 && ended > 20 * open,
        "{kept} kept, {ended} ended, {open} not"
    );
}
