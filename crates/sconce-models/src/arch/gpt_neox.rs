//! GPT-NeoX and Pythia: partial rotary halves, layer norms, projections fused per head, parallel residual.
//! Reference: transformers `models/gpt_neox/modeling_gpt_neox.py`.

use sconce_nn::Act;

use super::Arch;
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, Qkv, Residual, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: Arch = Arch {
    names: &["GPTNeoXForCausalLM"],
    eos: Some(2),
    weights: &[&[
        (Slot::Embed, "gpt_neox.embed_in"),
        (Slot::AttnNorm, "gpt_neox.layers.{}.input_layernorm"),
        (Slot::Qkv, "gpt_neox.layers.{}.attention.query_key_value"),
        (Slot::AttnOut, "gpt_neox.layers.{}.attention.dense"),
        (Slot::MlpNorm, "gpt_neox.layers.{}.post_attention_layernorm"),
        (Slot::Up, "gpt_neox.layers.{}.mlp.dense_h_to_4h"),
        (Slot::Down, "gpt_neox.layers.{}.mlp.dense_4h_to_h"),
        (Slot::FinalNorm, "gpt_neox.final_layer_norm"),
        (Slot::Head, "embed_out"),
    ]],
    fixes: &[],
    ignore: &[
        "rotary_emb.inv_freq",
        "attention.bias",
        "attention.masked_bias",
    ],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.dims(2048)?;
    let rope = RopeDefaults {
        theta: 10_000.0,
        share: 0.25,
    };
    let position = c.rotary(&mut dims, rope)?;
    let mut biases = vec![Slot::Up, Slot::Down];
    if c.flag("attention_bias", true)? {
        biases.extend([Slot::Qkv, Slot::AttnOut]);
    }
    let parallel = c.flag("use_parallel_residual", true)?;
    let mlp = Mlp::Plain(c.act("hidden_act", Act::Gelu)?);
    Ok(Spec {
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        residual: if parallel {
            Residual::Parallel
        } else {
            Residual::Pre
        },
        qkv: Qkv::PerGroup,
        head: c.head(false)?,
        biases,
        ..Spec::plain(dims, position, mlp)
    })
}
