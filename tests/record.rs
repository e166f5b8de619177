//! Requests that are recorded and asked again: the same bytes of the same models, and every difference told.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PROGRAM, copy_checkpoint, edit, started};

const TEMPLATE: &str = "{{ strftime_now('%Y %j %H:%M:%S') }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";

/// A model, and the recording of what it was asked.
struct Recorded {
    _dir: TempDir,
    model: std::path::PathBuf,
    recording: std::path::PathBuf,
    log: String,
}

fn record(model: &str, properties: &str, ask: impl Fn(&Client)) -> Recorded {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint(model, dir.path());
    fs::write(model.join("serving.properties"), properties).unwrap();
    fs::write(model.join("chat_template.jinja"), TEMPLATE).unwrap();
    let recording = dir.path().join("recording");
    let launch = Launch::serve(PROGRAM, &model)
        .argument("--record")
        .argument(recording.to_str().unwrap());
    let mut server = started(launch);
    ask(&Client::new(server.address()));
    // What the files are is noted beside the answers.
    let noted = recording.join("checkpoints.json");
    for _ in 0..600 {
        if noted.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    server.terminate().unwrap();
    assert!(server.wait(Duration::from_secs(60)).unwrap().success());
    let log = server.log();
    Recorded {
        _dir: dir,
        model,
        recording,
        log,
    }
}

fn replay(recording: &Path, more: &[&str]) -> (Output, String) {
    let output = Command::new(PROGRAM)
        .arg("replay")
        .arg(recording)
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// Sampled without a seed, streamed, several at a time, a chat whose template writes the time, and what is refused.
fn ask_all(client: &Client) {
    let sampled = json!({"inputs": "The candle", "parameters": {"do_sample": true, "temperature": 3.0, "max_new_tokens": 12}});
    let texts: Vec<String> = (0..4)
        .map(|_| client.post("/invocations", &sampled).unwrap().text())
        .collect();
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
    let streamed =
        json!({"prompt": "Once", "temperature": 2.0, "n": 3, "max_tokens": 9, "stream": true});
    assert_eq!(
        client.post("/v1/completions", &streamed).unwrap().status,
        200
    );
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "temperature": 1.0});
    assert_eq!(
        client.post("/v1/chat/completions", &chat).unwrap().status,
        200
    );
    let wrong = json!({"inputs": "a", "parameters": {"top_k": -3}});
    assert_ne!(client.post("/invocations", &wrong).unwrap().status, 200);
    assert_eq!(client.get("/ping").unwrap().status, 200);
}

#[test]
fn recorded_requests_get_the_same_bytes_again() {
    let recorded = record("llama", "option.rolling_batch=auto\n", ask_all);
    let exchanges = fs::read_to_string(recorded.recording.join("exchanges.jsonl")).unwrap();
    // Seven asked a model; the ping did not.
    assert_eq!(exchanges.lines().count(), 7, "{exchanges}");
    let about: Value =
        serde_json::from_slice(&fs::read(recorded.recording.join("recording.json")).unwrap())
            .unwrap();
    let settings = about["models"][0]["settings"].as_array().unwrap();
    let rolling = settings
        .iter()
        .find(|setting| setting["key"] == "option.rolling_batch");
    assert_eq!(rolling.unwrap()["value"], "auto", "{about}");
    let files = fs::read_to_string(recorded.recording.join("checkpoints.json")).unwrap();
    assert!(
        files.contains("model.safetensors") && files.contains("sha256"),
        "{files}"
    );
    assert!(
        recorded.log.contains("7 requests are recorded in"),
        "{}",
        recorded.log
    );
    for clients in ["1", "4"] {
        let (output, text) = replay(&recorded.recording, &["--clients", clients]);
        assert_eq!(text, "7 requests: 7 answers are the same, 0 are not\n");
        assert!(output.status.success());
    }
}

#[test]
fn every_difference_is_told_with_what_may_be_its_cause() {
    let recorded = record("llama", "", |client| {
        for text in ["The candle", "What is"] {
            let body = json!({"inputs": text, "parameters": {"max_new_tokens": 8}});
            assert_eq!(client.post("/invocations", &body).unwrap().status, 200);
        }
    });
    let exchanges = recorded.recording.join("exchanges.jsonl");
    // An answer that was not given.
    let text = fs::read_to_string(&exchanges).unwrap();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[1]["answer"]["body"] = json!({"text": "{\"generated_text\": \"never\"}"});
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&exchanges, text).unwrap();
    fs::write(
        recorded.model.join("serving.properties"),
        "option.max_rolling_batch_size=3\n",
    )
    .unwrap();
    edit(&recorded.model, "config.json", |config| {
        config["rms_norm_eps"] = json!(0.5)
    });
    let (output, text) = replay(&recorded.recording, &[]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "note: option.max_rolling_batch_size of the model llama is 3",
        "note: the model llama: config.json has",
        "2: POST /invocations: byte ",
        "answers are the same",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn what_cannot_be_recorded_or_replayed_says_why() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let model = crate::support::tiny("llama");
    let output = Command::new(PROGRAM)
        .args(["serve", "--port", "0", "--record"])
        .args([dir.path(), &model])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && told.contains("is not empty"),
        "{told}"
    );
    let (output, _) = replay(dir.path(), &[]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && told.contains("recording.json"),
        "{told}"
    );
}
