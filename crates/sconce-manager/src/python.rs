//! From the configuration of Python mode to a pool of workers.

use std::num::NonZeroUsize;

use sconce_config::{ModelSettings, ModelSource, PythonSettings};
use sconce_core::{Phase, Progress};
use sconce_engine::Observer;
use sconce_python::{Interpreter, Pool, Ranks, Workers};

use crate::error::ManagerError;
use crate::store;

/// Fetches what the handler cannot fetch by itself, and starts the workers.
pub(crate) fn pool(
    settings: &ModelSettings,
    python: &PythonSettings,
    observer: &Observer,
) -> Result<Pool, ManagerError> {
    let mut properties = python.properties.clone();
    if let ModelSource::S3(_) = &settings.source {
        // Handlers know hub ids and directories; DJL Serving fetches the objects for them too.
        let dir = store::directory(&settings.source, observer)?;
        let id = properties.iter_mut().find(|(key, _)| key == "model_id");
        if let Some((_, id)) = id {
            *id = dir.display().to_string();
        }
    }
    observer(Phase::Loading, Progress::default());
    Ok(Pool::start(pool_settings(settings, python, properties))?)
}

fn pool_settings(
    settings: &ModelSettings,
    python: &PythonSettings,
    properties: Vec<(String, String)>,
) -> sconce_python::PythonSettings {
    sconce_python::PythonSettings {
        name: settings.name.clone(),
        dir: python.dir.clone(),
        entry_point: python.entry_point.clone(),
        handler: python.handler.clone(),
        properties,
        interpreter: Interpreter {
            executable: python.executable.clone(),
            environment: python.environment.clone(),
            python_path: python.python_path.clone(),
            environments: python.environments.clone(),
            offline: python.offline,
            log_level: "info",
        },
        workers: Workers {
            min: python.min_workers,
            max: most_workers(python),
            max_idle: python.max_idle_time,
            retry_threshold: python.retry_threshold,
            memory_limit: python.memory_limit,
            parallel_loading: python.parallel_loading,
        },
        asynchronous: python.asynchronous,
        ranks: python.ranks.map(|ranks| Ranks {
            tensor: ranks.tensor,
            pipeline: ranks.pipeline,
            all_answer: ranks.all_answer,
        }),
        queue: settings.job_queue_size,
        batch_size: python.batch_size,
        max_batch_delay: python.max_batch_delay,
        predict_timeout: settings.predict_timeout,
        model_loading_timeout: settings.model_loading_timeout,
        message_limit: python.message_limit,
    }
}

/// As many as the cores have room for, unless it is said.
fn most_workers(python: &PythonSettings) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let most = python
        .max_workers
        .unwrap_or_else(|| cores() / python.threads.max(1));
    most.max(python.min_workers)
}
