//! What the workers of a model share: the jobs that wait, who is up, and whether the model has
//! failed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sconce_core::{Crew, Event, JobId, Load, RawInput, Reply, ServeError, Worker};
use tracing::{error, warn};

use crate::package::Package;
use crate::settings::PythonSettings;
use crate::watch::TICK;

/// After so many failed starts in a row, with no worker up, the model has failed until one starts.
const STRIKES: usize = 3;
/// The longest pause before a start.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A job that waits for a worker, or is with one.
pub(crate) struct Waiting {
    pub(crate) id: JobId,
    pub(crate) input: RawInput,
    pub(crate) reply: Box<dyn Reply>,
    pub(crate) deadline: Instant,
}

impl Waiting {
    pub(crate) fn fail(mut self, error: ServeError) {
        self.reply.send(Event::Failed(error));
    }
}

/// What a worker does next.
pub(crate) enum Next {
    /// Answers these, at least one.
    Batch(Vec<Waiting>),
    /// Ends: nobody needs it, or the model is stopped.
    End,
    /// Is started again: its process has ended while it was idle.
    Restart,
}

/// The pool, as its workers and its callers see it.
pub(crate) struct Shared {
    pub(crate) settings: PythonSettings,
    pub(crate) package: Package,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// By number; `None`: there is no such worker.
    workers: Vec<Option<Slot>>,
    /// As many workers there always are, and at most.
    limits: (usize, usize),
    running: usize,
    stopping: bool,
    /// Of workers, since the start.
    failures: usize,
    /// Why the model has failed for good.
    broken: Option<String>,
    /// Why no worker is up, after several attempts.
    down: Option<String>,
}

/// A worker that is there.
#[derive(Clone, Copy)]
struct Slot {
    condition: Condition,
    since: SystemTime,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Starting,
    Idle,
    Busy,
}

