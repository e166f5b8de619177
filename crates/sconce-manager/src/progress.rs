//! Tells the log how far a model has come while it is fetched or loaded.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sconce_core::{Phase, Progress};
use tracing::info;

/// So long nothing new is said.
const PAUSE: Duration = Duration::from_secs(5);

/// Says little: whoever loads something small hears nothing.
pub(crate) struct ProgressLog {
    model: String,
    began: Instant,
    said: Mutex<Instant>,
}

impl ProgressLog {
    pub(crate) fn new(model: String) -> Self {
        let began = Instant::now();
        Self {
            model,
            began,
            said: Mutex::new(began),
        }
    }

    /// Writes a line if the last one is long ago.
    pub(crate) fn tell(&self, phase: &Phase, progress: Progress) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.total == 0 || said.elapsed() < PAUSE {
            return;
        }
        *said = Instant::now();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        info!(
            "model {}: {phase}: {:.0} of {:.0} MiB after {:.0} s",
            self.model,
            mib(progress.done),
            mib(progress.total),
            self.began.elapsed().as_secs_f64()
        );
    }
}
