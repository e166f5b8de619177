//! Reading request bodies within their limits: the size and time of each, and the memory of all together; and what becomes
//! of those that nobody reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use sconce_core::ServeError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::settings::HttpSettings;

/// So long a body that nobody wants is read and thrown away: a client that is still writing when
/// the connection closes would see a reset instead of the answer, or of the next one.
const DISCARD: Duration = Duration::from_secs(5);
/// More than this is not allocated on the word of a header alone.
const TRUSTED: usize = 1024 * 1024;
/// Bytes of bodies are counted in blocks of so many.
const BLOCK: usize = 64 * 1024;

/// Reads bodies, and counts what those take that are at hand.
pub(crate) struct Bodies {
    /// Longest of one, in bytes.
    limit: usize,
    /// Longest pause between two pieces of one.
    pause: Duration,
    /// Of all, in bytes.
    together: usize,
    /// Blocks that are left.
    blocks: Arc<Semaphore>,
}

/// A body, which counts until the last of its bytes is dropped.
struct Held {
    bytes: Vec<u8>,
    _blocks: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// Within these limits; one of the longest always fits.
    pub(crate) fn new(settings: &HttpSettings) -> Self {
        let limit = settings.max_request_size;
        let together = settings.max_bodies_size.max(limit);
        let blocks = together.div_ceil(BLOCK).min(Semaphore::MAX_PERMITS);
        Self {
            limit,
            pause: settings.body_timeout,
            together,
            blocks: Arc::new(Semaphore::new(blocks)),
        }
    }

    /// The whole body, of which no more than the limit is ever kept; `longest` is the time that the
    /// request has since it began.
    pub(crate) async fn read(
        &self,
        mut body: Body,
        began: Instant,
        longest: Duration,
    ) -> Result<Bytes, ServeError> {
        let limit = self.limit;
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > limit {
            return Err(ServeError::BodyTooLarge { limit });
        }
        let mut read = Vec::with_capacity(declared.min(TRUSTED));
        let mut held = None;
        loop {
            let patience = (began + longest).min(Instant::now() + self.pause);
            let frame = match timeout_at(patience, body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => frame.map_err(|cause| early_end(read.len(), &cause))?,
                Err(_) => return Err(self.stalled(read.len(), longest)),
            };
            // Trailers are of no use here.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.len() > limit - read.len() {
                return Err(ServeError::BodyTooLarge { limit });
            }
            if !self.holds(&mut held, read.len() + data.len()) {
                let limit = self.together;
                return Err(ServeError::Crowded { limit });
            }
            read.extend_from_slice(&data);
        }
        Ok(Bytes::from_owner(Held {
            bytes: read,
            _blocks: held,
        }))
    }

    /// Whether there is room for so many bytes, of which some are `held` already.
    fn holds(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(BLOCK).saturating_sub(has);
        let Ok(missing) = u32::try_from(missing) else {
            return false;
        };
        let Ok(more) = Arc::clone(&self.blocks).try_acquire_many_owned(missing) else {
            return false;
        };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        true
    }

    fn stalled(&self, read: usize, longest: Duration) -> ServeError {
        ServeError::Malformed(format!(
            "the request body stalled after {read} bytes; a pause may last {} s and the whole request \
             {} s",
            self.pause.as_secs(),
            longest.as_secs()
        ))
    }
}

/// The body of a request, of which what is left is read and thrown away when it is dropped: the connection of a request
/// that was refused before its body was wanted stays of use.
pub(crate) struct Drained<B: HttpBody + Send + Unpin + 'static>(Option<B>);

impl<B: HttpBody + Send + Unpin> Drained<B> {
    pub(crate) fn new(body: B) -> Self {
        Self(Some(body))
    }
}

impl<B: HttpBody + Send + Unpin> HttpBody for Drained<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.0.as_ref().map(B::size_hint);
        rest.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl<B: HttpBody + Send + Unpin + 'static> Drop for Drained<B> {
    fn drop(&mut self) {
        let rest = self.0.take().filter(|body| !body.is_end_stream());
        let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) else {
            return;
        };
        runtime.spawn(timeout(DISCARD, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}

fn early_end(read: usize, cause: &axum::Error) -> ServeError {
    ServeError::Malformed(format!(
        "the request body broke off after {read} bytes: {cause}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_share_their_room_and_give_it_back() {
        let settings = HttpSettings {
            max_request_size: 3 * BLOCK,
            max_bodies_size: 4 * BLOCK,
            ..HttpSettings::default()
        };
        let bodies = Bodies::new(&settings);
        let read = async |blocks: usize| {
            let body = Body::from(vec![b'x'; blocks * BLOCK]);
            bodies.read(body, Instant::now(), DISCARD).await
        };
        let large = read(3).await.unwrap();
        let crowded = ServeError::Crowded { limit: 4 * BLOCK };
        assert_eq!(read(2).await, Err(crowded));
        let small = read(1).await.unwrap();
        let part = large.slice(1..2);
        drop(large);
        assert!(read(2).await.is_err(), "a part of it is still there");
        drop(part);
        assert_eq!(read(3).await.unwrap().len(), 3 * BLOCK);
        drop(small);
        let limit = 3 * BLOCK;
        assert_eq!(read(4).await, Err(ServeError::BodyTooLarge { limit }));
    }
}
