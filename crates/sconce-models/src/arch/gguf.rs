//! The families as GGUF files have them: llama.cpp's names for architectures and weights, and in what its converter
//! (`convert_hf_to_gguf.py`) changes what a family's checkpoint has. Sizes and features come from the family's own
//! file here; how keys become those of a `config.json` is told in `crate::gguf`.

use super::{Arch, Names};
use super::{bloom, cohere, falcon, gemma, gpt_bigcode, gpt_neox, gpt2, granite, llama, mixtral};
use super::{mpt, olmo, phi, phi3, qwen_moe, qwen2, qwen3, smollm3, stablelm, starcoder2};
use crate::config_error::ConfigError;
use crate::decoder::{NormKind, Pairing, QkNorm, Qkv, Slot, Spec};
use crate::gguf::Keys;

/// One architecture of llama.cpp.
pub(crate) struct Family {
    /// `general.architecture`.
    pub(crate) name: &'static str,
    /// The family with the names of weights that such files have.
    pub(crate) arch: Arch,
    /// Settings that only this family has.
    pub(crate) settings: fn(&mut Keys) -> Result<(), ConfigError>,
    /// In what the file differs from the family's checkpoints.
    changes: &'static [Change],
}

/// What the converter does to weights of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Rows of queries and keys are moved so that neighbours are rotated together.
    Permuted,
    /// One is added to the weights of norms.
    NormsPlusOne,
}

/// Names that all families share; those of slots that a family lacks are never asked for.
const COMMON: Names = &[
    (Slot::Embed, "token_embd"),
    (Slot::EmbedNorm, "token_embd_norm"),
    (Slot::Position, "position_embd"),
    (Slot::Qkv, "blk.{}.attn_qkv"),
    (Slot::Query, "blk.{}.attn_q"),
    (Slot::Key, "blk.{}.attn_k"),
    (Slot::Value, "blk.{}.attn_v"),
    (Slot::QueryNorm, "blk.{}.attn_q_norm"),
    (Slot::KeyNorm, "blk.{}.attn_k_norm"),
    (Slot::AttnOut, "blk.{}.attn_output"),
    (Slot::AttnOutNorm, "blk.{}.post_attention_norm"),
    (Slot::MlpOutNorm, "blk.{}.post_ffw_norm"),
    (Slot::Down, "blk.{}.ffn_down"),
    (Slot::Router, "blk.{}.ffn_gate_inp"),
    // Stacked ones are taken apart by the source; files of 2023 have a tensor for each.
    (Slot::ExpertGate, "blk.{}.ffn_gate_exps.{item}"),
    (Slot::ExpertGate, "blk.{}.ffn_gate.{item}"),
    (Slot::ExpertUp, "blk.{}.ffn_up_exps.{item}"),
    (Slot::ExpertUp, "blk.{}.ffn_up.{item}"),
    (Slot::ExpertDown, "blk.{}.ffn_down_exps.{item}"),
    (Slot::ExpertDown, "blk.{}.ffn_down.{item}"),
    (Slot::SharedRouter, "blk.{}.ffn_gate_inp_shexp"),
    (Slot::SharedGate, "blk.{}.ffn_gate_shexp"),
    (Slot::SharedUp, "blk.{}.ffn_up_shexp"),
    (Slot::SharedDown, "blk.{}.ffn_down_shexp"),
    (Slot::FinalNorm, "output_norm"),
    (Slot::Head, "output"),
];

const NORMS: Names = &[
    (Slot::AttnNorm, "blk.{}.attn_norm"),
    (Slot::MlpNorm, "blk.{}.ffn_norm"),
];

/// Falcon 40B calls the norm before attention its second one.
const FALCON_NORMS: Names = &[
    (Slot::AttnNorm, "blk.{}.attn_norm_2"),
    (Slot::AttnNorm, "blk.{}.attn_norm"),
    (Slot::MlpNorm, "blk.{}.attn_norm"),
];

const MLP: Names = &[(Slot::Gate, "blk.{}.ffn_gate"), (Slot::Up, "blk.{}.ffn_up")];

/// Phi 3 keeps gate and up in one tensor.
const FUSED_MLP: Names = &[(Slot::GateUp, "blk.{}.ffn_up")];

