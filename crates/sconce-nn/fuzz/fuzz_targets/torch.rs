//! Files of torch.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|bytes: &[u8]| common::read("pytorch_model.bin", bytes));
