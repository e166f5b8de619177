//! Phi 1, 1.5 and 2: partial rotary halves, a parallel block with one layer norm, biases everywhere.
//! Reference: transformers `models/phi/modeling_phi.py`.

use sconce_nn::Act;

use super::Arch;
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, QkNorm, QkNormOver, Residual, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: Arch = Arch {
    names: &["PhiForCausalLM"],
    eos: Some(2),
    weights: &[&[
        (Slot::Embed, "model.embed_tokens"),
        (Slot::AttnNorm, "model.layers.{}.input_layernorm"),
        (Slot::Query, "model.layers.{}.self_attn.q_proj"),
        (Slot::Key, "model.layers.{}.self_attn.k_proj"),
        (Slot::Value, "model.layers.{}.self_attn.v_proj"),
        (Slot::QueryNorm, "model.layers.{}.self_attn.q_layernorm"),
        (Slot::KeyNorm, "model.layers.{}.self_attn.k_layernorm"),
        (Slot::AttnOut, "model.layers.{}.self_attn.dense"),
        (Slot::Up, "model.layers.{}.mlp.fc1"),
        (Slot::Down, "model.layers.{}.mlp.fc2"),
        (Slot::FinalNorm, "model.final_layernorm"),
        (Slot::Head, "lm_head"),
    ]],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.grouped_dims(2048)?;
    let rope = RopeDefaults {
        theta: 10_000.0,
        share: 0.5,
    };
    let position = c.rotary(&mut dims, rope)?;
    let norm = NormKind::layer(c.float("layer_norm_eps", 1e-5)?);
    let heads_too = c.flag("qk_layernorm", false)?;
    let mut biases = super::common::ATTENTION_BIASES.to_vec();
    biases.extend([Slot::Up, Slot::Down, Slot::Head]);
    let mlp = Mlp::Plain(c.act("hidden_act", Act::GeluTanh)?);
    Ok(Spec {
        norm,
        residual: Residual::ParallelShared,
        qk_norm: heads_too.then_some(QkNorm {
            kind: norm,
            over: QkNormOver::Head,
        }),
        head: c.head(false)?,
        biases,
        ..Spec::plain(dims, position, mlp)
    })
}
