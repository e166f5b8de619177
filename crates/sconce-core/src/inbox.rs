//! The way of jobs into an engine's thread: a bounded queue, the thread, and the first cause of its end.
//!
//! Engines differ in what they queue and in what their thread does. What they have in common is here: who comes is
//! counted at the door and refused when the queue is full, loading happens in the thread and is waited for, whoever is
//! at hand hears the cause of an end, and stopping joins the thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::error;

use crate::error::ServeError;
use crate::gauges::{Gauges, Permit};
use crate::status::Load;

/// What can wait in an inbox.
pub trait Queued: Send + 'static {
    /// Tells whoever waits for it that it fails.
    fn fail(self, error: ServeError);
}

/// What an engine's thread does. It is built in that thread and stays there.
pub trait Worker {
    /// What it computes.
    type Job: Queued;
    /// Computes what comes out of `outbox` until that is over, or until nothing can be computed any more: then the cause.
    fn run(&mut self, outbox: &Outbox<Self::Job>) -> Result<(), String>;
    /// Tells everybody whose job it has taken.
    fn fail_all(&mut self, error: &ServeError);
}

/// When a thread that has nothing to do proves that it computes.
#[derive(Default)]
struct Proofs {
    /// In milliseconds; 0: never.
    pause: AtomicU64,
}

impl Proofs {
    fn pause(&self) -> Option<Duration> {
        match self.pause.load(Ordering::Relaxed) {
            0 => None,
            pause => Some(Duration::from_millis(pause)),
        }
    }
}

/// Why a thread does not compute.
#[derive(Debug, Error)]
pub enum Unstarted {
    /// It ended while it was loading.
    #[error("the engine's thread failed while loading: {0}")]
    Panicked(String),
    /// The operating system gave none.
    #[error("starting the engine's thread: {0}")]
    System(#[from] std::io::Error),
}

impl Unstarted {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Panicked(_) => "panic",
            Self::System(_) => "system",
        }
    }
}

/// How an engine is called, and how many may wait for it.
#[derive(Clone, Debug)]
pub struct InboxSettings {
    /// The model's name in messages.
    pub model: String,
    /// The thread's name.
    pub thread: &'static str,
    /// Jobs that may wait; more are refused.
    pub limit: usize,
}

enum Message<T> {
    Job(Box<T>),
    /// How long the thread waits has changed.
    Wake,
    Stop,
}

/// The door of an engine and the handle of its thread, which ends with it.
pub struct Inbox<T> {
    model: String,
    limit: usize,
    gauges: Arc<Gauges>,
    failure: Arc<OnceLock<String>>,
    proofs: Arc<Proofs>,
    queue: SyncSender<Message<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Queued> Inbox<T> {
    /// Starts the thread, and returns when `load` has made a worker there: with what `load` tells beside it.
    pub fn start<W, R, E>(
        settings: InboxSettings,
        load: impl FnOnce(Arc<Gauges>) -> Result<(W, R), E> + Send + 'static,
    ) -> Result<(Self, R), E>
    where
        W: Worker<Job = T>,
        R: Send + 'static,
        E: From<Unstarted> + Send + 'static,
    {
        let InboxSettings {
            model,
            thread,
            limit,
        } = settings;
        // As many as have a place, `Wake` and `Stop`.
        let (queue, receiver) = sync_channel(limit + 2);
        let (tell_ready, ready) = sync_channel(1);
        let (gauges, failure) = (Arc::new(Gauges::default()), Arc::new(OnceLock::new()));
        let (name, counted, told) = (model.clone(), Arc::clone(&gauges), Arc::clone(&failure));
        let proofs = Arc::new(Proofs::default());
        let outbox = Outbox {
            receiver,
            gauges: Arc::clone(&gauges),
            proofs: Arc::clone(&proofs),
        };
        let thread = std::thread::Builder::new()
            .name(thread.into())
            .spawn(move || {
                let loaded = catch_unwind(AssertUnwindSafe(|| load(counted)));
                let loaded = loaded.unwrap_or_else(|panic| {
                    Err(Unstarted::Panicked(panic_message(&*panic)).into())
                });
                match loaded {
                    Ok((mut worker, beside)) => {
                        let _ = tell_ready.send(Ok(beside));
                        work(&mut worker, &outbox, &name, &told);
                    }
                    Err(error) => {
                        let _ = tell_ready.send(Err(error));
                    }
                }
            })
            .map_err(Unstarted::from)?;
        let silent = |_| Unstarted::Panicked("it ended without a word".into());
        let beside = ready.recv().map_err(silent)??;
        let inbox = Self {
            model,
            limit,
            gauges,
            failure,
            proofs,
            queue,
            thread: Mutex::new(Some(thread)),
        };
        Ok((inbox, beside))
    }

    /// Queues what `make` makes of a place in the queue. A full queue refuses before anything is made.
    pub fn submit(
        &self,
        make: impl FnOnce(Permit) -> Result<T, ServeError>,
    ) -> Result<(), ServeError> {
        if self.failure.get().is_some() {
            return Err(self.broken());
        }
        let permit = self.gauges.enter(self.limit).ok_or_else(|| self.full())?;
        let job = Message::Job(Box::new(make(permit)?));
        self.queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => self.full(),
            TrySendError::Disconnected(_) => self.broken(),
        })
    }

    fn full(&self) -> ServeError {
        ServeError::QueueFull {
            model: self.model.clone(),
            limit: self.limit,
        }
    }

    fn broken(&self) -> ServeError {
        ServeError::Engine {
            model: self.model.clone(),
            cause: self.failure().unwrap_or_else(|| "it was stopped".into()),
        }
    }
}

