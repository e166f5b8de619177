//! A call of the runtime API: what the client sent, checked, and its line in the log.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::{info, warn};

use crate::app::Shared;
use crate::failure::Failure;
use crate::headers::{self, TARGET_MODEL, TARGET_VARIANT};

/// So long a body that is too large is read and thrown away: a client that is still writing when
/// the connection closes would see a reset instead of the answer.
const DISCARD: Duration = Duration::from_secs(5);

/// The two operations that are emulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Api {
    Invoke,
    Stream,
}

impl Api {
    /// The operation's name, which the platform also tells the container.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Invoke => "InvokeEndpoint",
            Self::Stream => "InvokeEndpointWithResponseStream",
        }
    }
}

/// What the container is to be asked.
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) target_model: Option<String>,
    pub(crate) body: Bytes,
}

/// Reads and checks a request. The body comes first: a connection on which one is left unread is of no more use.
pub(crate) async fn read(
    shared: &Shared,
    api: Api,
    endpoint: &str,
    request: Request,
) -> Result<Call, Failure> {
    let (parts, body) = request.into_parts();
    let settings = &shared.settings;
    let body = read_body(body, settings.max_payload).await?;
    headers::endpoint(endpoint)?;
    if !settings.endpoints.is_empty() && !settings.endpoints.iter().any(|name| name == endpoint) {
        return Err(Failure::Validation(format!(
            "Endpoint {endpoint} of account 000000000000 not found."
        )));
    }
    let headers = headers::forward(api, &parts.headers)?;
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    if let Some(variant) = text(&TARGET_VARIANT).filter(|name| *name != settings.variant) {
        return Err(Failure::Validation(format!(
            "Variant {variant} not found on endpoint {endpoint}, which has {}",
            settings.variant
        )));
    }
    let target_model = text(&TARGET_MODEL).map(str::to_owned);
    Ok(Call {
        headers,
        target_model,
        body,
    })
}

async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, Failure> {
    let cause = match Limited::new(&mut body, limit).collect().await {
        Ok(whole) => return Ok(whole.to_bytes()),
        Err(cause) => cause,
    };
    if !cause.is::<LengthLimitError>() {
        let text = format!("the request body broke off: {cause}");
        return Err(Failure::Validation(text));
    }
    discard(body);
    let rule = format!("have length less than or equal to {limit}");
    Err(Failure::constraint("body", "…", &rule))
}

/// Reads and throws away what is left of a body.
pub(crate) fn discard(mut rest: Body) {
    tokio::spawn(tokio::time::timeout(DISCARD, async move {
        while let Some(Ok(_)) = rest.frame().await {}
    }));
}

/// The log line of a call, written at its end, or when it is dropped because the client has left.
pub(crate) struct Record {
    api: Api,
    endpoint: String,
    began: Instant,
    open: bool,
}

impl Record {
    pub(crate) fn new(api: Api, endpoint: &str) -> Self {
        Self {
            api,
            endpoint: endpoint.into(),
            began: Instant::now(),
            open: true,
        }
    }

    /// The call was answered.
    pub(crate) fn answered(mut self, outcome: &str) {
        self.open = false;
        info!("{} → {outcome}", self.head());
    }

    /// The call failed.
    pub(crate) fn failed(mut self, cause: &str) {
        self.open = false;
        warn!("{} → {cause}", self.head());
    }

    fn head(&self) -> String {
        let ms = self.began.elapsed().as_millis();
        format!("{} {} after {ms} ms", self.api.name(), self.endpoint)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.open {
            warn!("{} → the client left before the end", self.head());
        }
    }
}
