//! The engine's thread: plan, compute, pick, answer, again.
//!
//! Everything that changes from step to step lives here, in one thread, so nothing is locked.
//! A failed step fails the jobs at hand and ends the thread; one job's failure ends that job.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Storage, Tensor};
use sconce_core::inbox::{self, Outbox, Queued};
use sconce_core::{Event, Gauges, ServeError};
use sconce_models::Adapter;
use sconce_nn::{Attached, Scores};
use sconce_sched::{Picked, Reuse, Row, Scheduler, SeqId, Sequence, StepPlan, Want};
use sconce_text::Tokenizer;
use tracing::debug;

use crate::draws::{Drawn, Draws, Given};
use crate::live::{Admitted, Live};
use crate::pace::Pace;
use crate::pack::logit_rows;
use crate::ranks::Ranks;
use crate::sampler::Logits;
use crate::speculation::Speculation;
use crate::speculation::draft::Draft;

/// Why these logits are none.
pub(crate) fn check_numbers(logits: &Tensor) -> Result<(), String> {
    let values = logits
        .flatten_all()
        .and_then(|logits| logits.to_vec1::<f32>())
        .map_err(|error| error.to_string())?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(format!("logit {at} is {}", values[at])),
        None => Ok(()),
    }
}

impl Queued for Admitted {
    fn fail(mut self, error: ServeError) {
        self.reply.send(Event::Failed(error));
    }
}

/// The state of the engine's thread.
pub(crate) struct Worker {
    /// The model's name in messages.
    pub(crate) name: String,
    /// The model on all its ranks.
    pub(crate) ranks: Ranks,
    /// Decides each step.
    pub(crate) scheduler: Scheduler,
    /// Text of tokens.
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The model's end-of-text tokens.
    pub(crate) eos: Arc<[u32]>,
    /// Seconds after which a job fails; only for the message.
    pub(crate) predict_timeout: u64,
    /// Counters that others read.
    pub(crate) gauges: Arc<Gauges>,
    /// What a step may compute of prompts.
    pub(crate) pace: Pace,
    /// The picks of a step.
    pub(crate) draws: Draws,
    /// Whether rows of logits are elsewhere, so that less than all of a row is worth asking for.
    pub(crate) asks_for_best: bool,
    /// How many of the largest logits suffice for the rows of a step; kept for its memory.
    pub(crate) best: Vec<u32>,
    /// What was picked in a step; kept for its memory.
    pub(crate) picked: Vec<Picked>,
    /// The adapters of the rows of a step; empty where none has one. Kept for its memory.
    pub(crate) adapters: Vec<Option<Arc<Adapter>>>,
    /// Who guesses what comes next.
    pub(crate) speculation: Option<Speculation>,
    /// The small model that guesses, if one does.
    pub(crate) draft: Option<Draft>,
    /// Jobs in the scheduler.
    pub(crate) live: HashMap<SeqId, Live>,
    /// The next sequence's name.
    pub(crate) next: u64,
    /// Counts what this thread gets done as signs of life.
    pub(crate) _pulse: Attached,
}

impl inbox::Worker for Worker {
    type Job = Admitted;

    fn run(&mut self, outbox: &Outbox<Admitted>) -> Result<(), String> {
        let mut plan = StepPlan::default();
        while outbox.take_in(self.live.is_empty(), |job| self.add(job)) {
            if self.live.is_empty() {
                self.prove(&mut plan)?;
                continue;
            }
            self.sweep();
            self.guess();
            let load = self.scheduler.load();
            let prompts = self
                .pace
                .prompts(load.generating, load.running + load.waiting);
            self.scheduler.plan(prompts, &mut plan);
            if !plan.rows.is_empty() {
                self.begin(&plan);
                let began = Instant::now();
                self.draft(&mut plan)?;
                self.find_adapters(&plan);
                self.find_best(&plan);
                let scores = self.ranks.forward(&plan, &self.adapters, &self.best)?;
                self.adapters.clear();
                self.answer(&plan, &scores)?;
                let tokens = plan.rows.iter().map(|row| row.tokens.len()).sum();
                self.pace.record(tokens, began.elapsed());
                self.gauges.count_step(plan.rows.len(), tokens);
            }
            self.tell_load();
        }
        Ok(())
    }

    fn fail_all(&mut self, error: &ServeError) {
        for (_, mut live) in self.live.drain() {
            live.fail(error.clone());
        }
    }
}

