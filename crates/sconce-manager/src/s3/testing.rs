//! What the tests share: a model in a bucket of this machine.

use std::path::Path;

use sconce_config::{PrefixSettings, S3Model};

/// `s3://bucket/models/llama/` at an endpoint, with these variables and without a cache.
pub(super) fn model(endpoint: &str, variables: &[(&str, &str)]) -> S3Model {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let endpoint = [("AWS_ENDPOINT_URL", endpoint)].into_iter();
    S3Model {
        bucket: "bucket".into(),
        prefix: "models/llama".into(),
        settings: PrefixSettings::Elsewhere,
        variables: endpoint
            .chain(variables.iter().copied())
            .map(owned)
            .collect(),
        caches: vec![],
        gguf_file: None,
        all: false,
    }
}

/// The same with keys and with a cache.
pub(super) fn signed(endpoint: &str, cache: &Path) -> S3Model {
    let keys = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-west-1"),
    ];
    S3Model {
        caches: vec![cache.to_path_buf()],
        ..model(endpoint, &keys)
    }
}
