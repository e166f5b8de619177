//! Options as a table, resolved to settings; the only reader of the environment.
//!
//! [`resolve()`] reads the command line, the environment, `config.properties` and the model's
//! `serving.properties`, with DJL Serving's names and precedence, and gives plain settings, each
//! with its origin. What every key means stands in one table, `options.rs`, from which the
//! reference ([`options_markdown`]) is made too. Nothing is ignored in silence: an unknown key is
//! an error that names its line and the nearest known key, a key without effect is reported with
//! the reason, and all problems of one start come together.
//!
//! Precedence, from weak to strong: defaults, `config.properties`, variables that only fill gaps
//! (`TENSOR_PARALLEL_DEGREE`), `SERVING_*` and `OPTION_*`, `serving.properties`, variables of
//! SageMaker that override it (`SAGEMAKER_STARTUP_TIMEOUT`), the command line.
//!
//! What does not depend on a model stays in a [`Configuration`], so that models which are registered
//! later get it too.
//!
//! This crate reads no weights and no `config.json`, and fetches nothing: that is the manager's.

mod access;
mod bucket;
mod code;
mod configuration;
mod contradictions;
mod dialect;
mod draft;
mod entry;
mod environment;
mod error;
mod explain;
mod gather;
mod handler;
mod kind;
mod location;
mod markdown;
mod nearest;
mod observed;
mod options;
mod outside;
mod prefix;
mod properties;
mod provenance;
mod python;
mod resolve;
mod script;
mod settings;
mod settle;
mod startup;
mod task;
mod value;

#[cfg(test)]
mod tests;

pub use access::{ApiKeys, TlsFiles};
pub use bucket::{BucketFile, BucketFolder};
pub use configuration::Configuration;
pub use environment::{CommandLine, Environment};
pub use error::{ConfigError, ConfigErrors, Written};
pub use explain::explain;
pub use markdown::options_markdown;
pub use observed::{HealthSettings, Observed, TraceSettings};
pub use outside::{Outside, Unreached};
pub use properties::PropertiesError;
pub use provenance::{Origin, Provenance};
pub use python::{LoadOn, PythonRanks, PythonSettings};
pub use resolve::{Resolved, resolve, resolve_with};
pub use sconce_core::{Dialect, OutputFormatter};
pub use settings::{
    Cors, Device, Dtype, HubModel, KvDtype, LoraSettings, Management, ModelSettings, ModelSource,
    PrefixSettings, Quantize, S3Model, ServerSettings, SpeculationSettings, Speculator,
    StatusCodes, UrlPattern,
};
pub use task::Task;

/// The program's exit code when the configuration is wrong (`EX_USAGE` of `sysexits.h`).
pub const EXIT_CODE: u8 = 64;
