//! Fetching from a bucket of this machine: what is kept, what is asked for again, what is refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sconce_config::{PrefixSettings, S3Model};
use sconce_core::{Phase, Progress};
use sconce_testkit::s3::{Failure, FakeS3, RunningS3};
use tempfile::TempDir;

use super::testing::signed;
use super::{bucket_folder, snapshot};
use crate::s3::access::PATIENCE;
use crate::s3::bucket::Bucket;

const CONFIG: &[u8] = b"{\"a config\": 1}";
const WEIGHTS: &[u8] = b"the bytes of the weights";
const WEIGHTS_KEY: &str = "models/llama/model.safetensors";

/// A checkpoint below `models/llama/`, and what does not belong to it.
fn bucket() -> FakeS3 {
    FakeS3::default()
        .object("models/llama/", b"")
        .object("models/llama/README.md", b"words")
        .object("models/llama/config.json", CONFIG)
        .object(WEIGHTS_KEY, WEIGHTS)
        .object("models/llama/onnx/model.onnx", b"others")
        .object("models/llama2/config.json", b"{}")
        .object("models/llama-7b.tar.gz", b"an archive")
}

fn fetch(model: &S3Model) -> Result<PathBuf, String> {
    snapshot(model, &|_, _| ()).map_err(|error| error.to_string())
}

