//! DeBERTa v2 and v3: no positions in the embedding, but vectors of distances in attention.
//! Reference: transformers `models/deberta_v2/modeling_deberta_v2.py`.

use sconce_nn::{Act, Buckets};

use super::encoders::{BertForm, EncoderArch, MaskNames, classes, dense, spans};
use crate::config_error::ConfigError;
use crate::encoder::{
    Convolution, DistanceKind, EncoderSpec, HeadKind, HeadSpec, Over, Place, Project,
    VectorsOfDistances,
};
use crate::hf_config::HfConfig;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "DebertaV2",
    model_type: "deberta-v2",
    weights: &[&[
        (Place::Embed, "deberta.embeddings.word_embeddings"),
        (Place::Positions, "deberta.embeddings.position_embeddings"),
        (Place::Types, "deberta.embeddings.token_type_embeddings"),
        (Place::EmbedIn, "deberta.embeddings.embed_proj"),
        (Place::EmbedNorm, "deberta.embeddings.LayerNorm"),
        (
            Place::Query,
            "deberta.encoder.layer.{}.attention.self.query_proj",
        ),
        (
            Place::Key,
            "deberta.encoder.layer.{}.attention.self.key_proj",
        ),
        (
            Place::Value,
            "deberta.encoder.layer.{}.attention.self.value_proj",
        ),
        (
            Place::DistanceKey,
            "deberta.encoder.layer.{}.attention.self.pos_key_proj",
        ),
        (
            Place::DistanceQuery,
            "deberta.encoder.layer.{}.attention.self.pos_query_proj",
        ),
        (
            Place::AttnOut,
            "deberta.encoder.layer.{}.attention.output.dense",
        ),
        (
            Place::AttnNorm,
            "deberta.encoder.layer.{}.attention.output.LayerNorm",
        ),
        (Place::Up, "deberta.encoder.layer.{}.intermediate.dense"),
        (Place::Down, "deberta.encoder.layer.{}.output.dense"),
        (Place::MlpNorm, "deberta.encoder.layer.{}.output.LayerNorm"),
        (Place::DistanceVectors, "deberta.encoder.rel_embeddings"),
        (Place::DistanceNorm, "deberta.encoder.LayerNorm"),
        (Place::Convolution, "deberta.encoder.conv.conv"),
        (Place::ConvolutionNorm, "deberta.encoder.conv.LayerNorm"),
    ]],
    heads: &[
        "cls",
        "lm_predictions",
        "mask_predictions",
        "pooler",
        "classifier",
        "qa_outputs",
    ],
    ignore: &["embeddings.position_ids"],
    spec,
    head,
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    let form = BertForm {
        eps: 1e-7,
        types: 0,
        ..BertForm::BERT
    };
    let mut spec = form.spec(c)?;
    if spec.dims.embed != spec.dims.width {
        spec.embed.project = Project::BeforeNorm;
    }
    if !c.flag("position_biased_input", true)? {
        spec.dims.positions = 0;
    }
    spec.convolution = convolution(c)?;
    if c.count("z_steps", 0)? > 1 {
        c.refuse("z_steps", "0")?;
    }
    if c.has("attention_head_size") {
        let head = c.size("attention_head_size")?;
        if head * spec.dims.heads != spec.dims.width {
            c.refuse("attention_head_size", "hidden_size / num_attention_heads")?;
        }
    }
    let (for_queries, for_keys) = terms(c)?;
    let terms = 1 + usize::from(for_queries) + usize::from(for_keys);
    let head = spec.dims.width / spec.dims.heads;
    for layer in &mut spec.layers {
        layer.scale = ((head * terms) as f32).sqrt().recip();
    }
    if c.flag("relative_attention", false)? {
        spec.distances = Some(DistanceKind::Vectors(VectorsOfDistances {
            buckets: buckets(c, spec.dims.context)?,
            for_queries,
            for_keys,
            shared: c.flag("share_att_key", false)?,
            normed: normed(c)?,
        }));
    }
    Ok(spec)
}

/// The convolution beside the first layer, which the largest models have.
fn convolution(c: &HfConfig) -> Result<Option<Convolution>, ConfigError> {
    let taps = c.count("conv_kernel_size", 0)?;
    if taps == 0 {
        return Ok(None);
    }
    if taps.is_multiple_of(2) {
        c.refuse("conv_kernel_size", "an odd number")?;
    }
    if c.size_or("conv_groups", 1)? != 1 {
        c.refuse("conv_groups", "1")?;
    }
    let act = c.act("conv_act", Act::Tanh)?;
    Ok(Some(Convolution { taps, act }))
}

/// Whether `pos_att_type` lists `c2p`, and `p2c`.
fn terms(c: &HfConfig) -> Result<(bool, bool), ConfigError> {
    let Some((key, value)) = c.find("pos_att_type") else {
        return Ok((false, false));
    };
    let listed: Option<Vec<&str>> = match value {
        serde_json::Value::String(all) => Some(all.split('|').map(str::trim).collect()),
        other => other
            .as_array()
            .and_then(|all| all.iter().map(serde_json::Value::as_str).collect()),
    };
    match listed {
        Some(all) if all.iter().all(|one| matches!(*one, "c2p" | "p2c")) => {
            Ok((all.contains(&"c2p"), all.contains(&"p2c")))
        }
        _ => Err(c.unsupported(key, value, "a list of c2p and p2c")),
    }
}

/// -1 stands for a key that is not used.
fn buckets(c: &HfConfig, context: usize) -> Result<Buckets, ConfigError> {
    let unless_off = |key: &str| match c.find(key) {
        Some((_, value)) if value.as_i64().is_some_and(|number| number < 1) => Ok(None),
        Some(_) => c.size(key).map(Some),
        None => Ok(None),
    };
    Ok(Buckets::Middle {
        count: unless_off("position_buckets")?.unwrap_or(0),
        longest: unless_off("max_relative_positions")?.unwrap_or(context),
    })
}

/// Whether `norm_rel_ebd` asks for a norm of the vectors.
fn normed(c: &HfConfig) -> Result<bool, ConfigError> {
    let Some((key, value)) = c.find("norm_rel_ebd") else {
        return Ok(false);
    };
    let text = value.as_str().map(str::to_lowercase);
    let words = text.as_deref().map(|text| text.split('|').map(str::trim));
    match words.map(|mut words| words.any(|word| word == "layer_norm")) {
        Some(normed) => Ok(normed),
        None => Err(c.unsupported(key, value, "layer_norm, none")),
    }
}

fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    let act = c.act("hidden_act", Act::Gelu)?;
    match kind {
        HeadKind::Sequence => {
            let pooler = dense(c, "pooler.dense", c.act("pooler_hidden_act", Act::Gelu)?)?;
            classes(c, Over::First, pooler, "classifier")
        }
        HeadKind::Tokens => classes(c, Over::Each, None, "classifier"),
        HeadKind::Span => Ok(spans("qa_outputs")),
        HeadKind::Mask => {
            // transformers 4.57 cannot compute the other head of its own: tying the embedding breaks it.
            c.refuse_false("legacy", "true: the head cls.predictions")?;
            let names = MaskNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                out: "cls.predictions.decoder",
                biases: &["cls.predictions.bias", "cls.predictions.decoder.bias"],
            };
            Ok(names.head(&spec(c)?, act))
        }
    }
}
