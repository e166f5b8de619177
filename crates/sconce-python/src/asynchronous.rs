//! The asynchronous mode: a worker's coroutines work on many requests at once, and their answers
//! come in parts and in any order, each with the id of its request.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sconce_core::{RawEvent, ServeError};
use tracing::debug;
use uuid::Uuid;

use crate::batch;
use crate::outbox::Outbox;
use crate::part::Part;
use crate::process::Process;
use crate::protocol::{Answer, Content, ProtocolError, read_answer, read_frame, read_payload};
use crate::queue::{Shared, Waiting};
use crate::watch::{Patient, TICK};
use crate::worker::Lost;

/// The property that says to which request an answer belongs.
const ID: &str = "request_tracking_id";
/// Nobody waits so long for a worker that has nothing to say.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The requests that a worker has.
struct Flights<'a> {
    shared: &'a Shared,
    index: usize,
    running: Mutex<HashMap<String, Flight>>,
    /// Answers that are complete, but for slow clients.
    leaving: Mutex<Vec<Outbox>>,
    /// When the worker last said anything, or had nothing to do.
    heard: Mutex<Instant>,
}

/// A request whose answer has not ended.
struct Flight {
    outbox: Outbox,
    has_begun: bool,
    heard: Instant,
}

/// Serves until the pool ends (`Ok`) or the process is lost, with the jobs that it had.
pub(crate) fn serve(
    shared: &Shared,
    index: usize,
    process: &Process,
) -> Result<(), (Lost, Vec<Waiting>)> {
    let flights = Flights {
        shared,
        index,
        running: Mutex::default(),
        leaving: Mutex::default(),
        heard: Mutex::new(Instant::now()),
    };
    let over = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let read = flights.read(process, &over);
            over.store(true, Ordering::SeqCst);
            read
        });
        let written = flights.write(process, &over);
        over.store(true, Ordering::SeqCst);
        let read = reading.join().unwrap_or_else(|_| {
            let text = "the thread that reads panicked".to_owned();
            Err(Lost::Broken(ProtocolError::Broken(text)))
        });
        written.and(read)
    });
    let left = flights.take_all();
    if shared.is_over() {
        left.into_iter()
            .for_each(|job| job.fail(ServeError::Draining));
        return Ok(());
    }
    served.map_err(|lost| (lost, left))
}

