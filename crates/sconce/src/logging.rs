//! The log: sentences on standard error, filtered by the level that the configuration names, until
//! somebody names another.

use std::sync::Arc;

use sconce_http::LogSwitch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

use crate::bars::Bars;

/// Starts logging at a level or with a filter such as `info,sconce_engine=debug`, in lines for people or of JSON; what
/// changes the level later.
pub(crate) fn start(filter: &str, json: bool, bars: &Bars) -> LogSwitch {
    let bars = bars.clone();
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(move || bars.writer());
    let lines = match json {
        true => lines.json().flatten_event(true).with_target(true).boxed(),
        false => lines.boxed(),
    };
    // Fails only if logging has been started before, which main does not do.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    LogSwitch(Arc::new(move |level: &str| {
        let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}
