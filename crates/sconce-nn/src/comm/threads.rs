//! Ranks that are threads of this process. A rank that goes, or a group that is told to stop, wakes all that wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};

use super::Communicator;
use crate::error::NnError;

/// How long a rank waits for the others: beyond any step, short of an operator's patience.
const TIMEOUT: Duration = Duration::from_secs(600);

/// One rank of a group of threads.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    group: Arc<Group>,
}

/// Stops a group from outside.
#[derive(Clone, Debug)]
pub struct AbortHandle {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What each rank brought to the operation under way.
    brought: Vec<Option<Tensor>>,
    /// Who began the operation under way, and which it is.
    operation: Option<(usize, Operation)>,
    /// Number of operations that are complete.
    complete: u64,
    /// What all ranks brought to the last complete operation.
    gathered: Arc<[Tensor]>,
    /// How each rank went, if it did.
    gone: Vec<Option<&'static str>>,
    /// The ranks that went, in their order.
    departures: Vec<usize>,
    /// Why no operation will complete any more, for the ranks that are left.
    broken: Option<Broken>,
}

/// Why the group is of no use any more.
#[derive(Clone, Debug)]
enum Broken {
    Aborted(String),
    Mismatch {
        rank: usize,
        got: String,
        other: usize,
        wanted: String,
    },
    Timeout {
        waiting: usize,
        missing: Vec<usize>,
        after: Duration,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Operation {
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
        Self::group_with_timeout(world, TIMEOUT)
    }

    /// As [`Threads::group`], with the time after which a waiting rank gives up.
    pub fn group_with_timeout(world: usize, timeout: Duration) -> Vec<Self> {
        assert!(world > 0, "a group has at least one rank");
        let state = State {
            brought: vec![None; world],
            operation: None,
            complete: 0,
            gathered: Arc::new([]),
            gone: vec![None; world],
            departures: Vec::new(),
            broken: None,
        };
        let group = Arc::new(Group {
            timeout,
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

    /// A handle that stops the whole group.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle {
            group: Arc::clone(&self.group),
        }
    }

    /// Brings `x` and waits for what the other ranks bring, in the order of ranks.
    fn exchange(
        &self,
        x: &Tensor,
        operation: Operation,
    ) -> std::result::Result<Arc<[Tensor]>, NnError> {
        let name = operation.name();
        let mut state = self.group.lock();
        state.begin(self.rank, operation)?;
        let ticket = state.complete;
        state.brought[self.rank] = Some(x.clone());
        if state.brought.iter().all(Option::is_some) {
            state.gathered = state.brought.iter_mut().filter_map(Option::take).collect();
            state.operation = None;
            state.complete += 1;
            self.group.changed.notify_all();
            return Ok(Arc::clone(&state.gathered));
        }
        let began = Instant::now();
        while state.complete == ticket {
            state.blame(self.rank, name)?;
            let left = self.group.timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                let missing = state.missing();
                state.broken = Some(Broken::Timeout {
                    waiting: self.rank,
                    missing,
                    after: self.group.timeout,
                });
                self.group.changed.notify_all();
                continue;
            }
            let waited = self.group.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
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

impl AbortHandle {
    /// Fails the operation under way and all later ones with the reason.
    pub fn abort(&self, reason: &str) {
        self.group
            .lock()
            .broken
            .get_or_insert_with(|| Broken::Aborted(reason.to_owned()));
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
    fn begin(&mut self, rank: usize, operation: Operation) -> std::result::Result<(), NnError> {
        self.blame(rank, operation.name())?;
        let (other, wanted) = self
            .operation
            .get_or_insert_with(|| (rank, operation.clone()));
        if *wanted == operation {
            return Ok(());
        }
        let (got, other, wanted) = (operation.to_string(), *other, wanted.to_string());
        self.broken = Some(Broken::Mismatch {
            rank,
            got,
            other,
            wanted,
        });
        self.blame(rank, operation.name())
    }

    /// Fails when the operation under way cannot complete.
    fn blame(&self, waiting: usize, operation: &'static str) -> std::result::Result<(), NnError> {
        match self.broken.clone() {
            Some(Broken::Aborted(reason)) => return Err(NnError::Aborted { reason }),
            Some(Broken::Mismatch {
                rank,
                got,
                other,
                wanted,
            }) => {
                return Err(NnError::RankMismatch {
                    rank,
                    got,
                    other,
                    wanted,
                });
            }
            Some(Broken::Timeout {
                waiting,
                missing,
                after,
            }) => {
                return Err(NnError::RankTimeout {
                    waiting,
                    missing,
                    operation,
                    after,
                });
            }
            None => {}
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

    fn missing(&self) -> Vec<usize> {
        (0..self.brought.len())
            .filter(|&rank| self.brought[rank].is_none())
            .collect()
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
