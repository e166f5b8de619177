//! The families of encoder-decoders: what one consists of, the list of all, and what several share.

use sconce_nn::Act;
use serde_json::Value;

use super::{bart, led, m2m, marian, pegasus, t5};
use crate::config_error::ConfigError;
use crate::decoder::{Head, NormKind};
use crate::encoder::Order;
use crate::hf_config::HfConfig;
use crate::seq2seq::{Positions, Seat, SeatNames, Seq2SeqMlp, Seq2SeqSpec, Side, StackDims};

/// All families of encoder-decoders that are built in.
pub const SEQ2SEQS: &[&Seq2SeqArch] = &[
    &t5::T5,
    &t5::MT5,
    &t5::UMT5,
    &t5::LONG_T5,
    &bart::BART,
    &bart::MBART,
    &bart::BLENDERBOT,
    &led::ARCH,
    &marian::ARCH,
    &pegasus::ARCH,
    &m2m::ARCH,
];

/// A family of encoder-decoders, as data.
#[derive(Debug)]
pub struct Seq2SeqArch {
    /// Value of `architectures` in `config.json`.
    pub name: &'static str,
    /// Where the weights are, as lists of which several families share some; what stands first counts.
    pub weights: &'static [SeatNames],
    /// Where the encoder's weights are if elsewhere.
    pub encoder: SeatNames,
    /// Where the decoder's weights are if elsewhere.
    pub decoder: SeatNames,
    /// Endings of the names of tensors that are known and not needed; any other that is not read is an error.
    pub ignore: &'static [&'static str],
    /// The encoder-decoder that a configuration describes.
    pub spec: fn(&HfConfig) -> Result<Seq2SeqSpec, ConfigError>,
}

impl Seq2SeqArch {
    /// All names of a seat's weights, without `.weight` and `.bias`.
    pub(crate) fn names_of(&self, side: Side, seat: Seat) -> impl Iterator<Item = &'static str> {
        let own: SeatNames = match side {
            Side::Encoder => self.encoder,
            Side::Decoder => self.decoder,
        };
        let all = own.iter().chain(self.weights.iter().copied().flatten());
        all.filter(move |(listed, _)| *listed == seat)
            .map(|(_, name)| *name)
    }

    /// A tensor that every checkpoint has, from which it is told whether names begin with the base model's prefix.
    pub(crate) fn landmark(&self) -> &'static str {
        self.names_of(Side::Encoder, Seat::Shared)
            .next()
            .unwrap_or("")
    }
}

/// The family that the configuration names, if it is one of encoder-decoders.
pub fn find_seq2seq(config: &HfConfig) -> Result<Option<&'static Seq2SeqArch>, ConfigError> {
    let names = config.architectures()?;
    let known = |name: &&str| SEQ2SEQS.iter().find(|arch| arch.name == *name).copied();
    Ok(names.iter().find_map(known))
}

/// The names that BART's code gives, which most families have.
pub(super) const BART_NAMES: SeatNames = &[
    (Seat::Shared, "model.shared"),
    (Seat::Shared, "model.encoder.embed_tokens"),
    (Seat::Shared, "model.decoder.embed_tokens"),
    (Seat::Head, "lm_head"),
    (Seat::LogitsBias, "final_logits_bias"),
    (Seat::Positions, "model.{side}.embed_positions"),
    (Seat::EmbedNorm, "model.{side}.layernorm_embedding"),
    (Seat::FinalNorm, "model.{side}.layer_norm"),
    (Seat::Query, "model.{side}.layers.{}.self_attn.q_proj"),
    (Seat::Key, "model.{side}.layers.{}.self_attn.k_proj"),
    (Seat::Value, "model.{side}.layers.{}.self_attn.v_proj"),
    (Seat::Out, "model.{side}.layers.{}.self_attn.out_proj"),
    (
        Seat::AttnNorm,
        "model.{side}.layers.{}.self_attn_layer_norm",
    ),
    (
        Seat::CrossQuery,
        "model.decoder.layers.{}.encoder_attn.q_proj",
    ),
    (
        Seat::CrossKey,
        "model.decoder.layers.{}.encoder_attn.k_proj",
    ),
    (
        Seat::CrossValue,
        "model.decoder.layers.{}.encoder_attn.v_proj",
    ),
    (
        Seat::CrossOut,
        "model.decoder.layers.{}.encoder_attn.out_proj",
    ),
    (
        Seat::CrossNorm,
        "model.decoder.layers.{}.encoder_attn_layer_norm",
    ),
    (Seat::Up, "model.{side}.layers.{}.fc1"),
    (Seat::Down, "model.{side}.layers.{}.fc2"),
    (Seat::MlpNorm, "model.{side}.layers.{}.final_layer_norm"),
];

/// What the families of BART's form assume for absent keys, and in what they differ.
pub(super) struct BartForm {
    pub(super) positions: Positions,
    /// Default of `scale_embedding`.
    pub(super) scaled: bool,
    /// Whether embeddings are normalised.
    pub(super) embed_norm: bool,
    pub(super) order: Order,
    /// Default of `max_position_embeddings`.
    pub(super) context: usize,
    /// Default of `activation_function`.
    pub(super) act: Act,
}

impl BartForm {
    /// The encoder-decoder that the configuration describes.
    pub(super) fn spec(&self, c: &HfConfig) -> Result<Seq2SeqSpec, ConfigError> {
        let width = c.size("d_model")?;
        let context = c.size_or("max_position_embeddings", self.context)?;
        let stack = |side: &str| -> Result<StackDims, ConfigError> {
            let key = |part: &str| format!("{side}_{part}");
            let heads = c.size(&key("attention_heads"))?;
            c.multiple("d_model", width, &key("attention_heads"), heads)?;
            Ok(StackDims {
                layers: c.size(&key("layers"))?,
                heads,
                head: width / heads,
                inner: c.size(&key("ffn_dim"))?,
                context: Some(context),
            })
        };
        c.refuse_false(
            "tie_word_embeddings",
            "true: the output projection is the embedding",
        )?;
        Ok(Seq2SeqSpec {
            width,
            vocab: c.size("vocab_size")?,
            encoder: stack("encoder")?,
            decoder: stack("decoder")?,
            positions: self.positions,
            reaches: Vec::new(),
            block: None,
            embed_scale: c
                .flag("scale_embedding", self.scaled)?
                .then_some((width as f32).sqrt()),
            embed_norm: self.embed_norm,
            norm: NormKind::layer(1e-5),
            order: self.order,
            final_norm: self.order == Order::Pre,
            biases: true,
            mlp: Seq2SeqMlp::Plain(c.act("activation_function", self.act)?),
            scale: None,
            head: Head::Tied,
            head_scale: None,
        })
    }
}

/// Fails unless the value is that one; absent is fine.
pub(super) fn require_value(c: &HfConfig, key: &str, value: &Value) -> Result<(), ConfigError> {
    match c.find(key) {
        Some((_, found)) if found != value => c.refuse(key, &value.to_string()),
        _ => Ok(()),
    }
}
