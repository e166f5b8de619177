//! The headers of a call: which the API has, what they may hold, and which the container sees.
//!
//! Names, lengths and patterns are those of botocore's service model. Headers outside it are
//! stripped. What only routes a call (component, container, prefix) stays with the platform; the
//! variant is forwarded because the SDK's local mode does so, and no page says otherwise.

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::call::Api;
use crate::failure::Failure;

pub(crate) const CUSTOM_ATTRIBUTES: HeaderName =
    HeaderName::from_static("x-amzn-sagemaker-custom-attributes");
pub(crate) const TARGET_MODEL: HeaderName =
    HeaderName::from_static("x-amzn-sagemaker-target-model");
pub(crate) const TARGET_VARIANT: HeaderName =
    HeaderName::from_static("x-amzn-sagemaker-target-variant");
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("x-amzn-sagemaker-session-id");
pub(crate) const STREAM_CONTENT_TYPE: HeaderName =
    HeaderName::from_static("x-amzn-sagemaker-content-type");
const STREAM_ACCEPT: HeaderName = HeaderName::from_static("x-amzn-sagemaker-accept");
const CONTAINER: HeaderName = HeaderName::from_static("x-amzn-sagemaker-target-container-hostname");
const INFERENCE_ID: HeaderName = HeaderName::from_static("x-amzn-sagemaker-inference-id");
const COMPONENT: HeaderName = HeaderName::from_static("x-amzn-sagemaker-inference-component");
const EXPLANATIONS: HeaderName = HeaderName::from_static("x-amzn-sagemaker-enable-explanations");
const PREFIX_ID: HeaderName = HeaderName::from_static("x-amzn-sagemaker-prefix-aware-id");
const FORWARDED_API: HeaderName = HeaderName::from_static("x-amzn-sagemaker-forwarded-api");

/// What a client asks for when it opens a session.
const NEW_SESSION: &str = "NEW_SESSION";

/// A member of the API's input that travels as a header.
struct Member {
    name: &'static str,
    header: HeaderName,
    rule: Rule,
    /// The header that the container sees.
    forwarded: Option<HeaderName>,
}

#[derive(Clone, Copy)]
enum Rule {
    /// Visible ASCII and spaces, at most so many.
    Ascii(usize),
    /// The same, with one at least.
    Printable(usize),
    /// Letters, digits and inner hyphens.
    Name(usize),
    /// The same, or the word that opens a session.
    NewOrName(usize),
}

/// The members of a call's input.
fn members(api: Api) -> Vec<Member> {
    let member = |name, header, rule, forwarded| Member {
        name,
        header,
        rule,
        forwarded,
    };
    let (accept, session) = match api {
        Api::Invoke => (ACCEPT, Rule::NewOrName(256)),
        Api::Stream => (STREAM_ACCEPT, Rule::Name(256)),
    };
    let mut members = vec![
        member(
            "contentType",
            CONTENT_TYPE,
            Rule::Ascii(1024),
            Some(CONTENT_TYPE),
        ),
        member("accept", accept, Rule::Ascii(1024), Some(ACCEPT)),
        member(
            "customAttributes",
            CUSTOM_ATTRIBUTES,
            Rule::Ascii(1024),
            Some(CUSTOM_ATTRIBUTES),
        ),
        member(
            "targetVariant",
            TARGET_VARIANT,
            Rule::Name(63),
            Some(TARGET_VARIANT),
        ),
        member("targetContainerHostname", CONTAINER, Rule::Name(63), None),
        member(
            "inferenceId",
            INFERENCE_ID,
            Rule::Printable(64),
            Some(INFERENCE_ID),
        ),
        member("inferenceComponentName", COMPONENT, Rule::Name(63), None),
        member("sessionId", SESSION_ID, session, Some(SESSION_ID)),
        member("prefixAwareId", PREFIX_ID, Rule::Printable(64), None),
    ];
    if api == Api::Invoke {
        members.push(member(
            "targetModel",
            TARGET_MODEL,
            Rule::Printable(1024),
            Some(TARGET_MODEL),
        ));
        members.push(member(
            "enableExplanations",
            EXPLANATIONS,
            Rule::Printable(64),
            None,
        ));
    }
    members
}

/// The headers that the container gets.
pub(crate) fn forward(api: Api, given: &HeaderMap) -> Result<HeaderMap, Failure> {
    let mut forwarded = HeaderMap::new();
    for member in members(api) {
        let Some(value) = given.get(&member.header) else {
            continue;
        };
        member.rule.check(member.name, value)?;
        if let Some(name) = member.forwarded {
            forwarded.insert(name, value.clone());
        }
    }
    forwarded.insert(FORWARDED_API, HeaderValue::from_static(api.name()));
    Ok(forwarded)
}

