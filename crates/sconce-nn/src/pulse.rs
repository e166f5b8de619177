//! Signs of life of a group of ranks. A thread that belongs to a group counts what it gets done: tasks of kernels,
//! pieces of weights, collectives. Whoever waits for the group can so tell slow ranks from ranks that stand still.
//! What happens to a group that stands still is left to its communicator and to the engine.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest time between two looks at a pulse.
const TICK: Duration = Duration::from_millis(100);

thread_local! {
    static PULSE: RefCell<Option<Pulse>> = const { RefCell::new(None) };
}

/// The count of signs of life of one group; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

/// Ends the counting of a thread's work when it is dropped.
#[derive(Debug)]
pub struct Attached(());

impl Pulse {
    /// Counts where others can read it.
    pub fn counting(signs: Arc<AtomicU64>) -> Self {
        Self(signs)
    }

    /// Counts a sign of life.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Has what this thread gets done counted, until the guard is dropped.
    pub fn attach(&self) -> Attached {
        PULSE.set(Some(self.clone()));
        Attached(())
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        PULSE.set(None);
    }
}

/// Counts a sign of life of this thread's group, if it belongs to one.
pub(crate) fn beat() {
    PULSE.with_borrow(|pulse| {
        if let Some(pulse) = pulse {
            pulse.beat();
        }
    });
}

/// For how long a group has shown no sign of life.
#[derive(Debug)]
pub struct Silence {
    pulse: Pulse,
    limit: Duration,
    heard: u64,
    looked: Instant,
    lasts: Duration,
    passes_on: bool,
}

impl Silence {
    /// Listens from now on.
    pub fn of(pulse: &Pulse, limit: Duration) -> Self {
        Self {
            heard: pulse.count(),
            pulse: pulse.clone(),
            limit,
            looked: Instant::now(),
            lasts: Duration::ZERO,
            passes_on: false,
        }
    }

    /// What is heard counts as a sign of life of the thread that listens, which must not be attached to the same pulse.
    #[must_use]
    pub fn passed_on(self) -> Self {
        Self {
            passes_on: true,
            ..self
        }
    }

    /// How long to wait before the next look.
    pub fn tick(&self) -> Duration {
        TICK.min(self.limit)
    }

    /// Looks; whether the silence has reached its limit. A look that comes late counts as two ticks at most: a process
    /// that was suspended, or a machine that slept, was not waiting meanwhile.
    pub fn is_too_long(&mut self) -> bool {
        let (now, count) = (Instant::now(), self.pulse.count());
        let since = (now - self.looked).min(2 * self.tick());
        self.looked = now;
        if count == self.heard {
            self.lasts += since;
        } else {
            self.heard = count;
            self.lasts = Duration::ZERO;
            if self.passes_on {
                beat();
            }
        }
        self.lasts >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_within(silence: &mut Silence, longest: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < longest {
            std::thread::sleep(silence.tick());
            if silence.is_too_long() {
                return true;
            }
        }
        false
    }

    #[test]
    fn work_of_an_attached_thread_breaks_the_silence_and_other_work_does_not() {
        let pulse = Pulse::default();
        let before = pulse.count();
        crate::pool::run(3, &|_| {});
        assert_eq!(pulse.count(), before, "this thread belongs to no group");
        {
            let _attached = pulse.attach();
            crate::pool::run(1, &|_| {});
            assert!(pulse.count() > before);
        }
        let after = pulse.count();
        beat();
        assert_eq!(pulse.count(), after, "the guard is gone");
    }

    #[test]
    fn a_silence_counts_from_the_last_sign_of_life() {
        let pulse = Pulse::default();
        let limit = Duration::from_millis(60);
        let mut silence = Silence::of(&pulse, limit);
        for _ in 0..6 {
            std::thread::sleep(limit / 2);
            pulse.beat();
            assert!(!silence.is_too_long(), "it beats");
        }
        assert!(ends_within(&mut silence, Duration::from_secs(5)));
    }

    #[test]
    fn a_late_look_counts_as_two_ticks() {
        let pulse = Pulse::default();
        let mut silence = Silence::of(&pulse, TICK * 3);
        std::thread::sleep(TICK * 4);
        assert!(!silence.is_too_long());
        std::thread::sleep(TICK);
        assert!(silence.is_too_long());
    }
}