/// The complaint about a bucket.
fn complaint(bucket: FakeS3, change: impl Fn(&mut S3Model)) -> String {
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let mut model = signed(&server.endpoint(), cache.path());
    change(&mut model);
    fetch(&model).expect_err("there is something to complain about")
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// Paths of the objects that were asked for since so many requests.
fn objects(server: &RunningS3, since: usize) -> Vec<String> {
    let paths = server.requests().split_off(since).into_iter();
    let paths = paths.map(|request| request.path);
    paths.filter(|path| !path.contains("list-type")).collect()
}

#[test]
fn what_serving_needs_is_fetched_once() {
    let (server, cache) = (bucket().start().unwrap(), TempDir::new().unwrap());
    let model = signed(&server.endpoint(), cache.path());
    let told: Arc<Mutex<Vec<_>>> = Arc::default();
    let tell = Arc::clone(&told);
    let dir = snapshot(&model, &move |phase, progress| {
        tell.lock().unwrap().push((phase, progress))
    });
    let dir = dir.unwrap();
    assert_eq!(names(&dir), ["config.json", "model.safetensors"]);
    assert_eq!(
        std::fs::read(dir.join("model.safetensors")).unwrap(),
        WEIGHTS
    );
    assert!(dir.starts_with(cache.path().join("download")));
    let total = (CONFIG.len() + WEIGHTS.len()) as u64;
    let last = told.lock().unwrap().pop();
    assert_eq!(
        last,
        Some((Phase::Fetching, Progress { done: total, total }))
    );

    let asked = server.requests().len();
    std::fs::remove_file(dir.with_extension("lock")).unwrap();
    assert_eq!(fetch(&model), Ok(dir.clone()));
    assert_eq!(objects(&server, asked), [""; 0]);
    // A cache that can only be read will do.
    assert!(!dir.with_extension("lock").exists());

    drop(server);
    assert_eq!(fetch(&model), Ok(dir.clone()));
    std::fs::remove_file(dir.join("config.json")).unwrap();
    says(
        &fetch(&model).unwrap_err(),
        &["refused", "AWS_ENDPOINT_URL", "ModelDataSource"],
    );
}

#[test]
fn long_objects_come_in_parts_and_long_listings_in_pages() {
    let long: Vec<u8> = (0..17_u32 << 20).map(|at| (at % 251) as u8).collect();
    let bucket = bucket().object(WEIGHTS_KEY, &long).pages_of(1);
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let dir = fetch(&signed(&server.endpoint(), cache.path())).unwrap();
    assert!(std::fs::read(dir.join("model.safetensors")).unwrap() == long);
    let requests = server.requests().into_iter();
    let parts: Vec<_> = requests
        .filter(|request| request.path.ends_with("model.safetensors"))
        .collect();
    assert_eq!(parts.len(), 3);
    assert!(parts.iter().all(|part| part.if_match.is_some()));
}

#[test]
fn keys_may_have_any_characters() {
    let odd = "odd +(1)=/ü %41";
    let bucket = FakeS3::default()
        .object(&format!("{odd}/config.json"), CONFIG)
        .object(&format!("{odd}/model.safetensors"), WEIGHTS)
        .object(&format!("{odd}/wörter +%41.json"), b"{}");
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let mut model = signed(&server.endpoint(), cache.path());
    model.prefix = odd.into();
    let dir = fetch(&model).unwrap();
    assert!(names(&dir).contains(&"wörter +%41.json".to_owned()));
}

#[test]
fn passing_failures_are_tried_again() {
    let busy = Failure::Refusal("503 Slow Down", "SlowDown");
    let bucket = bucket().fault("list-type", 2, busy);
    let bucket = bucket.fault("config.json", 2, Failure::Refusal("500 x", "InternalError"));
    let bucket = bucket.fault("safetensors", 2, Failure::Cut(5));
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let dir = fetch(&signed(&server.endpoint(), cache.path())).unwrap();
    assert_eq!(
        std::fs::read(dir.join("model.safetensors")).unwrap(),
        WEIGHTS
    );
}

#[test]
fn a_start_that_was_cut_off_leaves_nothing_that_looks_whole() {
    let bucket = bucket().fault("safetensors", 6, Failure::Cut(5));
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let model = signed(&server.endpoint(), cache.path());
    says(&fetch(&model).unwrap_err(), &["fetching model.safetensors"]);
    let asked = server.requests().len();
    let dir = fetch(&model).unwrap();
    assert_eq!(
        objects(&server, asked),
        ["/bucket/models/llama/model.safetensors"]
    );
    assert_eq!(names(&dir), ["config.json", "model.safetensors"]);
}

#[test]
fn objects_that_change_between_two_starts_are_fetched_again() {
    let (server, cache) = (bucket().start().unwrap(), TempDir::new().unwrap());
    let model = signed(&server.endpoint(), cache.path());
    server.put("models/llama/model.safetensors.index.json", Some(b"{}"));
    let dir = fetch(&model).unwrap();
    let asked = server.requests().len();
    server.put("models/llama/model.safetensors.index.json", None);
    let other: Vec<u8> = WEIGHTS.iter().rev().copied().collect();
    server.put(WEIGHTS_KEY, Some(&other));
    assert_eq!(fetch(&model), Ok(dir.clone()));
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap(), other);
    assert_eq!(
        objects(&server, asked),
        ["/bucket/models/llama/model.safetensors"]
    );
    assert_eq!(names(&dir), ["config.json", "model.safetensors"]);
}

#[test]
fn an_object_that_changes_after_it_was_listed_is_refused() {
    let (server, cache) = (bucket().start().unwrap(), TempDir::new().unwrap());
    let model = signed(&server.endpoint(), cache.path());
    let bucket = Bucket::open(&model, PATIENCE).unwrap();
    let is_weights = |name: &str| name == "model.safetensors";
    let weights = bucket
        .files()
        .iter()
        .find(|file| is_weights(&file.name))
        .unwrap();
    assert_eq!(bucket.read(weights, 4..9).unwrap(), WEIGHTS[4..9]);
    server.put(WEIGHTS_KEY, Some(b"something else"));
    let problem = bucket.read(weights, 4..9).unwrap_err().to_string();
    assert_eq!(
        problem,
        "model.safetensors has changed while it was fetched"
    );
}

#[test]
fn prefixes_with_the_same_names_have_folders_of_their_own() {
    let bucket = bucket()
        .object("other/llama/config.json", b"{}")
        .object("other/llama/model.safetensors", b"other weights");
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let first = signed(&server.endpoint(), cache.path());
    let second = S3Model {
        prefix: "other/llama".into(),
        ..first.clone()
    };
    let (first, second) = (fetch(&first).unwrap(), fetch(&second).unwrap());
    assert_eq!(
        std::fs::read(first.join("model.safetensors")).unwrap(),
        WEIGHTS
    );
    let weights = std::fs::read(second.join("model.safetensors")).unwrap();
    assert_eq!(weights, b"other weights");
}

