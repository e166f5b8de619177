//! What SageMaker's SDK made of pipelines in 2023: its properties beside an archive of code, the pipeline in S3.

use std::fs;
use std::path::Path;

use sconce_testkit::client::Client;
use sconce_testkit::s3::{FakeS3, RunningS3};
use sconce_testkit::server::{Launch, Server};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{PNG, root, serve};
use crate::support::PROGRAM;

/// Artifacts and the tiny pipelines that stand in for theirs.
const ARTIFACTS: [(&str, &str); 4] = [
    ("2.150.0-stable-diffusion-fp16", "sd1"),
    ("2.150.0-stable-diffusion-xl", "sdxl"),
    ("2.223.0-stable-diffusion-fp16", "sd2"),
    ("2.223.0-stable-diffusion-xl", "sdxl"),
];

/// A container as the SDK configures it: what it put into the model's archive is unpacked, and the archive of the code
/// still there.
fn container(artifact: &str, bucket: &RunningS3, dir: &Path) -> Server {
    let made = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../sconce-config/fixtures/sdk")
        .join(artifact);
    let store = dir.join("model");
    fs::create_dir_all(&store).unwrap();
    let properties = fs::read_to_string(made.join("serving.properties")).unwrap();
    let moved = properties.replace("s3://my-bucket/", "s3://bucket/");
    assert_ne!(moved, properties);
    fs::write(store.join("serving.properties"), moved).unwrap();
    fs::write(store.join("sourcedir.tar.gz"), b"\x1f\x8b").unwrap();
    let variables = fs::read_to_string(made.join("env.json")).unwrap();
    let variables: Map<String, Value> = serde_json::from_str(&variables).unwrap();
    let launch = Launch::bare(PROGRAM)
        .argument("serve")
        .env("SERVING_MODEL_STORE", &store.display().to_string())
        .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:8080")
        .env("SAGEMAKER_BIND_TO_PORT", "0")
        .env("SERVING_DOWNLOAD_DIR", &dir.join("cache").to_string_lossy())
        .env("AWS_ENDPOINT_URL", &bucket.endpoint())
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-west-1");
    let launch = variables.iter().fold(launch, |launch, (name, value)| {
        launch.env(name, value.as_str().unwrap())
    });
    let mut server = launch.start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    server
}

fn picture(server: &Server) -> Vec<u8> {
    let body = json!({"prompt": "a candle", "parameters": {"num_inference_steps": 2, "seed": 1}});
    let answer = Client::new(server.address())
        .post("/invocations", &body)
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("image/png"));
    assert!(answer.body.starts_with(PNG));
    answer.body
}

#[test]
fn containers_of_the_sdk_answer_with_the_pictures_of_the_folder() {
    for (artifact, pipeline) in ARTIFACTS {
        let prefix = match pipeline {
            "sdxl" => "stable-diffusion-xl",
            _ => "stable-diffusion",
        };
        let bucket = FakeS3::default().folder(prefix, &root().join(pipeline));
        let bucket = bucket.unwrap().start().unwrap();
        let dir = TempDir::new().unwrap();
        let container = container(artifact, &bucket, dir.path());
        let local = serve(pipeline, "");
        assert!(picture(&container) == picture(&local.server), "{artifact}");
        let asked = bucket.requests();
        let weights = |path: &str| path.contains(".safetensors") || path.contains(".bin");
        let fetched = asked.iter().filter(|asked| weights(&asked.path)).count();
        assert!(fetched >= 3, "{artifact}: {asked:?}");
    }
}

#[test]
fn an_archive_in_s3_is_refused_with_what_to_do() {
    let bucket = FakeS3::default().object("pipelines/sd1.tar.gz", b"\x1f\x8b");
    let bucket = bucket.start().unwrap();
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join("serving.properties"),
        "engine=DeepSpeed\noption.entryPoint=djl_python.stable-diffusion\n\
         option.model_id=s3://bucket/pipelines/sd1.tar.gz\n",
    )
    .unwrap();
    let cache = dir.path().join("cache");
    let (status, log) = Launch::serve(PROGRAM, dir.path())
        .env("SERVING_DOWNLOAD_DIR", &cache.to_string_lossy())
        .env("AWS_ENDPOINT_URL", &bucket.endpoint())
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-west-1")
        .run()
        .unwrap();
    assert!(!status.success(), "{log}");
    for part in ["sd1.tar.gz", "unpack it", "ModelDataUrl"] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
}
