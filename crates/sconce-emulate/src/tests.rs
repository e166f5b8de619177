//! The stand-in on a real port, a scripted container behind it and a real client before it.

mod failures;
mod invocations;
mod lifecycle;
mod models;
mod streams;

use std::future::pending;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use sconce_testkit::client::{Answer, Client};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Settings, Upstream};

/// A request as the container saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What a container does with a request other than a ping.
type Script = dyn Fn(&Seen) -> Response + Send + Sync;

/// A container that answers pings with 200 and everything else from a script.
#[derive(Clone)]
struct Container {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Container {
    fn new(script: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            seen: Arc::default(),
        }
    }

    /// What was asked, pings left out.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no script panics").clone()
    }

    async fn answer(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if path == "/ping" {
            return StatusCode::OK.into_response();
        }
        let seen = Seen {
            method: parts.method.to_string(),
            path,
            headers: parts.headers,
            body: body.collect().await.expect("a whole request").to_bytes(),
        };
        self.seen
            .lock()
            .expect("no script panics")
            .push(seen.clone());
        (self.script)(&seen)
    }

    /// Listens in a runtime; the address.
    fn listen(&self, runtime: &Runtime) -> Upstream {
        let container = self.clone();
        let router = Router::new().fallback(move |request| container.clone().answer(request));
        let listener = port(runtime);
        let address = listener.local_addr().expect("a bound listener");
        runtime.spawn(async move { axum::serve(listener, router).await });
        upstream(address)
    }
}

fn port(runtime: &Runtime) -> TcpListener {
    let binding = TcpListener::bind("127.0.0.1:0");
    runtime.block_on(binding).expect("a port")
}

fn upstream(address: std::net::SocketAddr) -> Upstream {
    format!("http://{address}").parse().expect("an address")
}

/// The stand-in with its container, in a runtime of its own, so that tests may block.
struct Emulator {
    client: Client,
    runtime: Runtime,
    serving: JoinHandle<std::io::Result<()>>,
    end: watch::Sender<bool>,
}

impl Emulator {
    /// In front of a container, with settings that differ from the platform's.
    fn start(container: &Container, change: impl FnOnce(&mut Settings)) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let upstream = container.listen(&runtime);
        Self::before(runtime, upstream, change)
    }

    fn before(runtime: Runtime, upstream: Upstream, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(upstream);
        change(&mut settings);
        let listener = port(&runtime);
        let client = Client::new(listener.local_addr().expect("a bound listener"));
        let (end, mut ending) = watch::channel(false);
        let shutdown = async move { drop(ending.wait_for(|end| *end).await) };
        let serving = runtime.spawn(crate::Emulator::new(settings).serve(listener, shutdown));
        Self {
            client,
            runtime,
            serving,
            end,
        }
    }

    /// InvokeEndpoint of `ep` with these headers.
    fn invoke(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let path = "/endpoints/ep/invocations";
        self.client
            .post_bytes(path, headers, body)
            .expect("an answer")
    }

    /// InvokeEndpointWithResponseStream of `ep`.
    fn stream(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let path = "/endpoints/ep/invocations-response-stream";
        self.client
            .post_bytes(path, headers, body)
            .expect("an answer")
    }

    /// Begins the end.
    fn end(&self) {
        let _ = self.end.send(true);
    }

    /// Waits for the end.
    fn join(self) {
        let served = self.runtime.block_on(self.serving).expect("no panic");
        served.expect("no error");
    }
}

/// An answer of JSON.
fn json(status: u16, body: &'static str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json")], body).into_response()
}

/// A body of these chunks that then ends, or never ends.
fn chunks(chunks: &'static [&'static str], ends: bool) -> Body {
    let chunks = futures_util::stream::iter(chunks.iter().copied().map(Ok::<_, std::io::Error>));
    let rest = futures_util::stream::once(async move {
        if !ends {
            pending::<()>().await;
        }
        Ok("")
    });
    Body::from_stream(futures_util::StreamExt::chain(chunks, rest))
}

/// The error that boto3 would raise: its name and its members.
fn error(answer: &Answer) -> (u16, &str, Value) {
    let name = answer.header("x-amzn-errortype").expect("an error's name");
    (answer.status, name, answer.json().expect("JSON"))
}
