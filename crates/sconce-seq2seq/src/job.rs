//! One request from the door to its answer: what it reads, how it writes, and the blocks that it holds.

use std::sync::Arc;
use std::time::Instant;

use sconce_core::inbox::Queued;
use sconce_core::task::{Answered, Written};
use sconce_core::{Event, GenerateParams, Permit, Reply, ServeError, TaskAnswer};
use sconce_engine::beams::{Beams, Step};
use sconce_engine::sampler::Scratch;
use sconce_nn::BLOCK;
use sconce_text::Tokenizer;

use crate::decoding::Decoding;
use crate::pool::Pool;
use crate::scores::{log_softmax, require_numbers};
use crate::singles::Singles;
use crate::told::{Told, Turn};

/// A request that passed the door.
pub(crate) struct Admitted {
    pub(crate) read: Vec<u32>,
    pub(crate) decoding: Decoding,
    pub(crate) way: Way,
    pub(crate) reply: Box<dyn Reply>,
    pub(crate) deadline: Instant,
    pub(crate) permit: Permit,
}

/// How it is answered.
pub(crate) enum Way {
    /// At once, with all texts.
    Whole {
        /// Whether spaces before punctuation are taken out.
        clean_up: bool,
    },
    /// Token by token.
    Told(Box<GenerateParams>),
}

impl Admitted {
    /// Blocks that it may ever hold.
    pub(crate) fn blocks(&self) -> usize {
        blocks(self.read.len(), &self.decoding)
    }
}

impl Queued for Admitted {
    fn fail(mut self, error: ServeError) {
        self.reply.send(Event::Failed(error));
    }
}

/// Blocks for a text of so many tokens, and all that may be written of it.
pub(crate) fn blocks(read: usize, decoding: &Decoding) -> usize {
    read.div_ceil(BLOCK) + decoding.rows() * decoding.kept().div_ceil(BLOCK)
}

/// A request that is being computed.
pub(crate) struct Running {
    read: Vec<u32>,
    decoding: Decoding,
    clean_up: bool,
    tokenizer: Arc<Tokenizer>,
    pub(crate) reply: Box<dyn Reply>,
    pub(crate) deadline: Instant,
    permit: Permit,
    search: Search,
    /// Blocks that it was promised.
    promised: usize,
    /// Blocks of what was read.
    pub(crate) cross: Vec<u32>,
    /// Blocks of each running text.
    pub(crate) rows: Vec<Vec<u32>>,
    /// Scores of each running text; kept for their memory.
    scores: Vec<Vec<f32>>,
    scratch: Scratch,
}

enum Search {
    Beams(Beams<()>),
    Singles(Singles),
    Told(Box<Told>),
}

/// What came of a step.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Each running text continues that one before.
    GoOn(Vec<usize>),
    /// It is over; what is still to be told.
    Over(Option<Event>),
}

