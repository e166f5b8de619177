//! The image encoder with its projection: `CLIPVisionModel` within `StableDiffusionSafetyChecker`.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use sconce_nn::{Conv2d, ConvShape, Linear, Norm, add, join_channels};

use super::block::{ClipBlock, ClipDims};
use crate::HfConfig;
use crate::config_error::ConfigError;
use crate::decoder::LoadError;
use crate::diffusion::rows;
use crate::layers::{Expected, Layers, Role};

const EXPECTED: Expected = Expected {
    keys: "vision_config: hidden_size, patch_size, image_size; projection_dim",
    hint: "; does the folder hold a safety checker?",
};

/// What `config.json` says of an image encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipVisionSpec {
    /// Sizes of the layers.
    pub dims: ClipDims,
    /// Height and width of images.
    pub image: usize,
    /// Height and width of patches.
    pub patch: usize,
    /// Width of the vector of an image.
    pub projection: usize,
}

impl ClipVisionSpec {
    /// Reads `config.json` of `dir`.
    pub fn read(dir: &Path) -> std::result::Result<Self, ConfigError> {
        let config = HfConfig::read(dir)?;
        let vision = match config.has("vision_config") {
            true => config.object("vision_config")?,
            // Older folders repeat the same under this name.
            false => config.object("vision_config_dict")?,
        };
        let (image, patch) = (
            vision.size_or("image_size", 224)?,
            vision.size_or("patch_size", 32)?,
        );
        vision.multiple("image_size", image, "patch_size", patch)?;
        Ok(Self {
            dims: ClipDims::read(&vision, [768, 3072, 12, 12])?,
            image,
            patch,
            projection: config.size_or("projection_dim", 512)?,
        })
    }
}

/// An image encoder.
#[derive(Debug)]
pub struct ClipVision {
    patches: Conv2d,
    class: Vec<f32>,
    positions: Tensor,
    first_norm: Norm,
    blocks: Vec<ClipBlock>,
    last_norm: Norm,
    projection: Linear,
}

impl ClipVision {
    pub(in crate::diffusion) fn load(
        layers: &mut Layers<'_>,
        spec: &ClipVisionSpec,
    ) -> std::result::Result<Self, LoadError> {
        const MODEL: &str = "vision_model.vision_model";
        let width = spec.dims.width;
        let shape = ConvShape {
            kernel: spec.patch,
            stride: spec.patch,
            padding: [0, 0],
        };
        let name = format!("{MODEL}.embeddings.patch_embedding");
        let patches = layers.conv(&name, [3, width], (shape, false), EXPECTED)?;
        let name = format!("{MODEL}.embeddings.class_embedding");
        let class = layers.values(&name, &[width], EXPECTED)?;
        let places = (spec.image / spec.patch).pow(2) + 1;
        let name = format!("{MODEL}.embeddings.position_embedding.weight");
        let positions = layers.values(&name, &[places, width], EXPECTED)?;
        let positions = Tensor::from_vec(positions, (places, width), &Device::Cpu);
        let positions = positions.map_err(|cause| crate::layers::refused(&name, cause))?;
        let mut norm = |part: &str| {
            layers.norm(
                &format!("{MODEL}.{part}"),
                spec.dims.norm(),
                width,
                EXPECTED,
            )
        };
        // The name is spelled so.
        let (first_norm, last_norm) = (norm("pre_layrnorm")?, norm("post_layernorm")?);
        let blocks = (0..spec.dims.layers).map(|layer| {
            let prefix = format!("{MODEL}.encoder.layers.{layer}");
            ClipBlock::load(layers, &prefix, &spec.dims)
        });
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        let shape = [spec.projection, width];
        Ok(Self {
            patches,
            class,
            positions,
            first_norm,
            blocks,
            last_norm,
            projection: layers.linear("visual_projection", shape, false, Role::Whole, EXPECTED)?,
        })
    }

    /// A vector `[1, projection]` of an image `[1, height, width, 3]`.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let patches = self.patches.forward(image)?;
        let (_, height, width, channels) = patches.dims4()?;
        // Rows end to end are channels of one pixel.
        let class = Tensor::from_slice(&self.class, (1, channels), &Device::Cpu)?;
        let tokens = join_channels(&class, &patches.reshape((1, height * width * channels))?)?;
        let tokens = tokens.reshape((height * width + 1, channels))?;
        let mut x = self.first_norm.forward(&add(&tokens, &self.positions)?)?;
        for block in &self.blocks {
            x = block.forward(&x, 1, false)?;
        }
        let first = self.last_norm.forward(&rows(&x, &[0])?)?;
        self.projection.forward(&first)
    }
}
