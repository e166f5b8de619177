//! Ranks that are threads of this process. A rank that goes, a group that stands still, fails or is told to stop: each
//! wakes all that wait, and the first cause stays.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::{Result, Tensor};

use super::Communicator;
use super::failure::{GroupFailure, Place};
use crate::error::NnError;
use crate::pulse::{Pulse, Silence};

/// How long a silent group is waited for where nobody says: beyond any step, short of an operator's patience.
const PATIENCE: Duration = Duration::from_secs(600);

/// One rank of a group of threads.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    group: Arc<Group>,
}

/// A group seen from outside.
#[derive(Clone, Debug)]
pub struct GroupHandle {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    /// The longest silence.
    limit: Duration,
    pulse: Pulse,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What the ranks were told to do last.
    place: Place,
    /// What each rank brought to the operation under way.
    brought: Vec<Option<Tensor>>,
    /// Who began the operation under way, and which it is.
    operation: Option<(usize, Operation)>,
    /// Number of operations that are complete.
    complete: u64,
    /// What all ranks brought to the last complete operation.
    gathered: Arc<[Tensor]>,
    /// The last operation that each rank finished since it was told its place.
    finished: Vec<Option<Operation>>,
    /// How each rank went, if it did.
    gone: Vec<Option<&'static str>>,
    /// The ranks that went, in their order.
    departures: Vec<usize>,
    /// Why no operation will complete any more, for the ranks that are left.
    broken: Option<GroupFailure>,
}

/// A collective; all ranks of a group come to the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operation {
    AllReduce {
        shape: Vec<usize>,
    },
    /// `shape` with 0 in place of the joined dimension.
    AllGather {
        dim: usize,
        shape: Vec<usize>,
    },
}

impl Threads {
    /// The ranks of a group of `world`, to be moved into their threads.
    ///
    /// # Panics
    /// When `world` is 0.
    pub fn group(world: usize) -> Vec<Self> {
        Self::group_within(world, PATIENCE)
    }

