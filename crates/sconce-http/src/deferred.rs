//! Answers that are fetched later: `x-synchronous: false`, then `x-starting-token`.
//!
//! | request | answer |
//! | --- | --- |
//! | `x-synchronous: false` | 200 without a body, `x-next-token: <uuid>` |
//! | `x-starting-token: <token>`, `x-max-items: <n>` | 202 without a body and the same token, while nothing new is there |
//! | | the items since then, joined, in the status the answer would have had; `x-next-token` unless that was all |
//!
//! SageMaker passes custom attributes only, so that requests may have all three there, and tokens
//! are sent there as well. A job goes on when the client that asked for it leaves.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::StreamExt;

use crate::head::Head;
use crate::produce::{self, Body as Answered, Produced, Watch, Work};
use crate::properties::{ATTRIBUTES, Properties};
use crate::refusal::Refusal;
use crate::respond;
use crate::results::{Page, Results, Token, Writer};

const SYNCHRONOUS: &str = "x-synchronous";
const STARTING_TOKEN: &str = "x-starting-token";
const NEXT_TOKEN: &str = "x-next-token";
const MAX_ITEMS: &str = "x-max-items";

/// Whether the answer is to be fetched later.
pub(crate) fn wanted(properties: &Properties<'_>) -> Result<bool, Refusal> {
    match properties.get(SYNCHRONOUS) {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("false") => Ok(true),
        Some(value) => Err(Refusal::BadRequest(format!(
            "{SYNCHRONOUS}: {value} is neither true nor false"
        ))),
    }
}

/// A request for a part of a result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Poll {
    /// As the client wrote it.
    text: String,
    token: Token,
    most: usize,
}

impl Poll {
    /// What the request asks for, if it asks for a result.
    pub(crate) fn read(properties: &Properties<'_>) -> Result<Option<Self>, Refusal> {
        let Some(text) = properties.get(STARTING_TOKEN) else {
            return Ok(None);
        };
        let token = text.parse().map_err(|()| unknown(text))?;
        let most = match properties.get(MAX_ITEMS) {
            None => usize::MAX,
            Some(count) => most(count).ok_or_else(|| {
                Refusal::BadRequest(format!(
                    "{MAX_ITEMS}: {count} must be a number from 1, or -1 for all"
                ))
            })?,
        };
        Ok(Some(Self {
            text: text.to_owned(),
            token,
            most,
        }))
    }
}

/// Negative numbers mean all. With 0 a client would ask for ever.
fn most(count: &str) -> Option<usize> {
    match count.parse::<i64>().ok()? {
        0 => None,
        count => Some(usize::try_from(count).unwrap_or(usize::MAX)),
    }
}

fn unknown(token: &str) -> Refusal {
    Refusal::BadRequest(format!("Invalid {STARTING_TOKEN}: {token}"))
}

/// Answers a poll.
pub(crate) fn poll(results: &Results, asked: &Poll) -> Result<Response, Refusal> {
    let page = results.page(asked.token, asked.most);
    match page.ok_or_else(|| unknown(&asked.text))? {
        Page::Pending => Ok(with_token(respond::pending(), asked.token)),
        Page::Items(head, body, next) => {
            let response = respond::with_head(head, body.into());
            Ok(match next {
                Some(token) => with_token(response, token),
                None => response,
            })
        }
    }
}

/// Answers with a token, and lets the jobs go on without the client.
pub(crate) fn start(results: &Arc<Results>, work: Work, watch: Watch) -> Response {
    let writer = results.open();
    let id = writer.id;
    let job = tokio::spawn(write(writer, work, watch));
    results.bind(id, job.abort_handle());
    with_token(Response::new(Body::empty()), Token { id, taken: 0 })
}

async fn write(writer: Writer, work: Work, watch: Watch) {
    let responder = Arc::clone(&watch.responder);
    match produce::produce(work, watch).await {
        Ok(Produced { head, body }) => {
            writer.begin(head);
            match body {
                Answered::Whole(body) => writer.push(body),
                Answered::Stream(mut chunks) => {
                    while let Some(chunk) = chunks.next().await {
                        // A result that breaks off is dropped: polls for it are refused then.
                        let Ok(chunk) = chunk else { return };
                        writer.push(chunk);
                    }
                }
            }
        }
        Err(error) => {
            tracing::warn!("result {} is an error: {error}", writer.id);
            let (status, body) = responder.told(&error.into());
            writer.begin(Head::new(status, respond::JSON));
            writer.push(body.into());
        }
    }
    writer.finish().await;
}

fn with_token(mut response: Response, token: Token) -> Response {
    let text = |value: String| HeaderValue::try_from(value).expect("a token is visible ASCII");
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(NEXT_TOKEN), text(token.to_string()));
    headers.insert(
        HeaderName::from_static(ATTRIBUTES),
        text(format!("{NEXT_TOKEN}={token}")),
    );
    response
}
