//! The built program on GPUs: those of this machine, or the emulated ones of `make test-cuda`. Where there are none, the
//! errors are tested that say so.

use std::time::{Duration, Instant};

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};

use crate::support::{PROGRAM, generated, started, tiny};

/// Exit code where a device cannot be had.
const NO_DEVICE: i32 = 69;

fn count() -> usize {
    sconce_nn::gpus().map_or(0, |gpus| gpus.len())
}

/// Whether there are so many GPUs; says so where not.
#[allow(clippy::print_stdout)]
fn there_are(wanted: usize) -> bool {
    let enough = count() >= wanted;
    if !enough {
        let emulated = std::env::var_os("SCONCE_EMULATED_GPUS").is_some();
        assert!(!emulated, "{:?}", sconce_nn::gpus());
        println!(
            "skipped: {wanted} GPUs are needed, and there are {}",
            count()
        );
    }
    enough
}

fn serve(device: &str, ranks: &str) -> Launch<'static> {
    let inherited = ["LD_LIBRARY_PATH", "SCONCE_EMULATED_GPUS"];
    let inherited = inherited.map(|name| (name, std::env::var(name).unwrap_or_default()));
    let launch = inherited
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .fold(
            Launch::serve(PROGRAM, &tiny("llama")),
            |launch, (name, value)| launch.env(name, &value),
        );
    launch
        .env("OPTION_DEVICE", device)
        .env("OPTION_TENSOR_PARALLEL_DEGREE", ranks)
        .env("OPTION_COLLECTIVE_TIMEOUT", "4")
}

fn request() -> Value {
    json!({"inputs": "Hello", "parameters": {"max_new_tokens": 12, "do_sample": false}})
}

/// The texts of answers: the likeliest tokens, drawn ones of few, of many, and with a penalty.
fn answers(launch: Launch<'static>) -> Vec<String> {
    let server = started(launch);
    let client = Client::new(server.address());
    let drawn = |parameters: Value| {
        let mut all = json!({"max_new_tokens": 12, "do_sample": true, "seed": 5, "temperature": 1.5});
        let more = parameters.as_object().expect("parameters").clone();
        all.as_object_mut().expect("parameters").extend(more);
        json!({"inputs": "Hello", "parameters": all})
    };
    let requests = [
        request(),
        drawn(json!({"top_k": 20, "top_p": 0.9})),
        drawn(json!({"top_p": 0.95})),
        drawn(json!({"top_k": 20, "repetition_penalty": 1.3})),
    ];
    let texts = requests.iter().map(|request| {
        let answer = client.post("/invocations", request).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        generated(&answer.json().expect("JSON")).to_owned()
    });
    texts.collect()
}

#[test]
fn gpus_give_the_tokens_of_the_processor_on_one_and_on_two() {
    if !there_are(2) {
        return;
    }
    let processor = answers(serve("cpu", "1"));
    for ranks in ["1", "2"] {
        assert_eq!(answers(serve("cuda", ranks)), processor, "{ranks} ranks");
    }
}

#[test]
#[allow(clippy::print_stdout)]
fn a_rank_that_never_comes_is_named_and_nothing_waits_for_ever() {
    if !there_are(2) || std::env::var_os("SCONCE_EMULATED_GPUS").is_none() {
        println!("skipped: only an emulated GPU can be told to fail");
        return;
    }
    // Of a step's five sums and of the canary's; somewhere in the first request.
    let launch = serve("cuda", "2").env("SCONCE_EMULATED_FAULT", "allreduce:1:12");
    // The canary passes.
    let server = started(launch);
    let client = Client::new(server.address());
    let began = Instant::now();
    let answer = client.post("/invocations", &request()).expect("an answer");
    assert!(answer.status >= 400, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(60));
    let ping = client.get("/ping").expect("an answer");
    assert_ne!(ping.status, 200);
    let text = ping.text();
    assert!(
        text.contains("rank") && text.contains("no sign of life"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_had_of_gpus_ends_the_start_with_the_cure() {
    let refused = |launch: Launch, parts: &[&str]| {
        let (status, log) = launch.run().expect("it ends");
        assert_eq!(status.code(), Some(NO_DEVICE), "{log}");
        for part in parts {
            assert!(log.contains(part), "no {part} in {log}");
        }
    };
    match count() {
        0 => refused(serve("cuda", "1"), &["set option.device=cpu"]),
        some => {
            let sees = format!("this process sees {some}");
            refused(
                serve("cuda", &(some + 1).to_string()),
                &[&sees, "tensor_parallel_degree"],
            );
            let blocks = serve("auto", "1").env("OPTION_QUANTIZE", "q4_0");
            refused(blocks, &["option.quantize=", "processor only"]);
        }
    }
}
