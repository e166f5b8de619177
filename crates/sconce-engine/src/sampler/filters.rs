//! Which tokens may be drawn, and the draw.
//!
//! The formulas are those of transformers' `TopKLogitsWarper`, `TopPLogitsWarper`,
//! `MinPLogitsWarper` and `TypicalLogitsWarper`, in this order, after the temperature. Of tokens
//! that are equal at the border of top-p the lower ids are kept.

use sconce_core::Sampling;

use super::Scratch;
use super::select::{Candidate, largest, mass_cut};
use super::softmax::{exp, sum};

/// The filters of one sequence; a filter that keeps everything is absent.
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

    /// Leaves in `scratch.candidates` what may be drawn, in order of id, with the weights of the
    /// draw; at least one. `peak` is the highest of the scores.
    pub(super) fn keep(&self, scores: &[f32], peak: f32, scratch: &mut Scratch) {
        scratch.candidates.clear();
        let total = match self.top_k {
            Some(count) if count < scores.len() => self.gather_top(scores, peak, count, scratch),
            _ => self.gather_all(scores, peak, scratch),
        };
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
        let mut total = 0.0;
        for (&score, id) in scores.iter().zip(0..) {
            if score >= lowest {
                let key = self.key(score, peak);
                let weight = exp(key);
                total += f64::from(weight);
                scratch.candidates.push(Candidate { id, key, weight });
            }
        }
        total
    }

    /// Every token that top-p and min-p may keep; the sum of the weights of all tokens.
    fn gather_all(&self, scores: &[f32], peak: f32, scratch: &mut Scratch) -> f64 {
        scratch.weights.clear();
        scratch
            .weights
            .extend(scores.iter().map(|&score| exp(self.key(score, peak))));
        let total = sum(&scratch.weights, |weight| weight);
        // Tokens below this have together less than 1 - p, so top-p drops them all; a little less
        // because sums are rounded. The peak's weight is 1, so it stays.
        let tail = self
            .top_p
            .map_or(0.0, |share| (1.0 - share) * total / scores.len() as f64);
        let floor = (tail as f32 * 0.999)
            .max(self.min_p.unwrap_or(0.0))
            .max(f32::MIN_POSITIVE);
        for (&weight, id) in scratch.weights.iter().zip(0..) {
            if weight >= floor {
                let key = self.key(scores[id as usize], peak);
                scratch.candidates.push(Candidate { id, key, weight });
            }
        }
        total
    }

    fn key(&self, score: f32, peak: f32) -> f32 {
        (score - peak) / self.temperature
    }
}

/// The token at `chance` (from 0 to 1) of the candidates' weights laid end to end.
pub(super) fn draw(candidates: &[Candidate], chance: f64) -> u32 {
    let mut left = chance * mass(candidates);
    let drawn = candidates.iter().find(|candidate| {
        left -= f64::from(candidate.weight);
        left < 0.0
    });
    // Rounding may leave nothing at the very end: then the last token that has a weight.
    let last = || candidates.iter().rfind(|candidate| candidate.weight > 0.0);
    drawn
        .or_else(last)
        .or(candidates.last())
        .expect("the filters keep a token")
        .id
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
