//! Watches models that are ready: one whose thread has something to do and shows no sign of life for too long stands
//! still, which `/ping` then tells. Signs are what kernels get done (`sconce_nn`), so slow steps are none of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sconce_core::Load;
use tracing::{error, info};

use crate::entry::Entry;
use crate::manager::Shelf;

/// Between two looks, unless the patience is shorter.
const TICK: Duration = Duration::from_millis(500);

/// What was seen of a model when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// `None`: nobody has looked yet.
    signs: Option<u64>,
    silent: Duration,
}

impl Seen {
    /// Looks again after `tick`; for how long it has been silent. A look that comes late counts as one tick: a process
    /// that was suspended was not waiting meanwhile.
    fn look(&mut self, load: Load, tick: Duration) -> Duration {
        let lives = !load.works || self.signs != Some(load.signs);
        self.signs = Some(load.signs);
        self.silent = match lives {
            true => Duration::ZERO,
            false => self.silent + tick,
        };
        self.silent
    }
}

/// Who looks, and what was seen.
pub(crate) struct Watchdog {
    tick: Duration,
    patience: Duration,
    /// By the place of the model: what was seen of it, and whether it stands still.
    seen: HashMap<usize, (Seen, bool)>,
}

/// Starts a thread that watches all models until the shelf ends.
pub(crate) fn start(shelf: &Arc<Shelf>, patience: Duration) -> std::io::Result<()> {
    let shelf = Arc::downgrade(shelf);
    let mut watchdog = Watchdog::new(TICK.min(patience), patience);
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            loop {
                std::thread::sleep(watchdog.tick);
                match shelf.upgrade() {
                    Some(shelf) if !shelf.is_ending() => {
                        let models = shelf.lock().clone();
                        watchdog.look(&models);
                    }
                    _ => return,
                }
            }
        })?;
    Ok(())
}

impl Watchdog {
    /// Looks every `tick`, and has so much patience.
    pub(crate) fn new(tick: Duration, patience: Duration) -> Self {
        Self {
            tick,
            patience,
            seen: HashMap::new(),
        }
    }

    /// Looks at all models there are, and tells those which stand still, or go on.
    pub(crate) fn look(&mut self, models: &[Arc<Entry>]) {
        let place = |model: &Arc<Entry>| Arc::as_ptr(model) as usize;
        self.seen
            .retain(|known, _| models.iter().any(|model| place(model) == *known));
        for model in models {
            let Some(load) = model.ready_load() else {
                continue;
            };
            let (seen, was_stalled) = self.seen.entry(place(model)).or_default();
            let is_stalled = seen.look(load, self.tick) >= self.patience;
            if is_stalled && !*was_stalled {
                let cause = cause(load, self.patience);
                error!("model {} stands still: {cause}", model.label());
                model.set_stalled(Some(cause));
            } else if *was_stalled && !is_stalled {
                info!("model {} goes on", model.label());
                model.set_stalled(None);
            }
            *was_stalled = is_stalled;
        }
    }
}

fn cause(load: Load, patience: Duration) -> String {
    format!(
        "step {} with {} requests has shown no sign of life for {} s (SCONCE_WATCHDOG)",
        load.steps + 1,
        load.running,
        patience.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_while_there_is_something_to_do() {
        let load = |works, signs| Load {
            works,
            signs,
            ..Load::default()
        };
        let tick = Duration::from_secs(1);
        let mut seen = Seen::default();
        assert_eq!(seen.look(load(true, 7), tick), Duration::ZERO);
        assert_eq!(seen.look(load(true, 7), tick), tick);
        assert_eq!(seen.look(load(true, 7), tick), 2 * tick);
        assert_eq!(seen.look(load(true, 8), tick), Duration::ZERO);
        assert_eq!(seen.look(load(true, 8), tick), tick);
        assert_eq!(seen.look(load(false, 8), tick), Duration::ZERO, "it waits");
        assert_eq!(seen.look(load(true, 8), tick), tick);
    }

    #[test]
    fn the_cause_names_step_requests_and_time() {
        let load = Load {
            steps: 41,
            running: 3,
            ..Load::default()
        };
        let text = cause(load, Duration::from_secs(60));
        for part in ["step 42", "3 requests", "60 s", "SCONCE_WATCHDOG"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