impl Worker {
    fn tell_load(&self) {
        let load = self.scheduler.load();
        self.gauges.set_blocks(load.used_blocks, load.total_blocks);
        let Reuse {
            queries,
            hits,
            preemptions,
        } = load.reuse;
        self.gauges.set_reuse(queries, hits, preemptions);
    }

    /// Tells those who are computed for the first time.
    fn begin(&mut self, plan: &StepPlan) {
        for row in &plan.rows {
            if let Some(live) = self.live.get_mut(&row.seq) {
                live.begin();
            }
        }
    }

    /// Computes a token for nobody, in a block that the scheduler gives: the logits must be numbers.
    fn prove(&mut self, plan: &mut StepPlan) -> Result<(), String> {
        let seq = SeqId(self.next);
        self.next += 1;
        let sequence = Sequence {
            id: seq,
            prompt: vec![0],
            max_new_tokens: 1,
            all_logits: false,
            adapter: 0,
            beams: 1,
        };
        self.scheduler
            .add(sequence)
            .map_err(|refusal| refusal.to_string())?;
        self.scheduler.plan(1, plan);
        let scores = self.ranks.forward(plan, &[], &[])?;
        check_numbers(&scores.logits)?;
        let picked = Picked::new(seq, 0, true);
        self.scheduler.commit(plan, &[picked]);
        self.gauges.count_step(0, 0);
        Ok(())
    }

    fn add(&mut self, job: Admitted) {
        let id = SeqId(self.next);
        self.next += 1;
        let sequence = Sequence {
            id,
            prompt: job.prompt.clone(),
            max_new_tokens: job.length.most,
            all_logits: job.params.report.prompt_logprobs,
            adapter: job.adapter.as_ref().map_or(0, |lent| lent.number),
            beams: job.params.beams.map_or(1, |asked| asked.beams),
        };
        let mut live = Live::new(job, Arc::clone(&self.tokenizer), Arc::clone(&self.eos));
        if self.speculation.is_some() {
            live.remember();
        }
        match self.scheduler.add(sequence) {
            Ok(()) => {
                self.live.insert(id, live);
            }
            // The door checks lengths with the same limits, so this is a second line of defence.
            Err(refusal) => {
                live.fail(ServeError::parameter(
                    "inputs",
                    "the prompt",
                    refusal.to_string(),
                ));
            }
        }
    }

    /// Has it guessed what comes next in answers that have begun.
    fn guess(&mut self) {
        let Some(speculation) = &self.speculation else {
            return;
        };
        let mut guess = Vec::new();
        let begun = |live: &Live| live.has_begun() && !live.searches();
        for (&id, live) in self.live.iter().filter(|(_, live)| begun(live)) {
            speculation.guess(live.tokens(), &mut guess);
            if !guess.is_empty() {
                self.scheduler.propose(id, &guess);
            }
        }
    }

    /// Has the small model compute what the large one will, and guess.
    fn draft(&mut self, plan: &mut StepPlan) -> Result<(), String> {
        let Some(draft) = &mut self.draft else {
            return Ok(());
        };
        let live = &self.live;
        draft
            .fill(plan, &|seq| live[&seq].tokens())
            .map_err(|error| format!("the model of option.speculative_draft_model: {error}"))
    }

    /// Drops jobs whose client has gone or whose time is over, before computing for them.
    fn sweep(&mut self) {
        let (now, timeout) = (Instant::now(), self.predict_timeout);
        let (scheduler, draft) = (&mut self.scheduler, &mut self.draft);
        self.live
            .retain(|&id, live| match live.leaves(now, timeout) {
                Some(why) => {
                    debug!(job = %live.id(), ?why, "the job leaves unfinished");
                    scheduler.cancel(id);
                    if let Some(draft) = draft.as_mut() {
                        draft.forget(id);
                    }
                    false
                }
                None => true,
            });
    }

    /// Takes note of the adapters of a plan's rows.
    fn find_adapters(&mut self, plan: &StepPlan) {
        let of = |row: &Row| self.live[&row.seq].adapter();
        if plan.rows.iter().any(|row| of(row).is_some()) {
            let adapters = plan
                .rows
                .iter()
                .map(|row| Some(Arc::clone(&of(row)?.adapter)));
            self.adapters.extend(adapters);
        }
    }

    /// Takes note of how much of the logits the picks of a plan's rows need.
    fn find_best(&mut self, plan: &StepPlan) {
        self.best.clear();
        if !self.asks_for_best {
            return;
        }
        let vocab = self.ranks.vocab();
        for row in &plan.rows {
            let count = match row.want {
                Want::Last if self.picks(row) => self.live[&row.seq].best(vocab),
                _ => 0,
            };
            self.best
                .extend(std::iter::repeat_n(count, logit_rows(row)));
        }
    }

