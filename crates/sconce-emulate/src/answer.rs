//! The headers of a successful answer: which of the container's the client sees, and under which
//! names.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::warn;

use crate::call::Api;
use crate::headers::{CUSTOM_ATTRIBUTES, SESSION_ID, STREAM_CONTENT_TYPE, is_name};

const VARIANT: HeaderName = HeaderName::from_static("x-amzn-invoked-production-variant");
const NEW_SESSION_ID: HeaderName = HeaderName::from_static("x-amzn-sagemaker-new-session-id");
const CLOSED_SESSION_ID: HeaderName = HeaderName::from_static("x-amzn-sagemaker-closed-session-id");
/// Longest custom attributes.
const LONGEST: usize = 1024;

/// What the client sees of the container's headers, and the variant.
pub(crate) fn headers(api: Api, container: &HeaderMap, variant: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let content_type = match api {
        Api::Invoke => CONTENT_TYPE,
        Api::Stream => STREAM_CONTENT_TYPE,
    };
    if let Some(value) = container.get(CONTENT_TYPE) {
        headers.insert(content_type, value.clone());
    }
    if let Ok(variant) = HeaderValue::from_str(variant) {
        headers.insert(VARIANT, variant);
    }
    if let Some(value) = container.get(&CUSTOM_ATTRIBUTES) {
        let fits = value.to_str().is_ok_and(|text| text.len() <= LONGEST);
        pass(
            &mut headers,
            CUSTOM_ATTRIBUTES,
            value,
            fits,
            "at most 1024 visible ASCII characters",
        );
    }
    // A stream can use a session, and neither open nor close one.
    if api == Api::Invoke {
        let opened = container
            .get(&SESSION_ID)
            .or(container.get(&NEW_SESSION_ID));
        if let Some(value) = opened {
            let fits = value.to_str().is_ok_and(opens_session);
            pass(
                &mut headers,
                NEW_SESSION_ID,
                value,
                fits,
                "ID; Expires=yyyy-mm-ddThh:mm:ssZ",
            );
        }
        if let Some(value) = container.get(&CLOSED_SESSION_ID) {
            let fits = value.to_str().is_ok_and(is_name);
            pass(&mut headers, CLOSED_SESSION_ID, value, fits, "an ID");
        }
    }
    headers
}

/// Passes a header on if it has the form that the service model asks for.
fn pass(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue, fits: bool, form: &str) {
    if fits {
        headers.insert(name, value.clone());
    } else {
        warn!("the container's {name} is left out: {value:?} is not {form}");
    }
}

/// An id, its expiry in UTC, and one space between them.
fn opens_session(text: &str) -> bool {
    const FORM: &str = "0000-00-00T00:00:00Z";
    let Some((id, expiry)) = text.split_once("; Expires=") else {
        return false;
    };
    let same = |(given, form): (char, char)| match form {
        '0' => given.is_ascii_digit(),
        mark => given == mark,
    };
    is_name(id) && expiry.len() == FORM.len() && expiry.chars().zip(FORM.chars()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(api: Api, container: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = container.iter();
        let container: HeaderMap = pairs
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let headers = headers(api, &container, "AllTraffic");
        let mut seen: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .filter(|(name, _)| name != VARIANT.as_str())
            .collect();
        seen.sort();
        seen
    }

    #[test]
    fn the_client_sees_what_the_api_has() {
        let container = [
            ("content-type", "application/json"),
            ("x-request-id", "1"),
            ("x-amzn-sagemaker-custom-attributes", "a=b"),
            (
                "x-amzn-sagemaker-session-id",
                "s-1; Expires=2026-01-02T03:04:05Z",
            ),
            ("x-amzn-sagemaker-closed-session-id", "s-0"),
        ];
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect()
        };
        assert_eq!(
            seen(Api::Invoke, &container),
            own(&[
                ("content-type", "application/json"),
                ("x-amzn-sagemaker-closed-session-id", "s-0"),
                ("x-amzn-sagemaker-custom-attributes", "a=b"),
                (
                    "x-amzn-sagemaker-new-session-id",
                    "s-1; Expires=2026-01-02T03:04:05Z"
                ),
            ])
        );
        assert_eq!(
            seen(Api::Stream, &container),
            own(&[
                ("x-amzn-sagemaker-content-type", "application/json"),
                ("x-amzn-sagemaker-custom-attributes", "a=b"),
            ])
        );
    }

    #[test]
    fn what_has_another_form_is_left_out() {
        let long = "x".repeat(LONGEST + 1);
        for (name, value) in [
            ("x-amzn-sagemaker-custom-attributes", long.as_str()),
            ("x-amzn-sagemaker-session-id", "s-1"),
            (
                "x-amzn-sagemaker-session-id",
                "s-1;Expires=2026-01-02T03:04:05Z",
            ),
            (
                "x-amzn-sagemaker-new-session-id",
                "s-1; Expires=2026-01-02T03:04:05.1Z",
            ),
            ("x-amzn-sagemaker-closed-session-id", "-"),
        ] {
            assert_eq!(seen(Api::Invoke, &[(name, value)]), [], "{name}: {value}");
        }
    }
}
