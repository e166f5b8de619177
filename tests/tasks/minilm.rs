//! The real sentence model, where it was fetched: vectors and cosines of sentence-transformers.

use std::fs;
use std::path::Path;

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};

use crate::support::PROGRAM;

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = root.join("models/all-minilm-l6-v2");
    if !model.join("config.json").exists() {
        println!("skipped: models/fetch_minilm.py has not fetched the model");
        return;
    }
    let golden = fs::read(root.join("tests/fixtures/minilm/vectors.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let mut server = Launch::serve(PROGRAM, &model).start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    let answer = Client::new(server.address()).post(
        "/embed",
        &json!({"inputs": golden["texts"], "truncate": true}),
    );
    let vectors: Vec<Vec<f64>> = serde_json::from_value(answer.unwrap().json().unwrap()).unwrap();
    for (at, vector) in vectors.iter().enumerate() {
        for (got, want) in vector.iter().zip(golden["first"][at].as_array().unwrap()) {
            assert!(
                (got - want.as_f64().unwrap()).abs() < 1e-4,
                "text {at}: {got}, not {want}"
            );
        }
        for (other, want) in vectors
            .iter()
            .zip(golden["cosines"][at].as_array().unwrap())
        {
            let cosine: f64 = vector
                .iter()
                .zip(other)
                .map(|(one, other)| one * other)
                .sum();
            assert!(
                (cosine - want.as_f64().unwrap()).abs() < 1e-4,
                "text {at}: {cosine}, not {want}"
            );
        }
    }
}
