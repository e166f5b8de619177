//! The engine's thread: takes requests in, reads, writes a token of each text, answers, again.
//!
//! Everything that changes from step to step lives here, in one thread, so nothing is locked but for the while that the
//! threads of the kernels choose tokens. A step that fails ends the thread: its cause is what requests hear from then on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sconce_core::inbox::{self, Outbox, Queued};
use sconce_core::{Event, Gauges, ServeError};
use sconce_engine::{Place, Team};
use sconce_models::seq2seq::Reading;
use sconce_nn::{Attached, BLOCK, Step, StepRow, pool};
use sconce_text::Tokenizer;

use crate::engine::{ORDERS_OF_CANARY, canary};
use crate::job::{Admitted, Next, Running};
use crate::pool::Pool;
use crate::rank::{Answer, Order, Rank, Writing};

/// What the thread owns.
pub(crate) struct Worker {
    pub(crate) ranks: Team<Rank>,
    /// Orders that the ranks were given.
    pub(crate) orders: u64,
    pub(crate) pool: Pool,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) gauges: Arc<Gauges>,
    /// Texts that are written at the same time.
    pub(crate) max_rows: usize,
    /// Tokens that are read together.
    pub(crate) max_read_tokens: usize,
    /// Seconds after which a request fails; only for the message.
    pub(crate) predict_timeout: u64,
    pub(crate) waiting: VecDeque<Admitted>,
    pub(crate) running: Vec<Running>,
    /// Counts what this thread gets done as signs of life.
    pub(crate) _pulse: Attached,
}

impl inbox::Worker for Worker {
    type Job = Admitted;

    fn run(&mut self, outbox: &Outbox<Admitted>) -> Result<(), String> {
        while self.take_in(outbox) {
            if self.running.is_empty() && self.waiting.is_empty() {
                canary(&mut self.ranks, self.orders)?;
                self.orders += ORDERS_OF_CANARY;
                self.gauges.count_step(0, 0);
                continue;
            }
            self.sweep();
            self.compute()?;
            self.gauges.set_blocks(self.pool.used(), self.pool.len());
        }
        Ok(())
    }

    fn fail_all(&mut self, error: &ServeError) {
        for mut running in self.running.drain(..) {
            running.reply.send(Event::Failed(error.clone()));
        }
        for waiting in self.waiting.drain(..) {
            waiting.fail(error.clone());
        }
    }
}

impl Worker {
    /// Takes what has arrived. False: the end.
    fn take_in(&mut self, outbox: &Outbox<Admitted>) -> bool {
        let idle = self.running.is_empty() && self.waiting.is_empty();
        outbox.take_in(idle, |job| self.waiting.push_back(job))
    }

    /// Drops requests whose client has gone or whose time is over, before computing for them.
    fn sweep(&mut self) {
        let now = Instant::now();
        let timeout = ServeError::Timeout {
            seconds: self.predict_timeout,
        };
        let waiting = std::mem::take(&mut self.waiting);
        for job in waiting {
            if job.deadline <= now {
                job.fail(timeout.clone());
            } else if !job.reply.gone() {
                self.waiting.push_back(job);
            }
        }
        for job in std::mem::take(&mut self.running) {
            let late = job.deadline <= now;
            if late || job.reply.gone() {
                let told = late.then(|| Event::Failed(timeout.clone()));
                job.leave(&mut self.pool, told);
            } else {
                self.running.push(job);
            }
        }
    }

    fn compute(&mut self) -> Result<(), String> {
        let first = self.running.len();
        self.join();
        if self.running.len() > first {
            self.read(first)?;
        }
        if self.running.is_empty() {
            return Ok(());
        }
        self.gauges.count_step(self.running.len(), 0);
        self.write()
    }

