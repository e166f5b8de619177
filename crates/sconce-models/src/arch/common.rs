//! What several families share: names of weights and the form that Llama made common.

use sconce_nn::{Act, Alibi, AlibiBias};

use super::Names;
use crate::config_error::ConfigError;
use crate::decoder::{Layer, Mlp, NormKind, Routing, Shared, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

/// Embedding, attention with three projections, and head, as Llama names them.
pub(super) const ATTENTION: Names = &[
    (Slot::Embed, "model.embed_tokens"),
    (Slot::Query, "model.layers.{}.self_attn.q_proj"),
    (Slot::Key, "model.layers.{}.self_attn.k_proj"),
    (Slot::Value, "model.layers.{}.self_attn.v_proj"),
    (Slot::AttnOut, "model.layers.{}.self_attn.o_proj"),
    (Slot::Head, "lm_head"),
];

/// The norms of a pre-norm decoder, as Llama names them.
pub(super) const NORMS: Names = &[
    (Slot::AttnNorm, "model.layers.{}.input_layernorm"),
    (Slot::MlpNorm, "model.layers.{}.post_attention_layernorm"),
    (Slot::FinalNorm, "model.norm"),
];

/// A gated MLP, as Llama names it.
pub(super) const GATED: Names = &[
    (Slot::Gate, "model.layers.{}.mlp.gate_proj"),
    (Slot::Up, "model.layers.{}.mlp.up_proj"),
    (Slot::Down, "model.layers.{}.mlp.down_proj"),
];

/// Norms of queries and keys, as most families name them.
pub(super) const QK_NORMS: Names = &[
    (Slot::QueryNorm, "model.layers.{}.self_attn.q_norm"),
    (Slot::KeyNorm, "model.layers.{}.self_attn.k_norm"),
];

/// Experts and their router, as Qwen names them.
pub(super) const EXPERTS: Names = &[
    (Slot::Router, "model.layers.{}.mlp.gate"),
    (
        Slot::ExpertGate,
        "model.layers.{}.mlp.experts.{item}.gate_proj",
    ),
    (Slot::ExpertUp, "model.layers.{}.mlp.experts.{item}.up_proj"),
    (
        Slot::ExpertDown,
        "model.layers.{}.mlp.experts.{item}.down_proj",
    ),
];

/// What the families of Llama's form assume for absent keys.
pub(super) struct Defaults {
    pub(super) context: usize,
    pub(super) theta: f64,
    pub(super) eps: f64,
    pub(super) tied: bool,
    /// Numbers of a head; `None`: the width over the number of heads.
    pub(super) head: Option<usize>,
}

impl Defaults {
    /// Llama's own.
    pub(super) const LLAMA: Self = Self {
        context: 2048,
        theta: 10_000.0,
        eps: 1e-6,
        tied: false,
        head: None,
    };
}

/// Llama's form: rotary halves, RMS norms before attention and MLP, grouped heads, gated MLP; no biases.
pub(super) fn llama_form(c: &HfConfig, defaults: Defaults) -> Result<Spec, ConfigError> {
    let mut dims = c.grouped_dims(defaults.context)?;
    if let Some(head) = defaults.head {
        dims.head = c.size_or("head_dim", head)?;
    }
    let position = c.rotary(&mut dims, RopeDefaults::whole(defaults.theta))?;
    let mlp = Mlp::Gated(c.act("hidden_act", Act::Silu)?);
    Ok(Spec {
        norm: NormKind::rms(c.float("rms_norm_eps", defaults.eps)?),
        head: c.head(defaults.tied)?,
        ..Spec::plain(dims, position, mlp)
    })
}

/// All four projections of attention.
pub(super) const ATTENTION_BIASES: [Slot; 4] = [Slot::Query, Slot::Key, Slot::Value, Slot::AttnOut];

/// The projections of attention, if `attention_bias` says that they add biases.
pub(super) fn attention_biases(c: &HfConfig) -> Result<Vec<Slot>, ConfigError> {
    let biased = c.flag("attention_bias", false)?;
    Ok(if biased {
        ATTENTION_BIASES.to_vec()
    } else {
        Vec::new()
    })
}

/// Llama's biases: `attention_bias` and `mlp_bias`.
pub(super) fn llama_biases(c: &HfConfig) -> Result<Vec<Slot>, ConfigError> {
    let mut biases = attention_biases(c)?;
    if c.flag("mlp_bias", false)? {
        biases.extend([Slot::Gate, Slot::Up, Slot::Down]);
    }
    Ok(biases)
}

/// The layers with these windows.
pub(super) fn windowed(spec: Spec, windows: &[Option<usize>]) -> Spec {
    spec.with_layers(|index, layer: &mut Layer| layer.window = windows[index])
}

/// The windows of Qwen's dense models: in the layers from `max_window_layers` on, when they are switched on.
pub(super) fn late_windows(c: &HfConfig, layers: usize) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = c.switched_window(Some(4096))?;
    let from = c.count("max_window_layers", 28)?;
    c.windows(layers, window, |layer| layer >= from)
}

/// Experts by the softmax of their scores.
pub(super) fn softmax_routing(picked: usize, renormalise: bool, shared: Shared) -> Routing {
    Routing {
        picked,
        renormalise,
        shared,
    }
}

/// ALiBi with BLOOM's slopes: powers of `2^(-8/n)` for `n` heads, a power of two; the heads beyond take every second
/// slope of twice as many heads (transformers `models/bloom/modeling_bloom.py`, `build_alibi_tensor`).
pub(super) fn bloom_alibi(heads: usize, bias: AlibiBias) -> Alibi {
    let whole = 1 << heads.ilog2();
    let base = |heads: usize| 2f64.powf(-(2f64.powf(-((heads as f64).log2() - 3.0)))) as f32;
    let slope = |base: f32, power: usize| base.powi(power as i32);
    let first = (1..=whole).map(|power| slope(base(whole), power));
    let rest = (0..heads - whole).map(|extra| slope(base(2 * whole), 1 + 2 * extra));
    Alibi {
        slopes: first.chain(rest).collect(),
        bias,
    }
}
