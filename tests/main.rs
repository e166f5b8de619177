//! The one integration test binary: each module is a subject. Unit tests live beside the code.

mod bad_checkpoints;
mod lifecycle;
mod serving;
mod support;
mod tidy;
