//! ALBERT: narrow embeddings, and layers that share their weights.
//! Reference: transformers `models/albert/modeling_albert.py`.

use sconce_nn::Act;

use super::encoders::{BertForm, EncoderArch, MaskNames, classes, dense, spans};
use crate::config_error::ConfigError;
use crate::encoder::{EncoderLayer, EncoderSpec, HeadKind, HeadSpec, Over, Place, Project};
use crate::hf_config::HfConfig;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "Albert",
    model_type: "albert",
    weights: &[&[
        (Place::Embed, "albert.embeddings.word_embeddings"),
        (Place::Positions, "albert.embeddings.position_embeddings"),
        (Place::Types, "albert.embeddings.token_type_embeddings"),
        (Place::EmbedNorm, "albert.embeddings.LayerNorm"),
        (Place::EmbedIn, "albert.encoder.embedding_hidden_mapping_in"),
        (
            Place::Query,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.attention.query",
        ),
        (
            Place::Key,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.attention.key",
        ),
        (
            Place::Value,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.attention.value",
        ),
        (
            Place::AttnOut,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.attention.dense",
        ),
        (
            Place::AttnNorm,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.attention.LayerNorm",
        ),
        (
            Place::Up,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.ffn",
        ),
        (
            Place::Down,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.ffn_output",
        ),
        (
            Place::MlpNorm,
            "albert.encoder.albert_layer_groups.{}.albert_layers.{inner}.full_layer_layer_norm",
        ),
    ]],
    heads: &[
        "predictions",
        "sop_classifier",
        "classifier",
        "qa_outputs",
        "pooler",
        "albert.pooler",
    ],
    ignore: &["embeddings.position_ids"],
    spec,
    head,
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    let form = BertForm {
        act: Act::GeluTanh,
        ..BertForm::BERT
    };
    let mut spec = form.spec(c)?;
    spec.dims.embed = c.size_or("embedding_size", 128)?;
    spec.embed.project = Project::BehindNorm;
    let (layers, groups) = (spec.layers.len(), c.size_or("num_hidden_groups", 1)?);
    let inner = c.size_or("inner_group_num", 1)?;
    let of_group = |(index, layer): (usize, EncoderLayer)| {
        // As transformers divides: by the real number of layers of a group.
        let first = index * groups / layers * inner;
        (first..first + inner).map(move |stored| EncoderLayer { stored, ..layer })
    };
    spec.group = inner;
    spec.layers = spec
        .layers
        .drain(..)
        .enumerate()
        .flat_map(of_group)
        .collect();
    Ok(spec)
}

fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    match kind {
        HeadKind::Sequence => {
            let pooler = dense(c, "albert.pooler", Act::Tanh)?;
            classes(c, Over::First, pooler, "classifier")
        }
        HeadKind::Tokens => classes(c, Over::Each, None, "classifier"),
        HeadKind::Span => Ok(spans("qa_outputs")),
        HeadKind::Mask => {
            let names = MaskNames {
                dense: "predictions.dense",
                norm: "predictions.LayerNorm",
                out: "predictions.decoder",
                biases: &["predictions.bias", "predictions.decoder.bias"],
            };
            Ok(names.head(&spec(c)?, c.act("hidden_act", Act::GeluTanh)?))
        }
    }
}
