//! Vectors of texts with all-MiniLM-L6-v2, in process: texts per second, one at a time and 32 at once.
//!
//! `cargo bench --bench encode [-- TOKENS..]`: texts of 32, 128 and 512 tokens without a word. Tokens, the model and the
//! pooling count. Medians of rounds. `benches/peers/encode.py` measures peers so.
#![allow(clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use sconce_core::task::{Embed, Subject};
use sconce_core::{Ask, Backend, Event, Input, Job, JobId, Reply, Task};
use sconce_tasks::{TaskEngine, TaskSettings, VectorWish};

const ROUNDS: usize = 7;

struct Answers(Sender<Event>);

impl Reply for Answers {
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }

    fn gone(&self) -> bool {
        false
    }
}

fn main() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let dir = root.join("models/all-minilm-l6-v2");
    if !dir.join("config.json").exists() {
        println!("skipped: the model is not there; run `python3 models/fetch_minilm.py` first");
        return;
    }
    let settings = TaskSettings {
        name: "minilm".into(),
        dir,
        task: Task::TextEmbedding,
        dtype: None,
        threads: None,
        max_len: Some(512),
        batch_size: 32,
        max_batch_delay: Duration::from_millis(1),
        max_batch_tokens: 4096,
        vectors: VectorWish::default(),
        quantise: None,
        packing: None,
        room: None,
        queue: 1000,
        predict_timeout: 60,
    };
    let engine =
        TaskEngine::start(settings, Arc::new(|_, _| {})).unwrap_or_else(|error| panic!("{error}"));
    let asked: Vec<usize> = std::env::args()
        .filter_map(|word| word.parse().ok())
        .collect();
    for tokens in [32, 128, 512] {
        if !asked.is_empty() && !asked.contains(&tokens) {
            continue;
        }
        for count in [1, 32] {
            let rates = (0..ROUNDS).map(|_| rate(&engine, tokens, count));
            let mut rates: Vec<f64> = rates.collect();
            rates.sort_by(f64::total_cmp);
            println!(
                "{tokens:4} tokens, {count:2} at once: {:8.1} texts/s",
                rates[ROUNDS / 2]
            );
        }
    }
}

/// Texts per second; a text has two special tokens.
fn rate(engine: &TaskEngine, tokens: usize, count: usize) -> f64 {
    let text = "time ".repeat(tokens - 2);
    let began = Instant::now();
    let repeats = if count == 1 { 8 } else { 1 };
    for _ in 0..repeats {
        let (sender, receiver) = channel();
        for _ in 0..count {
            let ask = Ask::Embed(Embed {
                text: Subject::Text(text.clone()),
                ..Embed::default()
            });
            let job = Job {
                id: JobId(0),
                input: Input::Task(ask),
                reply: Box::new(Answers(sender.clone())),
                deadline: Instant::now() + Duration::from_secs(60),
            };
            engine.submit(job).unwrap_or_else(|error| panic!("{error}"));
        }
        for _ in 0..count {
            match receiver.recv() {
                Ok(Event::Answered(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    (count * repeats) as f64 / began.elapsed().as_secs_f64()
}
