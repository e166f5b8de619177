//! The next token from its logits: penalties, filters, a draw, log-probabilities.
//!
//! Order and formulas are those of transformers' logits processors, with vLLM's frequency and
//! presence penalties. A pick depends on the seed, the number of tokens picked before, the logits,
//! the parameters and the history, and on nothing else. What ends a text is decided elsewhere.

mod filters;
#[cfg(test)]
mod goldens;
mod penalties;
mod rng;
mod select;
mod softmax;

use sconce_core::Sampling;
use sconce_nn::{Best, MOST_BEST, logits};
use sconce_text::{Fits, Follower};
use thiserror::Error;

use filters::Filters;
use penalties::Penalties;
use select::Candidate;

pub(crate) use select::largest;
pub(crate) use softmax::Softmax;

pub use softmax::log_softmax_at;

/// The next token and how likely the model thought it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picked {
    /// Its id.
    pub token: u32,
    /// Natural logarithm of its probability by the unmodified logits.
    pub logprob: f32,
    /// The most likely tokens by the unmodified logits and their log-probabilities, likeliest
    /// first, of equals the lower id first; tokens of probability 0 are not listed.
    pub top: Vec<(u32, f32)>,
}

/// How likely a token was among others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rated {
    /// Natural logarithm of its probability; NaN if the logits are no distribution.
    pub(crate) logprob: f32,
    /// So many tokens are at least as likely, itself included.
    pub(crate) rank: usize,
    /// As in [`Picked`].
    pub(crate) top: Vec<(u32, f32)>,
}

impl Rated {
    /// By the logits of its place, with the `top` most likely tokens there.
    pub(crate) fn of(logits: &[f32], token: u32, top: usize) -> Self {
        let own = logits.get(token as usize).copied();
        let (Ok(softmax), Some(own)) = (Softmax::of(logits), own) else {
            return Self {
                logprob: f32::NAN,
                rank: 0,
                top: Vec::new(),
            };
        };
        let mut ranked = Vec::new();
        largest(logits, top, &mut ranked);
        Self {
            logprob: softmax.ln(own),
            rank: logits.iter().filter(|logit| **logit >= own).count(),
            top: ranked
                .iter()
                .map(|token| (token.id, softmax.ln(token.key)))
                .collect(),
        }
    }
}

/// Why no token can be picked.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SamplerError {
    /// There are no logits.
    #[error("the model gave no logits")]
    Empty,
    /// A logit is no number, or plus infinity.
    #[error(
        "the model gave the logit {value} for token {token}: its weights or their computation \
         are broken"
    )]
    NotFinite {
        /// The first such token.
        token: u32,
        /// Its logit.
        value: f32,
    },
    /// Every logit is minus infinity.
    #[error("the model gave minus infinity as logit for each of {vocab} tokens")]
    Nothing {
        /// Number of logits.
        vocab: usize,
    },
    /// Only tokens that end the text are left, and it may not end yet.
    #[error(
        "all tokens but the {stops} that end the text have probability 0, and the text may not \
         end before min_new_tokens = {min_new_tokens}"
    )]
    Forbidden {
        /// Number of tokens that may not be picked yet.
        stops: usize,
        /// The limit that is not reached.
        min_new_tokens: usize,
    },
    /// No token keeps the answer to the form that was asked for.
    #[error("the answer cannot be kept to the form that was asked for: {0}")]
    Guide(String),
}

/// Buffers as long as the vocabulary, for any number of samplers that pick one after another.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f32>,
    weights: Vec<f32>,
    candidates: Vec<Candidate>,
    ranked: Vec<Candidate>,
}

