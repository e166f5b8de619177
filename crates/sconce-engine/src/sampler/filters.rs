//! Which tokens may be drawn, and the draw.
//!
//! The formulas are those of transformers' `TopKLogitsWarper`, `TopPLogitsWarper`,
//! `MinPLogitsWarper` and `TypicalLogitsWarper`, in this order, after the temperature. Of tokens
//! that are equal at the border of top-p the lower ids are kept.

use sconce_core::Sampling;
use sconce_nn::logits;

use super::Scratch;
use super::select::{Candidate, largest, mass_cut};

/// The filters of one sequence; a filter that keeps everything is absent.
#[derive(Clone)]
pub(super) struct Filters {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f32>,
    typical_p: Option<f64>,
}

impl Filters {
    /// The temperature must be above 0.
    pub(super) fn new(params: &Sampling) -> Self {
        let share = |p: f32| (p < 1.0).then_some(f64::from(p));
        Self {
            temperature: params.temperature,
            top_k: (params.top_k > 0).then_some(params.top_k),
            top_p: share(params.top_p),
            min_p: (params.min_p > 0.0).then_some(params.min_p.min(1.0)),
            typical_p: share(params.typical_p),
        }
    }

    /// The token at `chance` (from 0 to 1) of what may be drawn. `peak` is the highest of the
    /// scores.
    pub(super) fn draw(
        &self,
        scores: &[f32],
        peak: f32,
        chance: f64,
        scratch: &mut Scratch,
    ) -> u32 {
        let cuts = self.top_p.is_some() || self.min_p.is_some() || self.typical_p.is_some();
        if cuts || self.top_k(scores.len()).is_some() {
            self.keep(scores, peak, scratch);
            return draw(&scratch.candidates, chance);
        }
        let (weights, total) = self.weigh(scores, peak, &mut scratch.weights);
        let weight = |&weight: &f32| weight;
        index_at(weights, weight, logits::sum, chance * total) as u32
    }

    /// So many of the largest scores are looked at, if that is fewer than all of `vocab`.
    pub(super) fn top_k(&self, vocab: usize) -> Option<usize> {
        self.top_k.filter(|&count| count < vocab)
    }

    /// As [`Self::draw`], where `scores` are no others than the highest, at least as many as top-k keeps.
    pub(super) fn draw_of_top(
        &self,
        scores: &[f32],
        peak: f32,
        chance: f64,
        scratch: &mut Scratch,
    ) -> u32 {
        scratch.candidates.clear();
        let count = self.top_k.unwrap_or(scores.len());
        let total = self.gather_top(scores, peak, count, scratch);
        self.cut(total, scratch);
        draw(&scratch.candidates, chance)
    }

    /// Leaves in `scratch.candidates` what may be drawn, in order of id, with the weights of the
    /// draw; at least one. `peak` is the highest of the scores.
    pub(super) fn keep(&self, scores: &[f32], peak: f32, scratch: &mut Scratch) {
        scratch.candidates.clear();
        let total = match self.top_k {
            Some(count) if count < scores.len() => self.gather_top(scores, peak, count, scratch),
            _ => self.gather_all(scores, peak, scratch),
        };
        self.cut(total, scratch);
    }

    /// Applies the filters behind top-k to the candidates, whose weights and those of all others have that sum.
    fn cut(&self, total: f64, scratch: &mut Scratch) {
        if let Some(share) = self.top_p {
            keep_nucleus(share * total, scratch);
        }
        if let Some(share) = self.min_p {
            scratch
                .candidates
                .retain(|candidate| candidate.weight >= share);
        }
        if let Some(share) = self.typical_p {
            keep_typical(share, scratch);
        }
    }

    /// The `count` tokens with the highest scores, and those equal to the last of them; the sum
    /// of their weights.
    fn gather_top(&self, scores: &[f32], peak: f32, count: usize, scratch: &mut Scratch) -> f64 {
        largest(scores, count, &mut scratch.ranked);
        let lowest = scratch.ranked.last().map_or(peak, |last| last.key);
        let floor = lowest.next_down();
        let candidates = &mut scratch.candidates;
        let mut total = 0.0;
        logits::visit_above(scores, floor, &mut |id, score| {
            let key = self.key(score, peak);
            let weight = key.exp();
            total += f64::from(weight);
            candidates.push(Candidate {
                id: id as u32,
                key,
                weight,
            });
            floor
        });
        total
    }

