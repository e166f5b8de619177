//! GPT-Neo: GPT-2 with three projections, unscaled scores, and a window in the layers that `attention_types` calls local.
//! Reference: transformers `models/gpt_neo/modeling_gpt_neo.py`.

use sconce_nn::Act;
use serde_json::Value;

use super::Arch;
use crate::config_error::ConfigError;
use crate::decoder::{Mlp, NormKind, Position, Slot, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["GPTNeoForCausalLM"],
    eos: Some(50_256),
    weights: &[&[
        (Slot::Embed, "transformer.wte"),
        (Slot::Position, "transformer.wpe"),
        (Slot::AttnNorm, "transformer.h.{}.ln_1"),
        (Slot::Query, "transformer.h.{}.attn.attention.q_proj"),
        (Slot::Key, "transformer.h.{}.attn.attention.k_proj"),
        (Slot::Value, "transformer.h.{}.attn.attention.v_proj"),
        (Slot::AttnOut, "transformer.h.{}.attn.attention.out_proj"),
        (Slot::MlpNorm, "transformer.h.{}.ln_2"),
        (Slot::Up, "transformer.h.{}.mlp.c_fc"),
        (Slot::Down, "transformer.h.{}.mlp.c_proj"),
        (Slot::FinalNorm, "transformer.ln_f"),
        (Slot::Head, "lm_head"),
    ]],
    fixes: &[],
    ignore: &["attn.attention.bias", "attn.attention.masked_bias"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let dims = c.dims(2048)?;
    let (local, window) = (
        local_layers(c, dims.layers)?,
        c.size_or("window_size", 256)?,
    );
    let mlp = Mlp::Plain(c.act("hidden_act", Act::GeluTanh)?);
    let spec = Spec {
        norm: NormKind::layer(c.float("layer_norm_eps", 1e-5)?),
        head: c.head(true)?,
        biases: vec![Slot::AttnOut, Slot::Up, Slot::Down],
        ..Spec::plain(dims, Position::Learned, mlp)
    };
    Ok(spec.with_layers(|index, layer| {
        layer.scale = 1.0;
        layer.window = local[index].then_some(window);
    }))
}

/// Whether each layer is local, from `[[["global", "local"], 12]]`, which is the default: pairs of kinds and how often
/// they are repeated.
fn local_layers(c: &HfConfig, layers: usize) -> Result<Vec<bool>, ConfigError> {
    const WANTED: &str = "pairs of a list of \"global\" and \"local\" and a count, which make as many kinds as layers, \
                          such as [[[\"global\", \"local\"], 12]]";
    let Some((key, value)) = c.find("attention_types") else {
        return Ok((0..layers).map(|layer| layer % 2 == 1).collect());
    };
    let kind = |value: &Value| match value.as_str()? {
        "global" => Some(false),
        "local" => Some(true),
        _ => None,
    };
    let run = |pair: &Value| -> Option<Vec<bool>> {
        let kinds: Option<Vec<bool>> = pair.get(0)?.as_array()?.iter().map(kind).collect();
        let count = pair
            .get(1)?
            .as_u64()
            .filter(|&count| count <= layers as u64)?;
        Some(kinds?.repeat(count as usize))
    };
    let runs: Option<Vec<Vec<bool>>> = value
        .as_array()
        .and_then(|pairs| pairs.iter().map(run).collect());
    runs.map(|runs| runs.concat())
        .filter(|kinds| kinds.len() == layers)
        .ok_or_else(|| c.unsupported(key, value, WANTED))
}
