//! How many tokens of prompts a step may compute beside sequences that generate.
//!
//! Who generates waits for the whole step, so a long chunk of a newcomer's prompt is a pause in
//! everybody's stream. What a step costs by its number of tokens is learnt from the steps
//! themselves, and prompts get what fits under a ceiling. The ceiling changes how long answers
//! take and never what they say: an answer does not depend on how its prompt was cut.

use std::time::Duration;

/// What steps cost, and what they may.
pub(crate) struct Pace {
    /// Seconds of a step with as many tokens as the knot says; `None`: not seen yet.
    costs: Vec<Option<f64>>,
    /// Sequences that run at the same time at most.
    rows: usize,
}

/// Beside sequences that generate a step may take so many times what it takes to compute one
/// token for each sequence at hand. They wait at most so much longer than if nobody had come.
const SLOWDOWN: f64 = 2.0;

/// A step has at least so many tokens for each sequence at hand, in halves, whatever it takes.
/// Where many are at hand every token costs the same, so that smaller steps compute no more in a
/// second: newcomers would only wait the longer for their first token, and everybody as long for
/// the last. Three halves of a token of prompts go with each that is generated.
const HALVES: usize = 5;

/// Part of the difference by which a cost moves towards what was seen last.
const RATE: f64 = 0.25;

/// No step is shorter, in seconds, whatever the clock says.
const SHORTEST: f64 = 1e-9;

/// A step that took more than so many times what was expected was interrupted, or the load is
/// another one: either way only so much of it counts at once.
const SURPRISE: f64 = 2.0;

impl Pace {
    /// Of steps of at most `most` tokens and `rows` sequences; nothing is known yet.
    pub(crate) fn new(most: usize, rows: usize) -> Self {
        Self {
            costs: vec![None; place(most.max(1)).0 + 2],
            rows,
        }
    }

    /// Learns from a step of so many tokens, at least one.
    pub(crate) fn record(&mut self, tokens: usize, took: Duration) {
        let took = took.as_secs_f64().max(SHORTEST);
        let (at, share) = place(tokens);
        match (self.costs[at], self.costs[at + 1]) {
            (Some(below), Some(above)) => {
                let (near, far) = (1.0 - share, share);
                let miss = (took / (near * below + far * above)).min(SURPRISE) - 1.0;
                // Who is nearer learns more, and together they learn as much as one alone would.
                let rate = RATE * miss / (near * near + far * far);
                self.costs[at] = Some(below * (1.0 + near * rate));
                self.costs[at + 1] = Some(above * (1.0 + far * rate));
            }
            // One token more costs as much as the others did, at most.
            (Some(below), None) if share > 0.0 => {
                let above = took * knot(at + 1) as f64 / tokens as f64;
                self.costs[at + 1] = Some(above.max(below));
            }
            (Some(below), None) => {
                let miss = (took / below).min(SURPRISE) - 1.0;
                self.costs[at] = Some(below * (1.0 + RATE * miss));
            }
            (None, _) => self.costs[at] = Some(took),
        }
        // So an interruption of a size that was never seen before is forgotten too, though nobody tries it again.
        let mut each = f64::INFINITY;
        for (at, cost) in self.costs.iter_mut().enumerate() {
            if let Some(cost) = cost {
                *cost = cost.min(each * knot(at) as f64);
                each = *cost / knot(at) as f64;
            }
        }
    }

    /// Tokens of prompts beside `generating` of the sequences that are `present`, generating,
    /// computing their prompts or waiting; it has no meaning where none generates.
    pub(crate) fn prompts(&self, generating: usize, present: usize) -> usize {
        let present = present.min(self.rows);
        let most = knot(self.costs.len() - 1);
        let ceiling = self.least(present).map_or(0.0, |cost| SLOWDOWN * cost);
        let mut tokens = (present * HALVES / 2).max(generating);
        // Costs grow with tokens, but for noise: the first that is too high ends the search.
        while tokens < most && self.cost(tokens + 1).is_some_and(|cost| cost <= ceiling) {
            tokens += 1;
        }
        tokens - generating
    }

