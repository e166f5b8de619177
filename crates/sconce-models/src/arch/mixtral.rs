//! Mixtral: Mistral's attention, and experts of which each token uses two.
//! Reference: transformers `models/mixtral/modeling_mixtral.py`.

use sconce_nn::Act;

use super::common::{ATTENTION, Defaults, NORMS, llama_form, softmax_routing, windowed};
use super::{Arch, Names};
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, Shared, Slot, Spec};
use crate::hf_config::HfConfig;

const EXPERTS: Names = &[
    (Slot::Router, "model.layers.{}.block_sparse_moe.gate"),
    (
        Slot::ExpertGate,
        "model.layers.{}.block_sparse_moe.experts.{item}.w1",
    ),
    (
        Slot::ExpertUp,
        "model.layers.{}.block_sparse_moe.experts.{item}.w3",
    ),
    (
        Slot::ExpertDown,
        "model.layers.{}.block_sparse_moe.experts.{item}.w2",
    ),
];

pub(super) const ARCH: Arch = Arch {
    names: &["MixtralForCausalLM"],
    eos: Some(2),
    weights: &[ATTENTION, NORMS, EXPERTS],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(
        c,
        Defaults {
            context: 131_072,
            theta: 1_000_000.0,
            eps: 1e-5,
            ..Defaults::LLAMA
        },
    )?;
    spec.dims.experts = c.size_or("num_experts", 8)?;
    spec.dims.expert = spec.dims.inner;
    let picked = c.picked_experts(2, spec.dims.experts)?;
    let routing = softmax_routing(picked, true, Shared::None);
    let act = c.act("hidden_act", Act::Silu)?;
    let window = c.optional_size("sliding_window", None)?;
    let windows = vec![window; spec.dims.layers];
    Ok(windowed(spec, &windows).with_layers(|_, layer| layer.mlp = Mlp::Experts(act, routing)))
}
