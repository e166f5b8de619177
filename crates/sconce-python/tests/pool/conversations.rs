//! The package that this crate ships, beside DJL Serving's own: the same requests, and byte for
//! byte the same answers. `tests/conversations/record.py` recorded the latter.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use sconce_python::protocol::{Content, read_answer, read_frame};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::python;

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Reads a link and keeps what it read.
struct Kept<'a>(&'a UnixStream, Vec<u8>);

impl std::io::Read for Kept<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.extend(&buffer[..count]);
        Ok(count)
    }
}

/// The bytes of one answer, its stream included.
fn answer(link: &UnixStream) -> Vec<u8> {
    const LIMIT: usize = 1 << 20;
    let mut kept = Kept(link, Vec::new());
    let answer = read_answer(&mut kept, LIMIT).unwrap();
    let mut more = answer.content == Content::Stream;
    while more {
        more = !read_frame(&mut kept, LIMIT).unwrap().last;
    }
    kept.1
}

#[test]
fn answers_are_those_of_djl_s_own_package() {
    if !python() {
        return;
    }
    let numpy = Command::new("python3")
        .args(["-c", "import numpy"])
        .output();
    let has_numpy = numpy.is_ok_and(|output| output.status.success());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = here.join("tests/conversations/model");
    let text = std::fs::read(here.join("tests/conversations/recorded.json")).unwrap();
    let recorded: Value = serde_json::from_slice(&text).unwrap();
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let mut worker = Command::new("python3")
        .arg(here.join("worker/sconce_worker.py"))
        .args(["--sock-type", "unix", "--sock-name"])
        .arg(&socket)
        .arg("--model-dir")
        .arg(&model)
        .args([
            "--entry-point",
            "model.py",
            "--device-id",
            "-1",
            "--cluster-size",
            "1",
        ])
        .args([
            "--recommended-entry-point",
            "",
            "--log-level",
            "info",
            "--no-async-mode",
        ])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&model)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Python engine started.")));
    // What is logged must not fill the pipe.
    let reading = std::thread::spawn(move || lines.count());
    let mut link = UnixStream::connect(&socket).unwrap();
    let mut compared = 0;
    for turn in recorded["conversation"].as_array().unwrap() {
        let name = turn["name"].as_str().unwrap();
        if name.starts_with("numpy") && !has_numpy {
            continue;
        }
        link.write_all(&bytes(&turn["request"])).unwrap();
        let (got, wanted) = (answer(&link), bytes(&turn["answer"]));
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(shown(&got), shown(&wanted), "{name}");
        assert_eq!(got, wanted, "{name}");
        compared += 1;
    }
    drop(link);
    worker.wait().unwrap();
    reading.join().unwrap();
    assert!(compared >= 24, "{compared}");
}
