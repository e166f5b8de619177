//! Region, endpoint and credentials of S3 by the environment's `AWS_*`, as the AWS SDKs read them.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, RetryConfig};
use sconce_config::S3Model;

use super::connector::Connector;
use super::error::Problem;

/// Longest patience with a request: so long failures that may pass are tried again. `/ping` can
/// tell of them well before SageMaker gives up after 8 minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
const RETRIES: usize = 5;

/// Where the client of S3 finds credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    Unsigned,
    Keys,
    WebIdentity,
    Container,
    Pod,
    Instance,
    /// The instance may not be asked.
    Nowhere,
}

impl Credentials {
    /// The first of the places that the environment names; the instance if it names none.
    pub(crate) fn of(model: &S3Model) -> Self {
        let has = |name: &str| model.variable(name).is_some();
        if is_true(model, "AWS_SKIP_SIGNATURE") {
            Self::Unsigned
        } else if has("AWS_ACCESS_KEY_ID") || has("AWS_SECRET_ACCESS_KEY") {
            Self::Keys
        } else if has("AWS_WEB_IDENTITY_TOKEN_FILE") && has("AWS_ROLE_ARN") {
            Self::WebIdentity
        } else if has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Self::Container
        } else if has("AWS_CONTAINER_CREDENTIALS_FULL_URI")
            && has("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        {
            Self::Pod
        } else if is_true(model, "AWS_EC2_METADATA_DISABLED") {
            Self::Nowhere
        } else {
            Self::Instance
        }
    }

    /// For a message.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Unsigned => "none (AWS_SKIP_SIGNATURE)",
            Self::Keys => "AWS_ACCESS_KEY_ID",
            Self::WebIdentity => "the role of AWS_ROLE_ARN by AWS_WEB_IDENTITY_TOKEN_FILE",
            Self::Container => "the container's role (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)",
            Self::Pod => "the pod's role (AWS_CONTAINER_CREDENTIALS_FULL_URI)",
            Self::Instance => "the role of the instance, as no AWS_* variable names any",
            Self::Nowhere => "nothing: AWS_EC2_METADATA_DISABLED is set and no AWS_* names any",
        }
    }
}

fn is_true(model: &S3Model, name: &str) -> bool {
    let value = model.variable(name).unwrap_or_default();
    matches!(
        value.to_ascii_lowercase().as_str(),
        "true" | "1" | "yes" | "on" | "y" | "t"
    )
}

/// Where the environment says the bucket is.
pub(crate) fn region(model: &S3Model) -> &str {
    let named = model.variable("AWS_REGION");
    let named = named.or_else(|| model.variable("AWS_DEFAULT_REGION"));
    named.unwrap_or("us-east-1")
}

/// The address of S3, if it is another than the region's usual one.
pub(crate) fn endpoint(model: &S3Model, region: &str) -> Option<String> {
    let named = model.variable("AWS_ENDPOINT_URL_S3");
    if let Some(named) = named.or_else(|| model.variable("AWS_ENDPOINT_URL")) {
        return Some(named.trim_end_matches('/').into());
    }
    let fips = is_true(model, "AWS_USE_FIPS_ENDPOINT");
    let dual = is_true(model, "AWS_USE_DUALSTACK_ENDPOINT");
    let domain = match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    };
    let service = match (fips, dual) {
        (false, false) if domain == "amazonaws.com" => return None,
        (false, false) => "s3",
        (true, false) => "s3-fips",
        (false, true) => "s3.dualstack",
        (true, true) => "s3-fips.dualstack",
    };
    Some(format!("https://{service}.{region}.{domain}"))
}

/// The client, for a bucket in this region.
pub(crate) fn client(
    model: &S3Model,
    region: &str,
    patience: Duration,
) -> Result<AmazonS3, Problem> {
    // The names that go to the client as they are; it reads others of its own, which no AWS SDK
    // knows.
    const PASSED: [&str; 12] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_ENDPOINT_URL_STS",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_SKIP_SIGNATURE",
        "AWS_REQUEST_PAYER",
    ];
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&model.bucket)
        .with_region(region)
        .with_retry(retries(patience))
        .with_http_connector(connector(model)?);
    if let Some(endpoint) = endpoint(model, region) {
        builder = builder.with_endpoint(endpoint);
    }
    let instance = model.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if let Some(address) = instance {
        builder = builder.with_config(AmazonS3ConfigKey::MetadataEndpoint, address);
    }
    for name in PASSED {
        let value = model.variable(name);
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
        if let (Some(value), Ok(key)) = (value, key) {
            builder = builder.with_config(key, value);
        }
    }
    builder.build().map_err(|error| Problem::Credentials {
        looked: Credentials::of(model).place(),
        cause: error.to_string(),
    })
}

fn connector(model: &S3Model) -> Result<Connector, Problem> {
    let Some(path) = model.variable("AWS_CA_BUNDLE") else {
        return Ok(Connector::default());
    };
    let wrong = |cause: String| Problem::Certificates {
        path: path.into(),
        cause,
    };
    let pem = std::fs::read(path).map_err(|cause| wrong(cause.to_string()))?;
    Connector::trusting(&pem).map_err(|cause| wrong(cause.to_string()))
}

fn retries(patience: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(8),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: patience,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::testing::model;

    #[test]
    fn credentials_are_looked_for_in_the_order_of_the_sdks() {
        let of = |names: &[(&str, &str)]| Credentials::of(&model("http://x", names));
        let role = ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x");
        let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token");
        let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x");
        let disabled = ("AWS_EC2_METADATA_DISABLED", "true");
        assert_eq!(of(&[]), Credentials::Instance);
        assert_eq!(of(&[disabled]), Credentials::Nowhere);
        assert_eq!(of(&[container, disabled]), Credentials::Container);
        assert_eq!(of(&[role, container]), Credentials::Container);
        assert_eq!(of(&[role, token, container]), Credentials::WebIdentity);
        assert_eq!(
            of(&[role, token, ("AWS_ACCESS_KEY_ID", "k")]),
            Credentials::Keys
        );
        assert_eq!(of(&[("AWS_SKIP_SIGNATURE", "True")]), Credentials::Unsigned);
    }

    #[test]
    fn the_endpoint_follows_the_environment() {
        let of = |names: &[(&str, &str)], region: &str| {
            let mut model = model("", names);
            model.variables.retain(|(_, value)| !value.is_empty());
            endpoint(&model, region)
        };
        let fips = ("AWS_USE_FIPS_ENDPOINT", "true");
        let dual = ("AWS_USE_DUALSTACK_ENDPOINT", "true");
        assert_eq!(of(&[], "eu-west-1"), None);
        let china = "https://s3.cn-north-1.amazonaws.com.cn";
        assert_eq!(of(&[], "cn-north-1").as_deref(), Some(china));
        let both = "https://s3-fips.dualstack.us-east-2.amazonaws.com";
        assert_eq!(of(&[fips, dual], "us-east-2").as_deref(), Some(both));
        let named = ("AWS_ENDPOINT_URL_S3", "http://minio:9000/");
        assert_eq!(
            of(&[named, fips], "x").as_deref(),
            Some("http://minio:9000")
        );
    }
}
