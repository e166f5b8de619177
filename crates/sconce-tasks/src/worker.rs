//! The engine's thread: gathers requests, computes their texts in batches, hands out rows, answers.
//!
//! A batch holds texts of several requests, and a long request takes several batches. What goes wrong in a batch is
//! tried again text by text, so that a request fails only by its own texts.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sconce_core::inbox::{self, Arrival, Outbox, Queued, panic_message};
use sconce_core::task::Answered;
use sconce_core::{Event, Gauges, Permit, Reply, ServeError};
use sconce_models::encoder::{Batch, Encoder, Rows};
use sconce_nn::{Attached, Pulse};
use tracing::error;

use crate::engine::canary;
use crate::settings::TaskSettings;
use crate::work::{Finish, Text, Work};

/// A request that waits or is being computed.
pub(crate) struct Pending {
    texts: VecDeque<Text>,
    rows: Vec<Rows>,
    tokens: usize,
    finish: Finish,
    reply: Box<dyn Reply>,
    deadline: Instant,
    permit: Permit,
}

impl Pending {
    pub(crate) fn new(
        work: Work,
        reply: Box<dyn Reply>,
        deadline: Instant,
        permit: Permit,
    ) -> Self {
        Self {
            tokens: work.tokens(),
            rows: Vec::with_capacity(work.texts.len()),
            texts: work.texts.into(),
            finish: work.finish,
            reply,
            deadline,
            permit,
        }
    }

    fn answer(self) {
        let Self {
            rows,
            tokens,
            finish,
            mut reply,
            permit,
            ..
        } = self;
        let finished = catch_unwind(AssertUnwindSafe(|| finish(rows)));
        let event = match finished {
            Ok(Ok(answer)) => Event::Answered(Answered { answer, tokens }),
            Ok(Err(error)) => Event::Failed(error),
            Err(_) => Event::Failed(ServeError::Malformed(
                "making an answer of the model's numbers panicked; the log says where".into(),
            )),
        };
        // The place is free before the client hears of it.
        drop(permit);
        reply.send(event);
    }
}

impl Queued for Pending {
    fn fail(mut self, error: ServeError) {
        self.reply.send(Event::Failed(error));
    }
}

/// What the thread owns.
pub(crate) struct Worker {
    name: String,
    encoder: Encoder,
    /// Whether a text has a row for each token, rather than one.
    per_token: bool,
    batch_size: usize,
    batch_tokens: usize,
    delay: Duration,
    predict_timeout: u64,
    waiting: VecDeque<Pending>,
    gauges: Arc<Gauges>,
    /// Counts what this thread gets done as signs of life.
    _pulse: Attached,
}

impl inbox::Worker for Worker {
    type Job = Pending;

    fn run(&mut self, outbox: &Outbox<Pending>) -> Result<(), String> {
        while self.gather(outbox) {
            if self.waiting.is_empty() {
                canary(&self.encoder)?;
                self.gauges.count_step(0, 0);
                continue;
            }
            self.drop_the_lost();
            self.compute();
            self.answer_the_finished();
        }
        Ok(())
    }

    fn fail_all(&mut self, error: &ServeError) {
        for pending in self.waiting.drain(..) {
            pending.fail(error.clone());
        }
    }
}

impl Worker {
    pub(crate) fn new(
        settings: &TaskSettings,
        encoder: Encoder,
        per_token: bool,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self {
            name: settings.name.clone(),
            encoder,
            per_token,
            batch_size: settings.batch_size.max(1),
            batch_tokens: settings.max_batch_tokens.max(1),
            delay: settings.max_batch_delay,
            predict_timeout: settings.predict_timeout,
            waiting: VecDeque::new(),
            _pulse: Pulse::counting(gauges.signs()).attach(),
            gauges,
        }
    }

    /// Waits for a request if there is none, then for more of them until a batch is full or the delay is over. None came
    /// for so long that the model should prove itself: true, with nothing at hand. False: the end.
    fn gather(&mut self, outbox: &Outbox<Pending>) -> bool {
        if self.waiting.is_empty() {
            match outbox.wait() {
                Arrival::Job(pending) => self.waiting.push_back(pending),
                Arrival::Nothing => return true,
                Arrival::End => return false,
            }
        }
        let end = Instant::now() + self.delay;
        while self.waiting.len() < self.batch_size && self.tokens_at_hand() < self.batch_tokens {
            match outbox.wait_until(end) {
                Arrival::Job(pending) => self.waiting.push_back(pending),
                Arrival::Nothing => break,
                Arrival::End => return false,
            }
        }
        true
    }

    fn tokens_at_hand(&self) -> usize {
        let texts = self.waiting.iter().flat_map(|pending| &pending.texts);
        texts.map(|text| text.ids.len()).sum()
    }

    /// Ends requests whose client has gone, or whose time is over.
    fn drop_the_lost(&mut self) {
        let now = Instant::now();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for pending in self.waiting.drain(..) {
            if pending.deadline <= now {
                pending.fail(ServeError::Timeout {
                    seconds: self.predict_timeout,
                });
            } else if !pending.reply.gone() {
                kept.push_back(pending);
            }
        }
        self.waiting = kept;
    }

