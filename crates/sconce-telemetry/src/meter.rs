//! The instruments of one model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sconce_core::{ModelStatus, ServeError};

use crate::djl;
use crate::labels::{DjlModel, Ended, Failed, OfModel};

/// Histograms of models.
pub(crate) type Histograms<L = OfModel> = Family<L, Histogram, fn() -> Histogram>;

/// vLLM's buckets of the time to the first token, in seconds.
const FIRST_TOKEN: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
/// Those of the time between tokens.
const INTER_TOKEN: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
    5.0, 10.0,
];
/// Those of whole requests and their parts, and some below, as tasks of encoders take milliseconds.
const REQUEST: [f64; 25] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0,
    15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
];
/// Tokens of a prompt or an answer.
const TOKENS: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
    20_000.0, 50_000.0, 100_000.0,
];

/// What is measured of all models.
#[derive(Clone, Debug)]
pub(crate) struct Families {
    first_token: Histograms,
    inter_token: Histograms,
    queue: Histograms,
    prefill: Histograms,
    decode: Histograms,
    whole: Histograms,
    prompts: Histograms,
    generations: Histograms,
    prompt_tokens: Family<OfModel, Counter>,
    generation_tokens: Family<OfModel, Counter>,
    images: Family<OfModel, Counter>,
    ended: Family<Ended, Counter>,
    failed: Family<Failed, Counter>,
    djl: djl::Times,
}

impl Families {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let seconds =
            |registry: &mut Registry, name: &str, help: &str, buckets: fn() -> Histogram| {
                let family = Histograms::new_with_constructor(buckets);
                registry.register(format!("sconce_{name}"), help, family.clone());
                family
            };
        let request = || Histogram::new(REQUEST);
        let tokens = || Histogram::new(TOKENS);
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let family = Family::<OfModel, Counter>::default();
            registry.register(format!("sconce_{name}"), help, family.clone());
            family
        };
        let r = registry;
        let families = Self {
            first_token: seconds(
                r,
                "time_to_first_token_seconds",
                "From the arrival of a request to its first token",
                || Histogram::new(FIRST_TOKEN),
            ),
            inter_token: seconds(
                r,
                "inter_token_latency_seconds",
                "Between two tokens of an answer",
                || Histogram::new(INTER_TOKEN),
            ),
            queue: seconds(
                r,
                "request_queue_time_seconds",
                "From the arrival of a request to the step that first computes it",
                request,
            ),
            prefill: seconds(
                r,
                "request_prefill_time_seconds",
                "From the first step of a request to its first token",
                request,
            ),
            decode: seconds(
                r,
                "request_decode_time_seconds",
                "From the first token of a request to its end",
                request,
            ),
            whole: seconds(
                r,
                "e2e_request_latency_seconds",
                "From the arrival of a request to the end of its answer",
                request,
            ),
            prompts: seconds(
                r,
                "request_prompt_tokens",
                "Tokens of a request's prompt",
                tokens,
            ),
            generations: seconds(
                r,
                "request_generation_tokens",
                "Tokens of a request's answer",
                tokens,
            ),
            prompt_tokens: counter(r, "prompt_tokens", "Tokens of prompts that were answered"),
            generation_tokens: counter(r, "generation_tokens", "Generated tokens"),
            images: counter(r, "images", "Pictures that were made"),
            ended: Family::default(),
            failed: Family::default(),
            djl: djl::Times::new(r),
        };
        let help = "Requests by how they ended: stop, length, done (what generates no text), error, abort (the client \
                    left)";
        r.register("sconce_requests", help, families.ended.clone());
        let help = "Requests that a model refused or failed, by the reason";
        r.register("sconce_request_failures", help, families.failed.clone());
        families
    }

    fn forget(&self, model: &OfModel) {
        for histograms in [
            &self.first_token,
            &self.inter_token,
            &self.queue,
            &self.prefill,
            &self.decode,
            &self.whole,
            &self.prompts,
            &self.generations,
        ] {
            histograms.remove(model);
        }
        for counters in [&self.prompt_tokens, &self.generation_tokens, &self.images] {
            counters.remove(model);
        }
        self.djl.forget(&model.into());
    }
}

