//! MPT: ALiBi with slopes of its own, layer norms without biases, stacked projections that may be clipped.
//! Reference: transformers `models/mpt/modeling_mpt.py`; its options are in the object `attn_config`.

use sconce_nn::{Act, Alibi, AlibiBias};

use super::Arch;
use crate::config_error::ConfigError;
use crate::decoder::{Affine, Mlp, NormKind, Position, Qkv, Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["MptForCausalLM", "MPTForCausalLM"],
    eos: None,
    weights: &[&[
        (Slot::Embed, "transformer.wte"),
        (Slot::AttnNorm, "transformer.blocks.{}.norm_1"),
        (Slot::Qkv, "transformer.blocks.{}.attn.Wqkv"),
        (Slot::AttnOut, "transformer.blocks.{}.attn.out_proj"),
        (Slot::MlpNorm, "transformer.blocks.{}.norm_2"),
        (Slot::Up, "transformer.blocks.{}.ffn.up_proj"),
        (Slot::Down, "transformer.blocks.{}.ffn.down_proj"),
        (Slot::FinalNorm, "transformer.norm_f"),
        (Slot::Head, "lm_head"),
    ]],
    fixes: &[],
    ignore: &[],
    spec,
};

/// The logarithm of the smallest slope, negated.
const BIAS_MAX: f64 = 8.0;

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.dims(2048)?;
    dims.inner = 4 * dims.width;
    let attention = c.object("attn_config")?;
    attention.refuse_true("qk_ln", "false")?;
    attention.refuse_true("prefix_lm", "false")?;
    attention.refuse_false("alibi", "true")?;
    c.refuse_false("no_bias", "true")?;
    c.refuse("logit_scale", "null")?;
    if attention.float("alibi_bias_max", BIAS_MAX)? != BIAS_MAX {
        attention.refuse(
            "alibi_bias_max",
            "8, with which transformers computes always",
        )?;
    }
    attention.refuse_unless("attn_type", &["multihead_attention"])?;
    let alibi = Alibi {
        slopes: slopes(dims.heads),
        bias: AlibiBias::Distance,
    };
    let spec = Spec {
        norm: NormKind::Layer {
            eps: c.float("layer_norm_eps", 1e-5)?,
            affine: Affine::Weight,
        },
        qkv: Qkv::Stacked,
        clip_qkv: attention
            .optional_float("clip_qkv", None)?
            .map(|clip| clip as f32),
        head: c.head(true)?,
        ..Spec::plain(dims, Position::Alibi(alibi), Mlp::Plain(Act::Gelu))
    };
    let scale = attention.optional_float("softmax_scale", None)?;
    Ok(spec.with_layers(|_, layer| layer.scale = scale.map_or(layer.scale, |scale| scale as f32)))
}

/// `build_mpt_alibi_tensor`: for a number of heads that is no power of two, every second slope of the next power first.
fn slopes(heads: usize) -> Vec<f32> {
    let whole = heads.next_power_of_two();
    let step = (BIAS_MAX / whole as f64) as f32;
    let all: Vec<f32> = (1..=whole)
        .map(|index| 1.0 / 2f32.powf(index as f32 * step))
        .collect();
    if whole == heads {
        return all;
    }
    let second = all.iter().skip(1).step_by(2);
    let first = all.iter().step_by(2);
    second.chain(first).take(heads).copied().collect()
}
