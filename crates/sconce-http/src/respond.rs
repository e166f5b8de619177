//! The only place where failures become statuses.
//!
//! | failure | status | body |
//! | --- | --- | --- |
//! | malformed body, bad parameter, too long for the context | 424 | LMI |
//! | engine failed | 424 | LMI |
//! | body larger than `max_request_size` | 413 | server |
//! | unknown model, unknown route | 404 | server |
//! | not ready, queue full, timeout, shutting down | 503 | server |
//! | panic in a handler | 500 | server |
//!
//! LMI bodies are `{"error":…,"code":…}`, server bodies `{"code":…,"type":…,"message":…}`. 424 is
//! what DJL's rolling batch answers to requests that it cannot use, and what SageMaker's clients
//! of it expect; DJL leaves the body of a 413 empty, which tells nobody the limit.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use sconce_api::error;
use sconce_api::ping::Health;
use sconce_core::ServeError;

use crate::access::Cause;

const JSON: &str = "application/json";

/// The status of a failure.
pub(crate) fn status(failure: &ServeError) -> StatusCode {
    match failure {
        ServeError::Malformed(_)
        | ServeError::Parameter { .. }
        | ServeError::TooLong { .. }
        | ServeError::PromptTooLong { .. }
        | ServeError::Engine { .. } => StatusCode::FAILED_DEPENDENCY,
        ServeError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ServeError::UnknownModel(_) | ServeError::UnknownRoute => StatusCode::NOT_FOUND,
        ServeError::NotReady { .. }
        | ServeError::QueueFull { .. }
        | ServeError::Timeout { .. }
        | ServeError::Draining => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The answer that tells of a failure.
pub(crate) fn failure(failure: &ServeError) -> Response {
    let status = status(failure);
    let body = match status {
        StatusCode::FAILED_DEPENDENCY => error::lmi(failure, status.as_u16()),
        _ => error::server(failure, status.as_u16()),
    };
    let mut response = with_type(status, JSON, body.into());
    response.extensions_mut().insert(Cause(failure.to_string()));
    response
}

/// The answer when a handler has panicked; the log has the message.
pub(crate) fn panicked(id: &str) -> Response {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let text =
        format!("internal error while handling request {id}; the server's log has the cause");
    let body = error::server_text(status.as_u16(), "RuntimeException", &text);
    with_type(status, JSON, body.into())
}

/// The answer to a ping.
pub(crate) fn health(health: Health, body: Vec<u8>) -> Response {
    let status = match health {
        Health::Ready => StatusCode::OK,
        Health::Loading => StatusCode::SERVICE_UNAVAILABLE,
        Health::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with_type(status, JSON, body.into())
}

/// A successful answer.
pub(crate) fn success(content_type: &'static str, body: Body) -> Response {
    with_type(StatusCode::OK, content_type, body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_the_status_of_the_table() {
        let name = || String::from("m");
        let cases = [
            (ServeError::Malformed(name()), 424),
            (ServeError::parameter("k", 1, "p"), 424),
            (
                ServeError::TooLong {
                    prompt: 1,
                    new: 2,
                    limit: 2,
                },
                424,
            ),
            (
                ServeError::PromptTooLong {
                    prompt: 2,
                    limit: 2,
                },
                424,
            ),
            (
                ServeError::Engine {
                    model: name(),
                    cause: name(),
                },
                424,
            ),
            (ServeError::BodyTooLarge { limit: 1 }, 413),
            (ServeError::UnknownModel(name()), 404),
            (ServeError::UnknownRoute, 404),
            (
                ServeError::NotReady {
                    model: name(),
                    phase: name(),
                },
                503,
            ),
            (
                ServeError::QueueFull {
                    model: name(),
                    limit: 1,
                },
                503,
            ),
            (ServeError::Timeout { seconds: 1 }, 503),
            (ServeError::Draining, 503),
        ];
        for (error, wanted) in cases {
            assert_eq!(status(&error).as_u16(), wanted, "{error}");
            assert_eq!(failure(&error).status().as_u16(), wanted);
        }
    }
}
