//! Qwen's mixtures of experts: Qwen 2's attention with an expert that all tokens share, Qwen 3's without.
//! Reference: transformers `models/qwen2_moe/modeling_qwen2_moe.py` and `models/qwen3_moe/modeling_qwen3_moe.py`.

use sconce_nn::Act;

use super::common::{
    ATTENTION, Defaults, EXPERTS, GATED, NORMS, QK_NORMS, llama_form, softmax_routing, windowed,
};
use super::{Arch, Names, qwen3};
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, Shared, Slot, Spec};
use crate::hf_config::HfConfig;

const SHARED: Names = &[
    (Slot::SharedRouter, "model.layers.{}.mlp.shared_expert_gate"),
    (
        Slot::SharedGate,
        "model.layers.{}.mlp.shared_expert.gate_proj",
    ),
    (Slot::SharedUp, "model.layers.{}.mlp.shared_expert.up_proj"),
    (
        Slot::SharedDown,
        "model.layers.{}.mlp.shared_expert.down_proj",
    ),
];

pub(super) const QWEN2: Arch = Arch {
    names: &["Qwen2MoeForCausalLM"],
    eos: None,
    weights: &[ATTENTION, NORMS, GATED, EXPERTS, SHARED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: qwen2_spec,
};

pub(super) const QWEN3: Arch = Arch {
    names: &["Qwen3MoeForCausalLM"],
    eos: None,
    weights: &[ATTENTION, NORMS, GATED, EXPERTS, QK_NORMS],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: qwen3_spec,
};

fn qwen2_spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(
        c,
        Defaults {
            context: 32_768,
            ..Defaults::LLAMA
        },
    )?;
    if c.flag("qkv_bias", true)? {
        spec.biases = vec![Slot::Query, Slot::Key, Slot::Value];
    }
    let layers = spec.dims.layers;
    let window = c.switched_window(Some(4096))?;
    let windowed_below = c.count("max_window_layers", 28)?;
    let windows = c.windows(layers, window, |layer| {
        layer % 2 == 0 && layer < windowed_below
    })?;
    spec.dims.shared = c.size_or("shared_expert_intermediate_size", 5632)?;
    let spec = experts(c, spec, (60, 1408, 4), Shared::Gated)?;
    Ok(windowed(spec, &windows))
}

fn qwen3_spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let spec = qwen3::attention(c)?;
    let window = c.switched_window(Some(4096))?;
    let windows = vec![window; spec.dims.layers];
    let spec = experts(c, spec, (128, 768, 8), Shared::None)?;
    Ok(windowed(spec, &windows))
}

/// Every `decoder_sparse_step`th layer has experts, but for those in `mlp_only_layers`. The defaults are the number of
/// experts, their inner width, and how many a token uses.
fn experts(
    c: &HfConfig,
    mut spec: Spec,
    (count, inner, picked): (usize, usize, usize),
    shared: Shared,
) -> Result<Spec, ConfigError> {
    spec.dims.experts = c.size_or("num_experts", count)?;
    spec.dims.expert = c.size_or("moe_intermediate_size", inner)?;
    let picked = c.picked_experts(picked, spec.dims.experts)?;
    let routing = softmax_routing(picked, c.flag("norm_topk_prob", false)?, shared);
    let (every, dense) = (
        c.size_or("decoder_sparse_step", 1)?,
        c.layer_list("mlp_only_layers")?,
    );
    let act = c.act("hidden_act", Act::Silu)?;
    Ok(spec.with_layers(|index, layer| {
        if !dense.contains(&index) && (index + 1) % every == 0 {
            layer.mlp = Mlp::Experts(act, routing);
        }
    }))
}