/// An endpoint's name.
pub(crate) fn endpoint(name: &str) -> Result<(), Failure> {
    Rule::Name(63).check_text("endpointName", name)
}

impl Rule {
    fn check(self, member: &str, value: &HeaderValue) -> Result<(), Failure> {
        match value.to_str() {
            Ok(text) => self.check_text(member, text),
            Err(_) => Err(Failure::constraint(
                member,
                &String::from_utf8_lossy(value.as_bytes()),
                "satisfy regular expression pattern: \\p{ASCII}*",
            )),
        }
    }

    fn check_text(self, member: &str, text: &str) -> Result<(), Failure> {
        let (Self::Ascii(most) | Self::Printable(most) | Self::Name(most) | Self::NewOrName(most)) =
            self;
        if text.len() > most {
            let rule = format!("have length less than or equal to {most}");
            return Err(Failure::constraint(member, text, &rule));
        }
        let (fits, rule) = match self {
            Self::Ascii(_) => (true, ""),
            Self::Printable(_) => (!text.is_empty(), "have length greater than or equal to 1"),
            Self::Name(_) => (
                is_name(text),
                "satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
            ),
            Self::NewOrName(_) => (
                text == NEW_SESSION || is_name(text),
                "satisfy regular expression pattern: ^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
            ),
        };
        match fits {
            true => Ok(()),
            false => Err(Failure::constraint(member, text, rule)),
        }
    }
}

/// Letters, digits, and hyphens that are neither first nor last.
pub(crate) fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_the_api_s_headers_pass_and_the_platform_adds_its_own() {
        let given = map(&[
            ("content-type", "text/plain"),
            ("accept", "application/json"),
            ("authorization", "AWS4-HMAC-SHA256 …"),
            ("x-amz-date", "20260101T000000Z"),
            ("user-agent", "Boto3"),
            ("x-custom", "1"),
            ("x-amzn-sagemaker-forwarded-api", "Forged"),
            ("x-amzn-sagemaker-custom-attributes", "trace=1"),
            ("x-amzn-sagemaker-inference-id", "id 1"),
            ("x-amzn-sagemaker-inference-component", "part"),
            ("x-amzn-sagemaker-session-id", "NEW_SESSION"),
        ]);
        let expected = map(&[
            ("content-type", "text/plain"),
            ("accept", "application/json"),
            ("x-amzn-sagemaker-custom-attributes", "trace=1"),
            ("x-amzn-sagemaker-inference-id", "id 1"),
            ("x-amzn-sagemaker-session-id", "NEW_SESSION"),
            ("x-amzn-sagemaker-forwarded-api", "InvokeEndpoint"),
        ]);
        assert_eq!(forward(Api::Invoke, &given).unwrap(), expected);
    }

    #[test]
    fn a_stream_s_accept_has_a_header_of_its_own_and_cannot_open_a_session() {
        let given = map(&[
            ("accept", "*/*"),
            ("x-amzn-sagemaker-accept", "application/jsonlines"),
        ]);
        let forwarded = forward(Api::Stream, &given).unwrap();
        assert_eq!(forwarded["accept"], "application/jsonlines");
        assert_eq!(
            forwarded["x-amzn-sagemaker-forwarded-api"],
            "InvokeEndpointWithResponseStream"
        );
        let opening = map(&[("x-amzn-sagemaker-session-id", "NEW_SESSION")]);
        assert!(forward(Api::Stream, &opening).is_err());
    }

    #[test]
    fn what_the_service_model_forbids_is_refused_in_its_words() {
        let long = "x".repeat(65);
        for (header, value, part) in [
            (
                "inference-id",
                long.as_str(),
                "'inferenceId' failed to satisfy constraint: Member must have length less than or equal to 64",
            ),
            (
                "target-variant",
                "-a",
                "'targetVariant' failed to satisfy constraint: Member must satisfy",
            ),
            ("session-id", "a_b", "(NEW_SESSION)"),
            ("target-model", "", "greater than or equal to 1"),
        ] {
            let given = map(&[(&format!("x-amzn-sagemaker-{header}"), value)]);
            let message = forward(Api::Invoke, &given).unwrap_err().message();
            assert!(message.contains(part), "{header}: {message}");
        }
        let umlaut = HeaderValue::from_bytes("ä".as_bytes()).unwrap();
        let given = HeaderMap::from_iter([(CUSTOM_ATTRIBUTES, umlaut)]);
        let message = forward(Api::Invoke, &given).unwrap_err().message();
        assert!(message.contains("ASCII"), "{message}");
        assert!(endpoint("my-endpoint-2").is_ok() && endpoint("my_endpoint").is_err());
        assert!(endpoint(&"x".repeat(64)).is_err());
    }
}
