//! Wire dialects to and from jobs and events; pure functions.
//!
//! Bytes of a request become prompts and parameters, events become the bytes of an answer. No
//! runtime, no sockets, no choice of status codes: where a body carries a number, the caller
//! hands it in. One file or folder per dialect; `lmi` is the rolling-batch schema of DJL Serving.

mod dialect;
pub mod error;
mod fields;
mod json;
pub mod lmi;
pub mod ping;

pub use dialect::{Accepted, Answer, Collector, Dialect, Finished, Incoming, Stream, Whole, Wire};
