//! The way of one model from its first byte to its end, with a backend that does nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use sconce_config::{CommandLine, Configuration, Environment, Unreached};
use sconce_core::{Backend, Event, Generate, Input, JobId, Reply, Task};

use super::*;
use crate::memory::Memory;
use crate::watchdog::Watchdog;

struct Nobody;
impl Reply for Nobody {
    fn send(&mut self, _: Event) -> bool {
        false
    }
    fn gone(&self) -> bool {
        true
    }
}

#[derive(Default)]
pub(crate) struct Broken {
    pub(crate) failure: Option<String>,
    /// Its thread is in the middle of something.
    pub(crate) works: Arc<AtomicBool>,
    pub(crate) stopped: Arc<AtomicBool>,
}

impl Backend for Broken {
    fn submit(&self, _: Job) -> Result<(), ServeError> {
        Ok(())
    }
    fn task(&self) -> Option<Task> {
        Some(Task::TextGeneration)
    }
    fn load(&self) -> Load {
        Load {
            running: 3,
            works: self.works.load(Ordering::SeqCst),
            ..Load::default()
        }
    }
    fn failure(&self) -> Option<String> {
        self.failure.clone()
    }
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

fn built(backend: Broken) -> Built {
    with_memory(backend, 0)
}

pub(crate) fn with_memory(backend: Broken, bytes: u64) -> Built {
    Built {
        backend: Arc::new(backend),
        pool: None,
        replicas: None,
        formatters: None,
        promise: Memory::measure().grant(bytes),
    }
}

fn entry() -> Arc<Entry> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    let line = CommandLine {
        model_dir: Some(dir.path().into()),
        ..CommandLine::default()
    };
    let configuration = Configuration::read(&line, &Environment::default());
    let mut model = configuration.models(&Unreached).unwrap().remove(0).model;
    model.name = "m".into();
    Arc::new(Entry::new(model, true))
}

fn job() -> Job {
    Job {
        id: JobId(1),
        input: Input::Generate(Generate::default()),
        reply: Box::new(Nobody),
        deadline: Instant::now(),
    }
}

#[test]
fn jobs_are_refused_with_the_phase_until_the_model_is_ready() {
    let entry = entry();
    entry.advance(Phase::Loading, Progress { done: 1, total: 2 });
    let lease = entry.lease().unwrap();
    let refused = lease.submit(job()).unwrap_err().to_string();
    assert!(refused.contains("m (loading)"), "{refused}");
    entry.ready(built(Broken::default()));
    lease.submit(job()).unwrap();
    assert_eq!(entry.status().load.running, 3);
    assert_eq!(entry.status().crew.workers.len(), 1);
    entry.stop();
    assert!(lease.submit(job()).is_err());
}

#[test]
fn a_ready_model_whose_backend_failed_is_failed() {
    let entry = entry();
    entry.ready(built(Broken {
        failure: Some("rank 0: boom".into()),
        ..Broken::default()
    }));
    assert_eq!(entry.status().phase, Phase::Failed("rank 0: boom".into()));
    assert!(!entry.is_ready(), "no request has its turn there");
}

#[test]
fn only_who_has_something_to_give_makes_room() {
    let entry = entry();
    assert_eq!(entry.idle(), None);
    assert!(entry.ready(built(Broken::default())));
    assert_eq!(entry.idle(), None, "its end frees nothing");
    let entry = self::entry();
    entry.ready(with_memory(Broken::default(), 7));
    assert_eq!(entry.idle().map(|(_, bytes)| bytes), Some(7));
    let _lease = entry.lease().unwrap();
    assert_eq!(entry.idle(), None, "somebody asks it");
}

