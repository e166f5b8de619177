//! The engine around a fake model whose next token is a function of all tokens before it, read
//! back through the block tables: wrong slots, wrong sharing or a lost token change the answer.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use sconce_core::{
    Backend, Event, FinishReason, Generate, GenerateParams, Input, Job, JobId, MaxTokens, Output,
    ServeError, Token,
};
use sconce_engine::{Checkpoint, Engine, EngineError, EngineSettings, Needs};
use sconce_models::{Adapter, Footprint, Model};
use sconce_nn::{BLOCK, KvCache, KvDtype, KvShape, Step};
use sconce_testkit::reply::Tell;
use sconce_text::Tokenizer;

const VOCAB: usize = 40;
const EOS: u32 = 1;
/// A prompt with this word makes the model panic.
const BOMB: u32 = 2;
/// A prompt with this word makes the model's logits not numbers.
const POISON: u32 = 3;

/// Remembers the token of each slot, as a real cache does with keys and values.
#[derive(Default)]
struct Fake {
    slots: HashMap<u32, u32>,
}

impl Model for Fake {
    fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: 1,
            kv_heads: 1,
            head_dim: 8,
            dtype: KvDtype::F32,
        }
    }

    fn vocab(&self) -> usize {
        VOCAB
    }

    fn forward(
        &mut self,
        step: &Step,
        _: &[Option<Arc<Adapter>>],
        _: &mut KvCache,
    ) -> candle_core::Result<Tensor> {
        // A step takes its time, so that tests can act while long jobs run.
        std::thread::sleep(Duration::from_millis(2));
        self.slots
            .extend(step.slots.iter().copied().zip(step.ids.iter().copied()));
        let mut logits = Vec::new();
        for &token in &step.sampled {
            let token = token as usize;
            let row = step
                .rows
                .iter()
                .find(|row| (row.q_start..row.q_start + row.q_len).contains(&token));
            let row = row.expect("every token belongs to a row");
            let prefix: Vec<u32> = (0..=step.positions[token] as usize)
                .map(|at| {
                    self.slots[&(row.blocks[at / BLOCK] * BLOCK as u32 + (at % BLOCK) as u32)]
                })
                .collect();
            logits.extend(next_logits(&prefix));
        }
        Tensor::from_vec(logits, (step.sampled.len(), VOCAB), &Device::Cpu)
    }
}

fn next_logits(prefix: &[u32]) -> Vec<f32> {
    assert!(!prefix.contains(&BOMB), "the bomb went off");
    if prefix.contains(&POISON) {
        return vec![f32::NAN; VOCAB];
    }
    let hash = prefix.iter().fold(7_u64, |hash, &id| {
        (hash ^ u64::from(id))
            .wrapping_mul(0x100_0000_01b3)
            .rotate_left(17)
    });
    let logit = |id: usize| ((hash >> (id % 48)) % 1000) as f32 / 250.0;
    // Ordinary words only: the special ones end or break the job.
    (0..VOCAB)
        .map(|id| if id < 4 { -50.0 } else { logit(id) })
        .collect()
}

struct Client {
    events: Receiver<Event>,
    gone: Arc<AtomicBool>,
}

impl Client {
    fn end(&self) -> Result<(Vec<Token>, Output), ServeError> {
        let mut tokens = Vec::new();
        loop {
            match self.events.recv_timeout(Duration::from_secs(20)) {
                Ok(Event::Token(token)) => tokens.push(token),
                Ok(Event::Done(output)) => return Ok((tokens, output)),
                Ok(Event::Failed(error)) => return Err(error),
                Ok(Event::Answered(_) | Event::Progress(_)) => panic!("text was asked for"),
                Ok(Event::Raw(event)) => panic!("{event:?} is of no engine"),
                Err(RecvTimeoutError::Timeout) => panic!("no answer for 20 s"),
                Err(RecvTimeoutError::Disconnected) => panic!("dropped without an answer"),
            }
        }
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    let mut words: Vec<String> = vec![
        "[unk]".into(),
        "[eos]".into(),
        "bomb".into(),
        "poison".into(),
    ];
    words.extend((words.len()..VOCAB).map(|id| format!("w{id}")));
    let vocab: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(id, w)| format!("{w:?}: {id}"))
        .collect();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{{"id": 1, "content": "[eos]", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}}],
        "pre_tokenizer": {{"type": "Whitespace"}}, "post_processor": null, "decoder": null,
        "model": {{"type": "WordLevel", "unk_token": "[unk]", "vocab": {{{}}}}}}}"#,
        vocab.join(", ")
    );
    std::fs::write(dir.path().join("tokenizer.json"), json).unwrap();
    Arc::new(Tokenizer::open(dir.path()).unwrap())
}

