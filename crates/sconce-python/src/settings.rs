//! What a pool of workers needs to know of the configuration.

use std::path::PathBuf;
use std::time::Duration;

/// One model in Python mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonSettings {
    /// The model's name in messages.
    pub name: String,
    /// The model's directory, absolute: where its code runs.
    pub dir: PathBuf,
    /// File or module of the handler.
    pub entry_point: String,
    /// The module that answers where the entry point has no such function; may be empty.
    pub recommended_entry_point: String,
    /// The function that answers.
    pub handler: String,
    /// What the first call gets: the model's own settings, without `option.`.
    pub properties: Vec<(String, String)>,
    /// How Python is started.
    pub interpreter: Interpreter,
    /// How many processes there are, and when they begin and end.
    pub workers: Workers,
    /// Whether the handler is a coroutine, which gets requests while it works on others.
    pub asynchronous: bool,
    /// Requests that a handler with a rolling batch works on at once, at least 1; `None`: it has
    /// none.
    pub rolling: Option<usize>,
    /// The processes of a worker whose model is split; `None`: one process, which is no rank.
    pub ranks: Option<Ranks>,
    /// The GPUs of each group of workers.
    pub devices: Devices,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// Requests that a worker gets at once, at least 1.
    pub batch_size: usize,
    /// How long the first request of a batch waits for more.
    pub max_batch_delay: Duration,
    /// An answer, or the next part of one, that takes longer ends its worker.
    pub predict_timeout: Duration,
    /// A worker that has not loaded its model after this long has failed.
    pub model_loading_timeout: Duration,
    /// Longest value within an answer, in bytes.
    pub message_limit: usize,
}

impl PythonSettings {
    /// Requests that a worker has at once.
    pub(crate) fn at_once(&self) -> usize {
        self.rolling.unwrap_or(self.batch_size).max(1)
    }
}

/// Which GPUs workers compute on: they go round the groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The GPUs of each group, as `CUDA_VISIBLE_DEVICES` names them; empty: the CPU computes.
    pub groups: Vec<Vec<String>>,
    /// Whether a worker sees no others than those of its group, and counts from 0; else it sees all
    /// and is told the number of its own, which is that of its group.
    pub alone: bool,
    /// Numbers of the groups among all GPUs that a worker sees, where it sees all.
    pub numbers: Vec<usize>,
}

/// What a worker is told of its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    /// `--device-id`; -1 is the CPU.
    pub(crate) id: String,
    /// `CUDA_VISIBLE_DEVICES`, if it is to be set.
    pub(crate) visible: Option<String>,
}

impl Devices {
    /// What the worker of this number is told.
    pub(crate) fn of(&self, worker: usize) -> Assigned {
        let at = worker % self.groups.len().max(1);
        let visible = self.groups.get(at).filter(|_| self.alone);
        let id = match (self.groups.get(at), self.alone) {
            (None, _) => "-1".into(),
            (Some(_), true) => "0".into(),
            (Some(_), false) => self.numbers.get(at).unwrap_or(&at).to_string(),
        };
        Assigned {
            id,
            visible: visible.map(|group| group.join(",")),
        }
    }
}

/// The ranks of a worker: each is a process that is told its place among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Parts of each layer (`tensor_parallel_degree`), at least 1.
    pub tensor: usize,
    /// Groups of layers (`pipeline_parallel_degree`), at least 1.
    pub pipeline: usize,
    /// Whether all ranks get every request, or the first only.
    pub all_answer: bool,
    /// The `mpirun` that starts them; `None`: each is started with the variables that it would set.
    pub mpirun: Option<PathBuf>,
}

impl Ranks {
    /// How many there are.
    pub fn world(&self) -> usize {
        self.tensor.max(1) * self.pipeline.max(1)
    }
}

/// How Python is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its name on the search path, or its path.
    pub executable: String,
    /// Variables that are set beside those of this process.
    pub environment: Vec<(String, String)>,
    /// `PYTHONPATH` of this process.
    pub python_path: Option<String>,
    /// Directories for what `requirements.txt` names; the first one that can be written counts.
    pub environments: Vec<PathBuf>,
    /// Whether no index of packages may be asked.
    pub offline: bool,
    /// `debug` or `info`: the level of the worker's own log.
    pub log_level: &'static str,
}

/// How many processes there are, and when they begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// As many there always are, at least 1.
    pub min: usize,
    /// As many there are when many requests wait, at least `min`.
    pub max: usize,
    /// One above `min` ends after this long without a request.
    pub max_idle: Duration,
    /// Failures of workers after which the model has failed; `None`: they are restarted for ever.
    pub retry_threshold: Option<usize>,
    /// Largest address space of a worker, in bytes.
    pub memory_limit: Option<u64>,
    /// Whether the first workers load the model at the same time.
    pub parallel_loading: bool,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            min: 1,
            max: 1,
            max_idle: Duration::from_secs(60),
            retry_threshold: None,
            memory_limit: None,
            parallel_loading: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_round_the_gpus() {
        let group = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let told = |devices: &Devices| -> Vec<(String, Option<String>)> {
            let told = (0..3).map(|worker| devices.of(worker));
            told.map(|assigned| (assigned.id, assigned.visible))
                .collect()
        };
        let none = Devices::default();
        assert_eq!(told(&none)[2], ("-1".into(), None));
        let each = Devices {
            groups: vec![group(&["4"]), group(&["7"])],
            alone: false,
            numbers: vec![0, 1],
        };
        let ids: Vec<_> = told(&each).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["0", "1", "0"]);
        let pairs = Devices {
            groups: vec![group(&["0", "2"]), group(&["3", "7"])],
            alone: true,
            numbers: vec![],
        };
        let wanted = [("0", "0,2"), ("0", "3,7"), ("0", "0,2")];
        let wanted = wanted.map(|(id, visible)| (id.to_string(), Some(visible.to_string())));
        assert_eq!(told(&pairs), wanted);
    }
}
