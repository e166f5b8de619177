//! What the black-box tests share: tiny checkpoints in folders of their own, started servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sconce_testkit::client::{Client, Stream};
use sconce_testkit::server::{Launch, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The path of the built program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sconce");

/// A started server and the folder that it serves.
pub struct Serving {
    server: Server,
    _dir: TempDir,
}

impl std::ops::Deref for Serving {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl std::ops::DerefMut for Serving {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Serves a copy of a tiny checkpoint with these properties as a rolling batch of LMI; returns
/// when it is ready.
pub fn ready(model: &str, properties: &str) -> Serving {
    let properties = format!("option.rolling_batch=auto\n{properties}");
    ready_with(model, &[("serving.properties", &properties)])
}

/// The same with other files beside, or in place of, those of the checkpoint.
pub fn ready_with(model: &str, files: &[(&str, &str)]) -> Serving {
    serve_copy(&tiny(model), files)
}

/// Serves a copy of a folder with other files beside, or in place of, its own; returns when it is ready.
pub fn serve_copy(folder: &Path, files: &[(&str, &str)]) -> Serving {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join(folder.file_name().unwrap());
    copy_folder(folder, &copy);
    for (name, text) in files {
        fs::write(copy.join(name), text).unwrap();
    }
    let mut serving = Serving {
        server: Launch::serve(PROGRAM, &copy).start().unwrap(),
        _dir: dir,
    };
    serving.wait_for_log("is ready after").unwrap();
    serving
}

/// What the log of a start says that fails: of a copy of a folder with these properties, changed before.
pub fn failed_start(folder: &Path, properties: &str, change: impl Fn(&Path)) -> String {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join(folder.file_name().unwrap());
    copy_folder(folder, &copy);
    fs::write(copy.join("serving.properties"), properties).unwrap();
    change(&copy);
    let mut server = Launch::serve(PROGRAM, &copy).start().unwrap();
    server.wait_for_log("cannot be served").unwrap();
    server.log()
}

/// Changes a JSON file of a folder.
pub fn edit(folder: &Path, file: &str, change: impl Fn(&mut Value)) {
    let file = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// Copies `models/tiny/<model>` into a folder of the same name below `into`.
pub fn copy_checkpoint(model: &str, into: &Path) -> PathBuf {
    let to = into.join(model);
    copy_folder(&tiny(model), &to);
    to
}

/// Copies a folder and those in it, without what a reference computed on them.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(name));
        } else if !name.to_string_lossy().starts_with("golden") {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// The folder of a tiny checkpoint.
pub fn tiny(model: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny")).join(model)
}

/// `generated_text` of an answer or of the last line of a stream.
pub fn generated(answer: &Value) -> String {
    let text = answer["generated_text"].as_str();
    text.unwrap_or_else(|| panic!("no generated_text in {answer}"))
        .to_owned()
}

/// Starts a server; returns when its model is ready.
pub fn started(launch: Launch<'static>) -> Server {
    let mut server = launch.start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    server
}

/// A launch of `serve` without any folder: neither an argument nor a model store.
pub fn without_folder(dir: &Path) -> Launch<'static> {
    Launch::bare(PROGRAM)
        .argument("serve")
        .env(
            "SERVING_MODEL_STORE",
            &dir.join("no-store").to_string_lossy(),
        )
        .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:0")
}

/// The greedy text after a prompt that tests of sources share.
pub fn answer(server: &Server) -> String {
    let parameters = json!({"max_new_tokens": 12, "do_sample": false});
    let body = json!({"inputs": "The quick brown fox", "parameters": parameters});
    let answer = Client::new(server.address()).post("/invocations", &body);
    generated(&answer.unwrap().json().unwrap())
}

/// What the tiny Llama in its own folder answers there.
pub fn answer_of_the_folder() -> String {
    answer(&ready("llama", ""))
}

/// Reads a stream to its end: the text that its last line repeats as a whole.
pub fn stream_text(stream: &mut Stream) -> String {
    let lines = stream.lines().unwrap();
    let (_, last) = lines.last().expect("a stream has lines");
    generated(&serde_json::from_str(last).unwrap())
}

/// Polls `/ping` for this status with an entry that passes; the entry of the only model.
pub fn wait_for_ping(server: &Server, status: u16, passes: impl Fn(&Value) -> bool) -> Value {
    let client = Client::new(server.address());
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = Value::Null;
    while Instant::now() < deadline {
        let Ok(answer) = client.get("/ping") else {
            break;
        };
        let body = answer.json().unwrap();
        last = body.as_object().unwrap().values().next().unwrap().clone();
        if answer.status == status && passes(&last) {
            return last;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!(
        "/ping never said so, but {last}; the log:\n{}",
        server.log()
    )
}
