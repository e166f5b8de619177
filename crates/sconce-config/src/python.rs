//! Python mode: what is configured for the processes in which the user's own code answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bucket;
use crate::draft::Draft;
use crate::entry;
use crate::environment::Environment;
use crate::error::ConfigError;
use crate::gather::{Gathered, Setting};
use crate::handler::{Engine, Handler};
use crate::script::{self, Role};
use crate::value::{Rejection, Value, count, flag};

/// How long a batch waits for more unless that is said, as in DJL Serving.
const UNSET_DELAY: Duration = Duration::from_millis(100);

/// Settings of the workers of a model in Python mode.
#[derive(Clone, PartialEq, Eq)]
pub struct PythonSettings {
    /// The model's directory; that into which the model's source is fetched, if `is_fetched`.
    pub dir: PathBuf,
    /// Whether the code lies with the model's source, in S3.
    pub is_fetched: bool,
    /// File or module of the handler (`option.entryPoint`).
    pub entry_point: String,
    /// The module that answers where the entry point has no such function; may be empty.
    pub recommended_entry_point: &'static str,
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
    /// Bytes without which the model is not loaded (`required_memory_mb`).
    pub required_memory: Option<u64>,
    /// Bytes that stay free beside those (`reserved_memory_mb`).
    pub reserved_memory: u64,
    /// Whether the first workers load the model at the same time.
    pub parallel_loading: bool,
    /// Longest value within an answer, in bytes.
    pub message_limit: usize,
    /// Whether the handler is a coroutine (`option.async_mode`).
    pub asynchronous: bool,
    /// Requests that a handler with a rolling batch works on at once (`option.rolling_batch`);
    /// `None`: it has none.
    pub rolling: Option<usize>,
    /// The processes of a worker (`option.mpi_mode`); `None`: one, which is no rank.
    pub ranks: Option<PythonRanks>,
    /// GPUs of a worker, if its code is told how many it is split over; `None`: one, among others.
    pub gpus: Option<usize>,
    /// The GPUs that count (`load_on_devices`).
    pub load_on: LoadOn,
    /// The GPUs that this process sees (`CUDA_VISIBLE_DEVICES`); `None`: all.
    pub visible: Option<Vec<String>>,
    /// Directories for what `requirements.txt` names; the first one that can be written counts.
    pub environments: Vec<PathBuf>,
    /// Whether no index of packages may be asked (`DJL_OFFLINE`).
    pub offline: bool,
    /// `SAGEMAKER_NUM_MODEL_WORKERS`, which wins over the files.
    pub(crate) fixed_workers: Option<usize>,
    /// `option.mpi_mode`.
    pub(crate) mpi_mode: bool,
    /// `option.mpi_launcher`.
    pub(crate) launcher: Launcher,
    /// `option.use_passive_workers`.
    pub(crate) passive_ranks: bool,
    /// Whether such code may run (`option.trust_python`, `SAGEMAKER_SECURE_MODE`).
    pub(crate) trusted: Trust,
}

/// On which devices workers load the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LoadOn {
    /// All GPUs; without one, the CPU.
    #[default]
    All,
    /// The CPU.
    Cpu,
    /// The GPUs of these numbers, among those that this process sees.
    Gpus(Vec<usize>),
}

/// What starts ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Launcher {
    /// `mpirun`, where the search path has one.
    #[default]
    Found,
    /// Variables alone.
    Environment,
    /// This `mpirun`.
    Named(PathBuf),
}

/// The ranks of a worker whose model is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonRanks {
    /// `option.tensor_parallel_degree`, at least 1.
    pub tensor: usize,
    /// `option.pipeline_parallel_degree`, at least 1.
    pub pipeline: usize,
    /// Whether all of them get every request (`option.use_passive_workers=false`).
    pub all_answer: bool,
    /// The `mpirun` that starts them; `None`: they are told their places by variables alone.
    pub mpirun: Option<PathBuf>,
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
            is_fetched: false,
            entry_point: String::new(),
            recommended_entry_point: "",
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
            required_memory: None,
            reserved_memory: 0,
            parallel_loading: false,
            message_limit: 0,
            asynchronous: false,
            rolling: None,
            ranks: None,
            gpus: None,
            load_on: LoadOn::default(),
            visible: None,
            fixed_workers: None,
            mpi_mode: false,
            launcher: Launcher::default(),
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
    if script::role(file, gathered, draft) == Role::Formats {
        common(dir, gathered, environment, draft);
        draft.python.entry_point = file.display().to_string();
        draft.model.formatters = Some(PythonSettings {
            min_workers: 1,
            max_workers: Some(1),
            batch_size: 1,
            ..draft.python.clone()
        });
        return Ok(());
    }
    let rolls = draft.facts.rolling_batch == Some(true);
    if rolls && draft.facts.async_mode == Some(true) {
        let why = "option.rolling_batch and option.async_mode=true call a handler in different \
                   ways; set the one that it is not written for to disable, or to false";
        return Err(refuse(why.into()));
    }
    let ranks = ranks(gathered, environment, draft)?;
    let rows = draft.model.max_rolling_batch_size.max(1);
    draft.python.rolling = rolls.then_some(rows);
    draft.python.gpus = degree(gathered, draft, ranks.as_ref());
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
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    python.entry_point = match file.strip_prefix(absolute(dir)) {
        _ if is_module => file.display().to_string(),
        Ok(inner) => inner.display().to_string(),
        Err(_) => absolute(file).display().to_string(),
    };
    python.batch_size = draft.facts.batch_size.unwrap_or(1);
    common(dir, gathered, environment, draft);
    draft.model.python = Some(draft.python.clone());
    draft.facts.handler = Some(Handler::OwnCode);
    Ok(())
}