fn settings() -> EngineSettings {
    EngineSettings {
        name: "fake".into(),
        dir: "fake".into(),
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
        max_model_len: Some(256),
        max_rows: 8,
        max_step_tokens: 48,
        prefix_sharing: true,
        model_sampling: false,
        chat_template: None,
        kv_dtype: None,
        // 20 blocks of 2 KiB: eight rows of 256 tokens do not fit, so some are preempted.
        kv_cache_bytes: Some(20 * 2 * 32 * 8 * 4),
        room: None,
        speculation: None,
        lora: None,
        queue: 64,
        predict_timeout: 7,
    }
}

fn start(settings: EngineSettings) -> Engine {
    try_start(settings).unwrap()
}

fn try_start(settings: EngineSettings) -> Result<Engine, EngineError> {
    let needs = Needs {
        weights: Footprint::default(),
        activations: 0,
        packed_inputs: 0,
        rotations: 0,
        adapters: 0,
        draft: None,
        kv: Fake::default().kv_shape(),
        ranks: settings.ranks,
        max_len: settings.max_model_len.unwrap_or(512),
        may_shorten: settings.max_model_len.is_none(),
        max_rows: settings.max_rows,
        wanted_cache: settings.kv_cache_bytes,
    };
    let checkpoint = Checkpoint {
        loader: Arc::new(|_, _| Ok(Box::new(Fake::default()))),
        tokenizer: tokenizer(),
        templates: Err("a random model has none".into()),
        eos: vec![EOS],
        sampling: sconce_core::Sampling::default(),
        length: MaxTokens::New(20),
        border: None,
        adapters: None,
        own_adapter: None,
        draft: None,
        needs,
        planned: None,
    };
    Engine::start_with(settings, checkpoint, Arc::new(|_, _| {}))
}

fn submit(engine: &Engine, prompt: &str, params: GenerateParams) -> Result<Client, ServeError> {
    submit_until(
        engine,
        prompt,
        params,
        Instant::now() + Duration::from_secs(60),
    )
}

fn submit_until(
    engine: &Engine,
    prompt: &str,
    params: GenerateParams,
    deadline: Instant,
) -> Result<Client, ServeError> {
    let (tell, events) = channel();
    let gone = Arc::new(AtomicBool::new(false));
    let reply = Tell {
        events: tell,
        gone: Arc::clone(&gone),
    };
    let input = Input::Generate(Generate::new(prompt, params));
    engine.submit(Job {
        id: JobId(1),
        input,
        reply: Box::new(reply),
        deadline,
    })?;
    Ok(Client { events, gone })
}

fn params(max_new_tokens: usize) -> GenerateParams {
    GenerateParams {
        max_tokens: MaxTokens::New(max_new_tokens),
        ..GenerateParams::default()
    }
}

fn prompt(words: usize, seed: usize) -> String {
    let word = |at: usize| format!("w{}", 4 + (at * 7 + seed * (at / 40 + 1)) % (VOCAB - 4));
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "{what} did not come true in 20 s"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the fake model generates, computed without an engine.
fn expected(engine_prompt: &str, new: usize) -> Vec<u32> {
    let mut ids = tokenizer().encode(engine_prompt).unwrap();
    let start = ids.len();
    for _ in 0..new {
        let logits = next_logits(&ids);
        let best = (0..VOCAB)
            .rev()
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap();
        ids.push(best as u32);
    }
    ids.split_off(start)
}

#[test]
fn jobs_answer_the_same_together_as_alone_although_the_cache_is_too_small_for_all() {
    let engine = start(settings());
    let cases: Vec<(String, usize)> = (0..24)
        .map(|seed| (prompt(20 + seed * 5, seed % 3), 10 + seed * 3))
        .collect();
    let clients: Vec<Client> = cases
        .iter()
        .map(|(text, new)| submit(&engine, text, params(*new)).unwrap())
        .collect();
    for ((text, new), client) in cases.iter().zip(&clients) {
        let (tokens, output) = client.end().unwrap();
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, expected(text, *new));
        assert_eq!(
            (output.generated_tokens, output.finish),
            (*new, FinishReason::Length)
        );
        assert_eq!(
            tokens
                .iter()
                .map(|token| token.text.as_str())
                .collect::<String>(),
            output.text
        );
    }
    wait_until("an idle engine", || {
        engine.load().used_blocks == 0 && engine.load().running == 0
    });
}

