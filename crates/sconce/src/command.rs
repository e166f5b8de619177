//! The command line.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sconce_config::CommandLine;

use crate::check::CheckArguments;
use crate::emulate::EmulateArguments;
use crate::health::HealthArguments;
use crate::replay::ReplayArguments;

/// A self-hosted model server: takes DJL Serving's place behind Amazon SageMaker.
#[derive(Debug, Parser)]
#[command(name = "sconce", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a model over HTTP: /ping, /invocations, /predictions/{model}.
    ///
    /// Without a directory the conventions of SageMaker and DJL Serving hold: /opt/ml/model,
    /// SERVING_*, OPTION_*, HF_MODEL_ID, SAGEMAKER_BIND_TO_PORT. Settings of the model are read
    /// from its serving.properties; `sconce options` lists them all.
    #[command(alias = "djl-serving")]
    Serve(ServeArguments),
    /// Tell what a start would do, from headers alone: options, memory, speed, every reason to fail.
    ///
    /// Exit code: 0 if nothing speaks against a start, 1 if the model will not run, 64 if the
    /// configuration is wrong. Without --gpu the plan is for this machine.
    Check(CheckArguments),
    /// Stand in for SageMaker's runtime API in front of a container, on this machine.
    ///
    /// boto3 and the SageMaker SDK, pointed here with endpoint_url, see what a real-time endpoint
    /// with this container would answer: InvokeEndpoint and InvokeEndpointWithResponseStream with
    /// the platform's headers, limits and errors. Any credentials will do: signatures are not
    /// verified, and nothing leaves this machine.
    Emulate(EmulateArguments),
    /// Ask the server of this machine how it is: what /ping answers, and 0 if that is 200, else 1.
    ///
    /// Address and port are those of the same environment and config.properties as for `sconce serve`.
    /// Behind TLS it only sees whether the port is open.
    Health(HealthArguments),
    /// Ask the requests of a recording again, and tell every answer that is not what it was, byte for byte.
    ///
    /// The recording is a folder that `sconce serve --record` wrote. The same models are served with the
    /// same settings, without a port; seeds that requests left open are what they were. Changes of the
    /// program, the processor, settings and files are told first.
    Replay(ReplayArguments),
    /// DJL Serving's partitioning ahead of time, which nothing needs here.
    #[command(hide = true, alias = "train")]
    Partition {
        /// Not read.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print every option that serving.properties, config.properties and the environment take.
    Options,
    /// Tell all about one option: spellings, value, default, releases, what becomes of it.
    Explain {
        /// A key, any other spelling of it, or a variable that sets it.
        key: String,
    },
}

/// Arguments of `sconce serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Directory, or s3://bucket/prefix/, with config.json, weights, a tokenizer and, if wanted,
    /// serving.properties.
    pub(crate) model_dir: Option<PathBuf>,
    /// DJL Serving's argument: the model, as name=URL or URL; the key load_models.
    #[arg(short, long, value_name = "URL", num_args = 1..)]
    pub(crate) models: Vec<String>,
    /// DJL Serving's argument: the folder of the model; the key model_store.
    #[arg(short = 's', long, value_name = "DIR")]
    pub(crate) model_store: Option<String>,
    /// DJL Serving's argument: the config.properties to read.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Address to listen on [default: 0.0.0.0, or that of inference_address].
    #[arg(long, value_name = "H")]
    pub(crate) host: Option<String>,
    /// Port to listen on [default: 8080, or that of SAGEMAKER_BIND_TO_PORT or
    /// inference_address]; 0 takes a free one and logs it.
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Keep all requests and answers in this folder, with seeds, settings and hashes of the models'
    /// files, for `sconce replay`. It must be empty or not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
}

impl ServeArguments {
    pub(crate) fn to_command_line(&self) -> CommandLine {
        CommandLine {
            model_dir: self.model_dir.clone(),
            load_models: (!self.models.is_empty()).then(|| self.models.join(",")),
            model_store: self.model_store.clone(),
            config_file: self.config_file.clone(),
            host: self.host.clone(),
            port: self.port,
            ..CommandLine::default()
        }
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
