//! The headers that every answer carries, as DJL Serving sends them.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CACHE_CONTROL, CONNECTION, EXPIRES, PRAGMA,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use uuid::Uuid;

use crate::settings::Cors;

/// The response header with the request's id, whatever the request header is called.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 128;

/// The id that the client gave, if it is short visible ASCII; else a random UUID.
pub(crate) fn request_id(headers: &HeaderMap, name: &HeaderName) -> HeaderValue {
    let usable = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=LONGEST_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    headers
        .get(name)
        .filter(usable)
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::try_from(Uuid::new_v4().to_string()).expect("a UUID is visible ASCII")
        })
}

/// Adds them. From 400 on the connection is closed.
pub(crate) fn stamp(response: &mut Response, id: HeaderValue, cors: &Cors) {
    let closes = response.status().as_u16() >= 400;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    let no_cache = HeaderValue::from_static("no-cache; no-store, must-revalidate, private");
    headers.insert(CACHE_CONTROL, no_cache);
    headers.insert(
        EXPIRES,
        HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 UTC"),
    );
    let allowed = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, &cors.origin),
        (ACCESS_CONTROL_ALLOW_METHODS, &cors.methods),
        (ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers),
    ];
    for (name, value) in allowed {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_visible_ids_are_copied() {
        let name = HeaderName::from_static("x-id");
        let id = |value: &str| {
            let headers = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
            request_id(&headers, &name).to_str().unwrap().to_owned()
        };
        assert_eq!(id("abc-1"), "abc-1");
        for bad in ["", "a b", &"x".repeat(LONGEST_ID + 1), "a\tb"] {
            assert_eq!(id(bad).len(), 36, "{bad:?}");
        }
        assert_ne!(
            request_id(&HeaderMap::new(), &name),
            request_id(&HeaderMap::new(), &name)
        );
    }
}