/// What is known of the logits of a position.
#[derive(Clone, Copy, Debug)]
pub enum Logits<'a> {
    /// All, `[vocab]`.
    All(&'a [f32]),
    /// The largest, at least as many as [`Sampler::best`] asks for.
    Best(&'a Best),
}

/// Picks the tokens of one sequence.
#[derive(Clone)]
pub struct Sampler {
    method: Method,
    guide: Option<Box<Follower>>,
    biases: Vec<(u32, f32)>,
    penalties: Penalties,
    stops: Vec<u32>,
    min_new_tokens: usize,
    seed: u64,
    picked: usize,
}

#[derive(Clone)]
enum Method {
    /// The highest score, of equals the lowest id.
    Greedy,
    /// A draw from what the filters keep.
    Draw(Filters),
}

impl Sampler {
    /// A sampler before the first token. `stops` are forbidden before `min_new_tokens`; `prompt`
    /// counts for the repetition penalty. A temperature that is not above 0 means greedy.
    pub fn new(
        params: &Sampling,
        stops: &[u32],
        min_new_tokens: usize,
        prompt: &[u32],
        seed: u64,
    ) -> Self {
        let draws = params.do_sample && params.temperature > 0.0;
        Self {
            method: if draws {
                Method::Draw(Filters::new(params))
            } else {
                Method::Greedy
            },
            guide: None,
            biases: params.logit_bias.clone(),
            penalties: Penalties::new(params, prompt),
            stops: stops.to_vec(),
            min_new_tokens,
            seed,
            picked: 0,
        }
    }

    /// With a form that the answer has to have.
    pub fn guided_by(mut self, guide: Option<Follower>) -> Self {
        self.guide = guide.map(Box::new);
        self
    }

    /// How many of the largest of `vocab` logits the next pick needs, if the `top` most likely tokens are listed; 0: it
    /// looks at all of them. As long as no form, bias or penalty changes scores a pick is the same from either.
    pub fn best(&self, top: usize, vocab: usize) -> u32 {
        if self.changes() {
            return 0;
        }
        let count = match &self.method {
            Method::Greedy => top.max(1),
            // Two: what equals the largest is drawn as well, and of one only the first is told.
            Method::Draw(filters) => match filters.top_k(vocab) {
                Some(count) => count.max(top).max(2),
                None => return 0,
            },
        };
        if count <= MOST_BEST { count as u32 } else { 0 }
    }

    /// Picks from the logits `[vocab]` of the last position and remembers the token; lists the
    /// `top` most likely ones.
    pub fn pick(
        &mut self,
        logits: &[f32],
        top: usize,
        scratch: &mut Scratch,
    ) -> Result<Picked, SamplerError> {
        let softmax = Softmax::of(logits)?;
        let token = self.choose(logits, softmax.peak, scratch)?;
        self.take(token)?;
        largest(logits, top, &mut scratch.ranked);
        let listed = scratch.ranked.iter();
        Ok(Picked {
            token,
            logprob: softmax.ln(logits[token as usize]),
            top: listed
                .map(|token| (token.id, softmax.ln(token.key)))
                .collect(),
        })
    }

    /// As [`Sampler::pick`], from what is known.
    pub fn pick_of(
        &mut self,
        logits: Logits,
        top: usize,
        scratch: &mut Scratch,
    ) -> Result<Picked, SamplerError> {
        let best = match logits {
            Logits::All(logits) => return self.pick(logits, top, scratch),
            Logits::Best(best) => best,
        };
        // Candidates are in order of their ids, so places among them are ordered as ids are.
        let peak = softmax::peak(&best.logits)?;
        let softmax = Softmax::told(peak, best.ln_sum);
        let place = match &self.method {
            Method::Greedy => first_of(&best.logits, peak),
            Method::Draw(filters) => {
                let chance = rng::uniform(self.seed, self.picked as u64);
                filters.draw_of_top(&best.logits, peak, chance, scratch)
            }
        };
        let token = best.ids[place as usize];
        self.take(token)?;
        largest(&best.logits, top, &mut scratch.ranked);
        let listed = scratch.ranked.iter();
        Ok(Picked {
            token,
            logprob: softmax.ln(best.logits[place as usize]),
            top: listed
                .map(|found| (best.ids[found.id as usize], softmax.ln(found.key)))
                .collect(),
        })
    }

    fn choose(
        &mut self,
        logits: &[f32],
        peak: f32,
        scratch: &mut Scratch,
    ) -> Result<u32, SamplerError> {
        if !self.changes() {
            return Ok(self.choose_from(logits, peak, scratch));
        }
        let mut scores = std::mem::take(&mut scratch.scores);
        scores.clear();
        scores.extend_from_slice(logits);
        self.change(&mut scores)?;
        let chosen = self
            .checked_peak(&scores)
            .map(|peak| self.choose_from(&scores, peak, scratch));
        scratch.scores = scores;
        chosen
    }

    /// Whether anything is changed before the next token is picked.
    pub(crate) fn changes(&self) -> bool {
        self.guide.is_some()
            || self.forbids()
            || !self.biases.is_empty()
            || !self.penalties.change_nothing()
    }

    fn forbids(&self) -> bool {
        self.picked < self.min_new_tokens && !self.stops.is_empty()
    }

    /// Changes the scores of all tokens as it is done before one is picked, be they logits or log-probabilities.
    pub(crate) fn change(&mut self, scores: &mut [f32]) -> Result<(), SamplerError> {
        let mut forbids = self.forbids();
        for &(token, bias) in &self.biases {
            if let Some(score) = scores.get_mut(token as usize) {
                // What is impossible stays so, and nothing becomes infinite.
                *score = (*score + bias).min(f32::MAX);
            }
        }
        self.penalties.apply(scores);
        if let Some(guide) = &mut self.guide {
            let fits = guide.restrict(scores).map_err(SamplerError::Guide)?;
            // A form that is complete ends, however short the answer.
            forbids &= fits == Fits::Words;
        }
        if forbids {
            self.forbid_stops(scores);
        }
        Ok(())
    }

    fn choose_from(&self, scores: &[f32], peak: f32, scratch: &mut Scratch) -> u32 {
        match &self.method {
            Method::Greedy => first_of(scores, peak),
            Method::Draw(filters) => {
                let chance = rng::uniform(self.seed, self.picked as u64);
                filters.draw(scores, peak, chance, scratch)
            }
        }
    }

    fn forbid_stops(&self, scores: &mut [f32]) {
        for &stop in &self.stops {
            if let Some(score) = scores.get_mut(stop as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    fn checked_peak(&self, scores: &[f32]) -> Result<f32, SamplerError> {
        softmax::peak(scores).map_err(|error| match error {
            SamplerError::Nothing { .. } if self.guide.is_some() => SamplerError::Guide(
                "no token that fits is possible; lower min_new_tokens, or give it another form"
                    .into(),
            ),
            SamplerError::Nothing { .. } => SamplerError::Forbidden {
                stops: self.stops.len(),
                min_new_tokens: self.min_new_tokens,
            },
            other => other,
        })
    }

    /// Goes on with a token.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), SamplerError> {
        self.penalties.record(token);
        self.picked += 1;
        match &mut self.guide {
            Some(guide) => guide.take(token).map_err(SamplerError::Guide),
            None => Ok(()),
        }
    }
}

/// The lowest id of the highest score.
fn first_of(scores: &[f32], peak: f32) -> u32 {
    let mut at = None;
    // The first that is not below the peak is equal to it, and none lies above.
    logits::visit_above(scores, peak.next_down(), &mut |id, peak| {
        at = at.or(Some(id));
        peak
    });
    at.expect("the peak is one of the scores") as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampler(params: &Sampling, seed: u64) -> Sampler {
        Sampler::new(params, &[], 0, &[], seed)
    }

    fn pick(sampler: &mut Sampler, logits: &[f32]) -> Result<u32, SamplerError> {
        sampler
            .pick(logits, 0, &mut Scratch::default())
            .map(|picked| picked.token)
    }

    fn drawing() -> Sampling {
        Sampling {
            do_sample: true,
            ..Sampling::default()
        }
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_the_highest_logits() {
        let mut greedy = sampler(&Sampling::default(), 0);
        let picked = greedy
            .pick(&[0.0, 2.0, -1.0, 2.0], 3, &mut Scratch::default())
            .unwrap();
        let total: f64 = [0.0f64, 2.0, -1.0, 2.0].iter().map(|x| x.exp()).sum();
        let (high, low) = ((2.0 - total.ln()) as f32, (0.0 - total.ln()) as f32);
        assert_eq!(picked.token, 1);
        let near = |got: f32, wanted: f32| (got - wanted).abs() < 1e-6;
        assert!(near(picked.logprob, high), "{picked:?}");
        let listed = [(1, high), (3, high), (0, low)];
        assert_eq!(picked.top.len(), listed.len());
        for ((token, logprob), (wanted, likely)) in picked.top.iter().zip(listed) {
            assert!(*token == wanted && near(*logprob, likely), "{picked:?}");
        }
    }

    #[test]
    fn log_probabilities_are_those_of_the_unmodified_logits() {
        let params = Sampling {
            repetition_penalty: 1e9,
            temperature: 0.1,
            top_k: 1,
            ..drawing()
        };
        let mut sampler = Sampler::new(&params, &[], 0, &[1], 7);
        let logits = [1.0, 2.0, 0.5];
        let picked = sampler.pick(&logits, 1, &mut Scratch::default()).unwrap();
        assert_eq!(picked.token, 0);
        assert_eq!(picked.logprob, log_softmax_at(&logits, 0));
        assert_eq!(picked.top, [(1, log_softmax_at(&logits, 1))]);
    }

    #[test]
    fn broken_logits_are_errors_that_name_the_token() {
        let mut greedy = sampler(&Sampling::default(), 0);
        for value in [f32::NAN, f32::INFINITY] {
            let error = pick(&mut greedy, &[1.0, value, value]).unwrap_err();
            assert!(
                matches!(error, SamplerError::NotFinite { token: 1, .. }),
                "{error}"
            );
        }
        let nothing = [f32::NEG_INFINITY; 3];
        assert_eq!(
            pick(&mut greedy, &nothing),
            Err(SamplerError::Nothing { vocab: 3 })
        );
        assert_eq!(pick(&mut greedy, &[]), Err(SamplerError::Empty));
        assert_eq!(pick(&mut greedy, &[f32::NEG_INFINITY, -1.0]), Ok(1));
    }

    #[test]
    fn stops_are_forbidden_before_min_new_tokens() {
        let mut greedy = Sampler::new(&Sampling::default(), &[2, 99], 2, &[], 0);
        let logits = [0.0, 1.0, 5.0];
        let picks: Vec<_> = (0..3)
            .map(|_| pick(&mut greedy, &logits).unwrap())
            .collect();
        assert_eq!(picks, [1, 1, 2]);
        let mut only = Sampler::new(&Sampling::default(), &[0], 1, &[], 0);
        let error = pick(&mut only, &[1.0]).unwrap_err();
        assert_eq!(
            error,
            SamplerError::Forbidden {
                stops: 1,
                min_new_tokens: 1
            }
        );
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let shares: [f64; 6] = [0.4, 0.25, 0.15, 0.1, 0.07, 0.03];
        let logits = shares.map(|share| share.ln() as f32);
        let (draws, mut counts) = (20_000, [0.0; 6]);
        let mut scratch = Scratch::default();
        // One sequence of many tokens and many sequences of one token.
        let mut long = sampler(&drawing(), 3);
        for seed in 0..draws / 2 {
            for token in [
                long.pick(&logits, 0, &mut scratch).unwrap().token,
                sampler(&drawing(), seed)
                    .pick(&logits, 0, &mut scratch)
                    .unwrap()
                    .token,
            ] {
                counts[token as usize] += 1.0;
            }
        }
        let expected = shares.map(|share| share * draws as f64);
        let terms = counts
            .iter()
            .zip(expected)
            .map(|(count, e)| (count - e) * (count - e) / e);
        let chi_square: f64 = terms.sum();
        // 0.999 quantile for 5 degrees of freedom.
        assert!(
            chi_square < 20.5,
            "{chi_square}: {counts:?} instead of {expected:?}"
        );
    }

    proptest! {
        #[test]
        fn a_pick_depends_on_seed_index_logits_and_history_only(
            rows in proptest::collection::vec(proptest::collection::vec(-9.0f32..9.0, 40), 1..6),
            seed in any::<u64>(),
            top_k in 0usize..12,
            top_p in 0.1f32..1.1,
            typical_p in 0.1f32..1.1,
            penalty in 0.5f32..2.0,
        ) {
            let params = Sampling {
                top_k, top_p, typical_p, repetition_penalty: penalty, presence_penalty: 0.3,
                ..drawing()
            };
            let mut fresh = sampler(&params, seed);
            let mut shared = sampler(&params, seed);
            let mut noise = sampler(&drawing(), seed ^ 1);
            let mut scratch = Scratch::default();
            for logits in &rows {
                let alone = fresh.pick(logits, 2, &mut Scratch::default()).unwrap();
                noise.pick(&[1.0; 90], 5, &mut scratch).unwrap();
                prop_assert_eq!(alone, shared.pick(logits, 2, &mut scratch).unwrap());
            }
        }

        #[test]
        fn extreme_finite_logits_and_parameters_give_a_token(
            logits in proptest::collection::vec(
                prop_oneof![Just(f32::MIN), Just(f32::MAX), Just(0.0), Just(f32::NEG_INFINITY), any::<f32>()], 1..30),
            temperature in prop_oneof![Just(1e-38f32), Just(1e38), Just(1.0), Just(0.0), Just(f32::NAN)],
            share in prop_oneof![Just(1e-30f32), Just(0.0), Just(1.0), Just(0.5), Just(f32::NAN)],
            penalty in prop_oneof![Just(1e-38f32), Just(1e38), Just(1.0)],
        ) {
            let params = Sampling {
                temperature, top_p: share, min_p: share, typical_p: share, repetition_penalty: penalty,
                frequency_penalty: penalty, ..drawing()
            };
            let mut sampler = Sampler::new(&params, &[], 0, &[0, 1, 2], 1);
            for _ in 0..3 {
                match pick(&mut sampler, &logits) {
                    Ok(token) => prop_assert!(logits[token as usize] > f32::NEG_INFINITY),
                    Err(_) => prop_assert!(
                        logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY)
                            || logits.iter().all(|&x| x == f32::NEG_INFINITY)
                    ),
                }
            }
        }
    }

    /// The largest of a row, with those that equal the last of them; of one the first alone.
    fn best_of(logits: &[f32], count: u32) -> Best {
        let mut sorted = logits.to_vec();
        sorted.sort_by(|one, other| other.total_cmp(one));
        let last = sorted[(count as usize).min(sorted.len()) - 1];
        let found = (0..).zip(logits).filter(|(_, logit)| **logit >= last);
        let most = if count == 1 { 1 } else { usize::MAX };
        let (ids, logits) = found.take(most).map(|(id, &logit)| (id, logit)).unzip();
        let softmax = Softmax::of(&sorted).unwrap();
        Best {
            ids,
            logits,
            ln_sum: softmax.ln_sum(),
        }
    }

    proptest! {
        #[test]
        fn the_largest_logits_give_the_picks_that_all_of_them_give(
            logits in proptest::collection::vec((0u8..60).prop_map(|n| f32::from(n) / 7.0), 3..300),
            do_sample: bool,
            top_k in 1usize..90,
            cuts in (0.3f32..1.2, 0.0f32..0.2, 0.3f32..1.2),
            temperature in 0.2f32..3.0,
            top in 0usize..7,
            seed: u64,
        ) {
            let (top_p, min_p, typical_p) = (cuts.0.min(1.0), cuts.1, cuts.2.min(1.0));
            let params = Sampling { do_sample, top_k, top_p, min_p, typical_p, temperature, ..Sampling::default() };
            let (mut whole, mut part) = (sampler(&params, seed), sampler(&params, seed));
            let mut scratch = Scratch::default();
            for _ in 0..5 {
                let count = part.best(top, logits.len());
                prop_assert_eq!(count == 0, do_sample && top_k >= logits.len());
                if count == 0 {
                    break;
                }
                let best = best_of(&logits, count);
                let got = part.pick_of(Logits::Best(&best), top, &mut scratch).unwrap();
                let want = whole.pick(&logits, top, &mut scratch).unwrap();
                // The normaliser is summed in another order.
                prop_assert!((got.logprob - want.logprob).abs() < 1e-5);
                let ids = |picked: &Picked| picked.top.iter().map(|one| one.0).collect::<Vec<_>>();
                prop_assert_eq!((got.token, ids(&got)), (want.token, ids(&want)));
            }
        }
    }

    #[test]
    fn whatever_changes_scores_needs_all_of_them() {
        let top = Sampling {
            top_k: 40,
            ..drawing()
        };
        assert_eq!(sampler(&top, 0).best(0, 1000), 40);
        assert_eq!(sampler(&top, 0).best(50, 1000), 50);
        assert_eq!(
            sampler(
                &Sampling {
                    top_k: 1,
                    ..drawing()
                },
                0
            )
            .best(0, 1000),
            2
        );
        assert_eq!(sampler(&Sampling::default(), 0).best(0, 1000), 1);
        let all = [
            drawing(),
            Sampling {
                top_k: MOST_BEST + 1,
                ..drawing()
            },
            Sampling {
                repetition_penalty: 1.1,
                ..top.clone()
            },
            Sampling {
                frequency_penalty: 0.1,
                ..Sampling::default()
            },
            Sampling {
                presence_penalty: 0.1,
                ..Sampling::default()
            },
            Sampling {
                logit_bias: vec![(1, 1.0)],
                ..Sampling::default()
            },
        ];
        for params in all {
            assert_eq!(sampler(&params, 0).best(0, 1000), 0, "{params:?}");
        }
        // Until stops are allowed.
        let mut least = Sampler::new(&Sampling::default(), &[2], 1, &[], 0);
        assert_eq!(least.best(0, 1000), 0);
        pick(&mut least, &[0.0, 1.0, 2.0]).unwrap();
        assert_eq!(least.best(0, 1000), 1);
    }
}