/// Tensors that say how to rotate, which are read as settings, and leftovers of early converters.
const IGNORED: &[&str] = &[
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "attn_rot_embd.weight",
];

/// All that can be served, sorted by the order of the families.
pub(crate) const FAMILIES: &[Family] = &[
    Family::of("llama", &llama::ARCH).changed(&[Change::Permuted]),
    Family::of(MIXTRAL, &mixtral::ARCH).changed(&[Change::Permuted]),
    // Its fused projection is taken apart by the converter, and what is left is Llama.
    Family::of("internlm2", &llama::ARCH).changed(&[Change::Permuted]),
    Family::of("qwen2", &qwen2::ARCH),
    Family::of("qwen3", &qwen3::ARCH),
    Family::of("qwen2moe", &qwen_moe::QWEN2),
    Family::of("qwen3moe", &qwen_moe::QWEN3).with(|keys| {
        keys.put("norm_topk_prob", true);
        Ok(())
    }),
    Family::of("gemma", &gemma::GEMMA).changed(&[Change::NormsPlusOne]),
    Family::of("gemma2", &gemma::GEMMA2)
        .changed(&[Change::NormsPlusOne])
        .with(|keys| gemma_scale(keys, 46)),
    Family::of("gemma3", &gemma::GEMMA3)
        .changed(&[Change::NormsPlusOne])
        .with(|keys| gemma_scale(keys, 62)),
    Family::of("phi2", &phi::ARCH),
    Family::of("phi3", &phi3::ARCH).named(&[COMMON, NORMS, FUSED_MLP]),
    Family::of("stablelm", &stablelm::ARCH).with(|keys| {
        // The key of that name is wrong in files made from configurations that leave it out.
        keys.put(
            "use_parallel_residual",
            !keys.has_tensor("blk.0.ffn_norm.weight"),
        );
        Ok(())
    }),
    Family::of("olmo", &olmo::OLMO).changed(&[Change::Permuted]),
    Family::of("olmo2", &olmo::OLMO2).with(|keys| {
        match keys.whole("attention.sliding_window")? {
            None | Some(0) => Ok(()),
            Some(_) => Err(keys.refuse(
                "attention.sliding_window",
                "absent: OLMo 3 is not supported",
            )),
        }
    }),
    Family::of("granite", &granite::ARCH)
        .changed(&[Change::Permuted])
        .with(granite_factors),
    Family::of("command-r", &cohere::COHERE),
    Family::of("cohere2", &cohere::COHERE2),
    Family::of("smollm3", &smollm3::ARCH).changed(&[Change::Permuted]),
    Family::of("starcoder2", &starcoder2::ARCH),
    Family::of("falcon", &falcon::ARCH)
        .named(&[COMMON, FALCON_NORMS, MLP])
        .with(|keys| {
            let norms = 1 + u64::from(keys.has_tensor("blk.0.attn_norm_2.weight"));
            keys.put("num_ln_in_parallel_attn", norms);
            keys.put("new_decoder_architecture", true);
            Ok(())
        }),
    Family::of("mpt", &mpt::ARCH).with(mpt_attention),
    Family::of("bloom", &bloom::ARCH),
    Family::of("gpt2", &gpt2::ARCH),
    Family::of("starcoder", &gpt_bigcode::ARCH).with(|keys| {
        let one = keys.whole("attention.head_count_kv")? == Some(1);
        keys.put("multi_query", one);
        Ok(())
    }),
    Family::of("gptneox", &gpt_neox::ARCH),
];

/// Mixtral is `llama` with experts, which [`find`] tells apart; no file has this name.
const MIXTRAL: &str = "llama with experts";

impl Family {
    const fn of(name: &'static str, family: &Arch) -> Self {
        Self {
            name,
            arch: Arch {
                names: family.names,
                eos: family.eos,
                weights: &[COMMON, NORMS, MLP],
                // Weights are stored as they are multiplied, whatever the checkpoint does.
                fixes: &[],
                ignore: IGNORED,
                spec: family.spec,
            },
            settings: |_| Ok(()),
            changes: &[],
        }
    }

    const fn named(mut self, weights: &'static [Names]) -> Self {
        self.arch.weights = weights;
        self
    }

