//! The tasks of encoders: classes, entities, answers, masked words, vectors, scores.
//!
//! [`TaskEngine`] is a [`sconce_core::Backend`]. A request becomes texts of tokens at the door; the engine's thread
//! computes the texts of all requests at hand end to end, as many as a batch may have tokens, and hands each request
//! its rows, of which its task makes the answer. Each task has a file: what transformers' pipeline of that name does
//! before and after the model. The encoder is `sconce-models`', the forms on the wire are `sconce-api`'s.

mod choose;
mod classify;
mod compare;
mod describe;
mod desk;
mod embed;
mod engine;
mod error;
mod features;
mod fill;
mod find;
mod modules;
mod rank;
mod reader;
mod settings;
mod softmax;
mod tag;
mod work;
mod worker;

pub use describe::{TaskDescription, is_encoder};
pub use engine::TaskEngine;
pub use error::StartError;
pub use modules::VectorWish;
pub use settings::TaskSettings;