#[test]
fn a_bucket_in_another_region_is_read_from_there() {
    let bucket = bucket().region("us-west-2");
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    fetch(&signed(&server.endpoint(), cache.path())).unwrap();
    let region = |(_, region): (String, String)| region;
    let requests = server.requests().into_iter();
    let regions: Vec<_> = requests
        .filter_map(|request| request.signed.map(region))
        .collect();
    assert_eq!(regions[..2], ["eu-west-1", "us-west-2"]);
    assert!(regions[2..].iter().all(|region| region == "us-west-2"));
}

#[test]
fn public_buckets_need_no_credentials() {
    let (server, cache) = (bucket().start().unwrap(), TempDir::new().unwrap());
    let mut model = signed(&server.endpoint(), cache.path());
    model.variables.retain(|(name, _)| !name.contains("KEY"));
    model
        .variables
        .push(("AWS_SKIP_SIGNATURE".into(), "true".into()));
    fetch(&model).unwrap();
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.signed.is_none())
    );
}

#[test]
fn refusals_are_told_in_the_words_of_s3_with_the_cure() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "list-type",
            "403 Forbidden",
            "AccessDenied",
            &["s3:ListBucket on arn:aws:s3:::bucket"],
        ),
        (
            "safetensors",
            "403 Forbidden",
            "AccessDenied",
            &[
                "fetching model.safetensors",
                "s3:GetObject on arn:aws:s3:::bucket/models/llama/*",
            ],
        ),
        (
            "list-type",
            "400 Bad Request",
            "ExpiredToken",
            &["too old", "AWS_ACCESS_KEY_ID"],
        ),
        (
            "list-type",
            "403 Forbidden",
            "InvalidAccessKeyId",
            &["credentials are wrong"],
        ),
        (
            "list-type",
            "403 Forbidden",
            "RequestTimeTooSkewed",
            &["clock", "15 minutes"],
        ),
        (
            "list-type",
            "404 Not Found",
            "NoSuchBucket",
            &["name of the bucket"],
        ),
        (
            "safetensors",
            "403 Forbidden",
            "InvalidObjectState",
            &["Glacier", "restore-object"],
        ),
        (
            "safetensors",
            "404 Not Found",
            "NoSuchKey",
            &["removed meanwhile"],
        ),
        (
            "list-type",
            "301 Moved Permanently",
            "PermanentRedirect",
            &["AWS_REGION"],
        ),
    ];
    for (on, status, code, parts) in cases {
        let refusal = Failure::Refusal(status, code);
        let message = complaint(bucket().fault(on, usize::MAX, refusal), |_| ());
        says(
            &message,
            &[*parts, &[code, "as planned", "s3://bucket/models/llama/"]].concat(),
        );
    }
}

#[test]
fn a_service_that_stays_busy_is_given_up() {
    let busy = Failure::Refusal("503 Slow Down", "SlowDown");
    let message = complaint(bucket().fault("list-type", usize::MAX, busy), |_| ());
    says(&message, &["SlowDown", "503", "try again later"]);
}

#[test]
fn missing_credentials_say_where_they_were_looked_for() {
    let without_keys = |model: &mut S3Model| {
        model.variables.retain(|(name, _)| !name.contains("KEY"));
    };
    let set = |model: &mut S3Model, name: &str, value: &str| {
        model.variables.push((name.into(), value.into()));
    };
    let nowhere = complaint(bucket(), |model| {
        without_keys(model);
        set(model, "AWS_EC2_METADATA_DISABLED", "true");
        set(model, "AWS_PROFILE", "dev");
    });
    says(&nowhere, &["AWS_EC2_METADATA_DISABLED", "--profile dev"]);
    let nobody = complaint(bucket(), |model| {
        without_keys(model);
        set(
            model,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "http://127.0.0.1:1",
        );
    });
    says(
        &nobody,
        &["role of the instance", "refused", "AWS_SKIP_SIGNATURE"],
    );
    let half = complaint(bucket(), |model| {
        model.variables.retain(|(name, _)| !name.contains("SECRET"));
    });
    says(&half, &["AWS_ACCESS_KEY_ID", "Missing SecretAccessKey"]);
}

