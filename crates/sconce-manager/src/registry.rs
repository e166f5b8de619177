//! Models that are registered, scaled and removed while the server runs.

use std::sync::Arc;
use std::time::Duration;

use sconce_config::{ConfigError, ConfigErrors, Resolved};
use sconce_core::{Coming, Registration, Registry, RegistryError, Scaled, registry};
use tracing::{info, warn};

use crate::device::require_device;
use crate::entry::{Entry, Loaded};
use crate::manager::{Manager, Shelf};
use crate::outside::Reached;

impl Registry for Manager {
    fn register(&self, wanted: &Registration) -> Result<Box<dyn Coming>, RegistryError> {
        let shelf = &self.0;
        check(wanted)?;
        let model = shelf.configuration.model(wanted, &Reached);
        let Resolved {
            model, warnings, ..
        } = model.map_err(|errors| told(&wanted.url, &errors))?;
        // A name that was taken from the URL is one of letters, digits and underscores.
        let entry = Arc::new(Entry::new(model, false));
        for warning in warnings {
            warn!("model {}: {warning}", entry.label());
        }
        require_device(entry.settings())
            .map_err(|error| RegistryError::Configuration(error.to_string()))?;
        enter(shelf, &entry)?;
        info!(
            "model {} is registered, from {}",
            entry.label(),
            entry.settings().url
        );
        let (tell, outcome) = std::sync::mpsc::sync_channel(1);
        let started = shelf.load(&entry, move |_, outcome| {
            let failed = outcome.err();
            let out_of_memory = failed.is_some_and(|error| error.missing_memory().is_some());
            // Nobody listens where nobody waits.
            let _ = tell.send(out_of_memory);
        });
        if let Err(cause) = started {
            shelf.remove(&entry);
            return Err(RegistryError::System(cause.to_string()));
        }
        Ok(Box::new(OnItsWay {
            shelf: Arc::clone(shelf),
            entry,
            outcome,
        }))
    }

    fn scale(
        &self,
        name: &str,
        version: Option<&str>,
        min: Option<usize>,
        max: Option<usize>,
    ) -> Result<Vec<Scaled>, RegistryError> {
        if let (Some(min), Some(most)) = (min, max)
            && min > most
        {
            return Err(RegistryError::Parameter {
                name: "min_worker",
                value: min.to_string(),
                problem: format!("it is more than max_worker = {most}; raise that, or lower it"),
            });
        }
        if max == Some(0) {
            return Err(RegistryError::Parameter {
                name: "max_worker",
                value: "0".into(),
                problem: "nobody would answer then; unregister the model instead".into(),
            });
        }
        let versions = there(&self.0, name, version)?;
        let scale = |entry: &Arc<Entry>| {
            entry
                .scale(min, max)
                .map_err(|phase| RegistryError::NotReady {
                    model: entry.label(),
                    phase: phase.to_string(),
                })
        };
        versions.iter().map(scale).collect()
    }

    fn unregister(&self, name: &str, version: Option<&str>) -> Result<(), RegistryError> {
        let versions = there(&self.0, name, version)?;
        let first: Vec<_> = versions
            .into_iter()
            .filter(|entry| entry.begin_unloading())
            .collect();
        if first.is_empty() {
            return Err(RegistryError::Unknown(name.to_owned()));
        }
        for entry in first {
            end(&self.0, &entry);
            info!("model {} is unregistered", entry.label());
        }
        Ok(())
    }
}

/// The versions that are there and not on their way out.
fn there(
    shelf: &Shelf,
    name: &str,
    version: Option<&str>,
) -> Result<Vec<Arc<Entry>>, RegistryError> {
    let mut versions = shelf.versions(name, version);
    versions.retain(|entry| !entry.is_unloading());
    match versions.is_empty() {
        true => Err(RegistryError::Unknown(name.to_owned())),
        false => Ok(versions),
    }
}

/// Puts a model among the others; one of the same name that is on its way out is waited for.
fn enter(shelf: &Shelf, entry: &Arc<Entry>) -> Result<(), RegistryError> {
    let mut models = shelf.lock();
    loop {
        if shelf.is_ending() {
            return Err(RegistryError::Ending);
        }
        let same = models.iter().find(|other| other.key() == entry.key());
        match same.map(|same| same.is_unloading()) {
            None => break,
            Some(true) => models = shelf.wait(models),
            Some(false) => return Err(RegistryError::AlreadyThere(entry.label())),
        }
    }
    shelf.place(&mut models, entry);
    Ok(())
}

