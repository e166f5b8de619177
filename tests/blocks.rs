//! The key/value cache of a real model under clients that come, stay and leave: every block that
//! a job took comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use sconce_core::{
    AskedSampling, Backend, Event, Generate, GenerateParams, Input, Job, JobId, MaxTokens,
};
use sconce_engine::{Engine, EngineSettings};
use sconce_testkit::reply::Tell;

use crate::support::tiny;

const JOBS: usize = 32;
const ROUNDS: u64 = 10;
/// Per token: keys and values of 2 layers with 2 heads of 8 f32 numbers.
const TOKEN_BYTES: u64 = 2 * 2 * 2 * 8 * 4;
/// 24 blocks of 32 tokens: not enough for all jobs, so some go back to the queue.
const CACHE_BYTES: u64 = 24 * 32 * TOKEN_BYTES;

fn engine(kv_cache_bytes: u64, prefix_sharing: bool) -> Engine {
    let settings = EngineSettings {
        name: "llama".into(),
        dir: tiny("llama"),
        task: Default::default(),
        gguf_file: None,
        dtype: None,
        quantise: None,
        packing: None,
        threads: None,
        ranks: 1,
        gpus: Vec::new(),
        eager: false,
        collective_timeout: Duration::from_secs(8),
        max_model_len: None,
        max_rows: JOBS,
        max_step_tokens: 48,
        prefix_sharing,
        model_sampling: false,
        chat_template: None,
        kv_dtype: None,
        kv_cache_bytes: Some(kv_cache_bytes),
        room: None,
        speculation: None,
        lora: None,
        queue: JOBS,
        predict_timeout: 60,
    };
    Engine::start(settings, Arc::new(|_, _| {})).unwrap()
}

struct Client {
    events: Receiver<Event>,
    gone: Arc<AtomicBool>,
}

impl Client {
    /// Submits the job of this number: greedy or drawn, with a length of its own.
    fn submit(engine: &Engine, number: usize) -> Self {
        let (tell, events) = channel();
        let gone = Arc::new(AtomicBool::new(false));
        let reply = Tell {
            events: tell,
            gone: Arc::clone(&gone),
        };
        let sampling = AskedSampling {
            do_sample: Some(number % 2 == 1),
            seed: Some(number as u64),
            ..AskedSampling::default()
        };
        let params = GenerateParams {
            max_tokens: MaxTokens::New(new_tokens(number)),
            sampling,
            ..GenerateParams::default()
        };
        let start = "The quick brown fox jumps over the lazy dog";
        let prompt = format!("{start}{}, {number}", " again".repeat(number % 6));
        let job = Job {
            id: JobId(number as u64),
            input: Input::Generate(Generate::new(prompt, params)),
            reply: Box::new(reply),
            deadline: Instant::now() + Duration::from_secs(60),
        };
        engine.submit(job).unwrap();
        Self { events, gone }
    }

    /// The ids of the answer's tokens, in order.
    fn answer(self) -> Vec<u32> {
        let mut ids = Vec::new();
        for event in self.events {
            match event {
                Event::Token(token) => ids.push(token.id),
                Event::Done(_) => return ids,
                Event::Failed(error) => panic!("{error}"),
                Event::Answered(_) | Event::Progress(_) => panic!("text was asked for"),
                Event::Raw(event) => panic!("{event:?} is of no engine"),
            }
        }
        panic!("dropped without an end after {} tokens", ids.len())
    }

    /// Leaves after so many tokens, or at the end if it comes earlier.
    fn leave_after(self, tokens: usize) {
        let is_token = |event: &Event| matches!(event, Event::Token(_));
        let taken = self.events.iter().take_while(is_token).take(tokens);
        taken.for_each(drop);
        self.gone.store(true, SeqCst);
    }
}

fn new_tokens(number: usize) -> usize {
    12 + number * 2
}

/// Waits until the engine has nothing to do; the blocks that are then in use.
fn blocks_at_rest(engine: &Engine) -> usize {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let load = engine.load();
        let is_idle = load.running == 0 && load.queued == 0;
        if (is_idle && load.used_blocks == 0) || Instant::now() > deadline {
            assert!(is_idle, "jobs run on: {load:?}");
            return load.used_blocks;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_block_stays_in_use_when_a_third_of_the_clients_leaves_at_random() {
    let alone: Vec<Vec<u32>> = {
        let engine = engine(8 * CACHE_BYTES, false);
        let answer = |number| Client::submit(&engine, number).answer();
        (0..JOBS).map(answer).collect()
    };
    let engine = engine(CACHE_BYTES, true);
    let mut most = 0;
    for round in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(round);
        let leaving: BTreeSet<usize> = random
            .choose_multiple(0..JOBS, JOBS / 3)
            .into_iter()
            .collect();
        let clients: Vec<Client> = (0..JOBS).map(|n| Client::submit(&engine, n)).collect();
        let (leaving, staying): (Vec<_>, Vec<_>) = clients
            .into_iter()
            .enumerate()
            .partition(|(number, _)| leaving.contains(number));
        thread::scope(|scope| {
            for (number, client) in leaving {
                let tokens = random.usize(0..new_tokens(number));
                scope.spawn(move || client.leave_after(tokens));
            }
            for (number, client) in staying {
                assert_eq!(
                    client.answer(),
                    alone[number],
                    "round {round}, job {number}"
                );
                most = most.max(engine.load().used_blocks);
            }
        });
        assert_eq!(blocks_at_rest(&engine), 0, "round {round}");
    }
    // Else nothing above would have been counted, or nothing would have been short.
    assert!(most > 12, "at most {most} of 24 blocks were seen in use");
}
