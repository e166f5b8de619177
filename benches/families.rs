//! What a family costs in the hot path: microseconds of a decode step per layer, for every tiny checkpoint, against
//! Llama's in the same round. Matrices are so small that it is nearly all overhead: what a family adds (a norm of
//! heads, a router) shows, and what it does not use must cost nothing.
//!
//! `cargo bench --bench families`. Medians of interleaved rounds.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use std::time::Instant;

use candle_core::Device;
use common::median;
use sconce_models::{Decoder, HfConfig, LoadOptions, Model, find};
use sconce_nn::{BLOCK, KvCache, Solo, Step, StepRow, weights};
use sconce_testkit::golden::Golden;

const ROUNDS: usize = 15;
const STEPS: usize = 40;
/// Tokens in the cache before the first step.
const START: usize = 64;

struct Rig {
    name: String,
    layers: usize,
    model: Decoder,
    cache: KvCache,
    seconds: Vec<f64>,
}

fn main() {
    let goldens = Golden::all().expect("the folders of models/tiny");
    let mut rigs: Vec<Rig> = goldens.iter().map(Rig::open).collect();
    for _ in 0..ROUNDS {
        for rig in &mut rigs {
            let seconds = rig.decode();
            rig.seconds.push(seconds);
        }
    }
    let llama = rigs.iter().position(|rig| rig.name == "llama");
    let llama = rigs[llama.expect("Llama is among them")].seconds.clone();
    println!("decode of one stream, {STEPS} steps from {START} tokens, medians of {ROUNDS} rounds");
    for rig in &rigs {
        let ratios = rig
            .seconds
            .iter()
            .zip(&llama)
            .map(|(one, llama)| one / llama);
        println!(
            "{:<24} {:6.1} µs per layer and step, {:.2} of llama's",
            rig.name,
            median(rig.seconds.clone()) * 1e6,
            median(ratios.collect()),
        );
    }
}

impl Rig {
    fn open(golden: &Golden) -> Self {
        let config = HfConfig::read(&golden.dir).expect("a configuration");
        let arch = find(&config).expect("a known architecture");
        let spec = (arch.spec)(&config).expect("a supported configuration");
        let source = weights::open(&golden.dir).expect("a checkpoint");
        let options = LoadOptions::default();
        let model = Decoder::load(
            arch,
            &spec,
            &*source,
            Box::new(Solo),
            &options,
            &mut |_, _| {},
        )
        .expect("loadable");
        let blocks = (START + STEPS).div_ceil(BLOCK);
        let cache = KvCache::new(model.kv_shape(), blocks, &Device::Cpu).expect("memory");
        Self {
            name: golden.name.clone(),
            layers: spec.dims.layers,
            model,
            cache,
            seconds: Vec::new(),
        }
    }

    /// Seconds of a step over the number of layers. The cache's contents do not matter to the time.
    fn decode(&mut self) -> f64 {
        let began = Instant::now();
        for position in START..START + STEPS {
            let logits = self.model.forward(&step(position), &[], &mut self.cache);
            std::hint::black_box(logits.expect("computable"));
        }
        began.elapsed().as_secs_f64() / (STEPS * self.layers) as f64
    }
}

/// One token at a position, in blocks in their order.
fn step(position: usize) -> Step {
    Step {
        ids: vec![5],
        positions: vec![position as u32],
        slots: vec![position as u32],
        rows: vec![StepRow {
            q_start: 0,
            q_len: 1,
            k_len: position + 1,
            known: position + 1,
            blocks: (0..=(position / BLOCK) as u32).collect(),
        }],
        sampled: vec![0],
        ..Step::default()
    }
}