    /// What a step of so many tokens will take; beyond what was seen each token costs as much as
    /// there. `None`: nothing was seen.
    fn cost(&self, tokens: usize) -> Option<f64> {
        match self.around(tokens) {
            [Some((low, cost)), Some((high, more))] => {
                let share = (tokens - low) as f64 / (high - low) as f64;
                Some(cost + share * (more - cost))
            }
            [Some((low, cost)), None] => Some(cost * tokens as f64 / low as f64),
            [None, Some((_, more))] => Some(more),
            [None, None] => None,
        }
    }

    /// As [`Self::cost`], but where the nearest knots were not both seen, no more than a step of
    /// fewer tokens took.
    fn least(&self, tokens: usize) -> Option<f64> {
        let (at, _) = place(tokens.max(1));
        match self.around(tokens) {
            [Some((low, cost)), above] => {
                let is_near =
                    low == knot(at) && above.is_some_and(|(high, _)| high == knot(at + 1));
                if is_near {
                    self.cost(tokens)
                } else {
                    Some(cost)
                }
            }
            [None, above] => above.map(|(_, more)| more),
        }
    }

    /// The nearest knots with a cost: one of at most `tokens` tokens, and one of more.
    fn around(&self, tokens: usize) -> [Option<(usize, f64)>; 2] {
        let at = place(tokens.max(1)).0.min(self.costs.len() - 1);
        let seen = |at: usize| self.costs[at].map(|cost| (knot(at), cost));
        let below = (0..=at).rev().find_map(seen);
        [below, (at + 1..self.costs.len()).find_map(seen)]
    }
}

/// Tokens at which costs are kept: 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on.
fn knot(at: usize) -> usize {
    match at {
        0 => 1,
        _ if at % 2 == 1 => 2 << (at / 2),
        _ => 3 << (at / 2 - 1),
    }
}

