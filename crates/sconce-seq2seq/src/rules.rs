//! What is changed in scores before a token is chosen: transformers' logits processors, in their order
//! (`generation/logits_process.py`).

use std::collections::HashSet;

/// The rules of one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// Divides positive and multiplies negative scores of tokens that were written; 1: none.
    pub(crate) repetition_penalty: f32,
    /// No so many tokens appear twice in a row; 0: they may.
    pub(crate) no_repeat_ngram: usize,
    /// No so many tokens of what was read are written; 0: they may.
    pub(crate) no_read_ngram: usize,
    /// Sequences that are not written.
    pub(crate) bad_words: Vec<Vec<u32>>,
    /// The text does not end before it has so many tokens, the first included.
    pub(crate) min_length: usize,
    /// The longest text, the first token included.
    pub(crate) max_length: usize,
    /// Tokens that end a text.
    pub(crate) eos: Vec<u32>,
    /// The first written token.
    pub(crate) forced_bos: Option<u32>,
    /// The last token of the longest text.
    pub(crate) forced_eos: Vec<u32>,
}

impl Rules {
    /// Whether scores of a text of so many tokens may be changed.
    pub(crate) fn apply_to(&self, len: usize) -> bool {
        self.repetition_penalty != 1.0
            || self.no_repeat_ngram > 0
            || self.no_read_ngram > 0
            || !self.bad_words.is_empty()
            || len < self.min_length
            || (len == 1 && self.forced_bos.is_some())
            || (len + 1 == self.max_length && !self.forced_eos.is_empty())
    }

    /// Changes the scores of all tokens behind `text`, which begins with the decoder's first token; `read` is what the
    /// encoder read.
    pub(crate) fn apply(&self, text: &[u32], read: &[u32], scores: &mut [f32]) {
        if self.repetition_penalty != 1.0 {
            self.penalise(text, scores);
        }
        forbid(&followers(text, text, self.no_repeat_ngram), scores);
        forbid(&followers(read, text, self.no_read_ngram), scores);
        self.forbid_words(text, scores);
        if text.len() < self.min_length {
            forbid(&self.eos, scores);
        }
        if let Some(first) = self.forced_bos.filter(|_| text.len() == 1) {
            force(&[first], scores);
        }
        if text.len() + 1 == self.max_length && !self.forced_eos.is_empty() {
            force(&self.forced_eos, scores);
        }
    }

    fn penalise(&self, text: &[u32], scores: &mut [f32]) {
        let written: HashSet<u32> = text.iter().copied().collect();
        for token in written {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = match *score < 0.0 {
                    true => *score * self.repetition_penalty,
                    false => *score / self.repetition_penalty,
                };
            }
        }
    }

    /// The last token of each word whose other tokens stand at the end of the text.
    fn forbid_words(&self, text: &[u32], scores: &mut [f32]) {
        for word in &self.bad_words {
            let Some((last, first)) = word.split_last() else {
                continue;
            };
            // A token that ends texts is not forbidden by itself.
            let ends = first.is_empty() && self.eos.contains(last);
            if !ends && text.ends_with(first) {
                forbid(&[*last], scores);
            }
        }
    }
}

/// The tokens that follow in `source` wherever the last `size - 1` tokens of `text` stand there.
fn followers(source: &[u32], text: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || text.len() + 1 < size {
        return Vec::new();
    }
    let end = &text[text.len() + 1 - size..];
    let matches = source
        .windows(size)
        .filter(|window| window.starts_with(end));
    matches.map(|window| window[size - 1]).collect()
}

fn forbid(tokens: &[u32], scores: &mut [f32]) {
    for &token in tokens {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// These tokens and no others.
fn force(tokens: &[u32], scores: &mut [f32]) {
    scores.fill(f32::NEG_INFINITY);
    for &token in tokens {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f32 = f32::NEG_INFINITY;

    fn rules() -> Rules {
        Rules {
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            no_read_ngram: 0,
            bad_words: Vec::new(),
            min_length: 0,
            max_length: 100,
            eos: vec![1],
            forced_bos: None,
            forced_eos: Vec::new(),
        }
    }

    fn changed(rules: &Rules, text: &[u32], read: &[u32]) -> Vec<f32> {
        let mut scores = vec![1.0, -1.0, 1.0, -1.0, 1.0];
        rules.apply(text, read, &mut scores);
        scores
    }

    #[test]
    fn rules_that_ask_for_nothing_change_nothing() {
        assert!(!rules().apply_to(5));
        assert_eq!(
            changed(&rules(), &[0, 3], &[2]),
            [1.0, -1.0, 1.0, -1.0, 1.0]
        );
    }

    #[test]
    fn what_was_written_or_read_is_not_written_again() {
        let twice = Rules {
            no_repeat_ngram: 2,
            ..rules()
        };
        assert_eq!(
            changed(&twice, &[0, 3, 4, 3], &[]),
            [1.0, -1.0, 1.0, -1.0, NONE]
        );
        let once = Rules {
            no_repeat_ngram: 1,
            ..rules()
        };
        assert_eq!(changed(&once, &[0, 3], &[]), [NONE, -1.0, 1.0, NONE, 1.0]);
        let read = Rules {
            no_read_ngram: 3,
            ..rules()
        };
        assert_eq!(
            changed(&read, &[0, 2], &[0, 2, 4, 0, 2, 3]),
            [1.0, -1.0, 1.0, NONE, NONE]
        );
        assert_eq!(
            changed(&read, &[0], &[0, 2, 4]),
            [1.0, -1.0, 1.0, -1.0, 1.0]
        );
        let penalty = Rules {
            repetition_penalty: 2.0,
            ..rules()
        };
        assert_eq!(
            changed(&penalty, &[0, 3, 3], &[]),
            [0.5, -1.0, 1.0, -2.0, 1.0]
        );
    }

    #[test]
    fn words_and_ends_are_forbidden_and_forced() {
        let words = Rules {
            bad_words: vec![vec![2], vec![0, 3, 4], vec![1], vec![9]],
            ..rules()
        };
        assert_eq!(changed(&words, &[0, 3], &[]), [1.0, -1.0, NONE, -1.0, NONE]);
        assert_eq!(changed(&words, &[3], &[]), [1.0, -1.0, NONE, -1.0, 1.0]);
        let ends = Rules {
            min_length: 3,
            max_length: 4,
            forced_bos: Some(4),
            forced_eos: vec![1],
            ..rules()
        };
        assert_eq!(changed(&ends, &[0], &[]), [NONE, NONE, NONE, NONE, 0.0]);
        assert_eq!(changed(&ends, &[0, 4], &[]), [1.0, NONE, 1.0, -1.0, 1.0]);
        assert_eq!(
            changed(&ends, &[0, 4, 4], &[]),
            [NONE, 0.0, NONE, NONE, NONE]
        );
    }
}
