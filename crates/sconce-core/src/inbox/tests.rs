//! What a queue and its thread do when they are full, stopped, broken, or not even started.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

/// A number, and who is told of it: `Ok` when it was computed.
struct Number {
    value: u32,
    permit: Permit,
    told: Sender<Result<u32, ServeError>>,
}

impl Queued for Number {
    fn fail(self, error: ServeError) {
        let _ = self.told.send(Err(error));
    }
}

/// Doubles numbers after a word for each; 13 is beyond it, and 66 makes it panic.
struct Doubler {
    go_on: Receiver<()>,
    at_hand: Vec<Number>,
    /// So many proofs succeed.
    proofs: usize,
}

impl Worker for Doubler {
    type Job = Number;

    fn run(&mut self, outbox: &Outbox<Number>) -> Result<(), String> {
        loop {
            let hand = &mut self.at_hand;
            if !outbox.take_in(hand.is_empty(), |number| hand.push(number)) {
                return Ok(());
            }
            if hand.is_empty() {
                match self.proofs.checked_sub(1) {
                    Some(left) => self.proofs = left,
                    None => return Err("the proof failed".into()),
                }
                continue;
            }
            for number in &mut self.at_hand {
                number.permit.begin();
            }
            let _ = self.go_on.recv();
            match self.at_hand[0].value {
                13 => return Err("13 was asked for".into()),
                66 => panic!("66 was asked for"),
                value => {
                    let number = self.at_hand.remove(0);
                    drop(number.permit);
                    let _ = number.told.send(Ok(2 * value));
                }
            }
        }
    }

    fn fail_all(&mut self, error: &ServeError) {
        self.at_hand
            .drain(..)
            .for_each(|number| number.fail(error.clone()));
    }
}

struct Started {
    inbox: Inbox<Number>,
    go_on: Sender<()>,
    tell: Sender<Result<u32, ServeError>>,
    told: Receiver<Result<u32, ServeError>>,
}

impl Started {
    fn ask(&self, value: u32) -> Result<(), ServeError> {
        let told = self.tell.clone();
        self.inbox.submit(|permit| {
            Ok(Number {
                value,
                permit,
                told,
            })
        })
    }

    fn hear(&self) -> Result<u32, ServeError> {
        self.told
            .recv_timeout(Duration::from_secs(60))
            .expect("every job is answered")
    }

    /// Waits until the thread works on so many.
    fn wait_for_running(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.inbox.load().running != count {
            assert!(Instant::now() < end, "{:?}", self.inbox.load());
            std::thread::yield_now();
        }
    }
}

fn settings(limit: usize) -> InboxSettings {
    InboxSettings {
        model: "doubler".into(),
        thread: "doubler",
        limit,
    }
}

fn start(limit: usize) -> Started {
    let (go_on, wait) = channel();
    let (tell, told) = channel();
    let load = |_| {
        let worker = Doubler {
            go_on: wait,
            at_hand: Vec::new(),
            proofs: 2,
        };
        Ok::<_, Unstarted>((worker, "beside"))
    };
    let (inbox, beside) = Inbox::start(settings(limit), load).unwrap();
    assert_eq!(beside, "beside");
    Started {
        inbox,
        go_on,
        tell,
        told,
    }
}

#[test]
fn a_full_queue_refuses_before_anything_is_made_and_takes_more_when_a_job_begins() {
    let started = start(1);
    started.ask(1).unwrap();
    started.wait_for_running(1);
    started.ask(2).unwrap();
    let refused = started
        .inbox
        .submit(|_| unreachable!("a full queue makes nothing"));
    let full = ServeError::QueueFull {
        model: "doubler".into(),
        limit: 1,
    };
    assert_eq!(refused, Err(full));
    started.go_on.send(()).unwrap();
    started.go_on.send(()).unwrap();
    assert_eq!((started.hear(), started.hear()), (Ok(2), Ok(4)));
    let load = started.inbox.load();
    assert_eq!((load.queued, load.running), (0, 0));
}

#[test]
fn what_cannot_be_made_leaves_its_place() {
    let started = start(1);
    let wrong = || ServeError::Malformed("wrong".into());
    for _ in 0..3 {
        assert_eq!(started.inbox.submit(|_| Err(wrong())), Err(wrong()));
    }
    assert_eq!(started.inbox.load().queued, 0);
}

