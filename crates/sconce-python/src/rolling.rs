//! The rolling batch of a handler: it is called once for each step, with all requests that are not
//! finished, and gives the next part of each answer.
//!
//! A request comes whole until the handler has answered it once, then as an empty `data`: handlers
//! know requests by their places. So a request whose client has left stays in its place to its end.
//! After a failure all requests are gone, and `reset_rollingbatch` tells the handler.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use sconce_core::{RawEvent, RawHead, ServeError};
use uuid::Uuid;

use crate::batch;
use crate::outbox::Outbox;
use crate::part::Part;
use crate::process::Process;
use crate::protocol::{Answer, Content, ProtocolError, Request, read_payload};
use crate::queue::{Next, Shared, Waiting};
use crate::worker::{self, Lost};

/// A request in its place.
struct Row {
    /// `None`: its client has left.
    outbox: Option<Outbox>,
    seed: u32,
    /// Whether the handler has answered it.
    is_known: bool,
    has_begun: bool,
    /// Headers, until the first part is sent.
    properties: Vec<(String, String)>,
}

/// The requests of one worker.
struct Rolling<'a> {
    shared: &'a Shared,
    index: usize,
    process: &'a Process,
    rows: Vec<Row>,
    /// Answers that are complete, but for slow clients.
    leaving: Vec<Outbox>,
    reset: bool,
}

/// Serves until this worker is no longer needed (`Ok`) or its process is lost, with the jobs that it
/// had.
pub(crate) fn serve(
    shared: &Shared,
    index: usize,
    process: &Process,
    most: usize,
) -> Result<(), (Lost, Vec<Waiting>)> {
    let mut rolling = Rolling {
        shared,
        index,
        process,
        rows: Vec::new(),
        leaving: Vec::new(),
        reset: false,
    };
    let served = rolling.run(most);
    let rows = std::mem::take(&mut rolling.rows);
    let count = rows.len();
    let kept = rows.into_iter().filter_map(|row| row.outbox);
    let left: Vec<Waiting> = kept.map(Outbox::into_job).collect();
    shared.idle(index, count - left.len());
    if shared.is_over() {
        left.into_iter()
            .for_each(|job| job.fail(ServeError::Draining));
        return Ok(());
    }
    served.map_err(|lost| (lost, left))
}

impl Rolling<'_> {
    fn run(&mut self, most: usize) -> Result<(), Lost> {
        loop {
            self.leaving
                .retain_mut(|outbox| outbox.flush() && !outbox.is_empty());
            if self.shared.is_over() || !self.admit(most)? {
                return Ok(());
            }
            self.step()?;
        }
    }

    /// Takes requests that wait, at least one if there is none at hand; false: this worker is no
    /// longer needed.
    fn admit(&mut self, most: usize) -> Result<bool, Lost> {
        if self.rows.is_empty() {
            let leaving = RefCell::new(&mut self.leaving);
            // Asked again and again while nothing comes.
            let has_ended = || {
                let flush = |outbox: &mut Outbox| outbox.flush() && !outbox.is_empty();
                leaving.borrow_mut().retain_mut(flush);
                self.process.has_ended()
            };
            match self.shared.next(self.index, &has_ended) {
                Next::Batch(jobs) => self.rows.extend(jobs.into_iter().map(Row::new)),
                Next::End => return Ok(false),
                Next::Restart => {
                    let ended = ProtocolError::Broken("it has ended".into());
                    return Err(Lost::Broken(ended));
                }
            }
        }
        while self.rows.len() < most {
            match self.shared.next_one(self.index, Duration::ZERO) {
                Some(job) => self.rows.push(Row::new(job)),
                None => break,
            }
        }
        Ok(true)
    }

    /// One call of the handler.
    fn step(&mut self) -> Result<(), Lost> {
        let handler = &self.shared.settings.handler;
        let request = compose(&self.rows, handler, std::mem::take(&mut self.reset));
        let message = match request.encode() {
            Ok(message) => message,
            Err(problem) => {
                let text = format!("the requests cannot be passed on: {problem}");
                self.fail_all(&ServeError::Malformed(text));
                return Ok(());
            }
        };
        let answer = worker::converse(self.shared, self.process, &message)?;
        worker::skip_others(self.shared, self.process)?;
        match parts(&answer, self.rows.len()) {
            Ok(parts) => self.take(parts),
            Err(Problem::Failed(head, body)) => {
                let part = || Part {
                    head: head.clone(),
                    data: body.clone(),
                    last: true,
                };
                self.take((0..self.rows.len()).map(|_| part()).collect());
                self.reset = true;
            }
            Err(Problem::Wrong(problem)) => {
                if answer.content == Content::Stream {
                    worker::skip_stream(self.shared, self.process)?;
                }
                self.fail_all(&ServeError::BadAnswer { problem });
            }
        }
        Ok(())
    }

    fn take(&mut self, parts: Vec<Part>) {
        let rows = std::mem::take(&mut self.rows);
        for (mut row, part) in rows.into_iter().zip(parts) {
            let last = part.last;
            if last {
                self.shared.idle(self.index, 1);
            }
            row.take(part);
            if last {
                let kept = row.outbox.filter(|outbox| !outbox.is_empty());
                self.leaving.extend(kept);
            } else {
                self.rows.push(row);
            }
        }
    }

    fn fail_all(&mut self, error: &ServeError) {
        for row in std::mem::take(&mut self.rows) {
            self.shared.idle(self.index, 1);
            if let Some(outbox) = row.outbox {
                outbox.fail(error.clone());
            }
        }
        self.reset = true;
    }
}

