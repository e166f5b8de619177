//! GPT-2: learned positions, layer norms, stacked and transposed projections, tied head.
//! Reference: transformers `models/gpt2/modeling_gpt2.py`.

use sconce_nn::Act;

use super::{Arch, Fix};
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, Qkv, Scale, Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["GPT2LMHeadModel"],
    eos: 50_256,
    weights: &[
        (Slot::Embed, "transformer.wte"),
        (Slot::Position, "transformer.wpe"),
        (Slot::AttnNorm, "transformer.h.{}.ln_1"),
        (Slot::Qkv, "transformer.h.{}.attn.c_attn"),
        (Slot::AttnOut, "transformer.h.{}.attn.c_proj"),
        (Slot::MlpNorm, "transformer.h.{}.ln_2"),
        (Slot::Up, "transformer.h.{}.mlp.c_fc"),
        (Slot::Down, "transformer.h.{}.mlp.c_proj"),
        (Slot::FinalNorm, "transformer.ln_f"),
        (Slot::Head, "lm_head"),
    ],
    // Conv1D keeps its weight as [inputs, outputs].
    fixes: &[
        (Slot::Qkv, Fix::Transpose),
        (Slot::AttnOut, Fix::Transpose),
        (Slot::Up, Fix::Transpose),
        (Slot::Down, Fix::Transpose),
    ],
    ignore: &["attn.bias", "attn.masked_bias"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let dims = c.dims(1024)?;
    if c.flag("add_cross_attention", false)? {
        c.refuse(
            "add_cross_attention",
            "false (there is no encoder to attend to)",
        )?;
    }
    let root = if c.flag("scale_attn_weights", true)? {
        (dims.head as f32).sqrt()
    } else {
        1.0
    };
    let by_layer = c.flag("scale_attn_by_inverse_layer_idx", false)?;
    Ok(Spec {
        norm: NormKind::Layer {
            eps: c.float("layer_norm_eps", 1e-5)?,
        },
        qkv: Qkv::Stacked,
        scale: if by_layer {
            Scale::ByLayer(root.recip())
        } else {
            Scale::Same(root.recip())
        },
        mlp: Mlp::Plain(c.act("hidden_act", Act::GeluTanh)?),
        head: c.head(true)?,
        biases: vec![Slot::Qkv, Slot::AttnOut, Slot::Up, Slot::Down],
        ..Spec::plain(dims)
    })
}
