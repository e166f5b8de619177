//! A rank of an encoder-decoder, in the thread that it computes in: its part of the model, and its part of the cache.

use std::sync::Arc;

use sconce_engine::Obey;
use sconce_models::encoder::Rows;
use sconce_models::seq2seq::{Reading, Seq2Seq};
use sconce_nn::{KvCache, Step};

/// A token of every text at hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writing {
    /// Blocks that are copied before, from and to.
    pub(crate) copies: Vec<(u32, u32)>,
    /// The last token of each text.
    pub(crate) step: Step,
    /// Where what each of them was read from lies.
    pub(crate) texts: Step,
}

/// What a rank is told.
#[derive(Clone)]
pub(crate) enum Order {
    /// Reserve so many blocks of the cache.
    Reserve(usize),
    /// Read texts.
    Read(Arc<Reading>),
    /// Compute a token of every text.
    Write(Arc<Writing>),
}

/// What it has to say.
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The logits of every text.
    Logits(Rows),
}

/// A rank.
pub(crate) struct Rank {
    model: Seq2Seq,
    cache: Option<KvCache>,
}

impl Rank {
    pub(crate) fn new(model: Seq2Seq) -> Self {
        Self { model, cache: None }
    }
}

impl Obey for Rank {
    type Order = Order;
    type Answer = Answer;

    fn obey(&mut self, order: Order) -> Result<Answer, String> {
        if let Order::Reserve(blocks) = order {
            self.cache = Some(
                self.model
                    .reserve(blocks)
                    .map_err(|error| error.to_string())?,
            );
            return Ok(Answer::Done);
        }
        let cache = self
            .cache
            .as_mut()
            .expect("the cache is reserved before the first text");
        match order {
            Order::Reserve(_) => Ok(Answer::Done),
            Order::Read(reading) => {
                let read = self.model.read(&reading, cache);
                read.map(|()| Answer::Done)
                    .map_err(|error| error.to_string())
            }
            Order::Write(writing) => {
                for &(from, to) in &writing.copies {
                    cache.copy_block(from, to);
                }
                let rows = self.model.write(&writing.step, &writing.texts, cache);
                rows.map(Answer::Logits).map_err(|error| error.to_string())
            }
        }
    }
}
