//! `config.json` of a `UNet2DConditionModel`: which blocks it has. What is not implemented is refused by its key.

use std::path::Path;

use serde_json::json;

use crate::HfConfig;
use crate::config_error::ConfigError;
use crate::diffusion::config::{channels, kinds, require, sizes};

/// A UNet's blocks, from the largest images to the smallest.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetSpec {
    /// Channels of the input: those of latents, with mask and masked latents behind them for inpainting.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Height and width of latents that it was trained with, where a request names none.
    pub sample: [usize; 2],
    /// The blocks.
    pub blocks: Vec<UnetBlockSpec>,
    /// Whether blocks of the way up attend, from the smallest images to the largest.
    pub up_attends: Vec<bool>,
    /// Layers of transformers on the way up, in that order.
    pub up_transformers: Vec<usize>,
    /// Whether there is a block between the ways.
    pub has_middle: bool,
    /// Groups of the norms.
    pub groups: usize,
    /// What norms add to the variance.
    pub eps: f64,
    /// Pixels of padding where sizes are halved.
    pub down_padding: usize,
    /// Whether cosines come before sines.
    pub cosines_first: bool,
    /// What is taken from the number of frequencies.
    pub frequency_shift: f64,
    /// Width of the embedded guidance, of distilled models.
    pub guidance: Option<usize>,
    /// What SDXL adds to the embedded time.
    pub added: Option<AddedSpec>,
    /// Kernels of the first and the last convolution.
    pub kernels: [usize; 2],
}

/// One size of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnetBlockSpec {
    /// Its channels.
    pub channels: usize,
    /// Resnets on the way down; one more on the way up.
    pub layers: usize,
    /// Whether it attends on the way down.
    pub attends: bool,
    /// Heads of attention.
    pub heads: usize,
    /// Layers of each transformer.
    pub transformers: usize,
    /// Width of the states of the text.
    pub cross: usize,
}

/// SDXL's added conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedSpec {
    /// Width of each embedded number.
    pub each: usize,
    /// Width of all of them with the vector of the text.
    pub inputs: usize,
}

const DOWN: [&str; 2] = ["CrossAttnDownBlock2D", "DownBlock2D"];
const UP: [&str; 2] = ["CrossAttnUpBlock2D", "UpBlock2D"];

impl UnetSpec {
    /// Reads `config.json` of `dir`.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        let c = HfConfig::read(dir)?;
        c.refuse_unless("_class_name", &["UNet2DConditionModel"])?;
        refuse_unknown(&c)?;
        let all = channels(&c, &[320, 640, 1280, 1280])?;
        let count = all.len();
        let down = [DOWN[0], DOWN[0], DOWN[0], DOWN[1]];
        let attends = kinds(&c, "down_block_types", (count, &DOWN), &down)?;
        let up = [UP[1], UP[0], UP[0], UP[0]];
        let up_attends = kinds(&c, "up_block_types", (count, &UP), &up)?;
        let layers = sizes(&c, "layers_per_block", count, Some(2))?;
        // The key is misnamed: it has been the number of heads since the first release.
        let heads = sizes(&c, "attention_head_dim", count, Some(8))?;
        let transformers = sizes(&c, "transformer_layers_per_block", count, Some(1))?;
        let cross = sizes(&c, "cross_attention_dim", count, Some(1280))?;
        let groups = c.size_or("norm_num_groups", 32)?;
        for (channels, heads) in all.iter().zip(&heads) {
            c.multiple(
                "block_out_channels",
                *channels,
                "attention_head_dim",
                *heads,
            )?;
            c.multiple("block_out_channels", *channels, "norm_num_groups", groups)?;
        }
        let blocks = (0..count).map(|at| UnetBlockSpec {
            channels: all[at],
            layers: layers[at],
            attends: attends[at],
            heads: heads[at],
            transformers: transformers[at],
            cross: cross[at],
        });
        let up_transformers = match c.has("reverse_transformer_layers_per_block") {
            true => sizes(&c, "reverse_transformer_layers_per_block", count, None)?,
            false => transformers.iter().rev().copied().collect(),
        };
        Ok(Self {
            in_channels: c.size_or("in_channels", 4)?,
            out_channels: c.size_or("out_channels", 4)?,
            sample: sample(&c)?,
            blocks: blocks.collect(),
            up_attends,
            up_transformers,
            has_middle: c.has("mid_block_type") || !c.mentions("mid_block_type"),
            groups,
            eps: c.float("norm_eps", 1e-5)?,
            down_padding: c.count("downsample_padding", 1)?,
            cosines_first: c.flag("flip_sin_to_cos", true)?,
            frequency_shift: c.count("freq_shift", 0)? as f64,
            guidance: c.optional_size("time_cond_proj_dim", None)?,
            added: added(&c)?,
            kernels: [
                c.size_or("conv_in_kernel", 3)?,
                c.size_or("conv_out_kernel", 3)?,
            ],
        })
    }

    /// Width of the embedded time.
    pub fn time(&self) -> usize {
        4 * self.blocks[0].channels
    }

    /// Times that images are halved.
    pub fn halvings(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Width of the states of the text, the same for all blocks.
    pub fn cross(&self) -> usize {
        self.blocks[0].cross
    }
}

fn sample(c: &HfConfig) -> Result<[usize; 2], ConfigError> {
    match c.find("sample_size") {
        Some((_, list)) if list.is_array() => {
            let both = sizes(c, "sample_size", 2, None)?;
            Ok([both[0], both[1]])
        }
        _ => Ok([c.size_or("sample_size", 64)?; 2]),
    }
}

fn added(c: &HfConfig) -> Result<Option<AddedSpec>, ConfigError> {
    c.refuse_unless("addition_embed_type", &["text_time"])?;
    if !c.has("addition_embed_type") {
        return Ok(None);
    }
    Ok(Some(AddedSpec {
        each: c.size("addition_time_embed_dim")?,
        inputs: c.size("projection_class_embeddings_input_dim")?,
    }))
}

/// Keys of variants that no Stable Diffusion has.
fn refuse_unknown(c: &HfConfig) -> Result<(), ConfigError> {
    for (key, only) in [
        ("act_fn", json!("silu")),
        ("center_input_sample", json!(false)),
        ("class_embeddings_concat", json!(false)),
        ("dual_cross_attention", json!(false)),
        ("only_cross_attention", json!(false)),
        ("mid_block_only_cross_attention", json!(false)),
        ("attention_type", json!("default")),
        ("mid_block_type", json!("UNetMidBlock2DCrossAttn")),
        ("mid_block_scale_factor", json!(1)),
        ("resnet_out_scale_factor", json!(1)),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
    ] {
        require(c, key, &only)?;
    }
    for key in [
        "class_embed_type",
        "num_class_embeds",
        "cross_attention_norm",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "num_attention_heads",
        "time_embedding_dim",
        "time_embedding_act_fn",
        "timestep_post_act",
    ] {
        c.refuse(key, "null")?;
    }
    Ok(())
}
