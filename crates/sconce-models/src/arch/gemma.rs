//! Gemma 1, 2 and 3 (text): scaled embeddings, RMS weights stored less one. Gemma 2 adds norms of outputs, windows in
//! every second layer and soft caps; Gemma 3 norms of queries and keys, and a rotation of its own in windowed layers.
//! Reference: transformers `models/gemma/modeling_gemma.py`, `models/gemma2/…`, `models/gemma3/…`.

use sconce_nn::Act;

use super::common::{ATTENTION, GATED, QK_NORMS, attention_biases, windowed};
use super::{Arch, Names};
use crate::config_error::ConfigError;
use crate::decoder::{
    Dims, Embed, Logits, Mlp, NormKind, Position, QkNorm, QkNormOver, Residual, Slot, Spec,
};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

/// Four norms in each layer.
const SANDWICH: Names = &[
    (Slot::AttnNorm, "model.layers.{}.input_layernorm"),
    (
        Slot::AttnOutNorm,
        "model.layers.{}.post_attention_layernorm",
    ),
    (Slot::MlpNorm, "model.layers.{}.pre_feedforward_layernorm"),
    (
        Slot::MlpOutNorm,
        "model.layers.{}.post_feedforward_layernorm",
    ),
    (Slot::FinalNorm, "model.norm"),
];

pub(super) const GEMMA: Arch = Arch {
    names: &["GemmaForCausalLM"],
    eos: Some(1),
    weights: &[ATTENTION, super::common::NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: gemma,
};

pub(super) const GEMMA2: Arch = Arch {
    names: &["Gemma2ForCausalLM"],
    eos: Some(1),
    weights: &[ATTENTION, SANDWICH, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: gemma2,
};

pub(super) const GEMMA3: Arch = Arch {
    names: &["Gemma3ForCausalLM"],
    eos: Some(1),
    weights: &[ATTENTION, SANDWICH, GATED, QK_NORMS],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: gemma3,
};

fn gemma(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = sizes(c, 8192)?;
    let position = c.rotary(&mut dims, RopeDefaults::whole(10_000.0))?;
    // The first files say "gelu" where the approximation was trained, and transformers before 5 took it for that.
    let act = match c.act("hidden_activation", Act::GeluTanh)? {
        Act::GeluTanh => match c.act("hidden_act", Act::GeluTanh)? {
            Act::Gelu => Act::GeluTanh,
            other => other,
        },
        other => other,
    };
    common(c, dims, position, act)
}

fn gemma2(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = sizes(c, 8192)?;
    let position = c.rotary(&mut dims, RopeDefaults::whole(10_000.0))?;
    let spec = sandwich(c, dims, position)?;
    let window = c.optional_size("sliding_window", Some(4096))?;
    let windows = c.windows(dims.layers, window, |layer| layer % 2 == 0)?;
    let softcap = c.optional_float("attn_logit_softcapping", Some(50.0))?;
    let logits = Logits {
        softcap: float32(c.optional_float("final_logit_softcapping", Some(30.0))?),
        scale: None,
    };
    let softcap = float32(softcap);
    Ok(windowed(
        Spec {
            softcap,
            logits,
            ..spec
        },
        &windows,
    ))
}

fn gemma3(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = sizes(c, 131_072)?;
    let window = c.optional_size("sliding_window", Some(4096))?;
    let every = c.size_or("sliding_window_pattern", 6)?;
    let local_layers = c.windowed_layers(dims.layers, |layer| (layer + 1) % every != 0)?;
    let global = RopeDefaults::whole(1_000_000.0);
    let local = RopeDefaults::whole(c.float("rope_local_base_freq", 10_000.0)?);
    let far = c.rope_of("full_attention", &dims, global)?;
    dims.context = far.max_len;
    let near = c.local_rope("sliding_attention", &dims, local)?;
    let spec = sandwich(c, dims, Position::Rope(vec![far, near]))?;
    let kind = spec.norm;
    let softcap = float32(c.optional_float("attn_logit_softcapping", None)?);
    let logits = Logits {
        softcap: float32(c.optional_float("final_logit_softcapping", None)?),
        scale: None,
    };
    let spec = Spec {
        softcap,
        logits,
        qk_norm: Some(QkNorm {
            kind,
            over: QkNormOver::Head,
        }),
        ..spec
    };
    Ok(spec.with_layers(|index, layer| {
        layer.rope = Some(usize::from(local_layers[index]));
        layer.window = window.filter(|_| local_layers[index]);
    }))
}

/// Heads have 256 numbers unless the configuration says otherwise.
fn sizes(c: &HfConfig, context: usize) -> Result<Dims, ConfigError> {
    c.refuse_true("use_bidirectional_attention", "false")?;
    let mut dims = c.grouped_dims(context)?;
    dims.head = c.size_or("head_dim", 256)?;
    Ok(dims)
}

/// Gemma 2's and 3's form.
fn sandwich(c: &HfConfig, dims: Dims, position: Position) -> Result<Spec, ConfigError> {
    let act = c.act("hidden_activation", Act::GeluTanh)?;
    let scale = c.float("query_pre_attn_scalar", 256.0)?.powf(-0.5) as f32;
    let spec = Spec {
        residual: Residual::Sandwich,
        ..common(c, dims, position, act)?
    };
    Ok(spec.with_layers(|_, layer| layer.scale = scale))
}

fn common(c: &HfConfig, dims: Dims, position: Position, act: Act) -> Result<Spec, ConfigError> {
    Ok(Spec {
        embed: Embed {
            scale: Some((dims.width as f64).sqrt() as f32),
            norm: false,
        },
        norm: NormKind::Rms {
            eps: c.float("rms_norm_eps", 1e-6)?,
            plus_one: true,
        },
        head: c.head(true)?,
        biases: attention_biases(c)?,
        ..Spec::plain(dims, position, Mlp::Gated(act))
    })
}

fn float32(number: Option<f64>) -> Option<f32> {
    number.map(|number| number as f32)
}
