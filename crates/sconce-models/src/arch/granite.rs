//! Granite: Llama's form with factors for embeddings, scores, outputs and logits.
//! Reference: transformers `models/granite/modeling_granite.py`.

use super::Arch;
use super::common::{ATTENTION, Defaults, GATED, NORMS, llama_biases, llama_form};
use crate::config_error::ConfigError;
use crate::decoder::Spec;
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["GraniteForCausalLM"],
    eos: Some(2),
    weights: &[ATTENTION, NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(c, Defaults::LLAMA)?;
    spec.biases = llama_biases(c)?;
    spec.embed.scale = Some(c.float("embedding_multiplier", 1.0)? as f32);
    spec.residual_scale = c.float("residual_multiplier", 1.0)? as f32;
    spec.logits.scale = Some(c.float("logits_scaling", 1.0)?.recip() as f32);
    let scale = c.float("attention_multiplier", 1.0)? as f32;
    Ok(spec.with_layers(|_, layer| layer.scale = scale))
}
