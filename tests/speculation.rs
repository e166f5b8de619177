//! Guessing what comes next changes how many steps an answer takes and not a bit of it.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use sconce_core::{
    AskedSampling, Backend, Event, Generate, GenerateParams, Guide, Input, Job, JobId, MaxTokens,
    Rule, Stop,
};
use sconce_engine::{Engine, EngineError, EngineSettings, Guesser, Speculation};
use sconce_testkit::reply::Tell;

use crate::support::tiny;

const JOBS: usize = 24;

fn settings(speculation: Option<Speculation>) -> EngineSettings {
    EngineSettings {
        task: Default::default(),
        name: "llama".into(),
        dir: tiny("llama"),
        gguf_file: None,
        dtype: None,
        quantise: None,
        packing: None,
        threads: None,
        ranks: 1,
        gpus: Vec::new(),
        eager: false,
        collective_timeout: Duration::from_secs(8),
        max_model_len: Some(192),
        max_rows: 6,
        max_step_tokens: 48,
        prefix_sharing: true,
        model_sampling: false,
        chat_template: None,
        kv_dtype: None,
        // Not enough for six rows of full length, so that some step back.
        kv_cache_bytes: Some(20 * 32 * 512),
        room: None,
        speculation,
        lora: None,
        queue: JOBS,
        predict_timeout: 60,
    }
}

fn params(number: usize) -> GenerateParams {
    let draws = !number.is_multiple_of(3);
    let mut params = GenerateParams {
        max_tokens: MaxTokens::New(20 + 5 * (number % 9)),
        min_new_tokens: number % 5,
        sampling: AskedSampling {
            do_sample: Some(draws),
            // Mostly sure of itself, so that guesses come true.
            temperature: draws.then_some([0.2, 1.0][number % 2]),
            repetition_penalty: (number % 4 == 1).then_some(1.1),
            seed: Some(number as u64),
            ..AskedSampling::default()
        },
        stop: Stop {
            sequences: if number % 6 == 5 {
                vec!["e".into()]
            } else {
                Vec::new()
            },
            ..Stop::default()
        },
        ..GenerateParams::default()
    };
    params.report.top_n_tokens = number % 3;
    params.report.prompt_logprobs = number % 7 == 2;
    if number % 8 == 7 {
        params.guide = Some(Guide {
            key: "guided_regex",
            rule: Rule::Regex("(ab|ba){3,20}".into()).into(),
        });
    }
    params
}

/// Everything that clients are told, job by job.
fn answers(speculation: Option<Speculation>) -> Vec<Vec<Event>> {
    let engine = Engine::start(settings(speculation), Arc::new(|_, _| {})).unwrap();
    let events: Vec<_> = (0..JOBS)
        .map(|number| {
            let (tell, events) = channel();
            let prompt = format!(
                "The quick brown fox{}",
                " jumps, jumps and jumps".repeat(number % 4)
            );
            let job = Job {
                id: JobId(number as u64),
                input: Input::Generate(Generate::new(prompt, params(number))),
                reply: Box::new(Tell {
                    events: tell,
                    gone: Arc::default(),
                }),
                deadline: Instant::now() + Duration::from_secs(60),
            };
            engine.submit(job).unwrap();
            events
        })
        .collect();
    events
        .into_iter()
        .map(|events| events.iter().collect())
        .collect()
}

#[test]
fn answers_are_the_same_whoever_guesses() {
    let wanted = answers(None);
    assert!(
        wanted
            .iter()
            .all(|events| matches!(events.last(), Some(Event::Done(_)))),
        "{wanted:?}"
    );
    let lookup = Guesser::Lookup {
        longest: 3,
        shortest: 1,
    };
    for (tokens, by) in [
        (5, lookup),
        (3, Guesser::Draft(tiny("llama"))),
        (4, Guesser::Draft(tiny("llama-linear"))),
    ] {
        let speculation = Speculation { tokens, by };
        let got = answers(Some(speculation.clone()));
        for (number, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            assert_eq!(got, wanted, "job {number} with {speculation:?}");
        }
    }
}

#[test]
fn a_small_model_of_another_kind_is_refused_by_name() {
    let refused = |model: &str| {
        let by = Guesser::Draft(tiny(model));
        let settings = settings(Some(Speculation { tokens: 3, by }));
        match Engine::start(settings, Arc::new(|_, _| {})) {
            Err(error @ EngineError::Draft { .. }) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{model} guesses"),
        }
    };
    let text = refused("gpt2");
    assert!(
        text.contains("vocabulary has") && text.contains("same family"),
        "{text}"
    );
}
