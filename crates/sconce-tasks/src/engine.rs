//! The engine's handle: loads the model in its thread, makes texts of requests at the door, queues them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use sconce_core::{Backend, Gauges, Input, Job, Load, Phase, Progress, ServeError, Task as Kind};
use sconce_models::encoder::{Batch, Encoder};
use tracing::info;

use crate::describe::TaskDescription;
use crate::desk;
use crate::error::StartError;
use crate::settings::TaskSettings;
use crate::work::Task;
use crate::worker::{Message, Pending, Worker};

/// Told of the phases on the way to readiness and of the bytes of the present one.
pub type Observer = dyn Fn(Phase, Progress) + Send + Sync;

/// An engine that has passed its canary.
pub struct TaskEngine {
    name: String,
    queue_limit: usize,
    kind: Kind,
    task: Box<dyn Task>,
    gauges: Arc<Gauges>,
    failure: Arc<OnceLock<String>>,
    inbox: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl TaskEngine {
    /// Loads the checkpoint of `settings.dir`; returns when a canary has passed through the model.
    pub fn start(settings: TaskSettings, observer: Arc<Observer>) -> Result<Self, StartError> {
        let description = TaskDescription::read(&settings)?;
        tell(&settings, &description)?;
        let task = desk::task(&description, &settings)?;
        // One place more than may wait: `Stop` must always find room.
        let (inbox, outbox) = sync_channel(settings.queue + settings.batch_size + 1);
        let (tell_ready, ready) = sync_channel(1);
        let (gauges, failure) = (Arc::new(Gauges::default()), Arc::new(OnceLock::new()));
        let (name, queue_limit, kind) = (settings.name.clone(), settings.queue, settings.task);
        let told = Arc::clone(&failure);
        let thread = std::thread::Builder::new()
            .name("tasks".into())
            .spawn(move || {
                let encoder = match load(&settings, &description, &*observer) {
                    Ok(encoder) => encoder,
                    Err(error) => {
                        let _ = tell_ready.send(Err(error));
                        return;
                    }
                };
                let per_token = description.gives_rows_per_token();
                let mut worker = Worker::new(&settings, encoder, per_token);
                let _ = tell_ready.send(Ok(()));
                // Batches catch their own panics; what comes this far is a mistake of the loop itself.
                let ended = catch_unwind(AssertUnwindSafe(|| worker.run(&outbox)));
                if ended.is_err() {
                    let _ = told.set("the engine's thread panicked".into());
                }
            });
        let thread = thread.map_err(StartError::System)?;
        ready.recv().map_err(|_| StartError::Panicked)??;
        Ok(Self {
            name,
            queue_limit,
            kind,
            task,
            gauges,
            failure,
            inbox,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn admit(&self, job: Job) -> Result<Pending, ServeError> {
        let Job {
            input,
            reply,
            deadline,
            ..
        } = job;
        let ask = match input {
            Input::Task(ask) => ask,
            Input::Generate(_) | Input::Raw(_) => {
                let problem = "this model generates no text; see the task that its log names";
                return Err(ServeError::Malformed(problem.into()));
            }
        };
        // A full queue refuses before anything is tokenised.
        let permit = self
            .gauges
            .enter(self.queue_limit)
            .ok_or_else(|| self.full())?;
        let work = self.task.prepare(ask)?;
        Ok(Pending::new(work, reply, deadline, permit))
    }

    fn full(&self) -> ServeError {
        ServeError::QueueFull {
            model: self.name.clone(),
            limit: self.queue_limit,
        }
    }

    fn broken(&self) -> ServeError {
        let cause = self.failure.get().cloned();
        ServeError::Engine {
            model: self.name.clone(),
            cause: cause.unwrap_or_else(|| "it was stopped".into()),
        }
    }
}

impl Backend for TaskEngine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        if self.failure.get().is_some() {
            return Err(self.broken());
        }
        let pending = Message::Job(Box::new(self.admit(job)?));
        self.inbox
            .try_send(pending)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => self.full(),
                TrySendError::Disconnected(_) => self.broken(),
            })
    }

    fn task(&self) -> Option<Kind> {
        Some(self.kind)
    }

    fn load(&self) -> Load {
        self.gauges.load()
    }

    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    fn stop(&self) {
        let _ = self.inbox.send(Message::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for TaskEngine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn tell(settings: &TaskSettings, description: &TaskDescription) -> Result<(), StartError> {
    let overview = description.overview(settings)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    info!(
        model = settings.name,
        "{} for {}: {} layers, texts of at most {} tokens; {:.0} MiB of weights, and {:.0} MiB of activations for \
         batches of {} tokens",
        overview.family,
        settings.task,
        overview.layers,
        overview.context,
        mib(overview.weights_bytes),
        mib(overview.activations_bytes),
        settings.max_batch_tokens,
    );
    Ok(())
}

/// Loads the weights and proves that the model computes.
fn load(
    settings: &TaskSettings,
    description: &TaskDescription,
    observer: &Observer,
) -> Result<Encoder, StartError> {
    if let Some(threads) = settings.threads {
        sconce_nn::pool::configure(threads);
    }
    observer(Phase::Loading, Progress::default());
    let mut progress = |done, total| observer(Phase::Loading, Progress { done, total });
    let encoder = Encoder::load(
        description.arch,
        &description.spec,
        description.head.as_ref(),
        &*description.weights,
        &settings.load_options(),
        &mut progress,
    )?;
    observer(Phase::Warming, Progress::default());
    let batch = Batch {
        ids: vec![0, 0],
        types: vec![0, 0],
        lens: vec![2],
        wanted: None,
    };
    let rows = encoder.forward(&batch);
    let rows = rows.map_err(|error| StartError::Canary(error.to_string()))?;
    match rows.numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(StartError::Canary(format!("an output is {number}"))),
        None => Ok(encoder),
    }
}
