//! What surrounds every request: its id and trace, the open door, the panic net, the log line.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use sconce_telemetry::{Incoming, Request as Watched, RequestTrace};
use tracing::{debug, error, info};

use crate::app::Shared;
use crate::flights::Flight;
use crate::headers;
use crate::refusal::Refusal;

/// Counts the tokens sent for one request, for its log line; a request extension.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<AtomicUsize>);

impl Tally {
    pub(crate) fn add(&self, tokens: usize) {
        self.0.fetch_add(tokens, Ordering::Relaxed);
    }
}

/// The id of a request; a request extension.
#[derive(Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// The text of a failure, for the log line; a response extension.
#[derive(Clone)]
pub(crate) struct Cause(pub(crate) String);

/// Runs a handler as one flight, and turns a panic into an answer.
pub(crate) async fn envelope(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = headers::request_id(request.headers(), &shared.settings.request_id_header);
    let mut line = Line::new(&request, id.clone(), &shared);
    request.extensions_mut().insert(line.tally.clone());
    request
        .extensions_mut()
        .insert(RequestId(line.id().to_owned()));
    request.extensions_mut().insert(Watched {
        id: line.id().into(),
        trace: line.trace.clone(),
    });
    let (flight, mut response) = match shared.flights.enter() {
        Err(draining) => (None, shared.native().failure(&draining.into())),
        Ok(flight) => {
            let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            let response = answered.unwrap_or_else(|_| {
                error!(
                    id = line.id(),
                    "the handler of {} {} panicked", line.method, line.path
                );
                let panicked = Refusal::Panicked(line.id().to_owned());
                shared.native().failure(&panicked)
            });
            (Some(flight), response)
        }
    };
    headers::stamp(&mut response, id, &shared.settings.cors);
    line.status = Some(response.status().as_u16());
    // A body that is empty or not wanted is never asked for.
    line.complete = response.body().is_end_stream() || line.method == "HEAD";
    line.cause = response.extensions_mut().remove::<Cause>();
    response.map(|inner| {
        Body::new(Tracked {
            inner,
            line,
            _flight: flight,
        })
    })
}

/// The log line of a request, written when it is dropped: at the end, or when the client leaves.
struct Line {
    method: String,
    path: String,
    id: HeaderValue,
    began: Instant,
    tally: Tally,
    status: Option<u16>,
    cause: Option<Cause>,
    complete: bool,
    trace: Option<RequestTrace>,
    shared: Arc<Shared>,
}

/// What asks how the server is, again and again: neither traced nor counted, and of little interest to the log.
fn is_probe(path: &str) -> bool {
    const PROBES: [&str; 5] = [
        "/ping",
        "/health",
        "/metrics",
        "/server/metrics",
        "/v2/health/",
    ];
    PROBES.iter().any(|probe| match probe.strip_suffix('/') {
        Some(_) => path.starts_with(probe),
        None => path == *probe,
    })
}

impl Line {
    fn new(request: &Request, id: HeaderValue, shared: &Arc<Shared>) -> Self {
        let (method, path) = (request.method().as_str(), request.uri().path());
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let incoming = Incoming {
            parent: header("traceparent"),
            state: header("tracestate"),
        };
        let traces = shared.settings.telemetry.traces.as_ref();
        let trace = traces.filter(|_| !is_probe(path)).map(|traces| {
            traces.request(incoming, (method, path), id.to_str().unwrap_or_default())
        });
        Self {
            method: method.into(),
            path: path.to_owned(),
            id,
            began: Instant::now(),
            tally: Tally::default(),
            status: None,
            cause: None,
            complete: false,
            trace,
            shared: Arc::clone(shared),
        }
    }

    fn id(&self) -> &str {
        self.id
            .to_str()
            .expect("headers::request_id gives visible ASCII")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let probes = is_probe(&self.path);
        if let Some(status) = self.status.filter(|_| !probes) {
            self.shared
                .settings
                .telemetry
                .metrics
                .count_response(status);
        }
        if let Some(trace) = &self.trace {
            trace.end(self.status, self.complete);
        }
        if !self.shared.settings.access_log {
            return;
        }
        let Self {
            method,
            path,
            began,
            status,
            ..
        } = &*self;
        let id = self.id();
        let ms = began.elapsed().as_millis() as u64;
        let tokens = self.tally.0.load(Ordering::Relaxed);
        let outcome = match (status, self.complete) {
            (None, _) => "the client left before the answer".into(),
            (Some(status), false) => format!("{status}, and the client left during the answer"),
            (Some(status), true) => match &self.cause {
                Some(Cause(text)) => format!("{status}: {text}"),
                None => status.to_string(),
            },
        };
        if probes {
            debug!(id, ms, "{method} {path} → {outcome}");
        } else {
            info!(id, ms, tokens, "{method} {path} → {outcome}");
        }
    }
}

/// A response body that keeps its request in flight until its last byte is handed over.
struct Tracked {
    inner: Body,
    line: Line,
    _flight: Option<Flight>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = self.inner.frame().poll_unpin(context);
        // A body of known length is not asked again once it has given all.
        self.line.complete |= matches!(polled, Poll::Ready(None)) || self.inner.is_end_stream();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
