//! The blocks of a UNet: resnets and transformers of one size, on the way down, between, and on the way up.

use candle_core::{Result, Tensor};
use sconce_nn::{Conv2d, join_channels};

use super::spec::UnetSpec;
use crate::decoder::LoadError;
use crate::diffusion::resnet::{Resnet, downsampler, upsampler};
use crate::diffusion::spatial::{Spatial, SpatialDims};
use crate::layers::Layers;

/// What all blocks of a pass are given.
pub(super) struct Pass<'a> {
    /// `silu` of the embedded time, `[images, width]`.
    pub(super) time: &'a Tensor,
    /// The states of the texts.
    pub(super) states: &'a Tensor,
}

/// A resnet, and the transformer behind it in blocks that attend.
#[derive(Debug)]
struct Layer {
    resnet: Resnet,
    spatial: Option<Spatial>,
}

impl Layer {
    fn load(
        layers: &mut Layers<'_>,
        spec: &UnetSpec,
        (prefix, index): (&str, usize),
        inputs: usize,
        (dims, attends): (SpatialDims, bool),
    ) -> std::result::Result<Self, LoadError> {
        let name = format!("{prefix}.resnets.{index}");
        let sizes = [inputs, dims.channels];
        let resnet = Resnet::load(layers, &name, sizes, spec.norm_groups(), Some(spec.time()))?;
        let spatial = attends
            .then(|| Spatial::load(layers, &format!("{prefix}.attentions.{index}"), dims))
            .transpose()?;
        Ok(Self { resnet, spatial })
    }

    fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let x = self.resnet.forward(x, Some(pass.time))?;
        match &self.spatial {
            Some(spatial) => spatial.forward(&x, pass.states),
            None => Ok(x),
        }
    }
}

impl UnetSpec {
    fn spatial(&self, block: usize, layers: usize) -> SpatialDims {
        let block = self.blocks[block];
        SpatialDims {
            channels: block.channels,
            heads: block.heads,
            layers,
            cross: block.cross,
            groups: self.groups,
        }
    }
}

/// A block of the way down.
#[derive(Debug)]
pub(super) struct Down {
    layers: Vec<Layer>,
    smaller: Option<Conv2d>,
}

impl Down {
    pub(super) fn load_all(
        layers: &mut Layers<'_>,
        spec: &UnetSpec,
    ) -> std::result::Result<Vec<Self>, LoadError> {
        let mut inputs = spec.blocks[0].channels;
        let mut all = Vec::new();
        for (at, block) in spec.blocks.iter().enumerate() {
            let prefix = format!("down_blocks.{at}");
            let dims = spec.spatial(at, block.transformers);
            let mut own = Vec::new();
            for index in 0..block.layers {
                let kind = (dims, block.attends);
                own.push(Layer::load(layers, spec, (&prefix, index), inputs, kind)?);
                inputs = block.channels;
            }
            let padding = [spec.down_padding; 2];
            let smaller = (at + 1 < spec.blocks.len())
                .then(|| downsampler(layers, &prefix, block.channels, padding))
                .transpose()?;
            all.push(Self {
                layers: own,
                smaller,
            });
        }
        Ok(all)
    }

    pub(super) fn forward(
        &self,
        mut x: Tensor,
        pass: &Pass<'_>,
        kept: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
            kept.push(x.clone());
        }
        if let Some(smaller) = &self.smaller {
            x = smaller.forward(&x)?;
            kept.push(x.clone());
        }
        Ok(x)
    }
}

/// The block of the smallest images.
#[derive(Debug)]
pub(super) struct Middle {
    first: Layer,
    last: Layer,
}

impl Middle {
    pub(super) fn load(
        layers: &mut Layers<'_>,
        spec: &UnetSpec,
    ) -> std::result::Result<Option<Self>, LoadError> {
        if !spec.has_middle {
            return Ok(None);
        }
        let at = spec.blocks.len() - 1;
        let block = spec.blocks[at];
        let dims = spec.spatial(at, block.transformers);
        let mut layer = |index: usize, attends: bool| {
            let place = ("mid_block", index);
            Layer::load(layers, spec, place, block.channels, (dims, attends))
        };
        Ok(Some(Self {
            first: layer(0, true)?,
            last: layer(1, false)?,
        }))
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.last.forward(&self.first.forward(x, pass)?, pass)
    }
}

/// A block of the way up.
#[derive(Debug)]
pub(super) struct Up {
    layers: Vec<Layer>,
    larger: Option<Conv2d>,
}

impl Up {
    pub(super) fn load_all(
        layers: &mut Layers<'_>,
        spec: &UnetSpec,
    ) -> std::result::Result<Vec<Self>, LoadError> {
        let last = spec.blocks.len() - 1;
        let mut x = spec.blocks[last].channels;
        let mut all = Vec::new();
        for (at, attends) in spec.up_attends.iter().enumerate() {
            let block = spec.blocks[last - at];
            // What is joined comes from a block of the way down, its last from the one before.
            let before = spec.blocks[(last - at).saturating_sub(1)].channels;
            let prefix = format!("up_blocks.{at}");
            let dims = spec.spatial(last - at, spec.up_transformers[at]);
            let mut own = Vec::new();
            for index in 0..=block.layers {
                let joined = if index == block.layers {
                    before
                } else {
                    block.channels
                };
                let kind = (dims, *attends);
                own.push(Layer::load(
                    layers,
                    spec,
                    (&prefix, index),
                    x + joined,
                    kind,
                )?);
                x = block.channels;
            }
            let larger = (at < last)
                .then(|| upsampler(layers, &prefix, block.channels))
                .transpose()?;
            all.push(Self {
                layers: own,
                larger,
            });
        }
        Ok(all)
    }

    pub(super) fn forward(
        &self,
        mut x: Tensor,
        pass: &Pass<'_>,
        kept: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for layer in &self.layers {
            let Some(other) = kept.pop() else {
                candle_core::bail!("a UNet joins more than it has kept");
            };
            x = layer.forward(&join_channels(&x, &other)?, pass)?;
        }
        let (Some(larger), Some(next)) = (&self.larger, kept.last()) else {
            return Ok(x);
        };
        // Sizes that were odd are met again.
        larger.forward_resized(&x, [next.dim(1)?, next.dim(2)?])
    }
}
