//! Keeps requests with their answers, where a recording is asked for, and asks recorded ones again.
//!
//! What an answer depends on beside its request (a seed that nobody named, its name, the time) is drawn before the request
//! is understood, so that it can be the same once more. Files are `sconce-record`'s.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use sconce_core::{Ask, Input, Prompt};
use sconce_record::{Answer, Asked, Content, Exchange, Fixed, Recorder};
use uuid::Uuid;

use crate::app::{self, Models, Shared};
use crate::auth::ApiKeys;
use crate::openai;
use crate::settings::HttpSettings;

/// Bytes of an answer that are kept.
const LONGEST: usize = 64 << 20;

/// Headers that say who asks, or that belong to the connection.
const UNKEPT: [HeaderName; 11] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HOST,
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    EXPECT,
    ACCEPT_ENCODING,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-amz-security-token"),
];

/// What is fixed for a request, and what is learnt of it while it is answered; a request extension.
#[derive(Clone)]
pub(crate) struct Fate(Arc<Mutex<Known>>);

struct Known {
    fixed: Fixed,
    /// The body, once it has been read.
    body: Option<Bytes>,
    /// Whether the model's own code answers.
    by_code: bool,
    /// Whether the answer is fetched later, under a name that nobody can foresee.
    deferred: bool,
}

impl Fate {
    fn of(fixed: Fixed) -> Self {
        Self(Arc::new(Mutex::new(Known {
            fixed,
            body: None,
            by_code: false,
            deferred: false,
        })))
    }

    fn drawn() -> Self {
        let id = Uuid::new_v4();
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        Self::of(Fixed {
            seed,
            id: id.to_string(),
            created: openai::now(),
        })
    }

    /// The body of the request.
    pub(crate) fn read(&self, body: &Bytes, deferred: bool) {
        let mut known = self.known();
        known.body = Some(body.clone());
        known.deferred = deferred;
    }

    /// The model's own code answers.
    pub(crate) fn by_code(&self) {
        self.known().by_code = true;
    }

    /// What the answer calls itself, and when the request came.
    pub(crate) fn stamp(&self) -> (String, u64) {
        let known = self.known();
        (known.fixed.id.clone(), known.fixed.created)
    }

    /// Gives inputs their seeds and their time, where they name none.
    pub(crate) fn settle(&self, inputs: &mut [Input]) {
        let known = self.known();
        for (at, input) in inputs.iter_mut().enumerate() {
            let seed = known.fixed.seed.wrapping_add(at as u64);
            match input {
                Input::Generate(generate) => {
                    generate.params.sampling.seed.get_or_insert(seed);
                    if let Prompt::Dialogue(dialogue) = &mut generate.prompt {
                        let dialogue = Arc::make_mut(dialogue);
                        dialogue.now.get_or_insert(known.fixed.created);
                    }
                }
                Input::Task(Ask::Write(asked)) => {
                    asked.decoding.sampling.seed.get_or_insert(seed);
                }
                // torch's generators take so many bits of those that diffusers draws.
                Input::Task(Ask::Draw(asked)) => {
                    asked.seed.get_or_insert(seed & u64::from(u32::MAX));
                }
                Input::Task(_) | Input::Raw(_) => {}
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what comes and goes, of requests that ask a model.
pub(crate) async fn keep(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(recorder) = shared.settings.recorder.clone() else {
        return next.run(request).await;
    };
    let fate = Fate::drawn();
    let asked = Asked {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: kept(request.headers()),
        body: Content::default(),
    };
    request.extensions_mut().insert(fate.clone());
    let response = next.run(request).await;
    let Known {
        fixed,
        body: Some(body),
        by_code,
        deferred: false,
    } = &*fate.known()
    else {
        return response;
    };
    let exchange = Exchange {
        asked: Asked {
            body: Content(body.to_vec()),
            ..asked
        },
        fixed: fixed.clone(),
        answer: Answer {
            status: response.status().as_u16(),
            content_type: content_type(response.headers()),
            by_code: *by_code,
            ..Answer::default()
        },
    };
    response.map(|inner| {
        let mut taped = Taped {
            inner,
            recorder,
            exchange: Some(exchange),
        };
        taped.note_end();
        Body::new(taped)
    })
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| !UNKEPT.contains(name));
    let pair = |(name, value): (&HeaderName, &axum::http::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), value.into_owned())
    };
    kept.map(pair).collect()
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A body of an answer that is kept while it is sent; what a client does not wait for is kept as far as it came.
struct Taped {
    inner: Body,
    recorder: Arc<Recorder>,
    exchange: Option<Exchange>,
}

impl Taped {
    fn note(&mut self, bytes: &[u8]) {
        if let Some(Exchange { answer, .. }) = &mut self.exchange {
            let room = LONGEST - answer.body.0.len();
            answer.cut |= bytes.len() > room;
            answer
                .body
                .0
                .extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn note_end(&mut self) {
        if let Some(Exchange { answer, .. }) = &mut self.exchange {
            answer.complete |= self.inner.is_end_stream();
        }
    }
}

impl Drop for Taped {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.recorder.put(exchange);
        }
    }
}

impl HttpBody for Taped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = self.inner.frame().poll_unpin(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    let bytes = bytes.clone();
                    self.note(&bytes);
                }
                self.note_end();
            }
            Poll::Ready(None) => {
                if let Some(Exchange { answer, .. }) = &mut self.exchange {
                    answer.complete = true;
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Asks recorded requests again, without a socket.
#[derive(Clone)]
pub struct Replayer(TowerToHyperService<Router>);

impl Replayer {
    /// Of these models, with the settings that the server would have.
    pub fn new(models: Models, settings: HttpSettings) -> Self {
        // Recordings have no keys, and whoever replays reads all of them anyhow.
        let settings = HttpSettings {
            recorder: None,
            api_keys: ApiKeys::default(),
            ..settings
        };
        Self(TowerToHyperService::new(app::router(models, settings)))
    }

    /// Asks with what was fixed then; the answer, or why the request cannot be made.
    pub async fn ask(&self, exchange: &Exchange) -> Result<Answer, String> {
        let Exchange { asked, fixed, .. } = exchange;
        let builder = Request::builder()
            .method(asked.method.as_str())
            .uri(&asked.target)
            .extension(Fate::of(fixed.clone()));
        let headers = asked.headers.iter();
        let builder = headers.fold(builder, |builder, (name, value)| {
            builder.header(name, value)
        });
        let request = builder
            .body(Body::from(asked.body.0.clone()))
            .map_err(|cause| format!("this is no request: {cause}"))?;
        let Ok(response) = self.0.call(request).await;
        let (status, content_type) = (response.status().as_u16(), content_type(response.headers()));
        let body = response.into_body().collect().await;
        Ok(Answer {
            status,
            content_type,
            complete: body.is_ok(),
            body: Content(body.map_or_else(|_| Vec::new(), |body| body.to_bytes().to_vec())),
            ..Answer::default()
        })
    }
}