    /// As [`Threads::group`], with the silence after which waiting ranks give up. What breaks a silence are collectives
    /// and the work of threads that are attached to [`GroupHandle::pulse`].
    pub fn group_within(world: usize, limit: Duration) -> Vec<Self> {
        assert!(world > 0, "a group has at least one rank");
        let state = State {
            place: Place::default(),
            brought: vec![None; world],
            operation: None,
            complete: 0,
            gathered: Arc::new([]),
            finished: vec![None; world],
            gone: vec![None; world],
            departures: Vec::new(),
            broken: None,
        };
        let group = Arc::new(Group {
            limit,
            pulse: Pulse::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        (0..world)
            .map(|rank| Self {
                rank,
                group: Arc::clone(&group),
            })
            .collect()
    }

    /// The group from outside.
    pub fn handle(&self) -> GroupHandle {
        GroupHandle {
            group: Arc::clone(&self.group),
        }
    }

    /// Says that this rank came to an operation that others than this group carry out.
    #[cfg(feature = "cuda")]
    pub(super) fn note(&self, operation: Operation) {
        self.group.pulse.beat();
        self.group.lock().finished[self.rank] = Some(operation);
    }

    /// Fails once the group is broken, or a rank has gone of which something is still needed.
    #[cfg(feature = "cuda")]
    pub(super) fn standing(
        &self,
        operation: &'static str,
        all_are_needed: bool,
    ) -> std::result::Result<(), NnError> {
        let state = self.group.lock();
        match state.broken.is_some() || all_are_needed {
            true => state.blame(self.rank, operation),
            // Who has all results may leave before the others have read theirs.
            false => Ok(()),
        }
    }

    /// Brings `x` and waits for what the other ranks bring, in the order of ranks.
    fn exchange(
        &self,
        x: &Tensor,
        operation: Operation,
    ) -> std::result::Result<Arc<[Tensor]>, NnError> {
        let Group { limit, pulse, .. } = &*self.group;
        let name = operation.name();
        let mut state = self.group.lock();
        state.begin(self.rank, &operation)?;
        pulse.beat();
        let ticket = state.complete;
        state.brought[self.rank] = Some(x.clone());
        if state.brought.iter().all(Option::is_some) {
            state.gathered = state.brought.iter_mut().filter_map(Option::take).collect();
            state.operation = None;
            state.complete += 1;
            self.group.changed.notify_all();
        }
        let mut silence = Silence::of(pulse, *limit);
        while state.complete == ticket {
            state.blame(self.rank, name)?;
            if silence.is_too_long() {
                state.give_up(self.rank, &operation, *limit);
                self.group.changed.notify_all();
                continue;
            }
            let waited = self.group.changed.wait_timeout(state, silence.tick());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.finished[self.rank] = Some(operation);
        // The next operation cannot complete without this rank, so these are still the right ones.
        Ok(Arc::clone(&state.gathered))
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.group.lock().gone.len()
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self.exchange(
            x,
            Operation::AllReduce {
                shape: x.dims().to_vec(),
            },
        )?;
        let mut parts = parts.iter();
        let first = parts.next().expect("a group has at least one rank").clone();
        parts.try_fold(first, |sum, part| sum + part)
    }

    fn all_gather(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        match shape.get_mut(dim) {
            Some(size) => *size = 0,
            None => {
                let (what, wanted) = ("the part of a rank", format!("a dimension {dim}"));
                return Err(NnError::Shape {
                    what,
                    shape,
                    wanted,
                }
                .into());
            }
        }
        let parts = self.exchange(x, Operation::AllGather { dim, shape })?;
        Tensor::cat(&parts, dim)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let how = if std::thread::panicking() {
            "panicked"
        } else {
            "left"
        };
        let mut state = self.group.lock();
        state.gone[self.rank] = Some(how);
        state.departures.push(self.rank);
        drop(state);
        self.group.changed.notify_all();
    }
}

impl GroupHandle {
    /// Says what the ranks are told to do next, for the message if they fail at it.
    pub fn enter(&self, place: Place) {
        let mut state = self.group.lock();
        state.place = place;
        state.finished.fill(None);
    }

    /// Fails the operation under way and all later ones: a rank says that it failed.
    pub fn fail(&self, rank: usize, cause: String) {
        self.break_with(|state| GroupFailure::Failed {
            rank,
            place: state.place,
            after: state.finished[rank].as_ref().map(ToString::to_string),
            cause,
        });
    }

    /// The same: so long there was no sign of life, and these ranks have not done what they were told.
    pub fn stalled(&self, unfinished: &[usize], silence: Duration) {
        self.break_with(|state| GroupFailure::Stalled {
            ranks: unfinished.to_vec(),
            place: state.place,
            waiting: None,
            silence,
        });
    }

    /// The same, with a reason from outside.
    pub fn stop(&self, reason: &str) {
        self.break_with(|_| GroupFailure::Stopped {
            reason: reason.to_owned(),
        });
    }

    /// The first failure.
    pub fn failure(&self) -> Option<GroupFailure> {
        self.group.lock().broken.clone()
    }

    /// Counts the group's signs of life.
    pub fn pulse(&self) -> &Pulse {
        &self.group.pulse
    }

    fn break_with(&self, failure: impl FnOnce(&State) -> GroupFailure) {
        let mut state = self.group.lock();
        if state.broken.is_none() {
            state.broken = Some(failure(&state));
        }
        drop(state);
        self.group.changed.notify_all();
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete at once, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Joins the operation under way or begins one.
    fn begin(&mut self, rank: usize, operation: &Operation) -> std::result::Result<(), NnError> {
        self.blame(rank, operation.name())?;
        let (other, wanted) = self
            .operation
            .get_or_insert_with(|| (rank, operation.clone()));
        if *wanted == *operation {
            return Ok(());
        }
        self.broken = Some(GroupFailure::Mismatch {
            rank,
            got: operation.to_string(),
            other: *other,
            wanted: wanted.to_string(),
        });
        self.blame(rank, operation.name())
    }

    /// Fails when the operation under way cannot complete.
    fn blame(&self, waiting: usize, operation: &'static str) -> std::result::Result<(), NnError> {
        if let Some(failure) = self.broken.clone() {
            return Err(NnError::Group {
                waiting,
                operation,
                failure,
            });
        }
        // The first one: others may have left because of it.
        let lost = |rank: &&usize| self.brought[**rank].is_none();
        match self.departures.iter().find(lost) {
            Some(&rank) => Err(NnError::RankGone {
                rank,
                waiting,
                how: self.gone[rank].unwrap_or("left"),
                operation,
            }),
            None => Ok(()),
        }
    }

    fn give_up(&mut self, waiting: usize, operation: &Operation, silence: Duration) {
        let missing = (0..self.brought.len()).filter(|&rank| self.brought[rank].is_none());
        self.broken = Some(GroupFailure::Stalled {
            ranks: missing.collect(),
            place: self.place,
            waiting: Some((waiting, operation.to_string())),
            silence,
        });
    }
}

impl Operation {
    fn name(&self) -> &'static str {
        match self {
            Self::AllReduce { .. } => "all_reduce",
            Self::AllGather { .. } => "all_gather",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllReduce { shape } => write!(out, "all_reduce of {shape:?}"),
            Self::AllGather { dim, shape } => write!(out, "all_gather of {shape:?} along {dim}"),
        }
    }
}

#[cfg(test)]
#[path = "threads_tests.rs"]
mod tests;
