//! Counts jobs at the door and in an engine; shared between the submitters and the engine's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::status::{Load, Spread};

/// The counters of one engine.
#[derive(Debug, Default)]
pub struct Gauges {
    queued: AtomicUsize,
    running: AtomicUsize,
    used_blocks: AtomicUsize,
    total_blocks: AtomicUsize,
    batch: AtomicUsize,
    steps: AtomicU64,
    batches: Spreading,
    tokens: Spreading,
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

    /// Notes that a step was computed, of so many jobs and tokens; 0 where there are none of these.
    pub fn count_step(&self, jobs: usize, tokens: usize) {
        self.batch.store(jobs, Relaxed);
        self.steps.fetch_add(1, Relaxed);
        self.batches.count(jobs);
        self.tokens.count(tokens);
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
            batches: self.batches.now(),
            tokens: self.tokens.now(),
            prefix_queries: self.prefix_queries.load(Relaxed),
            prefix_hits: self.prefix_hits.load(Relaxed),
            preemptions: self.preemptions.load(Relaxed),
            works: self.works.load(Relaxed),
            signs: self.signs.load(Relaxed),
        }
    }
}

/// A [`Spread`] that is being counted.
#[derive(Debug, Default)]
struct Spreading {
    counts: [AtomicU64; Spread::LIMITS.len() + 1],
    sum: AtomicU64,
}

impl Spreading {
    fn count(&self, value: usize) {
        if value == 0 {
            return;
        }
        let value = value as u64;
        let at = Spread::LIMITS.partition_point(|&limit| limit < value);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn now(&self) -> Spread {
        Spread {
            counts: std::array::from_fn(|at| self.counts[at].load(Relaxed)),
            sum: self.sum.load(Relaxed),
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
    fn steps_are_counted_by_their_size() {
        let gauges = Gauges::default();
        for (jobs, tokens) in [(1, 1), (2, 3), (0, 0), (3, 40_000)] {
            gauges.count_step(jobs, tokens);
        }
        let load = gauges.load();
        assert_eq!((load.steps, load.batch), (4, 3));
        assert_eq!((load.batches.sum, load.tokens.sum), (6, 40_004));
        assert_eq!(load.batches.counts[..4], [1, 1, 1, 0]);
        assert_eq!(load.tokens.counts[Spread::LIMITS.len()], 1);
        assert_eq!(load.tokens.counts.iter().sum::<u64>(), 3);
    }

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
