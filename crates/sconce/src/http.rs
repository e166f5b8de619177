//! From the configuration to what the HTTP layer needs to know of it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use sconce_config::{
    Dialect as Configured, ModelSettings, ModelSource, OutputFormatter, PythonSettings, Resolved,
    ServerSettings,
};
use sconce_http::{
    Cors, Dialect, ErrorCodes, Formatter, HttpSettings, ModelInfo, ResultLimits, Wire,
};

/// The platform puts this file into each of its containers, and DJL Serving knows it by that.
const SAGEMAKER: &str = "/opt/ml/.sagemaker_infra/endpoint-metadata.json";

/// All limits and choices; requests in flight at the end have `drain_deadline` to finish.
pub(crate) fn settings(
    resolved: &Resolved,
    drain_deadline: Duration,
) -> anyhow::Result<HttpSettings> {
    let server = &resolved.server;
    let header = request_id_header(resolved, Path::new(SAGEMAKER));
    let defaults = ResultLimits::default();
    Ok(HttpSettings {
        max_request_size: server.max_request_size,
        predict_timeout: resolved.model.predict_timeout,
        chunked_read_timeout: server.chunked_read_timeout,
        request_id_header: header.parse().with_context(|| {
            format!("request_id_header_key = {header}: this is no name of a header")
        })?,
        codes: codes(server)?,
        cors: cors(server)?,
        allow_multi_status: server.allow_multi_status,
        wire: wire(&resolved.model),
        concurrency: concurrency(&resolved.model),
        info: model_info(&resolved.model),
        results: ResultLimits {
            capacity: server.kept_results,
            ..defaults
        },
        drain_deadline,
        ..HttpSettings::default()
    })
}

/// Requests that are computed at the same time.
fn concurrency(model: &ModelSettings) -> usize {
    let of_workers = |python: &PythonSettings| {
        let workers = python.max_workers.unwrap_or(python.min_workers);
        workers.saturating_mul(python.batch_size)
    };
    model
        .python
        .as_ref()
        .map_or(model.max_rolling_batch_size, of_workers)
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

fn model_info(model: &ModelSettings) -> ModelInfo {
    let hub = match &model.source {
        ModelSource::Hub(hub) => Some(hub.id.clone()),
        ModelSource::Directory(_) | ModelSource::S3(_) => None,
    };
    ModelInfo {
        model_id: model.served_model_name.clone().or(hub),
        max_concurrent_requests: model.job_queue_size,
        max_total_tokens: model.max_model_len,
        ..ModelInfo::default()
    }
}

/// The header that names requests: who sets none gets SageMaker's own there, as in DJL Serving.
fn request_id_header<'a>(resolved: &'a Resolved, sagemaker: &Path) -> &'a str {
    let key = "request_id_header_key";
    if resolved.origins.iter().all(|origin| origin.key != key) && sagemaker.exists() {
        "X-Amzn-SageMaker-Inference-Id"
    } else {
        &resolved.server.request_id_header_key
    }
}

/// The dialect of the settings and their choices within it.
fn wire(model: &ModelSettings) -> Wire {
    let dialect = match &model.python {
        // Bodies are the handler's own; the server's failures look like a handler's.
        Some(_) => Dialect::HuggingFace,
        None => dialect(model.dialect),
    };
    Wire {
        dialect,
        formatter: model.output_formatter.map(formatter),
        streaming: model.streaming,
        stop_sequences: model.stop_sequences.clone(),
    }
}

fn dialect(configured: Configured) -> Dialect {
    match configured {
        Configured::DeepSpeed => Dialect::DeepSpeed,
        Configured::FasterTransformer => Dialect::FasterTransformer,
        Configured::HuggingFace => Dialect::HuggingFace,
        Configured::Rolling2023 => Dialect::Rolling2023,
        Configured::Rolling => Dialect::Rolling,
        Configured::RollingTgi => Dialect::RollingTgi,
        Configured::Async => Dialect::Async,
        Configured::Tgi => Dialect::Tgi,
    }
}

fn formatter(configured: OutputFormatter) -> Formatter {
    match configured {
        OutputFormatter::Json => Formatter::Json,
        OutputFormatter::JsonLines => Formatter::JsonLines,
        OutputFormatter::ServerSentEvents => Formatter::Sse,
    }
}
