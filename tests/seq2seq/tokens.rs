//! Greedy tokens and beams are those of `generate`, whatever rules there are, alone and in company.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sconce_core::task::{Source, Truncation, Write};
use sconce_core::{
    Ask, AskedDecoding, AskedSampling, Backend, EarlyStopping, Event, Input, Job, JobId, Task,
    TaskAnswer,
};
use sconce_seq2seq::{Seq2SeqEngine, Seq2SeqSettings};
use sconce_testkit::reply::Tell;
use serde_json::Value;

use super::{FOLDERS, Golden, Run};
use crate::folders::Search;

fn start(golden: &Golden, cache: Option<u64>) -> Seq2SeqEngine {
    let settings = Seq2SeqSettings {
        name: golden.name.clone(),
        dir: FOLDERS.root().join(&golden.name),
        task: Task::Text2TextGeneration,
        languages: None,
        ranks: 1,
        collective_timeout: Duration::from_secs(60),
        dtype: None,
        threads: None,
        max_len: Some(96),
        max_rows: 12,
        max_read_tokens: 100,
        model_sampling: true,
        kv_dtype: None,
        kv_cache_bytes: cache,
        room: None,
        queue: 64,
        quantise: None,
        packing: None,
        predict_timeout: 60,
    };
    Seq2SeqEngine::start(settings, Arc::new(|_, _| {})).unwrap()
}

/// The arguments of `generate`.
fn decoding(parameters: &Value) -> AskedDecoding {
    let count = |key: &str| parameters[key].as_u64().map(|count| count as usize);
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let words = parameters["bad_words_ids"].as_array();
    AskedDecoding {
        max_new_tokens: count("max_new_tokens"),
        max_length: count("max_length"),
        min_new_tokens: count("min_new_tokens"),
        min_length: count("min_length"),
        num_beams: count("num_beams"),
        num_return_sequences: count("num_return_sequences"),
        length_penalty: parameters["length_penalty"].as_f64(),
        early_stopping: match &parameters["early_stopping"] {
            Value::Bool(true) => Some(EarlyStopping::Full),
            Value::Bool(false) => Some(EarlyStopping::Likely),
            Value::String(_) => Some(EarlyStopping::Never),
            _ => None,
        },
        no_repeat_ngram_size: count("no_repeat_ngram_size"),
        encoder_no_repeat_ngram_size: count("encoder_no_repeat_ngram_size"),
        bad_words_ids: words.map(|words| words.iter().map(ids).collect()),
        forced_eos_token_id: count("forced_eos_token_id").map(|id| vec![id as u32]),
        sampling: AskedSampling {
            repetition_penalty: parameters["repetition_penalty"].as_f64().map(|x| x as f32),
            ..AskedSampling::default()
        },
        ..AskedDecoding::default()
    }
}

fn ask(engine: &Seq2SeqEngine, run: &Search) -> Receiver<Event> {
    let (sender, events) = channel();
    let reply = Tell {
        events: sender,
        gone: Arc::default(),
    };
    let ask = Ask::Write(Box::new(Write {
        task: Task::Text2TextGeneration,
        source: Source::Text(run.text.clone()),
        src_lang: None,
        tgt_lang: None,
        decoding: decoding(&run.parameters),
        stop_sequence: None,
        truncation: Truncation::default(),
        clean_up: false,
    }));
    let job = Job {
        id: JobId(0),
        input: Input::Task(ask),
        reply: Box::new(reply),
        deadline: Instant::now() + Duration::from_secs(60),
    };
    engine.submit(job).unwrap();
    events
}

/// The written tokens, best text first.
fn written(events: &Receiver<Event>) -> (Vec<Vec<u32>>, usize) {
    match events.recv().unwrap() {
        Event::Answered(answered) => match answered.answer {
            TaskAnswer::Texts(texts) => {
                let tokens = texts.into_iter().map(|written| written.tokens);
                (tokens.collect(), answered.tokens)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn compare(golden: &Golden, run: &Search, events: &Receiver<Event>, how: &str) -> Option<String> {
    let (got, tokens) = written(events);
    let want: Vec<Vec<u32>> = run.sequences.iter().map(|ids| ids[1..].to_vec()).collect();
    let counted: usize = got.iter().map(Vec::len).sum();
    assert_eq!(tokens, run.ids.len() + counted, "{}", golden.name);
    (got != want).then(|| {
        let (name, text, parameters) = (&golden.name, &run.text, &run.parameters);
        format!("{name}, {how}, {text:?}, {parameters}:\n  {got:?}\n  {want:?}")
    })
}

#[test]
fn tokens_are_those_of_generate_alone_and_in_company() {
    let mut wrong = Vec::new();
    for golden in FOLDERS.goldens::<Run>() {
        // Room for some at a time, so that others wait and join while these are at work.
        let engine = start(&golden, Some(1 << 20));
        for run in &golden.tokens {
            wrong.extend(compare(&golden, run, &ask(&engine, run), "alone"));
        }
        let all: Vec<_> = golden.tokens.iter().map(|run| ask(&engine, run)).collect();
        for (run, events) in golden.tokens.iter().zip(&all) {
            wrong.extend(compare(&golden, run, events, "in company"));
        }
        assert_eq!(engine.load().running, 0, "{}", golden.name);
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} differ:\n{}", wrong.join("\n"));
}
