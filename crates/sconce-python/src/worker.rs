//! A worker's thread: takes jobs, has its process answer them, and starts another process when
//! that one fails.

use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sconce_core::{Event, RawEvent, RawInput, ServeError};
use tracing::debug;

use crate::asynchronous;
use crate::batch;
use crate::error::PythonError;
use crate::process::{Process, Start, read_whole};
use crate::protocol::{Answer, Content, ProtocolError, read_answer, read_frame};
use crate::queue::{Next, Shared, Waiting};
use crate::rolling;
use crate::watch::Patient;

/// The failure of a process that has lived so long does not follow from the one before it.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// Serves until the pool ends or this worker is no longer needed.
pub(crate) fn run(shared: &Arc<Shared>, index: usize, first: Option<Process>) {
    let mut worker = Worker {
        shared,
        index,
        generation: usize::from(first.is_some()),
        strikes: 0,
    };
    let mut process = first;
    loop {
        let Some(live) = process.take().or_else(|| worker.start()) else {
            break;
        };
        let began = Instant::now();
        match worker.serve(live) {
            Serve::End => break,
            Serve::Restart => {
                if began.elapsed() > LONG_LIFE {
                    worker.strikes = 0;
                }
                worker.strikes += 1;
            }
        }
    }
    shared.leave(index);
}

/// Starts the process of a worker that is to be up before the model is ready.
pub(crate) fn first_process(shared: &Shared, index: usize) -> Result<Process, PythonError> {
    Process::start(&Start {
        settings: &shared.settings,
        package: &shared.package,
        index,
        generation: 0,
        stop: &|| shared.is_stopping(),
    })
}

struct Worker<'a> {
    shared: &'a Arc<Shared>,
    index: usize,
    generation: usize,
    /// Failures since the last answer.
    strikes: usize,
}

enum Serve {
    End,
    Restart,
}

/// Why a process is of no use any more.
pub(crate) enum Lost {
    /// It did not answer in time.
    Slow,
    /// The connection or a message is broken.
    Broken(ProtocolError),
}

impl Lost {
    /// What a problem means; `expired`: whether the time was over.
    pub(crate) fn of(problem: ProtocolError, expired: bool) -> Self {
        if expired {
            Self::Slow
        } else {
            Self::Broken(problem)
        }
    }
}

