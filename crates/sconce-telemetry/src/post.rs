//! The HTTP client of the exporter: it waits in the exporter's own thread.

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use std::time::Duration;
use ureq::Agent;

/// Longest answer of a collector that is read.
const LONGEST: u64 = 4 << 20;

/// Posts what is exported.
#[derive(Debug)]
pub(crate) struct Post(Agent);

impl Post {
    pub(crate) fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|body| body.to_vec()))?;
        let (head, mut body) = response.into_parts();
        let bytes = body.with_config().limit(LONGEST).read_to_vec()?;
        Ok(Response::from_parts(head, bytes.into()))
    }
}
