//! Command R: a parallel block with one layer norm without bias, neighbours rotated together, scaled logits; Command
//! R+ normalises heads, and Command R7B sees positions in windowed layers only.
//! Reference: transformers `models/cohere/modeling_cohere.py` and `models/cohere2/modeling_cohere2.py`.

use sconce_nn::Act;

use super::Arch;
use super::common::{ATTENTION, GATED, NORMS, QK_NORMS, attention_biases};
use crate::config_error::ConfigError;
use crate::decoder::{Affine, Logits, Mlp, NormKind, Pairing, QkNorm, QkNormOver, Residual, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const COHERE: Arch = Arch {
    names: &["CohereForCausalLM"],
    eos: Some(255_001),
    weights: &[ATTENTION, NORMS, GATED, QK_NORMS],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: |c| common(c, 500_000.0),
};

pub(super) const COHERE2: Arch = Arch {
    names: &["Cohere2ForCausalLM"],
    eos: Some(255_001),
    weights: &[ATTENTION, NORMS, GATED],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec: cohere2,
};

fn cohere2(c: &HfConfig) -> Result<Spec, ConfigError> {
    let spec = common(c, 10_000.0)?;
    let window = c.optional_size("sliding_window", Some(4096))?;
    let every = c.size_or("sliding_window_pattern", 4)?;
    let windows = c.windows(spec.dims.layers, window, |layer| (layer + 1) % every != 0)?;
    Ok(spec.with_layers(|index, layer| {
        layer.window = windows[index];
        layer.rope = windows[index].and(layer.rope);
    }))
}

fn common(c: &HfConfig, theta: f64) -> Result<Spec, ConfigError> {
    let mut dims = c.grouped_dims(8192)?;
    let position = c.rotary(&mut dims, RopeDefaults::whole(theta))?;
    let norm = NormKind::Layer {
        eps: c.float("layer_norm_eps", 1e-5)?,
        affine: Affine::Weight,
    };
    let heads_too = c.flag("use_qk_norm", false)?;
    let mlp = Mlp::Gated(c.act("hidden_act", Act::Silu)?);
    Ok(Spec {
        norm,
        residual: Residual::ParallelShared,
        pairing: Pairing::Adjacent,
        qk_norm: heads_too.then_some(QkNorm {
            kind: norm,
            over: QkNormOver::OwnHead,
        }),
        head: c.head(true)?,
        logits: Logits {
            scale: Some(c.float("logit_scale", 0.0625)? as f32),
            softcap: None,
        },
        biases: attention_biases(c)?,
        ..Spec::plain(dims, position, mlp)
    })
}
