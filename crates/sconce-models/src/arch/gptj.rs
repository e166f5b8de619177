//! GPT-J and CodeGen: neighbours rotated together in part of each head, parallel residual with one norm, a bias on the
//! head. CodeGen keeps queries, values and keys in one tensor of four blocks.
//! Reference: transformers `models/gptj/modeling_gptj.py` and `models/codegen/modeling_codegen.py`.

use sconce_nn::{Act, RopeScaling, RopeSpec};

use super::{Arch, Names};
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, Pairing, Position, Qkv, Residual, Slot, Spec};
use crate::hf_config::HfConfig;

/// What both name alike.
const COMMON: Names = &[
    (Slot::Embed, "transformer.wte"),
    (Slot::AttnNorm, "transformer.h.{}.ln_1"),
    (Slot::AttnOut, "transformer.h.{}.attn.out_proj"),
    (Slot::Up, "transformer.h.{}.mlp.fc_in"),
    (Slot::Down, "transformer.h.{}.mlp.fc_out"),
    (Slot::FinalNorm, "transformer.ln_f"),
    (Slot::Head, "lm_head"),
];

const IGNORED: &[&str] = &[
    "attn.bias",
    "attn.masked_bias",
    "attn.causal_mask",
    "attn.embed_positions",
    "rotary_emb.embed_positions",
];

pub(super) const GPTJ: Arch = Arch {
    names: &["GPTJForCausalLM"],
    eos: Some(50_256),
    weights: &[
        COMMON,
        &[
            (Slot::Query, "transformer.h.{}.attn.q_proj"),
            (Slot::Key, "transformer.h.{}.attn.k_proj"),
            (Slot::Value, "transformer.h.{}.attn.v_proj"),
        ],
    ],
    fixes: &[],
    ignore: IGNORED,
    spec: |c| spec(c, Qkv::Split),
};

/// Parts that CodeGen was trained in.
const BLOCKS: usize = 4;

pub(super) const CODEGEN: Arch = Arch {
    names: &["CodeGenForCausalLM"],
    eos: Some(50_256),
    weights: &[COMMON, &[(Slot::Qkv, "transformer.h.{}.attn.qkv_proj")]],
    fixes: &[],
    ignore: IGNORED,
    spec: |c| {
        let heads = c.size("num_attention_heads")?;
        c.multiple(
            "num_attention_heads",
            heads,
            "the blocks of qkv_proj",
            BLOCKS,
        )?;
        spec(c, Qkv::Blocks(BLOCKS))
    },
};

fn spec(c: &HfConfig, qkv: Qkv) -> Result<Spec, ConfigError> {
    let dims = c.dims(2048)?;
    let rope = RopeSpec {
        dim: c.even_size("rotary_dim", 64, dims.head)?,
        theta: 10_000.0,
        scaling: RopeScaling::None,
        amplitude: 1.0,
        max_len: dims.context,
    };
    let mlp = Mlp::Plain(c.act("hidden_act", Act::GeluTanh)?);
    Ok(Spec {
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        residual: Residual::ParallelShared,
        qkv,
        pairing: Pairing::Adjacent,
        head: c.head(false)?,
        biases: vec![Slot::Up, Slot::Down, Slot::Head],
        ..Spec::plain(dims, Position::Rope(vec![rope]), mlp)
    })
}
