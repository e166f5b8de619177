//! The program for a long time, and under ten times the load that it takes: whether memory stays, what admitted requests
//! wait, how fast the others are refused.
//!
//! `cargo bench --bench soak`. A tiny random model, so that what is measured is the server and not arithmetic: 250,000
//! requests of several kinds, then a minute of overload. Who is measured asks as in calm times; the nine others of ten are
//! a process of the lowest priority, since clients that take the server's processor measure themselves. The report is
//! Markdown.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::percentile;
use sconce_testkit::client::Client;
use sconce_testkit::server::{Launch, Server};
use serde_json::{Value, json};

const REQUESTS: usize = 250_000;
const CLIENTS: usize = 8;
/// Requests between two looks at the memory.
const STRIDE: usize = 1000;
/// A look at the memory on the way.
const EARLY: usize = 10_000;
/// Until then allocators and caches fill.
const WARM: usize = 150_000;

/// Requests that are computed at the same time, and those that may wait.
const ROWS: usize = 4;
const QUEUE: usize = 4;
const CALM: Duration = Duration::from_secs(20);
const OVERLOAD: Duration = Duration::from_secs(60);
/// The argument of the process that asks without being measured.
const FLOOD: &str = "flood";

fn main() {
    if let [_, what, address] = &*std::env::args().collect::<Vec<_>>()
        && what == FLOOD
    {
        let address = address.parse().expect("an address");
        load(address, 9 * (ROWS + QUEUE), OVERLOAD);
        return;
    }
    let only_overload = std::env::args().any(|argument| argument == "overload");
    if !only_overload {
        let server = start(10 * CLIENTS);
        println!("{}", soak(&server));
    }
    let server = start(QUEUE);
    println!("{}", overload(&server));
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/llama")
}

fn start(queue: usize) -> Server {
    let mut server = Launch::serve(env!("CARGO_BIN_EXE_sconce"), &model())
        .env("OPTION_ROLLING_BATCH", "auto")
        .env("OPTION_MAX_ROLLING_BATCH_SIZE", &ROWS.to_string())
        .env("SERVING_JOB_QUEUE_SIZE", &queue.to_string())
        // Memory of the cache is taken when it is first written to: all of it is while the server warms up.
        .env("OPTION_KV_CACHE_MEMORY", "1MiB")
        .start()
        .expect("the program starts");
    server
        .wait_for_log("is ready after")
        .expect("the model loads");
    // The log of each request would only fill this process.
    let client = Client::new(server.address());
    let quiet = client.get("/server/logging?level=error").expect("a level");
    assert_eq!(quiet.status, 200);
    server
}

/// A request of some kind, and the statuses that are right for it.
fn request(client: &Client, number: usize) -> u16 {
    let body = |stream: bool| {
        json!({
            "inputs": format!("Once upon a time number {}", number % 977),
            "stream": stream, "parameters": {"max_new_tokens": 4, "do_sample": false},
        })
    };
    let status = |path: &str, body: &Value| {
        let answer = client.post(path, body).expect("an answer");
        answer.status
    };
    match number % 20 {
        0 => client.get("/ping").expect("an answer").status,
        1 => status("/invocations", &json!({"inputs": 7})),
        2 => status("/predictions/nobody", &body(false)),
        3 => status(
            "/v1/completions",
            &json!({"prompt": "Once", "max_tokens": 4}),
        ),
        4 | 5 => {
            let mut stream = client
                .stream("/invocations", &body(true))
                .expect("a stream");
            stream.lines().expect("the stream ends in order");
            stream.status
        }
        _ => status("/invocations", &body(false)),
    }
}

