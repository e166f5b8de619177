//! Attention over pixels: `Transformer2DModel` of UNets, and the single head of autoencoders.

use candle_core::{Result, Tensor};
use sconce_nn::{Act, AttendAcross, GroupNorm, Linear, Norm, add, attend_across};

use super::resnet::{EXPECTED, Groups};
use crate::decoder::{Affine, LoadError, NormKind};
use crate::layers::{Layers, Role};

/// The layer norms of diffusers' `BasicTransformerBlock`.
const NORM: NormKind = NormKind::Layer {
    eps: 1e-5,
    affine: Affine::Full,
};

/// What `Transformer2DModel` adds to the variance, whatever the UNet does.
const GROUP_EPS: f64 = 1e-6;

/// Sizes of a transformer over pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SpatialDims {
    pub(super) channels: usize,
    pub(super) heads: usize,
    pub(super) layers: usize,
    /// Width of the states of the text.
    pub(super) cross: usize,
    pub(super) groups: usize,
}

/// Layers over pixels, with what is added to their result.
#[derive(Debug)]
pub(super) struct Spatial {
    norm: GroupNorm,
    entry: Linear,
    blocks: Vec<SpatialBlock>,
    exit: Linear,
}

/// Queries, keys, values and what is made of their results.
#[derive(Debug)]
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

#[derive(Debug)]
struct SpatialBlock {
    norms: [Norm; 3],
    own: Attention,
    cross: Attention,
    up_gate: [Linear; 2],
    down: Linear,
}

impl Spatial {
    pub(super) fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        dims: SpatialDims,
    ) -> std::result::Result<Self, LoadError> {
        let name = |part: &str| format!("{prefix}.{part}");
        let square = [dims.channels; 2];
        let groups = (dims.groups, GROUP_EPS);
        let norm = layers.group_norm(&name("norm"), groups, dims.channels, EXPECTED)?;
        let entry = layers.pointwise(&name("proj_in"), square, EXPECTED)?;
        let blocks = (0..dims.layers).map(|layer| {
            SpatialBlock::load(layers, &name(&format!("transformer_blocks.{layer}")), dims)
        });
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            norm,
            entry,
            blocks,
            exit: layers.pointwise(&name("proj_out"), square, EXPECTED)?,
        })
    }

    /// `x` `[images, height, width, channels]`, `states` `[images * tokens, cross]`.
    pub(super) fn forward(&self, x: &Tensor, states: &Tensor) -> Result<Tensor> {
        let (images, height, width, channels) = x.dims4()?;
        let pixels = self
            .norm
            .forward(x)?
            .reshape((images * height * width, channels))?;
        let mut pixels = self.entry.forward(&pixels)?;
        for block in &self.blocks {
            pixels = block.forward(&pixels, states, images)?;
        }
        let added = self.exit.forward(&pixels)?;
        add(x, &added.reshape(x.dims())?)
    }
}

impl SpatialBlock {
    fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        dims: SpatialDims,
    ) -> std::result::Result<Self, LoadError> {
        let (width, name) = (dims.channels, |part: &str| format!("{prefix}.{part}"));
        let mut norm = |part: &str| layers.norm(&name(part), NORM, width, EXPECTED);
        let norms = [norm("norm1")?, norm("norm2")?, norm("norm3")?];
        let own = Attention::load(layers, &name("attn1"), [width, width], dims.heads)?;
        let cross = Attention::load(layers, &name("attn2"), [width, dims.cross], dims.heads)?;
        let up = layers.stacked(&name("ff.net.0.proj"), [4 * width, width], true, EXPECTED)?;
        Ok(Self {
            norms,
            own,
            cross,
            up_gate: up,
            down: layers.linear(
                &name("ff.net.2"),
                [width, 4 * width],
                true,
                Role::Whole,
                EXPECTED,
            )?,
        })
    }

    fn forward(&self, x: &Tensor, states: &Tensor, images: usize) -> Result<Tensor> {
        let [first, second, third] = &self.norms;
        let normed = first.forward(x)?;
        let attended = self.own.forward(&normed, &normed, images)?;
        let (x, normed) = second.forward_sum(x, &attended)?;
        let attended = self.cross.forward(&normed, states, images)?;
        let (x, normed) = third.forward_sum(&x, &attended)?;
        let [up, gate] = &self.up_gate;
        let [up, gate] = Linear::forward_all([up, gate], &normed)?;
        add(&x, &self.down.forward(&Act::Gelu.gate(&gate, &up)?)?)
    }
}

impl Attention {
    /// Of queries and states of these widths; queries, keys and values have no biases.
    fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        [width, states]: [usize; 2],
        heads: usize,
    ) -> std::result::Result<Self, LoadError> {
        let mut linear = |part: &str, from: usize, bias: bool| {
            layers.linear(
                &format!("{prefix}.{part}"),
                [width, from],
                bias,
                Role::Whole,
                EXPECTED,
            )
        };
        Ok(Self {
            query: linear("to_q", width, false)?,
            key: linear("to_k", states, false)?,
            value: linear("to_v", states, false)?,
            out: linear("to_out.0", width, true)?,
            heads,
        })
    }

    /// `x` `[images * pixels, width]` attends to `states` `[images * tokens, ..]`.
    fn forward(&self, x: &Tensor, states: &Tensor, images: usize) -> Result<Tensor> {
        let q = self.query.forward(x)?;
        let [k, v] = Linear::forward_all([&self.key, &self.value], states)?;
        let how = AttendAcross {
            scale: 1.0 / ((q.dim(1)? / self.heads) as f32).sqrt(),
            causal: false,
        };
        self.out
            .forward(&attend_across([&q, &k, &v], self.heads, images, how)?)
    }
}

/// The attention of autoencoders: one head over all pixels, with biases.
#[derive(Debug)]
pub(super) struct PixelAttention {
    norm: GroupNorm,
    part: Attention,
}

impl PixelAttention {
    pub(super) fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        channels: usize,
        Groups { groups, eps }: Groups,
    ) -> std::result::Result<Self, LoadError> {
        let norm = format!("{prefix}.group_norm");
        let norm = layers.group_norm(&norm, (groups, eps), channels, EXPECTED)?;
        // Older files have other names.
        let is_new = layers.tensors.has(&format!("{prefix}.to_q.weight"));
        let names = match is_new {
            true => ["to_q", "to_k", "to_v", "to_out.0"],
            false => ["query", "key", "value", "proj_attn"],
        };
        let mut linear =
            |part: &str| layers.pointwise(&format!("{prefix}.{part}"), [channels; 2], EXPECTED);
        let [query, key, value, out] = names;
        let part = Attention {
            query: linear(query)?,
            key: linear(key)?,
            value: linear(value)?,
            out: linear(out)?,
            heads: 1,
        };
        Ok(Self { norm, part })
    }

    /// `x` `[images, height, width, channels]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (images, height, width, channels) = x.dims4()?;
        let pixels = self
            .norm
            .forward(x)?
            .reshape((images * height * width, channels))?;
        let added = self.part.forward(&pixels, &pixels, images)?;
        add(x, &added.reshape(x.dims())?)
    }
}
