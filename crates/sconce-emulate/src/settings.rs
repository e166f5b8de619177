//! What can be set, with the platform's values as defaults.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::upstream::Upstream;

/// An endpoint and the limits of the platform.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The container.
    pub upstream: Upstream,
    /// The endpoints that exist; any name does if there is none.
    pub endpoints: Vec<String>,
    /// The production variant that answers.
    pub variant: String,
    /// Time for InvokeEndpoint, from the request to the last byte of the answer.
    pub invoke_timeout: Duration,
    /// The same for InvokeEndpointWithResponseStream.
    pub stream_timeout: Duration,
    /// Largest body in bytes, of requests and of whole answers.
    pub max_payload: usize,
    /// Ends a part of a streamed answer at each multiple of so many bytes.
    pub rechunk: Option<NonZeroUsize>,
    /// Time that calls in flight have once the end began.
    pub drain: Duration,
    /// Takes the endpoint for one of several models, and where those lie.
    pub multi_model: Option<ModelFolder>,
}

/// Where the container finds the models of a multi-model endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelFolder {
    /// `/opt/ml/models/{N}/model` with a name N that the platform makes, as on an endpoint.
    Platform,
    /// Below this folder, under the name that the client sends, without `.tar.gz`.
    Below(String),
}

impl Settings {
    /// The platform's limits. The guide allows bodies of 25 MB; botocore's model still caps them
    /// at 6 MiB, which no client checks.
    pub fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            endpoints: Vec::new(),
            variant: "AllTraffic".into(),
            invoke_timeout: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(8 * 60),
            max_payload: 25 * 1024 * 1024,
            rechunk: None,
            drain: Duration::from_secs(10),
            multi_model: None,
        }
    }
}
