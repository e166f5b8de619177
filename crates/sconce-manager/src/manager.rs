//! The models of this process and the way of a job to one of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use sconce_config::ModelSettings;
use sconce_core::{Formats, Gateway, Job, ModelStatus, Phase, ServeError};
use tracing::{error, info};

use crate::build;
use crate::entry::Entry;
use crate::error::ManagerError;
use crate::progress::ProgressLog;

/// How the loading of a model ended.
pub type Outcome = Result<(), ManagerError>;

/// All models of this process, in order of name.
pub struct Manager {
    models: Vec<Arc<Entry>>,
}

impl Manager {
    /// Starts loading the model in a thread of its own and returns at once; `loaded` is called
    /// with the model's name when it is ready or has failed.
    pub fn start(
        settings: ModelSettings,
        loaded: impl FnOnce(&str, Outcome) + Send + 'static,
    ) -> std::io::Result<Self> {
        let entry = Arc::new(Entry::new(settings.name.clone(), settings.python.is_some()));
        let models = vec![Arc::clone(&entry)];
        std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || {
                let outcome = load(&entry, &settings);
                loaded(entry.name(), outcome);
            })?;
        Ok(Self { models })
    }

    /// Ends all models; jobs that still run fail.
    pub fn stop(&self) {
        for model in &self.models {
            model.stop();
        }
    }

    fn find(&self, name: Option<&str>) -> Result<&Entry, ServeError> {
        match (name, self.models.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(ServeError::Malformed(
                "Parameter model_name is required.".into(),
            )),
            (Some(name), models) => {
                let found = models.iter().find(|model| model.name() == name);
                found
                    .map(|model| &**model)
                    .ok_or_else(|| ServeError::UnknownModel(name.into()))
            }
        }
    }
}

impl Gateway for Manager {
    fn submit(&self, model: Option<&str>, job: Job) -> Result<(), ServeError> {
        self.find(model)?.submit(job)
    }

    fn status(&self) -> Vec<ModelStatus> {
        self.models.iter().map(|model| model.status()).collect()
    }

    fn takes_raw(&self, model: Option<&str>) -> bool {
        self.find(model).is_ok_and(Entry::takes_raw)
    }

    fn formats(&self, model: Option<&str>) -> Formats {
        self.find(model).map(Entry::formats).unwrap_or_default()
    }

    fn format(&self, model: Option<&str>, job: Job) -> Result<(), ServeError> {
        self.find(model)?.format(job)
    }
}

fn load(entry: &Arc<Entry>, settings: &ModelSettings) -> Outcome {
    let began = Instant::now();
    let observer = {
        let (entry, log) = (Arc::clone(entry), ProgressLog::new());
        Arc::new(move |phase: Phase, progress| {
            log.tell(&phase, progress);
            entry.advance(phase, progress);
        })
    };
    let built = catch_unwind(AssertUnwindSafe(|| build::build(settings, observer)));
    match built.unwrap_or_else(|_| Err(ManagerError::Panic)) {
        Ok(built) => {
            entry.ready(built);
            info!(
                "model {} is ready after {:.2} s",
                entry.name(),
                began.elapsed().as_secs_f64()
            );
            Ok(())
        }
        Err(cause) => {
            error!("model {} cannot be served: {cause}", entry.name());
            entry.fail(cause.to_string());
            Err(cause)
        }
    }
}
