//! `sconce check`: tells what a start would do, without one.
//!
//! The exit code is 0 if nothing speaks against a start, 1 if the model will not run, 64 if the
//! configuration, or the command line, is wrong.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use sconce_check::{Report, Target, TargetError};
use sconce_config::{CommandLine, Environment};

use crate::command;

/// Arguments of `sconce check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// Directory of the model, s3://bucket/prefix/, or its id on the Hugging Face hub: of a model
    /// elsewhere only headers are read. Left out: what `sconce serve` would serve.
    pub(crate) model: Option<String>,
    /// Plan for GPUs (a10g:4) or an instance (ml.g5.12xlarge) in place of this machine.
    #[arg(long, value_name = "NAME[:N]")]
    pub(crate) gpu: Option<String>,
    /// A file that stands for the model's serving.properties.
    #[arg(long, value_name = "FILE")]
    pub(crate) properties: Option<PathBuf>,
    /// Bandwidth of this machine's memory in GB/s [default: measured].
    #[arg(long, value_name = "GB/S", conflicts_with = "gpu")]
    pub(crate) bandwidth: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl CheckArguments {
    fn target(&self) -> Result<Target, TargetError> {
        match &self.gpu {
            Some(gpu) => Target::gpus(gpu),
            None => Ok(Target::Machine {
                bandwidth: self.bandwidth.map(|rate| rate * 1e9),
            }),
        }
    }

    /// What is there, or in S3, is a directory; anything else is named as `HF_MODEL_ID` names it.
    fn to_command_line(&self) -> CommandLine {
        let is_place =
            |model: &&String| model.starts_with("s3://") || Path::new(model.as_str()).exists();
        CommandLine {
            model_dir: self.model.as_ref().filter(is_place).map(PathBuf::from),
            model_id: self.model.clone().filter(|model| !is_place(&model)),
            properties: self.properties.clone(),
            ..CommandLine::default()
        }
    }
}

/// Checks and prints; the exit code is the verdict.
pub(crate) fn run(arguments: &CheckArguments) -> ExitCode {
    let target = match arguments.target() {
        Ok(target) => target,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::from(sconce_config::EXIT_CODE);
        }
    };
    let environment = Environment::from_process();
    let report = sconce_check::check(&arguments.to_command_line(), &environment, &target);
    command::print(&shown(&report, arguments.json));
    ExitCode::from(report.exit_code)
}

fn shown(report: &Report, json: bool) -> String {
    if json {
        let text = serde_json::to_string_pretty(report);
        return text.expect("the report is plain data") + "\n";
    }
    report.to_string()
}
