//! One sequence: what was asked, what is known of it, how far it is computed.
//!
//! Which sequence is next, and with how many blocks, is left to [`crate::scheduler`].

use thiserror::Error;

use crate::blocks::Table;
use crate::plan::{BLOCK, Row, Want};

/// Names a sequence; unique among those in the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u64);

/// A prompt to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its name.
    pub id: SeqId,
    /// At least one token.
    pub prompt: Vec<u32>,
    /// The sequence ends after so many picked tokens at the latest. At least 1.
    pub max_new_tokens: usize,
    /// Whether the logits of all prompt tokens are wanted; then all are computed, none reused.
    pub all_logits: bool,
    /// What its keys depend on besides its tokens: sequences share blocks only with those that have
    /// the same number. 0: on nothing.
    pub adapter: u64,
    /// Texts that it parts into once its prompt is computed, each of which goes on from one before in every step. 1: it
    /// stays one.
    pub beams: usize,
}

/// Why a sequence was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It can grow beyond the longest sequence.
    #[error(
        "the prompt has {prompt} tokens and max_new_tokens is {new}: together {} exceed max_len \
         = {limit}; shorten the prompt or lower max_new_tokens",
        prompt.saturating_add(*new)
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// `max_new_tokens`.
        new: usize,
        /// The longest sequence.
        limit: usize,
    },
    /// It can need more blocks than there are, even alone.
    #[error(
        "the prompt has {prompt} tokens and max_new_tokens is {new}: they need {needed} blocks \
         of {BLOCK} tokens, the cache has {blocks}; shorten the prompt, lower max_new_tokens or \
         reserve a larger cache"
    )]
    CacheTooSmall {
        /// Tokens of the prompt.
        prompt: usize,
        /// `max_new_tokens`.
        new: usize,
        /// Blocks needed at its longest.
        needed: usize,
        /// Blocks in the cache.
        blocks: usize,
    },
    /// It would part into more texts than run at the same time.
    #[error(
        "{beams} texts at the same time are more than max_rows = {limit}; search with fewer beams"
    )]
    TooWide {
        /// [`Sequence::beams`].
        beams: usize,
        /// Sequences that run at the same time.
        limit: usize,
    },
    /// There is nothing to continue, or nothing to pick.
    #[error("the prompt has {prompt} tokens and max_new_tokens is {new}; both must be at least 1")]
    Nothing {
        /// Tokens of the prompt.
        prompt: usize,
        /// `max_new_tokens`.
        new: usize,
    },
    /// A sequence of this name is in the scheduler.
    #[error("sequence {0:?} is waiting or running already; choose another id")]
    Duplicate(SeqId),
}

/// A sequence in the scheduler. While it waits it has no blocks and nothing is computed.
pub(crate) struct Tracked {
    pub(crate) id: SeqId,
    /// Number in the order of `add`: who is older.
    pub(crate) arrival: u64,
    /// The prompt and the tokens picked since.
    pub(crate) known: Vec<u32>,
    /// So many tokens are computed; their keys are in the table's blocks.
    pub(crate) computed: usize,
    /// So many tokens after them are in the plan in flight, beside those that were proposed.
    pub(crate) planned: usize,
    /// What may follow the known tokens, if somebody guessed; forgotten with the next plan.
    pub(crate) proposed: Vec<u32>,
    pub(crate) table: Table,
    pub(crate) adapter: u64,
    /// Texts that its group has, or will have; 1: it is no group.
    pub(crate) beams: usize,
    /// Which of them it is, once they have parted.
    pub(crate) beam: Option<usize>,
    /// Whether it stepped back, and finds its own blocks.
    pub(crate) again: bool,
    prompt: usize,
    max_new_tokens: usize,
    /// Positions below need no logits any more, except to pick from.
    scored: usize,
}

impl Tracked {
    pub(crate) fn new(sequence: Sequence, arrival: u64) -> Self {
        let prompt = sequence.prompt.len();
        Self {
            id: sequence.id,
            arrival,
            known: sequence.prompt,
            computed: 0,
            planned: 0,
            proposed: Vec::new(),
            table: Table::default(),
            adapter: sequence.adapter,
            beams: sequence.beams.max(1),
            beam: None,
            again: false,
            prompt,
            max_new_tokens: sequence.max_new_tokens,
            scored: if sequence.all_logits { 0 } else { prompt },
        }
    }

    /// Tokens that are known and not computed.
    pub(crate) fn pending(&self) -> usize {
        self.known.len() - self.computed
    }

