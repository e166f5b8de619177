//! Beam search, step for step as transformers' `_beam_search` computes it (`generation/utils.py`), without a model: for
//! models that continue texts and for those that read one and write another.

use sconce_core::EarlyStopping;

/// What is added to the scores of texts that must not be chosen.
const NEVER: f32 = -1.0e9;

/// How beams are searched.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamRules {
    /// Texts at the same time.
    pub beams: usize,
    /// Scores are divided by the number of written tokens to this power.
    pub length_penalty: f64,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
    /// The longest text, what it begins with included.
    pub max_length: usize,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
}

/// A text with the sum of its log-probabilities, or what became of that at its end.
#[derive(Clone, Debug, PartialEq)]
struct Scored<N> {
    tokens: Vec<u32>,
    /// What is kept beside each written token.
    notes: Vec<N>,
    score: f32,
    /// Whether it has ended; a place for one that has not yet come is not.
    ended: bool,
    /// Whether it is a text at all: it continues one, with tokens that were allowed.
    possible: bool,
}

/// A search under way; `N` is kept beside each token.
pub struct Beams<N> {
    rules: BeamRules,
    /// Tokens that all texts begin with.
    begun: usize,
    running: Vec<Scored<N>>,
    ended: Vec<Scored<N>>,
    /// Whether a running text may still become better than those that have ended.
    improvable: bool,
}

/// How a step ended.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Each running text is the continuation of that one before.
    GoOn(Vec<usize>),
    /// There is nothing more to find.
    Done,
}

impl<N: Clone> Beams<N> {
    /// Before the first step: all begin with the same tokens, of which there may be none.
    pub fn new(rules: BeamRules, start: &[u32]) -> Self {
        let text = |score: f32| Scored {
            tokens: start.to_vec(),
            notes: Vec::new(),
            score,
            ended: false,
            possible: score == 0.0,
        };
        // Only the first counts, as all are the same.
        let running = (0..rules.beams).map(|beam| text(if beam == 0 { 0.0 } else { NEVER }));
        Self {
            begun: start.len(),
            running: running.collect(),
            ended: (0..rules.beams).map(|_| text(NEVER)).collect(),
            improvable: true,
            rules,
        }
    }

    /// The running texts.
    pub fn texts(&self) -> impl Iterator<Item = &[u32]> {
        self.running.iter().map(|text| text.tokens.as_slice())
    }

    /// Whether a running text is one that may be, and no place that nothing fills.
    pub fn possible(&self, beam: usize) -> bool {
        self.running[beam].possible
    }

    /// The best texts, so many, without what all begin with.
    pub fn found(&self, count: usize) -> Vec<Vec<u32>> {
        let texts = self.ended.iter().take(count);
        texts
            .map(|text| text.tokens[self.begun..].to_vec())
            .collect()
    }

    /// The same with what was kept beside each token; fewer where there are no more texts that may be.
    pub fn noted(&self, count: usize) -> Vec<Vec<(u32, N)>> {
        let texts = self.ended.iter().take(count);
        let written = |text: &Scored<N>| {
            let tokens = text.tokens[self.begun..].iter().copied();
            tokens.zip(text.notes.iter().cloned()).collect()
        };
        texts
            .filter(|text| text.ended && text.possible)
            .map(written)
            .collect()
    }

