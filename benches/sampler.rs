//! The sampler alone: what a pick costs for vocabularies of 49 and 150 thousand tokens.
//!
//! `cargo bench --bench sampler`. Medians of interleaved rounds: the machine may be noisy. One
//! thread picks; the engine picks for several rows at the same time.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use sconce_core::Sampling;
use sconce_engine::sampler::{Sampler, Scratch};

const ROUNDS: usize = 15;
const PICKS: usize = 40;

fn main() {
    println!("microseconds for a pick; medians of {ROUNDS} interleaved rounds of {PICKS} picks");
    for vocab in [49_152, 151_936] {
        let logits = logits(vocab);
        let mut scratch = Scratch::default();
        let mut cases: Vec<_> = cases()
            .into_iter()
            .map(|(name, top, params)| {
                let sampler = Sampler::new(&params, &[], 0, &[], 7);
                (name, top, sampler, Vec::new())
            })
            .collect();
        for _ in 0..ROUNDS {
            for (_, top, sampler, times) in &mut cases {
                let began = Instant::now();
                for _ in 0..PICKS {
                    let picked = sampler.pick(black_box(&logits), *top, &mut scratch);
                    black_box(picked).expect("the logits are numbers");
                }
                times.push(began.elapsed().as_secs_f64() * 1e6 / PICKS as f64);
            }
        }
        for (name, _, _, times) in cases {
            println!("vocabulary {vocab:>6}, {name:<22} {:7.1}", median(times));
        }
    }
}

/// Ways to pick, with the number of likely tokens that are reported.
fn cases() -> Vec<(&'static str, usize, Sampling)> {
    let drawn = Sampling {
        do_sample: true,
        ..Sampling::default()
    };
    let nucleus = Sampling {
        top_p: 0.9,
        ..drawn.clone()
    };
    let top_k = Sampling {
        top_k: 50,
        ..drawn.clone()
    };
    vec![
        ("greedy", 0, Sampling::default()),
        ("greedy, five reported", 5, Sampling::default()),
        ("drawn from all", 0, drawn),
        ("top_k = 50", 0, top_k),
        ("top_p = 0.9", 0, nucleus),
    ]
}

/// Logits as a model has them: most far below a few.
fn logits(vocab: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // Twelve uniform numbers together are nearly normal.
    let normal = |_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    (0..vocab).map(normal).map(|x| 2.5 * x).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