/// The instruments of one model, which cost nothing to find once they are at hand.
#[derive(Debug)]
pub(crate) struct Meter {
    families: Families,
    model: OfModel,
    pub(crate) first_token: Histogram,
    pub(crate) inter_token: Histogram,
    prefill: Histogram,
    decode: Histogram,
    prompts: Histogram,
    generations: Histogram,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    images: Counter,
    queue: Histogram,
    whole: Histogram,
    djl: djl::OfModel,
    ended: Mutex<BTreeMap<&'static str, Counter>>,
    failed: Mutex<BTreeMap<&'static str, Counter>>,
    is_gone: AtomicBool,
}

impl Meter {
    pub(crate) fn new(families: &Families, status: &ModelStatus) -> Arc<Self> {
        let model = OfModel::from(status);
        let one = |histograms: &Histograms| histograms.get_or_create_owned(&model);
        Arc::new(Self {
            first_token: one(&families.first_token),
            inter_token: one(&families.inter_token),
            prefill: one(&families.prefill),
            decode: one(&families.decode),
            prompts: one(&families.prompts),
            generations: one(&families.generations),
            queue: one(&families.queue),
            whole: one(&families.whole),
            prompt_tokens: families.prompt_tokens.get_or_create_owned(&model),
            generation_tokens: families.generation_tokens.get_or_create_owned(&model),
            images: families.images.get_or_create_owned(&model),
            djl: families.djl.of(&DjlModel::from(&model)),
            ended: Mutex::default(),
            failed: Mutex::default(),
            is_gone: AtomicBool::new(false),
            families: families.clone(),
            model,
        })
    }

    /// The model's label, as DJL Serving has it.
    pub(crate) fn label(&self) -> String {
        DjlModel::from(&self.model).Model
    }

    /// A job left the queue.
    pub(crate) fn began(&self, waited: Duration) {
        self.queue.observe(waited.as_secs_f64());
        self.djl.queue(waited);
    }

    /// An answer is complete, or will not be.
    pub(crate) fn ended(&self, reason: &'static str, whole: Duration) {
        self.whole.observe(whole.as_secs_f64());
        self.djl.request(whole);
        self.count(&self.ended, reason, |reason| {
            let ended = Ended {
                model: self.model.clone(),
                finished_reason: reason,
            };
            self.families.ended.get_or_create_owned(&ended)
        });
    }

    /// Tokens of an answer, and the parts of its time if they are known.
    pub(crate) fn generated(&self, prompt: usize, generated: usize, parts: Option<Parts>) {
        self.read(prompt);
        self.generation_tokens.inc_by(generated as u64);
        self.prompts.observe(prompt as f64);
        self.generations.observe(generated as f64);
        if let Some(parts) = parts {
            self.prefill.observe(parts.prefill.as_secs_f64());
            self.decode.observe(parts.decode.as_secs_f64());
        }
    }

    /// Tokens that were read.
    pub(crate) fn read(&self, tokens: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
    }

    /// Pictures that were made.
    pub(crate) fn drew(&self, pictures: usize) {
        self.images.inc_by(pictures as u64);
    }

    /// A job failed or was refused.
    pub(crate) fn failed(&self, error: &ServeError) {
        self.count(&self.failed, error.code(), |reason| {
            let failed = Failed {
                model: self.model.clone(),
                reason,
            };
            self.families.failed.get_or_create_owned(&failed)
        });
    }

    fn count(
        &self,
        counters: &Mutex<BTreeMap<&'static str, Counter>>,
        reason: &'static str,
        make: impl FnOnce(&'static str) -> Counter,
    ) {
        let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever still has a job of a model that is gone must not bring its series back.
        if !self.is_gone.load(Ordering::Relaxed) {
            counters.entry(reason).or_insert_with(|| make(reason)).inc();
        }
    }

    /// The model is gone: so are its series.
    pub(crate) fn forget(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        self.families.forget(&self.model);
        let reasons = |counters: &Mutex<BTreeMap<&'static str, Counter>>| -> Vec<&'static str> {
            let counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
            counters.keys().copied().collect()
        };
        for finished_reason in reasons(&self.ended) {
            let model = self.model.clone();
            self.families.ended.remove(&Ended {
                model,
                finished_reason,
            });
        }
        for reason in reasons(&self.failed) {
            let model = self.model.clone();
            self.families.failed.remove(&Failed { model, reason });
        }
    }
}

/// The parts of a generation's time, after the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    /// To the first token.
    pub(crate) prefill: Duration,
    /// From there to the last.
    pub(crate) decode: Duration,
}
