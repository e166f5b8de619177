//! The one integration test binary: each module is a subject. Unit tests live beside the code.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod access;
mod adapters;
mod bad_checkpoints;
mod beams;
mod blocks;
mod check;
mod clients;
mod dialects;
mod dialogues;
mod folders;
mod gguf;
mod goldens;
#[cfg(feature = "cuda")]
mod gpus;
mod hub;
mod lifecycle;
mod logprobs;
mod models;
mod nasty;
mod observed;
mod openai;
mod overload;
mod parity;
mod pictures;
mod python_formatters;
mod python_mode;
mod ranks;
mod readme;
mod record;
mod s3;
mod sdk;
mod seq2seq;
mod serving;
mod speculation;
mod support;
mod tasks;
mod tidy;
