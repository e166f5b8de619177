//! BERT and all checkpoints that name its classes: MiniLM, BGE, E5, GTE (first version).
//! Reference: transformers `models/bert/modeling_bert.py`.

use sconce_nn::Act;

use super::encoders::{BertForm, EncoderArch, MaskNames, bert_names, classes, dense, spans};
use crate::config_error::ConfigError;
use crate::encoder::{EncoderSpec, HeadKind, HeadSpec, Over, Place};
use crate::hf_config::HfConfig;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "Bert",
    model_type: "bert",
    weights: &[bert_names!("bert.")],
    heads: &["cls", "classifier", "qa_outputs", "pooler", "bert.pooler"],
    ignore: &["embeddings.position_ids"],
    spec,
    head,
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    BertForm::BERT.spec(c)
}

fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    match kind {
        HeadKind::Sequence => {
            let pooler = dense(c, "bert.pooler.dense", Act::Tanh)?;
            classes(c, Over::First, pooler, "classifier")
        }
        HeadKind::Tokens => classes(c, Over::Each, None, "classifier"),
        HeadKind::Span => Ok(spans("qa_outputs")),
        HeadKind::Mask => {
            let names = MaskNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                out: "cls.predictions.decoder",
                biases: &["cls.predictions.bias", "cls.predictions.decoder.bias"],
            };
            Ok(names.head(&spec(c)?, c.act("hidden_act", Act::Gelu)?))
        }
    }
}
