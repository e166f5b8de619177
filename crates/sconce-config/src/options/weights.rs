//! One model: weights in fewer bits and in other files, adapters.

use super::placement::dtype;
use super::quantize::quantize;
use super::reason::{OF_LORA, OF_QUANTIZE, PARTITIONED};
use super::{OPTION, refused};
use crate::entry::{Entry, Status, Variable::Fills};
use crate::kind::Kind;
use crate::settings::Quantize;
use crate::value::{count, flag, put, text};

pub(super) const WEIGHTS: &[Entry] = &[
    Entry {
        key: "option.quantize",
        aliases: &["option.quantization"],
        variables: &[Fills("HF_MODEL_QUANTIZE")],
        since: "0.23",
        default: "none",
        doc: "Weights in fewer bits, made while loading: q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1, \
              q4_0 are llama.cpp's formats; q8_row (int8, bitsandbytes8, static_int8, dynamic_int8, eetq): 8 bits with one \
              scale for a row of weights, the fastest with long prompts, and q8_0 for the output projection; int4 \
              (bitsandbytes4, bitsandbytes-nf4): q4_k, or q4_0 where rows are no multiples of 256. \
              As there, rows that fill no block of 256 get the next larger format of blocks of 32 \
              (q5_0, q5_1, q8_0), the output projection and an embedding tied to it q6_k or q8_0; \
              norms, biases and routers stay. awq, gptq: the checkpoint is packed so.",
        status: Status::Honoured(|d, v| put(&mut d.model.quantize, quantize(v))),
        ..OPTION
    },
    Entry {
        key: "option.load_in_8bit",
        kind: Kind::Flag,
        doc: "Old name of option.quantize=bitsandbytes8.",
        status: Status::Translated {
            to: "option.quantize=int8",
            apply: |d, v| {
                if flag(v)? {
                    d.model.quantize = Quantize::Q8Row;
                }
                Ok(())
            },
        },
        ..OPTION
    },
    Entry {
        key: "option.load_in_4bit",
        kind: Kind::Flag,
        since: "0.23",
        doc: "Old name of option.quantize=bitsandbytes4.",
        status: Status::Translated {
            to: "option.quantize=int4",
            apply: |d, v| {
                if flag(v)? {
                    d.model.quantize = Quantize::Int4;
                }
                Ok(())
            },
        },
        ..OPTION
    },
    Entry {
        key: "option.smoothquant_alpha",
        kind: Kind::Number,
        since: "0.24",
        until: "0.27",
        doc: "SmoothQuant: its strength.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.smoothquant_per_token",
        kind: Kind::Flag,
        since: "0.25",
        doc: "SmoothQuant: a scale for each token.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.smoothquant_per_channel",
        kind: Kind::Flag,
        since: "0.25",
        doc: "SmoothQuant: a scale for each channel.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.multi_query_mode",
        kind: Kind::Flag,
        since: "0.25",
        doc: "SmoothQuant: whether heads share keys.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.smoothing",
        since: "0.24",
        until: "0.27",
        doc: "Neuron: smoothing before quantisation.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.calibrate",
        since: "0.24",
        until: "0.27",
        doc: "Whether scales are measured.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.calib_size",
        kind: Kind::Number,
        since: "0.28",
        doc: "Texts from which scales are measured.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.calib_batch_size",
        kind: Kind::Number,
        since: "0.29",
        doc: "Texts measured at the same time.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.q_format",
        since: "0.28",
        doc: "TensorRT-LLM: form of quantised weights.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.use_fp8_context_fmha",
        kind: Kind::Flag,
        since: "0.29",
        doc: "TensorRT-LLM: attention over prompts in 8 bits.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_format",
        since: "0.26",
        doc: "AWQ: form of weights.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_calib_size",
        kind: Kind::Number,
        since: "0.26",
        doc: "AWQ: texts from which scales are measured.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_block_size",
        kind: Kind::Number,
        since: "0.30",
        doc: "AWQ: weights that share a scale.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_weight_bit_width",
        kind: Kind::Number,
        since: "0.30",
        doc: "AWQ: bits of a weight.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_zero_point",
        kind: Kind::Flag,
        since: "0.30",
        doc: "AWQ: whether zero is shifted.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_mm_version",
        since: "0.30",
        doc: "AWQ: kind of product.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.awq_ignore_layers",
        since: "0.30",
        doc: "AWQ: layers that keep their precision.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.fp8_scheme",
        since: "0.32",
        doc: "8-bit floats: how scales are chosen.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.fp8_ignore",
        since: "0.32",
        doc: "8-bit floats: layers that keep their precision.",
        status: Status::NoOp(OF_QUANTIZE),
        ..OPTION
    },
    Entry {
        key: "option.load_format",
        since: "0.26",
        default: "auto",
        doc: "stream, or vLLM's runai_streamer: weights of decoders come straight from S3 into memory, each rank's \
              part alone, and nothing but texts and headers is written to the disk. Anything else has no effect: the \
              files of the checkpoint tell their format.",
        status: Status::Honoured(|d, v| {
            d.model.streams = matches!(v, "stream" | "runai_streamer");
            Ok(())
        }),
        ..OPTION
    },
    Entry {
        key: "option.is_peft_model",
        kind: Kind::Flag,
        since: "0.30",
        doc: "Whether the checkpoint is a LoRA adapter.",
        status: Status::NoOp("a folder with adapter_config.json and without config.json is one"),
        ..OPTION
    },
    Entry {
        key: "option.split",
        doc: "Partitioning: how the checkpoint is cut.",
        status: Status::NoOp("every rank cuts its part while loading"),
        ..OPTION
    },
    Entry {
        key: "option.save_mp_checkpoint_path",
        since: "0.21",
        doc: "Where a checkpoint that is partitioned or compiled ahead of time is written.",
        status: refused(PARTITIONED, &[]),
        ..OPTION
    },
    Entry {
        key: "option.checkpoint",
        until: "0.27",
        doc: "DeepSpeed: index of a partitioned checkpoint.",
        status: refused(PARTITIONED, &[]),
        ..OPTION
    },
    Entry {
        key: "option.trtllm_checkpoint_path",
        since: "0.29",
        doc: "TensorRT-LLM: a converted checkpoint.",
        status: refused(PARTITIONED, &[]),
        ..OPTION
    },
    Entry {
        key: "option.enable_lora",
        kind: Kind::Flag,
        default: "false",
        since: "0.27",
        doc: "Whether requests may name LoRA adapters: folders as PEFT writes them.",
        status: Status::Honoured(|d, v| put(&mut d.model.lora.enabled, flag(v))),
        ..OPTION
    },
    Entry {
        key: "option.adapters",
        default: "adapters",
        since: "0.24",
        doc: "Folder within the model's; each folder in it is an adapter of that name from the start.",
        status: Status::Honoured(|d, v| put(&mut d.model.lora.dir, text(v).map(Into::into))),
        ..OPTION
    },
    Entry {
        key: "option.max_loras",
        kind: Kind::Whole(1, 4096),
        default: "4",
        since: "0.27",
        doc: "Adapters in memory, and so in one batch, unless option.max_cpu_loras is more; memory is planned for them.",
        status: Status::Honoured(|d, v| put(&mut d.model.lora.max_loras, count(v, 1..=4096))),
        ..OPTION
    },
    Entry {
        key: "option.max_lora_rank",
        kind: Kind::Whole(1, 1024),
        default: "16",
        since: "0.27",
        doc: "Greatest rank of an adapter; memory is planned for it.",
        status: Status::Honoured(|d, v| put(&mut d.model.lora.max_rank, count(v, 1..=1024))),
        ..OPTION
    },
    Entry {
        key: "option.max_cpu_loras",
        kind: Kind::Whole(1, 4096),
        since: "0.27",
        doc: "Adapters in memory, if that is more than option.max_loras. Registered are as many as one likes: others are \
              loaded when they are asked for, in place of the one that was not used for longest.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.model.lora.max_cpu_loras,
                count(v, 1..=4096).map(Some),
            )
        }),
        ..OPTION
    },
    Entry {
        key: "option.lora_dtype",
        kind: Kind::OneOf(&["auto", "float16", "bfloat16", "float32"]),
        default: "auto",
        since: "0.31",
        doc: "Precision of adapters; auto: that of option.dtype, else as they are stored.",
        status: Status::Honoured(|d, v| put(&mut d.model.lora.dtype, dtype(v))),
        ..OPTION
    },
    Entry {
        key: "option.lora_extra_vocab_size",
        kind: Kind::Number,
        since: "0.27",
        until: "0.34",
        doc: "Tokens that an adapter may add.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
    Entry {
        key: "option.long_lora_scaling_factors",
        since: "0.31",
        doc: "Factors of adapters for long contexts.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
    Entry {
        key: "option.fully_sharded_loras",
        kind: Kind::Flag,
        since: "0.32",
        doc: "Whether ranks cut both halves of an adapter.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
    Entry {
        key: "option.enable_lora_bias",
        kind: Kind::Flag,
        since: "0.32",
        doc: "Whether adapters have biases.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
    Entry {
        key: "option.default_mm_loras",
        kind: Kind::Json,
        since: "0.35",
        doc: "Adapters for pictures and sound.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
    Entry {
        key: "option.qlora_adapter_name_or_path",
        since: "0.32",
        until: "0.34",
        doc: "vLLM: a QLoRA adapter.",
        status: refused(
            "put the adapter into the folder adapters and set option.enable_lora",
            &["None"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.enable_prompt_adapter",
        kind: Kind::Flag,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: whether requests may name prompt adapters.",
        status: refused("prompt adapters are not served; remove it", &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.max_prompt_adapters",
        kind: Kind::Number,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: prompt adapters in one batch.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
    Entry {
        key: "option.max_prompt_adapter_token",
        kind: Kind::Number,
        since: "0.32",
        until: "0.34",
        doc: "vLLM: length of a prompt adapter.",
        status: Status::NoOp(OF_LORA),
        ..OPTION
    },
];