    const fn changed(mut self, changes: &'static [Change]) -> Self {
        self.changes = changes;
        self
    }

    const fn with(mut self, settings: fn(&mut Keys) -> Result<(), ConfigError>) -> Self {
        self.settings = settings;
        self
    }

    /// The spec of the family's checkpoints as one of such a file: its layout and its biases, which are those that
    /// `has` tells of.
    pub(crate) fn stored(&self, mut spec: Spec, has: impl Fn(&str) -> bool) -> Spec {
        let fused = has("blk.0.attn_qkv.weight");
        // Whatever the checkpoint had: the converter stacks queries, keys and values.
        spec.qkv = if fused { Qkv::Stacked } else { Qkv::Split };
        if self.changes.contains(&Change::Permuted) {
            spec.pairing = Pairing::Adjacent;
        }
        if self.changes.contains(&Change::NormsPlusOne) {
            spec.norm = whole(spec.norm);
            spec.qk_norm = spec.qk_norm.map(|norm| QkNorm {
                kind: whole(norm.kind),
                ..norm
            });
        }
        let biased = |slot: &Slot| {
            self.arch.names_of(*slot).any(|name| {
                (0..spec.dims.layers)
                    .any(|layer| has(&format!("{}.bias", name.replace("{}", &layer.to_string()))))
            })
        };
        spec.biases = LINEAR.iter().copied().filter(biased).collect();
        spec
    }
}

/// The slots that may have a bias.
const LINEAR: [Slot; 9] = [
    Slot::Qkv,
    Slot::Query,
    Slot::Key,
    Slot::Value,
    Slot::AttnOut,
    Slot::Gate,
    Slot::Up,
    Slot::Down,
    Slot::Head,
];

/// The norm with its weight as it is multiplied.
fn whole(norm: NormKind) -> NormKind {
    match norm {
        NormKind::Rms { eps, .. } => NormKind::rms(eps),
        layer => layer,
    }
}

/// The family of a file. `experts`: whether it has a number of experts.
pub(crate) fn find(name: &str, experts: bool) -> Option<&'static Family> {
    let name = match name {
        "llama" if experts => MIXTRAL,
        name => name,
    };
    FAMILIES.iter().find(|family| family.name == name)
}

/// The scores of Gemma are scaled by the numbers of a head, but in its largest model, of so many layers, by the width
/// over the heads: no key says it, and llama.cpp knows it from the layers too.
fn gemma_scale(keys: &mut Keys, largest: u64) -> Result<(), ConfigError> {
    let scalar = if keys.whole("block_count")? == Some(largest) {
        let (width, heads) = (
            keys.whole("embedding_length")?,
            keys.whole("attention.head_count")?,
        );
        width
            .zip(heads)
            .and_then(|(width, heads)| width.checked_div(heads))
    } else {
        keys.whole("attention.key_length")?
    };
    if let Some(scalar) = scalar {
        keys.put("query_pre_attn_scalar", scalar);
    }
    let local = keys.number("rope.freq_base_swa")?.unwrap_or(10_000.0);
    keys.put("rope_local_base_freq", local);
    Ok(())
}

fn granite_factors(keys: &mut Keys) -> Result<(), ConfigError> {
    for (key, name) in [
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        if let Some(factor) = keys.number(key)? {
            keys.put(name, factor);
        }
    }
    let scale = match keys.number("attention.scale")? {
        None | Some(0.0) => keys.head()?.map(|head| (head as f64).sqrt().recip()),
        scale => scale,
    };
    if let Some(scale) = scale {
        keys.put("attention_multiplier", scale);
    }
    Ok(())
}

/// MPT has its settings of attention in an object.
fn mpt_attention(keys: &mut Keys) -> Result<(), ConfigError> {
    let clip = keys
        .number("attention.clamp_kqv")?
        .filter(|clip| *clip > 0.0);
    let bias = keys.number("attention.max_alibi_bias")?.unwrap_or(8.0);
    let normalised = keys.has_tensor("blk.0.attn_q_norm.weight");
    keys.put(
        "attn_config",
        serde_json::json!({
            "alibi": bias > 0.0,
            "alibi_bias_max": bias,
            "clip_qkv": clip,
            "qk_ln": normalised,
        }),
    );
    Ok(())
}
