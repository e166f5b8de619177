//! The package that this crate ships, beside DJL Serving's own: the same requests, and byte for
//! byte the same answers. `tests/conversations/record.py` recorded the latter.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// A worker of this crate's package with one of the recorded conversations.
struct Conversation<'a> {
    recorded: &'a Value,
    /// Where the model is copied to, as its code may write beside itself.
    dir: TempDir,
    has_numpy: bool,
}

impl Conversation<'_> {
    fn text(&self, key: &str) -> &str {
        self.recorded[key].as_str().unwrap()
    }

    fn start(&self, model: &Path) -> Child {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let asynchronous = self.recorded["asynchronous"] == true;
        Command::new("python3")
            .arg(here.join("worker/sconce_worker.py"))
            .args(["--sock-type", "unix", "--sock-name"])
            .arg(self.dir.path().join("socket"))
            .arg("--model-dir")
            .arg(model)
            .args(["--entry-point", self.text("entry_point")])
            .args(["--device-id", "-1", "--cluster-size", "1"])
            .args(["--recommended-entry-point", "", "--log-level", "info"])
            .arg(match asynchronous {
                true => "--async-mode",
                false => "--no-async-mode",
            })
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", model)
            .current_dir(model)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Says what was said, and compares what is answered; how many answers were compared.
    fn replay(&self) -> usize {
        let folder = self.text("folder");
        let model = self.dir.path().join(folder);
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
        std::fs::create_dir(&model).unwrap();
        for file in std::fs::read_dir(here.join(folder)).unwrap() {
            let file = file.unwrap();
            if file.path().is_file() {
                std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
            }
        }
        let mut worker = self.start(&model);
        let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("Python engine started.")));
        // What is logged must not fill the pipe.
        let reading = std::thread::spawn(move || lines.count());
        let mut link = UnixStream::connect(self.dir.path().join("socket")).unwrap();
        let mut compared = 0;
        for turn in self.recorded["turns"].as_array().unwrap() {
            let name = turn["name"].as_str().unwrap();
            if name.starts_with("numpy") && !self.has_numpy {
                continue;
            }
            link.write_all(&self.request(turn)).unwrap();
            let wanted = bytes(&turn["answer"]);
            let mut got = answer(&link);
            // An answer of the asynchronous mode has several messages.
            while got.len() < wanted.len() && wanted.starts_with(&got) {
                got.extend(answer(&link));
            }
            self.compare(name, &got, &wanted);
            compared += 1;
        }
        drop(link);
        worker.wait().unwrap();
        reading.join().unwrap();
        compared
    }

    /// The request, with a directory of this machine where one is asked for.
    fn request(&self, turn: &Value) -> Vec<u8> {
        const PLACE: &[u8] = b"\0\0\0\x08SESSIONS";
        let request = bytes(&turn["request"]);
        let Some(at) = request.windows(PLACE.len()).position(|part| part == PLACE) else {
            return request;
        };
        let sessions = self.dir.path().join("sessions").display().to_string();
        let length = u32::try_from(sessions.len()).unwrap().to_be_bytes();
        [
            &request[..at],
            &length,
            sessions.as_bytes(),
            &request[at + PLACE.len()..],
        ]
        .concat()
    }

    #[track_caller]
    fn compare(&self, name: &str, got: &[u8], wanted: &[u8]) {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = format!("{} {name}", self.text("name"));
        if ["sagemaker numpy output fails", "sagemaker numpy no array"].contains(&name.as_str()) {
            // Ours says why, too.
            let error = |text: String| Some(text.split_once("\"error\":\"")?.1.to_owned());
            let (got, wanted) = (error(shown(got)).unwrap(), error(shown(wanted)).unwrap());
            let wanted = wanted.split('"').next().unwrap();
            assert!(got.starts_with(wanted), "{got}");
            return;
        }
        assert_eq!(shown(got), shown(wanted), "{name}");
        assert_eq!(got, wanted, "{name}");
    }
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
    let text = std::fs::read(here.join("tests/conversations/recorded.json")).unwrap();
    let recorded: Value = serde_json::from_slice(&text).unwrap();
    let mut compared = 0;
    for recorded in recorded["conversations"].as_array().unwrap() {
        if recorded["name"] == "sagemaker" && !has_numpy {
            println!("skipped: there is no NumPy, which the handlers of SageMaker use");
            continue;
        }
        let conversation = Conversation {
            recorded,
            dir: TempDir::new().unwrap(),
            has_numpy,
        };
        compared += conversation.replay();
    }
    assert!(compared >= 43, "{compared}");
}
