//! Picks the tokens of all rows of a step at the same time, on the threads of the kernels.
//!
//! Samplers and buffers are lent for the while and used again, so nothing is allocated from step
//! to step. A pick depends on its own row only; who makes it does not matter.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use sconce_nn::pool;

use crate::sampler::{Picked, Sampler, SamplerError, Scratch};

/// What came of one pick: the sampler back, and the token.
pub(crate) type Drawn = (Sampler, Result<Picked, SamplerError>);

/// The picks of one step; empty between steps.
#[derive(Default)]
pub(crate) struct Draws {
    draws: Vec<Mutex<Draw>>,
    /// One for each thread that picks.
    scratches: Vec<Mutex<Scratch>>,
}

struct Draw {
    sampler: Sampler,
    /// Its row among the logits.
    row: usize,
    /// So many of the likeliest tokens are wanted.
    top: usize,
    outcome: Option<Result<Picked, SamplerError>>,
}

impl Draws {
    /// Adds a pick from row `row` of the logits.
    pub(crate) fn push(&mut self, sampler: Sampler, row: usize, top: usize) {
        self.draws.push(Mutex::new(Draw {
            sampler,
            row,
            top,
            outcome: None,
        }));
    }

    /// Makes all picks from logits `[rows, vocab]`.
    pub(crate) fn pick(&mut self, logits: &[f32], vocab: usize) {
        let tasks = pool::threads().min(self.draws.len());
        if self.scratches.len() < tasks {
            self.scratches.resize_with(tasks, Default::default);
        }
        let (draws, scratches, next) = (&self.draws, &self.scratches, AtomicUsize::new(0));
        pool::run(tasks, &|task| {
            let mut scratch = scratches[task]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            while let Some(draw) = draws.get(next.fetch_add(1, Relaxed)) {
                let mut draw = draw.lock().unwrap_or_else(PoisonError::into_inner);
                let row = &logits[draw.row * vocab..][..vocab];
                let top = draw.top;
                draw.outcome = Some(draw.sampler.pick(row, top, &mut scratch));
            }
        });
    }

    /// Takes the picks out, in the order in which they were added.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Drawn> + '_ {
        self.draws.drain(..).map(|draw| {
            let draw = draw.into_inner().unwrap_or_else(PoisonError::into_inner);
            let outcome = draw.outcome.expect("every pick was made");
            (draw.sampler, outcome)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_core::Sampling;

    const VOCAB: usize = 5000;

    fn sampler(seed: u64) -> Sampler {
        let params = Sampling {
            do_sample: !seed.is_multiple_of(3),
            top_k: if seed.is_multiple_of(2) { 40 } else { 0 },
            ..Sampling::default()
        };
        Sampler::new(&params, &[], 0, &[], seed)
    }

    #[test]
    fn rows_get_what_they_get_alone_in_their_order() {
        let rows = 11;
        let logits: Vec<f32> = (0..rows * VOCAB)
            .map(|at| (at.wrapping_mul(0x9E37_79B9) >> 16) as f32 % 97.0 / 20.0)
            .collect();
        let mut draws = Draws::default();
        for _ in 0..3 {
            for row in (0..rows).rev() {
                draws.push(sampler(row as u64), row, row % 3);
            }
            draws.pick(&logits, VOCAB);
            let mut row = rows;
            for (_, picked) in draws.drain() {
                row -= 1;
                let own = &logits[row * VOCAB..][..VOCAB];
                let alone = sampler(row as u64).pick(own, row % 3, &mut Scratch::default());
                assert_eq!(picked, alone);
            }
            assert_eq!(row, 0);
        }
    }
}
