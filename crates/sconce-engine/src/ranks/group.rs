//! Several ranks, a thread for each, under a watch. What they are told they all do, or the group is
//! of no use any more: the first failure is the one that is told, because the others only fail for
//! lack of that rank. A thread that does not end is left behind, so that nothing ever waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sconce_core::inbox::panic_message;
use sconce_nn::{GroupHandle, Place, Silence, Threads};
use tracing::warn;

use super::{Obey, RankLoader, Seat};
use crate::error::EngineError;

/// What the engine waits longer than the ranks do, so that those who wait for each other say first
/// in which operation.
const GRACE: Duration = Duration::from_millis(500);

/// So long the threads have to end when the group does.
const FAREWELL: Duration = Duration::from_secs(1);

/// Several ranks, seen from the engine's thread.
pub struct Group<R: Obey> {
    members: Vec<Member<R>>,
    reports: Receiver<Report<R::Answer>>,
    handle: GroupHandle,
    patience: Duration,
}

struct Member<R: Obey> {
    orders: Sender<R::Order>,
    thread: JoinHandle<()>,
}

/// What a rank has to say.
struct Report<A> {
    rank: usize,
    news: News<A>,
}

enum News<A> {
    Progress(u64, u64),
    Loaded,
    Done(A),
    /// The group's handle knows why; loading also has an error of its own.
    Failed(Option<EngineError>),
}

impl<R: Obey> Group<R> {
    pub(super) fn load(
        world: usize,
        patience: Duration,
        loader: &Arc<RankLoader<R>>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, EngineError> {
        let ranks = Threads::group_within(world, patience);
        let handle = ranks[0].handle();
        let (tell, reports) = channel();
        let mut group = Self {
            members: Vec::with_capacity(world),
            reports,
            handle,
            patience,
        };
        for (rank, communicator) in ranks.into_iter().enumerate() {
            let reporter = Reporter {
                rank,
                tell: tell.clone(),
                handle: group.handle.clone(),
            };
            let loader = Arc::clone(loader);
            group
                .members
                .push(Member::spawn(reporter, communicator, loader)?);
        }
        drop(tell);
        group.gather(progress)?;
        Ok(group)
    }

    pub(super) fn obey(&mut self, place: Place, order: &R::Order) -> Result<R::Answer, String> {
        self.handle.enter(place);
        for (rank, member) in self.members.iter().enumerate() {
            if member.orders.send(order.clone()).is_err() {
                // It said why, if it could.
                self.handle.fail(rank, "its thread ended".into());
            }
        }
        match self.gather(&mut |_, _| {}) {
            Ok(News::Done(answer)) => Ok(answer),
            Ok(_) => Err("rank 0 did something else than it was told".into()),
            Err(failed) => Err(failed.to_string()),
        }
    }

    /// Waits until all ranks have done what they were told; what rank 0 has to say.
    fn gather(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<News<R::Answer>, EngineError> {
        let mut unfinished: Vec<usize> = (0..self.members.len()).collect();
        let mut leader = None;
        // Who waits for the ranks lives as long as they do.
        let mut silence = Silence::of(self.handle.pulse(), self.patience + GRACE).passed_on();
        loop {
            match self.reports.recv_timeout(silence.tick()) {
                Ok(Report { rank, news }) => match news {
                    News::Progress(done, total) => progress(done, total),
                    News::Failed(error) => return Err(self.failed(rank, error)),
                    done => {
                        unfinished.retain(|&other| other != rank);
                        if rank == 0 {
                            leader = Some(done);
                        }
                    }
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let rank = unfinished.first().copied().unwrap_or_default();
                    self.handle.fail(rank, "its thread ended".into());
                    return Err(self.failed(rank, None));
                }
            }
            if unfinished.is_empty() {
                return Ok(leader.expect("rank 0 is among those that finished"));
            }
            if silence.is_too_long() {
                self.handle.stalled(&unfinished, self.patience);
                return Err(self.failed(unfinished[0], None));
            }
        }
    }

    /// The first failure, or the error with which a rank could not be loaded.
    fn failed(&self, rank: usize, error: Option<EngineError>) -> EngineError {
        match (error, self.handle.failure()) {
            (Some(cause), _) => EngineError::Loading {
                rank,
                cause: Box::new(cause),
            },
            (None, Some(failure)) => EngineError::Group(failure),
            (None, None) => EngineError::Rank {
                rank,
                cause: "it did not say why".into(),
            },
        }
    }
}

impl<R: Obey> Drop for Group<R> {
    fn drop(&mut self) {
        self.handle.stop("the model is stopped");
        let deadline = Instant::now() + FAREWELL;
        for (rank, Member { orders, thread }) in self.members.drain(..).enumerate() {
            drop(orders);
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A panic of the thread was recorded where it happened.
                let _ = thread.join();
            } else {
                warn!("the thread of rank {rank} does not end; it is left behind");
            }
        }
    }
}

impl<R: Obey> Member<R> {
    fn spawn(
        reporter: Reporter<R::Answer>,
        communicator: Threads,
        loader: Arc<RankLoader<R>>,
    ) -> Result<Self, EngineError> {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("rank-{}", reporter.rank))
            .spawn(move || {
                let _attached = reporter.handle.pulse().attach();
                let loaded = reporter.load(communicator, &*loader);
                // It has what weights come from.
                drop(loader);
                if let Some(rank) = loaded {
                    reporter.follow(rank, &inbox);
                }
            })
            .map_err(|source| EngineError::System {
                what: "starting a rank's thread",
                source,
            })?;
        Ok(Self { orders, thread })
    }
}

/// A rank's end of the talk with the engine.
struct Reporter<A> {
    rank: usize,
    tell: Sender<Report<A>>,
    handle: GroupHandle,
}

impl<A: Send + 'static> Reporter<A> {
    fn say(&self, news: News<A>) {
        // The receiver is gone only if the group was given up meanwhile.
        let _ = self.tell.send(Report {
            rank: self.rank,
            news,
        });
    }

    /// Loads the rank's model; `None`: that failed, and was said.
    fn load<R>(&self, communicator: Threads, loader: &RankLoader<R>) -> Option<R> {
        let mut progress = |done, total| {
            self.handle.pulse().beat();
            if self.rank == 0 {
                self.say(News::Progress(done, total));
            }
        };
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            loader(Seat::Member(communicator), &mut progress)
        }));
        match loaded {
            Ok(Ok(rank)) => {
                self.say(News::Loaded);
                return Some(rank);
            }
            Ok(Err(error)) => {
                self.handle.fail(self.rank, error.to_string());
                self.say(News::Failed(Some(error)));
            }
            Err(panic) => {
                self.handle.fail(self.rank, panic_message(&*panic));
                self.say(News::Failed(None));
            }
        }
        None
    }

    /// Obeys until the channel closes or something fails, which the group hears of before the rank
    /// is dropped and its communicator with it.
    fn follow<R: Obey<Answer = A>>(&self, mut rank: R, inbox: &Receiver<R::Order>) {
        for order in inbox {
            let outcome = catch_unwind(AssertUnwindSafe(|| rank.obey(order)));
            match outcome.unwrap_or_else(|panic| Err(panic_message(&*panic))) {
                Ok(done) => self.say(News::Done(done)),
                Err(cause) => {
                    self.handle.fail(self.rank, cause);
                    return self.say(News::Failed(None));
                }
            }
        }
    }
}
