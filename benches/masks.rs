//! Guided decoding alone: what it costs for each token to say which tokens of a vocabulary of 150 thousand may come next.
//!
//! `python benches/peers/vocabulary.py` first: it makes the vocabulary. Then `cargo bench --bench masks`. Answers are given:
//! JSON as services are asked for, of which each token is the longest that fits, as models write. Microseconds: the median,
//! the 99th percentile and the most, of the mask alone and of mask and scores.
#![allow(clippy::panic, clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sconce_core::guide::Rule;
use sconce_text::{Guides, Tokenizer};
use serde_json::{Value, json};

const ROUNDS: usize = 5;

/// A name, a rule, and an answer that keeps to it.
type Case = (&'static str, Arc<Rule>, String);

fn main() {
    let dir = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/qwen-vocabulary"
    ));
    if !dir.join("tokenizer.json").exists() {
        println!(
            "skipped: the vocabulary is not there; run `python benches/peers/vocabulary.py` first"
        );
        return;
    }
    let tokenizer = Tokenizer::open(&dir).unwrap_or_else(|error| panic!("{error}"));
    let vocab = tokenizer.vocab_size();
    let end = tokenizer.id_of("<|endoftext|>").unwrap_or_default();
    let guides = Guides::new(&tokenizer, vocab, &[end]).unwrap_or_else(|error| panic!("{error}"));
    let words = words(&tokenizer, vocab);
    println!("vocabulary {vocab}; microseconds for a token: median, 99th percentile, most");
    let (mut all, mut whole) = (Vec::new(), Vec::new());
    for (name, rule, answer) in cases() {
        let began = Instant::now();
        drop(
            guides
                .follow(&rule)
                .unwrap_or_else(|error| panic!("{name}: {error}")),
        );
        let compiled = began.elapsed().as_secs_f64() * 1e3;
        let (mut masks, mut both) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            walk(&guides, (&rule, &answer), &words, (&mut masks, &mut both));
        }
        println!(
            "{name:<28} {} {} compiled in {compiled:.1} ms",
            shown(&mut masks),
            shown(&mut both)
        );
        all.append(&mut masks);
        whole.append(&mut both);
    }
    println!("{:<28} {} {}", "all", shown(&mut all), shown(&mut whole));
}

fn shown(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("{:7.1} {:7.1} {:7.1} |", of(0.5), of(0.99), of(1.0))
}

/// Follows an answer; the times of each token.
fn walk(
    guides: &Guides,
    (rule, answer): (&Arc<Rule>, &str),
    words: &Words,
    (masks, both): (&mut Vec<f64>, &mut Vec<f64>),
) {
    let mut follower = guides
        .follow(rule)
        .unwrap_or_else(|error| panic!("{error}"));
    let (mut rest, mut scores) = (answer.as_bytes(), vec![0.0f32; words.vocab]);
    while !rest.is_empty() {
        let began = Instant::now();
        let masked = follower.restrict(&mut []);
        masks.push(began.elapsed().as_secs_f64() * 1e6);
        black_box(masked).unwrap_or_else(|error| panic!("{error}"));
        scores.fill(0.0);
        let began = Instant::now();
        let masked = follower.restrict(&mut scores);
        both.push(began.elapsed().as_secs_f64() * 1e6);
        masked.unwrap_or_else(|error| panic!("{error}"));
        let fits = |id: &u32| scores[*id as usize] == 0.0;
        let Some((id, len)) = words.longest(rest, fits) else {
            panic!(
                "{answer} does not keep to its rule at {:?}",
                String::from_utf8_lossy(rest)
            );
        };
        follower.take(id).unwrap_or_else(|error| panic!("{error}"));
        rest = &rest[len..];
    }
}

/// The bytes of all tokens that are not special.
struct Words {
    sorted: Vec<(Vec<u8>, u32)>,
    vocab: usize,
    longest: usize,
}

fn words(tokenizer: &Tokenizer, vocab: usize) -> Words {
    let ids = (0..vocab as u32).filter(|&id| !tokenizer.is_special(id));
    let mut sorted: Vec<(Vec<u8>, u32)> = ids
        .map(|id| (tokenizer.token_text(id).into_bytes(), id))
        .filter(|(bytes, _)| !bytes.is_empty())
        .collect();
    sorted.sort();
    let longest = sorted.iter().map(|(bytes, _)| bytes.len()).max();
    Words {
        sorted,
        vocab,
        longest: longest.unwrap_or_default(),
    }
}

impl Words {
    /// The longest token that a text begins with, among those that fit.
    fn longest(&self, text: &[u8], fits: impl Fn(&u32) -> bool) -> Option<(u32, usize)> {
        let most = self.longest.min(text.len());
        (1..=most).rev().find_map(|len| {
            let found = self
                .sorted
                .binary_search_by(|(bytes, _)| bytes.as_slice().cmp(&text[..len]));
            let (_, id) = self.sorted[found.ok()?];
            fits(&id).then_some((id, len))
        })
    }
}

fn cases() -> Vec<Case> {
    let prose = "The candle stands in its sconce on the wall; when the evening comes, somebody lights it, and its light \
                 falls on the faces of those who sit in the hall and wait for the story to go on.";
    let schema = |schema: Value| Arc::new(Rule::Schema(schema.to_string()));
    let weather = json!({
        "type": "object", "required": ["city", "unit", "days"], "additionalProperties": false,
        "properties": {
            "city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14}
        }
    });
    let person = json!({
        "type": "object", "required": ["name", "born", "email", "roles", "notes"], "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "maxLength": 80}, "born": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
            "email": {"type": "string"}, "roles": {"type": "array", "items": {"enum": ["reader", "writer", "owner"]}, "maxItems": 3},
            "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}}
        },
        "$defs": {"note": {
            "type": "object", "required": ["text", "stars"], "additionalProperties": false,
            "properties": {"text": {"type": "string"}, "stars": {"type": "number", "minimum": 0, "maximum": 5}}
        }}
    });
    let note = |stars: f64| json!({"text": prose, "stars": stars});
    let someone = json!({
        "name": "Ada Lovelace", "born": "1815-12-10", "email": "ada@example.org", "roles": ["reader", "owner"],
        "notes": [note(4.5), note(3.0), note(0.5)]
    });
    let free = json!({"title": "A story", "parts": [{"text": prose, "n": 1}, {"text": prose, "n": [1, 2.5, null, true]}]});
    let choice = ["yes", "no", "it depends on the weather"]
        .map(String::from)
        .to_vec();
    vec![
        (
            "a call of a function",
            schema(weather),
            json!({"city": "São Paulo", "unit": "celsius", "days": 7}).to_string(),
        ),
        (
            "nested objects with prose",
            schema(person),
            someone.to_string(),
        ),
        ("any JSON object", Arc::new(Rule::Json), free.to_string()),
        (
            "a list of sentences",
            schema(json!({"type": "array", "items": {"type": "string"}})),
            json!([prose, prose]).to_string(),
        ),
        (
            "an expression",
            Arc::new(Rule::Regex(r"[A-Z][a-z]+( [a-z]+)*\.".into())),
            "The candle stands in its sconce on the wall.".into(),
        ),
        (
            "one of three texts",
            Arc::new(Rule::Choice(choice)),
            "it depends on the weather".into(),
        ),
    ]
}
