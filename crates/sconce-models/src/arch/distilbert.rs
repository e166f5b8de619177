//! DistilBERT: BERT without segments and pooler, under other names.
//! Reference: transformers `models/distilbert/modeling_distilbert.py`.

use sconce_nn::Act;

use super::encoders::{BertForm, EncoderArch, MaskNames, classes, dense, spans};
use crate::config_error::ConfigError;
use crate::encoder::{EncoderSpec, HeadKind, HeadSpec, Over, Place};
use crate::hf_config::HfConfig;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "DistilBert",
    model_type: "distilbert",
    weights: &[&[
        (Place::Embed, "distilbert.embeddings.word_embeddings"),
        (
            Place::Positions,
            "distilbert.embeddings.position_embeddings",
        ),
        (Place::EmbedNorm, "distilbert.embeddings.LayerNorm"),
        (
            Place::Query,
            "distilbert.transformer.layer.{}.attention.q_lin",
        ),
        (
            Place::Key,
            "distilbert.transformer.layer.{}.attention.k_lin",
        ),
        (
            Place::Value,
            "distilbert.transformer.layer.{}.attention.v_lin",
        ),
        (
            Place::AttnOut,
            "distilbert.transformer.layer.{}.attention.out_lin",
        ),
        (
            Place::AttnNorm,
            "distilbert.transformer.layer.{}.sa_layer_norm",
        ),
        (Place::Up, "distilbert.transformer.layer.{}.ffn.lin1"),
        (Place::Down, "distilbert.transformer.layer.{}.ffn.lin2"),
        (
            Place::MlpNorm,
            "distilbert.transformer.layer.{}.output_layer_norm",
        ),
    ]],
    heads: &[
        "vocab_transform",
        "vocab_layer_norm",
        "vocab_projector",
        "pre_classifier",
        "classifier",
        "qa_outputs",
    ],
    ignore: &["embeddings.position_ids"],
    spec,
    head,
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    let form = BertForm {
        types: 0,
        ..BertForm::BERT
    };
    form.spec(c)
}

fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    match kind {
        HeadKind::Sequence => {
            let first = dense(c, "pre_classifier", Act::Relu)?;
            classes(c, Over::First, first, "classifier")
        }
        HeadKind::Tokens => classes(c, Over::Each, None, "classifier"),
        HeadKind::Span => Ok(spans("qa_outputs")),
        HeadKind::Mask => {
            let names = MaskNames {
                dense: "vocab_transform",
                norm: "vocab_layer_norm",
                out: "vocab_projector",
                biases: &["vocab_projector.bias"],
            };
            Ok(names.head(&spec(c)?, c.act("hidden_act", Act::Gelu)?))
        }
    }
}
