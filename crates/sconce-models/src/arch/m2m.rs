//! M2M100, and the dense models of NLLB, which have its class: norms before the parts, fairseq's sines and cosines, scaled
//! embeddings.
//! Reference: transformers `models/m2m_100/modeling_m2m_100.py`.

use sconce_nn::Act;

use super::seq2seqs::{BART_NAMES, BartForm, Seq2SeqArch};
use crate::config_error::ConfigError;
use crate::encoder::Order;
use crate::hf_config::HfConfig;
use crate::seq2seq::{Positions, Seq2SeqSpec, Sinusoids};

pub(super) const ARCH: Seq2SeqArch = Seq2SeqArch {
    name: "M2M100ForConditionalGeneration",
    weights: &[BART_NAMES],
    encoder: &[],
    decoder: &[],
    // They are computed.
    ignore: &["embed_positions.weights"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Seq2SeqSpec, ConfigError> {
    let padding = c.count("pad_token_id", 1)? as u32;
    let form = BartForm {
        positions: Positions::Sinusoids(Sinusoids::Fairseq { padding }),
        scaled: true,
        embed_norm: false,
        order: Order::Pre,
        context: 1024,
        act: Act::Relu,
    };
    if c.size("d_model")? < 4 {
        c.refuse("d_model", "at least 4")?;
    }
    form.spec(c)
}