/// Whether the request can be meant.
fn check(wanted: &Registration) -> Result<(), RegistryError> {
    let checked = |name, value: &Option<String>, check: fn(&str) -> Result<(), String>| {
        let Some(value) = value else { return Ok(()) };
        check(value).map_err(|problem| RegistryError::Parameter {
            name,
            value: value.clone(),
            problem: format!("it {problem}"),
        })
    };
    checked("model_name", &wanted.name, registry::check_name)?;
    checked("model_version", &wanted.version, registry::check_version)
}

fn told(url: &str, errors: &ConfigErrors) -> RegistryError {
    match errors.problems.as_slice() {
        [ConfigError::Forbidden { url, problem }] => RegistryError::Forbidden {
            url: url.clone(),
            problem: problem.clone(),
        },
        [ConfigError::Archive { problem, .. }] => RegistryError::Nowhere {
            url: url.to_owned(),
            problem: format!("it {problem}"),
        },
        [ConfigError::NoSuchModel { .. }] => RegistryError::Nowhere {
            url: url.to_owned(),
            problem: "there is no such directory, neither as it stands nor in the model store"
                .into(),
        },
        [only @ (ConfigError::NotAModel { .. } | ConfigError::BadUrl { .. })] => {
            RegistryError::Nowhere {
                url: url.to_owned(),
                problem: only.to_string(),
            }
        }
        _ => RegistryError::Configuration(errors.to_string()),
    }
}

/// A model that is being loaded.
pub(crate) struct OnItsWay {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) entry: Arc<Entry>,
    /// Whether it failed for want of memory, once it has failed.
    pub(crate) outcome: std::sync::mpsc::Receiver<bool>,
}

impl Coming for OnItsWay {
    fn name(&self) -> &str {
        self.entry.name()
    }

    fn wait(self: Box<Self>) -> Result<(), RegistryError> {
        let model = self.entry.label();
        let longest = self.entry.settings().model_loading_timeout;
        match self.entry.loaded(longest) {
            Loaded::Ready => Ok(()),
            Loaded::Withdrawn => Err(RegistryError::Withdrawn(model)),
            Loaded::Failed(cause) => {
                self.discard();
                // The loader tells after it has failed the model.
                let of_memory = self.outcome.recv().unwrap_or_default();
                Err(match of_memory {
                    true => RegistryError::Memory {
                        model,
                        problem: cause,
                    },
                    false => RegistryError::Failed { model, cause },
                })
            }
            Loaded::TooLate => {
                // It must not become ready once this is told. What is loaded cannot be interrupted, and ends when it is there.
                if self.entry.begin_unloading() {
                    let (shelf, entry) = (Arc::clone(&self.shelf), Arc::clone(&self.entry));
                    let ending = move || end(&shelf, &entry);
                    if let Err(cause) = spawn("unloader", ending) {
                        warn!(
                            "model {model} stays listed, as nobody can wait for its end: {cause}"
                        );
                    }
                }
                Err(too_late(model, longest))
            }
        }
    }

    fn watch(self: Box<Self>) -> Result<(), RegistryError> {
        let watching = move || {
            let longest = self.entry.settings().model_loading_timeout;
            if self.entry.loaded(longest) == Loaded::TooLate {
                let late = too_late(self.entry.label(), longest).to_string();
                if self.entry.expire(&late) {
                    warn!("{late}");
                }
            }
        };
        spawn("watcher", watching).map_err(|cause| RegistryError::System(cause.to_string()))
    }
}

impl OnItsWay {
    fn discard(&self) {
        if self.entry.begin_unloading() {
            end(&self.shelf, &self.entry);
        }
    }
}

fn too_late(model: String, after: Duration) -> RegistryError {
    RegistryError::TooLate { model, after }
}

/// Ends a model that takes nothing new any more, and takes it away.
fn end(shelf: &Shelf, entry: &Arc<Entry>) {
    entry.unload(entry.manner().predict_timeout);
    shelf.remove(entry);
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(work).map(drop)
}
