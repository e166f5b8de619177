//! The tasks of encoders over HTTP: the answers of transformers' pipelines on every folder of `models/tasks`, and what
//! bad requests get.

mod bodies;
mod logits;
mod minilm;
mod nasty;
mod routes;

use std::fs;
use std::path::{Path, PathBuf};

use sconce_testkit::server::{Launch, Server};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use bodies::difference;
pub(crate) use nasty::texts as strange_texts;

use crate::support::PROGRAM;

/// What transformers computed on a folder.
#[derive(Deserialize)]
struct Golden {
    #[serde(default)]
    name: String,
    task: String,
    logits: Vec<Run>,
    requests: Vec<Request>,
}

/// Texts, their tokens, and the model's numbers.
#[derive(Deserialize)]
struct Run {
    text: String,
    pair: Option<String>,
    ids: Vec<u32>,
    types: Vec<u32>,
    rows: Vec<Vec<f32>>,
}

/// A request and the pipeline's answer.
#[derive(Deserialize)]
struct Request {
    inputs: Value,
    parameters: Value,
    answer: Value,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tasks")
}

/// All folders, by name.
fn goldens() -> Vec<Golden> {
    let mut names: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| root().join(name).join("golden.json").exists())
        .collect();
    names.sort();
    assert!(names.len() >= 60, "only {} folders", names.len());
    names.iter().map(|name| golden(name)).collect()
}

fn golden(name: &str) -> Golden {
    let text = fs::read(root().join(name).join("golden.json")).unwrap();
    let mut golden: Golden = serde_json::from_slice(&text).unwrap();
    golden.name = name.into();
    golden
}

/// A server of one of the folders, and the folder that it serves.
struct Serving {
    server: Server,
    _dir: TempDir,
}

/// Serves a copy of a folder with these properties; returns when it is ready.
fn serve(name: &str, properties: &str) -> Serving {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join(name);
    copy_folder(&root().join(name), &copy);
    fs::write(copy.join("serving.properties"), properties).unwrap();
    let mut server = Launch::serve(PROGRAM, &copy).start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    Serving { server, _dir: dir }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
