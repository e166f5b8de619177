//! A model of a few lines of Python, its pool, and a client.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sconce_core::{Backend, Event, Input, Job, JobId, RawEvent, RawHead, RawInput, ServeError};
use sconce_python::{Devices, Interpreter, Pool, PythonError, PythonSettings, Workers};
use sconce_testkit::reply::Tell;
use tempfile::TempDir;

/// Whether there is a python3; says so if not.
pub(crate) fn python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no python3");
    }
    found
}

/// A directory with a `model.py`.
pub(crate) struct Model {
    _dir: TempDir,
    pub(crate) settings: PythonSettings,
}

/// An answer as a client sees it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: RawHead,
    pub(crate) body: Bytes,
}

/// A request on its way.
pub(crate) struct Asked {
    pub(crate) events: Receiver<Event>,
    pub(crate) gone: Arc<AtomicBool>,
}

impl Model {
    pub(crate) fn new(code: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("model.py"), code).unwrap();
        let settings = PythonSettings {
            name: "m".into(),
            dir: dir.path().canonicalize().unwrap(),
            entry_point: "model.py".into(),
            recommended_entry_point: String::new(),
            handler: "handle".into(),
            properties: vec![],
            interpreter: Interpreter {
                executable: "python3".into(),
                environment: vec![],
                python_path: None,
                environments: vec![dir.path().join(".environments")],
                offline: true,
                log_level: "info",
            },
            workers: Workers::default(),
            asynchronous: false,
            rolling: None,
            ranks: None,
            devices: Devices::default(),
            queue: 100,
            batch_size: 1,
            max_batch_delay: Duration::from_millis(100),
            predict_timeout: Duration::from_secs(60),
            model_loading_timeout: Duration::from_secs(60),
            message_limit: 64 << 20,
        };
        Self {
            _dir: dir,
            settings,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.settings.dir.join(name)
    }

    pub(crate) fn pool(&self) -> Pool {
        Pool::start(self.settings.clone()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn refused(&self) -> PythonError {
        match Pool::start(self.settings.clone()) {
            Ok(_) => panic!("the model must not start"),
            Err(error) => error,
        }
    }
}

/// A request with a body.
pub(crate) fn body(text: &str) -> RawInput {
    RawInput {
        properties: vec![("Content-Type".into(), "text/plain".into())],
        content: vec![("data".into(), text.to_owned().into())],
    }
}

pub(crate) fn submit(pool: &Pool, input: RawInput) -> Result<Asked, ServeError> {
    submit_to(pool, input)
}

pub(crate) fn submit_to(backend: &dyn Backend, input: RawInput) -> Result<Asked, ServeError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (tell, events) = channel();
    let gone = Arc::new(AtomicBool::new(false));
    let reply = Tell {
        events: tell,
        gone: Arc::clone(&gone),
    };
    backend.submit(Job {
        id: JobId(NEXT.fetch_add(1, Ordering::Relaxed)),
        input: Input::Raw(input),
        reply: Box::new(reply),
        deadline: Instant::now() + Duration::from_secs(60),
    })?;
    Ok(Asked { events, gone })
}

impl Asked {
    pub(crate) fn event(&self) -> Event {
        self.events
            .recv_timeout(Duration::from_secs(60))
            .expect("an event comes")
    }

    /// The whole answer.
    pub(crate) fn answer(&self) -> Result<Answer, ServeError> {
        let mut head = None;
        let mut body = Vec::new();
        loop {
            match self.event() {
                Event::Raw(RawEvent::Head(got)) => head = Some(got),
                Event::Raw(RawEvent::Chunk(bytes)) => body.extend(bytes),
                Event::Raw(RawEvent::End) => {
                    return Ok(Answer {
                        head: head.expect("a head comes first"),
                        body: body.into(),
                    });
                }
                Event::Failed(error) => return Err(error),
                other => panic!("{other:?} is no part of a raw answer"),
            }
        }
    }
}

pub(crate) fn ask(pool: &Pool, text: &str) -> Result<Answer, ServeError> {
    submit(pool, body(text))?.answer()
}

/// The body of a successful answer.
#[track_caller]
pub(crate) fn text(answer: Result<Answer, ServeError>) -> String {
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.head.code, 200, "{body}");
    body
}

/// Waits until the pool counts no request: a worker is counted as idle after its answer has been sent.
#[track_caller]
pub(crate) fn rests(pool: &Pool) {
    let until = Instant::now() + Duration::from_secs(20);
    let count = || (pool.load().running, pool.load().queued);
    while count() != (0, 0) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(count(), (0, 0));
}

#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Asks until the answer is 200; how long that took.
#[track_caller]
pub(crate) fn recovers(pool: &Pool, request: &str) -> Duration {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        if ask(pool, request).is_ok_and(|answer| answer.head.code == 200) {
            return began.elapsed();
        }
    }
    panic!("the model does not recover: {:?}", pool.failure())
}

impl Asked {
    /// The rest of an answer whose head has come.
    pub(crate) fn answer_rest(&self) -> String {
        let mut body = Vec::new();
        loop {
            match self.event() {
                Event::Raw(RawEvent::Chunk(bytes)) => body.extend(bytes),
                Event::Raw(RawEvent::End) => return String::from_utf8(body).unwrap(),
                other => panic!("{other:?} is no part of the rest"),
            }
        }
    }
}