    /// Computes one batch: the first texts of those that wait, in order, as far as they fit.
    fn compute(&mut self) {
        let mut taken: Vec<(usize, Text)> = Vec::new();
        let mut tokens = 0;
        'full: for (index, pending) in self.waiting.iter_mut().enumerate().take(self.batch_size) {
            if pending.permit.begin() {
                pending.reply.begins();
            }
            while let Some(text) = pending.texts.front() {
                if tokens > 0 && tokens + text.ids.len() > self.batch_tokens {
                    break 'full;
                }
                tokens += text.ids.len();
                taken.extend(pending.texts.pop_front().map(|text| (index, text)));
            }
        }
        let requests = taken.last().map_or(0, |(index, _)| index + 1);
        self.gauges.count_step(requests, tokens);
        let texts: Vec<&Text> = taken.iter().map(|(_, text)| text).collect();
        let results: Vec<Result<Rows, String>> = match self.forward(&texts) {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(_) if texts.len() > 1 => texts.iter().map(|text| self.alone(text)).collect(),
            Err(cause) => vec![Err(cause)],
        };
        let mut failures: Vec<(usize, String)> = Vec::new();
        for ((index, _), result) in taken.iter().zip(results) {
            match result {
                Ok(rows) => self.waiting[*index].rows.push(rows),
                Err(cause) => failures.push((*index, cause)),
            }
        }
        failures.dedup_by_key(|(index, _)| *index);
        for (index, cause) in failures.into_iter().rev() {
            error!(model = self.name, cause, "a request cannot be computed");
            if let Some(pending) = self.waiting.remove(index) {
                let model = self.name.clone();
                pending.fail(ServeError::Engine { model, cause });
            }
        }
    }

    fn alone(&self, text: &Text) -> Result<Rows, String> {
        let rows = self.forward(&[text])?;
        rows.into_iter()
            .next()
            .ok_or_else(|| "the model gave nothing".into())
    }

    /// The rows of each text.
    fn forward(&self, texts: &[&Text]) -> Result<Vec<Rows>, String> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let batch = joined(texts);
        let computed = catch_unwind(AssertUnwindSafe(|| self.encoder.forward(&batch)));
        let all = match computed {
            Ok(computed) => computed.map_err(|error| error.to_string())?,
            Err(panic) => return Err(panic_message(&*panic)),
        };
        if let Some(number) = all.numbers.iter().find(|number| !number.is_finite()) {
            return Err(format!("the model gave {number}"));
        }
        let mut numbers = all.numbers.as_slice();
        let rows = texts.iter().map(|text| {
            let (of_text, rest) = numbers.split_at(self.rows_of(text) * all.width);
            numbers = rest;
            Rows {
                numbers: of_text.to_vec(),
                width: all.width,
            }
        });
        Ok(rows.collect())
    }

    fn rows_of(&self, text: &Text) -> usize {
        match &text.wanted {
            _ if !self.per_token => 1,
            Some(wanted) => wanted.len(),
            None => text.ids.len(),
        }
    }

    fn answer_the_finished(&mut self) {
        let (done, rest): (VecDeque<_>, VecDeque<_>) = self
            .waiting
            .drain(..)
            .partition(|pending| pending.texts.is_empty());
        self.waiting = rest;
        done.into_iter().for_each(Pending::answer);
    }
}

/// Texts end to end.
fn joined(texts: &[&Text]) -> Batch {
    let mut batch = Batch::default();
    let mut wanted = Vec::new();
    let picks = texts.iter().any(|text| text.wanted.is_some());
    for text in texts {
        let first = batch.ids.len() as u32;
        match &text.wanted {
            Some(tokens) => wanted.extend(tokens.iter().map(|token| first + token)),
            None => wanted.extend(first..first + text.ids.len() as u32),
        }
        batch.ids.extend_from_slice(&text.ids);
        batch.types.extend_from_slice(&text.types);
        batch.lens.push(text.ids.len());
    }
    batch.wanted = picks.then_some(wanted);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lie_end_to_end_and_wanted_tokens_move_with_them() {
        let text = |ids: &[u32], wanted: Option<Vec<u32>>| Text {
            ids: ids.to_vec(),
            types: vec![0; ids.len()],
            wanted,
        };
        let (one, two) = (
            text(&[5, 6], Some(vec![1])),
            text(&[7, 8, 9], Some(vec![0, 2])),
        );
        let batch = joined(&[&one, &two]);
        assert_eq!(batch.ids, [5, 6, 7, 8, 9]);
        assert_eq!(batch.lens, [2, 3]);
        assert_eq!(batch.wanted, Some(vec![1, 2, 4]));
        assert_eq!(joined(&[&text(&[1], None)]).wanted, None);
        let mixed = joined(&[&text(&[1, 2], None), &one]);
        assert_eq!(mixed.wanted, Some(vec![0, 1, 3]));
    }
}
