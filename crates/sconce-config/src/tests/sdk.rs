//! Files and environments that the SageMaker SDK made: what they are resolved to.

use std::path::{Path, PathBuf};

use super::Start;
use crate::{ConfigErrors, Dtype, ModelSource, PrefixSettings, Resolved};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/sdk")
        .join(case)
}

/// The start of a container with these files and variables.
fn start(case: &str) -> Result<Resolved, ConfigErrors> {
    let mut start = Start::without_model();
    if let Ok(text) = std::fs::read_to_string(folder(case).join("serving.properties")) {
        start = start.properties(&text);
    }
    let environment = std::fs::read_to_string(folder(case).join("env.json")).unwrap();
    let environment: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&environment).unwrap();
    for (name, value) in environment {
        start = start.variable(&name, value.as_str().unwrap());
    }
    start.resolve()
}

#[test]
fn models_of_the_hub_resolve() {
    let model = start("2.223.0-hub-id").unwrap().model;
    let ModelSource::Hub(source) = model.source else {
        panic!("{:?}", model.source)
    };
    assert_eq!(
        (source.id.as_str(), source.revision, source.token),
        ("my-org/gpt2", None, None)
    );
    assert_eq!(model.dtype, Dtype::F32);
    let resolved = start("2.257.7-all-options").unwrap();
    let model = resolved.model;
    assert_eq!(
        (model.ranks, model.dtype, model.job_queue_size),
        (4, Dtype::Bf16, 250)
    );
    assert_eq!(
        (
            model.predict_timeout.as_secs(),
            model.model_loading_timeout.as_secs()
        ),
        (90, 900)
    );
    let model = start("2.257.7-env-rolling-batch").unwrap().model;
    assert_eq!((model.ranks, model.max_rolling_batch_size), (1, 32));
    assert_eq!(start("2.257.7-model-builder").unwrap().server.log, "debug");
    start("2.257.7-model-data-tar-gz").unwrap();
}

#[test]
fn models_of_s3_resolve() {
    for (case, prefix, settings) in [
        (
            "2.140.0-guide-deepspeed-bf16-tp2",
            "gpt-j-6B",
            PrefixSettings::Elsewhere,
        ),
        (
            "2.150.0-djlmodel-all-options",
            "gpt-j-6B",
            PrefixSettings::Elsewhere,
        ),
        ("2.257.7-s3-model-id", "llama", PrefixSettings::Unread),
    ] {
        let model = start(case).unwrap().model;
        let ModelSource::S3(source) = model.source else {
            panic!("{case}: {:?}", model.source)
        };
        assert_eq!(source.bucket, "my-bucket", "{case}");
        assert_eq!(
            (source.prefix.as_str(), source.settings),
            (prefix, settings)
        );
    }
}
