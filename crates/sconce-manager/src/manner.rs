//! What the front end has to know of a model, out of its settings.

use sconce_config::{ModelSettings, ModelSource, PythonSettings};
use sconce_core::{Batching, Dialect, Manner};

use crate::python;

/// How a model of these settings is spoken to.
pub(crate) fn manner(settings: &ModelSettings) -> Manner {
    let hub = match &settings.source {
        ModelSource::Hub(hub) => Some(hub.id.clone()),
        ModelSource::Directory(_) | ModelSource::S3(_) => None,
    };
    Manner {
        dialect: match settings.python {
            // Bodies are the handler's own; the server's failures look like a handler's.
            Some(_) => Dialect::HuggingFace,
            None => settings.dialect,
        },
        formatter: settings.output_formatter,
        streaming: settings.streaming,
        stop_sequences: settings.stop_sequences.clone(),
        predict_timeout: settings.predict_timeout,
        concurrency: concurrency(settings),
        queue: settings.job_queue_size,
        model_id: settings.served_model_name.clone().or(hub),
        max_total_tokens: settings.max_model_len,
    }
}

/// Requests that are computed at the same time.
fn concurrency(settings: &ModelSettings) -> usize {
    let of_workers = |python: &PythonSettings| {
        let (_, most) = python::limits(python);
        most.saturating_mul(python.batch_size)
    };
    let python = settings.python.as_ref();
    python.map_or(settings.max_rolling_batch_size, of_workers)
}

/// How its jobs are put together.
pub(crate) fn batching(settings: &ModelSettings) -> Batching {
    let native = Batching {
        size: settings.max_rolling_batch_size,
        max_delay: settings.max_batch_delay,
        queue: settings.job_queue_size,
        ..Batching::default()
    };
    match &settings.python {
        None => native,
        Some(python) => Batching {
            size: python.batch_size,
            max_delay: python.max_batch_delay,
            max_idle: python.max_idle_time,
            ..native
        },
    }
}
