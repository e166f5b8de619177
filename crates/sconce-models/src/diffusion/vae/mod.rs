//! `AutoencoderKL` of diffusers: pictures to the means and spreads of latents, and latents to pictures.

mod spec;
mod tiles;

use candle_core::{Result, Tensor};
use sconce_nn::weights::WeightSource;
use sconce_nn::{Conv2d, ConvShape, GroupNorm};

use super::Component;
use super::resnet::{EXPECTED, Groups, Resnet, downsampler, upsampler};
use super::spatial::PixelAttention;
use crate::decoder::{Footprint, LoadError, LoadOptions, Tensors};
use crate::layers::Layers;

pub use spec::VaeSpec;
use tiles::Through;
pub use tiles::Tiling;

/// A kernel of three pixels that keeps the size, with a bias.
const WIDE: (ConvShape, bool) = (
    ConvShape {
        kernel: 3,
        stride: 1,
        padding: [1, 1],
    },
    true,
);

/// The model.
#[derive(Debug)]
pub struct Vae {
    encoder: Side,
    to_moments: Option<Conv2d>,
    from_latents: Option<Conv2d>,
    decoder: Side,
}

/// One way through it.
#[derive(Debug)]
struct Side {
    entry: Conv2d,
    /// Before the blocks of a decoder, behind those of an encoder.
    middle: Middle,
    blocks: Vec<Block>,
    norm: GroupNorm,
    exit: Conv2d,
}

#[derive(Debug)]
struct Middle {
    first: Resnet,
    attention: Option<PixelAttention>,
    last: Resnet,
}

#[derive(Debug)]
struct Block {
    resnets: Vec<Resnet>,
    resize: Option<Conv2d>,
}

impl Component for Vae {
    type Spec = VaeSpec;

    fn of(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<(Self, Footprint), LoadError> {
        let mut layers = Layers::new(Tensors::new(source, "decoder.conv_in", progress), *options);
        let latent = spec.latent_channels;
        let pixel = (ConvShape::same(1), true);
        let encoder = Side::encoder(&mut layers, spec)?;
        let to_moments = spec
            .has_moments_conv
            .then(|| layers.conv("quant_conv", [2 * latent; 2], pixel, EXPECTED))
            .transpose()?;
        let from_latents = spec
            .has_latents_conv
            .then(|| layers.conv("post_quant_conv", [latent; 2], pixel, EXPECTED))
            .transpose()?;
        let decoder = Side::decoder(&mut layers, spec)?;
        let Layers {
            tensors, footprint, ..
        } = layers;
        tensors.finish(&[])?;
        let model = Self {
            encoder,
            to_moments,
            from_latents,
            decoder,
        };
        Ok((model, footprint))
    }
}

impl Vae {
    /// Pictures `[images, height, width, 3]` from -1 to 1 to means and logarithms of variances of latents,
    /// `[images, height / factor, width / factor, 2 * channels]`.
    pub fn encode(&self, pictures: &Tensor) -> Result<Tensor> {
        let side = &self.encoder;
        let mut x = side.entry.forward(pictures)?;
        for block in &side.blocks {
            for resnet in &block.resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(resize) = &block.resize {
                x = resize.forward(&x)?;
            }
        }
        let x = side.leave(&side.middle.forward(&x)?)?;
        match &self.to_moments {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }

    /// [`Self::encode`] tile by tile.
    pub fn encode_tiles(&self, pictures: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let through = Through {
            from: tiling.pixels,
            to: tiling.latents,
        };
        through.join(pictures, |tile| self.encode(tile))
    }

    /// [`Self::decode`] tile by tile.
    pub fn decode_tiles(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let through = Through {
            from: tiling.latents,
            to: tiling.pixels,
        };
        through.join(latents, |tile| self.decode(tile))
    }

    /// Latents `[images, height, width, channels]`, as the encoder scales them, to pictures from about -1 to 1.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let side = &self.decoder;
        let mut x = match &self.from_latents {
            Some(conv) => side.entry.forward(&conv.forward(latents)?)?,
            None => side.entry.forward(latents)?,
        };
        x = side.middle.forward(&x)?;
        for block in &side.blocks {
            for resnet in &block.resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(resize) = &block.resize {
                let (_, height, width, _) = x.dims4()?;
                x = resize.forward_resized(&x, [2 * height, 2 * width])?;
            }
        }
        side.leave(&x)
    }
}

impl Side {
    fn encoder(layers: &mut Layers<'_>, spec: &VaeSpec) -> std::result::Result<Self, LoadError> {
        let all = &spec.channels;
        let (first, last) = (all[0], all[all.len() - 1]);
        let entry = layers.conv("encoder.conv_in", [spec.in_channels, first], WIDE, EXPECTED)?;
        let mut inputs = first;
        let mut blocks = Vec::new();
        for (at, channels) in all.iter().enumerate() {
            let prefix = format!("encoder.down_blocks.{at}");
            let resnets = Block::resnets(layers, &prefix, [inputs, *channels], spec, 0)?;
            inputs = *channels;
            let resize = (at + 1 < all.len())
                .then(|| downsampler(layers, &prefix, *channels, [0, 1]))
                .transpose()?;
            blocks.push(Block { resnets, resize });
        }
        let ends = [last, 2 * spec.latent_channels];
        Self::finish(layers, spec, ("encoder", entry, blocks), (last, ends))
    }