#[test]
fn a_model_that_takes_too_long_has_failed_and_ends_when_it_is_there() {
    let entry = entry();
    assert!(entry.expire("late"));
    assert_eq!(entry.loaded(Duration::ZERO), Loaded::Failed("late".into()));
    let stopped = Arc::new(AtomicBool::default());
    let answers = entry.ready(built(Broken {
        stopped: Arc::clone(&stopped),
        ..Broken::default()
    }));
    assert!(!answers && stopped.load(Ordering::SeqCst));
    assert_eq!(entry.status().phase, Phase::Failed("late".into()));
    let ready = self::entry();
    ready.ready(built(Broken::default()));
    assert!(!ready.expire("late") && ready.is_ready());
}

#[test]
fn the_first_cause_of_a_failure_stays() {
    let entry = entry();
    assert!(entry.fail("first".into()) && entry.fail("second".into()));
    entry.advance(Phase::Loading, Progress::default());
    assert_eq!(entry.status().phase, Phase::Failed("first".into()));
    assert_eq!(entry.loaded(Duration::ZERO), Loaded::Failed("first".into()));
}

#[test]
fn unloading_waits_for_whoever_holds_the_model_and_lets_nobody_in() {
    let entry = entry();
    let stopped = Arc::new(AtomicBool::default());
    entry.ready(built(Broken {
        stopped: Arc::clone(&stopped),
        ..Broken::default()
    }));
    let lease = entry.lease().unwrap();
    assert!(entry.begin_unloading());
    assert!(!entry.begin_unloading(), "somebody else sees to it");
    assert!(matches!(entry.lease(), Err(ServeError::UnknownModel(_))));
    let unloading = {
        let entry = Arc::clone(&entry);
        std::thread::spawn(move || entry.unload(Duration::from_secs(60)))
    };
    lease.submit(job()).unwrap();
    assert!(!stopped.load(Ordering::SeqCst), "a request is still at it");
    drop(lease);
    unloading.join().unwrap();
    assert!(stopped.load(Ordering::SeqCst));
}

#[test]
fn who_never_finishes_is_cut_off() {
    let entry = entry();
    let stopped = Arc::new(AtomicBool::default());
    entry.ready(built(Broken {
        stopped: Arc::clone(&stopped),
        ..Broken::default()
    }));
    let _lease = entry.lease().unwrap();
    entry.begin_unloading();
    entry.unload(Duration::from_millis(1));
    assert!(stopped.load(Ordering::SeqCst));
}

#[test]
fn a_model_that_nobody_wants_any_more_ends_when_it_is_loaded() {
    let entry = entry();
    entry.begin_unloading();
    assert_eq!(entry.loaded(Duration::ZERO), Loaded::Withdrawn);
    let unloading = {
        let entry = Arc::clone(&entry);
        std::thread::spawn(move || entry.unload(Duration::ZERO))
    };
    let stopped = Arc::new(AtomicBool::default());
    entry.advance(Phase::Warming, Progress::default());
    assert_eq!(entry.status().phase, Phase::Unloading);
    let answers = entry.ready(built(Broken {
        stopped: Arc::clone(&stopped),
        ..Broken::default()
    }));
    assert!(!answers);
    unloading.join().unwrap();
    assert!(stopped.load(Ordering::SeqCst));
    assert!(entry.status().crew.workers.is_empty());
}

#[test]
fn a_model_that_stands_still_is_not_ready_until_it_goes_on() {
    let (entry, works) = (entry(), Arc::new(AtomicBool::new(true)));
    entry.ready(built(Broken {
        works: Arc::clone(&works),
        ..Broken::default()
    }));
    let tick = Duration::from_secs(1);
    let mut watchdog = Watchdog::new(tick, 2 * tick);
    let mut look = || {
        watchdog.look(std::slice::from_ref(&entry));
        entry.status().phase
    };
    assert_eq!([look(), look()], [Phase::Ready, Phase::Ready]);
    let stalled = look();
    assert!(
        matches!(&stalled, Phase::Stalled(cause) if cause.contains("3 requests")),
        "{stalled}"
    );
    // Whoever asks it meanwhile waits, as it may go on.
    entry.lease().unwrap().submit(job()).unwrap();
    works.store(false, Ordering::SeqCst);
    assert_eq!(look(), Phase::Ready);
}