#[test]
fn stopping_fails_what_runs_and_what_waits() {
    let started = start(4);
    started.ask(1).unwrap();
    started.wait_for_running(1);
    started.ask(2).unwrap();
    // As `stop` sends it, which would wait now.
    started.inbox.queue.send(Message::Stop).unwrap();
    started.go_on.send(()).unwrap();
    let heard = [started.hear(), started.hear()];
    assert!(heard.contains(&Err(ServeError::Draining)), "{heard:?}");
    started.inbox.stop();
    let stopped = ServeError::Engine {
        model: "doubler".into(),
        cause: "it was stopped".into(),
    };
    assert_eq!(started.ask(3), Err(stopped));
    assert_eq!(started.inbox.failure(), None);
}

#[test]
fn the_cause_of_a_failure_is_told_to_all_and_to_whoever_comes_later() {
    for (value, cause) in [(13, "13 was asked for"), (66, "panic: 66 was asked for")] {
        let started = start(4);
        started.ask(value).unwrap();
        started.wait_for_running(1);
        started.ask(2).unwrap();
        started.go_on.send(()).unwrap();
        let failed = ServeError::Engine {
            model: "doubler".into(),
            cause: cause.into(),
        };
        assert_eq!(started.hear(), Err(failed.clone()));
        assert_eq!(started.inbox.failure().as_deref(), Some(cause));
        assert_eq!(started.hear(), Err(failed.clone()));
        assert_eq!(started.ask(3), Err(failed));
    }
}

#[test]
fn a_thread_that_cannot_load_says_why() {
    let refused = Inbox::<Number>::start::<Doubler, (), Unstarted>(settings(1), |_| {
        Err(std::io::Error::other("no weights").into())
    });
    assert!(matches!(refused, Err(Unstarted::System(_))));
    let panicked =
        Inbox::<Number>::start::<Doubler, (), Unstarted>(settings(1), |_| panic!("a bad weight"));
    let error = panicked.err().unwrap();
    assert_eq!(error.code(), "panic");
    assert!(error.to_string().contains("a bad weight"), "{error}");
}

#[test]
fn a_thread_waits_for_more_until_a_moment() {
    let (queue, receiver) = sync_channel(2);
    let outbox = Outbox {
        receiver,
        gauges: Arc::default(),
        proofs: Arc::default(),
    };
    let soon = Instant::now() + Duration::from_millis(5);
    assert_eq!(outbox.wait_until(soon), Arrival::Nothing);
    queue.send(Message::Job(Box::new(7))).unwrap();
    assert_eq!(outbox.wait_until(Instant::now()), Arrival::Job(7));
    drop(queue);
    assert_eq!(outbox.wait(), Arrival::End);
}

#[test]
fn an_idle_thread_proves_itself_until_that_fails() {
    let started = start(2);
    started.inbox.prove_every(Some(Duration::from_millis(2)));
    let end = Instant::now() + Duration::from_secs(60);
    while started.inbox.failure().is_none() {
        assert!(Instant::now() < end, "nothing is proved");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(started.inbox.failure().as_deref(), Some("the proof failed"));
    assert!(matches!(started.ask(1), Err(ServeError::Engine { .. })));
}

#[test]
fn nobody_proves_anything_unless_asked_and_waiting_is_not_working() {
    let started = start(2);
    let end = Instant::now() + Duration::from_secs(60);
    let works = || started.inbox.load().works;
    while works() {
        assert!(Instant::now() < end, "it waits for jobs");
        std::thread::yield_now();
    }
    started.ask(1).unwrap();
    started.wait_for_running(1);
    let signs = started.inbox.load().signs;
    assert!(works(), "it has a job");
    assert_eq!(started.inbox.load().signs, signs, "and stands still in it");
    started.go_on.send(()).unwrap();
    assert_eq!(started.hear(), Ok(2));
    started.inbox.prove_every(None);
    started.ask(2).unwrap();
    started.go_on.send(()).unwrap();
    assert_eq!(started.hear(), Ok(4));
    assert_eq!(started.inbox.failure(), None);
}
