//! The inner payload of the modes in which an answer comes in parts: `Output.binary_encode` of
//! `data`, `last`, and for a failure `code` and `error`.

use bytes::Bytes;
use sconce_core::RawHead;
use serde_json::json;

/// A part of an answer.
pub(crate) struct Part {
    pub(crate) head: RawHead,
    pub(crate) data: Bytes,
    pub(crate) last: bool,
}

impl Part {
    /// Of a payload: one that has a code is the last, and tells of a failure.
    pub(crate) fn of(pairs: &[(String, String)], mut head: RawHead) -> Self {
        let value = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let code = value("code").and_then(|code| code.parse().ok());
        let Some(code) = code.filter(|code| (100..=999).contains(code)) else {
            return Self {
                head,
                data: value("data").unwrap_or_default().to_owned().into(),
                last: value("last").is_some_and(|last| last.eq_ignore_ascii_case("true")),
            };
        };
        let error = value("error").unwrap_or_default();
        head.code = code;
        head.message = error.to_owned();
        let body = match value("error") {
            Some(error) => json!({"error": error, "code": code}),
            None => json!({"code": code}),
        };
        Self {
            head,
            data: body.to_string().into(),
            last: true,
        }
    }

    /// Whether it tells nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.data.is_empty() && !self.last
    }
}
