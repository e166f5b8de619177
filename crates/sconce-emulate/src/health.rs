//! Whether the container is healthy: `GET /ping` answered with 200 within 2 s.
//!
//! The platform polls for the container's whole life. How often, and how many failures it bears,
//! is not published; here a failure is told, and calls go on as long as a connection can be made.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use http_body_util::{BodyExt, Limited};
use tracing::{info, warn};

use crate::upstream::Upstream;

/// The platform's limit for one ping.
const LIMIT: Duration = Duration::from_secs(2);
/// Pauses between pings: while the container starts, and later.
const STARTING: Duration = Duration::from_millis(500);
const STEADY: Duration = Duration::from_secs(5);
/// So much of the body of a failed ping is shown.
const SHOWN: usize = 500;

/// What is known of one container.
pub(crate) struct Health {
    upstream: Upstream,
    began: Instant,
    known: Mutex<Option<Result<(), String>>>,
}

/// A container that was not healthy in time.
#[derive(Debug, thiserror::Error)]
#[error("{upstream} was not healthy within {} s: {cause}", limit.as_secs())]
pub struct NeverHealthy {
    upstream: Upstream,
    limit: Duration,
    cause: String,
}

impl Health {
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            began: Instant::now(),
            known: Mutex::new(None),
        }
    }

    /// Whether the container has been healthy lately; asks it when that is not known.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        match self.known() {
            Some(Ok(())) => Ok(()),
            _ => self.check().await,
        }
    }

    /// Pings until the container is healthy.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<(), NeverHealthy> {
        let healthy = async {
            while self.check().await.is_err() {
                tokio::time::sleep(STARTING).await;
            }
        };
        if tokio::time::timeout(limit, healthy).await.is_ok() {
            return Ok(());
        }
        let cause = match self.known() {
            Some(Err(cause)) => cause,
            _ => "/ping was not answered".into(),
        };
        Err(NeverHealthy {
            upstream: self.upstream.clone(),
            limit,
            cause,
        })
    }

    /// Pings for ever, and tells when the state changes.
    pub(crate) async fn watch(&self) {
        loop {
            let pause = match self.check().await {
                Ok(()) => STEADY,
                Err(_) => STARTING,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Notes that the container cannot be reached, without waiting for the next ping.
    pub(crate) fn lost(&self, cause: &str) {
        self.note(Err(cause.into()));
    }

    /// Pings once.
    async fn check(&self) -> Result<(), String> {
        let state = ping(&self.upstream).await;
        self.note(state.clone());
        state
    }

    fn known(&self) -> Option<Result<(), String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn note(&self, state: Result<(), String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() == Some(&state) {
            return;
        }
        match &state {
            Ok(()) => info!(
                "{} is healthy {:.1} s after the start",
                self.upstream,
                self.began.elapsed().as_secs_f64()
            ),
            Err(cause) => warn!("{} is not healthy: {cause}", self.upstream),
        }
        *known = Some(state);
    }
}

/// One ping; why it failed.
async fn ping(upstream: &Upstream) -> Result<(), String> {
    let exchange = async {
        let sent = upstream.send(Method::GET, "/ping", HeaderMap::new(), Bytes::new());
        let answer = sent.await.map_err(|lost| lost.to_string())?;
        let status = answer.parts.status.as_u16();
        let body = Limited::new(answer.body, SHOWN).collect().await;
        if status == 200 {
            return Ok(());
        }
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        Err(match text.as_str() {
            "" => format!("GET /ping gave {status}, and only 200 counts"),
            text => format!("GET /ping gave {status}, and only 200 counts: {text}"),
        })
    };
    let late = || format!("GET /ping was not answered within {} s", LIMIT.as_secs());
    tokio::time::timeout(LIMIT, exchange)
        .await
        .unwrap_or_else(|_| Err(late()))
}
