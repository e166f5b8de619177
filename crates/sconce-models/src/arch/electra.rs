//! ELECTRA: BERT with narrow embeddings and heads of its own.
//! Reference: transformers `models/electra/modeling_electra.py`.

use sconce_nn::Act;

use super::encoders::{BertForm, EncoderArch, MaskNames, bert_names, classes, dense, spans};
use crate::config_error::ConfigError;
use crate::encoder::{EncoderSpec, HeadKind, HeadSpec, Over, Place, Project};
use crate::hf_config::HfConfig;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "Electra",
    model_type: "electra",
    weights: &[
        bert_names!("electra."),
        &[(Place::EmbedIn, "electra.embeddings_project")],
    ],
    heads: &[
        "generator_predictions",
        "generator_lm_head",
        "discriminator_predictions",
        "classifier",
        "qa_outputs",
    ],
    ignore: &["embeddings.position_ids"],
    spec,
    head,
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    let mut spec = BertForm::BERT.spec(c)?;
    spec.dims.embed = c.size_or("embedding_size", 128)?;
    if spec.dims.embed != spec.dims.width {
        spec.embed.project = Project::BehindNorm;
    }
    Ok(spec)
}

fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    match kind {
        HeadKind::Sequence => {
            // The activation is the same whatever `hidden_act` says.
            let first = dense(c, "classifier.dense", Act::Gelu)?;
            classes(c, Over::First, first, "classifier.out_proj")
        }
        HeadKind::Tokens => classes(c, Over::Each, None, "classifier"),
        HeadKind::Span => Ok(spans("qa_outputs")),
        HeadKind::Mask => {
            let names = MaskNames {
                dense: "generator_predictions.dense",
                norm: "generator_predictions.LayerNorm",
                out: "generator_lm_head",
                biases: &["generator_lm_head.bias"],
            };
            Ok(names.head(&spec(c)?, Act::Gelu))
        }
    }
}
