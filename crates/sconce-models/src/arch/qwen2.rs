//! Qwen 2 and 2.5: Llama's form with biases on queries, keys and values; later layers may have a window.
//! Reference: transformers `models/qwen2/modeling_qwen2.py`.

use super::Arch;
use super::common::{ATTENTION, Defaults, GATED, NORMS, late_windows, llama_form, windowed};
use crate::config_error::ConfigError;
use crate::decoder::{Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["Qwen2ForCausalLM"],
    eos: None,
    weights: &[ATTENTION, NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = llama_form(
        c,
        Defaults {
            context: 32_768,
            ..Defaults::LLAMA
        },
    )?;
    spec.biases = vec![Slot::Query, Slot::Key, Slot::Value];
    let windows = late_windows(c, spec.dims.layers)?;
    Ok(windowed(spec, &windows))
}
