//! What a start would do, told from headers alone: options and where they come from, task and
//! dialect, memory per rank, speed, SageMaker's timeouts, and every reason why it will fail.
//!
//! Nothing is decided here: settings are `sconce-config`'s, the plan of the memory is the engine's
//! own, errors are those that `sconce serve` would end with. Of a model elsewhere only headers are
//! fetched. This crate adds a table of GPUs, arithmetic on bandwidth, and the report.

mod device;
mod gpus;
mod inspect;
mod plan;
mod python;
mod report;
mod speed;
mod text;
mod timeouts;

pub use device::{Target, TargetError};
pub use gpus::{GPUS, Gpu};
pub use report::{
    Device, EncoderPart, Exit, ModelPart, OptionPart, PicturePart, PlanPart, Reason, Report,
    SpeedPart, TimeoutPart,
};

use sconce_config::{CommandLine, Environment};

/// Resolves the configuration as `sconce serve` would, looks at the model, plans.
pub fn check(line: &CommandLine, environment: &Environment, target: &Target) -> Report {
    match sconce_config::resolve_with(line, environment, &sconce_manager::Reached) {
        Ok(resolved) => inspect::report(&resolved, target),
        Err(errors) => Report::refused(&errors),
    }
}
