//! Llama and all checkpoints that name its class: rotary halves, RMS norms, grouped heads, gated MLP.
//! Reference: transformers `models/llama/modeling_llama.py`.

use super::Arch;
use super::common::{ATTENTION, Defaults, GATED, NORMS, llama_biases, llama_form};
use crate::config_error::ConfigError;
use crate::decoder::Spec;
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["LlamaForCausalLM", "LLaMAForCausalLM"],
    eos: Some(2),
    weights: &[ATTENTION, NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(c, Defaults::LLAMA)?;
    spec.biases = llama_biases(c)?;
    Ok(spec)
}