impl Worker<'_> {
    /// Starts until it succeeds; `None`: no worker is wanted any more.
    fn start(&mut self) -> Option<Process> {
        while self.shared.pause(self.strikes) {
            let started = Process::start(&Start {
                settings: &self.shared.settings,
                package: &self.shared.package,
                index: self.index,
                generation: self.generation,
                stop: &|| self.shared.is_over(),
            });
            self.generation += 1;
            match started {
                Ok(process) => {
                    self.shared.up(self.index);
                    return Some(process);
                }
                Err(PythonError::Stopped) => return None,
                Err(cause) => {
                    self.strikes += 1;
                    let cause = cause.to_string();
                    if !self.shared.start_failed(self.index, self.strikes, &cause) {
                        return None;
                    }
                }
            }
        }
        None
    }

    fn serve(&mut self, process: Process) -> Serve {
        if self.shared.settings.asynchronous {
            return match asynchronous::serve(self.shared, self.index, &process) {
                Ok(()) => Serve::End,
                Err((lost, jobs)) => {
                    self.give_up(process, lost, jobs);
                    Serve::Restart
                }
            };
        }
        if let Some(most) = self.shared.settings.rolling {
            return match rolling::serve(self.shared, self.index, &process, most) {
                Ok(()) => Serve::End,
                Err((lost, jobs)) => {
                    self.give_up(process, lost, jobs);
                    Serve::Restart
                }
            };
        }
        loop {
            let mut jobs = match self.shared.next(self.index, &|| process.has_ended()) {
                Next::Batch(jobs) => jobs,
                Next::End => return Serve::End,
                Next::Restart => {
                    self.shared.lost(self.index, 0, &process.autopsy());
                    return Serve::Restart;
                }
            };
            let count = jobs.len();
            match self.exchange(&process, &mut jobs) {
                Ok(()) => {
                    self.strikes = 0;
                    self.shared.idle(self.index, count);
                }
                Err(lost) => {
                    self.give_up(process, lost, jobs);
                    return Serve::Restart;
                }
            }
        }
    }

    /// Ends the process; the jobs that it had fail.
    fn give_up(&self, process: Process, lost: Lost, jobs: Vec<Waiting>) {
        let settings = &self.shared.settings;
        let count = jobs.len();
        if self.shared.is_stopping() {
            jobs.into_iter()
                .for_each(|job| job.fail(ServeError::Draining));
            self.shared.idle(self.index, count);
            return;
        }
        let seconds = settings.predict_timeout.as_secs();
        let (error, cause) = match lost {
            Lost::Slow => {
                drop(process);
                let cause =
                    format!("did not answer within predict_timeout = {seconds} s and was ended");
                (ServeError::Timeout { seconds }, cause)
            }
            Lost::Broken(ProtocolError::Broken(_)) => {
                let cause = process.autopsy();
                let model = settings.name.clone();
                // The log has the last lines; a client gets the first.
                let told = cause.lines().next().unwrap_or_default().to_owned();
                let told = told.trim_end_matches("; its last lines:").to_owned();
                (ServeError::WorkerLost { model, cause: told }, cause)
            }
            Lost::Broken(problem) => {
                drop(process);
                let cause = format!("broke the protocol and was ended: {problem}");
                let model = settings.name.clone();
                let told = cause.clone();
                (ServeError::WorkerLost { model, cause: told }, cause)
            }
        };
        jobs.into_iter().for_each(|job| job.fail(error.clone()));
        self.shared.lost(self.index, count, &cause);
    }

    /// Sends jobs to the process and its answer to their clients.
    fn exchange(&self, process: &Process, jobs: &mut Vec<Waiting>) -> Result<(), Lost> {
        let settings = &self.shared.settings;
        let inputs: Vec<&RawInput> = jobs.iter().map(|job| &job.input).collect();
        let message = match batch::compose(&inputs, &settings.handler).encode() {
            Ok(message) => message,
            Err(problem) => {
                let error =
                    ServeError::Malformed(format!("the request cannot be passed on: {problem}"));
                jobs.drain(..).for_each(|job| job.fail(error.clone()));
                return Ok(());
            }
        };
        let answer = converse(self.shared, process, &message)?;
        match jobs.as_mut_slice() {
            [job] => self.answer(process, job, &answer)?,
            several => {
                let problem = answer_all(several, &answer);
                // What the stream of a whole batch says is of use to nobody.
                self.skip_stream(process, &answer)?;
                if let Some(problem) = problem {
                    let error = ServeError::BadAnswer { problem };
                    jobs.drain(..).for_each(|job| job.fail(error.clone()));
                }
            }
        }
        jobs.clear();
        skip_others(self.shared, process)
    }

    fn answer(&self, process: &Process, job: &mut Waiting, answer: &Answer) -> Result<(), Lost> {
        let head = match batch::head(answer) {
            Ok(head) => head,
            Err(problem) => {
                self.skip_stream(process, answer)?;
                job.reply
                    .send(Event::Failed(ServeError::BadAnswer { problem }));
                return Ok(());
            }
        };
        let mut send = |event| job.reply.send(Event::Raw(event));
        match &answer.content {
            Content::Whole(content) => {
                let body = batch::body(content);
                let _ = send(RawEvent::Head(head))
                    && send(RawEvent::Chunk(body))
                    && send(RawEvent::End);
                Ok(())
            }
            Content::Stream => {
                let wanted = send(RawEvent::Head(head));
                self.stream(process, Some(job).filter(|_| wanted))
            }
        }
    }

    fn skip_stream(&self, process: &Process, answer: &Answer) -> Result<(), Lost> {
        match answer.content {
            Content::Whole(_) => Ok(()),
            Content::Stream => self.stream(process, None),
        }
    }

    /// Passes a stream on to its end. Once nobody wants it, the worker is asked to end it; one that
    /// cannot is read to the end, within the time of one answer.
    fn stream(&self, process: &Process, mut job: Option<&mut Waiting>) -> Result<(), Lost> {
        let settings = &self.shared.settings;
        let asked = Cell::new(false);
        let ask = || {
            if !asked.replace(true) && process.end_stream() {
                debug!(
                    "{}-{}: the stream's client has left",
                    settings.name, self.index
                );
            }
        };
        let mut deadline = Instant::now() + settings.predict_timeout;
        loop {
            let gone = job.as_ref().is_none_or(|job| job.reply.gone());
            if gone {
                job = None;
                ask();
            } else {
                deadline = Instant::now() + settings.predict_timeout;
            }
            let stop = || {
                if job.as_ref().is_some_and(|job| job.reply.gone()) {
                    ask();
                }
                self.shared.is_stopping() || process.has_ended()
            };
            let mut patient = Patient::new(process.link(), deadline, &stop);
            let read = read_frame(&mut patient, settings.message_limit);
            let expired = patient.expired;
            let frame = read.map_err(|problem| Lost::of(problem, expired))?;
            if let Some(job) = &mut job
                && !frame.data.is_empty()
            {
                job.reply.send(Event::Raw(RawEvent::Chunk(frame.data)));
            }
            if frame.last {
                if let Some(job) = job {
                    job.reply.send(Event::Raw(RawEvent::End));
                }
                return Ok(());
            }
        }
    }
}

