//! The engine's handle: loads the pipeline in its thread, understands requests at the door, queues them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{Device, Tensor};
use sconce_core::inbox::{Inbox, InboxSettings};
use sconce_core::{Ask, Backend, Input, Job, Load, Observer, Phase, Progress, ServeError, Task};
use sconce_models::diffusion::Conditions;
use sconce_nn::Pulse;
use tracing::{info, warn};

use crate::description::DiffusionDescription;
use crate::door;
use crate::error::DiffusionError;
use crate::memory::MemoryPlan;
use crate::models::Models;
use crate::running::Client;
use crate::settings::DiffusionSettings;
use crate::worker::{DiffusionWorker, Waiting};

/// An engine that has passed its canary.
pub struct DiffusionEngine {
    max_images: usize,
    description: Arc<DiffusionDescription>,
    plan: Arc<MemoryPlan>,
    inbox: Inbox<Waiting>,
}

impl DiffusionEngine {
    /// Loads the pipeline of `settings.dir`; returns when a canary has passed through it.
    pub fn start(
        settings: DiffusionSettings,
        observer: Arc<Observer>,
    ) -> Result<Self, DiffusionError> {
        if let Some(threads) = settings.threads {
            sconce_nn::pool::configure(threads);
        }
        let description = Arc::new(DiffusionDescription::read(&settings)?);
        let plan = Arc::new(MemoryPlan::new(&description, &settings)?);
        tell(&settings, &description, &plan);
        let of_inbox = InboxSettings {
            model: settings.name.clone(),
            thread: "diffusion",
            limit: settings.queue,
        };
        let (max_images, read, planned) = (
            settings.max_images,
            Arc::clone(&description),
            Arc::clone(&plan),
        );
        let (inbox, ()) = Inbox::start(of_inbox, move |gauges| {
            let models = load(&settings, &read, &*observer)?;
            let worker = DiffusionWorker {
                name: settings.name,
                description: read,
                models,
                plan: planned,
                predict_timeout: settings.predict_timeout,
                waiting: VecDeque::new(),
                running: VecDeque::new(),
                _pulse: Pulse::counting(gauges.signs()).attach(),
                gauges,
            };
            Ok::<_, DiffusionError>((worker, ()))
        })?;
        Ok(Self {
            max_images,
            description,
            plan,
            inbox,
        })
    }
}

impl DiffusionEngine {
    /// Bytes that were planned for it and for pictures of its own size, whether it uses them already or not.
    pub fn planned(&self) -> u64 {
        self.plan.usual(self.description.size())
    }
}

impl Backend for DiffusionEngine {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.inbox.submit(|permit| {
            let Input::Task(Ask::Draw(asked)) = job.input else {
                let problem = "this model makes pictures: send {\"prompt\": \"…\"}";
                return Err(ServeError::Malformed(problem.into()));
            };
            let drawing = door::admit(&self.description, &self.plan, self.max_images, *asked)?;
            let client = Client {
                reply: job.reply,
                deadline: job.deadline,
                permit,
            };
            Ok(Waiting { drawing, client })
        })
    }

    fn task(&self) -> Option<Task> {
        Some(Task::TextToImage)
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

fn tell(settings: &DiffusionSettings, description: &DiffusionDescription, plan: &MemoryPlan) {
    let size = description.size();
    let mib = |bytes: u64| bytes >> 20;
    info!(
        model = settings.name,
        "{} with {}: pictures of {} × {} pixels, {} of them at a time; {} MiB of weights, {} MiB for each",
        description.class,
        description
            .scheduler
            .text("_class_name")
            .unwrap_or_default(),
        size[0],
        size[1],
        plan.images(size),
        mib(plan.weights),
        mib(plan.picture(size)),
    );
    if settings.skips_safety_checker {
        warn!(
            model = settings.name,
            "no safety checker looks at pictures: option.skip_safety_checker is true"
        );
    }
}

/// Loads the weights and proves that they compute.
fn load(
    settings: &DiffusionSettings,
    description: &DiffusionDescription,
    observer: &Observer,
) -> Result<Models, DiffusionError> {
    observer(Phase::Loading, Progress::default());
    let mut progress = |done, total| observer(Phase::Loading, Progress { done, total });
    let models = Models::load(description, settings, &mut progress)?;
    observer(Phase::Warming, Progress::default());
    canary(&models, description).map_err(DiffusionError::Canary)?;
    Ok(models)
}

/// Makes a step of the smallest latents, and their picture; its numbers must be finite.
pub(crate) fn canary(models: &Models, description: &DiffusionDescription) -> Result<(), String> {
    let made = smallest(models, description).map_err(|error| error.to_string())?;
    match made.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(format!("an output is {number}")),
        None => Ok(()),
    }
}

fn smallest(models: &Models, description: &DiffusionDescription) -> candle_core::Result<Vec<f32>> {
    let unet = &description.unet.spec;
    let side = 1 << unet.halvings();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
    let guidance = unet.guidance.map(|width| zeros(&[1, width])).transpose()?;
    let texts = &description.texts;
    let mut vector = None;
    for (encoder, text) in models.texts.iter().zip(texts) {
        vector = encoder.forward(&vec![0; text.part.spec.context], 1)?.pooled;
    }
    let numbers = if description.wants_scores { 5 } else { 6 };
    let conditions = Conditions {
        times: vec![1.0],
        states: zeros(&[1, unet.cross()])?,
        added: vector
            .filter(|_| unet.added.is_some())
            .map(|vector| (vector, vec![0.0; numbers])),
        guidance,
    };
    let latents = zeros(&[1, side, side, unet.in_channels])?;
    let predicted = models.unet.forward(&latents, &conditions)?;
    crate::tensors::numbers(&models.vae.decode(&predicted)?)
}
