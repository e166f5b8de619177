//! OLMo 1 (layer norms without parameters, clipped projections) and OLMo 2 (RMS norms of outputs, and of all query and
//! all key heads together).
//! Reference: transformers `models/olmo/modeling_olmo.py` and `models/olmo2/modeling_olmo2.py`.

use super::common::{ATTENTION, Defaults, GATED, NORMS, QK_NORMS, attention_biases, llama_form};
use super::{Arch, Names};
use crate::config_error::ConfigError;
use crate::decoder::{Affine, NormKind, QkNorm, QkNormOver, Residual, Slot, Spec};
use crate::hf_config::HfConfig;

const OUTPUT_NORMS: Names = &[
    (
        Slot::AttnOutNorm,
        "model.layers.{}.post_attention_layernorm",
    ),
    (
        Slot::MlpOutNorm,
        "model.layers.{}.post_feedforward_layernorm",
    ),
    (Slot::FinalNorm, "model.norm"),
];

pub(super) const OLMO: Arch = Arch {
    names: &["OlmoForCausalLM"],
    eos: Some(50_279),
    weights: &[ATTENTION, NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: olmo,
};

pub(super) const OLMO2: Arch = Arch {
    names: &["Olmo2ForCausalLM"],
    eos: Some(50_279),
    weights: &[ATTENTION, OUTPUT_NORMS, GATED, QK_NORMS],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: olmo2,
};

fn olmo(c: &HfConfig) -> Result<Spec, ConfigError> {
    let clip = c.optional_float("clip_qkv", None)?;
    Ok(Spec {
        norm: NormKind::Layer {
            eps: 1e-5,
            affine: Affine::None,
        },
        clip_qkv: clip.map(|clip| clip as f32),
        ..common(c)?
    })
}

fn olmo2(c: &HfConfig) -> Result<Spec, ConfigError> {
    let spec = common(c)?;
    let kind = spec.norm;
    Ok(Spec {
        residual: Residual::Output,
        qk_norm: Some(QkNorm {
            kind,
            over: QkNormOver::AllHeads,
        }),
        ..spec
    })
}

fn common(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(
        c,
        Defaults {
            eps: 1e-5,
            ..Defaults::LLAMA
        },
    )?;
    spec.biases = attention_biases(c)?;
    Ok(spec)
}
