//! Who computes next, in which blocks; pure: no tensors, no clock, no threads.
//!
//! [`Scheduler`] decides each step of continuous batching. [`Scheduler::plan`] says which tokens
//! of which sequences are computed, in which blocks of the key/value cache; the caller computes
//! and picks tokens; [`Scheduler::commit`] records. A decision depends on nothing but the calls
//! before it. Computing, sampling, text and deadlines are left to the engine.

mod blocks;
mod lru;
mod plan;
mod prefix;
mod scheduler;
mod sequence;
#[cfg(test)]
mod simulation;

pub use plan::{BLOCK, BlockId, Picked, Row, StepPlan, Want};
pub use scheduler::{Limits, Load, Reuse, Scheduler};
pub use sequence::{Refusal, SeqId, Sequence};
