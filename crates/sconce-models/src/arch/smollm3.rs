//! SmolLM 3: Llama's form in which every fourth layer does not see positions.
//! Reference: transformers `models/smollm3/modeling_smollm3.py`.

use super::Arch;
use super::common::{ATTENTION, Defaults, GATED, NORMS, llama_biases, llama_form};
use crate::config_error::ConfigError;
use crate::decoder::Spec;
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["SmolLM3ForCausalLM"],
    eos: Some(128_001),
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
            theta: 2_000_000.0,
            tied: true,
            ..Defaults::LLAMA
        },
    )?;
    spec.biases = llama_biases(c)?;
    let layers = spec.dims.layers;
    let every = c.size_or("no_rope_layer_interval", 4)?;
    // The list says of each layer whether it is rotated, in spite of its name.
    let rotated = c.layer_list("no_rope_layers")?;
    let rotated = |layer: usize| match rotated.get(layer) {
        Some(flag) => *flag != 0,
        None => !(layer + 1).is_multiple_of(every),
    };
    let window = c.switched_window(None)?;
    let windows = c.windows(layers, window, |layer| !rotated(layer))?;
    Ok(spec.with_layers(|index, layer| {
        layer.window = windows[index];
        layer.rope = rotated(index).then_some(0);
    }))
}
