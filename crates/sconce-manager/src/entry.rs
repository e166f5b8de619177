//! One model: where it is on its way, and its backend once it is ready.

use std::sync::{Arc, PoisonError, RwLock};

use sconce_core::{Backend, Formats, Job, Load, ModelStatus, Phase, Progress, ServeError};
use sconce_python::Formatters;

use crate::build::Built;

/// A model by name, shared between its loading thread and the requests.
pub(crate) struct Entry {
    name: String,
    takes_raw: bool,
    state: RwLock<State>,
}

struct State {
    phase: Phase,
    progress: Progress,
    built: Option<Built>,
}

impl Entry {
    /// `takes_raw`: the model's own code answers, and takes raw jobs only.
    pub(crate) fn new(name: String, takes_raw: bool) -> Self {
        let state = State {
            phase: Phase::Pending,
            progress: Progress::default(),
            built: None,
        };
        Self {
            name,
            takes_raw,
            state: RwLock::new(state),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn takes_raw(&self) -> bool {
        self.takes_raw
    }

    /// Moves to a phase on the way to readiness; a model that has failed stays failed.
    pub(crate) fn advance(&self, phase: Phase, progress: Progress) {
        self.change(|state| (state.phase, state.progress) = (phase, progress));
    }

    /// The model answers from now on.
    pub(crate) fn ready(&self, built: Built) {
        self.change(|state| {
            (state.phase, state.progress) = (Phase::Ready, Progress::default());
            state.built = Some(built);
        });
    }

    /// The model will not answer; the first cause stays.
    pub(crate) fn fail(&self, cause: String) {
        self.change(|state| state.phase = Phase::Failed(cause));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(state.phase, Phase::Failed(_)) {
            change(&mut state);
        }
    }

    pub(crate) fn submit(&self, job: Job) -> Result<(), ServeError> {
        let backend = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            match (&state.built, &state.phase) {
                (Some(built), Phase::Ready) => Arc::clone(&built.backend),
                (_, phase) => return Err(self.not_ready(phase)),
            }
        };
        backend.submit(job)
    }

    fn not_ready(&self, phase: &Phase) -> ServeError {
        ServeError::NotReady {
            model: self.name.clone(),
            phase: phase.to_string(),
        }
    }

    fn formatters(&self) -> Result<Arc<Formatters>, Phase> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let built = state.built.as_ref();
        let formatters = built.and_then(|built| built.formatters.clone());
        formatters.ok_or_else(|| state.phase.clone())
    }

    /// Which functions of its own change requests and answers.
    pub(crate) fn formats(&self) -> Formats {
        self.formatters()
            .map_or_else(|_| Formats::default(), |found| found.formats())
    }

    /// Asks these functions.
    pub(crate) fn format(&self, job: Job) -> Result<(), ServeError> {
        match self.formatters() {
            Ok(formatters) => formatters.submit(job),
            Err(phase) => Err(self.not_ready(&phase)),
        }
    }

    /// The truth of now: a ready model whose backend has failed is failed.
    pub(crate) fn status(&self) -> ModelStatus {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let built = state.built.as_ref();
        let broken = built.and_then(Built::failure);
        ModelStatus {
            name: self.name.clone(),
            phase: broken.map_or_else(|| state.phase.clone(), Phase::Failed),
            progress: state.progress,
            load: built.map_or_else(Load::default, |built| built.backend.load()),
            task: built.and_then(|built| built.backend.task()),
        }
    }

    /// Takes the backend away and ends it.
    pub(crate) fn stop(&self) {
        let built = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.phase = Phase::Failed("it was stopped".into());
            state.built.take()
        };
        if let Some(built) = built {
            built.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_core::{Event, Generate, Input, JobId, Reply, Task};
    use std::time::Instant;

    struct Nobody;
    impl Reply for Nobody {
        fn send(&mut self, _: Event) -> bool {
            false
        }
        fn gone(&self) -> bool {
            true
        }
    }

    #[derive(Default)]
    struct Broken(Option<String>);
    impl Backend for Broken {
        fn submit(&self, _: Job) -> Result<(), ServeError> {
            Ok(())
        }
        fn task(&self) -> Option<Task> {
            Some(Task::TextGeneration)
        }
        fn load(&self) -> Load {
            Load {
                running: 3,
                ..Load::default()
            }
        }
        fn failure(&self) -> Option<String> {
            self.0.clone()
        }
        fn stop(&self) {}
    }

    fn built(backend: Broken) -> Built {
        Built {
            backend: Arc::new(backend),
            formatters: None,
        }
    }

    fn job() -> Job {
        let input = Input::Generate(Generate::default());
        Job {
            id: JobId(1),
            input,
            reply: Box::new(Nobody),
            deadline: Instant::now(),
        }
    }

    #[test]
    fn jobs_are_refused_with_the_phase_until_the_model_is_ready() {
        let entry = Entry::new("m".into(), false);
        entry.advance(Phase::Loading, Progress { done: 1, total: 2 });
        let refused = entry.submit(job()).unwrap_err().to_string();
        assert!(refused.contains("m (loading)"), "{refused}");
        entry.ready(built(Broken::default()));
        entry.submit(job()).unwrap();
        assert_eq!(entry.status().load.running, 3);
        entry.stop();
        assert!(entry.submit(job()).is_err());
    }

    #[test]
    fn a_ready_model_whose_backend_failed_is_failed() {
        let entry = Entry::new("m".into(), false);
        entry.ready(built(Broken(Some("rank 0: boom".into()))));
        assert_eq!(entry.status().phase, Phase::Failed("rank 0: boom".into()));
    }

    #[test]
    fn the_first_cause_of_a_failure_stays() {
        let entry = Entry::new("m".into(), false);
        entry.fail("first".into());
        entry.fail("second".into());
        entry.advance(Phase::Loading, Progress::default());
        assert_eq!(entry.status().phase, Phase::Failed("first".into()));
    }
}
