//! `ResnetBlock2D` of diffusers, of UNets and autoencoders alike, and the convolutions between sizes.

use candle_core::{Result, Tensor};
use sconce_nn::{Act, Conv2d, ConvShape, GroupNorm, Linear, add};

use crate::decoder::LoadError;
use crate::layers::{Expected, Layers, Role};

/// What is said of tensors that do not fit.
pub(super) const EXPECTED: Expected = Expected {
    keys: "block_out_channels, layers_per_block, norm_num_groups, cross_attention_dim",
    hint: "; do the weights belong to the config.json beside them?",
};

/// How blocks of a model normalise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Groups {
    pub(super) groups: usize,
    pub(super) eps: f64,
}

/// Two convolutions, and what is added to their result.
#[derive(Debug)]
pub(super) struct Resnet {
    first_norm: GroupNorm,
    first: Conv2d,
    time: Option<Linear>,
    second_norm: GroupNorm,
    second: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    /// From so many channels to so many; `time` is the width of the embedded time step, where it has one.
    pub(super) fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        [inputs, outputs]: [usize; 2],
        Groups { groups, eps }: Groups,
        time: Option<usize>,
    ) -> std::result::Result<Self, LoadError> {
        let name = |part: &str| format!("{prefix}.{part}");
        let same = |kernel| (ConvShape::same(kernel), true);
        let first_norm = layers.group_norm(&name("norm1"), (groups, eps), inputs, EXPECTED)?;
        let first = layers.conv(&name("conv1"), [inputs, outputs], same(3), EXPECTED)?;
        let time = time.map(|width| {
            layers.linear(
                &name("time_emb_proj"),
                [outputs, width],
                true,
                Role::Whole,
                EXPECTED,
            )
        });
        let second_norm = layers.group_norm(&name("norm2"), (groups, eps), outputs, EXPECTED)?;
        let second = layers.conv(&name("conv2"), [outputs, outputs], same(3), EXPECTED)?;
        let shortcut = (inputs != outputs)
            .then(|| layers.conv(&name("conv_shortcut"), [inputs, outputs], same(1), EXPECTED));
        Ok(Self {
            first_norm,
            first,
            time: time.transpose()?,
            second_norm,
            second,
            shortcut: shortcut.transpose()?,
        })
    }

    /// `x` `[images, height, width, channels]`; `time` is `silu` of the embedded time step of each image.
    pub(super) fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let inner = self.first.forward(&self.first_norm.forward_silu(x)?)?;
        let inner = match (&self.time, time) {
            (Some(layer), Some(time)) => {
                let time = layer.forward(time)?;
                self.second_norm.forward_sum_silu(&inner, &time)?
            }
            _ => self.second_norm.forward_silu(&inner)?,
        };
        let inner = self.second.forward(&inner)?;
        match &self.shortcut {
            Some(shortcut) => add(&shortcut.forward(x)?, &inner),
            None => add(x, &inner),
        }
    }
}

/// Half the size: every second pixel of a convolution.
pub(super) fn downsampler(
    layers: &mut Layers<'_>,
    prefix: &str,
    channels: usize,
    padding: [usize; 2],
) -> std::result::Result<Conv2d, LoadError> {
    let shape = ConvShape {
        kernel: 3,
        stride: 2,
        padding,
    };
    let name = format!("{prefix}.downsamplers.0.conv");
    layers.conv(&name, [channels, channels], (shape, true), EXPECTED)
}

/// A convolution of a larger image.
pub(super) fn upsampler(
    layers: &mut Layers<'_>,
    prefix: &str,
    channels: usize,
) -> std::result::Result<Conv2d, LoadError> {
    let name = format!("{prefix}.upsamplers.0.conv");
    let shape = (ConvShape::same(3), true);
    layers.conv(&name, [channels, channels], shape, EXPECTED)
}

/// Two linear layers with `silu` between them: `TimestepEmbedding`.
#[derive(Debug)]
pub(super) struct TimeMlp {
    first: Linear,
    second: Linear,
    condition: Option<Linear>,
}

impl TimeMlp {
    pub(super) fn load(
        layers: &mut Layers<'_>,
        prefix: &str,
        [inputs, outputs]: [usize; 2],
        condition: Option<usize>,
    ) -> std::result::Result<Self, LoadError> {
        let mut linear = |part: &str, shape: [usize; 2], bias: bool| {
            layers.linear(
                &format!("{prefix}.{part}"),
                shape,
                bias,
                Role::Whole,
                EXPECTED,
            )
        };
        Ok(Self {
            first: linear("linear_1", [outputs, inputs], true)?,
            second: linear("linear_2", [outputs, outputs], true)?,
            condition: condition
                .map(|width| linear("cond_proj", [inputs, width], false))
                .transpose()?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let x = match (&self.condition, condition) {
            (Some(layer), Some(condition)) => add(x, &layer.forward(condition)?)?,
            _ => x.clone(),
        };
        self.second
            .forward(&Act::Silu.apply(&self.first.forward(&x)?)?)
    }
}
