//! Python mode: what is configured for the processes in which the user's own code answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::draft::Draft;
use crate::entry;
use crate::environment::Environment;
use crate::error::ConfigError;
use crate::gather::{Gathered, Setting};
use crate::handler::{Engine, Handler};
use crate::value::{Rejection, Value, count, flag};

/// How long a batch waits for more unless that is said, as in DJL Serving.
const UNSET_DELAY: Duration = Duration::from_millis(100);

/// Settings of the workers of a model in Python mode.
#[derive(Clone, PartialEq, Eq)]
pub struct PythonSettings {
    /// The model's directory.
    pub dir: PathBuf,
    /// File or module of the handler (`option.entryPoint`).
    pub entry_point: String,
    /// The function that answers (`option.handler`).
    pub handler: String,
    /// What the handler's first call gets: all keys of the model, without `option.`.
    pub properties: Vec<(String, String)>,
    /// The interpreter (`option.pythonExecutable`).
    pub executable: String,
    /// Variables of the workers (`option.env`).
    pub environment: Vec<(String, String)>,
    /// `PYTHONPATH` of this process.
    pub python_path: Option<String>,
    /// Fewest workers, at least 1.
    pub min_workers: usize,
    /// Most workers, at least the fewest; `None`: as many as the machine's cores allow.
    pub max_workers: Option<usize>,
    /// Threads of each worker (`OMP_NUM_THREADS`); they divide the cores among the workers.
    pub threads: usize,
    /// Requests that a worker gets at once, at least 1.
    pub batch_size: usize,
    /// How long the first of them waits for the others.
    pub max_batch_delay: Duration,
    /// A worker above the fewest ends after so long without a request.
    pub max_idle_time: Duration,
    /// Failures of workers that are tolerated; `None`: all.
    pub retry_threshold: Option<usize>,
    /// Largest address space of a worker, in bytes.
    pub memory_limit: Option<u64>,
    /// Whether the first workers load the model at the same time.
    pub parallel_loading: bool,
    /// Longest value within an answer, in bytes.
    pub message_limit: usize,
    /// Whether the handler is a coroutine (`option.async_mode`).
    pub asynchronous: bool,
    /// The processes of a worker (`option.mpi_mode`); `None`: one, which is no rank.
    pub ranks: Option<PythonRanks>,
    /// Directories for what `requirements.txt` names; the first one that can be written counts.
    pub environments: Vec<PathBuf>,
    /// Whether no index of packages may be asked (`DJL_OFFLINE`).
    pub offline: bool,
    /// `SAGEMAKER_NUM_MODEL_WORKERS`, which wins over the files.
    pub(crate) fixed_workers: Option<usize>,
    /// `option.mpi_mode`.
    pub(crate) mpi_mode: bool,
    /// `option.use_passive_workers`.
    pub(crate) passive_ranks: bool,
    /// Whether such code may run (`option.trust_python`, `SAGEMAKER_SECURE_MODE`).
    pub(crate) trusted: Trust,
}

/// The ranks of a worker whose model is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PythonRanks {
    /// `option.tensor_parallel_degree`, at least 1.
    pub tensor: usize,
    /// `option.pipeline_parallel_degree`, at least 1.
    pub pipeline: usize,
    /// Whether all of them get every request (`option.use_passive_workers=false`).
    pub all_answer: bool,
}

impl std::fmt::Debug for PythonSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Properties and variables may hold secrets.
        f.debug_struct("PythonSettings")
            .field("dir", &self.dir)
            .field("entry_point", &self.entry_point)
            .field("handler", &self.handler)
            .field("executable", &self.executable)
            .finish_non_exhaustive()
    }
}

/// Whether code of the user's may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// `option.trust_python=false`, wherever it stands: who serves a model of others must not be
    /// overruled by its own file.
    pub(crate) refused: bool,
    /// `SAGEMAKER_SECURE_MODE=true`.
    pub(crate) secure_mode: bool,
}

impl Default for PythonSettings {
    /// Placeholders where the table of options has a default.
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            entry_point: String::new(),
            handler: String::new(),
            properties: vec![],
            executable: String::new(),
            environment: vec![],
            python_path: None,
            min_workers: 1,
            max_workers: None,
            threads: 2,
            batch_size: 1,
            max_batch_delay: UNSET_DELAY,
            max_idle_time: Duration::ZERO,
            retry_threshold: None,
            memory_limit: None,
            parallel_loading: false,
            message_limit: 0,
            asynchronous: false,
            ranks: None,
            fixed_workers: None,
            mpi_mode: false,
            passive_ranks: true,
            environments: vec![],
            offline: false,
            trusted: Trust::default(),
        }
    }
}

