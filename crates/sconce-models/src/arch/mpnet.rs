//! MPNet: BERT with a bias for the distance of two tokens, the same in all layers, and RoBERTa's positions.
//! Reference: transformers `models/mpnet/modeling_mpnet.py`.

use sconce_nn::Buckets;

use super::encoders::{BertForm, EncoderArch};
use super::roberta;
use crate::config_error::ConfigError;
use crate::encoder::{DistanceKind, EncoderSpec, HeadKind, HeadSpec, Place};
use crate::hf_config::HfConfig;

/// From here on all distances are alike; no key says so.
const LONGEST: usize = 128;

/// Buckets of distances.
const BUCKETS: usize = 32;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "MPNet",
    model_type: "mpnet",
    weights: &[&[
        (Place::Embed, "mpnet.embeddings.word_embeddings"),
        (Place::Positions, "mpnet.embeddings.position_embeddings"),
        (Place::EmbedNorm, "mpnet.embeddings.LayerNorm"),
        (Place::Query, "mpnet.encoder.layer.{}.attention.attn.q"),
        (Place::Key, "mpnet.encoder.layer.{}.attention.attn.k"),
        (Place::Value, "mpnet.encoder.layer.{}.attention.attn.v"),
        (Place::AttnOut, "mpnet.encoder.layer.{}.attention.attn.o"),
        (
            Place::AttnNorm,
            "mpnet.encoder.layer.{}.attention.LayerNorm",
        ),
        (Place::Up, "mpnet.encoder.layer.{}.intermediate.dense"),
        (Place::Down, "mpnet.encoder.layer.{}.output.dense"),
        (Place::MlpNorm, "mpnet.encoder.layer.{}.output.LayerNorm"),
        (
            Place::DistanceBiases,
            "mpnet.encoder.relative_attention_bias",
        ),
    ]],
    heads: &[
        "lm_head",
        "classifier",
        "qa_outputs",
        "pooler",
        "mpnet.pooler",
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
    let mut spec = form.spec(c)?;
    // It never has segments, whatever the key says.
    spec.dims.types = 0;
    roberta::counted_from_padding(c, &mut spec)?;
    if c.size_or("relative_attention_num_buckets", BUCKETS)? != BUCKETS {
        // transformers reads the key for the size of the table and computes with 32 all the same.
        c.refuse("relative_attention_num_buckets", "32")?;
    }
    spec.distances = Some(DistanceKind::Biases(Buckets::Halves {
        count: BUCKETS,
        longest: LONGEST,
    }));
    Ok(spec)
}

fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    match kind {
        HeadKind::Mask => Ok(roberta::masks(&spec(c)?)),
        other => roberta::head(c, other),
    }
}
