//! The default model answers token for token as transformers does in f32, over HTTP, all prompts
//! at once. `fixtures/smollm2/make.py` recorded what transformers gives. Skipped where the model
//! has not been fetched.

use std::fs;
use std::path::Path;
use std::thread;

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};

use crate::support::PROGRAM;

#[test]
fn the_default_model_gives_transformers_tokens_on_every_prompt() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let model = root.join("models/smollm2-135m-instruct");
    if !model.join("model.safetensors").exists() {
        println!("skipped: the default model is not there; `make model` fetches it");
        return;
    }
    let golden = fs::read(root.join("tests/fixtures/smollm2/greedy.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 20, "only {} prompts", cases.len());
    let mut server = Launch::serve(PROGRAM, &model).start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    let client = Client::new(server.address());
    // A few at a time: the client's patience is limited and machines are slow.
    let mut complaints = Vec::new();
    for group in cases.chunks(8) {
        thread::scope(|scope| {
            let threads: Vec<_> = group
                .iter()
                .map(|case| scope.spawn(|| complaint(&client, case)))
                .collect();
            complaints.extend(
                threads
                    .into_iter()
                    .filter_map(|thread| thread.join().unwrap()),
            );
        });
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// How the answer to a prompt differs from the recorded one.
fn complaint(client: &Client, case: &Value) -> Option<String> {
    let parameters = json!({"max_new_tokens": 64, "do_sample": false, "details": true});
    let body = json!({"inputs": case["prompt"], "parameters": parameters});
    let answer = client.post("/invocations", &body).unwrap().json().unwrap();
    let tokens = answer["details"]["tokens"].as_array();
    let ids: Option<Vec<Value>> =
        tokens.map(|tokens| tokens.iter().map(|token| token["id"].clone()).collect());
    let same = ids.as_ref() == case["ids"].as_array();
    (!same).then(|| format!("{}: {} is not {}", case["name"], answer, case["ids"]))
}
