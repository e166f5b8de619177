//! A rank that fails, whatever way and wherever: the model is unhealthy within seconds, with the first failing rank, the
//! step and the cause in `/ping` and in the answer to the request at hand, and nothing waits for ever. The engine and
//! the decoder are the real ones; only the communicator of one rank does something wrong at one collective.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use sconce_engine::{Engine, EngineError, EngineSettings, Loader, Seat, open_checkpoint};
use sconce_http::{HttpSettings, Models};
use sconce_nn::Communicator;
use sconce_testkit::client::Client;
use sconce_testkit::registry::Only;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::tiny;

/// Collectives of a step of the tiny Llama: the embedding, two layers of two parts each, the logits.
const OF_A_STEP: usize = 6;

/// How long the ranks may be silent where one stalls, but in the test of the default: short, so that the tests are, and
/// yet no shorter than what a busy machine may keep a healthy rank from running.
const PATIENCE: Duration = Duration::from_millis(2500);

/// How long where one says itself that it fails, which must come first.
const UNUSED_PATIENCE: Duration = Duration::from_secs(60);

/// Beyond the patience, what a busy machine needs to find a failure and tell it.
const SLACK: Duration = Duration::from_secs(5);

/// What a rank says that panics.
const PANIC: &str = "this rank panics on purpose";

/// The status of a request that the model fails, in the dialect that is the default.
const FAILED: u16 = 424;

/// What a rank does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Panic,
    Error,
    Stall,
}

/// Where it does so: before a collective of its life, or while it is loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Collective(usize),
    Load,
}

/// One rank's end of a group, on which it goes wrong.
struct Faulty {
    inner: Box<dyn Communicator + Send>,
    fault: Fault,
    at: usize,
    seen: AtomicUsize,
    released: Arc<AtomicBool>,
}

impl Fault {
    fn patience(self) -> Duration {
        match self {
            Self::Panic | Self::Error => UNUSED_PATIENCE,
            Self::Stall => PATIENCE,
        }
    }

    fn happen(self, released: &AtomicBool) -> Result<()> {
        match self {
            Self::Panic => {
                say_it_without_a_backtrace();
                panic!("{PANIC}")
            }
            Self::Error => candle_core::bail!("this rank fails on purpose"),
            Self::Stall => {
                while !released.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                candle_core::bail!("this rank stalled on purpose")
            }
        }
    }
}

/// Looking the names of a backtrace up takes a busy machine seconds, which are not what is measured here.
#[allow(clippy::print_stderr)]
fn say_it_without_a_backtrace() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() == Some(PANIC) {
                eprintln!("{PANIC}");
            } else {
                others(panic);
            }
        }));
    });
}

impl Faulty {
    fn step(&self) -> Result<()> {
        if self.seen.fetch_add(1, SeqCst) == self.at {
            self.fault.happen(&self.released)?;
        }
        Ok(())
    }
}

impl Communicator for Faulty {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn world(&self) -> usize {
        self.inner.world()
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        self.step()?;
        self.inner.all_reduce(x)
    }

    fn all_gather(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        self.step()?;
        self.inner.all_gather(x, dim)
    }
}

/// Lets the stalled thread go when the test is over.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

pub fn settings(patience: Duration) -> EngineSettings {
    EngineSettings {
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
        collective_timeout: patience,
        max_model_len: Some(64),
        max_rows: 4,
        max_step_tokens: 64,
        prefix_sharing: true,
        model_sampling: false,
        chat_template: None,
        kv_dtype: None,
        kv_cache_bytes: None,
        room: None,
        speculation: None,
        lora: None,
        queue: 8,
        predict_timeout: 60,
    }
}

/// The tiny Llama, whose heads allow 2 and 6 ranks, one of which goes wrong.
fn start(
    ranks: usize,
    rank: usize,
    fault: Fault,
    at: At,
    patience: Duration,
) -> (std::result::Result<Engine, EngineError>, Release) {
    let settings = EngineSettings {
        ranks,
        ..settings(patience)
    };
    let released = Arc::new(AtomicBool::new(false));
    let mut checkpoint = open_checkpoint(&settings, None).expect("the tiny Llama");
    let (real, free) = (checkpoint.loader, Arc::clone(&released));
    let loader: Arc<Loader> = Arc::new(move |inner, progress| {
        if inner.rank() != rank {
            return real(inner, progress);
        }
        let at = match at {
            At::Collective(at) => at,
            At::Load => {
                let happened = fault.happen(&free);
                let cause = happened.expect_err("faults end badly").to_string();
                return Err(EngineError::Canary(cause));
            }
        };
        let faulty = Faulty {
            inner: inner.on_processor(),
            fault,
            at,
            seen: AtomicUsize::new(0),
            released: Arc::clone(&free),
        };
        real(Seat::Made(Box::new(faulty)), progress)
    });
    checkpoint.loader = loader;
    let engine = Engine::start_with(settings, checkpoint, Arc::new(|_, _| {}));
    (engine, Release(released))
}

