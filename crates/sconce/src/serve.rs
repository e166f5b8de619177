//! `sconce serve`: configuration, port, model, signals, in this order.
//!
//! The port is opened before the model is loaded, so that `/ping` can tell how far it is. The
//! process ends with 0 after a drain, with 1 if the model cannot be served, with 64 if the
//! configuration is wrong, with 69 if the device that it asks for cannot be used.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sconce_config::{Environment, Resolved, ServerSettings};
use sconce_core::{Gateway, Task};
use sconce_manager::{Manager, Outcome};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::command::ServeArguments;
use crate::signals::terminated;
use crate::{NO_DEVICE, STARTUP_FAILED};
use crate::{http, logging};

/// SageMaker kills 30 s after SIGTERM; what runs longer than this is cut off in order.
const DRAIN: Duration = Duration::from_secs(25);

/// So long `/ping` still tells why the model cannot be served before the program ends: DJL
/// Serving does so with `wait_model_loading=false`, and whoever polls each second reads it.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Runs until a signal or a failure; the exit code tells which.
pub(crate) fn run(arguments: &ServeArguments) -> ExitCode {
    let began = Instant::now();
    let environment = Environment::from_process();
    let line = arguments.to_command_line();
    let resolved = sconce_config::resolve_with(&line, &environment, &sconce_manager::bucket_folder);
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(errors) => {
            // Logging is not configured yet: this is all there is to say.
            let _ = writeln!(std::io::stderr(), "{errors}");
            return ExitCode::from(sconce_config::EXIT_CODE);
        }
    };
    logging::start(&resolved.server.log);
    if let Err(cause) = sconce_manager::require_device(&resolved.model) {
        error!("sconce ends: {cause}");
        return ExitCode::from(NO_DEVICE);
    }
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
    let settings = http::settings(&resolved, DRAIN)?;
    let loading_timeout = resolved.model.model_loading_timeout;
    let (tell, told) = oneshot::channel();
    let manager = Manager::start(resolved.model, move |_, outcome| {
        // Nobody listens any more if a signal came first.
        let _ = tell.send(outcome);
    })?;
    let manager = Arc::new(manager);
    let (tell_end, end) = oneshot::channel();
    let watched = Arc::clone(&manager);
    let watch = tokio::spawn(async move {
        let code = end_of_service(told, loading_timeout, address, &watched).await;
        let _ = tell_end.send(());
        code
    });
    let gateway = Arc::clone(&manager) as Arc<dyn Gateway>;
    let ended = async { end.await.unwrap_or_default() };
    sconce_http::serve(listener, gateway, settings, ended).await?;
    tokio::task::spawn_blocking(move || manager.stop()).await?;
    info!("the port is closed and the model is stopped; goodbye");
    Ok(watch.await?)
}

/// Waits for a signal or for the failure of the model; the exit code tells which.
async fn end_of_service(
    loaded: oneshot::Receiver<Outcome>,
    loading_timeout: Duration,
    address: SocketAddr,
    manager: &Manager,
) -> ExitCode {
    let failed = async {
        match tokio::time::timeout(loading_timeout, loaded).await {
            Ok(Ok(Ok(()))) => {
                let task = manager.status().first().and_then(|model| model.task);
                // What a user's own code takes only the user knows.
                if let Some(body) = task.and_then(example) {
                    let is_file = task == Some(Task::TextToImage);
                    let kept = if is_file { " -o picture.png" } else { "" };
                    info!("try: {}{kept}", curl_line(address, body));
                }
                std::future::pending().await
            }
            Ok(_) => {}
            Err(_) => error!(
                "the model was not ready after model_loading_timeout = {} s; raise it if the \
                 weights need longer to arrive",
                loading_timeout.as_secs()
            ),
        }
    };
    tokio::select! {
        signal = terminated() => {
            info!("received {signal}: finishing what runs, taking nothing new");
            return ExitCode::SUCCESS;
        }
        () = failed => {}
    }
    tokio::select! {
        _ = terminated() => {}
        () = tokio::time::sleep(LAST_WORDS) => {}
    }
    ExitCode::from(STARTUP_FAILED)
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

fn curl_line(address: SocketAddr, body: &str) -> String {
    format!(
        "curl -s http://127.0.0.1:{}/invocations -H 'Content-Type: application/json' -d '{body}'",
        address.port()
    )
}

/// A request that any model for a task answers; `None`: it would need words that models spell differently.
fn example(task: Task) -> Option<&'static str> {
    Some(match task {
        Task::TextGeneration => {
            r#"{"inputs": "The capital of France is", "parameters": {"max_new_tokens": 24}}"#
        }
        Task::TextClassification | Task::TokenClassification => {
            r#"{"inputs": "Ada Lovelace likes London."}"#
        }
        Task::QuestionAnswering => {
            r#"{"inputs": {"question": "Where does Ada live?", "context": "Ada lives in London."}}"#
        }
        Task::ZeroShotClassification => {
            r#"{"inputs": "Ada likes London.", "parameters": {"candidate_labels": ["travel", "food"]}}"#
        }
        Task::FeatureExtraction | Task::TextEmbedding => r#"{"inputs": ["London", "Paris"]}"#,
        Task::SentenceSimilarity => {
            r#"{"inputs": {"source_sentence": "London", "sentences": ["Paris", "bread"]}}"#
        }
        Task::Text2TextGeneration | Task::Summarization => {
            r#"{"inputs": "The tower is 324 metres tall, about the same height as an 81-storey building."}"#
        }
        Task::Conversational => r#"{"inputs": {"text": "Which tower is the tallest?"}}"#,
        Task::TextRanking => r#"{"query": "capital of France", "texts": ["London", "Paris"]}"#,
        Task::TextToImage => {
            r#"{"prompt": "a candle in its sconce", "parameters": {"num_inference_steps": 20}}"#
        }
        // Masks and languages are spelled differently.
        Task::FillMask | Task::Translation => return None,
    })
}
