//! The models of this process: they come and go, each in threads of its own, and a request finds
//! the one that it is for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sconce_config::{Configuration, ModelSettings};
use sconce_core::{Backend, Gateway, Manner, ModelStatus, Phase, ServeError, Served};
use tracing::{error, info};

use crate::build::{self, Built, Site};
use crate::entry::Entry;
use crate::error::ManagerError;
use crate::memory::Memory;
use crate::progress::ProgressLog;
use crate::watchdog;

/// How the loading of a model ended.
pub type Outcome = Result<(), ManagerError>;

/// All models of this process.
#[derive(Clone)]
pub struct Manager(pub(crate) Arc<Shelf>);

/// What the manager and the threads of its models share.
pub(crate) struct Shelf {
    pub(crate) configuration: Configuration,
    /// In order of name and version.
    models: Mutex<Vec<Arc<Entry>>>,
    /// Told when a model has gone.
    gone: Condvar,
    site: Site,
    /// Requests that named no version of several.
    turns: AtomicUsize,
    /// Held by whoever makes room for a model: two would count the same memory.
    evicting: Mutex<()>,
    is_ending: AtomicBool,
}

impl Manager {
    /// Starts loading the models, each in a thread of its own, and returns at once; `loaded` is
    /// called with the name of each that is ready or has failed.
    pub fn start(
        configuration: Configuration,
        models: Vec<ModelSettings>,
        loaded: impl Fn(&str, Outcome) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let site = Site {
            memory: Memory::measure(),
            multi_model: configuration.server().multi_model,
        };
        let shelf = Arc::new(Shelf {
            configuration,
            models: Mutex::default(),
            gone: Condvar::new(),
            site,
            turns: AtomicUsize::new(0),
            evicting: Mutex::default(),
            is_ending: AtomicBool::new(false),
        });
        if let Some(patience) = shelf.configuration.server().health.watchdog {
            watchdog::start(&shelf, patience)?;
        }
        let loaded = Arc::new(loaded);
        for settings in models {
            let entry = Arc::new(Entry::new(settings, true));
            shelf.place(&mut shelf.lock(), &entry);
            let loaded = Arc::clone(&loaded);
            shelf.load(&entry, move |entry, outcome| {
                loaded(&entry.label(), outcome)
            })?;
        }
        Ok(Self(shelf))
    }

    /// Serves a backend that somebody else has built, as a model of the start with these settings. It is watched as the
    /// others are, and ends with them.
    pub fn adopt(&self, settings: ModelSettings, backend: Arc<dyn Backend>) {
        let entry = Arc::new(Entry::new(settings, true));
        self.0.place(&mut self.0.lock(), &entry);
        entry.ready(Built {
            backend,
            pool: None,
            replicas: None,
            formatters: None,
            promise: self.0.site.memory.grant(0),
        });
    }

    /// Ends all models, and lets none come any more; jobs that still run fail.
    pub fn stop(&self) {
        let models = {
            let models = self.0.lock();
            // Whoever comes looks at it under the same lock: no model slips in behind the others' end.
            self.0.is_ending.store(true, Ordering::SeqCst);
            models.clone()
        };
        self.0.gone.notify_all();
        for model in models {
            model.stop();
        }
    }
}

impl Shelf {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Puts a model where its name belongs.
    pub(crate) fn place(&self, models: &mut Vec<Arc<Entry>>, entry: &Arc<Entry>) {
        let at = models.partition_point(|other| other.key() < entry.key());
        models.insert(at, Arc::clone(entry));
    }

