//! The program: reads the command line, does what it says, ends with a code that tells why.

mod bars;
mod check;
mod command;
mod emulate;
mod health;
mod http;
mod logging;
mod record;
mod replay;
mod serve;
mod signals;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::command::{Cli, Command};

/// Exit code of a model that cannot be served (DJL Serving's `ServerStartupException`).
const STARTUP_FAILED: u8 = 1;

/// Exit code where the device that is asked for cannot be used (`EX_UNAVAILABLE` of sysexits.h).
const NO_DEVICE: u8 = 69;

/// What `partition` is told, and `train`, as which the SageMaker SDK starts it.
const PARTITION: &str = "sconce: nothing is partitioned ahead of time: checkpoints are cut between \
    ranks while they are loaded. Deploy the original checkpoint (option.model_id) with \
    option.tensor_parallel_degree, and leave option.checkpoint and \
    option.save_mp_checkpoint_path out";

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Emulate(arguments) => emulate::run(arguments),
        Command::Health(arguments) => health::run(arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Partition { .. } => {
            let _ = writeln!(std::io::stderr(), "{PARTITION}");
            ExitCode::from(sconce_config::EXIT_CODE)
        }
        Command::Options => {
            command::print(&sconce_config::options_markdown());
            ExitCode::SUCCESS
        }
        Command::Explain { key } => explain(&key),
    }
}

fn explain(key: &str) -> ExitCode {
    match sconce_config::explain(key) {
        Ok(text) => {
            command::print(&text);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "{problem}");
            ExitCode::from(sconce_config::EXIT_CODE)
        }
    }
}