/// What is the same whatever the code is for.
fn common(dir: &Path, gathered: &Gathered, environment: &Environment, draft: &mut Draft) {
    let python = &mut draft.python;
    python.recommended_entry_point = match script::has_pickled_model(dir) {
        true => script::SKLEARN,
        false => "",
    };
    python.dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
    python.python_path = environment.get("PYTHONPATH").map(String::from);
    let visible = environment.get("CUDA_VISIBLE_DEVICES");
    python.visible = visible.map(|names| {
        // CUDA hides what comes after it.
        let names = names
            .split(',')
            .map(str::trim)
            .take_while(|name| *name != "-1");
        names
            .filter(|name| !name.is_empty())
            .map(String::from)
            .collect()
    });
    python.environments.extend(environments(environment));
    python.properties = gathered.properties();
}

/// Decides for Python mode with code in a bucket: `name` is the entry point, as it is below the
/// prefix.
pub(crate) fn choose_in_bucket(
    name: &Path,
    gathered: &Gathered,
    environment: &Environment,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    if let Some(id) = draft.model_id.as_deref().filter(|id| bucket::is_url(id)) {
        return Err(ConfigError::OwnCode {
            file: name.into(),
            why: format!(
                "it lies in S3, and option.model_id={id} names another place there; put both below \
                 one prefix, or the code into a directory of this machine"
            ),
        });
    }
    choose(name, Path::new(""), gathered, environment, draft)?;
    if let Some(python) = &mut draft.model.python {
        python.is_fetched = true;
        python.dir = PathBuf::new();
        python.entry_point = name.display().to_string();
    }
    Ok(())
}

/// The ranks that MPI would start: in DJL Serving two engines mean it too.
fn ranks(
    gathered: &Gathered,
    environment: &Environment,
    draft: &Draft,
) -> Result<Option<PythonRanks>, ConfigError> {
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
        mpirun: match &draft.python.launcher {
            Launcher::Found => environment.get("PATH").and_then(mpirun),
            Launcher::Environment => None,
            Launcher::Named(path) => Some(path.clone()),
        },
    }))
}

/// Open MPI's launcher on a search path.
fn mpirun(path: &str) -> Option<PathBuf> {
    let places = path.split(':').filter(|place| !place.is_empty());
    let mut files = places.map(|place| Path::new(place).join("mpirun"));
    files.find(|file| file.is_file())
}

/// GPUs that a worker's code is split over, if anybody says.
fn degree(gathered: &Gathered, draft: &Draft, ranks: Option<&PythonRanks>) -> Option<usize> {
    let is_set = |setting: &Setting| setting.entry.key == "option.tensor_parallel_degree";
    match ranks {
        Some(ranks) => Some(ranks.tensor * ranks.pipeline),
        None if gathered.settings.iter().any(is_set) => Some(draft.model.ranks.max(1)),
        None => None,
    }
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

/// The keys whose values Python mode reads itself. All others are the handler's own, whatever the
/// native engine would say of them.
pub(crate) fn reads(key: &str) -> bool {
    const ALSO: &[&str] = &[
        "batch_size",
        "job_queue_size",
        "load_on_devices",
        "max_batch_delay",
        "option.entryPoint",
        "option.model_loading_timeout",
        "option.predict_timeout",
    ];
    let of_python = || entry::of_key(key).is_some_and(|entry| entry.status.is_of_own_code());
    let of_server = || entry::of_key(key).is_none_or(|entry| !entry.scope.in_model_file());
    ALSO.contains(&key) || of_python() || of_server()
}

/// `*`, `cpu`, or numbers of GPUs.
pub(crate) fn devices(value: &str) -> Value<LoadOn> {
    let names = value.split([';', ',']).map(str::trim);
    let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    match names.as_slice() {
        ["*"] => return Ok(LoadOn::All),
        ["cpu" | "-1"] => return Ok(LoadOn::Cpu),
        [] => return Err(Rejection::Invalid("must name a device, or be *".into())),
        _ => {}
    }
    let number = |name: &&str| {
        if name.starts_with("nc") {
            let text = "there are no Neuron devices; name GPUs, or *";
            return Err(Rejection::Unsupported(text.into()));
        }
        let digits = name.strip_prefix("gpu").unwrap_or(name);
        let wrong = |_| {
            let text =
                format!("must be *, cpu, or numbers of GPUs such as 0;1, and `{name}` is none");
            Rejection::Invalid(text)
        };
        digits.parse().map_err(wrong)
    };
    names
        .iter()
        .map(number)
        .collect::<Value<_>>()
        .map(LoadOn::Gpus)
}

/// What starts ranks.
pub(crate) fn launcher(value: &str) -> Value<Launcher> {
    match value {
        "auto" => Ok(Launcher::Found),
        "environment" => Ok(Launcher::Environment),
        path if Path::new(path).is_file() => Ok(Launcher::Named(path.into())),
        _ => {
            let text =
                "must be auto, environment or the path of an mpirun, and there is no such file";
            Err(Rejection::Invalid(text.into()))
        }
    }
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
