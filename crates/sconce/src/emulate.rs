//! `sconce emulate`: a stand-in for SageMaker's runtime API in front of any container.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sconce_emulate::{Emulator, ModelFolder, Settings, Upstream};
use tokio::net::TcpListener;
use tracing::{error, info};

use crate::STARTUP_FAILED;
use crate::bars::Bars;
use crate::logging;
use crate::signals::terminated;

/// Arguments of `sconce emulate`.
#[derive(Args, Debug)]
pub(crate) struct EmulateArguments {
    /// Where the container listens, http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// Address to listen on.
    #[arg(long, value_name = "H", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one and logs it.
    #[arg(long, value_name = "N", default_value_t = 8081)]
    port: u16,
    /// Name of the endpoint, may be repeated; without it every name exists.
    #[arg(long, value_name = "NAME")]
    endpoint: Vec<String>,
    /// Name of the production variant.
    #[arg(long, value_name = "NAME", default_value = "AllTraffic")]
    variant: String,
    /// Limit of InvokeEndpoint in seconds.
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    invoke_timeout: Duration,
    /// Limit of InvokeEndpointWithResponseStream in seconds.
    #[arg(long, value_name = "S", default_value = "480", value_parser = seconds)]
    stream_timeout: Duration,
    /// Largest body of a request or a whole answer in bytes. The default is the 25 MB of the
    /// developer guide; the API's model says 6291456.
    #[arg(long, value_name = "BYTES", default_value_t = 25 * 1024 * 1024)]
    max_payload: usize,
    /// End a part of a stream at each multiple of N bytes, inside of lines and characters too: a
    /// client that survives 1 survives the platform.
    #[arg(long, value_name = "N")]
    rechunk: Option<NonZeroUsize>,
    /// Take the container for a multi-model one: TargetModel is loaded with POST /models and
    /// asked with POST /models/{N}/invoke.
    #[arg(long)]
    multi_model: bool,
    /// Folder, as the container sees it, with the unpacked models of --multi-model; without it
    /// they are announced as /opt/ml/models/{N}/model.
    #[arg(long, value_name = "DIR", requires = "multi_model")]
    models: Option<String>,
    /// Open the port only when the container is healthy, and end with 1 if it is not in time.
    #[arg(long)]
    wait: bool,
    /// How long --wait waits for GET /ping to give 200, in seconds.
    #[arg(long, value_name = "S", default_value = "480", value_parser = seconds)]
    startup_timeout: Duration,
}

impl EmulateArguments {
    fn settings(&self) -> Settings {
        let folder = || match &self.models {
            Some(folder) => ModelFolder::Below(folder.clone()),
            None => ModelFolder::Platform,
        };
        Settings {
            endpoints: self.endpoint.clone(),
            variant: self.variant.clone(),
            invoke_timeout: self.invoke_timeout,
            stream_timeout: self.stream_timeout,
            max_payload: self.max_payload,
            rechunk: self.rechunk,
            multi_model: self.multi_model.then(folder),
            ..Settings::new(self.upstream.clone())
        }
    }
}

/// Runs until a signal; the exit code is 1 if there is no port or, with `--wait`, no container.
pub(crate) fn run(arguments: EmulateArguments) -> ExitCode {
    logging::start("info", false, &Bars::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let emulated = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(emulate(arguments)));
    match emulated {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!("sconce emulate ends: {cause:#}");
            ExitCode::from(STARTUP_FAILED)
        }
    }
}

async fn emulate(arguments: EmulateArguments) -> anyhow::Result<()> {
    let emulator = Emulator::new(arguments.settings());
    if arguments.wait {
        tokio::select! {
            waited = emulator.wait_until_healthy(arguments.startup_timeout) => waited?,
            signal = terminated() => {
                info!("received {signal} before the container was healthy");
                return Ok(());
            }
        };
    }
    let wanted = (arguments.host.as_str(), arguments.port);
    let listener = TcpListener::bind(wanted).await.with_context(|| {
        format!(
            "cannot listen on {}:{}; choose another with --host and --port",
            arguments.host, arguments.port
        )
    })?;
    let address = listener.local_addr()?;
    info!(
        "listening on {address} for the runtime API of SageMaker, in front of {}",
        arguments.upstream
    );
    info!(
        "try: boto3.client(\"sagemaker-runtime\", endpoint_url=\"http://{address}\", \
         region_name=\"us-east-1\", aws_access_key_id=\"any\", aws_secret_access_key=\"any\")"
    );
    let shutdown = async {
        let signal = terminated().await;
        info!("received {signal}: finishing what runs, taking nothing new");
    };
    emulator.serve(listener, shutdown).await?;
    info!("the port is closed; goodbye");
    Ok(())
}

/// Seconds above 0; fractions are allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if seconds <= 0.0 {
        return Err("not above 0".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|cause| cause.to_string())
}
