//! BART, mBART and Blenderbot: learned positions, biases everywhere. BART has its norms behind the sums, the others
//! before the parts and one behind the last layer.
//! Reference: transformers `models/bart/modeling_bart.py`, `models/mbart`, `models/blenderbot`.

use sconce_nn::Act;

use super::seq2seqs::{BART_NAMES, BartForm, Seq2SeqArch};
use crate::encoder::Order;
use crate::seq2seq::Positions;

/// The rows of the tables of positions that belong to none.
const OFFSET: usize = 2;

const BART_FORM: BartForm = BartForm {
    positions: Positions::Learned { offset: OFFSET },
    scaled: false,
    embed_norm: true,
    order: Order::Post,
    context: 1024,
    act: Act::Gelu,
};

const MBART_FORM: BartForm = BartForm {
    order: Order::Pre,
    ..BART_FORM
};

const BLENDERBOT_FORM: BartForm = BartForm {
    positions: Positions::Learned { offset: 0 },
    embed_norm: false,
    context: 128,
    ..MBART_FORM
};

pub(super) const BART: Seq2SeqArch = Seq2SeqArch {
    name: "BartForConditionalGeneration",
    weights: &[BART_NAMES],
    encoder: &[],
    decoder: &[],
    ignore: &[],
    spec: |c| BART_FORM.spec(c),
};

pub(super) const MBART: Seq2SeqArch = Seq2SeqArch {
    name: "MBartForConditionalGeneration",
    spec: |c| MBART_FORM.spec(c),
    ..BART
};

pub(super) const BLENDERBOT: Seq2SeqArch = Seq2SeqArch {
    name: "BlenderbotForConditionalGeneration",
    spec: |c| BLENDERBOT_FORM.spec(c),
    ..BART
};
