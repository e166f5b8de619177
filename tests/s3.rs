//! Models in S3, against a bucket on this machine: named in each way, cached, refused.

mod real;
mod streams;

use std::path::PathBuf;
use std::time::Duration;

use sconce_testkit::client::Client;
use sconce_testkit::fakes::Gate;
use sconce_testkit::s3::{Failure, FakeS3, RunningS3};
use sconce_testkit::server::{Launch, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PROGRAM, answer, answer_of_the_folder, started, tiny, wait_for_ping, without_folder,
};

const URL: &str = "s3://bucket/models/llama/";
const SECRET: &str = "the secret of the key";

fn llama() -> FakeS3 {
    let bucket = FakeS3::default().folder("models/llama", &tiny("llama"));
    bucket.unwrap()
}

/// A start whose model is in the bucket, with a cache and a folder of its own.
struct Start {
    dir: TempDir,
    endpoint: String,
    variables: Vec<(&'static str, String)>,
}

impl Start {
    fn new(bucket: &RunningS3) -> Self {
        Self::at(bucket.endpoint())
            .variable("AWS_ACCESS_KEY_ID", "key")
            .variable("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    fn at(endpoint: String) -> Self {
        let start = Self {
            dir: TempDir::new().unwrap(),
            endpoint,
            variables: vec![],
        };
        start.variable("AWS_REGION", "eu-west-1")
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// `sconce serve FOLDER`, the folder with nothing but these properties.
    fn folder(&self, properties: &str) -> Launch<'static> {
        let folder = self.dir.path().join("model");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("serving.properties"), properties).unwrap();
        self.environment(Launch::serve(PROGRAM, &folder))
    }

    /// `sconce serve` with a model store that does not exist.
    fn bare(&self) -> Launch<'static> {
        self.environment(without_folder(self.dir.path()))
    }

