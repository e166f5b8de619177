//! A model as `sconce check` sees it: settings as the engine will get them, headers, task; nothing
//! that would be kept.

use std::path::PathBuf;

use sconce_config::{ModelSettings, ModelSource};
use sconce_core::Task;
use sconce_diffusion::{DiffusionDescription, DiffusionError, DiffusionOverview};
use sconce_engine::{Description, EngineError, EngineSettings, TaskOverview};
use sconce_seq2seq::Seq2SeqDescription;
use sconce_tasks::TaskDescription;
use tempfile::TempDir;

use crate::build::{diffusion_settings, engine_settings, seq2seq_settings, task_settings};
use crate::error::ManagerError;
use crate::hub::{self, HubFiles};
use crate::remote::headers;
use crate::s3::{self, S3Files};
use crate::task::{self, TaskError, Wish};

/// A model whose headers have been read.
pub struct Inspection {
    /// What the engine will be started with.
    pub settings: EngineSettings,
    /// What the model is for, if that can be told.
    pub task: Result<String, TaskError>,
    /// What it is served for.
    pub served: Result<Task, TaskError>,
    /// What its files say, if it does anything but continue texts.
    pub overview: Option<Result<TaskOverview, ManagerError>>,
    /// What its files say, if it makes pictures.
    pub diffusion: Option<Result<DiffusionOverview, DiffusionError>>,
    /// What its files say; with the template that the configuration names, if that can be read.
    pub description: Description,
    /// What is wrong with that template.
    pub template: Option<EngineError>,
    /// Where the files of a model elsewhere are, until they have been looked at.
    _headers: Option<TempDir>,
}

impl Inspection {
    /// Reads what is in the model's directory, or of a model elsewhere the headers alone.
    pub fn of(settings: &ModelSettings) -> Result<Self, ManagerError> {
        let gguf_file = settings.gguf_file.as_deref();
        let (dir, kept) = match &settings.source {
            ModelSource::Directory(dir) => (dir.clone(), None),
            ModelSource::Hub(model) => {
                let files = HubFiles::open(model).and_then(|files| headers(&files, gguf_file));
                elsewhere(files, || hub::cached(model))?
            }
            ModelSource::S3(model) => {
                let files = S3Files::open(model).and_then(|files| headers(&files, gguf_file));
                elsewhere(files, || s3::cached(model))?
            }
        };
        let wish = Wish::of(settings);
        let served = task::served(&dir, wish).and_then(|task| match task {
            Task::TextToImage => task::require_one_rank(settings, task)
                .and_then(|()| task::require_plain_weights(settings))
                .map(|()| task),
            task => Ok(task),
        });
        let overview = match &served {
            Ok(Task::TextToImage) | Err(_) => None,
            Ok(task) if task::continues_texts(&dir, *task) => None,
            Ok(task) => Some(overview(settings, dir.clone(), *task)),
        };
        let diffusion = matches!(served, Ok(Task::TextToImage)).then(|| {
            let settings = diffusion_settings(settings, dir.clone());
            let description = DiffusionDescription::read(&settings)?;
            description.overview(&settings)
        });
        let generates = served.as_ref().copied().unwrap_or_default();
        let describe = || {
            let description = Description::read(&dir, gguf_file, settings.model_sampling);
            description.with_adapter(settings.lora.own.as_deref())
        };
        let named = settings.chat_template.as_ref().map(|path| dir.join(path));
        let (description, template) = match named.map(|path| describe().with_template(&path)) {
            None => (describe(), None),
            Some(Ok(description)) => (description, None),
            Some(Err(error)) => (describe(), Some(error)),
        };
        Ok(Self {
            diffusion,
            task: task::of(&dir, wish),
            served,
            overview,
            description,
            template,
            settings: engine_settings(settings, dir, generates),
            _headers: kept,
        })
    }
}

/// The model of a task in some numbers.
fn overview(
    settings: &ModelSettings,
    dir: PathBuf,
    task: Task,
) -> Result<TaskOverview, ManagerError> {
    if task.reads_and_writes() {
        let settings = seq2seq_settings(settings, dir, task);
        Ok(Seq2SeqDescription::read(&settings)?.overview(&settings)?)
    } else {
        let settings = task_settings(settings, dir, task);
        Ok(TaskDescription::read(&settings)?.overview(&settings)?)
    }
}

/// The folder of headers, or, as for `sconce serve`, that of an earlier start while the place
/// cannot be reached.
fn elsewhere(
    headers: Result<TempDir, ManagerError>,
    earlier: impl FnOnce() -> Option<PathBuf>,
) -> Result<(PathBuf, Option<TempDir>), ManagerError> {
    match headers {
        Ok(dir) => Ok((dir.path().into(), Some(dir))),
        Err(error) if error.is_passing() => earlier().map(|dir| (dir, None)).ok_or(error),
        Err(error) => Err(error),
    }
}
