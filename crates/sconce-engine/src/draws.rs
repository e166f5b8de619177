//! Picks the tokens of all rows of a step at the same time, on the threads of the kernels.
//!
//! Samplers and buffers are lent for the while and used again, so nothing is allocated from step
//! to step. A pick depends on its own row only; who makes it does not matter.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use sconce_nn::{Best, pool};

use crate::sampler::{Logits, Picked, Sampler, SamplerError, Scratch};

/// What was computed of the logits of a step, by row.
pub(crate) struct Given<'a> {
    whole: &'a [f32],
    vocab: usize,
    best: &'a [Option<Best>],
}

impl<'a> Given<'a> {
    /// Rows of `vocab` logits end to end, and the others as [`sconce_nn::Scores`] has them.
    pub(crate) fn new(whole: &'a [f32], vocab: usize, best: &'a [Option<Best>]) -> Self {
        Self { whole, vocab, best }
    }

    /// One row.
    pub(crate) fn row(&self, row: usize) -> Logits<'a> {
        if let Some(Some(best)) = self.best.get(row) {
            return Logits::Best(best);
        }
        Logits::All(&self.from(row)[..self.vocab])
    }

    /// The logits of a row that has all, and of those behind it that have, end to end.
    pub(crate) fn from(&self, row: usize) -> &'a [f32] {
        let others = self.best.iter().take(row).flatten().count();
        &self.whole[(row - others) * self.vocab..]
    }
}

/// What came of one pick: the sampler back, and the token; behind tokens that were guessed right, those that follow.
pub(crate) struct Drawn {
    pub(crate) sampler: Sampler,
    pub(crate) first: Result<Picked, SamplerError>,
    pub(crate) more: Vec<Result<Picked, SamplerError>>,
}

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
    /// What was guessed: the rows behind are of these tokens.
    guess: Vec<u32>,
    outcome: Option<Result<Picked, SamplerError>>,
    more: Vec<Result<Picked, SamplerError>>,
}

impl Draws {
    /// Adds a pick from row `row` of the logits, and from those behind it as long as what is picked was guessed.
    pub(crate) fn push(&mut self, sampler: Sampler, row: usize, top: usize, guess: &[u32]) {
        self.draws.push(Mutex::new(Draw {
            sampler,
            row,
            top,
            guess: guess.to_vec(),
            outcome: None,
            more: Vec::new(),
        }));
    }

    /// Makes all picks.
    pub(crate) fn pick(&mut self, given: &Given) {
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
                draw.pick(given, &mut scratch);
            }
        });
    }

    /// Takes the picks out, in the order in which they were added.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Drawn> + '_ {
        self.draws.drain(..).map(|draw| {
            let draw = draw.into_inner().unwrap_or_else(PoisonError::into_inner);
            Drawn {
                sampler: draw.sampler,
                first: draw.outcome.expect("every pick was made"),
                more: draw.more,
            }
        })
    }
}

impl Draw {
    fn pick(&mut self, given: &Given, scratch: &mut Scratch) {
        let first = self.sampler.pick_of(given.row(self.row), self.top, scratch);
        let mut last = first.as_ref().ok().map(|picked| picked.token);
        self.outcome = Some(first);
        for (at, &guessed) in self.guess.iter().enumerate() {
            if last != Some(guessed) {
                return;
            }
            let next = self
                .sampler
                .pick_of(given.row(self.row + 1 + at), self.top, scratch);
            last = next.as_ref().ok().map(|picked| picked.token);
            self.more.push(next);
        }
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
                draws.push(sampler(row as u64), row, row % 3, &[]);
            }
            draws.pick(&Given::new(&logits, VOCAB, &[]));
            let mut row = rows;
            for Drawn { first: picked, .. } in draws.drain() {
                row -= 1;
                let own = &logits[row * VOCAB..][..VOCAB];
                let alone = sampler(row as u64).pick(own, row % 3, &mut Scratch::default());
                assert_eq!(picked, alone);
            }
            assert_eq!(row, 0);
        }
    }

    #[test]
    fn behind_right_guesses_the_same_is_picked_as_one_by_one() {
        let rows = 6;
        let logits: Vec<f32> = (0..rows * VOCAB)
            .map(|at| (at.wrapping_mul(0x9E37_79B9) >> 16) as f32 % 97.0 / 20.0)
            .collect();
        for seed in 0..9 {
            let mut alone = sampler(seed);
            let mut one = |row: usize| {
                let own = &logits[row * VOCAB..][..VOCAB];
                alone.pick(own, 1, &mut Scratch::default()).unwrap()
            };
            let wanted: Vec<Picked> = (0..rows).map(&mut one).collect();
            for right in 0..rows {
                let mut guess: Vec<u32> = wanted
                    .iter()
                    .take(rows - 1)
                    .map(|pick| pick.token)
                    .collect();
                if let Some(wrong) = guess.get_mut(right) {
                    *wrong = (*wrong + 1) % VOCAB as u32;
                }
                let mut draws = Draws::default();
                draws.push(sampler(seed), 0, 1, &guess);
                draws.pick(&Given::new(&logits, VOCAB, &[]));
                let Drawn { first, more, .. } = draws.drain().next().unwrap();
                let got: Vec<_> = std::iter::once(first)
                    .chain(more)
                    .map(Result::unwrap)
                    .collect();
                assert_eq!(got, wanted[..=right.min(rows - 1)]);
            }
        }
    }
}