/// Decides for Python mode: the code that answers is in `dir`.
pub(crate) fn choose(
    file: &Path,
    dir: &Path,
    gathered: &Gathered,
    environment: &Environment,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    let refuse = |why: String| ConfigError::OwnCode {
        file: file.into(),
        why,
    };
    let trust = draft.python.trusted;
    let distrusts = |setting: &Setting| {
        setting.entry.key == "option.trust_python" && flag(&setting.value) == Ok(false)
    };
    if trust.secure_mode {
        let why = "SAGEMAKER_SECURE_MODE forbids it; remove the code, or leave the secure mode";
        return Err(refuse(why.into()));
    }
    if trust.refused || gathered.settings.iter().any(distrusts) {
        let why = "option.trust_python=false forbids it; remove one of them";
        return Err(refuse(why.into()));
    }
    if file.to_str().is_some_and(is_address) {
        let why = "code is not fetched from addresses; put the file into the model's directory";
        return Err(refuse(why.into()));
    }
    let is_module = !file.is_file();
    if !is_module && only_formats(file, &draft.python.handler) {
        return Err(refuse(format!(
            "it has no function {}; functions that only change the native engine's requests or \
             answers are not run yet; write one, or set option.entryPoint=djl_python.huggingface \
             to have the native engine answer by itself",
            draft.python.handler
        )));
    }
    if draft.facts.rolling_batch == Some(true) {
        let why = "option.rolling_batch is served by the native engine only; set it to disable, \
                   and batch_size for fixed batches";
        return Err(refuse(why.into()));
    }
    let ranks = ranks(gathered, draft)?;
    let sets_delay = |setting: &Setting| setting.entry.key == "max_batch_delay";
    let python = &mut draft.python;
    if gathered.settings.iter().any(sets_delay) {
        python.max_batch_delay = draft.model.max_batch_delay;
    }
    python.ranks = ranks;
    python.asynchronous = draft.facts.async_mode == Some(true);
    if let Some(workers) = python.fixed_workers {
        (python.min_workers, python.max_workers) = (workers, Some(workers));
    }
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
    python.entry_point = match file.strip_prefix(&dir) {
        _ if is_module => file.display().to_string(),
        Ok(inner) => inner.display().to_string(),
        Err(_) => std::path::absolute(file)
            .unwrap_or_else(|_| file.into())
            .display()
            .to_string(),
    };
    python.dir = dir;
    python.python_path = environment.get("PYTHONPATH").map(String::from);
    python.environments.extend(environments(environment));
    python.properties = gathered.properties();
    python.batch_size = draft.facts.batch_size.unwrap_or(1);
    draft.model.python = Some(python.clone());
    draft.facts.handler = Some(Handler::OwnCode);
    Ok(())
}

/// The ranks that MPI would start: in DJL Serving two engines mean it too.
fn ranks(gathered: &Gathered, draft: &Draft) -> Result<Option<PythonRanks>, ConfigError> {
    let by_engine = matches!(draft.facts.engine, Some(Engine::Mpi | Engine::DeepSpeed));
    if !draft.python.mpi_mode && !by_engine {
        return Ok(None);
    }
    // The native engine takes no other value than 1.
    let of_pipeline = |setting: &&Setting| setting.entry.key == "option.pipeline_parallel_degree";
    let strongest = gathered.settings.iter().filter(of_pipeline);
    let pipeline = match strongest.max_by_key(|setting| setting.strength) {
        None => 1,
        Some(setting) => count(&setting.value, 1..=256).map_err(|rejection| {
            let problem = match rejection {
                Rejection::Invalid(problem) | Rejection::Unsupported(problem) => problem,
            };
            ConfigError::Invalid {
                written: setting.written(),
                problem,
                default: "1",
            }
        })?,
    };
    Ok(Some(PythonRanks {
        tensor: draft.model.ranks.max(1),
        pipeline,
        all_answer: !draft.python.passive_ranks,
    }))
}

/// Where environments of Python go unless `DJL_VENV_DIR` says.
fn environments(environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let home = environment
        .get("HOME")
        .map(|home| Path::new(home).join(".cache"));
    let temporary = environment.get("TMPDIR").unwrap_or("/tmp");
    let caches = home.into_iter().chain([temporary.into()]);
    caches.map(|cache| cache.join("sconce/python"))
}

fn is_address(entry_point: &str) -> bool {
    entry_point.starts_with("http:") || entry_point.starts_with("https:")
}

/// Whether a script only changes requests or answers of another handler: it never even names the
/// function that would answer, and has a decorator of DJL Serving's.
fn only_formats(file: &Path, handler: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let names = |wanted: &str| text.split(|c| !is_part(c)).any(|word| word == wanted);
    let decorators = ["input_formatter", "output_formatter"];
    !names(handler) && decorators.iter().any(|decorator| names(decorator))
}

/// The keys whose values Python mode reads itself. All others are the handler's own, whatever the
/// native engine would say of them.
pub(crate) fn reads(key: &str) -> bool {
    const ALSO: &[&str] = &[
        "batch_size",
        "job_queue_size",
        "max_batch_delay",
        "option.entryPoint",
        "option.model_loading_timeout",
        "option.predict_timeout",
    ];
    let of_python = || entry::of_key(key).is_some_and(|entry| entry.status.is_of_own_code());
    let of_server = || entry::of_key(key).is_none_or(|entry| !entry.scope.in_model_file());
    ALSO.contains(&key) || of_python() || of_server()
}

/// `A=1,B=2`: what has no `=` is not taken.
pub(crate) fn variables(value: &str) -> Value<Vec<(String, String)>> {
    let pairs = value
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let key = key.trim();
        let usable = !key.is_empty() && !key.contains('\0') && !value.contains('\0');
        usable.then(|| (key.to_owned(), value.trim().to_owned()))
    };
    pairs
        .map(|text| {
            let must = || Rejection::Invalid(format!("must be A=1,B=2, and `{text}` has no ="));
            pair(text).ok_or_else(must)
        })
        .collect()
}