    fn decoder(layers: &mut Layers<'_>, spec: &VaeSpec) -> std::result::Result<Self, LoadError> {
        let all: Vec<usize> = spec.channels.iter().rev().copied().collect();
        let (first, last) = (all[0], all[all.len() - 1]);
        let entry = layers.conv(
            "decoder.conv_in",
            [spec.latent_channels, first],
            WIDE,
            EXPECTED,
        )?;
        let mut inputs = first;
        let mut blocks = Vec::new();
        for (at, channels) in all.iter().enumerate() {
            let prefix = format!("decoder.up_blocks.{at}");
            let resnets = Block::resnets(layers, &prefix, [inputs, *channels], spec, 1)?;
            inputs = *channels;
            let resize = (at + 1 < all.len())
                .then(|| upsampler(layers, &prefix, *channels))
                .transpose()?;
            blocks.push(Block { resnets, resize });
        }
        let ends = [last, spec.out_channels];
        Self::finish(layers, spec, ("decoder", entry, blocks), (first, ends))
    }

    fn finish(
        layers: &mut Layers<'_>,
        spec: &VaeSpec,
        (side, entry, blocks): (&str, Conv2d, Vec<Block>),
        (middle, ends): (usize, [usize; 2]),
    ) -> std::result::Result<Self, LoadError> {
        let Groups { groups, eps } = spec.norm_groups();
        let name = format!("{side}.conv_norm_out");
        let norm = layers.group_norm(&name, (groups, eps), ends[0], EXPECTED)?;
        Ok(Self {
            entry,
            middle: Middle::load(layers, &format!("{side}.mid_block"), middle, spec)?,
            blocks,
            norm,
            exit: layers.conv(&format!("{side}.conv_out"), ends, WIDE, EXPECTED)?,
        })
    }

    fn leave(&self, x: &Tensor) -> Result<Tensor> {
        self.exit.forward(&self.norm.forward_silu(x)?)
    }
}

impl Block {
    fn resnets(
        layers: &mut Layers<'_>,
        prefix: &str,
        [mut inputs, channels]: [usize; 2],
        spec: &VaeSpec,
        more: usize,
    ) -> std::result::Result<Vec<Resnet>, LoadError> {
        let load = |index: usize| {
            let sizes = [std::mem::replace(&mut inputs, channels), channels];
            let name = format!("{prefix}.resnets.{index}");
            Resnet::load(layers, &name, sizes, spec.norm_groups(), None)
        };
        (0..spec.layers + more).map(load).collect()
    }
}

impl Middle {
    fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        channels: usize,
        spec: &VaeSpec,
    ) -> std::result::Result<Self, LoadError> {
        let (sizes, groups) = ([channels; 2], spec.norm_groups());
        let first = Resnet::load(layers, &format!("{prefix}.resnets.0"), sizes, groups, None)?;
        let attention = spec.attends.then(|| {
            let name = format!("{prefix}.attentions.0");
            PixelAttention::load(layers, &name, channels, groups)
        });
        Ok(Self {
            first,
            attention: attention.transpose()?,
            last: Resnet::load(layers, &format!("{prefix}.resnets.1"), sizes, groups, None)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.first.forward(x, None)?;
        let x = match &self.attention {
            Some(attention) => attention.forward(&x)?,
            None => x,
        };
        self.last.forward(&x, None)
    }
}
