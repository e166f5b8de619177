//! Beam search, step for step as transformers' `_beam_search` computes it (`generation/utils.py`), without a model.

use sconce_core::EarlyStopping;

use crate::scores::best;

/// What is added to the scores of texts that must not be chosen.
const NEVER: f32 = -1.0e9;

/// How beams are searched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BeamRules {
    pub(crate) beams: usize,
    /// Scores are divided by the number of written tokens to this power.
    pub(crate) length_penalty: f64,
    pub(crate) early_stopping: EarlyStopping,
    /// The longest text, the first token included.
    pub(crate) max_length: usize,
    /// Tokens that end a text.
    pub(crate) eos: Vec<u32>,
}

/// A text with the sum of its log-probabilities, or what became of that at its end.
#[derive(Clone, Debug, PartialEq)]
struct Scored {
    tokens: Vec<u32>,
    score: f32,
    /// Whether it has ended; a place for one that has not yet come is not.
    ended: bool,
}

/// A search under way.
pub(crate) struct Beams {
    rules: BeamRules,
    running: Vec<Scored>,
    ended: Vec<Scored>,
    /// Whether a running text may still become better than those that have ended.
    improvable: bool,
}

/// How a step ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Each running text is the continuation of that one before.
    GoOn(Vec<usize>),
    /// There is nothing more to find.
    Done,
}

impl Beams {
    /// Before the first step: all begin with the decoder's first token.
    pub(crate) fn new(rules: BeamRules, start: u32) -> Self {
        let text = |score: f32| Scored {
            tokens: vec![start],
            score,
            ended: false,
        };
        // Only the first counts, as all are the same.
        let running = (0..rules.beams).map(|beam| text(if beam == 0 { 0.0 } else { NEVER }));
        Self {
            running: running.collect(),
            ended: vec![text(NEVER); rules.beams],
            improvable: true,
            rules,
        }
    }

    /// The running texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u32]> {
        self.running.iter().map(|text| text.tokens.as_slice())
    }

    /// The best texts, so many, without the decoder's first token.
    pub(crate) fn found(&self, count: usize) -> Vec<Vec<u32>> {
        let texts = self.ended.iter().take(count);
        texts.map(|text| text.tokens[1..].to_vec()).collect()
    }

    /// Goes on with the log-probabilities of all tokens behind each running text.
    pub(crate) fn step(&mut self, scores: &[Vec<f32>]) -> Step {
        let rules = &self.rules;
        let vocab = scores[0].len();
        let kept = 2.max(1 + rules.eos.len()) * rules.beams;
        let sums = scores.iter().zip(&self.running).flat_map(|(row, text)| {
            let before = text.score;
            row.iter().map(move |score| score + before)
        });
        let top = best(sums, kept);
        let len = self.running[0].tokens.len() + 1;
        let ends = |token: u32| len >= rules.max_length || rules.eos.contains(&token);
        let continued: Vec<(usize, Scored)> = top
            .into_iter()
            .map(|(index, score)| {
                let (beam, token) = (index / vocab, (index % vocab) as u32);
                let mut tokens = self.running[beam].tokens.clone();
                tokens.push(token);
                let ended = ends(token);
                (
                    beam,
                    Scored {
                        tokens,
                        score,
                        ended,
                    },
                )
            })
            .collect();
        let all_end = continued.iter().all(|(_, text)| text.ended);
        let next = self.next(&continued);
        self.keep_ended(&continued, len);
        let parents = next.iter().map(|(parent, _)| *parent).collect();
        self.running = next.into_iter().map(|(_, text)| text).collect();
        self.improvable &= self.may_improve(len);
        let full = self.ended.iter().all(|text| text.ended);
        let enough = full && self.rules.early_stopping == EarlyStopping::Full;
        if self.improvable && !enough && !all_end {
            Step::GoOn(parents)
        } else {
            Step::Done
        }
    }

    /// The best continuations that have not ended, with their parents.
    fn next(&self, continued: &[(usize, Scored)]) -> Vec<(usize, Scored)> {
        let open = |(_, text): &(usize, Scored)| text.score + penalty(text.ended);
        let chosen = best(continued.iter().map(open), self.rules.beams);
        let text = |(index, score): (usize, f32)| {
            let (parent, text) = &continued[index];
            let text = Scored {
                score,
                ended: false,
                ..text.clone()
            };
            (*parent, text)
        };
        chosen.into_iter().map(text).collect()
    }

    /// Keeps the best of those that had ended and those that end now.
    fn keep_ended(&mut self, continued: &[(usize, Scored)], len: usize) {
        let rules = &self.rules;
        let written = power(len - 1, rules.length_penalty);
        let full = self.ended.iter().all(|text| text.ended);
        let closed = full && rules.early_stopping == EarlyStopping::Full;
        let now = continued.iter().enumerate().map(|(rank, (_, text))| {
            // The ones below are there to have enough that go on.
            let ended = text.ended && rank < rules.beams;
            let score = text.score / written
                + penalty(closed)
                + penalty(!self.improvable)
                + penalty(!ended);
            Scored {
                tokens: text.tokens.clone(),
                score,
                ended,
            }
        });
        let all: Vec<Scored> = self.ended.iter().cloned().chain(now).collect();
        let chosen = best(all.iter().map(|text| text.score), rules.beams);
        self.ended = chosen
            .iter()
            .map(|(index, _)| all[*index].clone())
            .collect();
    }

    /// Whether the best running text could become better than the worst that has ended.
    fn may_improve(&self, len: usize) -> bool {
        let rules = &self.rules;
        let longest = rules.early_stopping == EarlyStopping::Never && rules.length_penalty > 0.0;
        let written = if longest { rules.max_length } else { len } - 1;
        let possible = self.running[0].score / power(written, rules.length_penalty);
        let worst = self
            .ended
            .iter()
            .map(|text| text.score)
            .fold(f32::INFINITY, f32::min);
        self.ended
            .iter()
            .any(|text| possible > if text.ended { worst } else { NEVER })
    }
}

