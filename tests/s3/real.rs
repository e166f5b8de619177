//! The same with an S3 that is not ours: moto's, which knows users and looks at signatures. Skipped where
//! `tests/fetch_clients.py` has not been able to fetch it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Start, URL};
use crate::support::{answer, answer_of_the_folder, started, tiny};

/// The program, its address, and the key of a user and its secret.
struct Moto {
    program: Child,
    said: [String; 3],
}

impl Moto {
    #[allow(clippy::print_stdout)]
    fn start() -> Option<Self> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let package = root.join("target/moto");
        if !package.is_dir() {
            println!("skipped: target/moto is not there; `make sdk` fetches it");
            return None;
        }
        let mut program = Command::new("python3")
            .args(["-W", "ignore"])
            .arg(root.join("tests/moto/serve.py"))
            .args([tiny("llama").as_os_str(), "models/llama".as_ref()])
            .env("PYTHONPATH", package)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // No settings of this machine's user.
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let said: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let said = said.try_into().expect("an address, a key and a secret");
        Some(Self { program, said })
    }

    fn user(&self) -> Start {
        let [url, key, secret] = &self.said;
        Start::at(url.clone())
            .variable("AWS_ACCESS_KEY_ID", key)
            .variable("AWS_SECRET_ACCESS_KEY", secret)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn an_s3_that_checks_signatures_is_served_from_in_each_way() {
    let Some(moto) = Moto::start() else {
        return;
    };
    let expected = answer_of_the_folder();
    let start = moto.user();
    assert_eq!(answer(&start.serve()), expected);
    assert_eq!(answer(&start.serve()), expected, "from the cache");
    for properties in [
        format!("option.model_id={URL}\noption.load_format=stream\n"),
        format!(
            "option.model_id={URL}\noption.load_format=stream\noption.tensor_parallel_degree=2\noption.device=cpu\n"
        ),
        // Of more objects than a page of the listing has.
        "option.model_id=s3://bucket/many/\n".into(),
    ] {
        let server = started(moto.user().folder(&properties));
        assert_eq!(answer(&server), expected, "{properties}");
    }
}

#[test]
fn what_it_refuses_is_told_in_its_words() {
    let Some(moto) = Moto::start() else {
        return;
    };
    let key = "AWS_ACCESS_KEY_ID";
    for (start, url, told) in [
        (
            moto.user().variable("AWS_SECRET_ACCESS_KEY", "another"),
            URL,
            "SignatureDoesNotMatch",
        ),
        (
            moto.user().variable(key, "AKIAUNKNOWN"),
            URL,
            "InvalidAccessKeyId",
        ),
        (moto.user(), "s3://bucket/models/nothing/", "nothing"),
        (moto.user(), "s3://no-such-bucket/models/", "NoSuchBucket"),
    ] {
        let launch = start.folder(&format!("option.model_id={url}\n"));
        let mut server = launch.start().unwrap();
        server.wait_for_log(told).unwrap();
        let [_, _, secret] = &moto.said;
        assert!(!server.log().contains(secret), "{}", server.log());
    }
}
