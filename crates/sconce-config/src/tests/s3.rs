//! Models in S3: where they are named, whose settings hold, where their objects go.

use std::path::{Path, PathBuf};

use super::{Start, says};
use crate::{
    BucketFile, BucketFolder, ConfigErrors, Environment, ModelSource, Outside, PrefixSettings,
    Resolved, S3Model, Unreached, resolve_with,
};

fn bucket_of(resolved: &Resolved) -> &S3Model {
    match &resolved.model.source {
        ModelSource::S3(model) => model,
        other => panic!("{other:?}"),
    }
}

/// Has this below every prefix.
struct Holding(BucketFolder);

impl Outside for Holding {
    fn folder(&self, _: &S3Model) -> Option<BucketFolder> {
        Some(self.0.clone())
    }

    fn unpacked(&self, archive: &Path, caches: &[PathBuf]) -> Result<PathBuf, String> {
        Unreached.unpacked(archive, caches)
    }
}

/// Resolves with a bucket whose every prefix holds this.
fn with_folder(start: &Start, folder: &BucketFolder) -> Result<Resolved, ConfigErrors> {
    let environment: Environment = start.variables.iter().cloned().collect();
    resolve_with(&start.line, &environment, &Holding(folder.clone()))
}

fn folder(files: &[&str], properties: Option<&str>) -> BucketFolder {
    let file = |text: &str| BucketFile {
        bytes: text.into(),
        etag: "\"tag\"".into(),
    };
    BucketFolder {
        files: files.iter().map(|name| (*name).to_owned()).collect(),
        properties: properties.map(file),
    }
}

#[test]
fn the_properties_of_a_directory_name_a_prefix_by_either_key() {
    for key in ["option.model_id", "option.s3url"] {
        let properties = format!("{key}=s3://my-bucket/models/gpt-j-6B/\n");
        let resolved = Start::without_model().properties(&properties).resolved();
        let model = bucket_of(&resolved);
        assert_eq!(model.url(), "s3://my-bucket/models/gpt-j-6B/");
        assert_eq!(model.settings, PrefixSettings::Elsewhere);
        assert_eq!(resolved.model.name, "model");
    }
}

#[test]
fn a_url_is_a_model_wherever_models_are_named() {
    let url = "s3://my-bucket/models/gpt-j/";
    let by_hub_id = Start::without_model().variable("HF_MODEL_ID", url);
    let by_list = Start::without_model().variable("SERVING_LOAD_MODELS", url);
    let mut by_line = Start::without_model();
    by_line.line.model_dir = Some(url.into());
    for start in [by_hub_id, by_list, by_line] {
        let resolved = start.resolved();
        let model = bucket_of(&resolved);
        assert_eq!(
            (model.url().as_str(), &model.settings),
            (url, &PrefixSettings::Unread)
        );
        assert_eq!(resolved.model.name, "gpt_j");
    }
    let named = format!("llm::Python:*={url}");
    let start = Start::without_model().variable("SERVING_LOAD_MODELS", &named);
    assert_eq!(start.resolved().model.name, "llm");
}

#[test]
fn a_model_in_a_bucket_has_its_own_settings_there() {
    let start = Start::without_model()
        .variable("HF_MODEL_ID", "s3://my-bucket/gpt-j")
        .variable("OPTION_DTYPE", "fp16")
        .variable("OPTION_MAX_MODEL_LEN", "77");
    let with = |properties| with_folder(&start, &folder(&["config.json"], properties));
    let resolved = with(Some("option.dtype=fp32\n")).unwrap();
    assert_eq!(resolved.model.dtype, crate::Dtype::F32);
    assert_eq!(resolved.model.max_model_len, Some(77));
    let read = PrefixSettings::Read(Some("\"tag\"".into()));
    assert_eq!(bucket_of(&resolved).settings, read);
    let resolved = with(None).unwrap();
    assert_eq!(resolved.model.dtype, crate::Dtype::F16);
    assert_eq!(bucket_of(&resolved).settings, PrefixSettings::Read(None));
    let wrong = with(Some("\noption.dtyp=fp32\n")).unwrap_err().to_string();
    says(
        &wrong,
        &["s3://my-bucket/gpt-j/serving.properties:2", "option.dtype"],
    );
    let elsewhere = with(Some("option.model_id=s3://other-bucket/x\n")).unwrap();
    let model = bucket_of(&elsewhere);
    assert_eq!(
        (model.url().as_str(), &model.settings),
        ("s3://other-bucket/x/", &PrefixSettings::Elsewhere)
    );
}

