//! What DJL's Java translators and its handlers for classical models read: embeddings, classes,
//! tables. Tasks are served from the files of the checkpoint; classical models are not served yet.

use sconce_core::task::Pooling;

use super::reason::{PREDICTIVE, TRANSLATORS};
use super::{MODEL, OPTION, refused};
use crate::entry::{Entry, Status};
use crate::kind::Kind;
use crate::value::{Value, flag, put, word};

/// The words of DJL's translators.
fn pooling(value: &str) -> Value<Pooling> {
    const WORDS: &[(&str, Pooling)] = &[
        ("cls", Pooling::First),
        ("max", Pooling::Max),
        ("mean", Pooling::Mean),
        ("mean_sqrt_len", Pooling::MeanSqrt),
        ("weightedmean", Pooling::Weighted),
        ("lasttoken", Pooling::Last),
    ];
    word(value, WORDS)
}

pub(super) const TRANSLATOR_KEYS: &[Entry] = &[
    Entry {
        key: "option.model_format",
        since: "0.36",
        doc: "scikit-learn, XGBoost: format of the model.",
        status: Status::NoOp(PREDICTIVE),
        ..OPTION
    },
    Entry {
        key: "option.skops_trusted_types",
        since: "0.36",
        doc: "scikit-learn: types that may be loaded.",
        status: Status::NoOp(PREDICTIVE),
        ..OPTION
    },
    Entry {
        key: "option.trust_insecure_model_files",
        kind: Kind::Flag,
        since: "0.36",
        doc: "scikit-learn, XGBoost: whether pickles may be loaded.",
        status: Status::NoOp(PREDICTIVE),
        ..OPTION
    },
    Entry {
        key: "translatorFactory",
        aliases: &["translator"],
        doc: "Java class that reads requests.",
        status: refused(
            "it names Java code; option.task says what the model does",
            &[],
        ),
        ..MODEL
    },
    Entry {
        key: "pooling",
        kind: Kind::OneOf(&[
            "cls",
            "max",
            "mean",
            "mean_sqrt_len",
            "weightedmean",
            "lasttoken",
        ]),
        doc: "How the vectors of tokens become one, whatever the checkpoint says; with \
              option.task=feature-extraction a text then has one.",
        status: Status::Honoured(|d, v| put(&mut d.model.pooling, pooling(v).map(Some))),
        ..MODEL
    },
    Entry {
        key: "dense",
        doc: "Java: a layer after pooling.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "denseActivation",
        doc: "Java: activation of that layer.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "layerNorm",
        doc: "Java: a norm after pooling.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "includeTokenTypes",
        doc: "Java: whether segments are numbered.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "maxLength",
        kind: Kind::Number,
        doc: "Java: tokens after which a text is cut.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "padding",
        doc: "Java: whether texts are padded.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "truncation",
        doc: "Java: whether texts are cut.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "reranking",
        doc: "Java: whether pairs are scored.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "sparse",
        doc: "Java: whether words are weighed.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "returnDenseVecs",
        doc: "Java: whether vectors are answered as well.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "sigmoid",
        doc: "Java: whether scores lie between 0 and 1.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "softmax",
        doc: "Java: whether scores add up to 1.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "topK",
        kind: Kind::Number,
        doc: "Java: classes that are answered.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "threshold",
        kind: Kind::Number,
        doc: "Java: least score of an answer.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "hasParameter",
        aliases: &["option.hasParameter"],
        doc: "Java: whether requests have parameters.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "application",
        doc: "Java: DJL's name of the task.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "batchifier",
        doc: "Java: how inputs become a batch.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "resize",
        doc: "Java: how pictures are scaled.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "rescale",
        doc: "Java: how pictures are scaled.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "toTensor",
        doc: "Java: whether pictures become numbers.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "centerCrop",
        doc: "Java: whether pictures are cut.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "synsetFileName",
        doc: "Java: file with names of classes.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "synset",
        doc: "Java: names of classes.",
        status: Status::NoOp(TRANSLATORS),
        ..MODEL
    },
    Entry {
        key: "option.normalize",
        kind: Kind::Flag,
        doc: "Whether vectors of texts have the length 1, whatever the checkpoint says; with \
              option.task=feature-extraction true makes those of tokens so.",
        status: Status::Honoured(|d, v| put(&mut d.model.normalize, flag(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.mapLocation",
        doc: "PyTorch: whether weights are moved.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.extraFiles",
        doc: "PyTorch: further files.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.trainParam",
        doc: "PyTorch: whether gradients are kept.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.optimization",
        doc: "ONNX: how the graph is simplified.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.customOpLibrary",
        doc: "ONNX: further operators.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.interOpNumThreads",
        kind: Kind::Number,
        doc: "ONNX: threads between operators.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.intraOpNumThreads",
        kind: Kind::Number,
        doc: "ONNX: threads within an operator.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.disablePerSessionThreads",
        doc: "ONNX: whether sessions share threads.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.executionMode",
        doc: "ONNX: order of operators.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.optLevel",
        doc: "ONNX: effort of simplification.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.memoryPatternOptimization",
        doc: "ONNX: how memory is planned.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.cpuArenaAllocator",
        doc: "ONNX: how memory is taken.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
    Entry {
        key: "option.ortDevice",
        doc: "ONNX: where it computes.",
        status: Status::NoOp("it belongs to DJL's engines for other formats"),
        ..OPTION
    },
];