    /// Every token that top-p and min-p may keep; the sum of the weights of all tokens.
    fn gather_all(&self, scores: &[f32], peak: f32, scratch: &mut Scratch) -> f64 {
        let (weights, total) = self.weigh(scores, peak, &mut scratch.weights);
        // Tokens below this have together less than 1 - p, so top-p drops them all; a little less
        // because sums are rounded. The peak's weight is 1, so it stays.
        let tail = self
            .top_p
            .map_or(0.0, |share| (1.0 - share) * total / scores.len() as f64);
        let floor = (tail as f32 * 0.999)
            .max(self.min_p.unwrap_or(0.0))
            .max(f32::MIN_POSITIVE)
            .next_down();
        let candidates = &mut scratch.candidates;
        logits::visit_above(weights, floor, &mut |id, weight| {
            candidates.push(Candidate {
                id: id as u32,
                key: self.key(scores[id], peak),
                weight,
            });
            floor
        });
        total
    }

    /// The weights of all tokens, the peak's being 1, and their sum.
    fn weigh<'a>(&self, scores: &[f32], peak: f32, weights: &'a mut Vec<f32>) -> (&'a [f32], f64) {
        weights.resize(scores.len(), 0.0);
        let total = logits::exp_into(scores, peak, self.temperature, weights);
        (weights, total)
    }

    fn key(&self, score: f32, peak: f32) -> f32 {
        (score - peak) / self.temperature
    }
}

/// The token at `chance` (from 0 to 1) of the candidates' weights laid end to end.
pub(super) fn draw(candidates: &[Candidate], chance: f64) -> u32 {
    let weight = |candidate: &Candidate| candidate.weight;
    let place = chance * mass(candidates);
    candidates[index_at(candidates, weight, mass, place)].id
}

/// The index of the item at `place` of all weights laid end to end: first the run is found, by
/// its mass, then the item in it. There must be one.
fn index_at<T>(
    items: &[T],
    weight: impl Fn(&T) -> f32,
    mass: impl Fn(&[T]) -> f64,
    place: f64,
) -> usize {
    const RUN: usize = 256;
    let mut left = place;
    for (number, run) in items.chunks(RUN).enumerate() {
        let mass = mass(run);
        if left < mass {
            let drawn = run.iter().position(|item| {
                left -= f64::from(weight(item));
                left < 0.0
            });
            // Rounding may leave nothing at the end of a run: then its last item with a weight.
            let last = || run.iter().rposition(|item| weight(item) > 0.0);
            return number * RUN + drawn.or_else(last).unwrap_or(0);
        }
        left -= mass;
    }
    // Nor at the very end.
    let last = items.iter().rposition(|item| weight(item) > 0.0);
    last.unwrap_or(items.len() - 1)
}

/// The sum of the weights, in lanes because one sum would wait for each addition.
fn mass(candidates: &[Candidate]) -> f64 {
    let (chunks, rest) = candidates.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, candidate) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(candidate.weight);
        }
    }
    let rest = rest.iter().map(|candidate| f64::from(candidate.weight));
    lanes.into_iter().chain(rest).sum()
}

/// Keeps the likeliest tokens until their weights reach `mass`.
fn keep_nucleus(mass: f64, scratch: &mut Scratch) {
    scratch.ranked.clone_from(&scratch.candidates);
    if let Some(cut) = mass_cut(&mut scratch.ranked, mass) {
        scratch
            .candidates
            .retain(|candidate| candidate.order(&cut).is_le());
    }
}