impl Flights<'_> {
    /// Hands jobs to the worker as they come.
    fn write(&self, process: &Process, over: &AtomicBool) -> Result<(), Lost> {
        let settings = &self.shared.settings;
        while !over.load(Ordering::SeqCst) && !self.shared.is_over() {
            self.end_late()?;
            if process.has_ended() {
                return Err(Lost::Broken(ProtocolError::Broken("it has ended".into())));
            }
            if self.lock().len() >= settings.queue {
                std::thread::sleep(TICK);
                continue;
            }
            let Some(job) = self.shared.next_one(self.index, TICK) else {
                continue;
            };
            let id = Uuid::new_v4().to_string();
            let mut request = batch::compose(&[&job.input], &settings.handler);
            request.properties.push((ID.into(), id.clone()));
            let message = match request.encode() {
                Ok(message) => message,
                Err(problem) => {
                    self.shared.idle(self.index, 1);
                    let text = format!("the request cannot be passed on: {problem}");
                    job.fail(ServeError::Malformed(text));
                    continue;
                }
            };
            let flight = Flight {
                outbox: Outbox::new(job),
                has_begun: false,
                heard: Instant::now(),
            };
            let is_first = {
                let mut running = self.lock();
                running.insert(id, flight);
                running.len() == 1
            };
            if is_first {
                // Until now it had nothing to say.
                self.hear();
            }
            let stop = || over.load(Ordering::SeqCst) || self.shared.is_over();
            let deadline = Instant::now() + settings.predict_timeout;
            let mut patient = Patient::new(process.link(), deadline, &stop);
            let written = patient.write_all(&message).map_err(ProtocolError::from);
            written.map_err(|problem| Lost::of(problem, patient.expired))?;
        }
        Ok(())
    }

    /// Reads answers until the end.
    fn read(&self, process: &Process, over: &AtomicBool) -> Result<(), Lost> {
        let limit = self.shared.settings.message_limit;
        let stop = || over.load(Ordering::SeqCst) || self.shared.is_over() || process.has_ended();
        loop {
            let mut patient = Patient::new(process.link(), Instant::now() + FOREVER, &stop);
            let answer = match read_answer(&mut patient, limit) {
                Ok(answer) => answer,
                Err(_) if over.load(Ordering::SeqCst) => return Ok(()),
                Err(problem) => return Err(Lost::Broken(problem)),
            };
            let mut parts = Vec::new();
            let mut last = answer.content != Content::Stream;
            while !last {
                let frame = read_frame(&mut patient, limit).map_err(Lost::Broken)?;
                last = frame.last;
                parts.extend_from_slice(&frame.data);
            }
            self.hear();
            self.answer(&answer, parts.into());
        }
    }

    /// Fails jobs that have waited too long; a worker that is silent for all of them is lost.
    fn end_late(&self) -> Result<(), Lost> {
        let limit = self.shared.settings.predict_timeout;
        let flush = |outbox: &mut Outbox| outbox.flush() && !outbox.is_empty();
        self.leaving().retain_mut(flush);
        let silent = {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.elapsed() > limit
        };
        let mut running = self.lock();
        if running.is_empty() {
            drop(running);
            self.hear();
            return Ok(());
        }
        if silent {
            return Err(Lost::Slow);
        }
        let is_late = |flight: &Flight| flight.heard.elapsed() > limit;
        let late: Vec<String> = running
            .iter_mut()
            .filter_map(|(id, flight)| {
                let wanted = flight.outbox.flush();
                (!wanted || is_late(flight)).then(|| id.clone())
            })
            .collect();
        for id in late {
            if let Some(flight) = running.remove(&id) {
                self.shared.idle(self.index, 1);
                let seconds = limit.as_secs();
                flight.outbox.fail(ServeError::Timeout { seconds });
            }
        }
        Ok(())
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Hands an answer, or a part of one, to whoever waits for it.
    fn answer(&self, answer: &Answer, stream: Bytes) {
        let id = answer.properties.iter().find(|(name, _)| name == ID);
        let Some((_, id)) = id else {
            debug!("an answer without {ID} is dropped");
            return;
        };
        let mut running = self.lock();
        let Some(flight) = running.get_mut(id) else {
            debug!("an answer to a request that nobody waits for is dropped");
            return;
        };
        flight.heard = Instant::now();
        let has_ended = match flight.take(answer, stream) {
            Ok(has_ended) => has_ended,
            Err(problem) => {
                let error = ServeError::BadAnswer { problem };
                if let Some(flight) = running.remove(id) {
                    flight.outbox.fail(error);
                }
                self.shared.idle(self.index, 1);
                return;
            }
        };
        if let Some(flight) = has_ended.then(|| running.remove(id)).flatten() {
            self.shared.idle(self.index, 1);
            let kept = Some(flight.outbox).filter(|outbox| !outbox.is_empty());
            self.leaving().extend(kept);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Flight>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Outbox>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_all(&self) -> Vec<Waiting> {
        let flights = std::mem::take(&mut *self.lock());
        flights
            .into_values()
            .map(|flight| flight.outbox.into_job())
            .collect()
    }
}

impl Flight {
    /// Takes a message; whether the answer has ended, or what is wrong with it.
    fn take(&mut self, answer: &Answer, stream: Bytes) -> Result<bool, String> {
        let head = batch::head(answer)?;
        let body = match &answer.content {
            Content::Whole(content) => batch::body(content),
            Content::Stream => stream,
        };
        let payload = read_payload(&body).filter(|_| head.code == 200);
        let part = match payload {
            Some(pairs) => Part::of(&pairs, head),
            // What is no such payload is the whole answer.
            None => Part {
                head,
                data: body,
                last: true,
            },
        };
        Ok(self.send(part))
    }

    fn send(&mut self, part: Part) -> bool {
        if part.is_silent() {
            return false;
        }
        let Part {
            mut head,
            data,
            last,
        } = part;
        let mut wanted = true;
        if !self.has_begun {
            self.has_begun = true;
            head.streams = !last;
            wanted = self.outbox.push(RawEvent::Head(head));
        }
        wanted = wanted && self.outbox.push(RawEvent::Chunk(data));
        if last && wanted {
            self.outbox.push(RawEvent::End);
        }
        last || !wanted
    }
}
