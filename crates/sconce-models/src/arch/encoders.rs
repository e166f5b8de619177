//! The families of encoders: what one consists of, the list of all, and what several share.

use sconce_nn::Act;

use super::{albert, bert, deberta, distilbert, electra, modernbert, mpnet, roberta};
use crate::config_error::ConfigError;
use crate::decoder::NormKind;
use crate::encoder::{
    Dense, EncoderDims, EncoderSpec, HeadKind, HeadSpec, Labels, Out, Over, Place, PlaceNames,
};
use crate::hf_config::HfConfig;

/// All families of encoders that are built in.
pub const ENCODERS: &[&EncoderArch] = &[
    &bert::ARCH,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &roberta::CAMEMBERT,
    &distilbert::ARCH,
    &albert::ARCH,
    &electra::ARCH,
    &mpnet::ARCH,
    &deberta::ARCH,
    &modernbert::ARCH,
];

/// A family of encoders, as data.
#[derive(Debug)]
pub struct EncoderArch {
    /// What its class names begin with.
    pub family: &'static str,
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Where the weights are, as lists of which several families share some.
    pub weights: &'static [PlaceNames],
    /// Beginnings of the names of tensors that belong to heads; those of other heads than the one in use are left alone.
    pub heads: &'static [&'static str],
    /// Endings of the names of tensors that are known and not needed; any other that is not read is an error.
    pub ignore: &'static [&'static str],
    /// The encoder that a configuration describes.
    pub spec: fn(&HfConfig) -> Result<EncoderSpec, ConfigError>,
    /// The head of the family for a kind of output.
    pub head: fn(&HfConfig, HeadKind) -> Result<HeadSpec, ConfigError>,
}

/// Endings of class names, and the head that such a checkpoint was trained with.
const CLASSES: &[(&str, Option<HeadKind>)] = &[
    ("Model", None),
    ("ForSequenceClassification", Some(HeadKind::Sequence)),
    ("ForTokenClassification", Some(HeadKind::Tokens)),
    ("ForQuestionAnswering", Some(HeadKind::Span)),
    ("ForMaskedLM", Some(HeadKind::Mask)),
    ("ForPreTraining", Some(HeadKind::Mask)),
];

impl EncoderArch {
    /// The name of a place's weights, without `.weight` and `.bias`.
    pub(crate) fn name(&self, place: Place) -> &'static str {
        let mut all = self.weights.iter().flat_map(|names| names.iter());
        let found = all.find(|(listed, _)| *listed == place);
        found.map_or("", |(_, name)| *name)
    }

    /// The head of one of the family's classes; `None`: the class is not of this family.
    pub fn class(&self, name: &str) -> Option<Option<HeadKind>> {
        let ending = name.strip_prefix(self.family)?;
        let found = CLASSES.iter().find(|(listed, _)| *listed == ending);
        found.map(|(_, head)| *head)
    }

    /// The class names that are served.
    pub fn classes(&self) -> impl Iterator<Item = String> {
        let endings = CLASSES.iter().map(|(ending, _)| *ending);
        // Pre-trained checkpoints have a head for masked words in BERT's family alone.
        let endings = endings.filter(|ending| *ending != "ForPreTraining" || self.family == "Bert");
        endings.map(|ending| format!("{}{ending}", self.family))
    }
}

/// The family that the configuration names, and the head that its class has.
pub fn find_encoder(
    config: &HfConfig,
) -> Result<Option<(&'static EncoderArch, Option<HeadKind>)>, ConfigError> {
    let names = config.architectures()?;
    let of_name = |name: &str| {
        ENCODERS
            .iter()
            .find_map(|arch| arch.class(name).map(|head| (*arch, head)))
    };
    if let Some(found) = names.iter().find_map(|name| of_name(name)) {
        return Ok(Some(found));
    }
    // Models of sentence-transformers sometimes name no class.
    let kind = config
        .find("model_type")
        .and_then(|(_, value)| value.as_str());
    let by_type = ENCODERS.iter().find(|arch| Some(arch.model_type) == kind);
    Ok(by_type
        .filter(|_| names.is_empty())
        .map(|arch| (*arch, None)))
}

