//! The only place where failures become statuses.
//!
//! | failure | DJL's dialects | TGI, TEI | OpenAI |
//! | --- | --- | --- | --- |
//! | malformed body, bad parameter, too long for the context | 424, dialect | 422, dialect | 400, dialect |
//! | engine failed, or a handler's answer is none | 424, dialect | 424, dialect | 500, dialect |
//! | no key, or a wrong one | 401, server | the same | 401, dialect |
//! | too many changes of models at once | `throttle_error_http_code`, server | the same | the same |
//! | queue full, too many bodies at once | `throttle_error_http_code`, server | 429, dialect | 429, dialect |
//! | not ready, shutting down, worker lost | `wlm_error_http_code`, server | 503, dialect | 503, dialect |
//! | not finished in time, paused for too long | `wlm_error_http_code`, server | 500, dialect | 503, dialect |
//! | bad token, handler named, no model named | `bad_request_http_code`, server | the same | the same |
//! | panic in a handler | `server_error_http_code`, server | the same | the same |
//! | body larger than `max_request_size` | 413, server | 413, dialect | 413, dialect |
//! | unknown model, version or route | 404, server | 404, dialect | 404, dialect |
//! | a model is not registered: same name; too little memory; other reasons | 409; 507; 400, 404, 500, 503, server | the same | the same |
//! | who may not manage models | 403, server | the same | the same |
//! | wrong method on a route that looks at it | 405, server | the same | the same |
//! | compressed body | 415, server | the same | the same |
//! | a route of DJL Serving that is not served | 501, server | the same | the same |
//!
//! Dialect bodies are written by [`Wire::failure`], server bodies are DJL's
//! `{"code":…,"type":…,"message":…}`. 424 is what DJL's handlers answer to requests that they
//! cannot use, and what SageMaker's clients of them expect. What is worth a retry carries
//! Retry-After. The full comparison with DJL Serving, and what is different on purpose, is in
//! `BEHAVIOUR.md` beside this crate's sources.

use axum::body::Body;
use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use sconce_api::ping::Health;
use sconce_api::tasks::openai;
use sconce_api::{Statuses, Wire, error};
use sconce_core::{AdapterRefusal, RegistryError, ServeError};

use crate::access::Cause;
use crate::head::Head;
use crate::refusal::Refusal;
use crate::settings::{ErrorCodes, PingCodes};

pub(crate) const JSON: &str = "application/json";

/// How failures are told on a route: in its dialect, and with the operator's codes.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    pub(crate) wire: Wire,
    pub(crate) codes: ErrorCodes,
}

