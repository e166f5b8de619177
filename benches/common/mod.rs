//! What the benches share: the default model in an engine, timing, medians.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use sconce_core::{
    Backend, Event, Generate, GenerateParams, Input, Job, JobId, MaxTokens, Reply, Stop,
};
use sconce_engine::{Description, Engine, EngineSettings, Quantisation, StoredDtype};

/// The folder of the default model.
pub fn model_dir() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/smollm2-135m-instruct"
    ))
}

/// The middle of the values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which a share of the sorted values lies.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    values[(last as f64 * share).round() as usize]
}

/// The default model, ready to generate.
pub struct Rig {
    engine: Engine,
    /// Bytes that a step reads.
    weight_bytes: u64,
    /// Bytes of the checkpoint, in bf16.
    stored_bytes: u64,
}

/// What a batch of streams took: until each of them had its first token, and from then on.
pub struct Run {
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Seconds until the last of the first tokens.
    pub first: f64,
    /// Tokens that came after it.
    pub rest_tokens: usize,
    /// Seconds from it to the end.
    pub rest: f64,
}

/// Notes when an event happens: whoever reads the streams one by one would notice too late.
struct Tell(Sender<(Instant, Event)>);

impl Reply for Tell {
    fn send(&mut self, event: Event) -> bool {
        self.0.send((Instant::now(), event)).is_ok()
    }

    fn gone(&self) -> bool {
        false
    }
}

impl Rig {
    /// The model with weights as stored, in another type, or in blocks; `None` where it has not been fetched.
    pub fn open(dtype: Option<StoredDtype>, quantise: Option<Quantisation>) -> Option<Self> {
        let dir = model_dir();
        if !dir.join("model.safetensors").exists() {
            return None;
        }
        let settings = EngineSettings {
            name: "smollm2".into(),
            dir,
            task: Default::default(),
            gguf_file: None,
            dtype,
            quantise,
            packing: None,
            threads: None,
            ranks: 1,
            gpus: Vec::new(),
            eager: false,
            collective_timeout: Duration::from_secs(8),
            max_model_len: Some(2048),
            max_rows: 32,
            max_step_tokens: 512,
            prefix_sharing: false,
            model_sampling: false,
            chat_template: None,
            kv_dtype: None,
            kv_cache_bytes: Some(1 << 30),
            room: None,
            speculation: None,
            lora: None,
            queue: 64,
            predict_timeout: 600,
        };
        let description = Description::read(&settings.dir, None, false);
        let stored_bytes = description.stored().expect("readable weights").bytes;
        let needs = description.needs(&settings).expect("a whole model");
        let weight_bytes = description.read_by(&needs.expect("a model that fits"), 1);
        let engine = Engine::start(settings, Arc::new(|_, _| {})).expect("the engine starts");
        Some(Self {
            engine,
            weight_bytes,
            stored_bytes,
        })
    }

    pub fn describe(&self) -> String {
        format!(
            "SmolLM2-135M-Instruct, {} MB of weights",
            self.weight_bytes / 1_000_000
        )
    }

    pub fn threads(&self) -> usize {
        sconce_nn::pool::threads()
    }

    /// Two operations per weight.
    pub fn flops_per_token(&self) -> f64 {
        self.stored_bytes as f64
    }

    /// Generates `new` greedy tokens for each of `streams` prompts of about `prompt` tokens.
    pub fn generate(&self, streams: usize, prompt: usize, new: usize, round: usize) -> Run {
        let began = Instant::now();
        let replies: Vec<Receiver<(Instant, Event)>> = (0..streams)
            .map(|stream| self.submit(words(prompt, round * 1000 + stream), new))
            .collect();
        let mut prompt_tokens = 0;
        let mut firsts = Vec::with_capacity(streams);
        let mut arrivals = Vec::with_capacity(streams * new);
        for reply in replies {
            let before = arrivals.len();
            for (at, event) in reply {
                match event {
                    Event::Token(_) => arrivals.push(at),
                    Event::Done(output) => prompt_tokens += output.prompt_tokens,
                    Event::Failed(error) => panic!("{error}"),
                    Event::Answered(_) | Event::Progress(_) => panic!("text was asked for"),
                    Event::Raw(event) => panic!("{event:?} is of no engine"),
                }
            }
            firsts.push(arrivals[before]);
        }
        let first = firsts.into_iter().max().expect("there are streams");
        let end = arrivals.iter().copied().max().expect("there are tokens");
        Run {
            prompt_tokens,
            first: (first - began).as_secs_f64(),
            rest_tokens: arrivals.into_iter().filter(|at| *at > first).count(),
            rest: (end - first).as_secs_f64(),
        }
    }

    fn submit(&self, prompt: String, max_new_tokens: usize) -> Receiver<(Instant, Event)> {
        let (tell, events) = channel();
        let stop = Stop {
            ignore_eos: true,
            ..Stop::default()
        };
        let params = GenerateParams {
            max_tokens: MaxTokens::New(max_new_tokens),
            stop,
            ..GenerateParams::default()
        };
        let job = Job {
            id: JobId(0),
            input: Input::Generate(Generate::new(prompt, params)),
            reply: Box::new(Tell(tell)),
            deadline: Instant::now() + Duration::from_secs(600),
        };
        self.engine.submit(job).expect("the queue has room");
        events
    }

    /// Reads as many bytes as the weights have, with the engine's threads: the floor of a token.
    pub fn seconds_to_read_weights(&self) -> f64 {
        let words = self.weight_bytes as usize / 8;
        let data = vec![1_u64; words];
        let parts = sconce_nn::pool::threads();
        let began = Instant::now();
        sconce_nn::pool::run(parts, &|part| {
            let chunk = &data[part * words / parts..(part + 1) * words / parts];
            let sums = chunk
                .chunks_exact(16)
                .fold([0_u64; 16], |mut sums, values| {
                    sums.iter_mut()
                        .zip(values)
                        .for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
                    sums
                });
            std::hint::black_box(sums);
        });
        began.elapsed().as_secs_f64()
    }
}

/// Common words, one token each, different for every seed.
pub fn words(count: usize, seed: usize) -> String {
    const WORDS: [&str; 16] = [
        "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world",
        "school", "state", "family", "student", "group",
    ];
    let mut state = (seed as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(1);
    let pick = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        WORDS[(state % 16) as usize]
    };
    (0..count).map(pick).collect::<Vec<_>>().join(" ")
}