impl Shared {
    pub(crate) fn new(settings: PythonSettings, package: Package) -> Self {
        let limits = (settings.workers.min, settings.workers.max);
        Self {
            settings,
            package,
            state: Mutex::new(State {
                limits,
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job; the number of a worker that should be started for it, if any.
    pub(crate) fn submit(&self, job: Waiting) -> Result<Option<usize>, ServeError> {
        let settings = &self.settings;
        let mut state = self.lock();
        if state.stopping {
            return Err(ServeError::Draining);
        }
        if let Some(cause) = state.failure() {
            return Err(ServeError::NotReady {
                model: settings.name.clone(),
                phase: format!("failed: {cause}"),
            });
        }
        let full = state.queue.len() >= settings.queue;
        if !full {
            state.queue.push_back(job);
            self.changed.notify_all();
        }
        // One worker takes all requests of a handler that is a coroutine.
        let crowded =
            !settings.asynchronous && (full || state.queue.len() > 2 * settings.at_once());
        let grown = crowded.then(|| state.add_worker());
        if full {
            return Err(ServeError::QueueFull {
                model: settings.name.clone(),
                limit: settings.queue,
            });
        }
        Ok(grown.flatten())
    }

    /// Makes room for a worker; `None`: there are as many as there may be.
    pub(crate) fn add_worker(&self) -> Option<usize> {
        self.lock().add_worker()
    }

    /// Whether the number of workers can change: one of a handler that works on many requests at
    /// once takes all of them.
    pub(crate) fn is_fixed(&self) -> bool {
        self.settings.asynchronous || self.settings.rolling.is_some()
    }

    /// Changes how many workers there are; the numbers of those that should be started now. Those
    /// that are too many end when they have answered what they have.
    pub(crate) fn scale(&self, min: usize, max: usize) -> Vec<usize> {
        let mut state = self.lock();
        state.limits = (min, max);
        let missing = min.saturating_sub(state.count());
        let added = (0..missing).map_while(|_| state.add_worker()).collect();
        drop(state);
        self.changed.notify_all();
        added
    }

    /// The workers that are there.
    pub(crate) fn crew(&self) -> Crew {
        let state = self.lock();
        let worker = |(index, slot): (usize, &Option<Slot>)| {
            slot.map(|slot| Worker {
                id: index + 1,
                since: slot.since,
                is_ready: slot.condition != Condition::Starting,
            })
        };
        Crew {
            min: state.limits.0,
            max: state.limits.1.max(state.limits.0),
            workers: state
                .workers
                .iter()
                .enumerate()
                .filter_map(worker)
                .collect(),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Whether workers are no longer wanted: the model is stopped, or has failed for good.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.stopping || state.broken.is_some()
    }

    pub(crate) fn load(&self) -> Load {
        let state = self.lock();
        Load {
            queued: state.queue.len(),
            running: state.running,
            batch: state.running,
            ..Load::default()
        }
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure()
    }

    /// Ends the pool: jobs that wait fail.
    pub(crate) fn stop(&self) {
        let waiting = {
            let mut state = self.lock();
            state.stopping = true;
            std::mem::take(&mut state.queue)
        };
        self.changed.notify_all();
        waiting
            .into_iter()
            .for_each(|job| job.fail(ServeError::Draining));
    }

    /// The worker has loaded its model.
    pub(crate) fn up(&self, index: usize) {
        let mut state = self.lock();
        state.down = None;
        // Another process than before.
        state.set(index, None);
        state.set(index, Some(Condition::Idle));
    }

    /// The worker's thread ends.
    pub(crate) fn leave(&self, index: usize) {
        self.lock().set(index, None);
        self.changed.notify_all();
    }

    /// The worker has answered.
    pub(crate) fn idle(&self, index: usize, answered: usize) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(answered);
        state.set(index, Some(Condition::Idle));
    }

    /// The worker's process is gone, with so many jobs.
    pub(crate) fn lost(&self, index: usize, jobs: usize, cause: &str) {
        let name = &self.settings.name;
        error!("{name}-{index}: the Python worker {cause}");
        let mut state = self.lock();
        state.running = state.running.saturating_sub(jobs);
        state.set(index, Some(Condition::Starting));
        self.count_failure(state, &format!("worker {index} {cause}"));
    }

    /// The worker does not start, for the n-th time in a row. Whether it should try again.
    pub(crate) fn start_failed(&self, index: usize, strikes: usize, cause: &str) -> bool {
        warn!("{}-{index}: {cause}", self.settings.name);
        let mut state = self.lock();
        let alone = !state.is_up();
        if alone && strikes >= STRIKES {
            state.down = Some(cause.to_owned());
            let waiting = std::mem::take(&mut state.queue);
            drop(state);
            self.refuse(waiting, cause);
            state = self.lock();
        }
        self.count_failure(state, cause);
        alone || strikes < STRIKES
    }

    fn count_failure(&self, mut state: MutexGuard<'_, State>, cause: &str) {
        state.failures += 1;
        let failures = state.failures;
        let Some(threshold) = self.settings.workers.retry_threshold else {
            return;
        };
        if failures <= threshold || state.broken.is_some() {
            return;
        }
        let cause =
            format!("{failures} failures of workers exceed retry_threshold = {threshold}: {cause}");
        error!("model {} has failed: {cause}", self.settings.name);
        state.broken = Some(cause.clone());
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        self.changed.notify_all();
        self.refuse(waiting, &cause);
    }

    fn refuse(&self, waiting: VecDeque<Waiting>, cause: &str) {
        for job in waiting {
            job.fail(ServeError::NotReady {
                model: self.settings.name.clone(),
                phase: format!("failed: {cause}"),
            });
        }
    }

    /// Waits before the start that follows so many failures in a row; false: no start is wanted.
    pub(crate) fn pause(&self, strikes: usize) -> bool {
        let until = Instant::now() + pause(strikes);
        let mut state = self.lock();
        loop {
            if state.stopping || state.broken.is_some() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.wait(state, left);
        }
    }

    /// Waits for jobs; `ended` tells whether the worker's process has ended.
    pub(crate) fn next(&self, index: usize, ended: &dyn Fn() -> bool) -> Next {
        let max_idle = self.settings.workers.max_idle;
        let since = Instant::now();
        let mut state = self.lock();
        loop {
            if state.stopping || state.broken.is_some() {
                return Next::End;
            }
            if ended() {
                return Next::Restart;
            }
            if state.count() > state.limits.1.max(state.limits.0) {
                state.set(index, None);
                return Next::End;
            }
            if let Some(first) = self.take(&mut state) {
                let batch;
                (state, batch) = self.fill(state, first);
                state.running += batch.len();
                state.set(index, Some(Condition::Busy));
                return Next::Batch(batch);
            }
            if since.elapsed() >= max_idle && state.count() > state.limits.0 {
                state.set(index, None);
                return Next::End;
            }
            state = self.wait(state, 2 * TICK);
        }
    }

    /// A job for a worker that has others already; `None`: none came for so long.
    pub(crate) fn next_one(&self, index: usize, longest: Duration) -> Option<Waiting> {
        let until = Instant::now() + longest;
        let mut state = self.lock();
        loop {
            if state.stopping || state.broken.is_some() {
                return None;
            }
            if let Some(job) = self.take(&mut state) {
                state.running += 1;
                state.set(index, Some(Condition::Busy));
                return Some(job);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.wait(state, left);
        }
    }

    /// Collects more jobs, until the batch is full or its first has waited long enough.
    fn fill<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        first: Waiting,
    ) -> (MutexGuard<'a, State>, Vec<Waiting>) {
        let mut batch = vec![first];
        let until = Instant::now() + self.settings.max_batch_delay;
        while batch.len() < self.settings.batch_size {
            if let Some(job) = self.take(&mut state) {
                batch.push(job);
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stopping {
                break;
            }
            state = self.wait(state, left);
        }
        (state, batch)
    }

    /// The next job that somebody still waits for.
    fn take(&self, state: &mut State) -> Option<Waiting> {
        while let Some(mut job) = state.queue.pop_front() {
            if job.reply.gone() {
                tracing::debug!("{} is dropped: its client has left", job.id);
            } else if job.deadline <= Instant::now() {
                let seconds = self.settings.predict_timeout.as_secs();
                job.fail(ServeError::Timeout { seconds });
            } else {
                job.reply.begins();
                return Some(job);
            }
        }
        None
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, longest);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn failure(&self) -> Option<String> {
        self.broken.clone().or_else(|| self.down.clone())
    }

    fn add_worker(&mut self) -> Option<usize> {
        if self.count() >= self.limits.1.max(self.limits.0) {
            return None;
        }
        let free = self.workers.iter().position(Option::is_none);
        let index = free.unwrap_or(self.workers.len());
        self.set(index, Some(Condition::Starting));
        Some(index)
    }

    fn set(&mut self, index: usize, condition: Option<Condition>) {
        if self.workers.len() <= index {
            self.workers.resize(index + 1, None);
        }
        let began = self.workers[index].map(|slot| slot.since);
        self.workers[index] = condition.map(|condition| Slot {
            condition,
            since: began.unwrap_or_else(SystemTime::now),
        });
    }

    fn count(&self) -> usize {
        self.workers.iter().flatten().count()
    }

    fn is_up(&self) -> bool {
        let mut workers = self.workers.iter().flatten();
        workers.any(|slot| slot.condition != Condition::Starting)
    }
}

/// The first start follows at once, later ones after pauses that grow.
fn pause(strikes: usize) -> Duration {
    match strikes {
        0 | 1 => Duration::ZERO,
        more => {
            let doublings = u32::try_from(more - 2).unwrap_or(u32::MAX).min(16);
            (Duration::from_millis(100) * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let pauses: Vec<_> = (0..6).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800]);
        assert_eq!(pause(usize::MAX), LONGEST_PAUSE);
    }
}