impl Responder {
    /// The status of a job's failure.
    pub(crate) fn status(&self, failure: &ServeError) -> StatusCode {
        let ours = |djl: StatusCode, tgi: StatusCode, openai: StatusCode| match self.wire.statuses()
        {
            Statuses::Djl => djl,
            Statuses::Tgi => tgi,
            Statuses::OpenAi => openai,
        };
        let codes = &self.codes;
        match failure {
            ServeError::Malformed(_)
            | ServeError::Parameter { .. }
            | ServeError::TooLong { .. }
            | ServeError::PromptTooLong { .. } => ours(
                StatusCode::FAILED_DEPENDENCY,
                StatusCode::UNPROCESSABLE_ENTITY,
                StatusCode::BAD_REQUEST,
            ),
            ServeError::Engine { .. } | ServeError::BadAnswer { .. } => ours(
                StatusCode::FAILED_DEPENDENCY,
                StatusCode::FAILED_DEPENDENCY,
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            ServeError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ServeError::Unnamed => codes.bad_request,
            ServeError::UnknownModel(_)
            | ServeError::UnknownRoute
            | ServeError::OtherTask { .. } => StatusCode::NOT_FOUND,
            ServeError::QueueFull { .. }
            | ServeError::Crowded { .. }
            | ServeError::NoMemory { .. }
            | ServeError::AdaptersInUse { .. } => {
                let full = StatusCode::TOO_MANY_REQUESTS;
                ours(codes.throttle_error, full, full)
            }
            ServeError::NotReady { .. } | ServeError::Draining | ServeError::WorkerLost { .. } => {
                let unavailable = StatusCode::SERVICE_UNAVAILABLE;
                ours(codes.wlm_error, unavailable, unavailable)
            }
            ServeError::Timeout { .. } | ServeError::Stalled { .. } => {
                let failed = StatusCode::INTERNAL_SERVER_ERROR;
                ours(codes.wlm_error, failed, StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// The status of a model that stays as it is, and what DJL Serving calls the reason.
    fn of_registry(&self, error: &RegistryError) -> (StatusCode, &'static str) {
        let unavailable = self.codes.wlm_error;
        match error {
            RegistryError::Parameter { .. } => (self.codes.bad_request, "BadRequestException"),
            RegistryError::AlreadyThere(_) => (StatusCode::CONFLICT, "BadRequestException"),
            RegistryError::Unknown(_)
            | RegistryError::Forbidden { .. }
            | RegistryError::Nowhere { .. } => (StatusCode::NOT_FOUND, "ModelNotFoundException"),
            RegistryError::Configuration(_) => {
                (self.codes.bad_request, "IllegalConfigurationException")
            }
            RegistryError::Memory { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, "WlmOutOfMemoryException")
            }
            RegistryError::Failed { .. } | RegistryError::System(_) => {
                (self.codes.server_error, "EngineException")
            }
            RegistryError::TooLate { .. } | RegistryError::NotReady { .. } => {
                (unavailable, "WlmException")
            }
            RegistryError::Withdrawn(_) => (unavailable, "WlmShutdownException"),
            RegistryError::Ending => (unavailable, "ServiceUnavailableException"),
        }
    }

    /// The same of adapters.
    fn of_adapters(&self, refusal: &AdapterRefusal) -> (StatusCode, &'static str) {
        match refusal {
            AdapterRefusal::NotEnabled => (self.codes.bad_request, "BadRequestException"),
            AdapterRefusal::Unknown(_) => (StatusCode::NOT_FOUND, "BadRequestException"),
            AdapterRefusal::Exists(_) | AdapterRefusal::Url(_) => {
                (StatusCode::CONFLICT, "IllegalArgumentException")
            }
            AdapterRefusal::Unusable { .. } => {
                (StatusCode::FAILED_DEPENDENCY, "TranslateException")
            }
            AdapterRefusal::Full { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, "WlmOutOfMemoryException")
            }
        }
    }

    /// The status and the JSON body of a refusal.
    pub(crate) fn told(&self, refusal: &Refusal) -> (StatusCode, Vec<u8>) {
        let server = |status: StatusCode, exception: &str, text: &str| {
            let body = error::server_text(status.as_u16(), exception, text);
            (status, body)
        };
        match refusal {
            // Whatever the dialect: no model has been asked.
            Refusal::Job(failure @ ServeError::Unnamed) => {
                let status = self.status(failure);
                (status, error::server(failure, status.as_u16()))
            }
            Refusal::Job(failure) => {
                let status = self.status(failure);
                let code = status.as_u16();
                let of_djl = self.wire.statuses() == Statuses::Djl;
                let body = if !of_djl || status == StatusCode::FAILED_DEPENDENCY {
                    self.wire.failure(failure, code)
                } else {
                    error::server(failure, code)
                };
                (status, body)
            }
            Refusal::BadRequest(text) => {
                server(self.codes.bad_request, "BadRequestException", text)
            }
            Refusal::Encoded(how) => {
                let text = format!("Content-Encoding: {how} is not taken; send the body as it is");
                server(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "BadRequestException",
                    &text,
                )
            }
            Refusal::Registry(error) => {
                let (status, exception) = self.of_registry(error);
                server(status, exception, &error.to_string())
            }
            Refusal::Unauthorized(text) if self.wire.statuses() == Statuses::OpenAi => {
                let body = openai::refused(text, "invalid_api_key");
                (StatusCode::UNAUTHORIZED, body)
            }
            Refusal::Unauthorized(text) => {
                server(StatusCode::UNAUTHORIZED, "AccessDeniedException", text)
            }
            Refusal::Busy(text) => server(self.codes.throttle_error, "WlmCapacityException", text),
            Refusal::NotFound(text) => {
                server(StatusCode::NOT_FOUND, "ModelNotFoundException", text)
            }
            Refusal::Adapters(refusal) => {
                let (status, exception) = self.of_adapters(refusal);
                server(status, exception, &refusal.to_string())
            }
            Refusal::Forbidden(text) => {
                server(StatusCode::FORBIDDEN, "AccessDeniedException", text)
            }
            Refusal::Method(_) => server(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowedException",
                "Requested method is not allowed, please refer to API document.",
            ),
            Refusal::Unsupported(text) => server(
                StatusCode::NOT_IMPLEMENTED,
                "UnsupportedOperationException",
                text,
            ),
            Refusal::Panicked(id) => {
                let text = format!(
                    "internal error while handling request {id}; the server's log has the cause"
                );
                server(self.codes.server_error, "RuntimeException", &text)
            }
        }
    }

    /// The answer that tells of a refusal.
    pub(crate) fn failure(&self, refusal: &Refusal) -> Response {
        let (status, body) = self.told(refusal);
        let cause = match refusal {
            Refusal::Job(failure) => failure.to_string(),
            _ => String::from_utf8_lossy(&body).replace(['\n', '\r'], ""),
        };
        let mut response = with_type(status, JSON, body.into());
        response.extensions_mut().insert(Cause(cause));
        let headers = response.headers_mut();
        match refusal {
            Refusal::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Refusal::Unauthorized(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Refusal::Busy(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Refusal::Job(failure) if failure.retry() => {
                headers.insert(RETRY_AFTER, retry_after(failure));
            }
            _ => {}
        }
        response
    }
}

/// Seconds: a place in the queue is free soon, a model or another server is ready later.
fn retry_after(failure: &ServeError) -> HeaderValue {
    match failure {
        ServeError::NotReady { .. } | ServeError::Draining => HeaderValue::from_static("5"),
        _ => HeaderValue::from_static("1"),
    }
}

/// The answer to a ping.
pub(crate) fn health(health: Health, codes: PingCodes, body: Vec<u8>) -> Response {
    let status = match health {
        Health::Ready => StatusCode::OK,
        Health::Loading if codes.multi_status => StatusCode::MULTI_STATUS,
        Health::Loading if codes.djl => StatusCode::OK,
        Health::Loading => StatusCode::SERVICE_UNAVAILABLE,
        Health::Lacking | Health::Stalled if codes.unhealthy_fails => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Health::Lacking => StatusCode::OK,
        Health::Stalled if codes.djl => StatusCode::OK,
        Health::Stalled | Health::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with_type(status, JSON, body.into())
}

/// A successful answer.
pub(crate) fn success(content_type: &'static str, body: Body) -> Response {
    with_type(StatusCode::OK, content_type, body)
}

/// The answer `{}` to a browser that asks what it may send.
pub(crate) fn preflight() -> Response {
    success(JSON, Body::from("{}\n"))
}

/// An answer with this head.
pub(crate) fn with_head(head: Head, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// No body yet.
pub(crate) fn pending() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    let reason = hyper::ext::ReasonPhrase::from_static(b"The model result is not yet available");
    response.extensions_mut().insert(reason);
    response
}

/// An answer of this status and type.
pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    with_head(Head::new(status, content_type), body)
}

#[cfg(test)]
mod tests;