#[test]
fn prefixes_without_objects_say_what_is_there() {
    let at = |prefix: &'static str| move |model: &mut S3Model| model.prefix = prefix.into();
    let packed = complaint(bucket(), at("models"));
    says(
        &packed,
        &["only llama-7b.tar.gz", "archives are not unpacked"],
    );
    let folders = bucket().object("a/b/x", b"").object("a/c/x", b"");
    says(&complaint(folders, at("a")), &["only prefixes: a/b, a/c"]);
    let missing = complaint(bucket(), at("models/lama"));
    says(
        &missing,
        &["no objects below", "models/llama/, models/llama2/"],
    );
    let archive = complaint(bucket(), at("models/llama-7b.tar.gz"));
    says(&archive, &["is one object", "tar xf", "ModelDataUrl"]);
    let object = complaint(bucket(), at("models/llama/config.json"));
    says(&object, &["is one object", "models/llama/"]);
    let marker = complaint(bucket().object("empty/", b""), at("empty"));
    says(&marker, &["the marker of an empty folder", "aws s3 sync"]);
    says(
        &complaint(FakeS3::default(), at("")),
        &["the bucket is empty"],
    );
    let weightless = FakeS3::default().object("models/llama/config.json", b"{}");
    says(
        &complaint(weightless, |_| ()),
        &["neither safetensors", "only config.json"],
    );
    let only = FakeS3::default().object("a/b/config.json", b"{}");
    says(
        &complaint(only, at("a")),
        &["did you mean the prefix a/b/?"],
    );
}

#[test]
fn disks_without_room_are_named_with_the_cure() {
    let huge = bucket().claim(WEIGHTS_KEY, 1 << 60);
    says(
        &complaint(huge, |_| ()),
        &["MiB left", "SERVING_DOWNLOAD_DIR"],
    );
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a file where a folder belongs");
    std::fs::write(&file, "").unwrap();
    let message = complaint(bucket(), |model| model.caches = vec![file.clone()]);
    says(
        &message,
        &["where a folder belongs/download", "SERVING_DOWNLOAD_DIR"],
    );
    let server = bucket().start().unwrap();
    let mut model = signed(&server.endpoint(), &file);
    model.caches.push(dir.path().join("second"));
    assert!(
        fetch(&model)
            .unwrap()
            .starts_with(dir.path().join("second"))
    );
}

#[test]
fn settings_of_a_prefix_are_those_that_were_read() {
    let bucket = bucket().object("models/llama/serving.properties", b"option.dtype=fp32");
    let (server, cache) = (bucket.start().unwrap(), TempDir::new().unwrap());
    let mut model = signed(&server.endpoint(), cache.path());
    model.settings = PrefixSettings::Unread;
    says(
        &fetch(&model).unwrap_err(),
        &["could not be read when the program started"],
    );

    let folder = bucket_folder(&model).unwrap();
    assert!(folder.files.contains(&"README.md".to_owned()));
    let properties = folder.properties.unwrap();
    assert_eq!(properties.bytes, b"option.dtype=fp32");
    model.settings = PrefixSettings::Read(Some(properties.etag.clone()));
    let dir = fetch(&model).unwrap();
    assert_eq!(
        names(&dir),
        ["config.json", "model.safetensors", "serving.properties"]
    );
    server.put(
        "models/llama/serving.properties",
        Some(b"option.dtype=fp16"),
    );
    says(
        &fetch(&model).unwrap_err(),
        &["has changed since the program started"],
    );

    drop(server);
    let earlier = bucket_folder(&model).unwrap().properties.unwrap();
    assert_eq!(earlier, properties);
    assert_eq!(fetch(&model), Ok(dir));
    model.settings = PrefixSettings::Unread;
    assert!(fetch(&model).is_err());
}
