//! What makes pictures: CLIP's encoders, the UNet that predicts noise, the autoencoder between pictures and latents, the
//! safety checker. Each is driven by the `config.json` of its folder, as diffusers writes it.
//!
//! Images are `[images, height, width, channels]`, so that pixels are rows for every product. How predictions become
//! pictures is left to the engine.

pub mod clip;
mod component;
mod config;
mod resnet;
mod safety;
mod spatial;
pub mod unet;
pub mod vae;

use candle_core::{Result, Tensor};
use sconce_nn::RowSums;

pub use clip::{ClipText, ClipTextSpec, TextStates};
pub use component::Component;
pub use safety::{SafetyChecker, SafetySpec};
pub use unet::{Conditions, Unet, UnetSpec};
pub use vae::{Tiling, Vae, VaeSpec};

/// These rows of `x` `[rows, width]`, one after the other.
fn rows(x: &Tensor, which: &[usize]) -> Result<Tensor> {
    let parts = which.iter().map(|row| x.narrow(0, *row, 1));
    let mut all = RowSums::zeros(which.len(), x.dim(1)?);
    for (to, part) in parts.enumerate() {
        all.add(&[to as u32], &[1.0], &part?)?;
    }
    all.into_tensor()
}
