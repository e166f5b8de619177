//! RoBERTa, and XLM-RoBERTa and CamemBERT, which differ in their tokens: positions count from behind the padding.
//! Reference: transformers `models/roberta/modeling_roberta.py`.

use sconce_nn::Act;

use super::encoders::{BertForm, EncoderArch, MaskNames, bert_names, classes, dense, spans};
use crate::config_error::ConfigError;
use crate::encoder::{EncoderSpec, HeadKind, HeadSpec, Over, Place};
use crate::hf_config::HfConfig;

pub(super) const ROBERTA: EncoderArch = EncoderArch {
    family: "Roberta",
    model_type: "roberta",
    weights: &[bert_names!("roberta.")],
    heads: &[
        "lm_head",
        "classifier",
        "qa_outputs",
        "pooler",
        "roberta.pooler",
    ],
    ignore: &["embeddings.position_ids"],
    spec,
    head,
};

pub(super) const XLM_ROBERTA: EncoderArch = EncoderArch {
    family: "XLMRoberta",
    model_type: "xlm-roberta",
    ..ROBERTA
};

pub(super) const CAMEMBERT: EncoderArch = EncoderArch {
    family: "Camembert",
    model_type: "camembert",
    ..ROBERTA
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    let mut spec = BertForm::BERT.spec(c)?;
    counted_from_padding(c, &mut spec)?;
    Ok(spec)
}

/// The first rows of the table of positions are left to the padding.
pub(super) fn counted_from_padding(
    c: &HfConfig,
    spec: &mut EncoderSpec,
) -> Result<(), ConfigError> {
    let padding = c.count("pad_token_id", 1)?;
    let left = spec.dims.positions.checked_sub(padding + 1);
    let Some(context) = left.filter(|left| *left > 0) else {
        let value = serde_json::Value::from(padding);
        let wanted = format!(
            "below the {} positions of max_position_embeddings",
            spec.dims.positions
        );
        return Err(c.wrong("pad_token_id", &value, &wanted));
    };
    spec.dims.context = context;
    spec.embed.padding = Some(padding as u32);
    Ok(())
}

/// The head for masked words, whose activation no key names.
pub(super) fn masks(spec: &EncoderSpec) -> HeadSpec {
    let names = MaskNames {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        out: "lm_head.decoder",
        biases: &["lm_head.bias", "lm_head.decoder.bias"],
    };
    names.head(spec, Act::Gelu)
}

pub(super) fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    match kind {
        HeadKind::Sequence => {
            let first = dense(c, "classifier.dense", Act::Tanh)?;
            classes(c, Over::First, first, "classifier.out_proj")
        }
        HeadKind::Tokens => classes(c, Over::Each, None, "classifier"),
        HeadKind::Span => Ok(spans("qa_outputs")),
        HeadKind::Mask => Ok(masks(&spec(c)?)),
    }
}