#[test]
fn prompt_logprobs_cover_the_prompt_in_order() {
    let engine = start(settings());
    let text = prompt(70, 1);
    let mut wanted = params(2);
    wanted.report.prompt_logprobs = true;
    wanted.report.top_n_tokens = 3;
    let (tokens, output) = submit(&engine, &text, wanted).unwrap().end().unwrap();
    let ids = tokenizer().encode(&text).unwrap();
    assert_eq!(
        output
            .prompt
            .iter()
            .map(|token| token.id)
            .collect::<Vec<_>>(),
        ids
    );
    assert_eq!(output.prompt[0].logprob, None);
    for at in 1..ids.len() {
        let logits = next_logits(&ids[..at]);
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let want = logits[ids[at] as usize] - sum.ln();
        let got = output.prompt[at].logprob.unwrap();
        assert!((got - want).abs() < 1e-4, "{at}: {got} is not {want}");
    }
    assert_eq!(tokens[0].top.len(), 3);
    assert_eq!(tokens[0].top[0].id, tokens[0].id);
}

#[test]
fn a_client_that_leaves_frees_its_blocks_and_the_others_do_not_notice() {
    let engine = start(settings());
    let leaving = submit(&engine, &prompt(60, 1), params(190)).unwrap();
    let staying = submit(&engine, &prompt(60, 2), params(50)).unwrap();
    leaving.events.recv().unwrap();
    leaving.gone.store(true, SeqCst);
    let (tokens, _) = staying.end().unwrap();
    assert_eq!(
        tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
        expected(&prompt(60, 2), 50)
    );
    wait_until("all blocks free", || engine.load().used_blocks == 0);
}

#[test]
fn a_job_past_its_deadline_fails_with_the_option_s_name() {
    let engine = start(settings());
    let client = submit_until(&engine, &prompt(9, 1), params(9), Instant::now()).unwrap();
    let error = client.end().unwrap_err();
    assert_eq!(error, ServeError::Timeout { seconds: 7 });
}

#[test]
fn a_panic_fails_all_jobs_with_its_message_and_makes_the_engine_unhealthy() {
    let engine = start(settings());
    let other = submit(&engine, &prompt(9, 1), params(200)).unwrap();
    other.events.recv().unwrap();
    let bomb = submit(&engine, "w5 bomb w6", params(9)).unwrap();
    for client in [bomb, other] {
        let error = client.end().unwrap_err().to_string();
        assert!(error.contains("the bomb went off"), "{error}");
    }
    assert!(engine.failure().unwrap().contains("the bomb went off"));
    let refused = submit(&engine, "w5", params(1)).err().unwrap().to_string();
    assert!(refused.contains("the bomb went off"), "{refused}");
}

#[test]
fn logits_that_are_no_numbers_fail_the_one_job_only() {
    let engine = start(settings());
    let other = submit(&engine, &prompt(9, 1), params(30)).unwrap();
    let poison = submit(&engine, "w5 poison", params(3)).unwrap();
    assert!(matches!(poison.end(), Err(ServeError::Engine { .. })));
    assert_eq!(other.end().unwrap().0.len(), 30);
    assert_eq!(engine.failure(), None);
}

#[test]
fn lengths_are_checked_at_the_door_against_the_context() {
    let engine = start(settings());
    let refused = |words, new| {
        submit(&engine, &prompt(words, 1), params(new))
            .err()
            .unwrap()
    };
    assert_eq!(
        refused(256, 1),
        ServeError::PromptTooLong {
            prompt: 256,
            limit: 256
        }
    );
    assert_eq!(
        refused(200, 57),
        ServeError::TooLong {
            prompt: 200,
            new: 57,
            limit: 256
        }
    );
    assert_eq!(
        refused(200, usize::MAX),
        ServeError::TooLong {
            prompt: 200,
            new: usize::MAX,
            limit: 256
        }
    );
    assert_eq!(
        submit(&engine, &prompt(200, 1), params(56))
            .unwrap()
            .end()
            .unwrap()
            .0
            .len(),
        56
    );
}

