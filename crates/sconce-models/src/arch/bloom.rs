//! BLOOM: ALiBi, a norm of the embeddings, projections fused per head.
//! Reference: transformers `models/bloom/modeling_bloom.py`.

use sconce_nn::{Act, AlibiBias};

use super::Arch;
use super::common::bloom_alibi;
use crate::config_error::ConfigError;
use crate::decoder::{Embed, Mlp, NormKind, Position, Qkv, Residual, Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["BloomForCausalLM"],
    eos: Some(2),
    weights: &[&[
        (Slot::Embed, "transformer.word_embeddings"),
        (Slot::EmbedNorm, "transformer.word_embeddings_layernorm"),
        (Slot::AttnNorm, "transformer.h.{}.input_layernorm"),
        (Slot::Qkv, "transformer.h.{}.self_attention.query_key_value"),
        (Slot::AttnOut, "transformer.h.{}.self_attention.dense"),
        (Slot::MlpNorm, "transformer.h.{}.post_attention_layernorm"),
        (Slot::Up, "transformer.h.{}.mlp.dense_h_to_4h"),
        (Slot::Down, "transformer.h.{}.mlp.dense_4h_to_h"),
        (Slot::FinalNorm, "transformer.ln_f"),
        (Slot::Head, "lm_head"),
    ]],
    fixes: &[],
    ignore: &["self_attention.masked_bias", "self_attention.bias"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    // ALiBi sets no limit; the published models were trained on 2048 tokens (`seq_length`).
    let mut dims = c.dims(c.size_or("seq_length", 2048)?)?;
    dims.inner = 4 * dims.width;
    let from_norm = c.flag("apply_residual_connection_post_layernorm", false)?;
    let alibi = bloom_alibi(dims.heads, AlibiBias::Distance);
    Ok(Spec {
        embed: Embed {
            norm: true,
            ..Embed::default()
        },
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        residual: if from_norm {
            Residual::PreFromNorm
        } else {
            Residual::Pre
        },
        qkv: Qkv::PerGroup,
        head: c.head(true)?,
        biases: vec![Slot::Qkv, Slot::AttnOut, Slot::Up, Slot::Down],
        ..Spec::plain(dims, Position::Alibi(alibi), Mlp::Plain(Act::GeluTanh))
    })
}
