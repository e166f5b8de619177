//! How many connections there may be, and how long one may take nothing of what it is sent. What a connection sends is
//! bounded elsewhere: headers by hyper, bodies in `limits`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::Next;
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::app::Shared;
use crate::auth::{dialect_of, is_public};
use crate::refusal::Refusal;

/// Connections beyond the limit that are told so, or may ask how the server is; others are closed at once.
const SURPLUS: usize = 64;

const FULL: &str =
    "The server has as many connections as max_connections lets it have; retry later.";

/// Places for connections.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    surplus: Arc<Semaphore>,
}

/// A connection's place, until it is dropped.
pub(crate) struct PlaceTaken {
    pub(crate) is_surplus: bool,
    _permit: OwnedSemaphorePermit,
}

/// Marks requests of connections beyond the limit.
#[derive(Clone, Copy)]
pub(crate) struct Surplus;

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
            surplus: Arc::new(Semaphore::new(SURPLUS)),
        }
    }

    /// A place, if there is one.
    pub(crate) fn take(&self) -> Option<PlaceTaken> {
        let take = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        let own = take(&self.all);
        let is_surplus = own.is_none();
        let _permit = own.or_else(|| take(&self.surplus))?;
        Some(PlaceTaken {
            is_surplus,
            _permit,
        })
    }
}

/// Tells those beyond the limit to come again; whoever only asks how the server is gets an answer.
pub(crate) async fn turn_away(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if request.extensions().get::<Surplus>().is_none() {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let mut response = match is_public(path) {
        true => next.run(request).await,
        false => {
            let speaking = shared.speaking(dialect_of(path));
            speaking.failure(&Refusal::Busy(FULL))
        }
    };
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// A connection that breaks when the other side takes nothing for too long.
pub(crate) struct Patient<S> {
    inner: S,
    limit: Duration,
    /// Runs while something waits to be taken.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(inner: S, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            waiting: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client took nothing for {} s", limit.as_secs()),
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(context);
        self.watch(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_left_and_who_is_slow_is_not() {
        let (here, mut there) = tokio::io::duplex(10);
        let mut patient = Patient::new(here, Duration::from_secs(60));
        let writing = tokio::spawn(async move {
            let all = patient.write_all(&[7; 100]).await;
            (all, patient)
        });
        // A byte in every 50 seconds.
        for _ in 0..90 {
            sleep(Duration::from_secs(50)).await;
            there.read_u8().await.unwrap();
        }
        let (written, mut patient) = writing.await.unwrap();
        written.unwrap();
        let error = patient.write_all(&[7; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            error.to_string().contains("took nothing for 60 s"),
            "{error}"
        );
    }

    #[test]
    fn places_end_and_come_back() {
        let places = Places::new(2);
        let own: Vec<_> = (0..2).map(|_| places.take().unwrap()).collect();
        assert!(own.iter().all(|place| !place.is_surplus));
        let surplus: Vec<_> = (0..SURPLUS).map(|_| places.take().unwrap()).collect();
        assert!(surplus.iter().all(|place| place.is_surplus));
        assert!(places.take().is_none());
        drop(own);
        assert!(!places.take().unwrap().is_surplus);
    }
}
