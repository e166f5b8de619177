//! T5 and what descends from it: the first version, 1.1, FLAN-T5, ByT5, mT5, UMT5, whose layers each have their own
//! numbers by distance, and LongT5, whose encoder looks only so far. Norms by the root mean square before each part, no
//! biases, numbers by distance in place of positions, scores that are not scaled.
//! Reference: transformers `models/t5/modeling_t5.py`, `models/umt5`, `models/longt5`.

use sconce_nn::Act;

use super::seq2seqs::Seq2SeqArch;
use crate::config_error::ConfigError;
use crate::decoder::{Head, NormKind};
use crate::encoder::Order;
use crate::hf_config::HfConfig;
use crate::seq2seq::{Positions, Seat, SeatNames, Seq2SeqMlp, Seq2SeqSpec, StackDims};

const NAMES: SeatNames = &[
    (Seat::Shared, "shared"),
    (Seat::Shared, "encoder.embed_tokens"),
    (Seat::Shared, "decoder.embed_tokens"),
    (Seat::Head, "lm_head"),
    (Seat::FinalNorm, "{side}.final_layer_norm"),
    (
        Seat::Distances,
        "{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
    ),
    (Seat::Query, "{side}.block.{}.layer.0.SelfAttention.q"),
    (Seat::Key, "{side}.block.{}.layer.0.SelfAttention.k"),
    (Seat::Value, "{side}.block.{}.layer.0.SelfAttention.v"),
    (Seat::Out, "{side}.block.{}.layer.0.SelfAttention.o"),
    (Seat::AttnNorm, "{side}.block.{}.layer.0.layer_norm"),
    (Seat::Gate, "encoder.block.{}.layer.1.DenseReluDense.wi_0"),
    (Seat::Up, "encoder.block.{}.layer.1.DenseReluDense.wi"),
    (
        Seat::GatedUp,
        "encoder.block.{}.layer.1.DenseReluDense.wi_1",
    ),
    (Seat::Down, "encoder.block.{}.layer.1.DenseReluDense.wo"),
    (Seat::MlpNorm, "encoder.block.{}.layer.1.layer_norm"),
];

const DECODER: SeatNames = &[
    (
        Seat::CrossQuery,
        "decoder.block.{}.layer.1.EncDecAttention.q",
    ),
    (Seat::CrossKey, "decoder.block.{}.layer.1.EncDecAttention.k"),
    (
        Seat::CrossValue,
        "decoder.block.{}.layer.1.EncDecAttention.v",
    ),
    (Seat::CrossOut, "decoder.block.{}.layer.1.EncDecAttention.o"),
    (Seat::CrossNorm, "decoder.block.{}.layer.1.layer_norm"),
    (Seat::Gate, "decoder.block.{}.layer.2.DenseReluDense.wi_0"),
    (Seat::Up, "decoder.block.{}.layer.2.DenseReluDense.wi"),
    (
        Seat::GatedUp,
        "decoder.block.{}.layer.2.DenseReluDense.wi_1",
    ),
    (Seat::Down, "decoder.block.{}.layer.2.DenseReluDense.wo"),
    (Seat::MlpNorm, "decoder.block.{}.layer.2.layer_norm"),
];

/// UMT5's tables of distances.
const UMT5_NAMES: SeatNames = &[(
    Seat::Distances,
    "{side}.block.{}.layer.0.SelfAttention.relative_attention_bias",
)];

/// The names of LongT5's encoder where they differ: of the kind that looks only so far, and of that which sees sums of blocks.
const LONG_NAMES: SeatNames = &[
    (
        Seat::Distances,
        "encoder.block.0.layer.0.LocalSelfAttention.relative_attention_bias",
    ),
    (Seat::Query, "encoder.block.{}.layer.0.LocalSelfAttention.q"),
    (Seat::Key, "encoder.block.{}.layer.0.LocalSelfAttention.k"),
    (Seat::Value, "encoder.block.{}.layer.0.LocalSelfAttention.v"),
    (Seat::Out, "encoder.block.{}.layer.0.LocalSelfAttention.o"),
    (
        Seat::Distances,
        "encoder.block.0.layer.0.TransientGlobalSelfAttention.relative_attention_bias",
    ),
    (
        Seat::BlockDistances,
        "encoder.block.0.layer.0.TransientGlobalSelfAttention.global_relative_attention_bias",
    ),
    (
        Seat::SumsNorm,
        "encoder.block.{}.layer.0.TransientGlobalSelfAttention.global_input_layer_norm",
    ),
    (
        Seat::Query,
        "encoder.block.{}.layer.0.TransientGlobalSelfAttention.q",
    ),
    (
        Seat::Key,
        "encoder.block.{}.layer.0.TransientGlobalSelfAttention.k",
    ),
    (
        Seat::Value,
        "encoder.block.{}.layer.0.TransientGlobalSelfAttention.v",
    ),
    (
        Seat::Out,
        "encoder.block.{}.layer.0.TransientGlobalSelfAttention.o",
    ),
];

