//! Counts jobs at the door and in an engine; shared between the submitters and the engine's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::status::Load;

/// The counters of one engine.
#[derive(Debug, Default)]
pub struct Gauges {
    queued: AtomicUsize,
    running: AtomicUsize,
    used_blocks: AtomicUsize,
    total_blocks: AtomicUsize,
}

impl Gauges {
    /// A place in the queue, or `None` if `limit` jobs wait already.
    pub fn enter(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        self.queued
            .fetch_update(Relaxed, Relaxed, |queued| {
                (queued < limit).then_some(queued + 1)
            })
            .ok()?;
        Some(Permit {
            gauges: Arc::clone(self),
            running: false,
        })
    }

    /// Notes the blocks in use.
    pub fn set_blocks(&self, used: usize, total: usize) {
        self.used_blocks.store(used, Relaxed);
        self.total_blocks.store(total, Relaxed);
    }

    /// The counters now.
    pub fn load(&self) -> Load {
        Load {
            queued: self.queued.load(Relaxed),
            running: self.running.load(Relaxed),
            used_blocks: self.used_blocks.load(Relaxed),
            total_blocks: self.total_blocks.load(Relaxed),
        }
    }
}

/// A job's place, first in the queue, then among the running; given back on drop.
#[derive(Debug)]
pub struct Permit {
    gauges: Arc<Gauges>,
    running: bool,
}

impl Permit {
    /// Moves from the queue to the running; once.
    pub fn begin(&mut self) {
        if !self.running {
            self.running = true;
            self.gauges.queued.fetch_sub(1, Relaxed);
            self.gauges.running.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let counter = if self.running {
            &self.gauges.running
        } else {
            &self.gauges.queued
        };
        counter.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_until_a_job_begins_or_leaves() {
        let gauges = Arc::new(Gauges::default());
        let mut first = gauges.enter(1).unwrap();
        assert!(gauges.enter(1).is_none());
        first.begin();
        first.begin();
        let second = gauges.enter(1).unwrap();
        assert_eq!((gauges.load().queued, gauges.load().running), (1, 1));
        drop((first, second));
        assert_eq!(gauges.load(), Load::default());
    }
}
