//! Reading a request body within its limits of size and time.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use sconce_core::ServeError;
use tokio::time::{Instant, timeout, timeout_at};

use crate::settings::HttpSettings;

/// So long a body that is too large is read and thrown away: a client that is still writing when
/// the connection closes would see a reset instead of the answer.
const DISCARD: Duration = Duration::from_secs(5);
/// More than this is not allocated on the word of a header alone.
const TRUSTED: usize = 1024 * 1024;

/// The whole body, of which no more than the limit is ever kept; `longest` is the time that the
/// request has since it began.
pub(crate) async fn read_body(
    mut body: Body,
    settings: &HttpSettings,
    began: Instant,
    longest: Duration,
) -> Result<Bytes, ServeError> {
    let limit = settings.max_request_size;
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit {
        return Err(too_large(body, limit));
    }
    let mut read = Vec::with_capacity(declared.min(TRUSTED));
    loop {
        let patience = (began + longest).min(Instant::now() + settings.body_timeout);
        let frame = match timeout_at(patience, body.frame()).await {
            Ok(None) => return Ok(read.into()),
            Ok(Some(frame)) => frame.map_err(|cause| early_end(read.len(), &cause))?,
            Err(_) => return Err(stalled(read.len(), settings, longest)),
        };
        // Trailers are of no use here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limit - read.len() {
            return Err(too_large(body, limit));
        }
        read.extend_from_slice(&data);
    }
}

fn too_large(mut rest: Body, limit: usize) -> ServeError {
    tokio::spawn(timeout(DISCARD, async move {
        while let Some(Ok(_)) = rest.frame().await {}
    }));
    ServeError::BodyTooLarge { limit }
}

fn early_end(read: usize, cause: &axum::Error) -> ServeError {
    ServeError::Malformed(format!(
        "the request body broke off after {read} bytes: {cause}"
    ))
}

fn stalled(read: usize, settings: &HttpSettings, longest: Duration) -> ServeError {
    ServeError::Malformed(format!(
        "the request body stalled after {read} bytes; a pause may last {} s and the whole request \
         {} s",
        settings.body_timeout.as_secs(),
        longest.as_secs()
    ))
}
