//! One model, keys without prefix: the server's for all models, `serving.properties` for one.

use std::time::Duration;

use super::reason::{MEMORY_PLAN, METRICS, NO_WORKERS, ONE_ENGINE};
use super::{MODEL, SERVER_OR_MODEL, own_code};
use crate::draft::Draft;
use crate::entry::{Entry, Status, Variable::Fills};
use crate::handler::Engine;
use crate::kind::Kind;
use crate::python;
use crate::value::{Value, count, put, seconds};

pub(super) const MODEL_KEYS: &[Entry] = &[
    Entry {
        key: "job_queue_size",
        variables: &[Fills("MAX_CONCURRENT_REQUESTS")],
        kind: Kind::Whole(1, 1 << 20),
        default: "1000",
        doc: "Requests that may wait; more are refused.",
        status: Status::Honoured(|d, v| put(&mut d.model.job_queue_size, count(v, 1..=1 << 20))),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "batch_size",
        aliases: &["max_dynamic_batch_size", "option.batch_size"],
        kind: Kind::Whole(1, 1 << 20),
        doc: "Requests that a handler with fixed batches, or one of the user's, gets at once; above 1 it asks for \
              the former's dialect. In the native engine requests for text always join the running batch one by \
              one, those for other tasks are computed together, so many at most (unset: 32).",
        status: Status::Translated {
            to: "the batches of other tasks than text generation, and the dialect, unless something stronger \
                 does (huggingface, if above 1)",
            apply: batch_size,
        },
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "max_batch_delay",
        aliases: &["option.max_batch_delay"],
        kind: Kind::Whole(0, 60_000),
        default: "0",
        doc: "Longest wait for a batch of other tasks than text generation, or of Python mode (unset there: 100), \
              to fill, in milliseconds. With 0, which DJL Serving has not, the requests that come while a batch \
              is computed are the next one.",
        status: Status::Honoured(|d, v| {
            let millis = count(v, 0..=60_000).map(|millis| Duration::from_millis(millis as u64));
            put(&mut d.model.max_batch_delay, millis)
        }),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "max_idle_time",
        aliases: &["option.max_idle_time"],
        kind: Kind::Seconds,
        default: "60",
        doc: "Seconds after which an idle worker ends, if there are more than minWorkers.",
        status: own_code(NO_WORKERS, |d, v| {
            put(&mut d.python.max_idle_time, seconds(v))
        }),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "load_on_devices",
        aliases: &["load_on_device", "option.load_on_devices"],
        default: "*",
        doc: "Devices that load the model: `*` for all GPUs, cpu, or numbers of GPUs with `;` between them. So many of \
              them as option.tensor_parallel_degree says have a replica of it together.",
        status: Status::Honoured(|d, v| {
            let devices = python::devices(v)?;
            d.model.load_on = devices.clone();
            put(&mut d.python.load_on, Ok(devices))
        }),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "reserved_memory_mb",
        aliases: &["gpu.reserved_memory_mb"],
        default: "500",
        kind: Kind::Whole(0, MOST_MEMORY_MB),
        since: "0.21",
        doc: "Mebibytes that stay free beside required_memory_mb.",
        status: own_code(MEMORY_PLAN, |d, v| {
            put(&mut d.python.reserved_memory, megabytes(v))
        }),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "engine",
        aliases: &["option.engine"],
        variables: &[Fills("OPTION_ENGINE")],
        doc: "What served the model in DJL Serving. Python, MPI, DeepSpeed, \
              FasterTransformer, Rust, OnnxRuntime and LMI all mean the native engine; \
              DeepSpeed, FasterTransformer and MPI also choose their dialect.",
        status: Status::Translated {
            to: "the dialect, unless something stronger does (the engine's own dialect)",
            apply: engine,
        },
        ..MODEL
    },
    Entry {
        key: "minWorkers",
        aliases: &["gpu.minWorkers", "cpu.minWorkers", "nc.minWorkers"],
        variables: &[Fills("SERVING_MIN_WORKERS")],
        kind: Kind::Whole(1, 1024),
        default: "1",
        doc: "Least number of workers.",
        status: own_code(ONE_ENGINE, |d, v| {
            put(&mut d.python.min_workers, count(v, 1..=1024))
        }),
        ..MODEL
    },
    Entry {
        key: "maxWorkers",
        aliases: &["gpu.maxWorkers", "cpu.maxWorkers", "nc.maxWorkers"],
        variables: &[Fills("SERVING_MAX_WORKERS")],
        kind: Kind::Whole(1, 1024),
        doc: "Greatest number of workers; unset: cores divided by OMP_NUM_THREADS, at least \
              minWorkers.",
        status: own_code(ONE_ENGINE, |d, v| {
            put(&mut d.python.max_workers, count(v, 1..=1024).map(Some))
        }),
        ..MODEL
    },
    Entry {
        key: "required_memory_mb",
        aliases: &["gpu.required_memory_mb"],
        kind: Kind::Whole(0, MOST_MEMORY_MB),
        since: "0.21",
        doc: "Mebibytes that a model must find when it is loaded. Unset: none, or a fifth more \
              than its files where SAGEMAKER_MULTI_MODEL is true.",
        status: own_code(MEMORY_PLAN, |d, v| {
            put(&mut d.python.required_memory, megabytes(v).map(Some))
        }),
        ..MODEL
    },
    Entry {
        key: "retry_threshold",
        aliases: &["option.retry_threshold"],
        variables: &[Fills("SERVING_RETRY_THRESHOLD")],
        kind: Kind::Whole(0, 1 << 20),
        since: "0.21",
        doc: "Failures of workers that are tolerated; one more and the model has failed. Unset: \
              workers are always started again (in DJL Serving the first failure is the last).",
        status: own_code(NO_WORKERS, |d, v| {
            put(
                &mut d.python.retry_threshold,
                count(v, 0..=1 << 20).map(Some),
            )
        }),
        ..MODEL
    },
    Entry {
        key: "log_request_metric",
        aliases: &["option.log_request_metric"],
        since: "0.27",
        doc: "Whether each request's times are logged.",
        status: Status::NoOp(METRICS),
        ..MODEL
    },
    Entry {
        key: "metrics_aggregation",
        aliases: &["option.metrics_aggregation"],
        kind: Kind::Number,
        since: "0.21",
        doc: "Number of requests over which metrics are summed up.",
        status: Status::NoOp(METRICS),
        ..MODEL
    },
];

fn batch_size(draft: &mut Draft, value: &str) -> Value<()> {
    let size = count(value, 1..=1 << 20)?;
    draft.facts.batch_size = Some(size);
    draft.model.batch_size = Some(size);
    Ok(())
}

fn engine(draft: &mut Draft, value: &str) -> Value<()> {
    put(&mut draft.facts.engine, Engine::parse(value).map(Some))
}

/// A petabyte is a slip.
const MOST_MEMORY_MB: usize = 1 << 30;

fn megabytes(value: &str) -> Value<u64> {
    count(value, 0..=MOST_MEMORY_MB).map(|megabytes| (megabytes as u64) << 20)
}
