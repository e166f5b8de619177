//! Texts from texts: models that read one and write another, for text2text-generation, summarization, translation and
//! dialogues.
//!
//! [`Seq2SeqEngine`] is a [`sconce_core::Backend`]. At the door a request becomes tokens to read and a [`Decoding`],
//! which says how a text is written. The engine's thread repeats: take in requests while there are blocks of the cache
//! for all that they may write, read what they bring, compute one token of every text at hand, and let each request
//! choose how it goes on: a token by itself, or beams. So requests join and leave at any step, and what each gets does
//! not depend on those beside it.
//!
//! Blocks are reserved for the longest text when a request joins, so that none is ever computed twice; beams share
//! them and copy a block before they write to it. The model is `sconce-models`', samplers, the plan of the memory and
//! the team of ranks are `sconce-engine`'s, the forms on the wire are `sconce-api`'s.

mod decoding;
mod describe;
mod door;
mod engine;
mod error;
mod job;
mod pool;
mod rank;
mod rules;
mod scores;
mod settings;
mod singles;
mod told;
mod worker;

pub use decoding::Decoding;
pub use describe::{Seq2SeqDescription, is_seq2seq};
pub use engine::Seq2SeqEngine;
pub use error::Seq2SeqError;
pub use settings::Seq2SeqSettings;
