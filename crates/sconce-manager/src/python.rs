//! From the configuration of Python mode to a pool of workers.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sconce_config::{ModelSettings, ModelSource, PythonSettings};
use sconce_core::{Observer, Phase, Progress};
use sconce_engine::Gpus;
use sconce_python::{Devices, Formatters, Interpreter, Pool, Ranks, Workers};

use crate::error::ManagerError;
use crate::{store, worker_gpus};

/// Code that lies on this machine, with the files that it cannot fetch by itself.
pub(crate) struct Fetched {
    python: PythonSettings,
    /// The objects that `model_id` names, where they lie apart from the code.
    weights: Option<PathBuf>,
}

impl Fetched {
    /// The directories with its files.
    pub(crate) fn directories(&self) -> Vec<&Path> {
        let code = Some(self.python.dir.as_path());
        code.into_iter().chain(self.weights.as_deref()).collect()
    }
}

/// Fetches what the handler cannot fetch by itself.
pub(crate) fn fetch(
    settings: &ModelSettings,
    python: &PythonSettings,
    observer: &Observer,
) -> Result<Fetched, ManagerError> {
    let mut python = python.clone();
    let mut weights = None;
    if python.is_fetched {
        python.dir = store::directory(&settings.source, observer)?;
    } else if let ModelSource::S3(_) = &settings.source {
        // Handlers know hub ids and directories; DJL Serving fetches the objects for them too.
        let dir = store::directory(&settings.source, observer)?;
        let mut properties = python.properties.iter_mut();
        if let Some((_, id)) = properties.find(|(key, _)| key == "model_id") {
            *id = dir.display().to_string();
        }
        weights = Some(dir);
    }
    Ok(Fetched { python, weights })
}

/// Starts the workers.
pub(crate) fn pool(
    settings: &ModelSettings,
    fetched: &Fetched,
    observer: &Observer,
) -> Result<Pool, ManagerError> {
    let python = &fetched.python;
    observer(Phase::Loading, Progress::default());
    let devices = worker_gpus::of(python, Gpus::of_this_machine().count())?;
    let workers = workers(python, &devices);
    let settings = pool_settings(settings, python);
    Ok(Pool::start(sconce_python::PythonSettings {
        devices,
        workers,
        ..settings
    })?)
}

/// The fewest and the most workers that there will be, as far as that is known before they are started.
pub(crate) fn limits(python: &PythonSettings) -> (usize, usize) {
    let devices = worker_gpus::of(python, Gpus::of_this_machine().count());
    // Devices that are not there are told when the workers are started.
    let workers = workers(python, &devices.unwrap_or_default());
    (workers.min, workers.max)
}

/// Starts the worker that calls the model's own functions for requests and answers.
pub(crate) fn formatters(
    settings: &ModelSettings,
    python: &PythonSettings,
) -> Result<Formatters, ManagerError> {
    Ok(Formatters::start(pool_settings(settings, python))?)
}

fn pool_settings(
    settings: &ModelSettings,
    python: &PythonSettings,
) -> sconce_python::PythonSettings {
    sconce_python::PythonSettings {
        name: settings.name.clone(),
        dir: python.dir.clone(),
        entry_point: python.entry_point.clone(),
        recommended_entry_point: python.recommended_entry_point.into(),
        handler: python.handler.clone(),
        properties: python.properties.clone(),
        interpreter: Interpreter {
            executable: python.executable.clone(),
            environment: python.environment.clone(),
            python_path: python.python_path.clone(),
            environments: python.environments.clone(),
            offline: python.offline,
            log_level: "info",
        },
        workers: workers(python, &Devices::default()),
        asynchronous: python.asynchronous,
        rolling: python.rolling,
        ranks: python.ranks.clone().map(|ranks| Ranks {
            tensor: ranks.tensor,
            pipeline: ranks.pipeline,
            all_answer: ranks.all_answer,
            mpirun: ranks.mpirun,
        }),
        devices: Devices::default(),
        queue: settings.job_queue_size,
        batch_size: python.batch_size,
        max_batch_delay: python.max_batch_delay,
        predict_timeout: settings.predict_timeout,
        model_loading_timeout: settings.model_loading_timeout,
        message_limit: python.message_limit,
    }
}

/// How many workers there are: on GPUs so many for each group of them, unless ranks take all.
fn workers(python: &PythonSettings, devices: &Devices) -> Workers {
    let groups = match python.ranks {
        Some(_) => 1,
        None => devices.groups.len().max(1),
    };
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let unsaid = || match devices.groups.is_empty() {
        true => cores() / python.threads.max(1),
        false => 1,
    };
    let most = python.max_workers.unwrap_or_else(unsaid);
    Workers {
        min: python.min_workers * groups,
        max: most.max(python.min_workers) * groups,
        max_idle: python.max_idle_time,
        retry_threshold: python.retry_threshold,
        memory_limit: python.memory_limit,
        parallel_loading: python.parallel_loading,
    }
}

#[cfg(test)]
mod tests {
    use sconce_config::LoadOn;

    use super::*;

    #[test]
    fn numbers_of_workers_are_those_of_each_gpu() {
        let devices = Devices {
            groups: vec![vec!["0".into()], vec!["1".into()]],
            ..Devices::default()
        };
        let mut python = PythonSettings::default();
        let counts = |python: &PythonSettings, devices: &Devices| {
            let workers = workers(python, devices);
            (workers.min, workers.max)
        };
        assert_eq!(counts(&python, &devices), (2, 2));
        python.max_workers = Some(3);
        assert_eq!(counts(&python, &devices), (2, 6));
        assert_eq!(counts(&python, &Devices::default()), (1, 3));
        python.load_on = LoadOn::Cpu;
        assert_eq!(limits(&python), (1, 3));
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (python.max_workers, python.threads) = (None, 1);
        assert_eq!(limits(&python), (1, cores));
    }
}
