//! `sconce serve`: configuration, port, model, signals, in this order.
//!
//! The port is opened before the model is loaded, so that `/ping` can tell how far it is. The
//! process ends with 0 after a drain, with 1 if the model cannot be served, with 64 if the
//! configuration is wrong.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sconce_config::{Environment, Resolved, ServerSettings};
use sconce_core::Gateway;
use sconce_http::HttpSettings;
use sconce_manager::{Manager, Outcome};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::STARTUP_FAILED;
use crate::command::ServeArguments;
use crate::logging;

/// SageMaker kills 30 s after SIGTERM; what runs longer than this is cut off in order.
const DRAIN: Duration = Duration::from_secs(25);

/// Runs until a signal or a failure; the exit code tells which.
pub(crate) fn run(arguments: &ServeArguments) -> ExitCode {
    let began = Instant::now();
    let environment = Environment::from_process();
    let resolved = match sconce_config::resolve(&arguments.to_command_line(), &environment) {
        Ok(resolved) => resolved,
        Err(errors) => {
            // Logging is not configured yet: this is all there is to say.
            let _ = writeln!(std::io::stderr(), "{errors}");
            return ExitCode::from(sconce_config::EXIT_CODE);
        }
    };
    logging::start(&resolved.server.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let served = runtime.block_on(serve(resolved, began));
        // Tokenisation of a refused request may still run in a blocking thread.
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    });
    match served {
        Ok(code) => code,
        Err(cause) => {
            error!("sconce ends: {cause:#}");
            ExitCode::from(STARTUP_FAILED)
        }
    }
}

async fn serve(resolved: Resolved, began: Instant) -> anyhow::Result<ExitCode> {
    let listener = bind(&resolved.server).await?;
    let address = listener.local_addr()?;
    info!(
        "listening on {address} {:.0} ms after the start; /ping says 503 until the model is ready",
        began.elapsed().as_secs_f64() * 1e3
    );
    report(&resolved);
    let settings = http_settings(&resolved);
    let hint = curl_line(address);
    let (tell_failed, failed) = oneshot::channel();
    let manager = Arc::new(Manager::start(
        resolved.model,
        move |name, outcome: Outcome| {
            match outcome {
                Ok(()) => info!("try {name}: {hint}"),
                // The receiver is gone if a signal came first.
                Err(cause) => drop(tell_failed.send(cause)),
            }
        },
    )?);
    let mut code = ExitCode::SUCCESS;
    let end = async {
        tokio::select! {
            signal = terminated() => info!("received {signal}: finishing what runs, taking nothing new"),
            Ok(_) = failed => code = ExitCode::from(STARTUP_FAILED),
        }
    };
    sconce_http::serve(
        listener,
        Arc::clone(&manager) as Arc<dyn Gateway>,
        settings,
        end,
    )
    .await?;
    tokio::task::spawn_blocking(move || manager.stop()).await?;
    info!("all requests are answered; goodbye");
    Ok(code)
}

async fn bind(server: &ServerSettings) -> anyhow::Result<TcpListener> {
    let wanted = (server.host.as_str(), server.port);
    TcpListener::bind(wanted).await.map_err(|cause| {
        anyhow::anyhow!(
            "cannot listen on {}:{}: {cause}; choose another with --host and --port",
            server.host,
            server.port
        )
    })
}

fn report(resolved: &Resolved) {
    for origin in &resolved.origins {
        info!("{origin}");
    }
    for warning in &resolved.warnings {
        warn!("{warning}");
    }
}

fn curl_line(address: SocketAddr) -> String {
    format!(
        "curl -s http://127.0.0.1:{}/invocations -H 'Content-Type: application/json' -d \
         '{{\"inputs\": \"The capital of France is\", \"parameters\": {{\"max_new_tokens\": 24}}}}'",
        address.port()
    )
}

/// The name of the signal that asked the process to end.
async fn terminated() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        warn!("signals cannot be received: end the process by killing it");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
