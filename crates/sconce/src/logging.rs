//! The log: sentences on standard error, filtered by the level that the configuration names.

use tracing_subscriber::EnvFilter;

/// Starts logging at a level or with a filter such as `info,sconce_engine=debug`.
pub(crate) fn start(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .finish();
    // Fails only if logging has been started before, which main does not do.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
