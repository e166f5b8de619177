//! Decides each step: who joins, who computes how many tokens, who must step back.
//!
//! Sequences run in the order of their arrival, and everyone who runs is older than everyone who waits. Each step first
//! gives one token to every sequence that generates, then the rest of the budget to prompts, the oldest first; so at
//! most the youngest one has a prompt that is only partly computed. Whoever waits for blocks that are about to be
//! computed joins behind them. How much of the budget prompts may take beside those who generate, who wait for the
//! whole step, is the caller's word, step by step: there is no clock here. When blocks run out the youngest steps back:
//! its blocks are released, its tokens are kept, it waits at the front and is computed again. The oldest never steps
//! back and has a row in every plan, so every sequence comes to its end.
//!
//! Only `plan` hands blocks out, and there is no second plan before the first one is committed.
//! Hence a sequence that is cancelled in between can release its blocks at once: the step in
//! flight may still write to them, but nobody else gets them before it is over.

mod audit;
mod groups;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::blocks::BlockManager;
use crate::plan::{BLOCK, Picked, Row, StepPlan};
use crate::prefix::{Kind, PrefixIndex};
use crate::sequence::{Refusal, SeqId, Sequence, Tracked};

/// What the scheduler may use. Zero rows or tokens count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that run at the same time; at most `max_step_tokens` of them do.
    pub max_rows: usize,
    /// Tokens computed in one step.
    pub max_step_tokens: usize,
    /// The longest sequence, prompt and new tokens together.
    pub max_len: usize,
    /// Blocks of the cache, each of [`BLOCK`] tokens; fewer than 2³².
    pub blocks: usize,
    /// Whether sequences with the same prefix share its blocks.
    pub prefix_sharing: bool,
    /// A sequence of more tokens than this has other keys from its beginning on (LongRoPE): one
    /// that outgrows it is computed again, and shares no blocks with those below.
    pub border: Option<usize>,
}

/// How busy the scheduler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sequences that have no blocks yet, or had to give them back.
    pub waiting: usize,
    /// Sequences that compute.
    pub running: usize,
    /// Those of them that are past their prompts: one token is pending.
    pub generating: usize,
    /// Blocks that running sequences own; the others are free or cached and can be handed out.
    pub used_blocks: usize,
    /// All blocks.
    pub total_blocks: usize,
    /// What happened since the start.
    pub reuse: Reuse,
}

/// What was computed by others already, or has to be computed again; since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Tokens of sequences that began to run.
    pub queries: u64,
    /// Those of them whose keys and values were in the cache.
    pub hits: u64,
    /// How often a sequence stepped back.
    pub preemptions: u64,
}

/// All sequences that are not over, and the blocks of the cache.
pub struct Scheduler {
    limits: Limits,
    blocks: BlockManager,
    /// In the order of arrival; the longest-waiting one is in front.
    waiting: VecDeque<Tracked>,
    /// In the order of arrival.
    running: Vec<Tracked>,
    arrivals: u64,
    reuse: Reuse,
    /// Whether a plan waits for its commit.
    in_flight: bool,
}

impl Scheduler {
    /// Without sequences; all blocks are free.
    ///
    /// # Panics
    /// If there are 2³² blocks or more.
    pub fn new(limits: Limits) -> Self {
        Self::with_hash_bits(limits, u64::MAX)
    }

    /// Takes a sequence in; it waits until a plan has room for it. Refused if it could not come
    /// to its end even if it were alone.
    pub fn add(&mut self, sequence: Sequence) -> Result<(), Refusal> {
        self.check(&sequence)?;
        self.waiting
            .push_back(Tracked::new(sequence, self.arrivals));
        self.arrivals += 1;
        Ok(())
    }

