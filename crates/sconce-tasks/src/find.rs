//! `question-answering`: transformers 4's `pipelines/question_answering.py`. Long contexts are read in windows that
//! overlap, and equal answers of several windows add up.

use std::collections::HashMap;
use std::sync::Arc;

use sconce_core::task::{Find, Span};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_models::encoder::Rows;
use sconce_text::{Encoded, Role};

use crate::reader::{Chars, Reader, too_short};
use crate::work::{Task, Work, misplaced};

/// Tokens of a window where nothing says how many.
const WINDOW: usize = 384;

/// Tokens that windows have in common, at most, where nothing says how many.
const STRIDE: usize = 128;

/// A logit that stands for never.
const NEVER: f32 = -10_000.0;

/// The score of no answer before any window was read: larger than any.
const UNSEEN: f32 = 1e6;

/// The task, for one model.
pub(crate) struct Finder {
    pub(crate) reader: Reader,
}

impl Task for Finder {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Find(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::QuestionAnswering));
        };
        let windows = self.windows(&asked)?;
        let texts = windows
            .iter()
            .map(|window| self.reader.text(window))
            .collect();
        let class = self.reader.tokenizer.role(Role::Class);
        let asked = Arc::new(asked);
        Ok(Work::new(texts, move |rows| {
            let mut answers = Answers::new(&asked);
            for (window, rows) in windows.iter().zip(&rows) {
                answers.read(window, rows, class);
            }
            Ok(TaskAnswer::Spans(answers.best()))
        }))
    }
}

impl Finder {
    fn windows(&self, asked: &Find) -> Result<Vec<Encoded>, ServeError> {
        let most = self.reader.max_len;
        let limit = asked.max_seq_len.unwrap_or(WINDOW.min(most));
        if limit > most {
            let problem = format!("must be at most {most}, which the model takes");
            return Err(ServeError::parameter("max_seq_len", limit, problem));
        }
        let stride = asked.doc_stride.unwrap_or((limit / 2).min(STRIDE));
        if stride > limit {
            let problem = format!("must be at most max_seq_len = {limit}");
            return Err(ServeError::parameter("doc_stride", stride, problem));
        }
        let encoded = self.reader.tokens(&asked.question, Some(&asked.context))?;
        let (question, len) = (encoded.len_of(0), encoded.len());
        let windows = encoded.windows(limit, stride, 1).map_err(|short| {
            if short.surplus < short.len {
                let room = short.len - short.surplus;
                let problem = format!(
                    "must be below the {room} tokens of the context that a window has beside the question"
                );
                return ServeError::parameter("doc_stride", stride, problem);
            }
            if question + 8 > limit {
                let problem = format!(
                    "has {question} tokens, and question and context together must leave room in windows of {limit}; shorten it"
                );
                return ServeError::parameter("question", &asked.question, problem);
            }
            too_short(short, limit.min(len))
        })?;
        for window in &windows {
            self.reader.require(window, &asked.context)?;
        }
        Ok(windows)
    }
}

/// The answers that were found so far.
struct Answers<'a> {
    asked: &'a Find,
    chars: Chars<'a>,
    found: Vec<(f64, Span)>,
    /// Where an answer stands in `found`, by its text in lower case.
    places: HashMap<String, usize>,
    none: f32,
}

/// A beginning and an end among the tokens of a window.
#[derive(Clone, Copy)]
struct Candidate {
    start: usize,
    end: usize,
    score: f32,
}

impl<'a> Answers<'a> {
    fn new(asked: &'a Find) -> Self {
        Self {
            asked,
            chars: Chars::of(&asked.context),
            found: Vec::new(),
            places: HashMap::new(),
            none: UNSEEN,
        }
    }

