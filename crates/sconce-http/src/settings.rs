//! What HTTP needs to know of the configuration. What depends on a model is that model's
//! [`sconce_core::Manner`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use sconce_record::Recorder;
use sconce_telemetry::Telemetry;

use crate::auth::ApiKeys;
use crate::tls::Tls;

/// Limits and choices of the HTTP layer. The defaults are those of DJL Serving where it has one.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Largest request body in bytes (`max_request_size`).
    pub max_request_size: usize,
    /// Longest pause between two parts of a streamed answer, and before the first
    /// (`chunked_read_timeout`).
    pub chunked_read_timeout: Duration,
    /// The request header that carries the request's id (`request_id_header_key`).
    pub request_id_header: HeaderName,
    /// Statuses of the server's own failures (`*_http_code`).
    pub codes: ErrorCodes,
    /// What browsers of other origins are told (`cors_allowed_*`).
    pub cors: Cors,
    /// Statuses of `/ping`.
    pub ping: PingCodes,
    /// Whether requests have a line in the log.
    pub access_log: bool,
    /// Whether `/console` answers.
    pub console: bool,
    /// Whether metrics are told (`SERVING_PROMETHEUS`).
    pub metrics: bool,
    /// What watches requests.
    pub telemetry: Arc<Telemetry>,
    /// Who may register, scale and remove models, and change the log.
    pub management: Management,
    /// What requests must bring.
    pub api_keys: ApiKeys,
    /// The server's certificate; `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Whether SageMaker registers and removes models: what its contract asks for is open to it.
    pub multi_model: bool,
    /// Changes the level of the log; `None`: it cannot be changed.
    pub log: Option<LogSwitch>,
    /// How many results of `x-synchronous: false` are kept, and for how long.
    pub results: ResultLimits,
    /// Time that requests in flight have to finish after the shutdown began.
    pub drain_deadline: Duration,
    /// Time for the headers of a request to arrive, which is also how long an idle connection is
    /// kept.
    pub header_timeout: Duration,
    /// Longest time in which a client takes nothing of what it is sent.
    pub write_timeout: Duration,
    /// Most connections at the same time, at least 1.
    pub max_connections: usize,
    /// Longest pause between two pieces of a request body.
    pub body_timeout: Duration,
    /// Bytes of request bodies that are kept at the same time; whoever sends more is refused.
    pub max_bodies_size: usize,
    /// Keeps requests with their answers; `None`: nobody does.
    pub recorder: Option<Arc<Recorder>>,
}

/// The statuses that DJL Serving lets its operator choose. `timeout_http_code` is not among them:
/// no release has used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCodes {
    /// The server cannot use the request (`bad_request_http_code`).
    pub bad_request: StatusCode,
    /// No worker can answer now: not ready, too late, shutting down (`wlm_error_http_code`).
    pub wlm_error: StatusCode,
    /// The queue is full (`throttle_error_http_code`).
    pub throttle_error: StatusCode,
    /// The server is broken (`server_error_http_code`).
    pub server_error: StatusCode,
}

impl Default for ErrorCodes {
    fn default() -> Self {
        Self {
            bad_request: StatusCode::BAD_REQUEST,
            wlm_error: StatusCode::SERVICE_UNAVAILABLE,
            throttle_error: StatusCode::SERVICE_UNAVAILABLE,
            server_error: StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Statuses of `/ping` where not all is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingCodes {
    /// While a model is loading 207 instead of 503 (`allow_multi_status`).
    pub multi_status: bool,
    /// DJL Serving's: 200 while a model is loading or stands still, instead of 503 and 500 (`SCONCE_PING`).
    pub djl: bool,
    /// 500 while workers are missing, or a model stands still (`SAGEMAKER_HEALTH_CHECK_OVERRIDE`).
    pub unhealthy_fails: bool,
}

/// The values of `access-control-allow-…`; each header is sent only if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `cors_allowed_origin`.
    pub origin: Option<HeaderValue>,
    /// `cors_allowed_methods`.
    pub methods: Option<HeaderValue>,
    /// `cors_allowed_headers`.
    pub headers: Option<HeaderValue>,
}

/// Who may manage models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Management {
    /// Everybody who reaches the port.
    #[default]
    Everybody,
    /// Clients of this machine.
    Loopback,
    /// Nobody.
    Nobody,
}

/// Takes a level by name; what is wrong with it, if it cannot be.
pub type SetLevel = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Changes the level of the log while the server runs.
#[derive(Clone)]
pub struct LogSwitch(pub Arc<SetLevel>);

impl fmt::Debug for LogSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSwitch")
    }
}

/// Bounds of the results that clients fetch later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultLimits {
    /// Most results, finished or not; one more drops the one that nobody has touched for longest
    /// (`SERVING_MEMORY_CACHE_CAPACITY`).
    pub capacity: usize,
    /// A result that nobody has asked for during this time is dropped.
    pub age: Duration,
}

impl Default for ResultLimits {
    /// DJL Serving keeps all results for ever; here as many as its queue has places.
    fn default() -> Self {
        Self {
            capacity: 1000,
            age: Duration::from_secs(600),
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_request_size: 64 * 1024 * 1024,
            chunked_read_timeout: Duration::from_secs(120),
            request_id_header: HeaderName::from_static("x-request-id"),
            codes: ErrorCodes::default(),
            cors: Cors::default(),
            ping: PingCodes::default(),
            access_log: true,
            console: true,
            metrics: true,
            telemetry: Arc::default(),
            management: Management::default(),
            api_keys: ApiKeys::default(),
            tls: None,
            multi_model: false,
            log: None,
            results: ResultLimits::default(),
            drain_deadline: Duration::from_secs(25),
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            max_connections: 8192,
            body_timeout: Duration::from_secs(30),
            max_bodies_size: 16 * 64 * 1024 * 1024,
            recorder: None,
        }
    }
}
