//! `sconce replay`: asks the requests of a recording again, of the same models with the same settings, and tells every
//! answer that is not what it was.
//!
//! The exit code is 0 if all answers that are promised to be the same are, 1 if one is not or the models cannot be served,
//! 64 if the configuration is wrong, 69 if the device that it asks for cannot be used.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use sconce_config::{Configuration, Environment, ModelSettings, Resolved};
use sconce_http::{Models, Replayer};
use sconce_manager::{Manager, Outcome};
use sconce_record::{Exchange, Recording, Verdict, compare};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::error;

use crate::bars::Bars;
use crate::{NO_DEVICE, STARTUP_FAILED, command, http, logging, record};

/// Arguments of `sconce replay`.
#[derive(Args, Debug)]
pub(crate) struct ReplayArguments {
    /// The folder that `sconce serve --record` wrote.
    pub(crate) dir: PathBuf,
    /// Serve this model in place of the recorded one: another checkpoint, or the same elsewhere.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// So many requests are asked at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) clients: u16,
}

/// What became of the answers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    same: usize,
    differ: usize,
    unpromised: usize,
}

/// Replays and prints; the exit code is the verdict.
pub(crate) fn run(arguments: &ReplayArguments) -> ExitCode {
    match replay(arguments) {
        Ok(code) => code,
        Err(cause) => {
            error!("sconce ends: {cause:#}");
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{cause:#}\n"));
            ExitCode::from(STARTUP_FAILED)
        }
    }
}

fn replay(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let recording = Recording::open(&arguments.dir)?;
    let then = &recording.about;
    let mut line = record::line(&then.arguments);
    line.model_dir = arguments.model.clone().or(line.model_dir);
    let environment = Environment::from_process().with_settings(&then.variables);
    let configuration = Configuration::read(&line, &environment);
    let models = match configuration.models(&sconce_manager::Reached) {
        Ok(models) => models,
        Err(errors) => {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{errors}\n"));
            return Ok(ExitCode::from(sconce_config::EXIT_CODE));
        }
    };
    let server = configuration.server();
    let log = logging::start(&server.log, server.observed.json_log, &Bars::new());
    for model in &models {
        if let Err(cause) = sconce_manager::require_device(&model.model) {
            error!("sconce ends: {cause}");
            return Ok(ExitCode::from(NO_DEVICE));
        }
    }
    let settings = http::settings(&configuration, log, Arc::default(), Duration::ZERO)?;
    tell(then.changes(&record::about(&line, &environment, &models)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let settings_of = |resolved: &Resolved| resolved.model.clone();
    let models: Vec<ModelSettings> = models.iter().map(settings_of).collect();
    let tally = runtime.block_on(async {
        let manager = started(configuration, &models).await?;
        tell(changed_files(&recording, &models)?);
        let replayer = Replayer::new(Models::of(Arc::new(manager.clone())), settings);
        let tally = ask_all(&recording, &replayer, usize::from(arguments.clients)).await;
        tokio::task::spawn_blocking(move || manager.stop()).await?;
        tally
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    command::print(&format!("{tally}\n"));
    Ok(ExitCode::from(u8::from(tally.differ > 0)))
}

/// Prints why answers may be others.
fn tell(changes: Vec<String>) {
    for change in changes {
        command::print(&format!("note: {change}\n"));
    }
}

/// The models, once all can be asked.
async fn started(
    configuration: Configuration,
    models: &[ModelSettings],
) -> anyhow::Result<Manager> {
    let (tell, mut told) = mpsc::unbounded_channel::<Outcome>();
    let manager = Manager::start(configuration, models.to_vec(), move |_, outcome| {
        let _ = tell.send(outcome);
    })?;
    for _ in models {
        match told.recv().await {
            Some(Ok(())) => {}
            _ => bail!("a model of the recording cannot be served; the log says why"),
        }
    }
    Ok(manager)
}

fn changed_files(recording: &Recording, models: &[ModelSettings]) -> anyhow::Result<Vec<String>> {
    if recording.checkpoints.is_empty() && !models.is_empty() {
        let text = "the recording ended before the models' files had been read: whether they are the same is not known";
        return Ok(vec![text.into()]);
    }
    let now = record::checkpoints(models)?;
    let changes = recording.checkpoints.iter().flat_map(|then| {
        let same = now.iter().find(|now| now.name == then.name);
        let changes = same.map(|now| then.changes(now)).unwrap_or_default();
        changes
            .into_iter()
            .map(|change| format!("the model {}: {change}", then.name))
    });
    Ok(changes.collect())
}

/// Asks all requests, so many at a time, and prints the answers that differ.
async fn ask_all(
    recording: &Recording,
    replayer: &Replayer,
    clients: usize,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut running = JoinSet::new();
    for (at, exchange) in recording.exchanges()?.enumerate() {
        let exchange = exchange?;
        if running.len() >= clients
            && let Some(asked) = running.join_next().await
        {
            tally.note(asked?);
        }
        let replayer = replayer.clone();
        running.spawn(async move {
            let verdict = match replayer.ask(&exchange).await {
                Ok(answer) => compare(&exchange.answer, &answer),
                Err(cause) => Verdict::Differs(cause),
            };
            (at + 1, exchange, verdict)
        });
    }
    while let Some(asked) = running.join_next().await {
        tally.note(asked.context("a request was not answered")?);
    }
    Ok(tally)
}

impl Tally {
    fn note(&mut self, (number, exchange, verdict): (usize, Exchange, Verdict)) {
        match verdict {
            Verdict::Same => self.same += 1,
            Verdict::Unpromised(_) => self.unpromised += 1,
            Verdict::Differs(how) => {
                self.differ += 1;
                let asked = &exchange.asked;
                let (method, target) = (&asked.method, &asked.target);
                command::print(&format!("{number}: {method} {target}: {how}\n"));
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            same,
            differ,
            unpromised,
        } = self;
        let all = same + differ + unpromised;
        write!(
            f,
            "{all} requests: {same} answers are the same, {differ} are not"
        )?;
        match unpromised {
            0 => Ok(()),
            some => write!(f, ", of {some} nothing is promised"),
        }
    }
}
