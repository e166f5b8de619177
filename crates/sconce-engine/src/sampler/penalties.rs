//! Penalties for tokens that were there before.

use std::collections::HashMap;

use sconce_core::Sampling;

/// The penalties of one sequence and what they need of its history.
#[derive(Clone)]
pub(super) struct Penalties {
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// How often a token was generated; 0 for tokens of the prompt only.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    /// The history begins with the prompt.
    pub(super) fn new(params: &Sampling, prompt: &[u32]) -> Self {
        let mut penalties = Self {
            repetition: params.repetition_penalty,
            frequency: params.frequency_penalty,
            presence: params.presence_penalty,
            counts: HashMap::new(),
        };
        if penalties.repetition != 1.0 {
            penalties
                .counts
                .extend(prompt.iter().map(|&token| (token, 0)));
        }
        penalties
    }

    /// Whether all penalties are neutral.
    pub(super) fn change_nothing(&self) -> bool {
        self.repetition == 1.0 && self.frequency == 0.0 && self.presence == 0.0
    }

    /// Notes a generated token.
    pub(super) fn record(&mut self, token: u32) {
        if !self.change_nothing() {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Changes the scores of the tokens in the history: first repetition (CTRL, as transformers),
    /// then frequency and presence (OpenAI, as vLLM). Scores stay finite.
    pub(super) fn apply(&self, scores: &mut [f32]) {
        // Each token is changed by itself, so the map's order does not matter.
        for (&token, &count) in &self.counts {
            let Some(score) = scores.get_mut(token as usize) else {
                continue;
            };
            if *score == f32::NEG_INFINITY {
                continue;
            }
            let mut changed = if *score < 0.0 {
                *score * self.repetition
            } else {
                *score / self.repetition
            };
            if count > 0 {
                changed -= self.frequency * count as f32 + self.presence;
            }
            *score = changed.clamp(f32::MIN, f32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_pushes_tokens_of_prompt_and_answer_down() {
        let params = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        let mut penalties = Penalties::new(&params, &[0, 0, 9]);
        penalties.record(1);
        let mut scores = [3.0, -3.0, 4.0, f32::NEG_INFINITY];
        penalties.apply(&mut scores);
        assert_eq!(scores, [1.5, -6.0, 4.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not_and_the_prompt_is_spared() {
        let params = Sampling {
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            ..Sampling::default()
        };
        let mut penalties = Penalties::new(&params, &[0]);
        [1, 2, 2, 2]
            .into_iter()
            .for_each(|token| penalties.record(token));
        let mut scores = [1.0; 4];
        penalties.apply(&mut scores);
        // 1 - 0.5 - 0.25 and 1 - 3 × 0.5 - 0.25.
        assert_eq!(scores, [1.0, 0.25, -0.75, 1.0]);
    }

    #[test]
    fn all_penalties_together_apply_repetition_first() {
        let params = Sampling {
            repetition_penalty: 2.0,
            frequency_penalty: -1.0,
            presence_penalty: 0.5,
            ..Sampling::default()
        };
        let mut penalties = Penalties::new(&params, &[]);
        [0, 0].into_iter().for_each(|token| penalties.record(token));
        let mut scores = [4.0];
        penalties.apply(&mut scores);
        // 4 / 2 + 2 × 1 - 0.5.
        assert_eq!(scores, [3.5]);
    }
}