impl Row {
    fn new(job: Waiting) -> Self {
        Self {
            outbox: Some(Outbox::new(job)),
            // A positive number of 32 bits.
            seed: Uuid::new_v4().as_fields().0 >> 1,
            is_known: false,
            has_begun: false,
            properties: Vec::new(),
        }
    }

    fn take(&mut self, part: Part) {
        self.is_known = true;
        self.properties.extend(part.head.properties.iter().cloned());
        if part.is_silent() {
            return;
        }
        let Part {
            mut head,
            data,
            last,
        } = part;
        let Some(outbox) = &mut self.outbox else {
            return;
        };
        let mut wanted = true;
        if !std::mem::replace(&mut self.has_begun, true) {
            head.properties = std::mem::take(&mut self.properties);
            head.streams = !last;
            wanted = outbox.push(RawEvent::Head(head));
        }
        wanted = wanted && outbox.push(RawEvent::Chunk(data));
        if last && wanted {
            outbox.push(RawEvent::End);
        } else if !wanted {
            self.outbox = None;
        }
    }
}

/// The message of a step.
fn compose(rows: &[Row], handler: &str, reset: bool) -> Request {
    let mut request = Request::default();
    if reset {
        let reset = ("reset_rollingbatch".into(), "true".into());
        request.properties.push(reset);
    }
    for (at, row) in rows.iter().enumerate() {
        let name = |key: &str| format!("batch_{at:03}.{key}");
        let input = row.outbox.as_ref().filter(|_| !row.is_known);
        let Some(input) = input.map(|outbox| &outbox.job().input) else {
            request.content.push((name("data"), Bytes::new()));
            continue;
        };
        let properties = batch::distinct(&input.properties).into_iter();
        let properties = properties.map(|(key, value)| (name(&key), value));
        request.properties.extend(properties);
        let data = input.content.iter().find(|(key, _)| key == "data");
        let data = data.or(input.content.first()).map(|(_, data)| data.clone());
        request
            .content
            .push((name("data"), data.unwrap_or_default()));
        let seed = row.seed.to_string();
        request.content.push((name("seed"), seed.into()));
    }
    let size = ("batch_size".into(), rows.len().to_string());
    request.properties.push(size);
    request.properties.push(("handler".into(), handler.into()));
    request
}

/// Why there are no parts.
enum Problem {
    /// The handler says that all requests have failed.
    Failed(RawHead, Bytes),
    /// What it answered is no answer to a step.
    Wrong(String),
}

/// The part of each request.
fn parts(answer: &Answer, count: usize) -> Result<Vec<Part>, Problem> {
    let head = batch::head(answer).map_err(Problem::Wrong)?;
    let Content::Whole(content) = &answer.content else {
        let problem = "the handler answered a rolling batch with a stream; give the next part of \
                       each answer with outputs.add(Output.binary_encode({…}), batch_index=i)";
        return Err(Problem::Wrong(problem.into()));
    };
    if head.code != 200 {
        return Err(Problem::Failed(head, batch::body(content)));
    }
    if content.len() != count {
        let actual = content.len();
        return Err(Problem::Wrong(format!(
            "Batch output size mismatch, expected: {count}, actual: {actual}; a handler with \
             option.rolling_batch gives a part for each request of every step"
        )));
    }
    let pairs = content.iter().enumerate();
    pairs
        .map(|(at, (_, payload))| {
            let pairs = read_payload(payload).ok_or_else(|| {
                Problem::Wrong(format!(
                    "the answer to request {at} of a rolling batch is not what \
                     Output.binary_encode({{\"data\": …, \"last\": …}}) makes"
                ))
            })?;
            let head = RawHead {
                properties: own_properties(&head.properties, at),
                ..head.clone()
            };
            Ok(Part::of(&pairs, head))
        })
        .collect()
}

/// The properties `batch_n_name` of the n-th request.
fn own_properties(all: &[(String, String)], at: usize) -> Vec<(String, String)> {
    let own = all.iter().filter_map(|(name, value)| {
        let (number, name) = name.strip_prefix("batch_")?.split_once('_')?;
        (number.parse() == Ok(at)).then(|| (name.to_owned(), value.clone()))
    });
    own.collect()
}
