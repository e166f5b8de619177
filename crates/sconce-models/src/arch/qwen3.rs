//! Qwen 3: Llama's form with a norm of each query and key head; later layers may have a window.
//! Reference: transformers `models/qwen3/modeling_qwen3.py`.

use super::Arch;
use super::common::{
    ATTENTION, Defaults, GATED, NORMS, QK_NORMS, attention_biases, late_windows, llama_form,
    windowed,
};
use crate::config_error::ConfigError;
use crate::decoder::{QkNorm, QkNormOver, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["Qwen3ForCausalLM"],
    eos: None,
    weights: &[ATTENTION, NORMS, GATED, QK_NORMS],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let spec = attention(c)?;
    let windows = late_windows(c, spec.dims.layers)?;
    Ok(windowed(spec, &windows))
}

/// Qwen 3's attention, with a dense MLP. Its heads have 128 numbers unless the configuration says otherwise.
pub(super) fn attention(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(
        c,
        Defaults {
            head: Some(128),
            context: 32_768,
            ..Defaults::LLAMA
        },
    )?;
    spec.qk_norm = Some(QkNorm {
        kind: spec.norm,
        over: QkNormOver::Head,
    });
    spec.biases = attention_biases(c)?;
    Ok(spec)
}
