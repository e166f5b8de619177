//! One model: where it is, what it does, and who answered for it in DJL Serving.

use super::reason::{NO_REMOTE_CODE, PYTHON_ONLY};
use super::{OPTION, own_code, refused};
use crate::bucket;
use crate::dialect::ApiVersion;
use crate::draft::Draft;
use crate::entry::{Entry, Status, Variable::Fills};
use crate::handler::Handler;
use crate::kind::Kind;
use crate::python;
use crate::task::Task;
use crate::value::{Rejection, Value, bytes, flag, put, text};

pub(super) const SOURCE: &[Entry] = &[
    Entry {
        key: "option.model_id",
        aliases: &["option.s3url"],
        doc: "The checkpoint: an id of the Hugging Face hub, s3://bucket/prefix/, or a directory \
              or GGUF file (absolute, or within the model's). Unset: the model's directory itself.",
        status: Status::Honoured(|d, v| put(&mut d.model_id, model_id(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.model_dir",
        kind: Kind::Path,
        doc: "The model's directory.",
        status: Status::NoOp("it is the directory of serving.properties"),
        ..OPTION
    },
    Entry {
        key: "option.gguf_file",
        since: "sconce",
        doc: "The GGUF file of the checkpoint to serve, of a set the first one; needed where there \
              are several. It wins over weights of other formats.",
        status: Status::Honoured(|d, v| put(&mut d.model.gguf_file, gguf_file(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.revision",
        variables: &[Fills("HF_REVISION"), Fills("HF_MODEL_REVISION")],
        doc: "Branch, tag or commit of the hub's repository.",
        status: Status::Honoured(|d, v| put(&mut d.revision, text(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.task",
        variables: &[Fills("HF_TASK")],
        doc: "What the model does, by any name of transformers' pipelines or of vLLM; unset \
              or auto: the checkpoint says, by modules.json of sentence-transformers or by the ending of its \
              class. Tables, sound and what looks at pictures are not served yet; dialogues are answered by \
              encoder-decoders alone.",
        status: Status::Honoured(task),
        ..OPTION
    },
    Entry {
        key: "option.entryPoint",
        variables: &[Fills("DJL_ENTRY_POINT")],
        doc: "Handler. Those of DJL Serving that generate text mean the native engine and \
              choose their dialect; a script or module of the user's answers in Python mode.",
        status: Status::Translated {
            to: "the dialect, unless something stronger does (the handler's own dialect)",
            apply: entry_point,
        },
        ..OPTION
    },
    Entry {
        key: "option.entry_point",
        doc: "A misspelling of option.entryPoint.",
        status: refused(
            "DJL Serving reads it nowhere, whatever its guides say; write option.entryPoint \
              or OPTION_ENTRYPOINT",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.api_version",
        since: "sconce",
        doc: "The dialect of requests and answers: a release that answers so (djl-0.27, lmi-v9), \
              or deepspeed, fastertransformer, huggingface, rolling-2023, rolling (also lmi), \
              tgi-compat, async, tgi. Unset: that of the release that understood the other \
              options; the log tells which and why.",
        status: Status::Honoured(|d, v| {
            put(&mut d.facts.api_version, ApiVersion::parse(v).map(Some))
        }),
        ..OPTION
    },
    Entry {
        key: "option.handler",
        default: "handle",
        doc: "Function of the entry point that answers requests.",
        status: own_code(PYTHON_ONLY, |d, v| put(&mut d.python.handler, text(v))),
        ..OPTION
    },
    Entry {
        key: "option.modelName",
        doc: "Name of the model's own Python file, without .py.",
        status: Status::NoOp(PYTHON_ONLY),
        ..OPTION
    },
    Entry {
        key: "option.env",
        doc: "Environment of Python processes, as A=1,B=2.",
        status: own_code(PYTHON_ONLY, |d, v| {
            put(&mut d.python.environment, python::variables(v))
        }),
        ..OPTION
    },
    Entry {
        key: "option.pythonExecutable",
        variables: &[Fills("PYTHON_EXECUTABLE")],
        kind: Kind::Path,
        default: "python3",
        doc: "Python interpreter.",
        status: own_code(PYTHON_ONLY, |d, v| put(&mut d.python.executable, text(v))),
        ..OPTION
    },
    Entry {
        key: "option.trust_python",
        kind: Kind::Flag,
        default: "true",
        since: "sconce",
        doc: "Whether the model's own Python code may run; false refuses a model that has some.",
        status: own_code(PYTHON_ONLY, |d, v| {
            put(&mut d.python.trusted.refused, flag(v).map(|trust| !trust))
        }),
        ..OPTION
    },
    Entry {
        key: "option.worker_memory_limit",
        kind: Kind::Bytes,
        since: "sconce",
        doc: "Largest address space of a Python process, such as 8GiB; more is a MemoryError.",
        status: own_code(PYTHON_ONLY, |d, v| {
            put(&mut d.python.memory_limit, bytes(v).map(Some))
        }),
        ..OPTION
    },
    Entry {
        key: "option.enable_venv",
        kind: Kind::Flag,
        since: "0.23",
        doc: "Whether Python runs in an environment of its own.",
        status: Status::NoOp("requirements.txt always goes into an environment of its own"),
        ..OPTION
    },
    Entry {
        key: "option.trust_remote_code",
        variables: &[
            Fills("HF_MODEL_TRUST_REMOTE_CODE"),
            Fills("HF_TRUST_REMOTE_CODE"),
        ],
        kind: Kind::Flag,
        since: "0.23",
        doc: "Whether Python code of the checkpoint may run.",
        status: Status::NoOp(NO_REMOTE_CODE),
        ..OPTION
    },
    Entry {
        key: "option.code_revision",
        since: "0.32",
        doc: "Branch, tag or commit of the checkpoint's Python code.",
        status: Status::NoOp(NO_REMOTE_CODE),
        ..OPTION
    },
    Entry {
        key: "option.hf_token",
        aliases: &["option.use_auth_token"],
        since: "0.24",
        doc: "vLLM: token for the Hugging Face hub.",
        status: Status::Translated {
            to: "HF_TOKEN",
            apply: |d, v| put(&mut d.token, text(v).map(Some)),
        },
        secret: true,
        ..OPTION
    },
    Entry {
        key: "option.download_dir",
        kind: Kind::Path,
        since: "0.32",
        doc: "vLLM: where fetched models are put.",
        status: Status::NoOp("HF_HUB_CACHE moves the cache of fetched models"),
        ..OPTION
    },
    Entry {
        key: "option.tokenizer",
        since: "0.32",
        doc: "Tokenizer of another checkpoint.",
        status: refused(
            "all files come from one checkpoint; put them into one directory and remove \
              this",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.tokenizer_revision",
        since: "0.32",
        doc: "Branch, tag or commit of the tokenizer.",
        status: refused(
            "all files come from one checkpoint; put them into one directory and remove \
              this",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.hf_config_path",
        since: "0.32",
        doc: "vLLM: config.json of another checkpoint.",
        status: refused(
            "all files come from one checkpoint; put them into one directory and remove \
              this",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.tokenizer_mode",
        since: "0.29",
        doc: "How the tokenizer is read.",
        status: Status::NoOp("the files of the checkpoint say"),
        ..OPTION
    },
    Entry {
        key: "option.skip_tokenizer_init",
        kind: Kind::Flag,
        since: "0.32",
        doc: "Whether there is no tokenizer.",
        status: refused("requests are texts, which need one; remove it", &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.config_format",
        since: "0.32",
        doc: "vLLM: form of the checkpoint's configuration.",
        status: Status::NoOp("it is that of transformers"),
        ..OPTION
    },
    Entry {
        key: "option.hf_overrides",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: changes to config.json.",
        status: refused(OTHER_MODEL, &["{}"]),
        ..OPTION
    },
    Entry {
        key: "option.rope_scaling",
        kind: Kind::Json,
        since: "0.32",
        doc: "vLLM: another scaling of positions.",
        status: refused(OTHER_MODEL, &["None"]),
        ..OPTION
    },
    Entry {
        key: "option.rope_theta",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: another base of rotations.",
        status: refused(OTHER_MODEL, &["None"]),
        ..OPTION
    },
];

/// Checks only the form: whether a directory exists is seen when the model is located.
pub(super) fn model_id(value: &str) -> Value<String> {
    let reason = match value.split_once("://").map(|(scheme, _)| scheme) {
        None | Some("file") => return text(value),
        Some("s3") => {
            let parsed = bucket::parse(value).map_err(Rejection::Invalid);
            return parsed.map(|_| value.into());
        }
        Some("djl") => "DJL's model zoo is not read; name a hub id or a directory",
        Some(_) => "models come from the Hugging Face hub, S3 or a directory; name one of these",
    };
    Err(Rejection::Unsupported(reason.into()))
}

/// The name of a file beside the others of the model.
fn gguf_file(value: &str) -> Value<String> {
    if value.ends_with(".gguf") && !value.contains(['/', '\\']) {
        return text(value);
    }
    Err(Rejection::Invalid(
        "must be the name of a file that ends in .gguf, without a path".into(),
    ))
}

const OTHER_MODEL: &str = "config.json is taken as it is; change it there and remove this";

fn task(draft: &mut Draft, value: &str) -> Value<()> {
    let task = Task::parse(value)?;
    task.as_ref().map_or(Ok(()), Task::check)?;
    draft.model.task.clone_from(&task);
    draft.facts.task = task;
    Ok(())
}

fn entry_point(draft: &mut Draft, value: &str) -> Value<()> {
    let handler = Handler::parse(value)?;
    draft.facts.handler = Some(handler);
    draft.entry_point = Some(value.into());
    handler.check()
}
