//! The engine's thread: takes requests in, makes a step of those of one size, answers those that are done, again.
//!
//! A step that fails for several requests is made again for each alone, so that a request fails only by itself.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;
use sconce_core::inbox::{Outbox, Queued, Worker, panic_message};
use sconce_core::task::{Answered, TaskAnswer};
use sconce_core::{Event, Gauges, Progressed, ServeError};
use sconce_models::diffusion::Conditions;
use sconce_nn::Attached;
use tracing::{debug, error, info};

use crate::description::DiffusionDescription;
use crate::drawing::Drawing;
use crate::engine::canary;
use crate::memory::MemoryPlan;
use crate::models::Models;
use crate::running::{Client, Parts, Running};
use crate::tensors::{images, numbers};

/// A request that waits.
pub(crate) struct Waiting {
    pub(crate) drawing: Drawing,
    pub(crate) client: Client,
}

impl Queued for Waiting {
    fn fail(mut self, error: ServeError) {
        self.client.reply.send(Event::Failed(error));
    }
}

/// What the thread owns.
pub(crate) struct DiffusionWorker {
    pub(crate) name: String,
    pub(crate) description: Arc<DiffusionDescription>,
    pub(crate) models: Models,
    pub(crate) plan: Arc<MemoryPlan>,
    pub(crate) predict_timeout: u64,
    pub(crate) waiting: VecDeque<Waiting>,
    /// Whose turn is next comes first.
    pub(crate) running: VecDeque<Running>,
    pub(crate) gauges: Arc<Gauges>,
    /// Counts what this thread gets done as signs of life.
    pub(crate) _pulse: Attached,
}

impl Worker for DiffusionWorker {
    type Job = Waiting;

    fn run(&mut self, outbox: &Outbox<Waiting>) -> Result<(), String> {
        loop {
            let idle = self.running.is_empty() && self.waiting.is_empty();
            if !outbox.take_in(idle, |waiting| self.waiting.push_back(waiting)) {
                return Ok(());
            }
            if self.running.is_empty() && self.waiting.is_empty() {
                canary(&self.models, &self.description)?;
                self.gauges.count_step(0, 0);
                continue;
            }
            self.sweep();
            self.join();
            self.step();
            self.finish();
        }
    }

    fn fail_all(&mut self, error: &ServeError) {
        for mut running in self.running.drain(..) {
            running.reply.send(Event::Failed(error.clone()));
        }
        for waiting in self.waiting.drain(..) {
            waiting.fail(error.clone());
        }
    }
}

impl DiffusionWorker {
    /// Ends requests whose client has gone, or whose time is over, between two steps.
    fn sweep(&mut self) {
        let (now, seconds) = (Instant::now(), self.predict_timeout);
        let late = || Event::Failed(ServeError::Timeout { seconds });
        self.waiting.retain_mut(|Waiting { client, .. }| {
            if client.deadline <= now {
                client.reply.send(late());
            }
            client.deadline > now && !client.reply.gone()
        });
        self.running.retain_mut(|running| {
            if running.deadline <= now {
                running.reply.send(late());
            }
            running.deadline > now && !running.reply.gone()
        });
    }

    /// Lets requests in, in their order, while memory has room for one more picture of the largest size at hand.
    pub(crate) fn join(&mut self) {
        while let Some(Waiting { drawing, .. }) = self.waiting.front() {
            let factor = self.description.factor();
            let sizes = self
                .running
                .iter()
                .map(|running| running.size.map(|side| side * factor));
            let largest = sizes
                .chain([drawing.size])
                .max_by_key(|[height, width]| height * width);
            let most = self.plan.images(largest.unwrap_or(drawing.size));
            let images: usize = self.running.iter().map(|running| running.images).sum();
            if images > 0 && images + drawing.images() > most {
                return;
            }
            let Some(Waiting {
                drawing,
                mut client,
            }) = self.waiting.pop_front()
            else {
                return;
            };
            if client.permit.begin() {
                client.reply.begins();
            }
            if let Some(tiling) = self.plan.tiling(drawing.size) {
                let ([height, width], side) = (drawing.size, tiling.pixels);
                debug!(
                    model = self.name,
                    "the autoencoder computes {height} × {width} pixels in tiles of {side}"
                );
            }
            let parts = self.parts();
            match guarded(|| Running::prepared(&parts, drawing)) {
                Ok(begin) => self.running.push_back(begin(client)),
                Err(cause) => {
                    error!(model = self.name, cause, "a request cannot be begun");
                    client.reply.send(Event::Failed(self.failed(cause)));
                }
            }
        }
    }

    /// Makes a step of the first request and all others of its size.
    pub(crate) fn step(&mut self) {
        let Some(size) = self.running.front().map(|running| running.size) else {
            return;
        };
        let (group, rest): (Vec<Running>, Vec<Running>) = self
            .running
            .drain(..)
            .partition(|running| running.size == size);
        self.running = rest.into();
        self.gauges.count_step(group.len(), 0);
        let mut group = self.stepped(group);
        group.retain_mut(|running| self.tell(running));
        // Others have their turn before these.
        self.running.extend(group);
    }