impl Running {
    /// Takes the blocks for what it reads; it has been promised all.
    pub(crate) fn new(admitted: Admitted, tokenizer: Arc<Tokenizer>, pool: &mut Pool) -> Self {
        let promised = admitted.blocks();
        let Admitted {
            read,
            decoding,
            way,
            mut reply,
            deadline,
            mut permit,
        } = admitted;
        if permit.begin() {
            reply.begins();
        }
        let clean_up = matches!(way, Way::Whole { clean_up: true });
        let search = match way {
            Way::Told(params) => {
                let told = Told::new(&decoding, *params, Arc::clone(&tokenizer));
                Search::Told(Box::new(told))
            }
            Way::Whole { .. } if decoding.beams > 1 => {
                Search::Beams(Beams::new(decoding.beam_rules(), &[decoding.start]))
            }
            Way::Whole { .. } => Search::Singles(Singles::new(&decoding)),
        };
        let cross = (0..read.len().div_ceil(BLOCK)).map(|_| promised_block(pool));
        let cross = cross.collect();
        Self {
            rows: vec![Vec::new(); decoding.rows()],
            read,
            decoding,
            clean_up,
            tokenizer,
            reply,
            deadline,
            permit,
            search,
            promised,
            cross,
            scores: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// What it reads.
    pub(crate) fn read(&self) -> &[u32] {
        &self.read
    }

    /// The running texts, as many as rows.
    pub(crate) fn texts(&self) -> Vec<&[u32]> {
        match &self.search {
            Search::Beams(beams) => beams.texts().collect(),
            Search::Singles(singles) => singles.texts().collect(),
            Search::Told(told) => vec![told.tokens()],
        }
    }

    /// Makes room for the key and the value of the last token of a text: a fresh block, or one of its own. Copies are
    /// made by `copy`, from and to.
    pub(crate) fn make_room(
        row: &mut Vec<u32>,
        len: usize,
        pool: &mut Pool,
        copy: &mut dyn FnMut(u32, u32),
    ) {
        if (len - 1).is_multiple_of(BLOCK) {
            row.push(promised_block(pool));
            return;
        }
        let Some(last) = row.last_mut().filter(|last| pool.is_shared(**last)) else {
            return;
        };
        let own = promised_block(pool);
        copy(*last, own);
        pool.release(&[*last]);
        *last = own;
    }

    /// Goes on with the logits of all running texts, `[rows, vocab]`.
    pub(crate) fn advance(&mut self, logits: &[f32], vocab: usize) -> Next {
        self.choose(logits, vocab).unwrap_or_else(|cause| {
            // The model's numbers are at fault, and those of this text alone.
            let problem = format!("the text cannot be continued: {cause}");
            Next::Over(Some(Event::Failed(ServeError::BadAnswer { problem })))
        })
    }

    fn choose(&mut self, logits: &[f32], vocab: usize) -> Result<Next, String> {
        let rows = logits.chunks_exact(vocab);
        let mut scores = std::mem::take(&mut self.scores);
        scores.resize_with(rows.len(), Vec::new);
        let beams = matches!(self.search, Search::Beams(_));
        for ((row, scores), text) in rows.zip(&mut scores).zip(self.texts()) {
            if beams {
                log_softmax(row, scores)?;
            } else {
                // Rules could cover what is no number, before a token is picked that nothing speaks for.
                require_numbers(row)?;
                scores.clear();
                scores.extend_from_slice(row);
            }
            if self.decoding.rules.apply_to(text.len()) {
                self.decoding.rules.apply(text, &self.read, scores);
            }
        }
        let next = match &mut self.search {
            Search::Beams(beams) => {
                let rows: Vec<&[f32]> = scores.iter().map(Vec::as_slice).collect();
                match beams.step(&rows, &mut |_, _| false, &|_, _| ()) {
                    Step::GoOn(parents) => Next::GoOn(parents),
                    Step::Done => Next::Over(Some(self.whole())),
                }
            }
            Search::Singles(singles) => {
                let parents = singles.step(&scores, &self.decoding, &mut self.scratch)?;
                if parents.is_empty() {
                    Next::Over(Some(self.whole()))
                } else {
                    Next::GoOn(parents)
                }
            }
            Search::Told(told) => {
                let whom = (self.read.as_slice(), &mut self.reply);
                match told.step(logits, &scores[0], &self.decoding, whom, &mut self.scratch)? {
                    Turn::GoOn => Next::GoOn(vec![0]),
                    Turn::Ended(output) => Next::Over(output.map(|output| Event::Done(*output))),
                }
            }
        };
        self.scores = scores;
        Ok(next)
    }

    /// All texts, unless they were told token by token.
    fn whole(&mut self) -> Event {
        let found = match &mut self.search {
            Search::Beams(beams) => beams.found(self.decoding.returned),
            Search::Singles(singles) => singles.found(),
            Search::Told(_) => Vec::new(),
        };
        let written: usize = found.iter().map(Vec::len).sum();
        let text = |tokens: Vec<u32>| {
            let text = self
                .tokenizer
                .decode_cleaned(&tokens, true, self.clean_up)?;
            Ok::<_, sconce_text::TextError>(Written { text, tokens })
        };
        let texts: Result<Vec<Written>, _> = found.into_iter().map(text).collect();
        match texts {
            Ok(texts) => Event::Answered(Answered {
                answer: TaskAnswer::Texts(texts),
                tokens: self.read.len() + written,
            }),
            Err(error) => Event::Failed(ServeError::BadAnswer {
                problem: error.to_string(),
            }),
        }
    }

    /// Lets each running text have the blocks of the one that it continues.
    pub(crate) fn follow(&mut self, parents: &[usize], pool: &mut Pool) {
        if parents.iter().copied().eq(0..self.rows.len()) {
            return;
        }
        let next: Vec<Vec<u32>> = parents.iter().map(|&at| self.rows[at].clone()).collect();
        next.iter().for_each(|row| pool.share(row));
        self.rows.iter().for_each(|row| pool.release(row));
        self.rows = next;
    }

    /// Gives all blocks and its place back, and then says the last word: who hears it finds them free.
    pub(crate) fn leave(self, pool: &mut Pool, last: Option<Event>) {
        let Self {
            rows,
            cross,
            promised,
            permit,
            mut reply,
            ..
        } = self;
        rows.iter().for_each(|row| pool.release(row));
        pool.release(&cross);
        pool.forget(promised);
        drop(permit);
        if let Some(last) = last {
            reply.send(last);
        }
    }
}

fn promised_block(pool: &mut Pool) -> u32 {
    pool.take()
        .expect("there is a block for whoever stays within its promise")
}
