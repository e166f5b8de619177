//! Requests beside each other: nobody's picture depends on the others, who leaves makes room, a full queue refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use sconce_core::task::TaskAnswer;
use sconce_core::{
    Ask, Backend, Draw, Event, Input, Job, JobId, Picture, Preview, Reply, ServeError,
};

use crate::engine::DiffusionEngine;
use crate::goldens::settings;
use crate::settings::DiffusionSettings;

/// Hands events to a test.
pub(crate) struct Told(pub(crate) Sender<Event>);

impl Reply for Told {
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }

    fn gone(&self) -> bool {
        false
    }
}

pub(crate) fn job(draw: Draw) -> (Job, Receiver<Event>) {
    let (sender, receiver) = channel();
    let job = Job {
        id: JobId(1),
        input: Input::Task(Ask::Draw(Box::new(draw))),
        reply: Box::new(Told(sender)),
        deadline: Instant::now() + Duration::from_secs(600),
    };
    (job, receiver)
}

pub(crate) fn pictures(events: &Receiver<Event>) -> Vec<Picture> {
    loop {
        match events.recv().unwrap() {
            Event::Answered(answered) => match answered.answer {
                TaskAnswer::Pictures(pictures) => return pictures,
                other => panic!("{other:?}"),
            },
            Event::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn engine(settings: DiffusionSettings) -> DiffusionEngine {
    DiffusionEngine::start(settings, Arc::new(|_, _| {})).unwrap()
}

pub(crate) fn ask(steps: usize, seed: u64) -> Draw {
    Draw {
        prompts: vec!["a candle".into()],
        images_per_prompt: 1,
        steps: Some(steps),
        seed: Some(seed),
        ..Draw::default()
    }
}

#[test]
fn eight_requests_at_once_get_the_bytes_that_each_gets_alone() {
    let engine = engine(settings("sd1"));
    let asks: Vec<Draw> = (0..8)
        .map(|at| Draw {
            prompts: vec![format!("a candle in sconce number {at}")],
            images_per_prompt: 1 + at % 2,
            steps: Some(3 + at),
            // Two sizes, and one that is not guided.
            height: Some(if at % 3 == 0 { 72 } else { 64 }),
            guidance: Some(if at == 5 { 1.0 } else { 4.0 + at as f64 }),
            seed: Some(at as u64),
            scheduler: (at % 2 == 1).then(|| "EulerAncestralDiscreteScheduler".into()),
            ..Draw::default()
        })
        .collect();
    let together: Vec<_> = asks
        .iter()
        .map(|ask| {
            let (job, events) = job(ask.clone());
            engine.submit(job).unwrap();
            events
        })
        .collect();
    let together: Vec<Vec<Picture>> = together.iter().map(pictures).collect();
    for (ask, together) in asks.into_iter().zip(together) {
        let (job, events) = job(ask);
        engine.submit(job).unwrap();
        assert!(pictures(&events) == together);
    }
}

/// A client that leaves as soon as it is told of a step.
struct Leaving(Arc<AtomicBool>);

impl Reply for Leaving {
    fn send(&mut self, _: Event) -> bool {
        self.0.store(true, Ordering::SeqCst);
        true
    }

    fn gone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits for a condition, much longer than it takes.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn who_leaves_makes_room_between_two_steps() {
    let engine = engine(settings("sd1"));
    let left = Arc::new(AtomicBool::new(false));
    let (mut long, _events) = job(Draw {
        tells: Some(Preview::None),
        ..ask(1000, 1)
    });
    long.reply = Box::new(Leaving(Arc::clone(&left)));
    engine.submit(long).unwrap();
    wait_until("the first step", || left.load(Ordering::SeqCst));
    wait_until("its end", || engine.load().running == 0);
    let (next, events) = job(ask(2, 1));
    engine.submit(next).unwrap();
    assert_eq!(pictures(&events).len(), 1);
}

#[test]
fn a_full_queue_refuses_and_who_waits_too_long_fails() {
    let engine = engine(DiffusionSettings {
        max_images: 1,
        queue: 1,
        ..settings("sd1")
    });
    let left = Arc::new(AtomicBool::new(false));
    let (mut long, _events) = job(ask(1000, 1));
    long.reply = Box::new(Leaving(Arc::clone(&left)));
    engine.submit(long).unwrap();
    wait_until("its beginning", || engine.load().running == 1);
    let (mut late, events) = job(ask(2, 1));
    // Sooner than any machine has made all steps of the first.
    late.deadline = Instant::now() + Duration::from_secs(1);
    engine.submit(late).unwrap();
    let (more, _events) = job(ask(2, 1));
    let refused = engine.submit(more).unwrap_err();
    assert!(
        matches!(refused, ServeError::QueueFull { limit: 1, .. }),
        "{refused}"
    );
    assert!(matches!(
        events.recv(),
        Ok(Event::Failed(ServeError::Timeout { .. }))
    ));
    left.store(true, Ordering::SeqCst);
}

#[test]
fn stopping_tells_everybody_at_hand() {
    let engine = engine(DiffusionSettings {
        max_images: 1,
        ..settings("sd1")
    });
    let (first, running) = job(ask(1000, 1));
    let (second, waiting) = job(ask(2, 1));
    engine.submit(first).unwrap();
    engine.submit(second).unwrap();
    engine.stop();
    for events in [running, waiting] {
        assert!(matches!(
            events.recv(),
            Ok(Event::Failed(ServeError::Draining))
        ));
    }
}