    /// Forgets a sequence in whatever state it is and releases its blocks at once. Its row in a
    /// plan in flight is ignored by `commit`, which must be called all the same. False: there is
    /// no such sequence.
    pub fn cancel(&mut self, id: SeqId) -> bool {
        let before = self.running.len() + self.waiting.len();
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            if sequence.id == id {
                blocks.release(&mut sequence.table);
            }
            sequence.id != id
        });
        self.waiting.retain(|sequence| sequence.id != id);
        self.running.len() + self.waiting.len() < before
    }

    /// Decides the next step and leaves it in `plan`, whose vectors are used again. It is empty
    /// exactly when there are no sequences; any other plan must be committed before the next one.
    ///
    /// Beside sequences that generate, `prompts` tokens of prompts are computed at most, though
    /// at least one: whoever has a prompt goes on. Where nobody generates they take all of
    /// [`Limits::max_step_tokens`].
    ///
    /// # Panics
    /// If the last plan was not committed.
    pub fn plan(&mut self, prompts: usize, plan: &mut StepPlan) {
        assert!(
            !self.in_flight,
            "the last plan must be committed before the next"
        );
        plan.copies.clear();
        let mut rows = Rows {
            plan,
            len: 0,
            left: self.limits.max_step_tokens,
            prompts: prompts.max(1),
            generating: 0,
            // Guesses never take what sequences that wait need to join.
            proposed: self.limits.max_step_tokens / 2,
        };
        // Whoever just stepped back must not take the room that was made.
        if self.plan_running(&mut rows) {
            self.plan_waiting(&mut rows);
        }
        // The last text of a group may have come with nothing left to compute but what all do together.
        if rows.len == 0 && !self.running.is_empty() {
            self.plan_running(&mut rows);
        }
        self.in_flight = rows.len > 0;
        rows.finish();
    }

    /// Records that a plan was computed, with one [`Picked`] in row order for each row that
    /// ends with the last known token of its sequence. Those of cancelled sequences may be
    /// there or not. Computed full blocks can be shared from now on; sequences that end release
    /// their blocks, and those that outgrow [`Limits::border`] step back.
    ///
    /// # Panics
    /// If `plan` is not the plan in flight, or `picked` does not fit it: going on would mix up
    /// sequences.
    pub fn commit(&mut self, plan: &StepPlan, picked: &[Picked]) {
        assert!(self.in_flight, "only a plan in flight can be committed");
        let mut answers = Answers {
            rows: plan.rows.iter(),
            picked,
        };
        let blocks = &mut self.blocks;
        let mut parting: Vec<&[Picked]> = Vec::new();
        self.running.retain_mut(|sequence| {
            if sequence.planned == 0 {
                // It waits for the other texts of its group.
                return true;
            }
            let picked = answers.of(sequence);
            sequence.advance();
            if sequence.beams > 1 {
                blocks.publish(&mut sequence.table, &sequence.known[..sequence.computed]);
                parting.extend((!picked.is_empty()).then_some(picked));
                return true;
            }
            let mut ends = false;
            for (at, picked) in picked.iter().enumerate() {
                if at > 0 {
                    sequence.advance_one();
                }
                ends = sequence.push(picked.token) || picked.ends;
            }
            blocks.publish(&mut sequence.table, &sequence.known[..sequence.computed]);
            if ends {
                blocks.release(&mut sequence.table);
            }
            !ends
        });
        answers.finish();
        for picked in parting {
            self.part(picked);
        }
        self.in_flight = false;
        self.restart_outgrown();
    }

    /// Proposes what may follow a sequence that generates, for the next plan: as much of it as there is room for is
    /// computed beside the token that is pending. Any guess will do, as answers do not depend on it.
    pub fn propose(&mut self, id: SeqId, tokens: &[u32]) {
        let single = |sequence: &&mut Tracked| sequence.id == id && sequence.beams == 1;
        if let Some(sequence) = self.running.iter_mut().find(single) {
            sequence.proposed.clear();
            sequence.proposed.extend_from_slice(tokens);
        }
    }

    /// How busy the scheduler is.
    pub fn load(&self) -> Load {
        Load {
            waiting: self.waiting.len(),
            running: self.running.len(),
            generating: self.running.iter().filter(|one| one.generates()).count(),
            used_blocks: self.blocks.used(),
            total_blocks: self.blocks.total(),
            reuse: self.reuse,
        }
    }

    /// Whether there are no sequences.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// For tests that want collisions of hashes; `new` uses all bits.
    pub(crate) fn with_hash_bits(limits: Limits, hash_bits: u64) -> Self {
        let max_step_tokens = limits.max_step_tokens.max(1);
        let index = limits
            .prefix_sharing
            .then(|| PrefixIndex::new(limits.blocks, hash_bits));
        Self {
            blocks: BlockManager::new(limits.blocks, index),
            // Every running sequence gets at least one token in each step.
            limits: Limits {
                max_rows: limits.max_rows.clamp(1, max_step_tokens),
                max_step_tokens,
                ..limits
            },
            waiting: VecDeque::new(),
            running: Vec::new(),
            arrivals: 0,
            reuse: Reuse::default(),
            in_flight: false,
        }
    }

    fn check(&self, sequence: &Sequence) -> Result<(), Refusal> {
        let (prompt, new) = (sequence.prompt.len(), sequence.max_new_tokens);
        if prompt == 0 || new == 0 {
            return Err(Refusal::Nothing { prompt, new });
        }
        let longest = prompt.saturating_add(new);
        if longest > self.limits.max_len {
            let limit = self.limits.max_len;
            return Err(Refusal::TooLong { prompt, new, limit });
        }
        let (beams, limit) = (sequence.beams.max(1), self.limits.max_rows);
        if beams > limit {
            return Err(Refusal::TooWide { beams, limit });
        }
        // The last picked token is never computed. Texts that step back need not find each other's blocks again.
        let needed = beams.saturating_mul((longest - 1).div_ceil(BLOCK));
        let blocks = self.blocks.total();
        if needed > blocks {
            return Err(Refusal::CacheTooSmall {
                prompt,
                new,
                needed,
                blocks,
            });
        }
        let mut others = self.running.iter().chain(&self.waiting);
        if others.any(|other| other.id == sequence.id) {
            return Err(Refusal::Duplicate(sequence.id));
        }
        Ok(())
    }

    /// One row for each running sequence, the oldest first. False if blocks ran out, so that
    /// sequences stepped back.
    fn plan_running(&mut self, rows: &mut Rows) -> bool {
        let before = self.running.len();
        let mut at = 0;
        while at < self.running.len() {
            if self.make_room(at, rows) {
                let end = self.group_end(at);
                let held = !self.steps(at..end);
                while at < end {
                    self.plan_one(at, held, rows);
                    at += 1;
                }
            }
        }
        self.running.len() == before
    }

    fn plan_one(&mut self, at: usize, held: bool, rows: &mut Rows) {
        let sequence = &mut self.running[at];
        let (computed, reusable) = (sequence.computed, sequence.reusable());
        let (table, known) = (&mut sequence.table, &sequence.known);
        sequence.computed = self.blocks.adopt(table, known, computed, reusable);
        if !sequence.again {
            self.reuse.hits += (sequence.computed - computed) as u64;
        }
        let proposed = self.room_for_proposed(at, rows);
        rows.push(&mut self.running[at], proposed, held);
    }

    /// So many of the tokens proposed for a running sequence are computed: those behind it get theirs first, nobody
    /// steps back for them, and they stay on the same side of the border.
    fn room_for_proposed(&mut self, at: usize, rows: &Rows) -> usize {
        let sequence = &self.running[at];
        let known = sequence.known.len();
        let behind = self.running.len() - at;
        let mut most = sequence.most_proposed();
        most = most
            .min(rows.proposed)
            .min(rows.left.saturating_sub(behind));
        if let Some(border) = self.limits.border.filter(|&border| known <= border) {
            most = most.min(border - known);
        }
        let reserve = self.reserve(sequence.id);
        let table = &mut self.running[at].table;
        while table.capacity() < known + most
            && self.blocks.available() > reserve
            && self.blocks.grow(table, known + most)
        {}
        most.min(table.capacity() - known)
    }

    /// Makes room for the known tokens of a running sequence, all its texts. The youngest ones step back for
    /// it; false if it had to do so itself.
    fn make_room(&mut self, at: usize, rows: &mut Rows) -> bool {
        let copies = rows.plan.copies.len();
        loop {
            if self.has_room(at, &mut rows.plan.copies) {
                return true;
            }
            debug_assert!(
                at > 0 || self.group_end(at) < self.running.len(),
                "`add` saw that one alone fits"
            );
            self.preempt_youngest();
            if at == self.running.len() {
                rows.plan.copies.truncate(copies);
                return false;
            }
        }
    }

    fn is_long(&self, len: usize) -> bool {
        self.limits.border.is_some_and(|border| len > border)
    }

    /// Makes those step back that just outgrew the border, and, so that the order of arrival
    /// holds, all that are younger; these find their blocks again where prefixes are shared.
    fn restart_outgrown(&mut self) {
        let outgrown =
            |sequence: &Tracked| self.is_long(sequence.known.len()) && !sequence.table.kind().long;
        if let Some(first) = self.running.iter().position(outgrown) {
            while self.running.len() > first {
                self.preempt_youngest();
            }
        }
    }

    fn preempt_youngest(&mut self) {
        let Some(id) = self.running.last().map(|youngest| youngest.id) else {
            return;
        };
        self.reuse.preemptions += 1;
        while let Some(mut youngest) = self.running.pop_if(|sequence| sequence.id == id) {
            self.blocks.release(&mut youngest.table);
            youngest.restart();
            self.waiting.push_front(youngest);
        }
    }

    /// Lets waiting sequences run, the oldest first, while there are tokens, rows and blocks.
    fn plan_waiting(&mut self, rows: &mut Rows) {
        while rows.room() > 0 {
            let Some(oldest) = self.waiting.front() else {
                return;
            };
            if !self.has_rows(oldest) {
                return;
            }
            let reserve = self.reserve(oldest.id);
            // Answers to the same prompt often come together: the first computes it, the others take it over.
            let kind = Kind {
                long: self.is_long(oldest.known.len()),
                adapter: oldest.adapter,
            };
            let computes = |one: &Tracked| one.table.kind() == kind && one.computes_for(oldest);
            if self.limits.prefix_sharing && self.running.iter().any(computes) {
                return;
            }
            let (known, reusable) = (&oldest.known, oldest.reusable());
            let Some(table) = self.blocks.admit(known, reusable, kind, reserve) else {
                return;
            };
            let mut sequence = self.waiting.pop_front().expect("the oldest is in front");
            sequence.start(table);
            if !sequence.again {
                self.reuse.queries += sequence.known.len() as u64;
                self.reuse.hits += sequence.computed as u64;
            }
            let held = sequence.beam.is_some();
            rows.push(&mut sequence, 0, held);
            self.running.push(sequence);
        }
    }

    /// Blocks that must be left after an admission so that those who run can grow for a while:
    /// one, and one in a hundred. A sequence alone may have all of them.
    fn reserve(&self, id: SeqId) -> usize {
        match self.running.iter().all(|sequence| sequence.id == id) {
            true => 0,
            false => 1 + self.blocks.total() / 100,
        }
    }
}

