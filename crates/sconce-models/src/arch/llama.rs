//! Llama and all checkpoints that name its class: rotary halves, RMS norms, grouped heads, gated MLP.
//! Reference: transformers `models/llama/modeling_llama.py`.

use sconce_nn::Act;

use super::Arch;
use crate::config_error::ConfigError;
use crate::decoder::{Dims, Mlp, NormKind, Position, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: Arch = Arch {
    names: &["LlamaForCausalLM"],
    eos: 2,
    weights: &[
        (Slot::Embed, "model.embed_tokens"),
        (Slot::AttnNorm, "model.layers.{}.input_layernorm"),
        (Slot::Query, "model.layers.{}.self_attn.q_proj"),
        (Slot::Key, "model.layers.{}.self_attn.k_proj"),
        (Slot::Value, "model.layers.{}.self_attn.v_proj"),
        (Slot::AttnOut, "model.layers.{}.self_attn.o_proj"),
        (Slot::MlpNorm, "model.layers.{}.post_attention_layernorm"),
        (Slot::Gate, "model.layers.{}.mlp.gate_proj"),
        (Slot::Up, "model.layers.{}.mlp.up_proj"),
        (Slot::Down, "model.layers.{}.mlp.down_proj"),
        (Slot::FinalNorm, "model.norm"),
        (Slot::Head, "lm_head"),
    ],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let plain = c.dims(2048)?;
    let kv_heads = c.size_or("num_key_value_heads", plain.heads)?;
    c.multiple(
        "num_attention_heads",
        plain.heads,
        "num_key_value_heads",
        kv_heads,
    )?;
    let dims = Dims {
        kv_heads,
        head: c.size_or("head_dim", plain.head)?,
        ..plain
    };
    let mut biases = Vec::new();
    if c.flag("attention_bias", false)? {
        biases.extend([Slot::Query, Slot::Key, Slot::Value, Slot::AttnOut]);
    }
    if c.flag("mlp_bias", false)? {
        biases.extend([Slot::Gate, Slot::Up, Slot::Down]);
    }
    Ok(Spec {
        position: Position::Rope(c.rope(
            &dims,
            RopeDefaults {
                theta: 10_000.0,
                share: 1.0,
            },
        )?),
        norm: NormKind::Rms {
            eps: c.float("rms_norm_eps", 1e-6)?,
        },
        mlp: Mlp::Gated(c.act("hidden_act", Act::Silu)?),
        head: c.head(false)?,
        biases,
        ..Spec::plain(dims)
    })
}
