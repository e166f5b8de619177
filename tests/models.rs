//! Models that come and go while the built program answers. What models answer is compared with what transformers
//! computed, so that an answer of the wrong model, or of half a model, is none.

mod platform;
mod refused;
mod sources;
mod startup;
mod traffic;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sconce_testkit::client::{Answer, Client};
use sconce_testkit::golden::{Golden, Run};
use sconce_testkit::server::{Launch, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PROGRAM, copy_checkpoint, generated};

/// A server whose models come later, or with their folders in its store.
struct Host {
    server: Server,
    client: Client,
    dir: TempDir,
}

impl Host {
    /// Begins without a model.
    fn empty(variables: &[(&str, &str)]) -> Self {
        let none = ("SERVING_LOAD_MODELS", "NONE");
        let variables: Vec<_> = variables.iter().copied().chain([none]).collect();
        Self::of(TempDir::new().unwrap(), &variables)
    }

    /// Begins with what lies in `store` below a directory.
    fn of(dir: TempDir, variables: &[(&str, &str)]) -> Self {
        let server = launch(dir.path(), variables).start().unwrap();
        let client = Client::new(server.address());
        Self {
            server,
            client,
            dir,
        }
    }

    /// A copy of a tiny checkpoint with these properties, in a folder of its own.
    fn folder(&self, model: &str, name: &str, properties: &str) -> PathBuf {
        let dir = copy_checkpoint(model, &self.dir.path().join(name));
        std::fs::write(dir.join("serving.properties"), properties).unwrap();
        dir
    }

    /// The folder of a `model.py`.
    fn code(&self, name: &str, code: &str, properties: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("model.py"), code).unwrap();
        std::fs::write(dir.join("serving.properties"), properties).unwrap();
        dir
    }

    fn register(&self, name: &str, dir: &Path, more: &str) -> Answer {
        register(&self.client, name, dir, more)
    }

    fn registered(&self, name: &str, dir: &Path, more: &str) {
        let answer = self.register(name, dir, more);
        assert!(
            matches!(answer.status, 200 | 202),
            "{}; the log:\n{}",
            answer.text(),
            self.server.log()
        );
    }

    fn delete(&self, name: &str) -> Answer {
        self.client
            .request("DELETE", &format!("/models/{name}"), &[], b"")
            .unwrap()
    }

    /// The names of all models and where they are on their way.
    fn list(&self) -> Vec<(String, String)> {
        let list = self.client.get("/models").unwrap().json().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let item = |item: &Value| (text(&item["modelName"]), text(&item["status"]));
        list["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(item)
            .collect()
    }

    fn ping(&self) -> (u16, Value) {
        let answer = self.client.get("/ping").unwrap();
        (answer.status, answer.json().unwrap())
    }
}

fn launch(dir: &Path, variables: &[(&str, &str)]) -> Launch<'static> {
    let store = dir.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let bare = Launch::bare(PROGRAM)
        .argument("serve")
        .env("SERVING_MODEL_STORE", &store.to_string_lossy())
        .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:0");
    let with = |launch: Launch<'static>, (name, value): &(&str, &str)| launch.env(name, value);
    variables.iter().fold(bare, with)
}

/// `more` is the rest of the query, with its `&`.
fn register(client: &Client, name: &str, dir: &Path, more: &str) -> Answer {
    let path = format!("/models?url={}&model_name={name}{more}", dir.display());
    client.post_bytes(&path, &[], b"").unwrap()
}

/// What transformers continued a prompt with, on a tiny checkpoint.
fn known(model: &str) -> Run {
    Golden::tiny(model).unwrap().runs.remove(0)
}

/// Asks for the continuation of a known prompt.
fn question(run: &Run, stream: bool) -> Value {
    json!({
        "inputs": run.prompt, "stream": stream,
        "parameters": {"max_new_tokens": run.greedy.len(), "do_sample": false},
    })
}

/// Asks for a known continuation at that path, which must come.
#[track_caller]
fn answers(client: &Client, path: &str, run: &Run) {
    let answer = client.post(path, &question(run, false)).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(generated(&answer.json().unwrap()), run.text, "{path}");
}

/// Waits for something that must come true.
#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells clients that go on until they are told, however the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The dialect in which `generated_text` stands for every tiny checkpoint.
const ROLLING: &str = "option.rolling_batch=auto\n";
