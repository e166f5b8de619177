//! What goes wrong, as the runtime API says it.
//!
//! | what | error, as boto3 names it | HTTP |
//! | --- | --- | --- |
//! | wrong name, header or size | ValidationError | 400 |
//! | the container answers outside 200–299 | ModelError, its status as OriginalStatusCode | 424 |
//! | it is too late, hangs up, or answers too much | ModelError, OriginalStatusCode 0 | 424 |
//! | it has not been healthy yet, a model still loads | ModelNotReadyException | 429 |
//! | it was healthy and cannot be reached | InternalFailure | 500 |
//! | this stand-in ends | ServiceUnavailable | 503 |
//! | another path | UnknownOperationException | 404 |
//!
//! The form (JSON, header `x-amzn-errortype`) is AWS's REST-JSON. boto3 sends a call again after
//! 429, 500 and 503.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Longest message in characters that the service model allows.
const LONGEST_MESSAGE: usize = 2048;
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Why a call is not answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    Validation(String),
    /// The container's own failure: its status and body, or 0 and a reason.
    Model {
        status: u16,
        message: String,
    },
    NotReady(String),
    Internal(String),
    Unavailable(String),
    UnknownOperation(String),
}

impl Failure {
    /// A value that breaks a rule of the service model, in the service's words.
    pub(crate) fn constraint(member: &str, value: &str, rule: &str) -> Self {
        Self::Validation(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy \
             constraint: Member must {rule}"
        ))
    }

    /// A container that did not answer in time, in the service's words.
    pub(crate) fn timed_out() -> Self {
        Self::Model {
            status: 0,
            message: "Your invocation timed out while waiting for a response from container \
                      primary. Review the latency metrics for each container in Amazon \
                      CloudWatch, resolve the issue, and try again."
                .into(),
        }
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Validation(_) => (StatusCode::BAD_REQUEST, "ValidationError"),
            Self::Model { .. } => (StatusCode::FAILED_DEPENDENCY, "ModelError"),
            Self::NotReady(_) => (StatusCode::TOO_MANY_REQUESTS, "ModelNotReadyException"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::UnknownOperation(_) => (StatusCode::NOT_FOUND, "UnknownOperationException"),
        }
    }

    /// The text that clients show.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Model { status, message } => {
                let whose = if (400..500).contains(status) {
                    "client"
                } else {
                    "server"
                };
                format!("Received {whose} error ({status}) from primary with message \"{message}\"")
            }
            Self::Validation(text)
            | Self::NotReady(text)
            | Self::Internal(text)
            | Self::Unavailable(text)
            | Self::UnknownOperation(text) => text.clone(),
        }
    }

    /// The answer to a call of this endpoint.
    pub(crate) fn response(&self, endpoint: &str) -> Response {
        let (status, name) = self.kind();
        let mut body = json!({"Message": clip(&self.message())});
        if let Self::Model { status, message } = self {
            body["OriginalStatusCode"] = (*status).into();
            body["OriginalMessage"] = clip(message).into();
            body["LogStreamArn"] = log_stream(endpoint).into();
        }
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ERROR_TYPE, HeaderValue::from_static(name)),
        ];
        (status, headers, body.to_string()).into_response()
    }
}

/// A name in the form of the service's; nothing has this log here but the container itself.
fn log_stream(endpoint: &str) -> String {
    format!("arn:aws:logs:local:000000000000:log-group:/aws/sagemaker/Endpoints/{endpoint}")
}

/// The beginning of a text that the service model has room for.
pub(crate) fn clip(text: &str) -> &str {
    text.char_indices()
        .nth(LONGEST_MESSAGE)
        .map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        let long = "ä".repeat(LONGEST_MESSAGE + 1);
        assert_eq!(clip(&long).chars().count(), LONGEST_MESSAGE);
        assert_eq!(clip("short"), "short");
    }
}
