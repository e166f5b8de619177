//! What DJL Serving's own formatters write for fixed tokens, against this crate:
//! `tests/fixtures/djl/record.py` recorded it.

use sconce_core::{Event, FinishReason, Output, PromptToken, ServeError, Token, TopToken};
use serde::Deserialize;
use serde_json::Value;

use crate::{Answer, Collector, Dialect, Formatter, Incoming, Wire};

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    dialect: String,
    formatter: Option<String>,
    request: Value,
    generation: Generation,
    recorded: Reply,
}

#[derive(Deserialize)]
struct Generation {
    prompt: Vec<(u32, String, Option<f32>)>,
    tokens: Vec<WireToken>,
    finish: String,
    matched: Option<String>,
}

#[derive(Deserialize)]
struct WireToken {
    id: u32,
    text: String,
    logprob: f32,
    special: bool,
}

#[derive(Deserialize)]
struct Reply {
    content_type: Option<String>,
    body: Option<String>,
    error: Option<String>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/fixtures/djl/formatters.json");
    let recorded: Recorded = serde_json::from_str(text).expect("the fixture is whole");
    recorded.cases
}

fn wire(case: &Case) -> Wire {
    let mut dialects = Dialect::ALL.into_iter();
    let dialect = dialects.find(|dialect| dialect.name() == case.dialect);
    let formatter = case.formatter.as_deref();
    Wire {
        dialect: dialect.expect("a dialect of that name"),
        formatter: formatter.map(|name| Formatter::parse(name).expect("a formatter")),
        ..Wire::default()
    }
}

/// The events of a generation as the engine would send them.
fn events(generation: &Generation, prefill: bool, top: usize) -> Vec<Event> {
    let count = generation.tokens.len();
    let tokens = generation.tokens.iter().enumerate().map(|(at, token)| {
        Event::Token(Token {
            id: token.id,
            text: token.text.clone(),
            logprob: token.logprob,
            spelled: String::new(),
            special: token.special,
            last: at + 1 == count,
            top: vec![
                TopToken {
                    id: 0,
                    text: String::new(),
                    logprob: 0.0,
                    special: false
                };
                top
            ],
        })
    });
    let prompt = generation.prompt.iter().filter(|_| prefill);
    let end = Event::Done(Output {
        text: generation.tokens.iter().map(|token| &*token.text).collect(),
        finish: match generation.finish.as_str() {
            "length" => FinishReason::Length,
            "eos_token" => FinishReason::EosToken,
            _ => FinishReason::StopSequence,
        },
        prompt_tokens: generation.prompt.len(),
        generated_tokens: count,
        seed: None,
        prompt: prompt
            .map(|(id, text, logprob)| PromptToken {
                id: *id,
                text: text.clone(),
                logprob: *logprob,
                ..PromptToken::default()
            })
            .collect(),
        echo: String::new(),
        matched: generation.matched.clone(),
        others: Vec::new(),
    });
    tokens.chain([end]).collect()
}

/// Content type and body of the answer.
fn answer(case: &Case) -> Result<(&'static str, String), ServeError> {
    let body = case.request.to_string();
    let incoming = Incoming {
        body: body.as_bytes(),
        ..Incoming::default()
    };
    let accepted = wire(case).accept(&incoming)?;
    let report = &accepted.prompts[0].params.report;
    let events = events(
        &case.generation,
        report.prompt_logprobs,
        report.top_n_tokens,
    );
    let (content_type, bytes) = match accepted.answer {
        Answer::Whole(whole) => {
            let mut collector = Collector::new(whole.keeps_tokens());
            let ended = events.into_iter().find_map(|event| collector.push(event));
            let finished = ended.expect("the events end")?;
            (whole.content_type(), whole.body(&[finished]))
        }
        Answer::Stream(mut stream) => {
            let bytes = events.into_iter().flat_map(|event| match event {
                Event::Token(token) => stream.token(0, token),
                Event::Done(output) => stream.done(0, &output),
                Event::Failed(error) => stream.fail(&error, 424),
                Event::Answered(_) | Event::Progress(_) => panic!("text was asked for"),
                Event::Raw(_) => vec![],
            });
            let bytes = bytes.collect();
            (stream.content_type(), bytes)
        }
        Answer::Task(_) => panic!("text was asked for"),
    };
    let body = String::from_utf8(bytes).expect("answers are UTF-8");
    Ok((content_type, body))
}

#[test]
fn answers_are_those_of_the_recorded_formatters_byte_for_byte() {
    let mut compared = 0;
    for case in cases() {
        let Some(body) = &case.recorded.body else {
            continue;
        };
        let which = format!("{} {:?} {}", case.dialect, case.formatter, case.request);
        let got = answer(&case).unwrap_or_else(|error| panic!("{which}: {error}"));
        let content_type = case.recorded.content_type.as_deref();
        assert_eq!(Some(got.0), content_type, "{which}");
        assert_eq!(&got.1, body, "{which}");
        compared += 1;
    }
    assert!(compared > 80, "{compared} cases only");
}

/// DJL prints the payload as Python does; here it is what the client sent. A list is a request.
#[test]
fn refusals_begin_as_the_recorded_ones() {
    let mut compared = 0;
    for case in cases() {
        let Some(error) = &case.recorded.error else {
            continue;
        };
        let refusal = answer(&case).expect_err("refused there too");
        let body = String::from_utf8(wire(&case).failure(&refusal, 424)).unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let got = body["error"].as_str().unwrap();
        let got = got.replace("a string or a list of strings", "a string");
        let until = |text: &str| text.split("Received payload").next().map(str::to_owned);
        assert_eq!(until(&got), until(error));
        assert_eq!(body["code"], 424);
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn the_document_of_the_dialects_has_a_chapter_for_each() {
    let document = include_str!("../DIALECTS.md");
    let chapters = document.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("## `")?.split_once('`')?;
        Some(name)
    });
    let chapters: Vec<_> = chapters.collect();
    assert_eq!(chapters, Dialect::ALL.map(Dialect::name));
}
