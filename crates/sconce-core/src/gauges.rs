//! Counts jobs at the door and in an engine; shared between the submitters and the engine's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::status::Load;

/// The counters of one engine.
#[derive(Debug, Default)]
pub struct Gauges {
    queued: AtomicUsize,
    running: AtomicUsize,
    used_blocks: AtomicUsize,
    total_blocks: AtomicUsize,
    batch: AtomicUsize,
    steps: AtomicU64,
    prefix_queries: AtomicU64,
    prefix_hits: AtomicU64,
    preemptions: AtomicU64,
    works: AtomicBool,
    signs: Arc<AtomicU64>,
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

    /// Notes that a step was computed, of so many jobs.
    pub fn count_step(&self, jobs: usize) {
        self.batch.store(jobs, Relaxed);
        self.steps.fetch_add(1, Relaxed);
    }

    /// Notes how many tokens were looked for in the cache since the start, how many of them were there, and how often a
    /// job gave its blocks back to be computed again.
    pub fn set_reuse(&self, queries: u64, hits: u64, preemptions: u64) {
        self.prefix_queries.store(queries, Relaxed);
        self.prefix_hits.store(hits, Relaxed);
        self.preemptions.store(preemptions, Relaxed);
    }

    /// Notes whether the engine's thread has something to do; each call is a sign of life.
    pub(crate) fn set_works(&self, works: bool) {
        self.works.store(works, Relaxed);
        self.signs.fetch_add(1, Relaxed);
        if !works {
            self.batch.store(0, Relaxed);
        }
    }

    /// What the engine's thread counts its signs of life in.
    pub fn signs(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.signs)
    }

    /// The counters now.
    pub fn load(&self) -> Load {
        Load {
            queued: self.queued.load(Relaxed),
            running: self.running.load(Relaxed),
            used_blocks: self.used_blocks.load(Relaxed),
            total_blocks: self.total_blocks.load(Relaxed),
            batch: self.batch.load(Relaxed),
            steps: self.steps.load(Relaxed),
            prefix_queries: self.prefix_queries.load(Relaxed),
            prefix_hits: self.prefix_hits.load(Relaxed),
            preemptions: self.preemptions.load(Relaxed),
            works: self.works.load(Relaxed),
            signs: self.signs.load(Relaxed),
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
    /// Moves from the queue to the running; once. Whether this is the first time.
    pub fn begin(&mut self) -> bool {
        let first = !self.running;
        if first {
            self.running = true;
            self.gauges.queued.fetch_sub(1, Relaxed);
            self.gauges.running.fetch_add(1, Relaxed);
        }
        first
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
        assert!(first.begin());
        assert!(!first.begin());
        let second = gauges.enter(1).unwrap();
        assert_eq!((gauges.load().queued, gauges.load().running), (1, 1));
        drop((first, second));
        assert_eq!(gauges.load(), Load::default());
    }
}
