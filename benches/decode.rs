//! Prefill and decode of the default model, in process, against two floors measured in the same
//! run: reading the weights from memory (decode) and candle's own f32 matmul (prefill).
//!
//! `cargo bench --bench decode [-- WORD..]`: of stored, bf16, q8_0, q8_row and q4_0, and of 1, 8 and
//! 32 streams; without, all. Medians of interleaved rounds: the machine may be noisy, the ratios are
//! what counts.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor};
use common::{Rig, median};
use sconce_engine::Quantisation;
use sconce_nn::weights::{BlockFormat, StoredDtype};

const ROUNDS: usize = 5;
const PROMPT: usize = 512;
const NEW: usize = 64;

/// What to measure, by the word that asks for it: weights as they are stored and f32 products, bf16 products, blocks.
const WAYS: [(&str, Option<StoredDtype>, Option<BlockFormat>); 5] = [
    ("stored", None, None),
    ("bf16", Some(StoredDtype::BF16), None),
    ("q8_0", None, Some(BlockFormat::Q8_0)),
    ("q8_row", None, Some(BlockFormat::Q8Row)),
    ("q4_0", None, Some(BlockFormat::Q4_0)),
];

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    for (word, dtype, blocks) in WAYS {
        let of_ways = words.iter().filter(|word| word.parse::<usize>().is_err());
        if of_ways.clone().count() == 0 || of_ways.into_iter().any(|asked| asked == word) {
            let Some(rig) = Rig::open(dtype, blocks.map(Quantisation::Blocks)) else {
                println!("skipped: the default model is not there; run `make model` first");
                return;
            };
            measure(word, &rig, &words);
        }
    }
}

fn measure(word: &str, rig: &Rig, words: &[String]) {
    println!(
        "{word}: {}; {} threads; medians of {ROUNDS} rounds",
        rig.describe(),
        rig.threads()
    );
    let asked: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    for streams in [1, 8, 32] {
        if !asked.is_empty() && !asked.contains(&streams) {
            continue;
        }
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
