//! One model: batching, lengths and the key/value cache.

use super::reason::LONG_PROMPTS;
use super::{OPTION, refused};
use crate::draft::Draft;
use crate::entry::{Entry, Status, Variable::Fills};
use crate::kind::Kind;
use crate::settings::KvDtype;
use crate::value::{Value, auto_or, bytes, count, flag, put, word};

pub(super) const BATCHING: &[Entry] = &[
    Entry {
        key: "option.rolling_batch",
        kind: Kind::OneOf(&[
            "auto",
            "scheduler",
            "lmi-dist",
            "vllm",
            "trtllm",
            "deepspeed",
            "neuron",
            "tnx",
            "disable",
        ]),
        since: "0.23",
        doc: "Batching and backend of DJL Serving. Requests always join and leave the batch \
              at every step; a rolling batch that is named, or disabled, chooses its \
              dialect.",
        status: Status::Translated {
            to: "the dialect, unless something stronger does (rolling, or huggingface)",
            apply: rolling_batch,
        },
        ..OPTION
    },
    Entry {
        key: "option.async_mode",
        kind: Kind::Flag,
        since: "0.33",
        doc: "Whether a worker gets requests one by one; chooses the asynchronous dialect.",
        status: Status::Translated {
            to: "the dialect, unless something stronger does (async)",
            apply: |d, v| put(&mut d.facts.async_mode, flag(v).map(Some)),
        },
        ..OPTION
    },
    Entry {
        key: "option.max_rolling_batch_size",
        aliases: &["option.max_num_seqs", "option.max_batch_size"],
        variables: &[Fills("MAX_BATCH_SIZE")],
        kind: Kind::Whole(1, 4096),
        default: "32",
        since: "0.23",
        doc: "Sequences computed at the same time.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.max_rolling_batch_size, count(v, 1..=4096))
        }),
        ..OPTION
    },
    Entry {
        key: "option.max_rolling_batch_prefill_tokens",
        aliases: &["option.max_num_batched_tokens", "option.max_num_tokens"],
        variables: &[Fills("MAX_BATCH_PREFILL_TOKENS")],
        kind: Kind::Whole(1, 1 << 20),
        default: "512",
        since: "0.24",
        doc: "Tokens computed in one step at most; longer prompts are computed in chunks, and in \
              smaller ones beside sequences that generate, so that these do not pause.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.max_batched_tokens, count(v, 1..=1 << 20))
        }),
        ..OPTION
    },
    Entry {
        key: "option.max_batch_tokens",
        kind: Kind::Whole(1, 1 << 20),
        default: "4096",
        since: "sconce",
        doc: "Tokens of all texts that are computed together for other tasks than text generation, at most; \
              a single text may have more.",
        status: Status::Honoured(|d, v| put(&mut d.model.max_batch_tokens, count(v, 1..=1 << 20))),
        ..OPTION
    },
    Entry {
        key: "option.max_model_len",
        aliases: &["option.max_seq_len", "option.n_positions"],
        default: "auto",
        since: "0.26",
        doc: "Longest sequence, prompt and answer, 2 to 16777216 tokens; auto: the model's \
              context, or what the key/value cache holds if that is less.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.model.max_model_len,
                auto_or(v, |v| count(v, 2..=1 << 24)),
            )
        }),
        ..OPTION
    },
    Entry {
        key: "option.max_tokens",
        kind: Kind::Number,
        doc: "DeepSpeed, TensorRT-LLM: tokens for which memory is reserved.",
        status: Status::NoOp(
            "the cache is planned from option.max_model_len and the memory at hand",
        ),
        ..OPTION
    },
    Entry {
        key: "option.max_input_len",
        kind: Kind::Number,
        since: "0.25",
        doc: "TensorRT-LLM: longest prompt.",
        status: Status::NoOp(LONG_PROMPTS),
        ..OPTION
    },
    Entry {
        key: "option.max_output_len",
        kind: Kind::Number,
        since: "0.25",
        doc: "TensorRT-LLM: longest answer.",
        status: Status::NoOp("an answer may be as long as option.max_model_len leaves room"),
        ..OPTION
    },
    Entry {
        key: "option.enable_prefix_caching",
        aliases: &["option.enable_kv_cache_reuse", "option.enable_block_reuse"],
        kind: Kind::Flag,
        default: "true",
        since: "0.29",
        doc: "Whether equal beginnings of prompts share their part of the cache.",
        status: Status::Honoured(|d, v| put(&mut d.model.prefix_caching, flag(v))),
        ..OPTION
    },
    Entry {
        key: "option.skip_safety_checker",
        kind: Kind::Flag,
        default: "false",
        since: "sconce",
        doc: "Whether pictures are answered without asking the safety checker that the pipeline has.",
        status: Status::Honoured(|d, v| put(&mut d.model.skips_safety_checker, flag(v))),
        ..OPTION
    },
    Entry {
        key: "option.vae_tiling",
        kind: Kind::OneOf(&["auto", "true", "false"]),
        default: "auto",
        since: "sconce",
        doc: "Whether the autoencoder of Stable Diffusion computes pictures that are larger than its `sample_size` in tiles, as \
              diffusers' enable_tiling does, which changes them a little; auto: only what memory does not hold in one piece.",
        status: Status::Honoured(|d, v| put(&mut d.model.vae_tiling, auto_or(v, flag))),
        ..OPTION
    },
    Entry {
        key: "option.kv_cache_memory",
        aliases: &["option.kv_cache_memory_bytes"],
        kind: Kind::Bytes,
        default: "auto",
        since: "sconce",
        doc: "Size of the key/value cache, as 512MiB or 2GB; auto: from the memory at hand.",
        status: Status::Honoured(|d, v| put(&mut d.model.kv_cache_bytes, auto_or(v, bytes))),
        ..OPTION
    },
    Entry {
        key: "option.kv_cache_dtype",
        kind: Kind::OneOf(&[
            "auto", "fp32", "float32", "f32", "float", "bf16", "bfloat16",
        ]),
        default: "auto",
        since: "0.32",
        doc: "Precision of the key/value cache: fp32 or, in half the memory, bf16; auto: bf16 with option.dtype=bf16, \
              else fp32.",
        status: Status::Honoured(|d, v| put(&mut d.model.kv_dtype, kv_dtype(v))),
        ..OPTION
    },
    Entry {
        key: "option.enable_chunked_prefill",
        kind: Kind::Flag,
        since: "0.29",
        doc: "Whether long prompts are computed in chunks.",
        status: Status::NoOp("long prompts always are; the answer does not depend on it"),
        ..OPTION
    },
    Entry {
        key: "option.paged_attention",
        kind: Kind::Flag,
        since: "0.24",
        until: "0.25",
        doc: "LMI-dist: whether the cache is paged.",
        status: Status::NoOp("the cache is always paged"),
        ..OPTION
    },
    Entry {
        key: "option.disable_flash_attn",
        kind: Kind::Flag,
        since: "0.24",
        doc: "Whether attention avoids flash kernels.",
        status: Status::NoOp("the attention kernel is built in"),
        ..OPTION
    },
    Entry {
        key: "option.disable_sliding_window",
        kind: Kind::Flag,
        since: "0.30",
        doc: "vLLM: whether attention sees no further than its window.",
        status: refused(
            "the architecture says how far attention sees; remove it",
            &["false"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.waiting_steps",
        kind: Kind::Number,
        since: "0.24",
        doc: "Steps before waiting requests are admitted.",
        status: Status::NoOp("requests are admitted as soon as there is room"),
        ..OPTION
    },
    Entry {
        key: "option.max_sparsity",
        kind: Kind::Number,
        since: "0.25",
        until: "0.32",
        doc: "Scheduler: share of padding that is tolerated.",
        status: Status::NoOp("there is no padding"),
        ..OPTION
    },
    Entry {
        key: "option.max_splits",
        kind: Kind::Number,
        since: "0.25",
        until: "0.32",
        doc: "Scheduler: parts into which a padded batch is split.",
        status: Status::NoOp("there is no padding"),
        ..OPTION
    },
    Entry {
        key: "option.scheduling_policy",
        since: "0.32",
        doc: "vLLM: order of waiting requests.",
        status: refused(
            "requests are admitted in the order of their arrival; remove it",
            &["fcfs"],
        ),
        ..OPTION
    },
];

/// Keeps what the dialect depends on: whether a rolling batch is named or disabled.
fn rolling_batch(draft: &mut Draft, value: &str) -> Value<()> {
    const NAMES: &[(&str, bool)] = &[
        ("auto", true),
        ("scheduler", true),
        ("lmi-dist", true),
        ("vllm", true),
        ("trtllm", true),
        ("deepspeed", true),
        ("neuron", true),
        ("tnx", true),
        ("disable", false),
    ];
    put(&mut draft.facts.rolling_batch, word(value, NAMES).map(Some))
}

fn kv_dtype(value: &str) -> Value<KvDtype> {
    const DTYPES: &[(&str, KvDtype)] = &[
        ("auto", KvDtype::Auto),
        ("fp32", KvDtype::F32),
        ("float32", KvDtype::F32),
        ("f32", KvDtype::F32),
        ("float", KvDtype::F32),
        ("bf16", KvDtype::Bf16),
        ("bfloat16", KvDtype::Bf16),
    ];
    word(value, DTYPES)
}
