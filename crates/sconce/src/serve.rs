//! `sconce serve`: configuration, port, models, signals, in this order.
//!
//! The port is opened before the models are loaded, so that `/ping` can tell how far they are. The
//! process ends with 0 after a drain, with 1 if a model of the start cannot be served, with 64 if the
//! configuration is wrong, with 69 if the device that it asks for cannot be used.

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sconce_config::{Configuration, Environment, Resolved, ServerSettings};
use sconce_core::{Gateway, ModelStatus, Task};
use sconce_http::{HttpSettings, LogSwitch, Models};
use sconce_manager::{Manager, Outcome};
use sconce_record::Recorder;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::bars::Bars;
use crate::command::ServeArguments;
use crate::signals::terminated;
use crate::{NO_DEVICE, STARTUP_FAILED};
use crate::{http, logging, record, watch};

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
    let configuration = Configuration::read(&line, &environment);
    let models = match configuration.models(&sconce_manager::Reached) {
        Ok(models) => models,
        Err(errors) => {
            // Logging is not configured yet: this is all there is to say.
            let _ = writeln!(std::io::stderr(), "{errors}");
            return ExitCode::from(sconce_config::EXIT_CODE);
        }
    };
    let bars = Bars::new();
    let log = {
        let server = configuration.server();
        logging::start(&server.log, server.observed.json_log, &bars)
    };
    for model in &models {
        if let Err(cause) = sconce_manager::require_device(&model.model) {
            error!("sconce ends: {cause}");
            return ExitCode::from(NO_DEVICE);
        }
    }
    let recorder = match &arguments.record {
        None => None,
        Some(dir) => match record::begin(dir, &line, &environment, &models) {
            Ok(recorder) => Some(recorder),
            Err(cause) => {
                error!("sconce ends: --record {cause}");
                return ExitCode::from(STARTUP_FAILED);
            }
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let watching = Watching {
            log,
            recorder,
            bars,
        };
        let served = runtime.block_on(serve(configuration, models, watching, began));
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

/// What tells of the service beside its answers.
struct Watching {
    log: LogSwitch,
    recorder: Option<Arc<Recorder>>,
    bars: Bars,
}

async fn serve(
    configuration: Configuration,
    models: Vec<Resolved>,
    Watching {
        log,
        recorder,
        bars,
    }: Watching,
    began: Instant,
) -> anyhow::Result<ExitCode> {
    let listener = bind(configuration.server()).await?;
    let address = listener.local_addr()?;
    info!(
        "listening on {address} {:.0} ms after the start; {}",
        began.elapsed().as_secs_f64() * 1e3,
        match models.len() {
            0 => "there is no model yet".into(),
            1 => "/ping says 503 until the model is ready".into(),
            count => format!("/ping says 503 until all {count} models are ready"),
        }
    );
    report(&configuration.warnings(), &models);
    let telemetry = watch::start(&configuration.server().observed)?;
    let settings = HttpSettings {
        recorder: recorder.clone(),
        ..http::settings(&configuration, log, Arc::clone(&telemetry), DRAIN)?
    };
    let loading: Vec<_> = models
        .iter()
        .map(|model| model.model.model_loading_timeout)
        .collect();
    let server = configuration.server().clone();
    let (tell, told) = mpsc::unbounded_channel();
    let models: Vec<_> = models.into_iter().map(|model| model.model).collect();
    let recording = recorder.clone().map(|recorder| (recorder, models.clone()));
    let manager = Manager::start(configuration, models, move |_, outcome| {
        // Nobody listens any more if a signal came first.
        let _ = tell.send(outcome);
    })?;
    watch::follow(&telemetry, &manager);
    let loading_models = manager.clone();
    bars.follow(move || loading_models.status());
    let (tell_end, end) = oneshot::channel();
    let watched = manager.clone();
    let watch = tokio::spawn(async move {
        let ready = || {
            if let Some((recorder, models)) = recording {
                record::note_checkpoints(recorder, models);
            }
        };
        let code = end_of_service(told, &loading, (address, server), &watched, ready).await;
        let _ = tell_end.send(());
        code
    });
    let ended = async { end.await.unwrap_or_default() };
    let models = Models::of(Arc::new(manager.clone()));
    sconce_http::serve(listener, models, settings, ended).await?;
    let ending = move || {
        manager.stop();
        telemetry.shutdown();
    };
    tokio::task::spawn_blocking(ending).await?;
    if let Some(recorder) = recorder {
        recorder.close();
    }
    info!("the port is closed and all models are stopped; goodbye");
    Ok(watch.await?)
}

/// Waits for a signal or for the failure of a model of the start; the exit code tells which.
/// `loading` is the time that each of them has; `ready` is called once all have been loaded.
async fn end_of_service(
    mut loaded: mpsc::UnboundedReceiver<Outcome>,
    loading: &[Duration],
    (address, server): (SocketAddr, ServerSettings),
    manager: &Manager,
    ready: impl FnOnce(),
) -> ExitCode {
    let failed = async {
        // They are loaded one after the other, since each plans with what the others leave.
        let longest: Duration = loading.iter().sum();
        let all = async {
            for _ in loading {
                match loaded.recv().await {
                    Some(Ok(())) => {}
                    _ => return false,
                }
            }
            true
        };
        match tokio::time::timeout(longest, all).await {
            // Nothing is on its way.
            _ if loading.is_empty() => std::future::pending().await,
            Ok(true) => {
                ready();
                if let Some(line) = example_of(address.port(), &server, &manager.status()) {
                    info!("try: {line}");
                }
                std::future::pending().await
            }
            Ok(false) => {}
            // What is still loading was removed, and is waited for by nobody.
            Err(_) if !is_coming(&manager.status()) => std::future::pending().await,
            Err(_) => error!(
                "{} after {} s, the sum of model_loading_timeout; raise it if the weights need longer \
                 to arrive",
                match loading {
                    [_] => "the model was not ready".into(),
                    all => format!("not all of {} models were ready", all.len()),
                },
                longest.as_secs()
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

/// Whether a model of the start is on its way.
fn is_coming(models: &[ModelStatus]) -> bool {
    let mut own = models.iter().filter(|model| model.at_startup);
    own.any(|model| model.phase.is_coming())
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

/// Tells what the server's settings are warned of, and where those of models come from, once what holds for several models.
fn report(of_server: &[String], models: &[Resolved]) {
    for warning in of_server {
        warn!("{warning}");
    }
    let mut told = HashSet::new();
    for model in models {
        for origin in &model.origins {
            let line = origin.to_string();
            if told.insert(line.clone()) {
                info!("{line}");
            }
        }
        for warning in &model.warnings {
            if told.insert(warning.clone()) {
                warn!("{warning}");
            }
        }
    }
}

/// A line that asks the first model, if it is known what it takes.
fn example_of(port: u16, server: &ServerSettings, models: &[ModelStatus]) -> Option<String> {
    let model = models.first()?;
    // What a user's own code takes only the user knows.
    let body = model.task.and_then(example)?;
    let path = match models {
        [_] => "invocations".into(),
        _ => format!("predictions/{}", model.name),
    };
    let kept = match model.task {
        Some(Task::TextToImage) => " -o picture.png",
        _ => "",
    };
    let place = match server.tls {
        Some(_) => format!("https://localhost:{port}"),
        None => format!("http://127.0.0.1:{port}"),
    };
    let key = match server.api_keys.as_slice() {
        [] => "",
        _ => " -H \"Authorization: Bearer $SCONCE_API_KEY\"",
    };
    Some(format!(
        "curl -s {place}/{path}{key} -H 'Content-Type: application/json' -d '{body}'{kept}"
    ))
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