    /// Goes on with the log-probabilities of all tokens behind each running text. `ends` says whether a text, the running
    /// one of that number with that token behind it, ends for a reason that the rules do not know; `note` what is kept
    /// beside the token.
    pub fn step(
        &mut self,
        scores: &[&[f32]],
        ends: &mut dyn FnMut(usize, u32) -> bool,
        note: &dyn Fn(usize, u32) -> N,
    ) -> Step {
        let rules = &self.rules;
        let vocab = scores[0].len();
        let kept = 2.max(1 + rules.eos.len()) * rules.beams;
        let sums = scores.iter().zip(&self.running).flat_map(|(row, text)| {
            let before = text.score;
            row.iter().map(move |score| score + before)
        });
        let top = best(sums, kept);
        let len = self.running[0].tokens.len() + 1;
        let mut ends = |beam: usize, token: u32| {
            len >= rules.max_length || rules.eos.contains(&token) || ends(beam, token)
        };
        let continued: Vec<(usize, Scored<N>)> = top
            .into_iter()
            .map(|(index, score)| {
                let (beam, token) = (index / vocab, (index % vocab) as u32);
                let parent = &self.running[beam];
                let text = Scored {
                    tokens: [parent.tokens.as_slice(), &[token]].concat(),
                    notes: [parent.notes.as_slice(), &[note(beam, token)]].concat(),
                    score,
                    ended: ends(beam, token),
                    possible: parent.possible && score > f32::NEG_INFINITY,
                };
                (beam, text)
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
    fn next(&self, continued: &[(usize, Scored<N>)]) -> Vec<(usize, Scored<N>)> {
        let open = |(_, text): &(usize, Scored<N>)| text.score + penalty(text.ended);
        let chosen = best(continued.iter().map(open), self.rules.beams);
        let text = |(index, score): (usize, f32)| {
            let (parent, text) = &continued[index];
            let text = Scored {
                score,
                ended: false,
                // One that has ended only fills a place.
                possible: text.possible && !text.ended,
                ..text.clone()
            };
            (*parent, text)
        };
        chosen.into_iter().map(text).collect()
    }

    /// Keeps the best of those that had ended and those that end now.
    fn keep_ended(&mut self, continued: &[(usize, Scored<N>)], len: usize) {
        let rules = &self.rules;
        let written = power(len - self.begun, rules.length_penalty);
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
                score,
                ended,
                ..text.clone()
            }
        });
        let all: Vec<Scored<N>> = self.ended.iter().cloned().chain(now).collect();
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
        let written = if longest { rules.max_length } else { len } - self.begun;
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

/// The indices of the `count` largest scores, largest first, of equals the lower index first.
fn best(scores: impl Iterator<Item = f32>, count: usize) -> Vec<(usize, f32)> {
    let mut found: Vec<(usize, f32)> = Vec::with_capacity(2 * count + 1);
    let mut floor = f32::NEG_INFINITY;
    let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    for (index, score) in scores.enumerate() {
        // An equal one with a higher index displaces none.
        if found.len() >= count && score <= floor {
            continue;
        }
        found.push((index, score));
        if found.len() == 2 * count + 1 {
            found.select_nth_unstable_by(count - 1, order);
            found.truncate(count);
            floor = found
                .iter()
                .map(|(_, score)| *score)
                .fold(f32::INFINITY, f32::min);
        }
    }
    found.sort_unstable_by(order);
    found.truncate(count);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(beams: &mut Beams<char>, scores: &[Vec<f32>]) -> Step {
        let rows: Vec<&[f32]> = scores.iter().map(Vec::as_slice).collect();
        let letter = |_, token| char::from(b'a' + token as u8);
        beams.step(&rows, &mut |_, _| false, &letter)
    }

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
        let mut beams = Beams::new(rules(), &[9]);
        let row = |ends: f32, one: f32, two: f32| vec![ends, one, two];
        let first = vec![row(-9.0, -0.1, -0.2), row(0.0, 0.0, 0.0)];
        assert_eq!(step(&mut beams, &first), Step::GoOn(vec![0, 0]));
        assert_eq!(beams.texts().collect::<Vec<_>>(), [[9, 1], [9, 2]]);
        // The second ends with -0.3, over two tokens; the first goes on twice.
        let second = vec![row(-5.0, -1.0, -1.5), row(-0.1, -7.0, -8.0)];
        assert_eq!(step(&mut beams, &second), Step::GoOn(vec![0, 0]));
        assert_eq!(beams.texts().collect::<Vec<_>>(), [[9, 1, 1], [9, 1, 2]]);
        let third = vec![row(-0.1, -3.0, -4.0), row(-3.0, -3.0, -4.0)];
        assert_eq!(step(&mut beams, &third), Step::Done);
        assert_eq!(beams.found(2), [vec![2, 0], vec![1, 1, 0]]);
        assert_eq!(beams.noted(1), [[(2, 'c'), (0, 'a')]]);
    }

    #[test]
    fn what_cannot_be_is_no_text_and_whoever_knows_ends_one_early() {
        let three = BeamRules {
            beams: 3,
            max_length: 2,
            ..rules()
        };
        let none = f32::NEG_INFINITY;
        let row = [none, -1.0, none];
        let mut beams = Beams::new(three, &[]);
        let second = |_: usize, token: u32| token == 1;
        let ended = beams.step(&[row.as_slice(); 3], &mut { second }, &|_, _| ());
        // Two places were left for texts that begin with what is none.
        assert_eq!((ended, beams.found(3).len()), (Step::Done, 3));
        assert_eq!(beams.noted(3), [[(1, ())]]);
        // Neither it, which has ended, nor they go on.
        assert!(!beams.possible(0) && !beams.possible(1));
    }

    #[test]
    fn texts_that_have_ended_are_told_once() {
        let three = BeamRules {
            beams: 3,
            early_stopping: EarlyStopping::Never,
            ..rules()
        };
        let none = f32::NEG_INFINITY;
        let mut beams = Beams::new(three, &[]);
        let early = |_: usize, token: u32| token < 3;
        for row in [[none, -1.0, -2.0, none], [0.0, none, none, none]] {
            beams.step(&[row.as_slice(); 3], &mut { early }, &|_, _| ());
        }
        assert_eq!(beams.noted(3), [[(1, ())], [(2, ())]]);
    }

    #[test]
    fn the_longest_texts_end_all_at_once() {
        let short = BeamRules {
            max_length: 2,
            ..rules()
        };
        let mut beams = Beams::new(short, &[9]);
        assert_eq!(
            step(&mut beams, &[vec![-3.0, -1.0, -2.0], vec![0.0; 3]]),
            Step::Done
        );
        assert_eq!(beams.found(1), [[1]]);
    }

    #[test]
    fn the_best_are_those_of_a_sort() {
        let mut random = fastrand::Rng::with_seed(5);
        for count in [1, 2, 7, 30] {
            let scores: Vec<f32> = (0..400).map(|_| f32::from(random.u8(..40))).collect();
            let mut sorted: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            sorted.truncate(count);
            assert_eq!(best(scores.into_iter(), count), sorted);
        }
        assert_eq!(best([1.0].into_iter(), 3), [(0, 1.0)]);
    }
}
