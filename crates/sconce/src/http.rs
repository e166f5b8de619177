//! From the configuration to what the HTTP layer needs to know of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sconce_config::{Configuration, Management as Configured, ServerSettings};
use sconce_http::{
    ApiKeys, Cors, ErrorCodes, HttpSettings, LogSwitch, Management, PingCodes, ResultLimits, Tls,
};
use sconce_telemetry::Telemetry;
use tracing::warn;

/// So many bodies of the longest kind may be at hand at the same time.
const BODIES: usize = 16;

/// The platform puts this file into each of its containers, and DJL Serving knows it by that.
const SAGEMAKER: &str = "/opt/ml/.sagemaker_infra/endpoint-metadata.json";

/// All limits and choices; requests in flight at the end have `drain_deadline` to finish, and `log`
/// changes the level of the log, `telemetry` watches requests.
pub(crate) fn settings(
    configuration: &Configuration,
    log: LogSwitch,
    telemetry: Arc<Telemetry>,
    drain_deadline: Duration,
) -> anyhow::Result<HttpSettings> {
    let server = configuration.server();
    let is_on_sagemaker = Path::new(SAGEMAKER).exists();
    let has_own_header = configuration.sets("request_id_header_key");
    let header = request_id_header(server, has_own_header, is_on_sagemaker);
    let defaults = ResultLimits::default();
    Ok(HttpSettings {
        max_request_size: server.max_request_size,
        chunked_read_timeout: server.chunked_read_timeout,
        request_id_header: header.parse().with_context(|| {
            format!("request_id_header_key = {header}: this is no name of a header")
        })?,
        codes: codes(server)?,
        cors: cors(server)?,
        ping: PingCodes {
            multi_status: server.allow_multi_status,
            djl: server.health.djl_codes,
            unhealthy_fails: server.health.unhealthy_fails,
        },
        access_log: server.observed.access_log,
        console: server.observed.console,
        metrics: server.observed.metrics,
        telemetry,
        management: management(server.management, is_on_sagemaker),
        api_keys: api_keys(server, is_on_sagemaker),
        tls: tls(server)?,
        max_bodies_size: server.max_request_size.saturating_mul(BODIES),
        multi_model: server.multi_model,
        log: Some(log),
        results: ResultLimits {
            capacity: server.kept_results,
            ..defaults
        },
        drain_deadline,
        max_connections: server.max_connections,
        header_timeout: server.header_timeout,
        body_timeout: server.body_timeout,
        write_timeout: server.write_timeout,
        ..HttpSettings::default()
    })
}

/// Who may manage models: behind SageMaker nobody has reason to, but for the platform itself.
fn management(configured: Configured, is_on_sagemaker: bool) -> Management {
    match configured {
        Configured::Auto if is_on_sagemaker => Management::Loopback,
        Configured::Auto | Configured::Everybody => Management::Everybody,
        Configured::Loopback => Management::Loopback,
        Configured::Nobody => Management::Nobody,
    }
}

/// What requests must bring.
fn api_keys(server: &ServerSettings, is_on_sagemaker: bool) -> ApiKeys {
    let keys = ApiKeys::new(server.api_keys.as_slice());
    if is_on_sagemaker && !keys.is_empty() {
        warn!(
            "an API key is set, and SageMaker sends none: /invocations answers it with 401. There IAM says \
             who may ask; remove the key"
        );
    }
    keys
}

fn tls(server: &ServerSettings) -> anyhow::Result<Option<Tls>> {
    let files = server.tls.as_ref();
    let tls = files.map(|files| Tls::read(&files.certificate, &files.key));
    Ok(tls.transpose()?)
}

fn codes(server: &ServerSettings) -> anyhow::Result<ErrorCodes> {
    let codes = server.codes;
    let code = |key: &str, number: u16| {
        let status = number.try_into();
        status.with_context(|| format!("{key} = {number}: this is no HTTP status"))
    };
    Ok(ErrorCodes {
        bad_request: code("bad_request_http_code", codes.bad_request)?,
        wlm_error: code("wlm_error_http_code", codes.wlm_error)?,
        throttle_error: code("throttle_error_http_code", codes.throttle_error)?,
        server_error: code("server_error_http_code", codes.server_error)?,
    })
}

fn cors(server: &ServerSettings) -> anyhow::Result<Cors> {
    let value = |key: &str, text: &Option<String>| {
        let parse = |text: &String| {
            let value = text.parse();
            value.with_context(|| format!("{key} = {text}: this is no value of a header"))
        };
        text.as_ref().map(parse).transpose()
    };
    Ok(Cors {
        origin: value("cors_allowed_origin", &server.cors.origin)?,
        methods: value("cors_allowed_methods", &server.cors.methods)?,
        headers: value("cors_allowed_headers", &server.cors.headers)?,
    })
}

/// The header that names requests: who sets none gets SageMaker's own there, as in DJL Serving.
fn request_id_header(server: &ServerSettings, has_own_header: bool, is_on_sagemaker: bool) -> &str {
    if !has_own_header && is_on_sagemaker {
        "X-Amzn-SageMaker-Inference-Id"
    } else {
        &server.request_id_header_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_decides_who_manages_unless_somebody_does() {
        for (configured, elsewhere, on_sagemaker) in [
            (
                Configured::Auto,
                Management::Everybody,
                Management::Loopback,
            ),
            (
                Configured::Everybody,
                Management::Everybody,
                Management::Everybody,
            ),
            (
                Configured::Loopback,
                Management::Loopback,
                Management::Loopback,
            ),
            (Configured::Nobody, Management::Nobody, Management::Nobody),
        ] {
            assert_eq!(management(configured, false), elsewhere);
            assert_eq!(management(configured, true), on_sagemaker);
        }
    }
}