    /// Those of a group of one size that have made a step; the others have been told why not.
    fn stepped(&self, mut group: Vec<Running>) -> Vec<Running> {
        let all = match self.predicted(&group) {
            Ok(all) => all,
            Err(cause) if group.len() > 1 => {
                debug!(
                    model = self.name,
                    cause, "a step is made again for each request alone"
                );
                let alone = group.into_iter().flat_map(|one| self.stepped(vec![one]));
                return alone.collect();
            }
            Err(cause) => {
                group
                    .iter_mut()
                    .for_each(|running| self.refuse(running, &cause));
                return Vec::new();
            }
        };
        let rows: usize = group.iter().map(Running::rows).sum();
        let mut left = all.as_slice();
        group.retain_mut(|running| {
            let (own, others) = left.split_at(all.len() / rows * running.rows());
            left = others;
            let made = guarded(|| running.step(own));
            made.map_err(|cause| self.refuse(running, &cause)).is_ok()
        });
        group
    }

    fn refuse(&self, running: &mut Running, cause: &str) {
        error!(model = self.name, cause, "a request cannot be computed");
        running
            .reply
            .send(Event::Failed(self.failed(cause.to_owned())));
    }

    /// The predictions of all rows; what is not finite is one request's own.
    fn predicted(&self, group: &[Running]) -> Result<Vec<f32>, String> {
        let all = guarded(|| self.predict(group))?;
        if group.len() > 1 && all.iter().any(|x| !x.is_finite()) {
            return Err("a prediction has numbers that are not finite".into());
        }
        Ok(all)
    }

    /// The predictions of all rows, `[rows, height, width, channels]`.
    fn predict(&self, group: &[Running]) -> candle_core::Result<Vec<f32>> {
        let Some(size) = group.first().map(|running| running.size) else {
            return Ok(Vec::new());
        };
        let channels = self.description.unet.spec.in_channels;
        let inputs = group.iter().flat_map(Running::inputs).collect();
        let all = |pick: fn(&Running) -> Option<&Tensor>| -> candle_core::Result<Option<Tensor>> {
            let parts: Option<Vec<&Tensor>> = group.iter().map(pick).collect();
            parts.map(|parts| Tensor::cat(&parts, 0)).transpose()
        };
        let vectors = all(|running| {
            running
                .conditions
                .added
                .as_ref()
                .map(|(vectors, _)| vectors)
        })?;
        let told = group
            .iter()
            .filter_map(|running| running.conditions.added.as_ref());
        let told: Vec<f32> = told.flat_map(|(_, numbers)| numbers).copied().collect();
        let Some(states) = all(|running| Some(&running.conditions.states))? else {
            return Ok(Vec::new());
        };
        let conditions = Conditions {
            times: group.iter().flat_map(Running::times).collect(),
            states,
            added: vectors.map(|vectors| (vectors, told)),
            guidance: all(|running| running.conditions.guidance.as_ref())?,
        };
        let inputs = images(inputs, size, channels)?;
        numbers(&self.models.unet.forward(&inputs, &conditions)?)
    }

    /// Tells of a step who asked for it. False: the client has gone.
    fn tell(&self, running: &mut Running) -> bool {
        let (step, steps) = running.progress();
        debug!(model = self.name, "step {step} of {steps}");
        let Some(shows) = running.tells() else {
            return true;
        };
        let preview = shows.then(|| guarded(|| running.preview(&self.parts())));
        let preview = preview.and_then(|made| {
            made.inspect_err(|cause| error!(model = self.name, cause, "a preview cannot be made"))
                .ok()
        });
        running.reply.send(Event::Progress(Progressed {
            step,
            steps,
            preview,
        }))
    }

    /// Gives pictures to those that are done.
    pub(crate) fn finish(&mut self) {
        let (done, rest): (VecDeque<Running>, VecDeque<Running>) =
            self.running.drain(..).partition(Running::is_done);
        self.running = rest;
        for running in done {
            let parts = self.parts();
            let made = guarded(|| {
                let one = |image: usize| running.finished(&parts, image);
                (0..running.images)
                    .map(one)
                    .collect::<candle_core::Result<Vec<_>>>()
            });
            let event = match made {
                Ok(pictures) => {
                    let (_, steps) = running.progress();
                    let seconds = running.started.elapsed().as_secs_f64();
                    let count = pictures.len();
                    info!(
                        model = self.name,
                        "{count} pictures of {steps} steps in {seconds:.1} s"
                    );
                    Event::Answered(Answered {
                        answer: TaskAnswer::Pictures(pictures),
                        tokens: running.tokens,
                    })
                }
                Err(cause) => {
                    error!(model = self.name, cause, "a picture cannot be made");
                    Event::Failed(self.failed(cause))
                }
            };
            let Running {
                mut reply, permit, ..
            } = running;
            // The place is free before the client hears of it.
            drop(permit);
            reply.send(event);
        }
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            models: &self.models,
            description: &self.description,
            plan: &self.plan,
        }
    }

    fn failed(&self, cause: String) -> ServeError {
        ServeError::Engine {
            model: self.name.clone(),
            cause,
        }
    }
}

/// What a computation gives, or why it gives nothing, be it an error or a panic.
fn guarded<T, E: ToString>(compute: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(computed) => computed.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_message(&*panic)),
    }
}
