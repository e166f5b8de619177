//! Wire dialects to and from jobs and events; pure functions.
//!
//! Bytes of a request become prompts and parameters, events become the bytes of an answer. No runtime, no sockets, no
//! choice of status codes: where a body carries a number, the caller hands it in. `dialect` is the seam, `payload`,
//! `fields` and `parameters` read for all of them, and each dialect has a file or a folder: `batch` the static batches,
//! `rolling` and `rolling_2023` the rolling ones, `asynchronous`, `tgi`. `openai` OpenAI's chat and completions, `tasks`
//! is what models are asked besides text, `pictures` the same for pictures, `formatted` what the functions of a model's
//! own script are told.

pub mod adapters;
mod asynchronous;
mod batch;
mod beams;
pub mod content;
mod dialect;
pub mod error;
mod fields;
pub mod formatted;
mod generate;
mod guides;
mod json;
pub mod models;
pub mod openai;
mod parameters;
mod payload;
pub mod pictures;
pub mod ping;
pub mod raw;
#[cfg(test)]
mod recorded;
mod rolling;
mod rolling_2023;
pub mod tasks;
pub mod tgi;

pub use dialect::{
    Accepted, Answer, Collector, Dialect, Finished, Incoming, Statuses, Stream, Whole, Wire,
};
pub use rolling::Formatter;