/// The rows of a plan while it is made, and what of the budget is left.
struct Rows<'a> {
    plan: &'a mut StepPlan,
    /// Rows that are planned; those of the plan behind them are of an older step.
    len: usize,
    /// Tokens that the step still takes.
    left: usize,
    /// Tokens of prompts that it takes beside sequences that generate.
    prompts: usize,
    /// Proposed tokens that it still takes.
    proposed: usize,
    /// Rows at the front whose sequences generate. One that needs a single token behind prompts
    /// has just come, with all the others in the cache.
    generating: usize,
}

impl Rows<'_> {
    /// Tokens of a prompt that the step still takes.
    fn room(&self) -> usize {
        if self.generating > 0 {
            self.left.min(self.prompts)
        } else {
            self.left
        }
    }

    /// Plans the one token of a sequence that generates, or as many of a prompt as there is room
    /// for. That is never nothing: there are at most as many rows as tokens, and prompts, of
    /// which only the last one is cut, come after all that generated before.
    ///
    /// One that is held computes all but its last token, and that is nothing where only this is pending: it waits for
    /// the other texts of its group.
    fn push(&mut self, sequence: &mut Tracked, proposed: usize, held: bool) {
        let due = sequence.pending() - usize::from(held);
        if due == 0 {
            return;
        }
        debug_assert!(self.left > 0, "every running sequence gets a token");
        if self.len == self.plan.rows.len() {
            self.plan.rows.push(Row::default());
        }
        let room = self.room().max(1);
        let row = &mut self.plan.rows[self.len];
        if sequence.generates() {
            self.generating += usize::from(self.generating == self.len);
            sequence.plan_row(1, proposed, row);
            self.proposed -= proposed;
        } else {
            sequence.plan_row(room.min(due), 0, row);
            self.prompts = self.prompts.saturating_sub(row.tokens.len());
        }
        self.left -= row.tokens.len();
        self.len += 1;
    }

    fn finish(self) {
        self.plan.rows.truncate(self.len);
    }
}

