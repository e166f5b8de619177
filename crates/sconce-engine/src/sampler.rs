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
mod tests;
