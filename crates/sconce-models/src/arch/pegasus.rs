//! Pegasus: Marian's positions, norms before the parts, scaled embeddings.
//! Reference: transformers `models/pegasus/modeling_pegasus.py`.

use sconce_nn::Act;

use super::seq2seqs::{BART_NAMES, BartForm, Seq2SeqArch};
use crate::encoder::Order;
use crate::seq2seq::{Positions, Sinusoids};

const FORM: BartForm = BartForm {
    positions: Positions::Sinusoids(Sinusoids::Marian),
    scaled: false,
    embed_norm: false,
    order: Order::Pre,
    context: 1024,
    act: Act::Gelu,
};

pub(super) const ARCH: Seq2SeqArch = Seq2SeqArch {
    name: "PegasusForConditionalGeneration",
    weights: &[BART_NAMES],
    encoder: &[],
    decoder: &[],
    // They are computed.
    ignore: &["embed_positions.weight"],
    spec: |c| FORM.spec(c),
};