    /// Takes a model away that holds nothing any more.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, entry));
        self.gone.notify_all();
    }

    /// Waits until another model has gone.
    pub(crate) fn wait<'a>(
        &self,
        models: MutexGuard<'a, Vec<Arc<Entry>>>,
    ) -> MutexGuard<'a, Vec<Arc<Entry>>> {
        self.gone
            .wait(models)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a model in a thread of its own, which tells how that ended.
    pub(crate) fn load(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        loaded: impl FnOnce(&Arc<Entry>, Outcome) + Send + 'static,
    ) -> std::io::Result<()> {
        let (shelf, entry) = (Arc::clone(self), Arc::clone(entry));
        std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || {
                let outcome = shelf.load_here(&entry);
                loaded(&entry, outcome);
            })?;
        Ok(())
    }

    fn load_here(&self, entry: &Arc<Entry>) -> Outcome {
        let began = Instant::now();
        loop {
            match self.build(entry) {
                Ok(built) => {
                    let pause = self.configuration.server().health.canary_pause;
                    built.backend.prove_every(pause);
                    let answers = entry.ready(built);
                    info!(
                        "model {} is {} after {:.2} s",
                        entry.label(),
                        if answers {
                            "ready"
                        } else {
                            "there, but not wanted any more,"
                        },
                        began.elapsed().as_secs_f64()
                    );
                    return Ok(());
                }
                Err(cause)
                    if cause
                        .missing_memory()
                        .is_some_and(|missing| self.make_room(entry, missing)) => {}
                Err(cause) if entry.fail(cause.to_string()) => {
                    error!("model {} cannot be served: {cause}", entry.label());
                    return Err(cause);
                }
                // Whoever removed it does not wait for it to answer, and the server does not fail by it.
                Err(cause) => {
                    info!(
                        "model {} was removed while it was loading: {cause}",
                        entry.label()
                    );
                    return Ok(());
                }
            }
        }
    }

    fn build(&self, entry: &Arc<Entry>) -> Result<Built, ManagerError> {
        let observer = {
            let (entry, log) = (Arc::clone(entry), ProgressLog::new(entry.label()));
            Arc::new(move |phase: Phase, progress| {
                log.tell(&phase, progress);
                entry.advance(phase, progress);
            })
        };
        let build = || build::build(entry.settings(), &self.site, observer);
        catch_unwind(AssertUnwindSafe(build)).unwrap_or(Err(ManagerError::Panic))
    }

    /// Ends models that nobody asks now, those that were longest not asked first, until so many bytes are free; false:
    /// that is not wanted, or would not suffice. Those of the start stay.
    fn make_room(&self, coming: &Arc<Entry>, missing: u64) -> bool {
        if !self.configuration.server().evicts || coming.at_startup() {
            return false;
        }
        let _turn = self.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let models = self.lock().clone();
        let registered = models.into_iter().filter(|entry| !entry.at_startup());
        let mut idle: Vec<_> = registered
            .filter_map(|entry| Some((entry.idle()?, entry)))
            .collect();
        idle.sort_by_key(|((asked, _), _)| *asked);
        let mut freed = 0;
        let enough = idle.iter().position(|((_, bytes), _)| {
            freed += bytes;
            freed >= missing
        });
        let Some(last) = enough else {
            return false;
        };
        for ((asked, bytes), entry) in idle.into_iter().take(last + 1) {
            info!(
                "model {} makes room for {}: it was not asked for {:.0} s, and has {} MiB",
                entry.label(),
                coming.label(),
                asked.elapsed().as_secs_f64(),
                bytes >> 20,
            );
            if entry.begin_unloading() {
                entry.unload(entry.manner().predict_timeout);
                self.remove(&entry);
            }
        }
        true
    }

    /// The versions of a model that are there, or the one that is named.
    pub(crate) fn versions(&self, name: &str, version: Option<&str>) -> Vec<Arc<Entry>> {
        let models = self.lock();
        let named = |entry: &&Arc<Entry>| {
            entry.name() == name && version.is_none_or(|version| entry.version() == Some(version))
        };
        models.iter().filter(named).cloned().collect()
    }

    /// The name that is meant where none is named: that of the only model of the start.
    fn usual(&self) -> Option<String> {
        let models = self.lock();
        let mut names = models.iter().filter(|entry| entry.at_startup());
        let first = names.next()?.name().to_owned();
        names.all(|entry| entry.name() == first).then_some(first)
    }

    /// Versions in the order in which they should be asked: those that answer before the others, each first in its turn.
    fn turn(&self, versions: Vec<Arc<Entry>>) -> impl Iterator<Item = Arc<Entry>> {
        let (mut ready, others): (Vec<_>, Vec<_>) = match versions.len() {
            // Nobody else could be asked.
            0 | 1 => (versions, vec![]),
            _ => versions.into_iter().partition(|entry| entry.is_ready()),
        };
        if ready.len() > 1 {
            let at = self.turns.fetch_add(1, Ordering::Relaxed) % ready.len();
            ready.rotate_left(at);
        }
        ready.into_iter().chain(others)
    }
}

impl Gateway for Manager {
    fn find(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Arc<dyn Served>, ServeError> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.0.usual().ok_or(ServeError::Unnamed)?,
        };
        let versions = self.0.versions(&name, version);
        let mut refusal = ServeError::UnknownModel(name);
        for entry in self.0.turn(versions) {
            // One may have gone since it was found.
            match entry.lease() {
                Ok(lease) => return Ok(Arc::new(lease)),
                Err(cause) => refusal = cause,
            }
        }
        Err(refusal)
    }

    fn manner(&self) -> Manner {
        let usual = self.0.usual();
        let versions = usual.map(|name| self.0.versions(&name, None));
        let first = versions.and_then(|versions| versions.into_iter().next());
        first.map_or_else(Manner::default, |entry| entry.manner().clone())
    }

    fn status(&self) -> Vec<ModelStatus> {
        let models = self.0.lock().clone();
        models.iter().map(|model| model.status()).collect()
    }
}

#[cfg(test)]
mod tests;