fn penalty(on: bool) -> f32 {
    if on { NEVER } else { 0.0 }
}

/// A length to a power; Python's numbers have double precision, torch's scores single.
fn power(len: usize, exponent: f64) -> f32 {
    (len as f64).powf(exponent) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> BeamRules {
        BeamRules {
            beams: 2,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Full,
            max_length: 5,
            eos: vec![0],
        }
    }

    #[test]
    fn a_text_that_ends_well_wins_and_the_others_go_on_from_their_parents() {
        let mut beams = Beams::new(rules(), 9);
        let row = |ends: f32, one: f32, two: f32| vec![ends, one, two];
        let first = vec![row(-9.0, -0.1, -0.2), row(0.0, 0.0, 0.0)];
        assert_eq!(beams.step(&first), Step::GoOn(vec![0, 0]));
        assert_eq!(beams.texts().collect::<Vec<_>>(), [[9, 1], [9, 2]]);
        // The second ends with -0.3, over two tokens; the first goes on twice.
        let second = vec![row(-5.0, -1.0, -1.5), row(-0.1, -7.0, -8.0)];
        assert_eq!(beams.step(&second), Step::GoOn(vec![0, 0]));
        assert_eq!(beams.texts().collect::<Vec<_>>(), [[9, 1, 1], [9, 1, 2]]);
        let third = vec![row(-0.1, -3.0, -4.0), row(-3.0, -3.0, -4.0)];
        assert_eq!(beams.step(&third), Step::Done);
        assert_eq!(beams.found(2), [vec![2, 0], vec![1, 1, 0]]);
    }

    #[test]
    fn the_longest_texts_end_all_at_once() {
        let short = BeamRules {
            max_length: 2,
            ..rules()
        };
        let mut beams = Beams::new(short, 9);
        assert_eq!(
            beams.step(&[vec![-3.0, -1.0, -2.0], vec![0.0; 3]]),
            Step::Done
        );
        assert_eq!(beams.found(1), [[1]]);
    }
}
