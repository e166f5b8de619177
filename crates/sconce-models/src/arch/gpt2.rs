//! GPT-2: learned positions, layer norms, stacked and transposed projections, tied head.
//! Reference: transformers `models/gpt2/modeling_gpt2.py`.

use sconce_nn::Act;

use super::{Arch, Fix, Names};
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, Position, Qkv, Slot, Spec};
use crate::hf_config::HfConfig;

/// Names that GPT-BigCode has too.
pub(super) const WEIGHTS: Names = &[
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
];

pub(super) const ARCH: Arch = Arch {
    names: &["GPT2LMHeadModel"],
    eos: Some(50_256),
    weights: &[WEIGHTS],
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
    let by_layer = c.flag("scale_attn_by_inverse_layer_idx", false)?;
    Ok(common(c, Act::GeluTanh)?.with_layers(|index, layer| {
        if by_layer {
            layer.scale /= (index + 1) as f32;
        }
    }))
}

/// What GPT-BigCode has too; `act` is the default activation.
pub(super) fn common(c: &HfConfig, act: Act) -> Result<Spec, ConfigError> {
    let dims = c.dims(1024)?;
    c.refuse_true(
        "add_cross_attention",
        "false (there is no encoder to attend to)",
    )?;
    let scaled = c.flag("scale_attn_weights", true)?;
    let mlp = Mlp::Plain(c.act("hidden_act", act)?);
    let spec = Spec {
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        qkv: Qkv::Stacked,
        head: c.head(true)?,
        biases: vec![Slot::Qkv, Slot::AttnOut, Slot::Up, Slot::Down],
        ..Spec::plain(dims, Position::Learned, mlp)
    };
    Ok(spec.with_layers(|_, layer| {
        if !scaled {
            layer.scale = 1.0;
        }
    }))
}