fn soak(server: &Server) -> String {
    let (next, samples) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let statuses = Mutex::new(std::collections::BTreeMap::<u16, usize>::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let client = Client::new(server.address());
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    if number % STRIDE == 0 {
                        let kib = server.resident_kib().expect("Linux") as f64;
                        samples.lock().expect("no panic").push((number as f64, kib));
                    }
                    let status = request(&client, number);
                    *statuses
                        .lock()
                        .expect("no panic")
                        .entry(status)
                        .or_default() += 1;
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut samples = samples.into_inner().expect("no panic");
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |number: usize| samples[number / STRIDE].1 / 1024.0;
    let warm: Vec<_> = samples
        .iter()
        .filter(|(number, _)| *number >= WARM as f64)
        .copied()
        .collect();
    let last = samples[samples.len() - 1].1 / 1024.0;
    format!(
        "{REQUESTS} requests of {CLIENTS} clients in {seconds:.0} s, {:.0} a second; statuses {:?}\n\n\
         | resident memory | MiB |\n| --- | --- |\n| at the start | {:.1} |\n| after {EARLY} requests | {:.1} |\n\
         | after {WARM} | {:.1} |\n| at the end | {last:.1} |\n\n\
         From request {WARM} on it grew by {:.2} KiB for 1000 requests (least squares of {} samples).\n",
        REQUESTS as f64 / seconds,
        statuses.into_inner().expect("no panic"),
        at(0),
        at(EARLY),
        at(WARM),
        slope(&warm) * 1000.0,
        warm.len(),
    )
}

/// Of the straight line nearest to some points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    over / points
        .iter()
        .map(|point| (point.0 - x).powi(2))
        .sum::<f64>()
}

/// Milliseconds that answers took.
#[derive(Default)]
struct Times {
    served: Vec<f64>,
    refused: Vec<f64>,
}

/// So many clients for so long, each with its next request at once.
fn load(address: SocketAddr, clients: usize, longest: Duration) -> Times {
    let end = Instant::now() + longest;
    let body = json!({
        "inputs": "Once upon a time",
        "parameters": {"max_new_tokens": 64, "do_sample": false, "ignore_eos_token": true},
    });
    let all = Mutex::new(Times::default());
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let client = Client::new(address);
                let mut own = Times::default();
                while Instant::now() < end {
                    let began = Instant::now();
                    let answer = client.post("/invocations", &body).expect("an answer");
                    let took = began.elapsed().as_secs_f64() * 1e3;
                    match answer.status {
                        200 => own.served.push(took),
                        503 => {
                            own.refused.push(took);
                            // What clients that are told to come again do, though a hundred times sooner.
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        status => panic!("{status}: {}", answer.text()),
                    }
                }
                let mut all = all.lock().expect("no panic");
                all.served.append(&mut own.served);
                all.refused.append(&mut own.refused);
            });
        }
    });
    all.into_inner().expect("no panic")
}

fn overload(server: &Server) -> String {
    let fits = ROWS + QUEUE;
    let address = server.address();
    let mut calm = load(address, fits, CALM);
    let before = server.resident_kib().expect("Linux") as f64 / 1024.0;
    let mut others = Command::new("nice")
        .args(["-n", "19"])
        .arg(std::env::current_exe().expect("this program"))
        .args([FLOOD, &address.to_string()])
        .spawn()
        .expect("nice");
    let mut much = load(address, fits, OVERLOAD);
    assert!(others.wait().expect("it ends").success());
    let after = server.resident_kib().expect("Linux") as f64 / 1024.0;
    let row = |name: &str, times: &mut Vec<f64>, longest: Duration| {
        let rate = times.len() as f64 / longest.as_secs_f64();
        let [p50, p99] = [0.5, 0.99].map(|share| match times.is_empty() {
            true => f64::NAN,
            false => percentile(times, share),
        });
        format!("| {name} | {rate:.0} | {p50:.1} | {p99:.1} |\n")
    };
    let rows = [
        row(&format!("{fits} clients, answered"), &mut calm.served, CALM),
        row(
            &format!("the same {fits} beside {} others, answered", 9 * fits),
            &mut much.served,
            OVERLOAD,
        ),
        row(
            "of their requests, refused with 503",
            &mut much.refused,
            OVERLOAD,
        ),
    ];
    format!(
        "`option.max_rolling_batch_size={ROWS}`, `job_queue_size={QUEUE}`, 64 tokens each:\n\n\
         | {} s, then {} s | requests/s | p50 ms | p99 ms |\n| --- | --- | --- | --- |\n{}\n\
         Resident memory: {before:.1} MiB before the overload, {after:.1} MiB after it.\n",
        CALM.as_secs(),
        OVERLOAD.as_secs(),
        rows.concat(),
    )
}
