//! The pool with real processes of CPython: answers, batches, streams, and everything that can
//! happen to a worker. Without a python3 these tests say so and pass.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod answers;
mod asynchronous;
mod conversations;
mod faults;
mod formatters;
mod mpirun;
mod ranks;
mod requirements;
mod rolling;
mod starting;
mod streams;
mod support;
mod workers;
