//! Searches with beams: the texts of transformers, whoever else asks and however small the cache.

use std::thread;

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use crate::support::{Serving, ready, tiny};

/// The folders with goldens of beams: rotated positions, learned ones, a sliding window, ALiBi.
const FOLDERS: [&str; 4] = ["llama", "gpt2", "mistral", "bloom"];

/// A run of the goldens: a request in LMI's words, and the texts as tokens.
struct Run {
    body: Value,
    texts: Vec<Vec<u64>>,
}

fn runs(folder: &str) -> Vec<Run> {
    let file = tiny(folder).join("golden_beams.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let run = |run: &Value| {
        let mut parameters = run["asked"].clone();
        parameters["details"] = json!(true);
        // Without it as many are told as there are beams.
        parameters["n"] = parameters.get("n").cloned().unwrap_or(json!(1));
        Run {
            body: json!({"inputs": run["prompt"], "parameters": parameters}),
            texts: serde_json::from_value(run["texts"].clone()).unwrap(),
        }
    };
    golden["runs"].as_array().unwrap().iter().map(run).collect()
}

/// The tokens of all texts of an answer.
fn texts(answer: &Value) -> Vec<Vec<u64>> {
    let details = &answer["details"];
    let tokens = |one: &Value| {
        let tokens = one["tokens"].as_array().unwrap().iter();
        tokens.map(|token| token["id"].as_u64().unwrap()).collect()
    };
    let others = details["best_of_sequences"].as_array().unwrap();
    std::iter::once(details).chain(others).map(tokens).collect()
}

fn ask(serving: &Serving, body: &Value) -> Vec<u8> {
    let answer = Client::new(serving.address()).post("/invocations", body);
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.body
}

#[test]
fn the_texts_are_those_of_transformers() {
    for folder in FOLDERS {
        let serving = ready(folder, "");
        let runs = runs(folder);
        assert!(runs.len() >= 20, "{folder}: {} runs", runs.len());
        for Run {
            body,
            texts: wanted,
        } in runs
        {
            let answer: Value = serde_json::from_slice(&ask(&serving, &body)).unwrap();
            assert_eq!(texts(&answer), wanted, "{folder}: {body}");
        }
    }
}

#[test]
fn a_search_among_others_gets_the_bytes_that_it_gets_alone() {
    // Few blocks and small steps: searches step back, are computed again, and wait for each other.
    for (folder, properties) in [
        (
            "llama",
            "option.max_rolling_batch_prefill_tokens=24\noption.kv_cache_memory=425984",
        ),
        ("mistral", "option.enable_prefix_caching=false"),
    ] {
        let roomy = ready(folder, "");
        let bodies: Vec<Value> = runs(folder).into_iter().map(|run| run.body).collect();
        let alone: Vec<_> = bodies.iter().map(|body| ask(&roomy, body)).collect();
        let narrow = ready(folder, properties);
        let together: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = bodies
                .iter()
                .map(|body| scope.spawn(|| ask(&narrow, body)))
                .collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for ((body, alone), together) in bodies.iter().zip(&alone).zip(&together) {
            assert_eq!(alone, together, "{folder}: {body}");
        }
    }
}
