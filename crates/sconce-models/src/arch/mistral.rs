//! Mistral 7B and its kin: Llama's form with a window in every layer, unless the configuration says null.
//! Reference: transformers `models/mistral/modeling_mistral.py`.

use super::Arch;
use super::common::{ATTENTION, Defaults, GATED, NORMS, llama_form, windowed};
use crate::config_error::ConfigError;
use crate::decoder::Spec;
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["MistralForCausalLM"],
    eos: Some(2),
    weights: &[ATTENTION, NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let spec = llama_form(
        c,
        Defaults {
            context: 131_072,
            ..Defaults::LLAMA
        },
    )?;
    let window = c.optional_size("sliding_window", Some(4096))?;
    let windows = vec![window; spec.dims.layers];
    Ok(windowed(spec, &windows))
}
