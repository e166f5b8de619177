//! The engine's handle: loads the model in its thread, makes texts of requests at the door, queues them.

use std::sync::Arc;
use std::time::Duration;

use sconce_core::{
    Backend, Inbox, InboxSettings, Input, Job, Load, Observer, Permit, Phase, Progress, ServeError,
    Task as Kind,
};
use sconce_engine::{EngineError, Room};
use sconce_models::encoder::{Batch, Encoder};
use tracing::info;

use crate::describe::TaskDescription;
use crate::desk;
use crate::error::StartError;
use crate::settings::TaskSettings;
use crate::work::Task;
use crate::worker::{Pending, Worker};

/// An engine that has passed its canary.
pub struct TaskEngine {
    kind: Kind,
    task: Box<dyn Task>,
    planned: u64,
    inbox: Inbox<Pending>,
}

impl TaskEngine {
    /// Loads the checkpoint of `settings.dir`; returns when a canary has passed through the model.
    pub fn start(settings: TaskSettings, observer: Arc<Observer>) -> Result<Self, StartError> {
        if let Some(threads) = settings.threads {
            sconce_nn::pool::configure(threads);
        }
        let description = TaskDescription::read(&settings)?;
        let planned = plan(&settings, &description)?;
        let (kind, task) = (settings.task, desk::task(&description, &settings)?);
        let door = InboxSettings {
            model: settings.name.clone(),
            thread: "tasks",
            limit: settings.queue,
        };
        let (inbox, ()) = Inbox::start(door, move |gauges| {
            let encoder = load(&settings, &description, &*observer)?;
            let per_token = description.gives_rows_per_token();
            let worker = Worker::new(&settings, encoder, per_token, gauges);
            Ok::<_, StartError>((worker, ()))
        })?;
        Ok(Self {
            kind,
            task,
            planned,
            inbox,
        })
    }

    /// Bytes that were planned for it, whether it uses them already or not.
    pub fn planned(&self) -> u64 {
        self.planned
    }

    fn admit(&self, job: Job, permit: Permit) -> Result<Pending, ServeError> {
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
        let work = self.task.prepare(ask)?;
        Ok(Pending::new(work, reply, deadline, permit))
    }
}

impl Backend for TaskEngine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.inbox.submit(|permit| self.admit(job, permit))
    }

    fn task(&self) -> Option<Kind> {
        Some(self.kind)
    }

    fn load(&self) -> Load {
        self.inbox.load()
    }

    fn failure(&self) -> Option<String> {
        self.inbox.failure()
    }

    fn prove_every(&self, pause: Option<Duration>) {
        self.inbox.prove_every(pause);
    }

    fn stop(&self) {
        self.inbox.stop();
    }
}

/// Decides, before a weight is read, whether there is room for them and for a full batch: the bytes of both.
fn plan(settings: &TaskSettings, description: &TaskDescription) -> Result<u64, StartError> {
    let weights = description.survey(settings)?.weights;
    let activations = description.activations(settings);
    let room = Room::of_this_machine(1, sconce_nn::pool::threads()).at_most(settings.room, 1);
    room.beside(1, weights, activations)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    info!(
        model = settings.name,
        "{} for {}: {} layers, texts of at most {} tokens; {:.0} MiB of weights, and {:.0} MiB of activations for \
         batches of {} tokens",
        description.arch.family,
        settings.task,
        description.spec.layers.len(),
        description.max_len,
        mib(weights),
        mib(activations),
        settings.max_batch_tokens,
    );
    Ok(weights + activations + room.scratch + room.overhead)
}

/// Loads the weights and proves that the model computes.
fn load(
    settings: &TaskSettings,
    description: &TaskDescription,
    observer: &Observer,
) -> Result<Encoder, StartError> {
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
    canary(&encoder).map_err(EngineError::Canary)?;
    Ok(encoder)
}

/// Computes a text of two tokens; the outputs must be numbers.
pub(crate) fn canary(encoder: &Encoder) -> Result<(), String> {
    let batch = Batch {
        ids: vec![0, 0],
        types: vec![0, 0],
        lens: vec![2],
        wanted: None,
    };
    let rows = encoder.forward(&batch).map_err(|error| error.to_string())?;
    match rows.numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(format!("an output is {number}")),
        None => Ok(()),
    }
}