/// The last knot that is not beyond `tokens`, of which there is at least one, and how far they
/// are on the way to the next.
fn place(tokens: usize) -> (usize, f64) {
    let mut at = 0;
    while knot(at + 1) <= tokens {
        at += 1;
    }
    let (low, high) = (knot(at), knot(at + 1));
    (at, (tokens - low) as f64 / (high - low) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reading the weights takes 12 ms, computing a token 1 ms, whatever is longer.
    fn roofline(tokens: usize) -> f64 {
        (tokens as f64).max(12.0) * 1e-3
    }

    fn seen(pace: &mut Pace, tokens: usize) {
        pace.record(tokens, Duration::from_secs_f64(roofline(tokens)));
    }

    /// Plays a server with so many streams, each of which has a prompt of 128 tokens again and again.
    fn play(pace: &mut Pace, streams: usize, steps: usize) -> Vec<usize> {
        let mut chunks = Vec::new();
        for _ in 0..steps {
            let chunk = pace.prompts(streams - 1, streams).clamp(1, 512);
            seen(pace, streams - 1 + chunk);
            chunks.push(chunk);
        }
        chunks
    }

    #[test]
    fn knots_are_the_powers_of_two_and_their_middles() {
        let knots: Vec<_> = (0..10).map(knot).collect();
        assert_eq!(knots, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]);
        assert_eq!(
            (place(1), place(4), place(5)),
            ((0, 0.0), (3, 0.0), (3, 0.5))
        );
        assert_eq!(place(30), (8, 0.75));
    }

    #[test]
    fn what_is_unknown_is_expected_to_cost_in_proportion() {
        let mut pace = Pace::new(512, 32);
        pace.record(1, Duration::from_millis(10));
        assert_eq!(pace.cost(3), Some(0.03));
        pace.record(4, Duration::from_millis(10));
        assert_eq!((pace.cost(3), pace.cost(6)), (Some(0.01), Some(0.015)));
        // Two may take 20 ms: eight tokens, as far as is known.
        assert_eq!(pace.prompts(1, 2), 7);
    }

    #[test]
    fn the_ceiling_is_found_from_below_and_never_passed_by_much() {
        let mut pace = Pace::new(512, 32);
        seen(&mut pace, 1);
        let chunks = play(&mut pace, 8, 40);
        let longest = chunks
            .iter()
            .map(|chunk| roofline(7 + chunk))
            .fold(0.0, f64::max);
        assert!(longest <= 2.1 * roofline(8), "{chunks:?}");
        // 17 beside 7 take 24 ms: what is allowed is used.
        assert!(
            chunks[30..].iter().all(|chunk| (15..=17).contains(chunk)),
            "{chunks:?}"
        );
    }

    #[test]
    fn a_whole_prompt_alone_shortens_the_search() {
        let mut pace = Pace::new(512, 32);
        seen(&mut pace, 1);
        seen(&mut pace, 128);
        let chunks = play(&mut pace, 8, 20);
        assert!(chunks.iter().all(|&chunk| chunk <= 17), "{chunks:?}");
        assert!(chunks[10..].iter().all(|&chunk| chunk >= 15), "{chunks:?}");
    }

    #[test]
    fn prompts_have_their_share_whatever_it_takes() {
        let mut pace = Pace::new(512, 32);
        assert_eq!(pace.prompts(30, 32), 50, "nothing is known");
        for tokens in [1, 16, 24, 32, 48, 64, 96, 128] {
            seen(&mut pace, tokens);
        }
        // Twice the 32 ms of all are 64 tokens, and each at hand has two and a half.
        assert_eq!(pace.prompts(30, 32), 50);
        assert_eq!(pace.prompts(24, 90), 56, "no more than can run are at hand");
        assert_eq!(pace.prompts(8, 8), 16, "with few at hand the time decides");
    }

    #[test]
    fn an_interruption_of_a_new_size_is_forgotten_too() {
        for size in [8, 12, 16] {
            let mut pace = Pace::new(512, 32);
            for tokens in [1, 2, 3, 4, 6] {
                seen(&mut pace, tokens);
            }
            pace.record(size, Duration::from_secs(3));
            let after = play(&mut pace, 2, 200);
            let mut usual = Pace::new(512, 32);
            let usual = play(&mut usual, 2, 200);
            assert!(
                after
                    .last()
                    .zip(usual.last())
                    .is_some_and(|(after, usual)| after * 2 >= *usual),
                "{size}: {after:?}"
            );
        }
    }

    #[test]
    fn an_interruption_is_forgotten_and_a_new_cost_is_learnt() {
        let mut pace = Pace::new(512, 32);
        for tokens in [1, 8, 12, 16, 24, 32] {
            seen(&mut pace, tokens);
        }
        let usual = pace.prompts(7, 8);
        pace.record(24, Duration::from_secs(3));
        assert!(
            pace.prompts(7, 8) * 2 >= usual,
            "one long step changes little"
        );
        let after = play(&mut pace, 8, 60);
        assert!(
            after.last().is_some_and(|chunk| chunk.abs_diff(usual) <= 2),
            "{after:?}"
        );
        // Attention to long sequences makes all steps dearer by the same.
        let longer = |tokens| Duration::from_secs_f64(roofline(tokens) + 0.05);
        for _ in 0..60 {
            let chunk = pace.prompts(7, 8).max(1);
            pace.record(7 + chunk, longer(7 + chunk));
            pace.record(8, longer(8));
        }
        assert!(
            pace.prompts(7, 8) > 2 * usual,
            "the ceiling grows with what all wait for anyway"
        );
    }

    proptest! {
        #[test]
        fn whatever_was_seen_the_answer_fits_the_step(
            seen in prop::collection::vec((1..600_usize, 0..10_000_000_u64), 0..60),
            generating in 1..40_usize,
            others in 0..40_usize,
        ) {
            let mut pace = Pace::new(512, 32);
            for (tokens, micros) in seen {
                pace.record(tokens.min(512), Duration::from_micros(micros));
            }
            let prompts = pace.prompts(generating, generating + others);
            prop_assert!((1..=1024).contains(&(generating + prompts)));
            prop_assert!(pace.costs.iter().flatten().all(|cost| cost.is_finite() && *cost >= 0.0));
        }
    }
}