    /// Picks the next token of every row that reached its end, answers, and commits the plan.
    fn answer(&mut self, plan: &StepPlan, scores: &Scores) -> Result<(), String> {
        let vocab = self.ranks.vocab();
        let (storage, layout) = scores.logits.storage_and_layout();
        let Storage::Cpu(values) = &*storage else {
            return Err("the logits are not in the host's memory".into());
        };
        let values = values
            .as_slice::<f32>()
            .map_err(|error| error.to_string())?;
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or("the logits are not contiguous")?;
        let given = Given::new(&values[start..end], vocab, &scores.best);
        let mut at = 0;
        for row in &plan.rows {
            self.prepare(row, at, &given);
            at += logit_rows(row);
        }
        self.draws.pick(&given);
        let mut picked = std::mem::take(&mut self.picked);
        let mut draws = std::mem::take(&mut self.draws);
        let mut drawn = draws.drain();
        let mut at = 0;
        for row in &plan.rows {
            at += logit_rows(row);
            if !self.picks(row) {
                continue;
            }
            if self.live[&row.seq].searches() {
                // The other texts' logits follow those of the first.
                self.search(row.seq, given.from(at - 1), &mut picked);
            } else {
                let drawn = drawn.next().expect("every row that picks was prepared");
                self.answer_row(row, drawn, &mut picked);
            }
        }
        drop(drawn);
        self.scheduler.commit(plan, &picked);
        for Picked { seq, ends, .. } in picked.drain(..) {
            if ends {
                self.live.remove(&seq);
                if let Some(draft) = &mut self.draft {
                    draft.forget(seq);
                }
            }
        }
        (self.draws, self.picked) = (draws, picked);
        Ok(())
    }

    /// Whether the row came to the end of what is known of its sequence. Of several texts one has all go on, so that the
    /// others have nothing left to pick.
    fn picks(&self, row: &Row) -> bool {
        let end = row.start + row.tokens.len() - row.proposed;
        row.want != Want::None && row.beam.unwrap_or(0) == 0 && end == self.live[&row.seq].known()
    }

    /// Has a search go on by the logits of its texts.
    fn search(&mut self, seq: SeqId, logits: &[f32], all: &mut Vec<Picked>) {
        let live = self.live.get_mut(&seq).expect("planned sequences are live");
        match live.search(logits, self.ranks.vocab()) {
            Ok(Ok(texts)) => all.extend(texts.into_iter().map(|(parent, token)| Picked {
                parent,
                ..Picked::new(seq, token, false)
            })),
            Ok(Err(_left)) => all.push(Picked::new(seq, 0, true)),
            Err(error) => {
                live.fail(ServeError::Engine {
                    model: self.name.clone(),
                    cause: error.to_string(),
                });
                all.push(Picked::new(seq, 0, true));
            }
        }
    }

    /// Takes note of the logits of a row, which begin at row `at` of all, and prepares the pick.
    fn prepare(&mut self, row: &Row, at: usize, given: &Given) {
        let picks = self.picks(row);
        let live = self
            .live
            .get_mut(&row.seq)
            .expect("planned sequences are live");
        let count = logit_rows(row);
        let end = row.start + row.tokens.len();
        if row.want == Want::All {
            for (position, at) in (end - count..end).zip(at..) {
                if let Logits::All(logits) = given.row(at) {
                    live.note_prompt_logits(position, logits);
                }
            }
        }
        if picks && !live.searches() {
            let (sampler, top) = live.lend();
            let guess = &row.tokens[row.tokens.len() - row.proposed..];
            let first = at + count - 1 - row.proposed;
            self.draws.push(sampler, first, top, guess);
        }
    }

    /// Tells the client of what was picked for a row, as far as it is of use.
    fn answer_row(&mut self, row: &Row, drawn: Drawn, all: &mut Vec<Picked>) {
        let seq = row.seq;
        let live = self.live.get_mut(&seq).expect("planned sequences are live");
        live.take_back(drawn.sampler);
        live.count_guesses(row.proposed, drawn.more.len());
        for picked in std::iter::once(drawn.first).chain(drawn.more) {
            let (token, ends) = match picked {
                Ok(picked) => (picked.token, live.advance(&picked).is_some()),
                Err(error) => {
                    let cause = error.to_string();
                    live.fail(ServeError::Engine {
                        model: self.name.clone(),
                        cause,
                    });
                    (0, true)
                }
            };
            all.push(Picked::new(seq, token, ends));
            if ends {
                return;
            }
        }
    }
}