/// BERT's embeddings, as most families name them below their prefix; the prefix has to be a literal.
macro_rules! bert_names {
    ($prefix:literal) => {
        &[
            (Place::Embed, concat!($prefix, "embeddings.word_embeddings")),
            (
                Place::Positions,
                concat!($prefix, "embeddings.position_embeddings"),
            ),
            (
                Place::Types,
                concat!($prefix, "embeddings.token_type_embeddings"),
            ),
            (Place::EmbedNorm, concat!($prefix, "embeddings.LayerNorm")),
            (
                Place::Query,
                concat!($prefix, "encoder.layer.{}.attention.self.query"),
            ),
            (
                Place::Key,
                concat!($prefix, "encoder.layer.{}.attention.self.key"),
            ),
            (
                Place::Value,
                concat!($prefix, "encoder.layer.{}.attention.self.value"),
            ),
            (
                Place::AttnOut,
                concat!($prefix, "encoder.layer.{}.attention.output.dense"),
            ),
            (
                Place::AttnNorm,
                concat!($prefix, "encoder.layer.{}.attention.output.LayerNorm"),
            ),
            (
                Place::Up,
                concat!($prefix, "encoder.layer.{}.intermediate.dense"),
            ),
            (
                Place::Down,
                concat!($prefix, "encoder.layer.{}.output.dense"),
            ),
            (
                Place::MlpNorm,
                concat!($prefix, "encoder.layer.{}.output.LayerNorm"),
            ),
        ]
    };
}
pub(super) use bert_names;

/// The sizes and defaults of BERT's form; `context` is the default of `max_position_embeddings`, `eps` of the norms.
pub(super) struct BertForm {
    pub(super) context: usize,
    pub(super) eps: f64,
    /// Default of `type_vocab_size`.
    pub(super) types: usize,
    /// Default of `hidden_act`.
    pub(super) act: Act,
}

impl BertForm {
    /// BERT's own.
    pub(super) const BERT: Self = Self {
        context: 512,
        eps: 1e-12,
        types: 2,
        act: Act::Gelu,
    };

    /// The encoder that the configuration describes.
    pub(super) fn spec(&self, c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
        c.refuse_true("is_decoder", "false: an encoder")?;
        c.refuse_true("add_cross_attention", "false: an encoder")?;
        c.refuse_unless("position_embedding_type", &["absolute"])?;
        let sizes = c.dims(self.context)?;
        let dims = EncoderDims {
            width: sizes.width,
            embed: c.size_or("embedding_size", sizes.width)?,
            heads: sizes.heads,
            inner: sizes.inner,
            vocab: sizes.vocab,
            positions: sizes.context,
            types: c.count("type_vocab_size", self.types)?,
            context: sizes.context,
        };
        let norm = NormKind::layer(c.float("layer_norm_eps", self.eps)?);
        let act = c.act("hidden_act", self.act)?;
        Ok(EncoderSpec::plain(dims, sizes.layers, norm, act))
    }
}

/// The keys of `config.json` that decide how many classes there are.
const LABEL_KEYS: &str = "id2label or num_labels, hidden_size";

/// A head of classes: `over` what it looks, a projection before it, the name of the output.
pub(super) fn classes(
    c: &HfConfig,
    over: Over,
    dense: Option<Dense>,
    name: &'static str,
) -> Result<HeadSpec, ConfigError> {
    Ok(HeadSpec {
        over,
        dense,
        norm: None,
        out: Out::Own { name, bias: true },
        outputs: Labels::read(c)?.names.len(),
        keys: LABEL_KEYS,
    })
}

/// The head of beginnings and ends, a plain projection in all families but one.
pub(super) fn spans(name: &'static str) -> HeadSpec {
    HeadSpec {
        over: Over::Each,
        dense: None,
        norm: None,
        out: Out::Own { name, bias: true },
        outputs: 2,
        keys: "two: first and last token",
    }
}

/// The names of a head for masked words.
pub(super) struct MaskNames {
    pub(super) dense: &'static str,
    pub(super) norm: &'static str,
    pub(super) out: &'static str,
    pub(super) biases: &'static [&'static str],
}

impl MaskNames {
    /// A projection with this activation, a norm, and the embedding again.
    pub(super) fn head(&self, spec: &EncoderSpec, act: Act) -> HeadSpec {
        HeadSpec {
            over: Over::Each,
            dense: Some(Dense {
                name: self.dense,
                bias: true,
                act,
                width: spec.dims.embed,
            }),
            norm: Some((self.norm, spec.norm)),
            out: Out::Tied {
                name: self.out,
                biases: self.biases,
            },
            outputs: spec.dims.vocab,
            keys: "vocab_size, hidden_size",
        }
    }
}

/// A projection from the width of the layers to itself, with a bias.
pub(super) fn dense(
    c: &HfConfig,
    name: &'static str,
    act: Act,
) -> Result<Option<Dense>, ConfigError> {
    Ok(Some(Dense {
        name,
        bias: true,
        act,
        width: c.size("hidden_size")?,
    }))
}
