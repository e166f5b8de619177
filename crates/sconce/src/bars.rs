//! Bars on the terminal while models of the start are fetched and loaded; lines of the log stand above them. Where standard
//! error is no terminal, the log's own lines tell the progress (`sconce-manager`).

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sconce_core::{ModelStatus, Phase};
use tracing::warn;

/// The time between two looks at the models.
const PAUSE: Duration = Duration::from_millis(100);

const FORM: &str = "{msg} [{bar:32}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// The terminal, if there is one.
#[derive(Clone)]
pub(crate) struct Bars(Option<MultiProgress>);

impl Bars {
    /// On standard error, if somebody looks at it.
    pub(crate) fn new() -> Self {
        Self(io::stderr().is_terminal().then(|| {
            let bars = MultiProgress::new();
            bars.set_draw_target(ProgressDrawTarget::stderr());
            bars
        }))
    }

    /// Where lines go.
    pub(crate) fn writer(&self) -> Above {
        Above(self.0.clone())
    }

    /// Shows how far models are, until none of the start is on its way.
    pub(crate) fn follow(&self, models: impl Fn() -> Vec<ModelStatus> + Send + 'static) {
        let Some(bars) = self.0.clone() else {
            return;
        };
        let follow = move || {
            let mut shown = Shown::default();
            while shown.show(&models(), &bars) {
                std::thread::sleep(PAUSE);
            }
        };
        let thread = std::thread::Builder::new().name("bars".into());
        if let Err(cause) = thread.spawn(follow) {
            warn!("no progress is shown: {cause}");
        }
    }
}

/// Standard error above the bars.
pub(crate) struct Above(Option<MultiProgress>);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar for each model that tells bytes, and the phase that it shows.
#[derive(Default)]
struct Shown(HashMap<String, (Phase, ProgressBar)>);

impl Shown {
    /// False: no model of the start is on its way.
    fn show(&mut self, models: &[ModelStatus], bars: &MultiProgress) -> bool {
        let coming = || {
            models
                .iter()
                .filter(|model| model.at_startup && model.phase.is_coming())
        };
        for model in coming().filter(|model| model.progress.total > 0) {
            let new = || {
                let style = ProgressStyle::with_template(FORM);
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = bars.add(ProgressBar::new(0).with_style(style));
                (Phase::Pending, bar)
            };
            let (phase, bar) = self.0.entry(model.label()).or_insert_with(new);
            let is_new = *phase != model.phase;
            if is_new {
                // What is left is reckoned from the bytes of this phase.
                *phase = model.phase.clone();
                bar.reset();
            }
            bar.set_length(model.progress.total);
            bar.set_position(model.progress.done);
            // Last, since it is shown at once.
            if is_new {
                bar.set_message(format!("{}: {phase}", model.label()));
            }
        }
        let is_coming = |label: &String| coming().any(|model| model.label() == *label);
        self.0.retain(|label, (_, bar)| {
            let stays = is_coming(label);
            if !stays {
                bar.finish_and_clear();
            }
            stays
        });
        coming().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_core::Progress;

    fn model(phase: Phase, done: u64) -> ModelStatus {
        ModelStatus {
            name: "m".into(),
            at_startup: true,
            phase,
            progress: Progress { done, total: 10 },
            ..ModelStatus::default()
        }
    }

    #[test]
    fn a_bar_follows_its_model_from_phase_to_phase_and_goes_when_it_is_ready() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut shown = Shown::default();
        assert!(shown.show(&[model(Phase::Fetching, 7)], &bars));
        let bar = shown.0["m"].1.clone();
        assert_eq!((bar.position(), bar.length()), (7, Some(10)));
        assert_eq!(bar.message(), "m: fetching");
        assert!(shown.show(&[model(Phase::Loading, 2)], &bars));
        assert_eq!((bar.position(), bar.message().as_str()), (2, "m: loading"));
        assert!(!shown.show(&[model(Phase::Ready, 0)], &bars));
        assert!(shown.0.is_empty() && bar.is_finished());
        let registered = ModelStatus {
            at_startup: false,
            ..model(Phase::Loading, 1)
        };
        assert!(!shown.show(&[registered], &bars));
    }
}
