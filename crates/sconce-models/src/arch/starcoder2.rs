//! StarCoder 2: rotary halves, layer norms, grouped heads, a plain MLP, biases everywhere, a window in every layer.
//! Reference: transformers `models/starcoder2/modeling_starcoder2.py`.

use sconce_nn::Act;

use super::Arch;
use super::common::{ATTENTION, ATTENTION_BIASES, NORMS, windowed};
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: Arch = Arch {
    names: &["Starcoder2ForCausalLM"],
    eos: Some(50_256),
    weights: &[
        ATTENTION,
        NORMS,
        &[
            (Slot::Up, "model.layers.{}.mlp.c_fc"),
            (Slot::Down, "model.layers.{}.mlp.c_proj"),
        ],
    ],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.grouped_dims(4096)?;
    dims.inner = c.size_or("intermediate_size", 12_288)?;
    let position = c.rotary(&mut dims, RopeDefaults::whole(10_000.0))?;
    let mut biases = Vec::new();
    if c.flag("use_bias", true)? {
        biases.extend(ATTENTION_BIASES);
        biases.extend([Slot::Up, Slot::Down]);
    }
    let window = c.optional_size("sliding_window", None)?;
    let mlp = Mlp::Plain(c.act("hidden_act", Act::GeluTanh)?);
    let spec = Spec {
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        head: c.head(true)?,
        biases,
        ..Spec::plain(dims, position, mlp)
    };
    Ok(windowed(spec, &vec![window; dims.layers]))
}
