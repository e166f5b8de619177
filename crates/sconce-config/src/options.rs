//! The one table of options: data, a file for each group, joined here.
//!
//! An entry says where an option is written, what else it is called, what its value is, its
//! default, the releases of DJL Serving that read it, what it means and what becomes of it; tests,
//! the reference, `sconce explain` and "did you mean" follow from the table. Among options that
//! set the same thing, the later one wins at equal strength.

mod access;
mod answers;
mod batching;
mod container;
mod model;
mod observing;
mod placement;
mod quantize;
mod reason;
mod retired;
mod s3;
mod server;
mod source;
mod speculation;
mod start;
mod translators;
mod trtllm;
mod vllm_engine;
mod vllm_requests;
mod weights;

pub(crate) use quantize::quantize;

use crate::entry::{Entry, Scope, Status};
use crate::kind::Kind;

const GROUPS: &[&[Entry]] = &[
    start::START,
    container::CONTAINER,
    server::SERVER_KEYS,
    access::ACCESS,
    observing::OBSERVING,
    model::MODEL_KEYS,
    source::SOURCE,
    s3::S3,
    placement::PLACEMENT,
    batching::BATCHING,
    answers::ANSWERS,
    weights::WEIGHTS,
    speculation::SPECULATION,
    vllm_engine::VLLM_ENGINE,
    vllm_requests::VLLM_REQUESTS,
    trtllm::TRTLLM,
    retired::RETIRED,
    translators::TRANSLATOR_KEYS,
];

/// Every option, in the order of the table.
pub(crate) fn options() -> impl Iterator<Item = &'static Entry> + Clone {
    GROUPS.iter().copied().flatten()
}

const OPTION: Entry = Entry {
    key: "",
    scope: Scope::Option,
    aliases: &[],
    variables: &[],
    kind: Kind::Text,
    default: "",
    since: "",
    until: "",
    doc: "",
    status: Status::NoOp(""),
    secret: false,
};
const MODEL: Entry = Entry {
    scope: Scope::Model,
    ..OPTION
};
const SERVER: Entry = Entry {
    scope: Scope::Server,
    ..OPTION
};
const SERVER_OR_MODEL: Entry = Entry {
    scope: Scope::ServerOrModel,
    ..OPTION
};
const ENVIRONMENT: Entry = Entry {
    scope: Scope::Environment,
    ..OPTION
};
const COMMAND_LINE: Entry = Entry {
    scope: Scope::CommandLine,
    ..OPTION
};

/// An option of Python mode; `otherwise` says why nothing is lost elsewhere.
const fn own_code(otherwise: &'static str, apply: crate::entry::Apply) -> Status {
    Status::OwnCode { otherwise, apply }
}

const fn refused(reason: &'static str, harmless: &'static [&'static str]) -> Status {
    Status::Refused { reason, harmless }
}
