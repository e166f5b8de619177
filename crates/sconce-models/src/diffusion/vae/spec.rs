//! `config.json` of an `AutoencoderKL`.

use std::path::Path;

use serde_json::json;

use super::tiles::Tiling;
use crate::HfConfig;
use crate::config_error::ConfigError;
use crate::diffusion::config::{channels, kinds, require};
use crate::diffusion::resnet::Groups;

/// What the norms of autoencoders add to the variance, whatever the configuration says.
const EPS: f64 = 1e-6;

/// An autoencoder's blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeSpec {
    /// Channels of pictures that are encoded.
    pub in_channels: usize,
    /// Channels of pictures that are decoded.
    pub out_channels: usize,
    /// Channels of latents.
    pub latent_channels: usize,
    /// Channels of the blocks, from the largest images to the smallest.
    pub channels: Vec<usize>,
    /// Resnets of a block of the encoder; one more in those of the decoder.
    pub layers: usize,
    /// Groups of the norms.
    pub groups: usize,
    /// Whether the smallest images attend.
    pub attends: bool,
    /// Whether a convolution makes moments of what the encoder gives.
    pub has_moments_conv: bool,
    /// Whether a convolution changes latents before they are decoded.
    pub has_latents_conv: bool,
    /// Factor of latents as the UNet sees them.
    pub scaling: f64,
    /// Whether it has to be computed in float32 where the rest is not.
    pub in_f32: bool,
    /// Pixels along a side of the pictures that it was trained with, and of tiles.
    pub sample: usize,
}

impl VaeSpec {
    /// Reads `config.json` of `dir`.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        let c = HfConfig::read(dir)?;
        c.refuse_unless("_class_name", &["AutoencoderKL"])?;
        require(&c, "act_fn", &json!("silu"))?;
        for key in ["latents_mean", "latents_std", "shift_factor"] {
            c.refuse(key, "null")?;
        }
        let all = channels(&c, &[64])?;
        let groups = c.size_or("norm_num_groups", 32)?;
        for (key, only) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            kinds(&c, key, (all.len(), &[only]), &vec![only; all.len()])?;
        }
        for channels in &all {
            c.multiple("block_out_channels", *channels, "norm_num_groups", groups)?;
        }
        Ok(Self {
            in_channels: c.size_or("in_channels", 3)?,
            out_channels: c.size_or("out_channels", 3)?,
            latent_channels: c.size_or("latent_channels", 4)?,
            channels: all,
            layers: c.size_or("layers_per_block", 1)?,
            groups,
            attends: c.flag("mid_block_add_attention", true)?,
            has_moments_conv: c.flag("use_quant_conv", true)?,
            has_latents_conv: c.flag("use_post_quant_conv", true)?,
            scaling: c.float("scaling_factor", 0.18215)?,
            in_f32: c.flag("force_upcast", true)?,
            sample: c.size_or("sample_size", 32)?,
        })
    }

    /// Pixels of a picture along each side of a latent.
    pub fn factor(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// Tiles of so many pixels along a side, rounded down so that a quarter of it is whole latents.
    pub fn tiling(&self, pixels: usize) -> Tiling {
        let latents = (pixels / self.factor() / 4).max(1) * 4;
        Tiling {
            pixels: latents * self.factor(),
            latents,
        }
    }

    pub(super) fn norm_groups(&self) -> Groups {
        Groups {
            groups: self.groups,
            eps: EPS,
        }
    }
}