    /// Lets requests in, in their order, while there are rows and blocks for all that they may write.
    fn join(&mut self) {
        let mut rows: usize = self.running.iter().map(|job| job.rows.len()).sum();
        let mut tokens = 0;
        while let Some(next) = self.waiting.front() {
            let full = rows > 0 && rows + next.decoding.rows() > self.max_rows;
            let long = tokens > 0 && tokens + next.read.len() > self.max_read_tokens;
            if full || long || !self.pool.promise(next.blocks()) {
                return;
            }
            rows += next.decoding.rows();
            tokens += next.read.len();
            if let Some(job) = self.waiting.pop_front() {
                let tokenizer = Arc::clone(&self.tokenizer);
                self.running
                    .push(Running::new(job, tokenizer, &mut self.pool));
            }
        }
    }

    /// Reads what the requests from `first` on bring.
    fn read(&mut self, first: usize) -> Result<(), String> {
        let mut reading = Reading::default();
        for job in &self.running[first..] {
            let ids = job.read();
            reading.ids.extend_from_slice(ids);
            reading.lens.push(ids.len());
            reading.slots.extend(
                (0..ids.len()).map(|at| job.cross[at / BLOCK] * BLOCK as u32 + (at % BLOCK) as u32),
            );
        }
        self.tell(Order::Read(Arc::new(reading))).map(drop)
    }

    fn tell(&mut self, order: Order) -> Result<Answer, String> {
        let place = Place::Step(self.orders);
        self.orders += 1;
        self.ranks.obey(place, order)
    }

    /// Computes the last token of every text, and lets each request choose how it goes on.
    fn write(&mut self) -> Result<(), String> {
        let mut writing = Writing::default();
        for job in &mut self.running {
            let lens: Vec<(usize, u32)> = job
                .texts()
                .iter()
                .map(|text| (text.len(), text.last().copied().unwrap_or(0)))
                .collect();
            let (read, cross) = (job.read().len(), job.cross.clone());
            for (row, (len, token)) in job.rows.iter_mut().zip(lens) {
                let mut copy = |from, to| writing.copies.push((from, to));
                Running::make_room(row, len, &mut self.pool, &mut copy);
                push(&mut writing.step, token, len, row);
                let index = writing.texts.rows.len();
                let text = one_query(index, read, cross.clone());
                writing.texts.rows.push(text);
            }
        }
        match self.tell(Order::Write(Arc::new(writing)))? {
            Answer::Logits(logits) => self.choose(&logits.numbers, logits.width),
            Answer::Done => return Err("rank 0 did something else than it was told".into()),
        }
        Ok(())
    }

    fn choose(&mut self, logits: &[f32], vocab: usize) {
        let mut rest = logits;
        let jobs: Vec<Mutex<(Running, &[f32], Next)>> = std::mem::take(&mut self.running)
            .into_iter()
            .map(|job| {
                let (own, others) = rest.split_at(job.rows.len() * vocab);
                rest = others;
                Mutex::new((job, own, Next::Over(None)))
            })
            .collect();
        pool::run(jobs.len(), &|index| {
            let mut job = jobs[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (running, logits, next) = &mut *job;
            *next = running.advance(logits, vocab);
        });
        for job in jobs {
            let (mut job, _, next) = job.into_inner().unwrap_or_else(PoisonError::into_inner);
            match next {
                Next::GoOn(parents) => {
                    job.follow(&parents, &mut self.pool);
                    self.running.push(job);
                }
                Next::Over(last) => job.leave(&mut self.pool, last),
            }
        }
    }
}

/// Adds the last token of a text of so many tokens.
fn push(step: &mut Step, token: u32, len: usize, blocks: &[u32]) {
    let position = len - 1;
    let slot = blocks[position / BLOCK] as usize * BLOCK + position % BLOCK;
    let index = step.ids.len();
    step.ids.push(token);
    step.positions.push(position as u32);
    step.slots.push(slot as u32);
    step.rows.push(one_query(index, len, blocks.to_vec()));
}

fn one_query(index: usize, keys: usize, blocks: Vec<u32>) -> StepRow {
    StepRow {
        q_start: index,
        q_len: 1,
        k_len: keys,
        known: keys,
        blocks,
    }
}
