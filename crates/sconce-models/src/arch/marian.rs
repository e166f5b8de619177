//! Marian, the models of OPUS-MT: BART's form with sines and cosines for positions.
//! Reference: transformers `models/marian/modeling_marian.py`.

use sconce_nn::Act;
use serde_json::Value;

use super::seq2seqs::{BART_NAMES, BartForm, Seq2SeqArch, require_value};
use crate::config_error::ConfigError;
use crate::encoder::Order;
use crate::hf_config::HfConfig;
use crate::seq2seq::{Positions, Seq2SeqSpec, Sinusoids};

pub(super) const ARCH: Seq2SeqArch = Seq2SeqArch {
    name: "MarianMTModel",
    weights: &[BART_NAMES],
    encoder: &[],
    decoder: &[],
    // They are computed.
    ignore: &["embed_positions.weight"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Seq2SeqSpec, ConfigError> {
    let form = BartForm {
        positions: Positions::Sinusoids(Sinusoids::Marian),
        scaled: false,
        embed_norm: false,
        order: Order::Post,
        context: 1024,
        act: Act::Gelu,
    };
    c.refuse_false(
        "share_encoder_decoder_embeddings",
        "true: both stacks have one embedding",
    )?;
    let vocab = Value::from(c.size("vocab_size")?);
    require_value(c, "decoder_vocab_size", &vocab)?;
    form.spec(c)
}
