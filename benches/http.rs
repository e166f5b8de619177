//! The program over HTTP: 1, 8 and 32 clients that stream, time to the first token and between
//! tokens. Compares the aggregate, and the pauses between tokens, with those of one client.
//!
//! `cargo bench --bench http`. Each client sends its next request when the last is done, so that
//! prompts arrive beside those who generate.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use common::{median, model_dir, percentile, words};
use sconce_testkit::server::Launch;

const ROUNDS: usize = 3;
const PROMPT: usize = 128;
const NEW: usize = 64;
/// Requests of each client in a round.
const REQUESTS: usize = 3;

/// Times of one request in seconds.
struct Times {
    first: f64,
    gaps: Vec<f64>,
}

fn main() {
    if !model_dir().join("model.safetensors").exists() {
        println!("skipped: the default model is not there; run `make model` first");
        return;
    }
    let mut server = Launch::serve(env!("CARGO_BIN_EXE_sconce"), &model_dir())
        .start()
        .expect("the program starts");
    server
        .wait_for_log("is ready after")
        .expect("the model loads");
    let address = server.address();
    request(address, 0);
    println!(
        "SmolLM2-135M-Instruct, {PROMPT} words in, {NEW} tokens out, streaming; medians of {ROUNDS} rounds"
    );
    let (mut alone, mut lone_gap) = (f64::NAN, f64::NAN);
    for clients in [1, 8, 32] {
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|round| load(address, clients, round))
            .collect();
        let rate = median(rounds.iter().map(|(rate, _)| *rate).collect());
        let mut first: Vec<f64> = rounds
            .iter()
            .flat_map(|(_, times)| times.iter().map(|t| t.first * 1e3))
            .collect();
        let mut gaps: Vec<f64> = rounds
            .iter()
            .flat_map(|(_, times)| {
                times
                    .iter()
                    .flat_map(|t| t.gaps.iter().map(|gap| gap * 1e3))
            })
            .collect();
        if clients == 1 {
            alone = rate;
            lone_gap = percentile(&mut gaps, 0.5);
        }
        println!(
            "{clients:>3} clients: {rate:7.1} tok/s ({:.2} x one client); TTFT p50 {:.0} p95 {:.0} ms; between tokens p50 {:.1} p95 {:.1} ms, p95 {:.2} x one client's p50",
            rate / alone,
            percentile(&mut first, 0.5),
            percentile(&mut first, 0.95),
            percentile(&mut gaps, 0.5),
            percentile(&mut gaps, 0.95),
            percentile(&mut gaps, 0.95) / lone_gap,
        );
    }
}

/// Some requests per client; generated tokens per second, and the times of each request.
fn load(address: SocketAddr, clients: usize, round: usize) -> (f64, Vec<Times>) {
    let began = Instant::now();
    let times: Vec<Times> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let seed = (round * 100 + client) * 10 + 1;
                    let next = |number| request(address, seed + number);
                    (0..REQUESTS).map(next).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no client panics"))
            .collect()
    });
    let tokens: usize = times.iter().map(|times| times.gaps.len() + 1).sum();
    (tokens as f64 / began.elapsed().as_secs_f64(), times)
}

fn request(address: SocketAddr, seed: usize) -> Times {
    let body = format!(
        "{{\"inputs\": \"{}\", \"stream\": true, \"parameters\": {{\"max_new_tokens\": {NEW}, \"ignore_eos_token\": true}}}}",
        words(PROMPT, seed)
    );
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let began = Instant::now();
    write!(
        stream,
        "POST /invocations HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the request is taken");
    let mut reader = BufReader::new(stream);
    let mut arrivals = Vec::with_capacity(NEW);
    let mut line = String::new();
    while reader.read_line(&mut line).expect("the answer is text") > 0 {
        if line.contains("\"token\"") {
            arrivals.push(Instant::now());
        }
        line.clear();
    }
    reader
        .read_to_end(&mut Vec::new())
        .expect("the connection ends in order");
    assert_eq!(arrivals.len(), NEW, "every token arrives");
    let gaps = arrivals
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    Times {
        first: (arrivals[0] - began).as_secs_f64(),
        gaps,
    }
}
