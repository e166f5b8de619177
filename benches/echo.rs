//! Python mode over HTTP: requests per second of a handler that gives back its body, at 1, 8 and 64
//! clients, beside a bare aiohttp server that does the same in the same Python.
//!
//! `cargo bench --bench echo`; `SCONCE_BENCH_PYTHON` names another Python than `python3`. Without
//! aiohttp its rows are skipped.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::median;
use sconce_testkit::server::Launch;

const ROUNDS: usize = 3;
/// How long a round is.
const ROUND: Duration = Duration::from_secs(3);
const BODY: &[u8] = b"{\"inputs\": \"The quick brown fox jumps over the lazy dog\"}";

const HANDLER: &str = "from djl_python import Input, Output\n\n\
    def handle(inputs: Input):\n    \
    if inputs.is_empty():\n        return None\n    \
    return Output().add_property('content-type', 'application/json').add(inputs.get_as_bytes())\n";

const AIOHTTP: &str = "import sys\nfrom aiohttp import web\n\n\
    async def echo(request):\n    \
    return web.Response(body=await request.read(), content_type='application/json')\n\n\
    app = web.Application()\napp.router.add_post('/invocations', echo)\n\
    web.run_app(app, host='127.0.0.1', port=int(sys.argv[1]), print=None, access_log=None)\n";

fn main() {
    let python = std::env::var("SCONCE_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    if Command::new(&python).arg("--version").output().is_err() {
        println!("skipped: there is no {python}");
        return;
    }
    println!(
        "echo of {} bytes, requests per second, medians of {ROUNDS} rounds of {} s",
        BODY.len(),
        ROUND.as_secs()
    );
    for workers in [1, 2] {
        sconce(&python, workers);
    }
    aiohttp(&python);
}

fn sconce(python: &str, workers: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let properties =
        format!("option.pythonExecutable={python}\nminWorkers={workers}\nmaxWorkers={workers}\n");
    std::fs::write(dir.path().join("model.py"), HANDLER).expect("a file");
    std::fs::write(dir.path().join("serving.properties"), properties).expect("a file");
    let mut server = Launch::serve(env!("CARGO_BIN_EXE_sconce"), dir.path())
        .start()
        .expect("the program starts");
    server
        .wait_for_log("is ready after")
        .expect("the model loads");
    measure(&format!("sconce, {workers} worker(s)"), server.address());
}

/// A process that ends with this one.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn aiohttp(python: &str) {
    let found = Command::new(python)
        .args(["-c", "import aiohttp; print(aiohttp.__version__)"])
        .output();
    let version = match found {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => {
            println!("aiohttp: skipped, {python} has no aiohttp (pip install aiohttp)");
            return;
        }
    };
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let server = Command::new(python)
        .args(["-c", AIOHTTP, &address.port().to_string()])
        .stdout(Stdio::null())
        .spawn();
    let _server = Ended(server.expect("Python starts"));
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "aiohttp does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    measure(&format!("aiohttp {}", version.trim()), address);
}

fn measure(name: &str, address: SocketAddr) {
    for clients in [1, 8, 64] {
        let rates: Vec<f64> = (0..ROUNDS).map(|_| round(address, clients)).collect();
        println!(
            "{name:>20}, {clients:>2} clients: {:8.0} requests/s",
            median(rates)
        );
    }
}

/// Requests per second of so many clients, each with a connection of its own that it keeps.
fn round(address: SocketAddr, clients: usize) -> f64 {
    let began = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| scope.spawn(move || client(address, began + ROUND)))
            .collect();
        let counts = threads
            .into_iter()
            .map(|thread| thread.join().expect("no client panics"));
        counts.sum()
    });
    done as f64 / began.elapsed().as_secs_f64()
}

fn client(address: SocketAddr, until: Instant) -> usize {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut request = format!(
        "POST /invocations HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    )
    .into_bytes();
    request.extend(BODY);
    let mut body = vec![0; BODY.len()];
    let mut done = 0;
    while Instant::now() < until {
        stream.write_all(&request).expect("the request is taken");
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        assert!(line.contains(" 200 "), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).expect("a head");
        }
        reader.read_exact(&mut body).expect("a body");
        assert_eq!(body, BODY);
        done += 1;
    }
    done
}