/// Walks through what came back, in the order of rows, beside the running sequences. Rows of
/// cancelled sequences are skipped.
struct Answers<'a> {
    rows: std::slice::Iter<'a, Row>,
    picked: &'a [Picked],
}

impl<'a> Answers<'a> {
    /// The tokens picked for a running sequence, if its row came to its end.
    fn of(&mut self, sequence: &Tracked) -> &'a [Picked] {
        loop {
            let row = self.rows.next().expect("the plan has a row for everyone");
            let picked = self.picked_for(row);
            if row.seq == sequence.id {
                assert!(
                    row.start == sequence.computed
                        && row.beam == sequence.beam
                        && row.tokens.len() == sequence.planned + row.proposed,
                    "the plan in flight is committed, no other"
                );
                let picks = sequence.reaches_end() && sequence.beam.unwrap_or(0) == 0;
                assert!(
                    picked.is_empty() != picks,
                    "a token is picked exactly for rows that end with the last known token"
                );
                let whole = sequence.beams == 1 || picked.len() == sequence.beams;
                assert!(
                    !picks || whole || picked.iter().any(|picked| picked.ends),
                    "a sequence that parts goes on with as many texts as it has"
                );
                assert!(
                    sequence.beams > 1 || picked.len() <= 1 + right(row, picked),
                    "only behind right guesses more is picked"
                );
                return picked;
            }
        }
    }

    /// Only rows of cancelled sequences may be left.
    fn finish(mut self) {
        while let Some(row) = self.rows.next() {
            self.picked_for(row);
        }
        assert!(
            self.picked.is_empty(),
            "every picked token belongs to a row, in the same order"
        );
    }

    fn picked_for(&mut self, row: &Row) -> &'a [Picked] {
        let count = self
            .picked
            .iter()
            .take_while(|picked| picked.seq == row.seq)
            .count();
        let (picked, rest) = self.picked.split_at(count);
        self.picked = rest;
        picked
    }
}

/// How many of the tokens proposed in a row were picked in their places.
fn right(row: &Row, picked: &[Picked]) -> usize {
    let proposed = &row.tokens[row.tokens.len() - row.proposed..];
    let pairs = picked.iter().zip(proposed);
    pairs
        .take_while(|(picked, token)| picked.token == **token)
        .count()
}
