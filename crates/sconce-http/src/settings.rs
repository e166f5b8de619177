//! What HTTP needs to know of the configuration.

use std::time::Duration;

use axum::http::HeaderName;
use sconce_api::Wire;

/// Limits and choices of the HTTP layer. The defaults are those of DJL Serving where it has one.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Largest request body in bytes (`max_request_size`).
    pub max_request_size: usize,
    /// Time for a request from its headers to the end of its answer (`predict_timeout`).
    pub predict_timeout: Duration,
    /// The request header that carries the request's id (`request_id_header_key`).
    pub request_id_header: HeaderName,
    /// How requests are read and answers written.
    pub wire: Wire,
    /// Time that requests in flight have to finish after the shutdown began.
    pub drain_deadline: Duration,
    /// Time for the headers of a request to arrive, which is also how long an idle connection is
    /// kept.
    pub header_timeout: Duration,
    /// Longest pause between two pieces of a request body.
    pub body_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_request_size: 64 * 1024 * 1024,
            predict_timeout: Duration::from_secs(120),
            request_id_header: HeaderName::from_static("x-request-id"),
            wire: Wire::default(),
            drain_deadline: Duration::from_secs(25),
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
        }
    }
}
