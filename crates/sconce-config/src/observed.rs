//! How a server is observed: metrics, the log, traces, and what `/ping` says.

use std::time::Duration;

use crate::value::{Rejection, Value, count};

/// What is measured and told, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether `/console` answers.
    pub console: bool,
    /// Whether `/metrics` answers.
    pub metrics: bool,
    /// The namespace of CloudWatch under which metrics are written to standard output; `None`: they are not.
    pub emf_namespace: Option<String>,
    /// Whether lines of the log are JSON.
    pub json_log: bool,
    /// Whether requests have a line in the log.
    pub access_log: bool,
    /// Where traces are sent.
    pub traces: TraceSettings,
}

/// Where traces are sent, as OpenTelemetry's variables say; its library reads those that are not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.
    pub traces_endpoint: Option<String>,
    /// `OTEL_SDK_DISABLED`, or `OTEL_TRACES_EXPORTER=none`.
    pub is_off: bool,
    /// `OTEL_SERVICE_NAME`.
    pub service: Option<String>,
    /// Time for the collector to answer (`OTEL_EXPORTER_OTLP_TIMEOUT`).
    pub timeout: Duration,
}

impl TraceSettings {
    /// Whether somebody wants them.
    pub fn are_wanted(&self) -> bool {
        !self.is_off && (self.endpoint.is_some() || self.traces_endpoint.is_some())
    }
}

/// How a server knows, and says, whether it is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthSettings {
    /// A model that had nothing to do for so long proves that it computes; `None`: it need not.
    pub canary_pause: Option<Duration>,
    /// A model that shows no sign of life for so long stands still; `None`: nobody looks.
    pub watchdog: Option<Duration>,
    /// Whether `/ping` has DJL Serving's statuses: 200 while models are loading or stand still.
    pub djl_codes: bool,
    /// Whether `/ping` fails while a model lacks workers, or stands still, whatever statuses it has.
    pub unhealthy_fails: bool,
}

/// Seconds, of which 0 is never.
pub(crate) fn seconds_or_never(value: &str) -> Value<Option<Duration>> {
    let seconds = count(value, 0..=604_800).map_err(|_| {
        let must = "must be a number of seconds, whole, from 0 (never) to 604800";
        Rejection::Invalid(must.into())
    })?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds as u64)))
}

/// Milliseconds, as OpenTelemetry has them.
pub(crate) fn milliseconds(value: &str) -> Value<Duration> {
    let millis = count(value, 1..=3_600_000).map_err(|_| {
        let must = "must be a number of milliseconds, whole, from 1 to 3600000";
        Rejection::Invalid(must.into())
    })?;
    Ok(Duration::from_millis(millis as u64))
}

/// A namespace of CloudWatch: 1 to 255 letters, digits and `.-_/#:`, not of AWS itself.
pub(crate) fn namespace(value: &str) -> Value<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_/#: ".contains(c);
    if value.is_empty() || value.len() > 255 || !value.chars().all(fits) {
        let must = "must be a namespace of CloudWatch: 1 to 255 letters, digits, blanks and .-_/#:";
        return Err(Rejection::Invalid(must.into()));
    }
    if value.starts_with("AWS/") {
        let must = "must not begin with AWS/, which CloudWatch keeps for itself";
        return Err(Rejection::Invalid(must.into()));
    }
    Ok(value.into())
}
