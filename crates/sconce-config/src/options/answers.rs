//! One model: time limits, sampling and the form of answers.

use super::reason::{PREDICTIVE, REASONING};
use super::{OPTION, refused};
use crate::entry::{Entry, Status, Variable::Fills, Variable::Overrides};
use crate::kind::Kind;
use crate::value::{Rejection, Value, flag, put, seconds, text, text_list, word};
use sconce_core::OutputFormatter;

pub(super) const ANSWERS: &[Entry] = &[
    Entry {
        key: "option.predict_timeout",
        aliases: &["option.prediction_timeout"],
        variables: &[
            Overrides("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"),
            Fills("PREDICT_TIMEOUT"),
        ],
        kind: Kind::Seconds,
        default: "240",
        doc: "Seconds after which a request that is not finished fails.",
        status: Status::Honoured(|d, v| put(&mut d.model.predict_timeout, seconds(v))),
        ..OPTION
    },
    Entry {
        key: "option.model_loading_timeout",
        variables: &[
            Overrides("SAGEMAKER_STARTUP_TIMEOUT"),
            Fills("MODEL_LOADING_TIMEOUT"),
        ],
        kind: Kind::Seconds,
        default: "1200",
        doc: "Seconds after which a model that is not ready has failed.",
        status: Status::Honoured(|d, v| put(&mut d.model.model_loading_timeout, seconds(v))),
        ..OPTION
    },
    Entry {
        key: "option.output_formatter",
        since: "0.23",
        doc: "Form of answers: json, jsonlines or sse, or a function of model.py that makes them. Unset: as the dialect has it.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.output_formatter, output_formatter(v).map(Some))
        }),
        ..OPTION
    },
    Entry {
        key: "option.input_formatter",
        since: "0.28",
        doc: "The user's own parser of requests.",
        status: refused(
            "a function for requests is not named but decorated: write @input_formatter above it in model.py, and remove this",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.enable_streaming",
        kind: Kind::OneOf(&["true", "false", "huggingface"]),
        default: "false",
        since: "0.22",
        doc: "Dialects with fixed batches: whether answers are streamed.",
        status: Status::Honoured(|d, v| put(&mut d.model.streaming, streaming(v))),
        ..OPTION
    },
    Entry {
        key: "option.tgi_compat",
        kind: Kind::Flag,
        since: "0.28",
        doc: "Whether a rolling batch answers as Text Generation Inference does.",
        status: Status::Translated {
            to: "the dialect, unless something stronger does (tgi-compat)",
            apply: |d, v| put(&mut d.facts.tgi_compat, flag(v).map(Some)),
        },
        ..OPTION
    },
    Entry {
        key: "option.bedrock_compat",
        kind: Kind::Flag,
        since: "0.29",
        doc: "Whether answers have Bedrock's form.",
        status: refused(
            "answers do not have Bedrock's form yet; remove it",
            &["false"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.served_model_name",
        since: "0.32",
        doc: "Name of the model in answers that name one.",
        status: Status::Honoured(|d, v| put(&mut d.model.served_model_name, text(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.stop_sequence",
        since: "0.24",
        doc: "Texts that end every answer, as a list: ['a', 'b'].",
        status: Status::Honoured(|d, v| put(&mut d.model.stop_sequences, text_list(v))),
        ..OPTION
    },
    Entry {
        key: "option.max_new_tokens",
        kind: Kind::Number,
        doc: "Length of answers.",
        status: Status::NoOp(
            "no release reads it; each request says so in its parameter max_new_tokens",
        ),
        ..OPTION
    },
    Entry {
        key: "option.generation_config",
        kind: Kind::OneOf(&["auto", "vllm"]),
        since: "0.32",
        doc: "Where what a request leaves open of sampling comes from. vllm: no sampling and \
              no penalties, as rolling batches have it; auto: do_sample, temperature, top_k, \
              top_p, min_p, typical_p and repetition_penalty as the checkpoint's \
              generation_config.json says. Unset: vllm for dialects with a rolling batch and \
              for TGI, auto for the others. End-of-text tokens are read from it either way.",
        status: Status::Honoured(|d, v| {
            put(&mut d.generation_config, generation_config(v).map(Some))
        }),
        ..OPTION
    },
    Entry {
        key: "option.override_generation_config",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: changes to generation_config.json.",
        status: refused("each request says so in its parameters; remove it", &["{}"]),
        ..OPTION
    },
    Entry {
        key: "option.decoding_strategy",
        since: "0.23",
        until: "0.32",
        doc: "Scheduler: greedy, sample or contrastive.",
        status: refused(
            "each request says so in its parameter do_sample; remove it",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.seed",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: seed of requests that have none.",
        status: Status::NoOp("such requests get a random seed; give it in the request"),
        ..OPTION
    },
    Entry {
        key: "option.max_logprobs",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: most log-probabilities that a request may ask for.",
        status: Status::NoOp("the limit is built in"),
        ..OPTION
    },
    Entry {
        key: "option.logprobs_mode",
        since: "0.35",
        doc: "vLLM: of what log-probabilities are taken.",
        status: refused(
            "they are those of the model, before sampling; remove it",
            &["raw_logprobs"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.chat_template",
        kind: Kind::Path,
        since: "0.32",
        doc: "File with the template that makes a prompt of a chat, in place of the checkpoint's own.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.model.chat_template,
                text(v).map(|path| Some(path.into())),
            )
        }),
        ..OPTION
    },
    Entry {
        key: "option.chat_template_content_format",
        since: "0.32",
        doc: "How parts of a chat's message are given to the template.",
        status: refused(
            "parts are given where the template walks through them, and one text elsewhere; remove it",
            &["auto"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.enable_auto_tool_choice",
        kind: Kind::Flag,
        since: "0.32",
        doc: "Whether a chat may call tools.",
        status: Status::NoOp("requests say what may be called"),
        ..OPTION
    },
    Entry {
        key: "option.tool_call_parser",
        since: "0.32",
        doc: "How calls of tools are found in an answer.",
        status: Status::NoOp(
            "the forms of Hermes and Qwen, Mistral, Llama 3 and plain JSON are recognised by themselves",
        ),
        ..OPTION
    },
    Entry {
        key: "option.enable_reasoning",
        kind: Kind::Flag,
        since: "0.32",
        doc: "Whether a chat's reasoning is answered apart.",
        status: Status::NoOp(REASONING),
        ..OPTION
    },
    Entry {
        key: "option.reasoning_parser",
        since: "0.32",
        doc: "How reasoning is found in an answer.",
        status: Status::NoOp(REASONING),
        ..OPTION
    },
    Entry {
        key: "option.default_accept",
        variables: &[Overrides("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")],
        since: "0.36",
        doc: "scikit-learn, XGBoost: form of answers if a request names none.",
        status: Status::NoOp(PREDICTIVE),
        ..OPTION
    },
    Entry {
        key: "option.enable_stateful_sessions",
        kind: Kind::Flag,
        since: "0.34",
        doc: "Whether requests can share a session.",
        status: refused("sessions are not kept yet; remove it", &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.sessions_path",
        kind: Kind::Path,
        since: "0.34",
        doc: "Where sessions are kept.",
        status: Status::NoOp("it belongs to option.enable_stateful_sessions"),
        ..OPTION
    },
    Entry {
        key: "option.sessions_expiration",
        kind: Kind::Number,
        since: "0.34",
        doc: "Seconds after which a session ends.",
        status: Status::NoOp("it belongs to option.enable_stateful_sessions"),
        ..OPTION
    },
    Entry {
        key: "option.sessions_s3url",
        since: "0.34",
        doc: "Where sessions are kept in S3.",
        status: Status::NoOp("it belongs to option.enable_stateful_sessions"),
        ..OPTION
    },
];

/// Whether the model's own word counts.
fn generation_config(value: &str) -> Value<bool> {
    match value {
        "auto" => Ok(true),
        "vllm" => Ok(false),
        _ => Err(Rejection::Unsupported(
            "it is auto (as generation_config.json says) or vllm (greedy, no penalties)".into(),
        )),
    }
}

/// A flag, or the name of a way to stream.
fn streaming(value: &str) -> Value<bool> {
    match value {
        "huggingface" => Ok(true),
        value => {
            flag(value).map_err(|_| Rejection::Invalid("must be true, false or huggingface".into()))
        }
    }
}

fn output_formatter(value: &str) -> Value<OutputFormatter> {
    const FORMATTERS: &[(&str, OutputFormatter)] = &[
        ("json", OutputFormatter::Json),
        ("jsonlines", OutputFormatter::JsonLines),
        ("sse", OutputFormatter::ServerSentEvents),
    ];
    let reason = match value {
        "json_chat" | "jsonlines_chat" | "sse_chat" => {
            "a chat is answered as a chat whatever the formatter; remove it"
        }
        "3p" | "3p_stream" => "answers do not have Bedrock's form yet; remove it",
        "none" => {
            "tokens without a form are not sent; write a function with @output_formatter in model.py, or remove it"
        }
        value => return word(value, FORMATTERS),
    };
    Err(Rejection::Unsupported(reason.into()))
}
