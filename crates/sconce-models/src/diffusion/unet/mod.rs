//! `UNet2DConditionModel` of diffusers: predicts what is noise in latents, by the time step and a text.
//!
//! ```text
//! latents ─▶ conv ─▶ down ─▶ down ─▶ … ─▶ middle ─▶ … ─▶ up ─▶ up ─▶ norm, conv ─▶ prediction
//!                     └───────┴─ results of all resnets ──┴─────┘
//! ```

mod blocks;
mod spec;
mod time;

use candle_core::{Result, Tensor};
use sconce_nn::weights::WeightSource;
use sconce_nn::{Act, Conv2d, ConvShape, GroupNorm, add, join_channels};

use super::Component;
use super::resnet::{EXPECTED, Groups, TimeMlp};
use crate::decoder::{Footprint, LoadError, LoadOptions, Tensors};
use crate::layers::Layers;
use blocks::{Down, Middle, Pass, Up};
use time::Waves;

pub use spec::{AddedSpec, UnetBlockSpec, UnetSpec};

/// What a prediction depends on beside the latents.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The time step of each image.
    pub times: Vec<f32>,
    /// The states of the text of each image, `[images * tokens, width]`.
    pub states: Tensor,
    /// A vector of the text of each image and the numbers that are added to the time, of models that want them.
    pub added: Option<(Tensor, Vec<f32>)>,
    /// The guidance of each image, of models that are told: `[images, width]` as [`guidance_waves`] makes it.
    pub guidance: Option<Tensor>,
}

/// The model.
#[derive(Debug)]
pub struct Unet {
    waves: Waves,
    time: TimeMlp,
    added: Option<(Waves, TimeMlp)>,
    entry: Conv2d,
    down: Vec<Down>,
    middle: Option<Middle>,
    up: Vec<Up>,
    norm: GroupNorm,
    exit: Conv2d,
}

impl Component for Unet {
    type Spec = UnetSpec;

    fn of(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<(Self, Footprint), LoadError> {
        let mut layers = Layers::new(Tensors::new(source, "conv_in", progress), *options);
        let layers_of = &mut layers;
        let (first, time) = (spec.blocks[0].channels, spec.time());
        let waves = |width| Waves {
            width,
            cosines_first: spec.cosines_first,
            shift: spec.frequency_shift,
        };
        let embedding = TimeMlp::load(layers_of, "time_embedding", [first, time], spec.guidance)?;
        let added = spec.added.map(|added| {
            let mlp = TimeMlp::load(layers_of, "add_embedding", [added.inputs, time], None)?;
            Ok::<_, LoadError>((waves(added.each), mlp))
        });
        let added = added.transpose()?;
        let [kernel, last] = spec.kernels.map(|kernel| (ConvShape::same(kernel), true));
        let entry = layers_of.conv("conv_in", [spec.in_channels, first], kernel, EXPECTED)?;
        let (down, middle, up) = (
            Down::load_all(layers_of, spec)?,
            Middle::load(layers_of, spec)?,
            Up::load_all(layers_of, spec)?,
        );
        let groups = (spec.groups, spec.eps);
        let norm = layers_of.group_norm("conv_norm_out", groups, first, EXPECTED)?;
        let exit = layers_of.conv("conv_out", [first, spec.out_channels], last, EXPECTED)?;
        let Layers {
            tensors, footprint, ..
        } = layers;
        tensors.finish(&[])?;
        let model = Self {
            waves: waves(first),
            time: embedding,
            added,
            entry,
            down,
            middle,
            up,
            norm,
            exit,
        };
        Ok((model, footprint))
    }
}

impl Unet {
    /// The prediction for latents `[images, height, width, channels]`.
    pub fn forward(&self, latents: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let time = self.embedded_time(conditions)?;
        let pass = Pass {
            time: &time,
            states: &conditions.states,
        };
        let mut x = self.entry.forward(latents)?;
        let mut kept = vec![x.clone()];
        for block in &self.down {
            x = block.forward(x, &pass, &mut kept)?;
        }
        if let Some(middle) = &self.middle {
            x = middle.forward(&x, &pass)?;
        }
        for block in &self.up {
            x = block.forward(x, &pass, &mut kept)?;
        }
        self.exit.forward(&self.norm.forward_silu(&x)?)
    }

    /// `silu` of the embedded time, as every resnet takes it.
    fn embedded_time(&self, conditions: &Conditions) -> Result<Tensor> {
        let waves = self.waves.of(&conditions.times)?;
        let time = self.time.forward(&waves, conditions.guidance.as_ref())?;
        let time = match (&self.added, &conditions.added) {
            (Some((waves, mlp)), Some((vectors, numbers))) => {
                let images = conditions.times.len();
                let numbers = waves.of(numbers)?.reshape((images, ()))?;
                add(
                    &time,
                    &mlp.forward(&join_channels(vectors, &numbers)?, None)?,
                )?
            }
            (None, None) => time,
            _ => candle_core::bail!(
                "added conditions are given to exactly those UNets that have them"
            ),
        };
        Act::Silu.apply(&time)
    }
}

impl UnetSpec {
    /// The groups of its blocks.
    fn norm_groups(&self) -> Groups {
        Groups {
            groups: self.groups,
            eps: self.eps,
        }
    }
}

/// A guidance of each image as distilled models are told it: `get_guidance_scale_embedding` of diffusers.
pub fn guidance_waves(scales: &[f32], width: usize) -> Result<Tensor> {
    let waves = Waves {
        width,
        cosines_first: false,
        shift: 1.0,
    };
    let numbers: Vec<f32> = scales.iter().map(|scale| (scale - 1.0) * 1000.0).collect();
    waves.of(&numbers)
}
