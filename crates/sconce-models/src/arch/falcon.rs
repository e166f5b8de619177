//! Falcon in its three forms: 7B (one key/value head, one norm for a parallel block), 40B (groups, two norms), and RW
//! (ALiBi, serial blocks, biases).
//! Reference: transformers `models/falcon/modeling_falcon.py`.

use sconce_nn::{Act, AlibiBias};

use super::Arch;
use super::common::bloom_alibi;
use crate::config_error::ConfigError;
use crate::decoder::{Dims, Mlp, NormKind, Position, Qkv, Residual, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: Arch = Arch {
    names: &["FalconForCausalLM", "RWForCausalLM"],
    eos: Some(11),
    weights: &[&[
        (Slot::Embed, "transformer.word_embeddings"),
        (Slot::AttnNorm, "transformer.h.{}.input_layernorm"),
        (Slot::AttnNorm, "transformer.h.{}.ln_attn"),
        (Slot::Qkv, "transformer.h.{}.self_attention.query_key_value"),
        (Slot::AttnOut, "transformer.h.{}.self_attention.dense"),
        (Slot::MlpNorm, "transformer.h.{}.post_attention_layernorm"),
        (Slot::MlpNorm, "transformer.h.{}.ln_mlp"),
        (Slot::Up, "transformer.h.{}.mlp.dense_h_to_4h"),
        (Slot::Down, "transformer.h.{}.mlp.dense_4h_to_h"),
        (Slot::FinalNorm, "transformer.ln_f"),
        (Slot::Head, "lm_head"),
    ]],
    fixes: &[],
    ignore: &["self_attention.rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.dims(2048)?;
    let grouped = c.flag("new_decoder_architecture", false)?;
    dims.kv_heads = kv_heads(c, &dims, grouped)?;
    let position = if c.flag("alibi", false)? {
        // The bias is added before the scores are scaled.
        let factor = (dims.head as f32).sqrt().recip();
        Position::Alibi(bloom_alibi(dims.heads, AlibiBias::Rounded { factor }))
    } else {
        c.rotary(&mut dims, RopeDefaults::whole(10_000.0))?
    };
    let mut biases = Vec::new();
    if c.flag("bias", false)? {
        biases.extend([Slot::Qkv, Slot::AttnOut, Slot::Up, Slot::Down]);
    }
    let mlp = Mlp::Plain(c.act("hidden_act", Act::Gelu)?);
    Ok(Spec {
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        residual: residual(c, grouped)?,
        qkv: Qkv::PerGroup,
        head: c.head(true)?,
        biases,
        ..Spec::plain(dims, position, mlp)
    })
}

fn kv_heads(c: &HfConfig, dims: &Dims, grouped: bool) -> Result<usize, ConfigError> {
    if !grouped {
        let shared = c.flag("multi_query", true)?;
        return Ok(if shared { 1 } else { dims.heads });
    }
    let (key, divisor) = ("num_attention_heads", "num_key_value_heads");
    let kv_heads = c.size_or(divisor, dims.heads)?;
    c.multiple(key, dims.heads, divisor, kv_heads)?;
    Ok(kv_heads)
}

fn residual(c: &HfConfig, grouped: bool) -> Result<Residual, ConfigError> {
    if !c.flag("parallel_attn", true)? {
        if grouped {
            c.refuse_false("parallel_attn", "true with `new_decoder_architecture`")?;
        }
        return Ok(Residual::Pre);
    }
    let norms = c.size_or("num_ln_in_parallel_attn", if grouped { 2 } else { 1 })?;
    Ok(if grouped && norms == 2 {
        Residual::Parallel
    } else {
        Residual::ParallelShared
    })
}
