//! OPT: learned positions after two for padding, layer norms before (350m: after) attention and MLP; 350m projects
//! its embeddings.
//! Reference: transformers `models/opt/modeling_opt.py`.

use sconce_nn::Act;

use super::Arch;
use crate::config_error::ConfigError;
use crate::decoder::{Affine, Mlp, NormKind, Position, Residual, Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["OPTForCausalLM"],
    eos: Some(2),
    weights: &[&[
        (Slot::Embed, "model.decoder.embed_tokens"),
        (Slot::EmbedIn, "model.decoder.project_in"),
        (Slot::Position, "model.decoder.embed_positions"),
        (
            Slot::AttnNorm,
            "model.decoder.layers.{}.self_attn_layer_norm",
        ),
        (Slot::Query, "model.decoder.layers.{}.self_attn.q_proj"),
        (Slot::Key, "model.decoder.layers.{}.self_attn.k_proj"),
        (Slot::Value, "model.decoder.layers.{}.self_attn.v_proj"),
        (Slot::AttnOut, "model.decoder.layers.{}.self_attn.out_proj"),
        (Slot::MlpNorm, "model.decoder.layers.{}.final_layer_norm"),
        (Slot::Up, "model.decoder.layers.{}.fc1"),
        (Slot::Down, "model.decoder.layers.{}.fc2"),
        (Slot::FinalNorm, "model.decoder.final_layer_norm"),
        (Slot::HeadIn, "model.decoder.project_out"),
        (Slot::Head, "lm_head"),
    ]],
    fixes: &[],
    ignore: &[],
    spec,
};

/// Rows of the table of positions before that of position 0.
const PADDING: usize = 2;

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.dims(2048)?;
    dims.positions = dims.context + PADDING;
    dims.embed = c.size_or("word_embed_proj_dim", dims.width)?;
    let before = c.flag("do_layer_norm_before", true)?;
    let affine = if c.flag("layer_norm_elementwise_affine", true)? {
        Affine::Full
    } else {
        Affine::None
    };
    let mut biases = Vec::new();
    if c.flag("enable_bias", true)? {
        biases.extend(super::common::ATTENTION_BIASES);
        biases.extend([Slot::Up, Slot::Down]);
    }
    let mlp = Mlp::Plain(c.act("hidden_act", Act::Relu)?);
    Ok(Spec {
        norm: NormKind::Layer { eps: 1e-5, affine },
        residual: if before {
            Residual::Pre
        } else {
            Residual::Post
        },
        final_norm: before && !c.flag("_remove_final_layer_norm", false)?,
        head: c.head(true)?,
        biases,
        ..Spec::plain(dims, Position::Learned, mlp)
    })
}
