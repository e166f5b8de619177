//! Error bodies: the server's own shape, that of the LMI schema and that of DJL's handlers.
//!
//! Which shape and which number a failure gets is decided by whoever owns the status codes.

use sconce_core::ServeError;
use serde::Serialize;

use crate::json;

/// The prefix of every text about a payload that cannot be used.
pub(crate) const PAYLOAD: &str = "Input Parsing failed. Ensure that the request payload is valid. ";

/// The LMI body `{"error":"<text>","code":<code>}`, compact and without newline, as DJL's rolling
/// batch sends it.
pub fn lmi(error: &ServeError, code: u16) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        error: String,
        code: u16,
    }
    let error = with_prefix(PAYLOAD, error);
    serde_json::to_vec(&Body { error, code }).expect("a struct of text and number serialises")
}

/// What `Output.error` of DJL's Python handlers makes of an exception: code, a fixed message, the
/// exception's text, laid out like all their JSON.
pub(crate) fn handler(error: &ServeError, message: &str, code: u16) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        code: u16,
        message: &'a str,
        error: String,
    }
    json::indented(&Body {
        code,
        message,
        error: error.to_string(),
    })
}

/// The text of a failure; with a prefix if it lies in the request's body.
pub(crate) fn with_prefix(prefix: &str, error: &ServeError) -> String {
    match error {
        ServeError::Malformed(_) | ServeError::Parameter { .. } => format!("{prefix}{error}"),
        other => other.to_string(),
    }
}

/// The server's own body: code, DJL's exception name and message, indented.
pub fn server(error: &ServeError, code: u16) -> Vec<u8> {
    server_text(code, exception(error), &error.to_string())
}

/// The server's own body for what has no [`ServeError`].
pub fn server_text(code: u16, exception: &str, message: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        code: u16,
        r#type: &'a str,
        message: &'a str,
    }
    json::gson(&Body {
        code,
        r#type: exception,
        message,
    })
}

/// The simple name of the Java exception that DJL Serving reports for such a failure.
pub fn exception(error: &ServeError) -> &'static str {
    match error {
        ServeError::Malformed(_)
        | ServeError::Parameter { .. }
        | ServeError::TooLong { .. }
        | ServeError::PromptTooLong { .. }
        | ServeError::BodyTooLarge { .. }
        | ServeError::Unnamed => "BadRequestException",
        ServeError::UnknownModel(_) => "ModelNotFoundException",
        ServeError::UnknownRoute | ServeError::OtherTask { .. } => "ResourceNotFoundException",
        ServeError::NotReady { .. }
        | ServeError::Timeout { .. }
        | ServeError::Stalled { .. }
        | ServeError::WorkerLost { .. } => "WlmException",
        ServeError::BadAnswer { .. } => "TranslateException",
        ServeError::QueueFull { .. }
        | ServeError::Crowded { .. }
        | ServeError::NoMemory { .. }
        | ServeError::AdaptersInUse { .. } => "WlmCapacityException",
        ServeError::Draining => "WlmShutdownException",
        ServeError::Engine { .. } => "EngineException",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lmi_bodies_are_compact_with_the_error_first() {
        let error = ServeError::Engine {
            model: "m".into(),
            cause: "rank 1 \"died\"".into(),
        };
        assert_eq!(
            String::from_utf8(lmi(&error, 424)).unwrap(),
            r#"{"error":"the engine of model m failed: rank 1 \"died\"","code":424}"#
        );
    }

    #[test]
    fn parameter_errors_carry_the_prefix_of_payload_errors() {
        let text = lmi(&ServeError::parameter("top_p", 3, "must be at most 1"), 424);
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with(r#"{"error":"Input Parsing failed. Ensure"#),
            "{text}"
        );
        assert!(
            text.contains("parameter `top_p` is 3: must be at most 1"),
            "{text}"
        );
    }

    #[test]
    fn server_bodies_name_code_exception_and_message_in_this_order() {
        let body = String::from_utf8(server(&ServeError::UnknownModel("m".into()), 404)).unwrap();
        assert_eq!(
            body,
            "{\n  \"code\": 404,\n  \"type\": \"ModelNotFoundException\",\n  \
             \"message\": \"Model or workflow not found: m\"\n}\n"
        );
    }
}
