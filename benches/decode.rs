//! Prefill and decode of the default model, in process, against two floors measured in the same
//! run: reading the weights from memory (decode) and candle's own f32 matmul (prefill).
//!
//! `cargo bench --bench decode`. Medians of interleaved rounds: the machine may be noisy, the
//! ratios are what counts.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor};
use common::{Rig, median};

const ROUNDS: usize = 5;
const PROMPT: usize = 512;
const NEW: usize = 64;

fn main() {
    let Some(rig) = Rig::open() else {
        println!("skipped: the default model is not there; run `make model` first");
        return;
    };
    println!(
        "{}; {} threads; medians of {ROUNDS} rounds",
        rig.describe(),
        rig.threads()
    );
    for streams in [1, 8, 32] {
        let mut prefill = Vec::new();
        let mut decode = Vec::new();
        let mut floor = Vec::new();
        let mut matmul = Vec::new();
        for round in 0..ROUNDS {
            let prompt = if streams == 1 { PROMPT } else { 128 };
            let run = rig.generate(streams, prompt, NEW, round);
            prefill.push(run.prompt_tokens as f64 / run.first);
            decode.push(run.rest_tokens as f64 / run.rest);
            floor.push(1.0 / rig.seconds_to_read_weights());
            matmul.push(candle_flops());
        }
        let (prefill, decode, floor) = (median(prefill), median(decode), median(floor));
        let limit = median(matmul) / rig.flops_per_token();
        println!(
            "{streams:>3} streams: prefill {prefill:7.1} tok/s ({:.2} of candle's f32 matmul rate, {limit:.0} tok/s)",
            prefill / limit
        );
        println!(
            "             decode  {decode:7.1} tok/s in all ({:.2} times the one-stream bandwidth floor of {floor:.0} tok/s)",
            decode / floor
        );
    }
}

/// Operations per second of candle's f32 matmul at the model's widest layer, 512 rows.
fn candle_flops() -> f64 {
    let (m, k, n) = (512, 576, 1536);
    let x = Tensor::ones((m, k), candle_core::DType::F32, &Device::Cpu).expect("a small tensor");
    let w = Tensor::ones((k, n), candle_core::DType::F32, &Device::Cpu).expect("a small tensor");
    let began = Instant::now();
    for _ in 0..8 {
        black_box(x.matmul(&w).expect("shapes agree"));
    }
    8.0 * 2.0 * (m * k * n) as f64 / began.elapsed().as_secs_f64()
}
