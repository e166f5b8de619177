//! Stable Diffusion over HTTP: the forms of DJL Serving's handler and OpenAI's, streams, and what bad requests and
//! folders get. That pictures are those of diffusers is tested in `sconce-diffusion`.

mod artifacts;
mod folders;
mod requests;

use std::fs;
use std::path::{Path, PathBuf};

use sconce_testkit::server::{Launch, Server};
use tempfile::TempDir;

use crate::support::PROGRAM;

/// How a PNG file begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/diffusion")
}

/// A server of one of the pipelines, and the folder that it serves.
struct Serving {
    server: Server,
    _dir: TempDir,
}

/// Copies a pipeline below `into`.
fn copy(name: &str, into: &Path) -> PathBuf {
    let to = into.join(name);
    copy_all(&root().join(name), &to);
    to
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Serves a copy of a pipeline with these properties; returns when it is ready.
fn serve(name: &str, properties: &str) -> Serving {
    let dir = TempDir::new().unwrap();
    let copied = copy(name, dir.path());
    fs::write(copied.join("serving.properties"), properties).unwrap();
    let mut server = Launch::serve(PROGRAM, &copied).start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    Serving { server, _dir: dir }
}
