//! What crosses the seam between deciding and computing: plans one way, picked tokens the other.
//!
//! Plain data, so that every rank can be handed the same plan.

use crate::sequence::SeqId;

/// Tokens per block of the key/value cache.
pub const BLOCK: usize = 32;

/// Names a block of the cache: `0..Limits::blocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What one step computes. Empty exactly when there is nothing to do; an empty plan is not
/// committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepPlan {
    /// One row per sequence, the oldest first; of a sequence that has parted, one per text that is computed.
    pub rows: Vec<Row>,
    /// Blocks that are copied before anything is computed, from and to.
    pub copies: Vec<(BlockId, BlockId)>,
}

/// A run of consecutive tokens of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Whose tokens.
    pub seq: SeqId,
    /// Which of its texts, once it has parted into several.
    pub beam: Option<usize>,
    /// The tokens to compute; at least one that is known, then those that were proposed.
    pub tokens: Vec<u32>,
    /// So many tokens at the end were proposed: they count if they are what is picked in their place.
    pub proposed: usize,
    /// Position of the first of them in the sequence.
    pub start: usize,
    /// The blocks of positions `0..start + tokens.len()`; those before `start` are computed.
    /// Position `p` lives in `blocks[p / BLOCK]` at offset `p % BLOCK`.
    pub blocks: Vec<BlockId>,
    /// Tokens of the sequence that are known or proposed, be they computed or not.
    pub known: usize,
    /// Which logits are wanted.
    pub want: Want,
}

/// Which of a row's tokens need logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// None: the row ends before the last known token.
    #[default]
    None,
    /// Those of the last known token, from which the next one is picked, and of all that are proposed behind it.
    Last,
    /// Those of every token, because the prompt's log-probabilities are asked for. If the row
    /// reaches the last known token, the next one is picked from the last logits.
    All,
}

/// A token picked for a row that reached the last known token of its sequence. As long as what is picked is what was
/// proposed, the next one is picked too; they follow each other. Of a sequence that parts there are as many as texts, in
/// the place of the first of its rows, each with the text that it continues; or one that ends all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Whose token.
    pub seq: SeqId,
    /// Its id in the vocabulary.
    pub token: u32,
    /// Which text of its sequence it continues; 0 where there is one.
    pub parent: usize,
    /// Whether the sequence is over; it is over anyway after `max_new_tokens`.
    pub ends: bool,
}

impl Picked {
    /// For a sequence that is one text.
    pub fn new(seq: SeqId, token: u32, ends: bool) -> Self {
        Self {
            seq,
            token,
            parent: 0,
            ends,
        }
    }
}