#[test]
fn python_code_in_a_bucket_answers_unless_that_cannot_be_told() {
    let start = Start::without_model().variable("HF_MODEL_ID", "s3://my-bucket/gpt");
    for script in ["model.py", "gpt.py"] {
        let beside = folder(&["config.json", script], None);
        let message = with_folder(&start, &beside).unwrap_err().to_string();
        says(
            &message,
            &[
                &format!("s3://my-bucket/gpt/{script}"),
                "set option.entryPoint",
            ],
        );
        let alone = with_folder(&start, &folder(&[script], Some("batch_size=3\n"))).unwrap();
        let python = alone.model.python.clone().unwrap();
        assert_eq!(
            (python.entry_point.as_str(), python.is_fetched),
            (script, true)
        );
        assert_eq!(python.batch_size, 3);
        let model = bucket_of(&alone);
        assert_eq!(
            (model.url().as_str(), model.all),
            ("s3://my-bucket/gpt/", true)
        );
    }
    let named = folder(
        &["config.json", "serve.py"],
        Some("option.entryPoint=serve.py\n"),
    );
    let named = with_folder(&start, &named).unwrap();
    assert_eq!(named.model.python.unwrap().entry_point, "serve.py");
    let distrusted = folder(&["model.py"], Some("option.trust_python=false\n"));
    let message = with_folder(&start, &distrusted).unwrap_err().to_string();
    says(&message, &["option.trust_python=false forbids it"]);
    let elsewhere = folder(&["model.py"], Some("option.model_id=s3://other-bucket/x\n"));
    let message = with_folder(&start, &elsewhere).unwrap_err().to_string();
    says(
        &message,
        &["option.model_id=s3://other-bucket/x names another place"],
    );
    let of_hub = folder(&["model.py"], Some("option.model_id=org/model\n"));
    let of_hub = with_folder(&start, &of_hub).unwrap();
    assert_eq!(bucket_of(&of_hub).url(), "s3://my-bucket/gpt/");
}

#[test]
fn objects_go_where_the_environment_says() {
    let caches = |variables: &[(&str, &str)]| {
        let start = Start::without_model().variable("HF_MODEL_ID", "s3://my-bucket/x");
        let set = |start: Start, (name, value): &(&str, &str)| start.variable(name, value);
        let resolved = variables.iter().fold(start, set).resolved();
        let caches = bucket_of(&resolved).caches.iter();
        caches
            .map(|dir| dir.display().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(caches(&[]), ["/home/user/.cache/sconce", "/tmp/sconce"]);
    assert_eq!(
        caches(&[("HOME", ""), ("TMPDIR", "/var/tmp")]),
        ["/var/tmp/sconce"]
    );
    let djl = ("DJL_CACHE_DIR", "/data/djl");
    assert_eq!(caches(&[djl]), ["/data/djl"]);
    assert_eq!(
        caches(&[djl, ("SERVING_DOWNLOAD_DIR", "/data/models")]),
        ["/data/models"]
    );
}

#[test]
fn variables_of_aws_are_checked_and_secrets_are_not_shown() {
    let start = Start::without_model()
        .variable("HF_MODEL_ID", "s3://my-bucket/x")
        .variable("AWS_REGION", "eu-west-1")
        .variable("AWS_ACCESS_KEY_ID", "not to be seen")
        .variable("AWS_SECRET_ACCESS_KEY", "not to be seen")
        .variable("AWS_SESSION_TOKEN", "not to be seen")
        .variable("AWS_PROFILE", "dev");
    let resolved = start.resolved();
    let model = bucket_of(&resolved);
    assert_eq!(
        model.variable("AWS_SECRET_ACCESS_KEY"),
        Some("not to be seen")
    );
    let origins = resolved
        .origins
        .iter()
        .map(|origin| origin.to_string() + "\n");
    let shown = origins.collect::<String>() + &format!("{:?}", resolved.model);
    says(
        &shown,
        &[
            "AWS_REGION = eu-west-1",
            "AWS_PROFILE = dev",
            "profiles are not read",
        ],
    );
    assert!(!shown.contains("not to be seen"), "{shown}");
    let wrong = start
        .variable("AWS_ENDPOINT_URL", "minio:9000")
        .variable("AWS_DEFAULT_REGION", "Ireland");
    says(
        &wrong.refused(),
        &[
            "AWS_ENDPOINT_URL=minio:9000",
            "AWS_DEFAULT_REGION=Ireland",
            "eu-west-1",
        ],
    );
}

#[test]
fn urls_that_name_nothing_are_refused_wherever_they_stand() {
    let bad = "s3://Bad_Bucket/x";
    let by_hub_id = Start::without_model().variable("HF_MODEL_ID", bad);
    let by_list = Start::without_model().variable("SERVING_LOAD_MODELS", bad);
    let by_key = Start::without_model().properties(&format!("option.s3url={bad}\n"));
    let mut by_line = Start::without_model();
    by_line.line.model_dir = Some(bad.into());
    for start in [by_hub_id, by_list, by_key, by_line] {
        let message = start.refused();
        says(&message, &[bad, "Bad_Bucket is no name of a bucket"]);
        assert!(!message.contains("places"), "one problem: {message}");
    }
}
