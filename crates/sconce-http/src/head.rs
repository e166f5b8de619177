//! How an answer begins: status, reason and headers, whoever decides them.

use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use sconce_core::{RawHead, ServeError};
use tracing::warn;

/// Headers that are the connection's, and so never a handler's, though one that echoes the
/// properties of its request sets them all.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];
/// What the server says to a worker, which is of no use to clients.
const INTERNAL: &[&str] = &["batch_size", "handler", "request_tracking_id"];

/// Everything before the first byte of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// `None`: the usual one of the status.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// A head that says no more than status and type.
    pub(crate) fn new(status: StatusCode, content_type: &'static str) -> Self {
        let value = HeaderValue::from_static(content_type);
        Self {
            status,
            reason: None,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, value)]),
        }
    }

    /// A successful answer whose type is not told.
    pub(crate) fn untyped() -> Self {
        Self {
            status: StatusCode::OK,
            reason: None,
            headers: HeaderMap::new(),
        }
    }

    /// A successful answer of this type.
    pub(crate) fn ok(content_type: &'static str) -> Self {
        Self::new(StatusCode::OK, content_type)
    }
}

impl TryFrom<&RawHead> for Head {
    type Error = ServeError;

    /// The head that a handler chose: each property is a header, as in DJL Serving. What cannot be
    /// one is left out, and the log says so.
    fn try_from(raw: &RawHead) -> Result<Self, ServeError> {
        let status = StatusCode::from_u16(raw.code).map_err(|_| ServeError::BadAnswer {
            problem: format!(
                "the handler answered with code {}, which is no status",
                raw.code
            ),
        })?;
        let usual = status.canonical_reason();
        let reason =
            Some(raw.message.as_str()).filter(|text| !text.is_empty() && Some(*text) != usual);
        let mut headers = HeaderMap::new();
        for (name, value) in &raw.properties {
            let known = |list: &[&str]| list.iter().any(|word| name.eq_ignore_ascii_case(word));
            if known(OF_THE_CONNECTION) || known(INTERNAL) {
                continue;
            }
            match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => {
                    headers.insert(name, value);
                }
                _ => warn!("the property {name:?} of an answer cannot be a header: {value:?}"),
            }
        }
        Ok(Self {
            status,
            // One with a line break would end the head; the body tells what went wrong.
            reason: reason.and_then(|text| ReasonPhrase::try_from(text.to_owned()).ok()),
            headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(code: u16, message: &str, properties: &[(&str, &str)]) -> RawHead {
        let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        RawHead {
            code,
            message: message.into(),
            properties: properties.iter().map(pair).collect(),
            streams: false,
        }
    }

    #[test]
    fn properties_are_headers_but_for_those_of_the_connection() {
        let properties = [
            ("Content-Type", "text/plain"),
            ("content-type", "image/png"),
            ("X-Mine", "1; a=b"),
            ("Content-Length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("request_tracking_id", "x"),
            ("no header", "x"),
            ("x-lines", "a\r\nb"),
        ];
        let head = Head::try_from(&raw(200, "OK", &properties)).unwrap();
        assert_eq!(head.headers.len(), 2);
        assert_eq!(head.headers["content-type"], "image/png");
        assert_eq!(head.headers["x-mine"], "1; a=b");
        assert_eq!(head.reason, None);
    }

    #[test]
    fn the_reason_is_the_handler_s_if_it_can_be() {
        let reason = |code, message: &str| Head::try_from(&raw(code, message, &[])).unwrap().reason;
        let bytes = |reason: Option<ReasonPhrase>| reason.unwrap().as_bytes().to_vec();
        assert_eq!(
            bytes(reason(424, "invoke handler failure")),
            b"invoke handler failure"
        );
        assert_eq!(bytes(reason(204, "No content")), b"No content");
        assert_eq!(reason(424, "two\r\nlines"), None);
        assert_eq!(reason(200, ""), None);
        assert!(Head::try_from(&raw(99, "", &[])).is_err());
    }
}