/// Serves the engine over HTTP while `ask` is at it; what that says.
fn served<T>(engine: Engine, ask: impl FnOnce(&Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let models = Models::of(Arc::new(Only::new("llama", Arc::new(engine))));
    let (end, ended) = oneshot::channel::<()>();
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = runtime.spawn(sconce_http::serve(
        listener,
        models,
        HttpSettings::default(),
        async move { ended.await.unwrap_or_default() },
    ));
    let said = ask(&Client::new(address));
    drop(end);
    runtime
        .block_on(server)
        .expect("no panic")
        .expect("an orderly end");
    said
}

fn ping(client: &Client) -> (u16, String) {
    let answer = client.get("/ping").expect("an answer");
    (answer.status, answer.text())
}

/// Ends a clock, however its work ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What `work` gives, and how long it took; what the process was suspended for meanwhile does not count.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clock = scope.spawn(|| {
            let (mut spent, mut last) = (Duration::ZERO, Instant::now());
            while !over.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
                let now = Instant::now();
                spent += (now - last).min(Duration::from_millis(200));
                last = now;
            }
            spent
        });
        let done = {
            let _over = Over(&over);
            work()
        };
        (done, clock.join().expect("a clock"))
    })
}

/// Asks for more tokens than come; status and body of the answer, and how long it took.
fn ask(client: &Client) -> (u16, Value, Duration) {
    let body = json!({"inputs": "The candle", "parameters": {"max_new_tokens": 30}});
    let (answer, took) = timed(|| client.post("/invocations", &body));
    let answer = answer.expect("an answer");
    (answer.status, answer.json().expect("JSON"), took)
}

#[test]
fn a_rank_that_panics_fails_or_stalls_at_a_step_is_named_in_ping_and_in_answers() {
    for rank in [0, 1] {
        for (fault, cause) in [
            (
                Fault::Panic,
                "failed at step 3, after all_reduce of [1, 36]: panic: this rank panics on purpose",
            ),
            (
                Fault::Error,
                "failed at step 3, after all_reduce of [1, 36]: this rank fails on purpose",
            ),
            (Fault::Stall, "stalled at step 3: rank"),
        ] {
            let at = At::Collective(3 * OF_A_STEP + 2);
            let (engine, _release) = start(2, rank, fault, at, fault.patience());
            let engine = engine.expect("it starts: the fault is at a later step");
            served(engine, |client| {
                assert_eq!(ping(client).0, 200);
                let wanted = format!("rank {rank} {cause}");
                let (status, body, took) = ask(client);
                let text = body.to_string();
                assert!(text.contains(&wanted), "{fault:?} of rank {rank}: {text}");
                assert_eq!(status, FAILED, "{text}");
                assert!(took < PATIENCE + SLACK, "{took:?}");
                let (status, text) = ping(client);
                assert_eq!(status, 500, "{text}");
                assert!(text.contains(&wanted), "{text}");
                if fault == Fault::Stall {
                    let other = 1 - rank;
                    let waits = format!("rank {other} waits in all_reduce of [1, 36]");
                    assert!(text.contains(&waits), "{text}");
                    assert!(text.contains("option.collective_timeout"), "{text}");
                }
                // The next request is refused at the door, with the same cause.
                let (status, body, _) = ask(client);
                assert!(
                    status == FAILED && body.to_string().contains(&wanted),
                    "{body}"
                );
            });
        }
    }
}

#[test]
fn a_rank_that_goes_wrong_while_the_model_is_tried_or_loaded_ends_the_start_with_its_cause() {
    for (at, place) in [
        (At::Load, "while loading"),
        (At::Collective(1), "at step 0"),
    ] {
        for (fault, cause) in [
            (Fault::Panic, "panic: this rank panics on purpose"),
            (Fault::Error, "this rank fails on purpose"),
            (Fault::Stall, "no sign of life for 2.5s"),
        ] {
            for rank in [0, 1, 5] {
                let (started, took) = timed(|| start(6, rank, fault, at, fault.patience()));
                let (engine, release) = started;
                let error = engine.err().expect("it cannot start").to_string();
                let case = format!("{fault:?} {place}: {error}");
                let verb = if fault == Fault::Stall {
                    "stalled"
                } else {
                    "failed"
                };
                assert!(
                    error.contains(&format!("rank {rank} {verb} {place}")),
                    "{case}"
                );
                assert!(error.contains(cause), "{case}");
                assert!(took < PATIENCE + SLACK, "{took:?}, {case}");
                drop(release);
            }
        }
    }
}

#[test]
fn with_the_default_patience_a_stalled_rank_is_told_within_ten_seconds() {
    let defaults = sconce_config::resolve(
        &sconce_config::CommandLine {
            model_dir: Some(Path::new(&tiny("llama")).into()),
            ..Default::default()
        },
        &sconce_config::Environment::default(),
    );
    let patience = defaults.expect("no options").model.collective_timeout;
    let (engine, _release) = start(2, 1, Fault::Stall, At::Collective(OF_A_STEP + 3), patience);
    let engine = engine.expect("the trial passes");
    served(engine, |client| {
        let (status, body, took) = ask(client);
        assert!(
            status == FAILED && took < Duration::from_secs(10),
            "{took:?}: {body}"
        );
    });
}

#[test]
fn a_model_of_which_a_rank_stalls_can_be_stopped() {
    let at = At::Collective(OF_A_STEP + 3);
    let (engine, _release) = start(2, 1, Fault::Stall, at, PATIENCE);
    let engine = engine.expect("the trial passes");
    let ((), took) = timed(|| {
        served(engine, |client| {
            ask(client);
        })
    });
    assert!(took < PATIENCE + SLACK, "{took:?}");
}