impl<T> Inbox<T> {
    /// The counters now.
    pub fn load(&self) -> Load {
        self.gauges.load()
    }

    /// The first cause, if the thread cannot compute any more.
    pub fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// What [`crate::Backend::prove_every`] asks for.
    pub fn prove_every(&self, pause: Option<Duration>) {
        let pause = pause.map_or(0, |pause| pause.as_millis().max(1) as u64);
        self.proofs.pause.store(pause, Ordering::Relaxed);
        // Where the queue is full the thread is awake.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Ends the thread, which fails what it has at hand, and waits for that.
    pub fn stop(&self) {
        // Nobody listens any more if the thread has ended by itself.
        let _ = self.queue.send(Message::Stop);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a worker to its end. The cause is recorded before any job hears of it, so that whoever was failed finds it.
fn work<W: Worker>(
    worker: &mut W,
    outbox: &Outbox<W::Job>,
    model: &str,
    failure: &OnceLock<String>,
) {
    let outcome = catch_unwind(AssertUnwindSafe(|| worker.run(outbox)));
    let error = match outcome.unwrap_or_else(|panic| Err(panic_message(&*panic))) {
        Ok(()) => ServeError::Draining,
        Err(cause) => {
            error!(model, cause, "the engine failed; its jobs fail with it");
            // Nobody else sets it: this thread ends once.
            let _ = failure.set(cause.clone());
            let model = model.to_owned();
            ServeError::Engine { model, cause }
        }
    };
    worker.fail_all(&error);
    while let Arrival::Job(job) = outbox.poll() {
        job.fail(error.clone());
    }
}

/// The thread's end of the queue.
pub struct Outbox<T> {
    receiver: Receiver<Message<T>>,
    gauges: Arc<Gauges>,
    proofs: Arc<Proofs>,
}

/// What came out of the queue.
#[derive(Debug, PartialEq)]
pub enum Arrival<T> {
    /// A job.
    Job(T),
    /// Nothing yet.
    Nothing,
    /// The end: nothing more is to be computed.
    End,
}

impl<T> Outbox<T> {
    /// Waits for what comes next, where there is nothing else to do. Nothing came for so long that the thread should
    /// prove that it computes: [`Arrival::Nothing`].
    pub fn wait(&self) -> Arrival<T> {
        self.gauges.set_works(false);
        let arrival = loop {
            let message = match self.proofs.pause() {
                None => self
                    .receiver
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => self.receiver.recv_timeout(pause),
            };
            match message {
                Ok(Message::Wake) => {}
                Ok(message) => break message.into(),
                Err(RecvTimeoutError::Timeout) => break Arrival::Nothing,
                Err(RecvTimeoutError::Disconnected) => break Arrival::End,
            }
        };
        self.gauges.set_works(true);
        arrival
    }

    /// What is there already.
    pub fn poll(&self) -> Arrival<T> {
        self.gauges.set_works(true);
        match self.receiver.try_recv() {
            Ok(message) => message.into(),
            Err(TryRecvError::Empty) => Arrival::Nothing,
            Err(TryRecvError::Disconnected) => Arrival::End,
        }
    }

    /// Waits until then.
    pub fn wait_until(&self, end: Instant) -> Arrival<T> {
        let left = end.saturating_duration_since(Instant::now());
        match self.receiver.recv_timeout(left) {
            Ok(message) => message.into(),
            Err(RecvTimeoutError::Timeout) => Arrival::Nothing,
            Err(RecvTimeoutError::Disconnected) => Arrival::End,
        }
    }

    /// Hands over all that has arrived; waits for the first if the thread has nothing to do. False: the end.
    pub fn take_in(&self, idle: bool, mut take: impl FnMut(T)) -> bool {
        let mut arrival = if idle { self.wait() } else { self.poll() };
        loop {
            match arrival {
                Arrival::Job(job) => take(job),
                Arrival::Nothing => return true,
                Arrival::End => return false,
            }
            arrival = self.poll();
        }
    }
}

impl<T> From<Message<T>> for Arrival<T> {
    fn from(message: Message<T>) -> Self {
        match message {
            Message::Job(job) => Self::Job(*job),
            Message::Wake => Self::Nothing,
            Message::Stop => Self::End,
        }
    }
}

/// The text of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "panic: {}",
        text.unwrap_or_else(|| "without a message".into())
    )
}

#[cfg(test)]
mod tests;
