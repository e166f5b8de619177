//! Backends that DJL Serving has given up: DeepSpeed, FasterTransformer, Neuron, Stable Diffusion.

use super::reason::{NEURON, NO_CUDA};
use super::{OPTION, refused};
use crate::entry::{Entry, Status};
use crate::kind::Kind;

pub(super) const RETIRED: &[Entry] = &[
    Entry {
        key: "option.enable_cuda_graph",
        kind: Kind::Flag,
        until: "0.27",
        doc: "DeepSpeed: whether launches are recorded.",
        status: Status::NoOp(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.triangular_masking",
        kind: Kind::Flag,
        until: "0.27",
        doc: "DeepSpeed: whether attention is causal.",
        status: Status::NoOp("the architecture says whether attention is causal"),
        ..OPTION
    },
    Entry {
        key: "option.return_tuple",
        kind: Kind::Flag,
        until: "0.27",
        doc: "DeepSpeed: what a layer returns.",
        status: Status::NoOp("layers are built in"),
        ..OPTION
    },
    Entry {
        key: "option.training_mp_size",
        kind: Kind::Number,
        until: "0.27",
        doc: "DeepSpeed: ranks that trained the checkpoint.",
        status: Status::NoOp("checkpoints of the Hugging Face form are whole"),
        ..OPTION
    },
    Entry {
        key: "option.replace_with_kernel_inject",
        kind: Kind::Flag,
        until: "0.27",
        doc: "DeepSpeed: whether its kernels are used.",
        status: Status::NoOp("kernels are built in"),
        ..OPTION
    },
    Entry {
        key: "option.deepspeed_config_path",
        aliases: &["option.ds_config"],
        kind: Kind::Path,
        since: "0.21",
        until: "0.27",
        doc: "DeepSpeed: its own configuration.",
        status: refused("DeepSpeed's own settings are not read; remove it", &[]),
        ..OPTION
    },
    Entry {
        key: "option.unroll",
        since: "0.21",
        until: "0.34",
        doc: "Neuron: layers that are compiled together.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.amp",
        since: "0.21",
        until: "0.34",
        doc: "Neuron: precision of computation.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.load_split_model",
        kind: Kind::Flag,
        since: "0.25",
        until: "0.34",
        doc: "Neuron: whether the checkpoint is in parts.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.compiled_graph_path",
        since: "0.25",
        until: "0.34",
        doc: "Neuron: the compiled model.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.context_length_estimate",
        since: "0.25",
        until: "0.34",
        doc: "Neuron: lengths of prompts to compile for.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.neuron_optimize_level",
        kind: Kind::Number,
        since: "0.24",
        until: "0.34",
        doc: "Neuron: effort of compiling.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.enable_mixed_precision_accumulation",
        kind: Kind::Flag,
        since: "0.26",
        until: "0.34",
        doc: "Neuron: how sums are rounded.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.enable_saturate_infinity",
        kind: Kind::Flag,
        since: "0.27",
        until: "0.34",
        doc: "Neuron: whether infinity is cut.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.group_query_attention",
        since: "0.26",
        until: "0.34",
        doc: "Neuron: how shared heads are cut.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.model_loader",
        until: "0.34",
        doc: "Neuron: whose code loads the model.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.rolling_batch_strategy",
        since: "0.27",
        until: "0.34",
        doc: "Neuron: how requests are batched.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.fuse_qkv",
        kind: Kind::Flag,
        since: "0.27",
        until: "0.34",
        doc: "Neuron: whether queries, keys and values are one product.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.on_device_embedding",
        kind: Kind::Flag,
        since: "0.27",
        until: "0.34",
        doc: "Neuron: where embeddings are.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.collectives_layout",
        since: "0.27",
        until: "0.34",
        doc: "Neuron: how ranks exchange.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.attention_layout",
        since: "0.28",
        until: "0.34",
        doc: "Neuron: how attention lies in memory.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.cache_layout",
        since: "0.28",
        until: "0.34",
        doc: "Neuron: how the cache lies in memory.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.all_reduce_dtype",
        since: "0.28",
        until: "0.34",
        doc: "Neuron: precision of sums over ranks.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.cast_logits_dtype",
        since: "0.28",
        until: "0.34",
        doc: "Neuron: precision of logits.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.shard_over_sequence",
        kind: Kind::Flag,
        since: "0.30",
        until: "0.34",
        doc: "Neuron: whether ranks cut sequences.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.sequence_parallel_norm",
        kind: Kind::Flag,
        since: "0.31",
        until: "0.34",
        doc: "Neuron: whether norms are cut.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.partition_schema",
        since: "0.27",
        until: "0.34",
        doc: "Neuron: how the checkpoint is cut.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.model_schema",
        since: "0.27",
        until: "0.34",
        doc: "Neuron: how the checkpoint is cut.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.save_compiled_model",
        since: "0.23",
        until: "0.25",
        doc: "Neuron: where the compiled model is put.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.compiler_args",
        since: "0.23",
        until: "0.34",
        doc: "Neuron: options of the compiler.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.seq_length",
        kind: Kind::Number,
        since: "0.21",
        until: "0.34",
        doc: "Neuron: longest sequence to compile for.",
        status: Status::NoOp(NEURON),
        ..OPTION
    },
    Entry {
        key: "option.use_stable_diffusion",
        kind: Kind::Flag,
        since: "0.23",
        until: "0.34",
        doc: "Neuron: whether it is Stable Diffusion.",
        status: Status::NoOp("the model's folder says what it is"),
        ..OPTION
    },
    Entry {
        key: "option.height",
        kind: Kind::Number,
        ..PICTURES
    },
    Entry {
        key: "option.width",
        kind: Kind::Number,
        ..PICTURES
    },
    Entry {
        key: "option.num_images_per_prompt",
        kind: Kind::Number,
        ..PICTURES
    },
];

const PICTURES: Entry = Entry {
    since: "0.23",
    until: "0.34",
    doc: "Stable Diffusion: size or number of pictures.",
    status: Status::NoOp("nothing is compiled for one size: requests say what they want"),
    ..OPTION
};
