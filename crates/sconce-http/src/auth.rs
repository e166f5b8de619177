//! Who may ask: requests bring a key, if the configuration has one.
//!
//! A key lets its owner do everything that routes do; who may manage models is said apart from that.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use sconce_api::Dialect;
use subtle::{Choice, ConstantTimeEq};

use crate::app::Shared;
use crate::refusal::Refusal;
use crate::respond;

/// Paths that need no key, and what is below them: who watches over the server, SageMaker among them, sends none. They tell
/// of health and nothing else, and the files of the console are everybody's: what it asks of the server needs the key.
pub(crate) const PUBLIC: &[&str] = &["/ping", "/health", "/v2/health", "/console"];

/// The header for keys of gateways that keep `Authorization` for themselves.
const API_KEY: &str = "x-api-key";

/// Keys of which every request must bring one; none: no request needs one.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Any of these.
    pub fn new(keys: &[String]) -> Self {
        Self(keys.to_vec())
    }

    /// Whether no request needs one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is one of them. How long that takes depends on the length of what was sent, not on its letters.
    fn have(&self, sent: &[u8]) -> bool {
        let same = self.0.iter().map(|key| key.as_bytes().ct_eq(sent));
        same.fold(Choice::from(0), |any, same| any | same).into()
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} hidden)", self.0.len())
    }
}

/// Lets requests pass that bring a key or need none.
pub(crate) async fn require(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let keys = &shared.settings.api_keys;
    if keys.is_empty() || is_public(request.uri().path()) {
        return next.run(request).await;
    }
    if is_preflight(&request) {
        // Browsers ask before they send a key.
        return respond::preflight();
    }
    let problem = match sent(request.headers()) {
        Some(key) if keys.have(key) => return next.run(request).await,
        Some(_) => "The API key is not one of this server's.",
        None => "Requests need the API key: Authorization: Bearer KEY, or x-api-key: KEY.",
    };
    let dialect = dialect_of(request.uri().path());
    let refusal = Refusal::Unauthorized(problem);
    shared.speaking(dialect).failure(&refusal)
}

/// In which form a refusal goes to who asks at that path, where its route is not reached.
pub(crate) fn dialect_of(path: &str) -> Option<Dialect> {
    path.starts_with("/v1/").then_some(Dialect::OpenAi)
}

pub(crate) fn is_public(path: &str) -> bool {
    let below = |public: &&str| {
        let rest = path.strip_prefix(*public);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PUBLIC.iter().any(below)
}

fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    let asks = headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    request.method() == Method::OPTIONS && headers.contains_key(ORIGIN) && asks
}

/// The key that a request brings, `Authorization` first.
fn sent(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme
            .eq_ignore_ascii_case(b"Bearer ")
            .then(|| key.trim_ascii())
    });
    bearer.or_else(|| Some(headers.get(API_KEY)?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_found_in_either_header_and_compared_as_a_whole() {
        let keys = ApiKeys::new(&["first".into(), "second".into()]);
        for (headers, allowed) in [
            (&[("authorization", "Bearer first")][..], true),
            (&[("authorization", "bearer  second ")], true),
            (&[("x-api-key", "second")], true),
            (
                &[("authorization", "Basic Zmlyc3Q="), ("x-api-key", "first")],
                true,
            ),
            (
                &[("authorization", "Bearer wrong"), ("x-api-key", "first")],
                false,
            ),
            (&[("authorization", "first")], false),
            (&[("authorization", "Bearer")], false),
            (&[("authorization", "Bearer ")], false),
            (&[("authorization", "Bearer firs")], false),
            (&[("authorization", "Bearer firstt")], false),
            (&[("authorization", "Bearer first,second")], false),
            (&[("x-api-key", "")], false),
            (&[], false),
        ] {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (name.parse().unwrap(), HeaderValue::from_static(value))
            };
            let map: HeaderMap = headers.iter().map(pair).collect();
            let found = sent(&map).is_some_and(|key| keys.have(key));
            assert_eq!(found, allowed, "{headers:?}");
        }
    }

    #[test]
    fn health_is_public_and_what_only_begins_like_it_is_not() {
        for path in ["/ping", "/ping/", "/ping/x", "/health"] {
            assert!(is_public(path), "{path}");
        }
        for path in [
            "/",
            "/pings",
            "/pingx/",
            "/invocations",
            "/models/ping",
            "//ping",
            "/x/../ping",
        ] {
            assert!(!is_public(path), "{path}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let keys = ApiKeys::new(&["first".into()]);
        assert!(!format!("{keys:?}").contains("first"));
    }
}