#[test]
fn a_stop_token_outside_the_vocabulary_is_refused_with_its_size() {
    let engine = start(settings());
    let mut wanted = params(3);
    wanted.stop.token_ids = vec![VOCAB as u32];
    let error = submit(&engine, "w5", wanted).err().unwrap().to_string();
    assert!(
        error.contains("stop_token_ids") && error.contains("40"),
        "{error}"
    );
}

#[test]
fn a_full_queue_is_refused_with_its_limit() {
    let engine = start(EngineSettings {
        queue: 2,
        max_rows: 1,
        ..settings()
    });
    let mut clients = vec![submit(&engine, &prompt(9, 1), params(240)).unwrap()];
    clients[0].events.recv().unwrap();
    let refusal = loop {
        match submit(&engine, &prompt(9, clients.len()), params(240)) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 9, "the queue of 2 took everything");
    };
    assert_eq!(
        refusal,
        ServeError::QueueFull {
            model: "fake".into(),
            limit: 2
        }
    );
}

#[test]
fn stop_tokens_and_stop_sequences_end_the_answer() {
    let engine = start(settings());
    let text = prompt(12, 2);
    let ids = expected(&text, 9);
    let mut wanted = params(9);
    wanted.stop.token_ids = vec![ids[5]];
    let first = ids.iter().position(|id| *id == ids[5]).unwrap();
    let (tokens, output) = submit(&engine, &text, wanted).unwrap().end().unwrap();
    assert_eq!(
        (tokens.len(), output.finish),
        (first + 1, FinishReason::EosToken)
    );

    let mut wanted = params(9);
    wanted.stop.sequences = vec![format!("w{} w{}", ids[3], ids[4])];
    let (_, output) = submit(&engine, &text, wanted).unwrap().end().unwrap();
    assert_eq!(output.finish, FinishReason::StopSequence);
    assert!(
        !output.text.contains(&format!("w{} w{}", ids[3], ids[4])),
        "{}",
        output.text
    );
}

#[test]
fn a_seed_draws_the_same_alone_as_among_others() {
    let engine = start(settings());
    let mut sampled = params(40);
    sampled.sampling.do_sample = Some(true);
    sampled.sampling.seed = Some(11);
    let ids = |client: &Client| {
        client
            .end()
            .unwrap()
            .0
            .iter()
            .map(|token| token.id)
            .collect::<Vec<_>>()
    };
    let alone = ids(&submit(&engine, &prompt(40, 1), sampled.clone()).unwrap());
    let others: Vec<Client> = (0..7)
        .map(|seed| submit(&engine, &prompt(30, seed), params(40)).unwrap())
        .collect();
    let among = ids(&submit(&engine, &prompt(40, 1), sampled).unwrap());
    assert_eq!(alone, among);
    for other in others {
        other.end().unwrap();
    }
}

#[test]
fn a_length_that_nobody_asked_for_is_what_the_cache_holds() {
    let engine = start(EngineSettings {
        max_model_len: None,
        // 10 blocks of 32 tokens, where the context has 512.
        kv_cache_bytes: Some(10 * 2 * 32 * 8 * 4),
        ..settings()
    });
    let refused = submit(&engine, &prompt(320, 1), GenerateParams::default());
    assert_eq!(
        refused.err(),
        Some(ServeError::PromptTooLong {
            prompt: 320,
            limit: 320
        })
    );
    let text = prompt(300, 1);
    let (tokens, _) = submit(&engine, &text, params(20)).unwrap().end().unwrap();
    let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, expected(&text, 20));
}

#[test]
fn a_cache_that_holds_no_sequence_is_refused_at_the_start() {
    let too_small = try_start(EngineSettings {
        kv_cache_bytes: Some(100),
        ..settings()
    });
    assert!(matches!(too_small, Err(EngineError::Memory { .. })));
}

#[test]
fn stopping_fails_what_still_runs() {
    let engine = start(settings());
    let client = submit(&engine, &prompt(9, 1), params(240)).unwrap();
    client.events.recv().unwrap();
    engine.stop();
    assert_eq!(client.end().unwrap_err(), ServeError::Draining);
    assert!(submit(&engine, "w5", params(1)).is_err());
}