/// The first checkpoints have one that was never used.
const IGNORE: &[&str] = &["EncDecAttention.relative_attention_bias.weight"];

pub(super) const T5: Seq2SeqArch = Seq2SeqArch {
    name: "T5ForConditionalGeneration",
    weights: &[NAMES],
    encoder: &[],
    decoder: DECODER,
    ignore: IGNORE,
    spec: |c| spec(c, "relu", true),
};

pub(super) const MT5: Seq2SeqArch = Seq2SeqArch {
    name: "MT5ForConditionalGeneration",
    spec: |c| spec(c, "gated-gelu", false),
    ..T5
};

pub(super) const UMT5: Seq2SeqArch = Seq2SeqArch {
    name: "UMT5ForConditionalGeneration",
    weights: &[UMT5_NAMES, NAMES],
    spec: |c| {
        let mut spec = spec(c, "gated-gelu", true)?;
        if let Positions::Buckets { per_layer, .. } = &mut spec.positions {
            *per_layer = true;
        }
        Ok(spec)
    },
    ..T5
};

pub(super) const LONG_T5: Seq2SeqArch = Seq2SeqArch {
    name: "LongT5ForConditionalGeneration",
    encoder: LONG_NAMES,
    spec: long_spec,
    ..T5
};

/// An encoder that sees `local_radius` tokens on either side. That of the other kind sees sums of whole blocks too.
fn long_spec(c: &HfConfig) -> Result<Seq2SeqSpec, ConfigError> {
    const KIND: &str = "encoder_attention_type";
    c.refuse_unless(KIND, &["local", "transient-global"])?;
    let mut spec = spec(c, "relu", true)?;
    let reach = c.size_or("local_radius", 127)?;
    spec.reaches = vec![reach; spec.encoder.layers];
    if c.text(KIND).as_deref() == Some("transient-global") {
        spec.block = Some(c.size_or("global_block_size", 16)?);
    }
    Ok(spec)
}

fn spec(c: &HfConfig, feed_forward: &str, tied: bool) -> Result<Seq2SeqSpec, ConfigError> {
    let width = c.size("d_model")?;
    let layers = c.size("num_layers")?;
    let encoder = StackDims {
        layers,
        heads: c.size("num_heads")?,
        head: c.size_or("d_kv", 64)?,
        inner: c.size("d_ff")?,
        context: None,
    };
    let head = c.head(tied)?;
    Ok(Seq2SeqSpec {
        width,
        vocab: c.size("vocab_size")?,
        encoder,
        decoder: StackDims {
            layers: c.size_or("num_decoder_layers", layers)?,
            ..encoder
        },
        positions: buckets(c)?,
        reaches: Vec::new(),
        block: None,
        embed_scale: None,
        embed_norm: false,
        norm: NormKind::rms(c.float("layer_norm_epsilon", 1e-6)?),
        order: Order::Pre,
        final_norm: true,
        biases: false,
        mlp: mlp(c, feed_forward)?,
        scale: Some(1.0),
        head,
        head_scale: (head == Head::Tied).then_some((width as f32).sqrt().recip()),
    })
}

/// Half of the buckets are for each direction in the encoder, and half of those for single distances.
fn buckets(c: &HfConfig) -> Result<Positions, ConfigError> {
    const COUNT: &str = "relative_attention_num_buckets";
    const LONGEST: &str = "relative_attention_max_distance";
    let (count, longest) = (c.size_or(COUNT, 32)?, c.size_or(LONGEST, 128)?);
    if !count.is_multiple_of(4) {
        return Err(c.wrong(COUNT, &count.into(), "a multiple of 4"));
    }
    if longest <= count / 2 {
        let wanted = format!("more than half of the {count} buckets");
        return Err(c.wrong(LONGEST, &longest.into(), &wanted));
    }
    Ok(Positions::Buckets {
        per_layer: false,
        count,
        longest,
    })
}

/// `feed_forward_proj`: the name of an activation, with `gated-` before it where it is that of a gate.
fn mlp(c: &HfConfig, default: &str) -> Result<Seq2SeqMlp, ConfigError> {
    const KEY: &str = "feed_forward_proj";
    let said = c.text(KEY).unwrap_or_else(|| default.to_owned());
    let (gated, name) = match said.strip_prefix("gated-") {
        // The name that it has always had for the approximation.
        Some("gelu") => (true, "gelu_new"),
        Some(name) => (true, name),
        None => (false, said.as_str()),
    };
    let act = Act::parse(name).ok_or_else(|| {
        let names = Act::names().collect::<Vec<_>>().join(", ");
        let supported = format!("{names}, each with gated- before it too");
        c.unsupported(KEY, &said.as_str().into(), &supported)
    })?;
    let act = c.act("dense_act_fn", act)?;
    Ok(match gated {
        true => Seq2SeqMlp::Gated(act),
        false => Seq2SeqMlp::Plain(act),
    })
}