    /// How many tokens at the front need not be computed if somebody else has: all but the last
    /// known one, whose logits are needed; none while logits of the prompt are owed.
    pub(crate) fn reusable(&self) -> usize {
        if self.owes_logits() {
            0
        } else {
            self.known.len() - 1
        }
    }

    /// Takes over blocks for all known tokens. Makes room for the names of all that may follow,
    /// so that nothing is allocated from step to step.
    pub(crate) fn start(&mut self, table: Table) {
        let most = self.prompt + self.max_new_tokens;
        self.known.reserve_exact(most - self.known.len());
        self.computed = table.published();
        self.table = table;
        self.table.reserve(most);
    }

    /// A text of its group that goes on from this one.
    pub(crate) fn child(&self, beam: usize, token: u32, table: Table) -> Self {
        let mut known = self.known.clone();
        known.push(token);
        Self {
            id: self.id,
            arrival: self.arrival,
            known,
            computed: self.computed,
            planned: 0,
            proposed: Vec::new(),
            table,
            adapter: self.adapter,
            beams: self.beams,
            beam: Some(beam),
            again: self.again,
            prompt: self.prompt,
            max_new_tokens: self.max_new_tokens,
            scored: self.scored,
        }
    }

    /// Whether it has as many tokens as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.known.len() - self.prompt >= self.max_new_tokens
    }

    /// Whether it is past its prompt: only what was picked last is pending.
    pub(crate) fn generates(&self) -> bool {
        self.pending() == 1
    }

    /// Whether what is planned of a prompt computes full blocks that `other` could take over: those of the same beginning
    /// of both.
    pub(crate) fn computes_for(&self, other: &Self) -> bool {
        if self.generates() {
            return false;
        }
        let end = self.computed + self.planned;
        let most = end.min(other.reusable()) / BLOCK * BLOCK;
        most > self.computed && self.known.get(..most) == other.known.get(..most)
    }

    /// Plans the next tokens, as many as are pending but at most `budget`, which must not be 0,
    /// then `proposed` of those that may follow, and describes them in `row`.
    pub(crate) fn plan_row(&mut self, budget: usize, proposed: usize, row: &mut Row) {
        self.planned = self.pending().min(budget);
        let end = self.computed + self.planned;
        let proposed = &self.proposed[..proposed];
        row.seq = self.id;
        row.beam = self.beam;
        row.tokens.clear();
        row.tokens
            .extend_from_slice(&self.known[self.computed..end]);
        row.tokens.extend_from_slice(proposed);
        row.proposed = proposed.len();
        row.start = self.computed;
        row.blocks.clear();
        let covered = self.table.covering(end + proposed.len());
        row.blocks.extend_from_slice(covered);
        row.known = self.known.len() + proposed.len();
        row.want = self.want(end);
        self.proposed.clear();
    }

    /// So many proposed tokens are of use: the last one that is picked is never computed.
    pub(crate) fn most_proposed(&self) -> usize {
        let left = self.prompt + self.max_new_tokens - self.known.len();
        match self.generates() && !self.owes_logits() {
            true => self.proposed.len().min(left.saturating_sub(1)),
            false => 0,
        }
    }

    /// Whether the planned row ends with the last known token, so that the next one is picked.
    pub(crate) fn reaches_end(&self) -> bool {
        self.planned == self.pending()
    }

    /// Records that the planned row was computed.
    pub(crate) fn advance(&mut self) {
        self.computed += self.planned;
        self.planned = 0;
        self.scored = self.scored.max(self.computed);
    }

    /// Records that the token picked last had been proposed, and so is computed already.
    pub(crate) fn advance_one(&mut self) {
        self.computed += 1;
        self.scored = self.scored.max(self.computed);
    }

    /// Appends a picked token; true if it was the last one allowed.
    pub(crate) fn push(&mut self, token: u32) -> bool {
        self.known.push(token);
        self.is_full()
    }

    /// Forgets what is computed; the blocks must have been released.
    pub(crate) fn restart(&mut self) {
        self.proposed.clear();
        self.computed = 0;
        self.again = true;
    }

    fn want(&self, end: usize) -> Want {
        if self.owes_logits() && end > self.scored {
            Want::All
        } else if end == self.known.len() {
            Want::Last
        } else {
            Want::None
        }
    }

    fn owes_logits(&self) -> bool {
        self.scored < self.prompt
    }
}
