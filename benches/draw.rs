//! Steps of a UNet of middle size and pictures of an autoencoder, in process: milliseconds of each.
//!
//! `python benches/peers/draw.py --make` first: it makes the folder with random weights. Then
//! `cargo bench --bench draw`. One guided prediction, two rows of 64 × 64 latents with 77 tokens; one decoded picture of
//! 256 × 256. Medians of rounds.
#![allow(clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use sconce_models::LoadOptions;
use sconce_models::diffusion::{Component, Conditions, Unet, UnetSpec, Vae, VaeSpec};
use sconce_nn::weights::open_part;

const ROUNDS: usize = 7;

fn main() {
    let root = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/bench-diffusion"
    ));
    if !root.join("unet/config.json").exists() {
        println!(
            "skipped: the weights are not there; run `python benches/peers/draw.py --make` first"
        );
        return;
    }
    let options = LoadOptions::default();
    let source = |dir: &Path| open_part(dir).unwrap_or_else(|error| panic!("{error}"));
    let dir = root.join("unet");
    let spec = UnetSpec::read(&dir).unwrap_or_else(|error| panic!("{error}"));
    let unet = Unet::load(&spec, &*source(&dir), &options, &mut |_, _| {});
    let unet = unet.unwrap_or_else(|error| panic!("{error}"));
    let numbers = |shape: &[usize]| -> Tensor {
        let count = shape.iter().product::<usize>();
        let all = (0..count).map(|at| ((at * 37) % 101) as f32 / 50.0 - 1.0);
        let made = Tensor::from_vec(all.collect::<Vec<_>>(), shape, &Device::Cpu);
        made.unwrap_or_else(|error| panic!("{error}"))
    };
    let conditions = Conditions {
        times: vec![500.0; 2],
        states: numbers(&[2 * 77, spec.cross()]),
        added: None,
        guidance: None,
    };
    let latents = numbers(&[2, 64, 64, spec.in_channels]);
    measure("a guided prediction of 64 × 64 latents", || {
        unet.forward(&latents, &conditions)
    });
    let dir = root.join("vae");
    let spec = VaeSpec::read(&dir).unwrap_or_else(|error| panic!("{error}"));
    let vae = Vae::load(&spec, &*source(&dir), &options, &mut |_, _| {});
    let vae = vae.unwrap_or_else(|error| panic!("{error}"));
    let latents = numbers(&[1, 32, 32, spec.latent_channels]);
    measure("a decoded picture of 256 × 256", || vae.decode(&latents));
}

fn measure(what: &str, compute: impl Fn() -> candle_core::Result<Tensor>) {
    let once = || {
        let began = Instant::now();
        compute().unwrap_or_else(|error| panic!("{error}"));
        began.elapsed().as_secs_f64() * 1000.0
    };
    once();
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| once()).collect();
    times.sort_by(f64::total_cmp);
    println!("{what}: {:.0} ms, least {:.0}", times[ROUNDS / 2], times[0]);
}