/// Sends a message to all ranks that get requests, and waits for the answer of the first.
pub(crate) fn converse(shared: &Shared, process: &Process, message: &[u8]) -> Result<Answer, Lost> {
    let settings = &shared.settings;
    // What the process has started may keep its socket open after its end.
    let stop = || shared.is_stopping() || process.has_ended();
    let deadline = Instant::now() + settings.predict_timeout;
    for other in process.others() {
        let mut patient = Patient::new(other, deadline, &stop);
        let written = patient.write_all(message).map_err(ProtocolError::from);
        written.map_err(|problem| Lost::of(problem, patient.expired))?;
    }
    let mut patient = Patient::new(process.link(), deadline, &stop);
    let answered = patient
        .write_all(message)
        .map_err(ProtocolError::from)
        .and_then(|()| read_answer(&mut patient, settings.message_limit));
    answered.map_err(|problem| Lost::of(problem, patient.expired))
}

/// Reads the answers of the other ranks, which have worked on the same request and are as far.
pub(crate) fn skip_others(shared: &Shared, process: &Process) -> Result<(), Lost> {
    let settings = &shared.settings;
    let stop = || shared.is_stopping() || process.has_ended();
    for other in process.others() {
        let mut patient = Patient::new(other, Instant::now() + settings.predict_timeout, &stop);
        let read = read_whole(&mut patient, settings.message_limit);
        read.map_err(|problem| Lost::of(problem, patient.expired))?;
    }
    Ok(())
}

/// Reads a stream that is of use to nobody, within the time of one answer.
pub(crate) fn skip_stream(shared: &Shared, process: &Process) -> Result<(), Lost> {
    let settings = &shared.settings;
    let stop = || shared.is_stopping() || process.has_ended();
    let deadline = Instant::now() + settings.predict_timeout;
    let mut patient = Patient::new(process.link(), deadline, &stop);
    loop {
        let read = read_frame(&mut patient, settings.message_limit);
        if read
            .map_err(|problem| Lost::of(problem, patient.expired))?
            .last
        {
            return Ok(());
        }
    }
}

/// Gives each job of a batch its part; what is wrong with the answer, if it has none for each.
fn answer_all(jobs: &mut [Waiting], answer: &Answer) -> Option<String> {
    let singles = match batch::split(answer, jobs.len()) {
        Ok(singles) => singles,
        Err(problem) => return Some(problem),
    };
    for (job, single) in jobs.iter_mut().zip(singles) {
        let mut send = |event| job.reply.send(Event::Raw(event));
        let _ = send(RawEvent::Head(single.head))
            && send(RawEvent::Chunk(single.body))
            && send(RawEvent::End);
    }
    None
}
