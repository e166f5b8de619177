//! Models that read a text and write another: the numbers, the tokens and the answers of transformers on every folder of
//! `models/seq2seq`, and what bad requests get.

mod answers;
mod model;
mod streams;
mod tokens;
mod wrong;

use std::fs;
use std::path::{Path, PathBuf};

use sconce_testkit::server::{Launch, Server};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::PROGRAM;
use crate::tasks::copy_folder;

/// What transformers computed on a folder.
#[derive(Deserialize)]
struct Golden {
    #[serde(default)]
    name: String,
    task: String,
    logits: Vec<Run>,
    tokens: Vec<Search>,
    requests: Vec<Request>,
}

/// A text, what the decoder is given, and the logits behind each of its tokens.
#[derive(Deserialize)]
struct Run {
    text: String,
    ids: Vec<u32>,
    given: Vec<u32>,
    rows: Vec<Vec<f32>>,
}

/// A text, arguments of `generate`, and the sequences that it returns.
#[derive(Deserialize)]
struct Search {
    text: String,
    ids: Vec<u32>,
    parameters: Value,
    sequences: Vec<Vec<u32>>,
}

/// A request and the pipeline's answer.
#[derive(Deserialize)]
struct Request {
    inputs: Value,
    parameters: Value,
    answer: Value,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/seq2seq")
}

/// All folders, by name.
fn goldens() -> Vec<Golden> {
    let mut names: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| root().join(name).join("golden.json").exists())
        .collect();
    names.sort();
    assert!(names.len() >= 14, "only {} folders", names.len());
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
