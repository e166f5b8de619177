//! Objects on their way to the disk: who loads them waits for the bytes that it needs, not for the last one.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sconce_config::S3Model;
use sconce_core::{Observer, Phase, Progress};
use sconce_engine::{Numbers, Part};

use super::error::{Problem, S3Error};
use super::fetch::PART;
use crate::coming::Fetching;
use crate::error::ManagerError;

/// The time between two signs of life of who waits.
const TICK: Duration = Duration::from_millis(500);

/// What has arrived, shared between who fetches and who loads.
pub(super) struct Arriving {
    model: S3Model,
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Arrived>,
    progress: Progress,
    end: Option<Result<(), Problem>>,
    is_abandoned: bool,
}

/// A file, and which of its parts are there.
struct Arrived {
    file: Arc<File>,
    parts: Vec<bool>,
}

impl Arriving {
    pub(super) fn new(model: &S3Model, dir: PathBuf) -> Self {
        Self {
            model: model.clone(),
            dir,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file of which some parts may be there.
    pub(super) fn open(&self, name: &str, file: Arc<File>, size: u64, is_whole: bool) {
        let parts = vec![is_whole; size.div_ceil(PART) as usize];
        self.lock()
            .files
            .insert(name.to_owned(), Arrived { file, parts });
    }

    /// The part that begins there has been written; false: nobody wants the others any more.
    pub(super) fn arrived(&self, name: &str, begin: u64, progress: Progress) -> bool {
        let mut state = self.lock();
        state.progress = progress;
        let file = state.files.get_mut(name);
        let part = file.and_then(|file| file.parts.get_mut((begin / PART) as usize));
        if let Some(part) = part {
            *part = true;
        }
        self.changed.notify_all();
        !state.is_abandoned
    }

    /// Everything has come, or nothing more will.
    pub(super) fn end(&self, end: Result<(), Problem>) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    fn error(&self, problem: Problem) -> ManagerError {
        ManagerError::S3(Box::new(S3Error::new(&self.model, problem)))
    }

    /// The file, once it has these bytes.
    fn wait_for(
        &self,
        name: &str,
        bytes: &Range<u64>,
        alive: &dyn Fn(),
    ) -> Result<Arc<File>, Problem> {
        let mut state = self.lock();
        loop {
            let arrived = state.files.get(name).filter(|arrived| {
                let parts = bytes.start / PART..bytes.end.div_ceil(PART);
                let parts = arrived.parts.get(parts.start as usize..parts.end as usize);
                parts.is_some_and(|parts| parts.iter().all(|there| *there))
            });
            if let Some(arrived) = arrived {
                return Ok(Arc::clone(&arrived.file));
            }
            match &state.end {
                Some(Err(problem)) => return Err(problem.clone()),
                Some(Ok(())) => return Err(Problem::unlisted(name)),
                None if state.is_abandoned => return Err(Problem::Abandoned),
                None => {}
            }
            let waited = self.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            alive();
        }
    }
}

impl Numbers for Arriving {
    fn read(&self, part: &Part, target: &mut [u8], alive: &dyn Fn()) -> Result<(), String> {
        let file = self.wait_for(&part.file, &part.bytes, alive);
        let file = file.map_err(|problem| problem.to_string())?;
        let read = file.read_exact_at(target, part.bytes.start);
        read.map_err(|cause| Problem::cache(&self.dir.join(&*part.file), &cause).to_string())
    }

    /// They come in the order of the files, whatever is read first.
    fn expect(&self, _: Vec<Part>) {}
}

impl Fetching for Arriving {
    fn numbers(self: Arc<Self>) -> Arc<dyn Numbers> {
        self
    }

    fn kept(&self) -> Option<PathBuf> {
        Some(self.dir.clone())
    }

    fn wait(&self, observer: &Observer) -> Result<(), ManagerError> {
        let mut state = self.lock();
        loop {
            if let Some(end) = &state.end {
                return end.clone().map_err(|problem| self.error(problem));
            }
            let progress = state.progress;
            drop(state);
            observer(Phase::Fetching, progress);
            let waited = self.changed.wait_timeout(self.lock(), TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn failure(&self) -> Option<ManagerError> {
        let problem = self.lock().end.clone()?.err()?;
        Some(self.error(problem))
    }

    fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.changed.notify_all();
    }
}