/// Keeps the tokens whose surprise is closest to the mean surprise, until they have `share` of
/// the probability, and all that are as close as the last.
fn keep_typical(share: f64, scratch: &mut Scratch) {
    let candidates = &mut scratch.candidates;
    let total = mass(candidates);
    let surprise = |candidate: &Candidate| total.ln() - f64::from(candidate.key);
    let parts = candidates.iter().filter(|candidate| candidate.weight > 0.0);
    let mean: f64 = parts
        .map(|c| f64::from(c.weight) / total * surprise(c))
        .sum();
    let closeness = |candidate: &Candidate| -(surprise(candidate) - mean).abs() as f32;
    scratch.ranked.clear();
    scratch.ranked.extend(candidates.iter().map(|c| Candidate {
        key: closeness(c),
        ..*c
    }));
    if let Some(cut) = mass_cut(&mut scratch.ranked, share * total) {
        candidates.retain(|candidate| closeness(candidate) >= cut.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(params: &Sampling, scores: &[f32]) -> Vec<u32> {
        let mut scratch = Scratch::default();
        let peak = scores.iter().copied().fold(f32::MIN, f32::max);
        Filters::new(params).keep(scores, peak, &mut scratch);
        scratch
            .candidates
            .iter()
            .map(|candidate| candidate.id)
            .collect()
    }

    #[test]
    fn top_k_keeps_what_equals_the_last() {
        let params = Sampling {
            top_k: 2,
            ..Sampling::default()
        };
        assert_eq!(kept(&params, &[1.0, 3.0, 2.0, 2.0]), [1, 2, 3]);
        assert_eq!(kept(&Sampling { top_k: 9, ..params }, &[1.0, 3.0]), [0, 1]);
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses_the_share_and_of_equals_the_lower_id() {
        let scores = [0.1f32, 0.5, 0.2, 0.2].map(f32::ln);
        for (top_p, wanted) in [
            (0.0, vec![1]),
            (0.45, vec![1]),
            (0.6, vec![1, 2]),
            (0.8, vec![1, 2, 3]),
        ] {
            assert_eq!(
                kept(
                    &Sampling {
                        top_p,
                        ..Sampling::default()
                    },
                    &scores
                ),
                wanted,
                "{top_p}"
            );
        }
    }

    #[test]
    fn tokens_of_probability_0_are_never_kept() {
        let scores = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        for params in [
            Sampling::default(),
            Sampling {
                top_k: 2,
                ..Sampling::default()
            },
            Sampling {
                typical_p: 0.9,
                ..Sampling::default()
            },
        ] {
            assert_eq!(kept(&params, &scores), [1]);
        }
    }

    #[test]
    fn a_draw_from_all_tokens_finds_what_a_draw_from_candidates_does() {
        let score = |at: usize| match at % 7 {
            0 => f32::NEG_INFINITY,
            _ => ((at.wrapping_mul(0x9E37_79B9) >> 7) % 900) as f32 / 100.0,
        };
        for count in [1, 2, 1025, 5000] {
            // The first and the last runs of a long row have little weight.
            let scores: Vec<f32> = (1..=count).map(score).collect();
            let peak = scores.iter().copied().fold(f32::MIN, f32::max);
            let (mut scratch, filters) = (Scratch::default(), Filters::new(&Sampling::default()));
            filters.keep(&scores, peak, &mut scratch);
            let candidates = scratch.candidates.clone();
            for chance in [0.0, 1e-9, 0.1, 0.37, 0.5, 0.9, 1.0 - 1e-9, 1.0] {
                let drawn = filters.draw(&scores, peak, chance, &mut scratch);
                assert_eq!(drawn, draw(&candidates, chance), "{chance} of {count}");
            }
        }
    }

    #[test]
    fn the_draw_finds_each_token_at_its_share() {
        let candidate = |(id, weight)| Candidate {
            id,
            key: 0.0,
            weight,
        };
        let candidates = [(3, 0.0), (5, 1.0), (8, 3.0), (9, 0.0)].map(candidate);
        let drawn = [0.0, 0.24, 0.26, 0.999_999].map(|chance| draw(&candidates, chance));
        assert_eq!(drawn, [5, 5, 8, 8]);
        assert_eq!(draw(&candidates, 1.0), 8);
    }
}
