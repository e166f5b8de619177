//! One model: where it is on its way, its backend once it is ready, and who asks it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sconce_config::ModelSettings;
use sconce_core::{
    Adapters, Backend, Crew, Formats, Job, Load, Manner, ModelStatus, Phase, Progress, Scaled,
    ServeError, Served, Task, Worker, registry,
};
use sconce_python::Formatters;

use crate::build::Built;
use crate::times::Times;
use crate::{manner, python};

/// A model by name and version, shared between its loading thread and the requests.
pub(crate) struct Entry {
    settings: ModelSettings,
    manner: Manner,
    at_startup: bool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    progress: Progress,
    times: Times,
    /// Why it stands still, if it does.
    stalled: Option<String>,
    built: Option<Arc<Built>>,
    /// When it became ready.
    since: SystemTime,
    /// Whether its loading thread is at work.
    is_loading: bool,
    /// Requests that hold it.
    leases: usize,
    /// When it was last asked.
    asked: Instant,
}

/// How the loading of a model ended, for who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// It answers.
    Ready,
    /// It does not: the first cause.
    Failed(String),
    /// Nobody wants it any more.
    Withdrawn,
    /// It is still on its way.
    TooLate,
}

impl Entry {
    pub(crate) fn new(settings: ModelSettings, at_startup: bool) -> Self {
        let state = State {
            phase: Phase::Pending,
            progress: Progress::default(),
            times: Times::begin(),
            stalled: None,
            built: None,
            since: SystemTime::now(),
            is_loading: true,
            leases: 0,
            asked: Instant::now(),
        };
        Self {
            manner: manner::manner(&settings),
            settings,
            at_startup,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn settings(&self) -> &ModelSettings {
        &self.settings
    }

    pub(crate) fn manner(&self) -> &Manner {
        &self.manner
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.settings.version.as_deref()
    }

    /// Name and version, as messages have them.
    pub(crate) fn label(&self) -> String {
        registry::label(self.name(), self.version())
    }

    /// By which models are sorted.
    pub(crate) fn key(&self) -> (&str, Option<&str>) {
        (self.name(), self.version())
    }

    pub(crate) fn at_startup(&self) -> bool {
        self.at_startup
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves to a phase on the way to readiness; a model that has failed stays failed, one that
    /// nobody wants stays so.
    pub(crate) fn advance(&self, phase: Phase, progress: Progress) {
        let mut state = self.lock();
        if state.phase.is_coming() {
            if state.phase != phase {
                state.times.enter(&phase);
            }
            (state.phase, state.progress) = (phase, progress);
        }
    }

    /// The model answers from now on. False: if nobody wants it any more, whoever unloads it ends it; if it has failed, or
    /// all were stopped meanwhile, it ends here.
    pub(crate) fn ready(&self, built: Built) -> bool {
        let mut state = self.lock();
        state.is_loading = false;
        state.since = SystemTime::now();
        if state.phase.is_coming() {
            state.times.enter(&Phase::Ready);
            (state.phase, state.progress) = (Phase::Ready, Progress::default());
        }
        let answers = state.phase == Phase::Ready;
        let unwanted = match &state.phase {
            Phase::Failed(_) => Some(built),
            _ => {
                state.built = Some(Arc::new(built));
                None
            }
        };
        self.changed.notify_all();
        drop(state);
        if let Some(built) = unwanted {
            built.stop();
        }
        answers
    }

    /// The model cannot be loaded; the first cause stays. False: nobody wanted it any more.
    pub(crate) fn fail(&self, cause: String) -> bool {
        let mut state = self.lock();
        state.is_loading = false;
        if state.phase.is_coming() {
            let failed = Phase::Failed(cause);
            state.times.enter(&failed);
            state.phase = failed;
        }
        self.changed.notify_all();
        state.phase != Phase::Unloading
    }

    /// The model takes too long, if it is still on its way. What loads it cannot be interrupted, and is ended when it is
    /// there.
    pub(crate) fn expire(&self, cause: &str) -> bool {
        let mut state = self.lock();
        let is_late = state.phase.is_coming();
        if is_late {
            let failed = Phase::Failed(cause.into());
            state.times.enter(&failed);
            state.phase = failed;
        }
        self.changed.notify_all();
        is_late
    }

    /// Waits for the end of the loading.
    pub(crate) fn loaded(&self, longest: Duration) -> Loaded {
        let coming = |state: &mut State| state.phase.is_coming();
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), longest, coming);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &state.phase {
            Phase::Ready => Loaded::Ready,
            Phase::Failed(cause) => Loaded::Failed(cause.clone()),
            Phase::Unloading => Loaded::Withdrawn,
            _ => Loaded::TooLate,
        }
    }

    /// Holds the model for a request; one that is on its way out is not there any more.
    pub(crate) fn lease(self: &Arc<Self>) -> Result<Lease, ServeError> {
        let mut state = self.lock();
        if state.phase == Phase::Unloading {
            return Err(ServeError::UnknownModel(self.name().to_owned()));
        }
        state.leases += 1;
        state.asked = Instant::now();
        Ok(Lease(Arc::clone(self)))
    }

    /// Takes nothing new from now on; false: somebody else sees to its end already.
    pub(crate) fn begin_unloading(&self) -> bool {
        let mut state = self.lock();
        let first = state.phase != Phase::Unloading;
        state.phase = Phase::Unloading;
        self.changed.notify_all();
        first
    }

    /// Waits until it is loaded, as that cannot be interrupted, and until those who hold it have
    /// their answers, for `patience` at most; then ends what is left.
    pub(crate) fn unload(&self, patience: Duration) {
        let loading = |state: &mut State| state.is_loading;
        let waited = self.changed.wait_while(self.lock(), loading);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(state, patience, |state| state.leases > 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.leases > 0 {
            tracing::warn!(
                "model {}: {} requests did not finish within {} s and are cut off",
                self.label(),
                state.leases,
                patience.as_secs()
            );
        }
        let built = state.built.take();
        drop(state);
        if let Some(built) = built {
            built.stop();
        }
    }

    /// Ends the backend at once; jobs that still run fail.
    pub(crate) fn stop(&self) {
        let built = {
            let mut state = self.lock();
            state.phase = Phase::Failed("it was stopped".into());
            self.changed.notify_all();
            state.built.take()
        };
        if let Some(built) = built {
            built.stop();
        }
    }

    /// When it was last asked and how much memory that would free, if it is ready, nobody holds it and there is something
    /// to free.
    pub(crate) fn idle(&self) -> Option<(Instant, u64)> {
        let state = self.lock();
        let bytes = state.built.as_ref()?.promise.bytes();
        let is_idle = state.phase == Phase::Ready && state.leases == 0 && bytes > 0;
        is_idle.then_some((state.asked, bytes))
    }

    /// Whether it answers: what is built may have failed since.
    pub(crate) fn is_ready(&self) -> bool {
        let built = self.built();
        built.is_ok_and(|built| built.failure().is_none()) && self.lock().phase == Phase::Ready
    }

    /// How busy it is, while it is ready.
    pub(crate) fn ready_load(&self) -> Option<Load> {
        let built = {
            let state = self.lock();
            Arc::clone(
                state
                    .built
                    .as_ref()
                    .filter(|_| state.phase == Phase::Ready)?,
            )
        };
        Some(built.backend.load())
    }

    /// Says that it stands still, or that it goes on.
    pub(crate) fn set_stalled(&self, cause: Option<String>) {
        self.lock().stalled = cause;
    }

    pub(crate) fn is_unloading(&self) -> bool {
        self.lock().phase == Phase::Unloading
    }

    /// Changes how many workers there are; a native engine has one, which works on all requests.
    pub(crate) fn scale(&self, min: Option<usize>, max: Option<usize>) -> Result<Scaled, Phase> {
        let built = {
            let state = self.lock();
            match (&state.built, &state.phase) {
                (Some(built), Phase::Ready) => Arc::clone(built),
                (_, phase) => return Err(phase.clone()),
            }
        };
        Ok(match &built.pool {
            None => {
                tracing::info!(
                    "model {}: its workers stay one: the native engine batches all requests itself",
                    self.label()
                );
                Scaled { min: 1, max: 1 }
            }
            Some(pool) => {
                let now = pool.crew();
                let least = min.unwrap_or(now.min).max(1);
                let most = max.unwrap_or(now.max.max(least));
                pool.scale(least.min(most.max(1)), most.max(1))
            }
        })
    }

    fn built(&self) -> Result<Arc<Built>, ServeError> {
        let state = self.lock();
        match (&state.built, &state.phase) {
            // Whoever holds it may still ask.
            (Some(built), Phase::Ready | Phase::Unloading) => Ok(Arc::clone(built)),
            (_, phase) => Err(ServeError::NotReady {
                model: self.name().to_owned(),
                phase: phase.to_string(),
            }),
        }
    }

    fn task(&self) -> Option<Task> {
        let built = self.lock().built.clone();
        built?.backend.task()
    }

    fn formatters(&self) -> Option<Arc<Formatters>> {
        let state = self.lock();
        state.built.as_ref()?.formatters.clone()
    }

    /// The truth of now: a ready model whose backend has failed is failed.
    pub(crate) fn status(&self) -> ModelStatus {
        let (built, phase, progress, times, since) = {
            let state = self.lock();
            let phase = match (&state.phase, &state.stalled) {
                (Phase::Ready, Some(cause)) => Phase::Stalled(cause.clone()),
                (phase, _) => phase.clone(),
            };
            let times = state.times.so_far(state.progress);
            (
                state.built.clone(),
                phase,
                state.progress,
                times,
                state.since,
            )
        };
        let built = built.as_deref();
        let broken = built
            .and_then(Built::failure)
            .filter(|_| phase != Phase::Unloading);
        ModelStatus {
            name: self.settings.name.clone(),
            version: self.settings.version.clone(),
            url: self.settings.url.clone(),
            at_startup: self.at_startup,
            phase: broken.map_or(phase, Phase::Failed),
            progress,
            times,
            load: built.map_or_else(Load::default, |built| built.backend.load()),
            task: built.and_then(|built| built.backend.task()),
            crew: self.crew(built, since),
            batching: manner::batching(&self.settings),
        }
    }

    fn crew(&self, built: Option<&Built>, since: SystemTime) -> Crew {
        match (built, &self.settings.python) {
            (
                Some(Built {
                    pool: Some(pool), ..
                }),
                _,
            ) => pool.crew(),
            (
                Some(Built {
                    replicas: Some(replicas),
                    ..
                }),
                _,
            ) => replicas.crew(),
            (Some(_), _) => Crew {
                min: 1,
                max: 1,
                workers: vec![Worker {
                    id: 1,
                    since,
                    is_ready: true,
                }],
            },
            (None, Some(python)) => {
                let (min, max) = python::limits(python);
                Crew {
                    min,
                    max,
                    workers: vec![],
                }
            }
            (None, None) => Crew {
                min: 1,
                max: 1,
                workers: vec![],
            },
        }
    }
}

/// A model that a request holds: it stays until all are dropped.
pub(crate) struct Lease(Arc<Entry>);

impl Served for Lease {
    fn status(&self) -> ModelStatus {
        self.0.status()
    }

    fn task(&self) -> Option<Task> {
        self.0.task()
    }

    fn manner(&self) -> &Manner {
        &self.0.manner
    }

    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.0.built()?.backend.submit(job)
    }

    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        self.0.built().ok()?.backend.adapters()
    }

    fn takes_raw(&self) -> bool {
        self.0.settings.python.is_some()
    }

    fn formats(&self) -> Formats {
        self.0
            .formatters()
            .map_or_else(Formats::default, |found| found.formats())
    }

    fn format(&self, job: Job) -> Result<(), ServeError> {
        let built = self.0.built()?;
        match &built.formatters {
            Some(formatters) => formatters.submit(job),
            None => Err(ServeError::UnknownModel(self.0.name().to_owned())),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.lock().leases -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
pub(crate) mod tests;
