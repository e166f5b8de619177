//! The two operations: check, ask the container, answer as the service does.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::answer;
use crate::app::Shared;
use crate::call::{self, Api, Call, Record};
use crate::event_stream::{self, Limits};
use crate::failure::Failure;
use crate::upstream::{Answer, Lost, chain};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// So much of a failure's body is read; the service model shows less.
const ERROR_BODY: usize = 64 * 1024;

/// InvokeEndpoint.
pub(crate) async fn whole(
    State(shared): State<Arc<Shared>>,
    Path(endpoint): Path<String>,
    request: Request,
) -> Response {
    run(&shared, Api::Invoke, &endpoint, request).await
}

/// InvokeEndpointWithResponseStream.
pub(crate) async fn streamed(
    State(shared): State<Arc<Shared>>,
    Path(endpoint): Path<String>,
    request: Request,
) -> Response {
    run(&shared, Api::Stream, &endpoint, request).await
}

async fn run(shared: &Shared, api: Api, endpoint: &str, request: Request) -> Response {
    let record = Record::new(api, endpoint);
    let mut cut = shared.cut.subscribe();
    let answered = tokio::select! {
        answered = answered(shared, api, endpoint, request) => answered,
        _ = cut.wait_for(|cut| *cut) => Err(Failure::Unavailable(
            "this stand-in for the endpoint ends and waits no longer".into(),
        )),
    };
    let mut response = match answered {
        Ok(Answered::Whole(response, length)) => {
            record.answered(&format!("200, {length} bytes"));
            response
        }
        Ok(Answered::Stream(answer, deadline)) => stream(shared, answer, deadline, record),
        Err(failure) => {
            let response = failure.response(endpoint);
            let status = response.status();
            record.failed(&format!("{}: {}", status.as_u16(), failure.message()));
            response
        }
    };
    let id = HeaderValue::from_str(&Uuid::new_v4().to_string());
    response
        .headers_mut()
        .insert(REQUEST_ID, id.expect("a UUID is visible ASCII"));
    response
}

enum Answered {
    Whole(Response, usize),
    Stream(Answer, Instant),
}

async fn answered(
    shared: &Shared,
    api: Api,
    endpoint: &str,
    request: Request,
) -> Result<Answered, Failure> {
    let call = call::read(shared, api, endpoint, request).await?;
    let limit = match api {
        Api::Invoke => shared.settings.invoke_timeout,
        Api::Stream => shared.settings.stream_timeout,
    };
    let deadline = Instant::now() + limit;
    let path = timeout_at(deadline, path(shared, &call))
        .await
        .unwrap_or_else(|_| {
            Err(Failure::NotReady(
                "the model still loads; wait and try again".into(),
            ))
        })?;
    let exchange = async {
        let answer = ask(shared, &path, call).await?;
        match api {
            Api::Invoke => collect(shared, answer).await,
            Api::Stream => Ok(Answered::Stream(answer, deadline)),
        }
    };
    timeout_at(deadline, exchange)
        .await
        .unwrap_or_else(|_| Err(Failure::timed_out()))
}

/// Where the container takes the call; loads the model of a multi-model endpoint if need be.
async fn path(shared: &Shared, call: &Call) -> Result<String, Failure> {
    shared.health.ready().await.map_err(|cause| {
        Failure::NotReady(format!(
            "the container is not healthy, so that the endpoint is not in service: {cause}"
        ))
    })?;
    match (&shared.models, &call.target_model) {
        (None, None) => Ok("/invocations".into()),
        (Some(models), Some(target)) => models.path(target).await,
        (None, Some(target)) => Err(Failure::Validation(format!(
            "TargetModel {target} was given to an endpoint with a single model; start sconce \
             emulate with --multi-model if the container holds several"
        ))),
        (Some(_), None) => Err(Failure::Validation(
            "TargetModel is missing: this is a multi-model endpoint".into(),
        )),
    }
}

/// Sends the call; an answer outside 200–299 is the model's failure.
async fn ask(shared: &Shared, path: &str, call: Call) -> Result<Answer, Failure> {
    let target = call.target_model;
    let sent = shared
        .settings
        .upstream
        .send(Method::POST, path, call.headers, call.body);
    let answer = sent.await.map_err(|lost| match lost {
        Lost::Unreachable(..) => {
            shared.health.lost(&lost.to_string());
            Failure::Internal(lost.to_string())
        }
        Lost::Unanswered(..) => Failure::Model {
            status: 0,
            message: lost.to_string(),
        },
    })?;
    let status = answer.parts.status;
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::NOT_FOUND
        && let (Some(models), Some(target)) = (&shared.models, &target)
    {
        models.forget(target);
    }
    Err(Failure::Model {
        status: status.as_u16(),
        message: beginning(answer).await,
    })
}

/// The beginning of a failure's body as text.
async fn beginning(answer: Answer) -> String {
    let mut body = answer.body;
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > ERROR_BODY {
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

async fn collect(shared: &Shared, answer: Answer) -> Result<Answered, Failure> {
    let limit = shared.settings.max_payload;
    let Answer {
        parts,
        body,
        connection: _open,
    } = answer;
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(cause) => {
            let message = if cause.is::<LengthLimitError>() {
                format!("the answer has more than {limit} bytes, the limit of --max-payload")
            } else {
                format!("the container's answer broke off: {}", chain(&*cause))
            };
            return Err(Failure::Model { status: 0, message });
        }
    };
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    *response.headers_mut() =
        answer::headers(Api::Invoke, &parts.headers, &shared.settings.variant);
    Ok(Answered::Whole(response, length))
}

fn stream(shared: &Shared, answer: Answer, deadline: Instant, record: Record) -> Response {
    let mut headers = answer::headers(Api::Stream, &answer.parts.headers, &shared.settings.variant);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(event_stream::CONTENT_TYPE),
    );
    let limits = Limits {
        deadline,
        cut: shared.cut.subscribe(),
        rechunk: shared.settings.rechunk,
    };
    let mut response = Response::new(event_stream::body(answer, limits, record));
    *response.headers_mut() = headers;
    response
}
