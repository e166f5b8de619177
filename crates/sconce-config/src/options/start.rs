//! The command line, and variables that belong to no file of DJL Serving: the program's own and
//! those of the Hugging Face hub.

use super::reason::OFFLINE;
use super::source::model_id;
use super::{COMMAND_LINE, ENVIRONMENT, own_code};
use crate::draft::Draft;
use crate::entry::{Entry, Status, Variable::Fills, Variable::Overrides};
use crate::kind::Kind;
use crate::settings::Management;
use crate::value::{Value, flag, java_log_level, log_level, port, put, text, url, word};
use std::path::PathBuf;

pub(super) const START: &[Entry] = &[
    Entry {
        key: "--host",
        since: "sconce",
        doc: "Address to listen on; wins over inference_address.",
        status: Status::Honoured(|d, v| put(&mut d.server.host, text(v))),
        ..COMMAND_LINE
    },
    Entry {
        key: "--port",
        kind: Kind::Whole(0, 65535),
        since: "sconce",
        doc: "Port to listen on, 0 for a free one; wins over all other settings of the port.",
        status: Status::Honoured(|d, v| put(&mut d.server.port, port(v))),
        ..COMMAND_LINE
    },
    Entry {
        key: "SCONCE_STRICT",
        variables: &[Overrides("SCONCE_STRICT")],
        kind: Kind::OneOf(&["error", "warn"]),
        default: "error",
        since: "sconce",
        doc: "What an unknown key is.",
        status: Status::Honoured(|d, v| {
            put(&mut d.lenient, word(v, &[("error", false), ("warn", true)]))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_MANAGEMENT",
        variables: &[Overrides("SCONCE_MANAGEMENT")],
        kind: Kind::OneOf(&["auto", "on", "loopback", "off"]),
        default: "auto",
        since: "sconce",
        doc: "Who may register, scale and remove models and change the log: everybody who reaches the \
              port (on), clients of this machine (loopback), nobody (off). With auto it is clients of \
              this machine where SageMaker runs the container, else everybody. What SageMaker's \
              contract for several models asks for is open where SAGEMAKER_MULTI_MODEL is true.",
        status: Status::Honoured(|d, v| put(&mut d.server.management, management(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_OPTS",
        variables: &[Fills("SERVING_OPTS")],
        doc: "Of these options of a Java virtual machine, -Dai.djl.logging.level=LEVEL is \
              read.",
        status: Status::Translated {
            to: "the level of the log",
            apply: java_options,
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_CONTAINER_LOG_LEVEL",
        variables: &[Overrides("SAGEMAKER_CONTAINER_LOG_LEVEL")],
        doc: "Level of the log, in Python's numbers: 10 debug, 20 info, 30 warn, 40 error.",
        status: Status::Translated {
            to: "the level of the log",
            apply: |d, v| put(&mut d.server.log, log_level(v)),
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_LOG",
        variables: &[Overrides("SCONCE_LOG")],
        default: "info",
        since: "sconce",
        doc: "Level of the log, or a filter such as info,sconce_engine=debug; wins over the \
              others.",
        status: Status::Honoured(|d, v| put(&mut d.server.log, text(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "MODEL_SERVER_HOME",
        variables: &[Overrides("MODEL_SERVER_HOME")],
        kind: Kind::Path,
        doc: "Directory in which conf/config.properties, else config.properties, is looked \
              for.",
        status: Status::Honoured(|_, _| Ok(())),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_MODEL_ID",
        variables: &[Overrides("HF_MODEL_ID")],
        since: "0.22",
        doc: "The model, without any directory: an id of the Hugging Face hub, \
              s3://bucket/prefix/ or a local path.",
        status: Status::Honoured(|d, v| put(&mut d.hub_model, model_id(v).map(Some))),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_TOKEN",
        variables: &[
            Overrides("HF_TOKEN"),
            Overrides("HUGGING_FACE_HUB_TOKEN"),
            Overrides("HUGGINGFACE_HUB_TOKEN"),
        ],
        doc: "Token for repositories of the Hugging Face hub that are not public.",
        status: Status::Honoured(|d, v| put(&mut d.token, text(v).map(Some))),
        secret: true,
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_ENDPOINT",
        variables: &[Overrides("HF_ENDPOINT")],
        kind: Kind::Url,
        default: "https://huggingface.co",
        doc: "Address of the Hugging Face hub, or of a mirror of it.",
        status: Status::Honoured(|d, v| put(&mut d.hub_endpoint, url(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_HOME",
        variables: &[Overrides("HF_HOME")],
        kind: Kind::Path,
        doc: "Directory of hub, the cache of fetched models, and of token, the hub's token; \
              ~/.cache/huggingface if unset.",
        status: Status::Translated {
            to: "HF_HUB_CACHE",
            apply: hub_home,
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_HUB_CACHE",
        variables: &[
            Overrides("HF_HUB_CACHE"),
            Overrides("HUGGINGFACE_HUB_CACHE"),
            Overrides("TRANSFORMERS_CACHE"),
        ],
        kind: Kind::Path,
        doc: "The cache of fetched models itself; wins over HF_HOME.",
        status: Status::Honoured(|d, v| put(&mut d.hub_cache, text(v).map(|v| Some(v.into())))),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_HUB_OFFLINE",
        variables: &[Fills("HF_HUB_OFFLINE"), Fills("TRANSFORMERS_OFFLINE")],
        kind: Kind::Flag,
        doc: "Whether the hub is left alone: what was fetched before is served, and nothing else.",
        status: Status::Honoured(|d, v| put(&mut d.hub_offline, flag(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_OFFLINE",
        variables: &[Fills("DJL_OFFLINE")],
        kind: Kind::Flag,
        doc: "Whether nothing is fetched: requirements.txt is installed without asking an index.",
        status: own_code(OFFLINE, |d, v| put(&mut d.python.offline, flag(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_HUB_ENABLE_HF_TRANSFER",
        variables: &[Fills("HF_HUB_ENABLE_HF_TRANSFER")],
        doc: "Whether files of the hub are fetched in parts at the same time.",
        status: Status::NoOp("fetching has one way, with retries"),
        ..ENVIRONMENT
    },
];

fn management(value: &str) -> Value<Management> {
    let words = [
        ("auto", Management::Auto),
        ("on", Management::Everybody),
        ("loopback", Management::Loopback),
        ("off", Management::Nobody),
    ];
    word(value, &words)
}

/// The level, where these options of a Java virtual machine name one.
fn java_options(draft: &mut Draft, value: &str) -> Value<()> {
    let level = java_log_level(value)?;
    level.map_or(Ok(()), |level| put(&mut draft.server.log, Ok(level)))
}

/// The cache as it lies in the hub's directory.
fn hub_home(draft: &mut Draft, value: &str) -> Value<()> {
    let home = text(value).map(PathBuf::from);
    put(
        &mut draft.hub_cache,
        home.map(|home| Some(home.join("hub"))),
    )
}
