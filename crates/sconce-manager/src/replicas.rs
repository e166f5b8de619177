//! Several engines of one model, each on devices of its own. A job goes to the one that has least to do, and stays there.
//! One that has failed, or stands still, gets no more jobs; the model has failed when all have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sconce_core::{Adapters, Backend, Crew, Job, Load, ServeError, Task, Worker};
use tracing::{error, warn};

/// A replica that has something to do and shows no sign of life for so long stands still.
const PATIENCE: Duration = Duration::from_secs(10);

/// Engines of one model.
pub(crate) struct Replicas {
    model: String,
    engines: Vec<Arc<dyn Backend>>,
    seen: Mutex<Vec<Seen>>,
    /// Whose turn it is among equals.
    turn: AtomicUsize,
    since: SystemTime,
}

/// What was seen of a replica when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    signs: u64,
    /// When they last rose, or there was nothing to do.
    at: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Works,
    Stalled,
    Failed,
}

impl Replicas {
    /// Of the model of that name, at least one.
    pub(crate) fn new(model: &str, engines: Vec<Arc<dyn Backend>>) -> Self {
        let seen = Seen {
            signs: 0,
            at: Instant::now(),
            state: State::Works,
        };
        Self {
            model: model.to_owned(),
            seen: Mutex::new(vec![seen; engines.len()]),
            engines,
            turn: AtomicUsize::default(),
            since: SystemTime::now(),
        }
    }

    /// Who works, for those who manage models.
    pub(crate) fn crew(&self) -> Crew {
        let states = self.look(Instant::now());
        let workers = states.iter().zip(1..).map(|((state, _), id)| Worker {
            id,
            since: self.since,
            is_ready: *state == State::Works,
        });
        Crew {
            min: self.engines.len(),
            max: self.engines.len(),
            workers: workers.collect(),
        }
    }

    /// The state and load of each; says in the log what has changed.
    fn look(&self, now: Instant) -> Vec<(State, Load)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.engines.len();
        let look = |((engine, seen), number): ((&Arc<dyn Backend>, &mut Seen), usize)| {
            let (load, failure) = (engine.load(), engine.failure());
            let before = seen.state;
            seen.look(&load, failure.is_some(), now);
            let who = format!("replica {number} of {count}");
            match (before, seen.state, failure) {
                (State::Works | State::Stalled, State::Failed, Some(cause)) => error!(
                    model = self.model,
                    "{who} has failed, and the others answer without it: {cause}"
                ),
                (State::Works, State::Stalled, _) => warn!(
                    model = self.model,
                    "{who} shows no sign of life for {PATIENCE:?} and gets no more requests until it does"
                ),
                (State::Stalled, State::Works, _) => warn!(model = self.model, "{who} goes on"),
                _ => {}
            }
            (seen.state, load)
        };
        let all = self.engines.iter().zip(seen.iter_mut()).zip(1..);
        all.map(look).collect()
    }

    /// The replica that gets the next job.
    fn choose(&self, now: Instant) -> Result<usize, ServeError> {
        let states = self.look(now);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = states.len();
        let after = |index: &usize| (index + count - turn % count) % count;
        let of = |state: State| {
            let able = (0..count).filter(|&index| states[index].0 == state);
            able.min_by_key(|index| {
                let load = states[*index].1;
                (load.queued + load.running, after(index))
            })
        };
        // One that stands still may go on; one that has failed never does.
        of(State::Works)
            .or_else(|| of(State::Stalled))
            .ok_or_else(|| ServeError::Engine {
                model: self.model.clone(),
                cause: self.failure().unwrap_or_else(|| "it was stopped".into()),
            })
    }
}

impl Seen {
    fn look(&mut self, load: &Load, has_failed: bool, now: Instant) {
        if has_failed {
            self.state = State::Failed;
            return;
        }
        if !load.works || load.signs != self.signs {
            (self.signs, self.at, self.state) = (load.signs, now, State::Works);
        } else if now.saturating_duration_since(self.at) >= PATIENCE {
            self.state = State::Stalled;
        }
    }
}

impl Backend for Replicas {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.engines[self.choose(Instant::now())?].submit(job)
    }

    fn task(&self) -> Option<Task> {
        self.engines.first()?.task()
    }

    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        // They are the processor's, where there is one engine.
        None
    }

    fn load(&self) -> Load {
        let loads = self.look(Instant::now()).into_iter();
        loads.fold(Load::default(), |all, (_, one)| Load {
            queued: all.queued + one.queued,
            running: all.running + one.running,
            used_blocks: all.used_blocks + one.used_blocks,
            total_blocks: all.total_blocks + one.total_blocks,
            batch: all.batch + one.batch,
            steps: all.steps + one.steps,
            batches: all.batches + one.batches,
            tokens: all.tokens + one.tokens,
            prefix_queries: all.prefix_queries + one.prefix_queries,
            prefix_hits: all.prefix_hits + one.prefix_hits,
            preemptions: all.preemptions + one.preemptions,
            works: all.works || one.works,
            signs: all.signs + one.signs,
        })
    }

    fn failure(&self) -> Option<String> {
        let mut causes = self.engines.iter().map(|engine| engine.failure());
        let first = causes.next()??;
        causes.all(|cause| cause.is_some()).then_some(first)
    }

    fn prove_every(&self, pause: Option<Duration>) {
        self.engines
            .iter()
            .for_each(|engine| engine.prove_every(pause));
    }

    fn stop(&self) {
        // Each may have to wait for its ranks.
        std::thread::scope(|scope| {
            for engine in &self.engines {
                scope.spawn(|| engine.stop());
            }
        });
    }
}

#[cfg(test)]
mod tests;
