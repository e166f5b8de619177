//! StableLM: Llama's form with layer norms and partial rotary halves; StableLM 2 12B is parallel and normalises heads.
//! Reference: transformers `models/stablelm/modeling_stablelm.py`.

use sconce_nn::Act;

use super::Arch;
use super::common::{ATTENTION, GATED, NORMS};
use crate::config_error::ConfigError;
use crate::decoder::{Affine, Mlp, NormKind, QkNorm, QkNormOver, Residual, Slot, Spec};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: Arch = Arch {
    names: &["StableLmForCausalLM", "StableLMEpochForCausalLM"],
    eos: Some(0),
    weights: &[
        ATTENTION,
        NORMS,
        GATED,
        &[
            (
                Slot::QueryNorm,
                "model.layers.{}.self_attn.q_layernorm.norms.{item}",
            ),
            (
                Slot::KeyNorm,
                "model.layers.{}.self_attn.k_layernorm.norms.{item}",
            ),
        ],
    ],
    fixes: &[],
    ignore: &["rotary_emb.inv_freq"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut dims = c.grouped_dims(4096)?;
    let rope = RopeDefaults {
        theta: 10_000.0,
        share: 0.25,
    };
    let position = c.rotary(&mut dims, rope)?;
    let eps = c.float("layer_norm_eps", 1e-5)?;
    let mut biases = Vec::new();
    if c.flag("use_qkv_bias", false)? {
        biases.extend([Slot::Query, Slot::Key, Slot::Value]);
    }
    let parallel = c.flag("use_parallel_residual", false)?;
    let heads_too = c.flag("qk_layernorm", false)?;
    let mlp = Mlp::Gated(c.act("hidden_act", Act::Silu)?);
    Ok(Spec {
        norm: NormKind::layer(eps),
        residual: if parallel {
            Residual::ParallelShared
        } else {
            Residual::Pre
        },
        qk_norm: heads_too.then_some(QkNorm {
            kind: NormKind::Layer {
                eps,
                affine: Affine::Weight,
            },
            over: QkNormOver::OwnHead,
        }),
        head: c.head(false)?,
        biases,
        ..Spec::plain(dims, position, mlp)
    })
}