    fn environment(&self, launch: Launch<'static>) -> Launch<'static> {
        let launch = launch
            .env("SERVING_DOWNLOAD_DIR", &self.cache().to_string_lossy())
            .env("AWS_ENDPOINT_URL", &self.endpoint);
        let set = |launch: Launch<'static>, (name, value): &(&str, String)| launch.env(name, value);
        self.variables.iter().fold(launch, set)
    }

    fn serve(&self) -> Server {
        started(self.folder(&format!("engine=Python\noption.s3url={URL}\n")))
    }
}

#[test]
fn option_s3url_is_fetched_served_and_taken_from_the_cache_the_next_time() {
    let bucket = llama().start().unwrap();
    let start = Start::new(&bucket);
    let expected = answer_of_the_folder();
    let server = start.serve();
    assert_eq!(answer(&server), expected);
    assert!(!server.log().contains(SECRET), "{}", server.log());
    let fetched = bucket.requests().len();
    assert_eq!(answer(&start.serve()), expected);
    let asked = bucket.requests().split_off(fetched);
    assert_eq!(asked.len(), 1, "only the listing is asked for: {asked:?}");

    drop(bucket);
    let server = start.serve();
    assert_eq!(answer(&server), expected);
    let log = server.log();
    assert!(log.contains("as it was fetched before"), "{log}");
}

#[test]
fn a_url_as_the_model_is_served_with_the_settings_that_lie_there() {
    let settings = b"option.max_model_len=40\n";
    let bucket = llama().object("models/llama/serving.properties", settings);
    let bucket = bucket.start().unwrap();
    let expected = answer_of_the_folder();
    let by_id = Start::new(&bucket).variable("HF_MODEL_ID", URL);
    let by_list =
        Start::new(&bucket).variable("SERVING_LOAD_MODELS", "llama=s3://bucket/models/llama");
    for start in [by_id, by_list] {
        let server = started(start.bare());
        assert_eq!(answer(&server), expected);
        let log = server.log();
        let origin = "option.max_model_len = 40 (s3://bucket/models/llama/serving.properties:1)";
        assert!(log.contains(origin), "{log}");
        let named = json!({"inputs": "The quick"});
        let named = Client::new(server.address()).post("/predictions/llama", &named);
        assert_eq!(named.unwrap().status, 200);
    }
}

#[test]
fn wrong_settings_in_a_bucket_end_the_start_with_their_line() {
    let bucket = llama().object("models/llama/serving.properties", b"\noption.dtyp=fp32\n");
    let bucket = bucket.start().unwrap();
    let start = Start::new(&bucket).variable("HF_MODEL_ID", URL);
    let (status, log) = start.bare().run().unwrap();
    assert_eq!(status.code(), Some(64), "{log}");
    for part in [
        "s3://bucket/models/llama/serving.properties:2",
        "option.dtype",
    ] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
}

#[test]
fn ping_tells_how_far_fetching_is() {
    let gate = Gate::default();
    let bucket = llama().wait_at_half(&gate).start().unwrap();
    let start = Start::new(&bucket);
    let launch = start.folder(&format!("option.model_id={URL}\n"));
    let mut server = launch.start().unwrap();
    let entry = wait_for_ping(&server, 503, |entry| {
        entry["phase"] == "fetching" && entry["bytes_done"].as_u64() > Some(0)
    });
    let size = std::fs::metadata(tiny("llama").join("model.safetensors"));
    assert!(
        entry["bytes_total"].as_u64() > Some(size.unwrap().len()),
        "{entry}"
    );
    assert!(
        entry["bytes_done"].as_u64() < entry["bytes_total"].as_u64(),
        "{entry}"
    );
    gate.open();
    server.wait_for_log("is ready after").unwrap();
    assert_eq!(answer(&server), answer_of_the_folder());
}

type Refusal = (&'static str, fn(FakeS3) -> FakeS3, &'static [&'static str]);

const REFUSALS: &[Refusal] = &[
    (
        "s3://bucket/models/lama/",
        |bucket| bucket,
        &[
            "no objects below this prefix",
            "models/llama/",
            "check the prefix",
        ],
    ),
    (
        "s3://buckets/models/llama/",
        |bucket| bucket,
        &["NoSuchBucket", "name of the bucket"],
    ),
    (
        URL,
        |bucket| {
            let denied = Failure::Refusal("403 Forbidden", "AccessDenied");
            bucket.fault("model.safetensors", usize::MAX, denied)
        },
        &["AccessDenied", "s3:GetObject"],
    ),
    (
        URL,
        |bucket| bucket.fault("model.safetensors", usize::MAX, Failure::Cut(1000)),
        &["fetching model.safetensors", "check the way to S3"],
    ),
    (
        URL,
        |bucket| bucket.claim("models/llama/model.safetensors", 1 << 60),
        &["MiB left", "SERVING_DOWNLOAD_DIR"],
    ),
];

#[test]
fn each_refusal_of_s3_is_told_with_its_cure_in_the_log_and_by_ping() {
    // The last words of a start that fails take seconds: all wait for theirs together.
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = REFUSALS
            .iter()
            .map(|case| scope.spawn(|| complaint(case)))
            .collect();
        let complaints = threads.into_iter().map(|thread| thread.join().unwrap());
        complaints.flatten().collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn complaint((url, change, says): &Refusal) -> Option<String> {
    let bucket = change(llama()).start().unwrap();
    let start = Start::new(&bucket);
    let launch = start.folder(&format!("option.model_id={url}\n"));
    let mut server = launch.start().unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    let status = server.wait(Duration::from_secs(30)).unwrap();
    let log = server.log();
    let has_all = |text: &str| says.iter().all(|part| text.contains(part)) && text.contains(url);
    if status.code() == Some(1) && has_all(cause) && has_all(&log) && !log.contains("panicked") {
        return None;
    }
    Some(format!("{url}: {status}, /ping says {cause}:\n{log}"))
}

#[test]
fn a_cache_that_cannot_be_written_is_named_with_the_cure() {
    let bucket = llama().start().unwrap();
    let start = Start::new(&bucket);
    std::fs::write(start.cache(), "a file where a folder belongs").unwrap();
    let launch = start.folder(&format!("option.model_id={URL}\n"));
    let server = launch.start().unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    for part in ["cache/download", "SERVING_DOWNLOAD_DIR"] {
        assert!(cause.contains(part), "{part} is not in: {cause}");
    }
}

#[test]
fn modules_of_sentence_transformers_are_fetched_from_the_folders_below_a_prefix() {
    let folder = crate::tasks::FOLDERS.root().join("distilbert-sentences");
    let golden = crate::tasks::FOLDERS.golden::<Value>("distilbert-sentences");
    let bucket = FakeS3::default().folder("models/st", &folder).unwrap();
    let bucket = bucket.object("models/st/onnx/model.onnx", b"others");
    let bucket = bucket.start().unwrap();
    let start = Start::new(&bucket);
    let server = started(start.folder("option.s3url=s3://bucket/models/st/\n"));
    let request = &golden.requests[0];
    let answer = Client::new(server.address()).post("/invocations", &request.body());
    let got = answer.unwrap().json().unwrap();
    let difference = crate::folders::difference(&got, &request.answer, "vectors");
    assert_eq!(difference, None, "{}", server.log());
    let mut asked = bucket.requests().into_iter();
    assert!(asked.all(|request| !request.path.contains("onnx")));
}

#[test]
fn code_below_a_prefix_answers_with_all_that_lies_there() {
    if !crate::python_mode::python() {
        return;
    }
    let code = b"import os\nfrom djl_python import Output\nfrom parts import inner\n\n\
        def handle(inputs):\n    \
        if inputs.is_empty():\n        return None\n    \
        text = open(os.path.join('data', 'words.txt')).read()\n    \
        return Output().add(inner.shout(text + inputs.get_as_string()))\n";
    let inner = b"def shout(text):\n    return text.upper()\n";
    let bucket = FakeS3::default()
        .object("mine/model.py", code)
        .object("mine/parts/__init__.py", b"")
        .object("mine/parts/inner.py", inner)
        .object("mine/data/words.txt", b"words of ")
        .object("mine/serving.properties", b"maxWorkers=1\noption.own=1\n");
    let bucket = bucket.start().unwrap();
    let start = Start::new(&bucket).variable("HF_MODEL_ID", "s3://bucket/mine/");
    for again in [false, true] {
        let server = started(start.bare());
        let answer = Client::new(server.address());
        let answer = answer.post_bytes("/invocations", &[], b"mine").unwrap();
        let log = server.log();
        assert_eq!(answer.text(), "WORDS OF MINE", "{log}");
        assert_eq!(
            log.contains("is at") && log.contains("already"),
            again,
            "{log}"
        );
    }
}
