//! Phi 3, 3.5 and 4: Llama's form with fused projections, a window in every layer, LongRoPE in the long models.
//! Reference: transformers `models/phi3/modeling_phi3.py`.

use super::Arch;
use super::common::{ATTENTION, Defaults, NORMS, llama_form, windowed};
use crate::config_error::ConfigError;
use crate::decoder::{Qkv, Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["Phi3ForCausalLM"],
    eos: Some(32_000),
    weights: &[
        ATTENTION,
        NORMS,
        &[
            (Slot::Qkv, "model.layers.{}.self_attn.qkv_proj"),
            (Slot::GateUp, "model.layers.{}.mlp.gate_up_proj"),
            (Slot::Down, "model.layers.{}.mlp.down_proj"),
        ],
    ],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(
        c,
        Defaults {
            context: 4096,
            eps: 1e-5,
            ..Defaults::LLAMA
        },
    )?;
    spec.qkv = Qkv::Stacked;
    let window = c.optional_size("sliding_window", None)?;
    let windows = vec![window; spec.dims.layers];
    Ok(windowed(spec, &windows))
}
