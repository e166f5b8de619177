//! Models that are registered from a bucket and from a hub, as `model_url_pattern` lets them be.

use sconce_testkit::hub::FakeHub;
use sconce_testkit::s3::{Failure, FakeS3};

use super::*;
use crate::support::tiny;

fn register_url(host: &Host, url: &str, name: &str) -> Answer {
    let path = format!("/models?url={url}&model_name={name}");
    host.client.post_bytes(&path, &[], b"").unwrap()
}

/// A server that fetches from this bucket into a directory of its own.
fn with_bucket(endpoint: &str, pattern: &str, cache: &TempDir) -> Host {
    Host::empty(&[
        ("SERVING_MODEL_URL_PATTERN", pattern),
        ("SERVING_DOWNLOAD_DIR", &cache.path().to_string_lossy()),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-west-1"),
    ])
}

#[test]
fn a_prefix_of_s3_is_fetched_and_answers_with_the_settings_that_lie_there() {
    let bucket = FakeS3::default()
        .folder("models/llama", &tiny("llama"))
        .unwrap()
        .object("models/llama/serving.properties", ROLLING.as_bytes())
        .object("models/empty/notes", b"nothing")
        .fault("models/llama/model.safetensors", 1, Failure::Cut(100));
    let bucket = bucket.start().unwrap();
    let cache = TempDir::new().unwrap();
    let host = with_bucket(&bucket.endpoint(), "s3://bucket/models/.*", &cache);
    let answer = register_url(&host, "s3://bucket/models/llama/", "m");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answers(&host.client, "/predictions/m", &known("llama"));
    let described = host.client.get("/models/m").unwrap().json().unwrap();
    let url = &described[0]["models"][0]["modelUrl"];
    assert_eq!(url, "s3://bucket/models/llama/");
    // What is refused leaves nothing behind, and asks nobody.
    let asked = bucket.requests().len();
    for url in ["s3://other/models/llama/", "s3://bucket/secret/"] {
        let refused = register_url(&host, url, "other");
        assert_eq!(refused.status, 404, "{}", refused.text());
        assert!(refused.text().contains("model_url_pattern"));
    }
    assert_eq!(bucket.requests().len(), asked);
    let nothing = register_url(&host, "s3://bucket/models/none/", "none");
    assert_eq!(nothing.status, 500, "{}", nothing.text());
    assert!(
        nothing.text().contains("s3://bucket/models/none/"),
        "{}",
        nothing.text()
    );
    assert_eq!(host.list(), [("m".into(), "READY".into())]);
    assert_eq!(host.delete("m").status, 200);
}

#[test]
fn a_repository_of_the_hub_is_fetched_and_answers() {
    let hub = FakeHub::of_folder("tiny-org/llama", &tiny("llama")).unwrap();
    let hub = hub.start().unwrap();
    let home = TempDir::new().unwrap();
    let host = Host::empty(&[
        ("SERVING_MODEL_URL_PATTERN", "tiny-org/.*"),
        ("OPTION_ROLLING_BATCH", "auto"),
        ("HF_ENDPOINT", &hub.endpoint()),
        ("HF_HOME", &home.path().to_string_lossy()),
    ]);
    let answer = register_url(&host, "tiny-org/llama", "m");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answers(&host.client, "/predictions/m", &known("llama"));
    let refused = register_url(&host, "other-org/llama", "other");
    assert_eq!(refused.status, 404, "{}", refused.text());
    let missing = register_url(&host, "tiny-org/missing", "missing");
    assert_eq!(missing.status, 500, "{}", missing.text());
    assert!(
        missing.text().contains("tiny-org/missing"),
        "{}",
        missing.text()
    );
    assert_eq!(host.list(), [("m".into(), "READY".into())]);
}

#[test]
fn an_archive_is_unpacked_and_answers() {
    let cache = TempDir::new().unwrap();
    let host = Host::empty(&[("SERVING_DOWNLOAD_DIR", &cache.path().to_string_lossy())]);
    let folder = host.folder("llama", "m", ROLLING);
    let archive = host.dir.path().join("my-model.tar.gz");
    let file = std::fs::File::create(&archive).unwrap();
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        file,
        flate2::Compression::fast(),
    ));
    builder.append_dir_all(".", &folder).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let url = archive.display();
    let answer = host
        .client
        .post_bytes(&format!("/models?url={url}"), &[], b"")
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answers(&host.client, "/predictions/my_model", &known("llama"));
    std::fs::write(&archive, "no archive").unwrap();
    let broken = register(&host.client, "other", &archive, "");
    assert_eq!(broken.status, 404, "{}", broken.text());
    assert!(
        broken.text().contains("cannot be unpacked"),
        "{}",
        broken.text()
    );
}
