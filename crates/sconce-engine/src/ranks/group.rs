//! Several ranks, a thread for each, under a watch. What they are told they all do, or the group is
//! of no use any more: the first failure is the one that is told, because the others only fail for
//! lack of that rank. A thread that does not end is left behind, so that nothing ever waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use sconce_core::inbox::panic_message;
use sconce_nn::{GroupHandle, Place, Silence, Threads};
use sconce_sched::StepPlan;
use tracing::warn;

use super::{Loader, Rank};
use crate::error::EngineError;

/// What the engine waits longer than the ranks do, so that those who wait for each other say first
/// in which operation.
const GRACE: Duration = Duration::from_millis(500);

/// So long the threads have to end when the group does.
const FAREWELL: Duration = Duration::from_secs(1);

/// Several ranks, seen from the engine's thread.
pub(crate) struct Group {
    members: Vec<Member>,
    reports: Receiver<Report>,
    handle: GroupHandle,
    patience: Duration,
    vocab: usize,
    steps: u64,
}

struct Member {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

#[derive(Clone)]
enum Order {
    Reserve(usize),
    Step(Arc<StepPlan>),
}

/// What a rank has to say.
struct Report {
    rank: usize,
    news: News,
}

enum News {
    Progress(u64, u64),
    /// The width of a row of logits.
    Loaded(usize),
    Reserved,
    Logits(Tensor),
    /// The group's handle knows why; loading also has an error of its own.
    Failed(Option<EngineError>),
}

impl Group {
    pub(super) fn load(
        world: usize,
        patience: Duration,
        loader: &Arc<Loader>,
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
            vocab: 0,
            steps: 0,
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
        if let News::Loaded(vocab) = group.gather(progress)? {
            group.vocab = vocab;
        }
        Ok(group)
    }

    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    pub(super) fn reserve(&mut self, blocks: usize) -> Result<(), String> {
        self.tell(Place::Reserving, &Order::Reserve(blocks));
        let done = self.gather(&mut |_, _| {});
        done.map(drop).map_err(|failed| failed.to_string())
    }

    pub(super) fn forward(&mut self, plan: &StepPlan) -> Result<Tensor, String> {
        let place = Place::Step(self.steps);
        self.steps += 1;
        self.tell(place, &Order::Step(Arc::new(plan.clone())));
        match self.gather(&mut |_, _| {}) {
            Ok(News::Logits(logits)) => Ok(logits),
            Ok(_) => Err("rank 0 did something else than it was told".into()),
            Err(failed) => Err(failed.to_string()),
        }
    }

    fn tell(&self, place: Place, order: &Order) {
        self.handle.enter(place);
        for (rank, member) in self.members.iter().enumerate() {
            if member.orders.send(order.clone()).is_err() {
                // It said why, if it could.
                self.handle.fail(rank, "its thread ended".into());
            }
        }
    }

    /// Waits until all ranks have done what they were told; what rank 0 has to say.
    fn gather(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<News, EngineError> {
        let mut unfinished: Vec<usize> = (0..self.members.len()).collect();
        let mut leader = None;
        let mut silence = Silence::of(self.handle.pulse(), self.patience + GRACE);
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

impl Drop for Group {
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

impl Member {
    fn spawn(
        reporter: Reporter,
        communicator: Threads,
        loader: Arc<Loader>,
    ) -> Result<Self, EngineError> {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("rank-{}", reporter.rank))
            .spawn(move || {
                let _attached = reporter.handle.pulse().attach();
                if let Some(rank) = reporter.load(communicator, &*loader) {
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
struct Reporter {
    rank: usize,
    tell: Sender<Report>,
    handle: GroupHandle,
}

impl Reporter {
    fn say(&self, news: News) {
        // The receiver is gone only if the group was given up meanwhile.
        let _ = self.tell.send(Report {
            rank: self.rank,
            news,
        });
    }

    /// Loads the rank's model; `None`: that failed, and was said.
    fn load(&self, communicator: Threads, loader: &Loader) -> Option<Rank> {
        let mut progress = |done, total| {
            self.handle.pulse().beat();
            if self.rank == 0 {
                self.say(News::Progress(done, total));
            }
        };
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            loader(Box::new(communicator), &mut progress)
        }));
        match loaded {
            Ok(Ok(model)) => {
                let rank = Rank::new(model);
                self.say(News::Loaded(rank.vocab()));
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
    fn follow(&self, mut rank: Rank, inbox: &Receiver<Order>) {
        for order in inbox {
            let outcome = catch_unwind(AssertUnwindSafe(|| match order {
                Order::Reserve(blocks) => rank.reserve(blocks).map(|()| News::Reserved),
                Order::Step(plan) => rank.forward(&plan).map(News::Logits),
            }));
            match outcome.unwrap_or_else(|panic| Err(panic_message(&*panic))) {
                Ok(done) => self.say(done),
                Err(cause) => {
                    self.handle.fail(self.rank, cause);
                    return self.say(News::Failed(None));
                }
            }
        }
    }
}