    fn read(&mut self, window: &Encoded, rows: &Rows, class: Option<u32>) {
        // Of the special tokens the one that begins a text may stand for no answer.
        let may = |at: usize| {
            let token = &window.tokens[at];
            token.text == Some(1) || Some(token.id) == class
        };
        let allowed: Vec<bool> = (0..window.len()).map(may).collect();
        let mut starts = probabilities(rows, 0, &allowed);
        let mut ends = probabilities(rows, 1, &allowed);
        if self.asked.handle_impossible_answer {
            self.none = self.none.min(starts[0] * ends[0]);
        }
        (starts[0], ends[0]) = (0.0, 0.0);
        let most = if self.asked.align_to_words {
            // Some fall together when they are aligned.
            2 * self.asked.top_k + 10
        } else {
            self.asked.top_k
        };
        for candidate in candidates(&starts, &ends, &allowed, self.asked.max_answer_len, most) {
            self.add(window, candidate);
        }
    }

    fn add(&mut self, window: &Encoded, candidate: Candidate) {
        let (first, last) = (
            &window.tokens[candidate.start],
            &window.tokens[candidate.end],
        );
        let whole_words = self.asked.align_to_words && first.word.is_some() && last.word.is_some();
        let (start, end) = if whole_words {
            let (start, _) = window.word_chars(candidate.start);
            (start, window.word_chars(candidate.end).1)
        } else {
            (first.chars.0, last.chars.1)
        };
        let answer = self.chars.slice((start, end)).to_owned();
        let score = f64::from(candidate.score);
        let place = self.places.entry(answer.to_lowercase());
        let place = *place.or_insert(self.found.len());
        match self.found.get_mut(place) {
            Some((sum, _)) => *sum += score,
            None => self.found.push((
                score,
                Span {
                    score: 0.0,
                    start,
                    end,
                    answer,
                },
            )),
        }
    }

    fn best(mut self) -> Vec<Span> {
        if self.asked.handle_impossible_answer {
            let nothing = Span {
                score: 0.0,
                start: 0,
                end: 0,
                answer: String::new(),
            };
            self.found.push((f64::from(self.none), nothing));
        }
        self.found
            .sort_by(|(one, _), (other, _)| other.total_cmp(one));
        self.found.truncate(self.asked.top_k);
        let spans = self.found.into_iter().map(|(score, span)| Span {
            score: score as f32,
            ..span
        });
        spans.collect()
    }
}

/// The probability of each token for one of the two outputs.
fn probabilities(rows: &Rows, which: usize, allowed: &[bool]) -> Vec<f32> {
    let logits = rows.numbers.chunks_exact(rows.width).zip(allowed);
    let logits: Vec<f32> = logits
        .map(|(row, allowed)| if *allowed { row[which] } else { NEVER })
        .collect();
    crate::softmax::softmax(&logits)
}

/// The `most` likeliest pairs of a beginning and an end, likeliest first.
fn candidates(
    starts: &[f32],
    ends: &[f32],
    allowed: &[bool],
    longest: usize,
    most: usize,
) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for start in (0..starts.len()).filter(|start| allowed[*start]) {
        let last = start.saturating_add(longest).min(ends.len());
        for end in (start..last).filter(|end| allowed[*end]) {
            let score = starts[start] * ends[end];
            if score > 0.0 {
                found.push(Candidate { start, end, score });
            }
        }
    }
    let by = |one: &Candidate, other: &Candidate| other.score.total_cmp(&one.score);
    if found.len() > most && most > 0 {
        found.select_nth_unstable_by(most - 1, by);
        found.truncate(most);
    }
    found.sort_by(|one, other| {
        by(one, other)
            .then(one.start.cmp(&other.start))
            .then(one.end.cmp(&other.end))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_behind_their_beginning_and_are_not_too_long() {
        let starts = [0.0, 0.1, 0.6, 0.3];
        let ends = [0.0, 0.7, 0.1, 0.2];
        let pairs = |longest, most| {
            let found = candidates(&starts, &ends, &[true; 4], longest, most);
            found.iter().map(|c| (c.start, c.end)).collect::<Vec<_>>()
        };
        assert_eq!(pairs(2, 3), [(2, 3), (1, 1), (2, 2)]);
        assert_eq!(pairs(1, 2), [(1, 1), (2, 2)]);
        assert_eq!(pairs(9, 99).len(), 6);
    }
}
