//! Answers as DJL Serving's Hugging Face handler writes what transformers' pipelines return: keys in their order,
//! indented by two, no space behind a colon. Scores have the digits of an f32.

use sconce_core::task::{Entity, Filled, Label, Span};
use sconce_core::{Answered, TaskAnswer};
use serde::Serialize;

use super::TaskForm;
use crate::json;

/// A class.
#[derive(Serialize)]
struct LabelForm<'a> {
    label: &'a str,
    score: f32,
}

impl<'a> From<&'a Label> for LabelForm<'a> {
    fn from(label: &'a Label) -> Self {
        Self {
            label: &label.label,
            score: label.score,
        }
    }
}

/// Classes: the best of each text, or a list for each.
pub(super) struct Labels {
    pub(super) nested: bool,
}

impl TaskForm for Labels {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let lists = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Labels(labels) => labels.iter().map(LabelForm::from).collect(),
            _ => Vec::new(),
        });
        if self.nested {
            return json::indented(&lists.collect::<Vec<_>>());
        }
        json::indented(&lists.flatten().collect::<Vec<_>>())
    }
}

/// A token, or a group of tokens, with its class.
#[derive(Serialize)]
#[serde(untagged)]
enum EntityForm<'a> {
    Token {
        entity: &'a str,
        score: f32,
        index: usize,
        word: &'a str,
        start: usize,
        end: usize,
    },
    Group {
        entity_group: &'a str,
        score: f32,
        word: &'a str,
        start: usize,
        end: usize,
    },
}

/// Entities of each text.
pub(super) struct Entities {
    pub(super) groups: bool,
}

impl TaskForm for Entities {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let form = |entity| self.form(entity);
        let lists = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Entities(entities) => entities.iter().map(form).collect(),
            _ => Vec::new(),
        });
        json::indented(&lists.collect::<Vec<Vec<_>>>())
    }
}

impl Entities {
    fn form<'a>(&self, entity: &'a Entity) -> EntityForm<'a> {
        let Entity {
            class,
            score,
            index,
            word,
            start,
            end,
        } = entity;
        match index.filter(|_| !self.groups) {
            Some(index) => EntityForm::Token {
                entity: class,
                score: *score,
                index,
                word,
                start: *start,
                end: *end,
            },
            None => EntityForm::Group {
                entity_group: class,
                score: *score,
                word,
                start: *start,
                end: *end,
            },
        }
    }
}

/// A list, but its only item where there is one.
#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn of(mut all: Vec<T>) -> Self {
        match all.len() {
            1 => Self::One(all.remove(0)),
            _ => Self::More(all),
        }
    }
}

/// An answer within a text.
#[derive(Serialize)]
struct SpanForm<'a> {
    score: f32,
    start: usize,
    end: usize,
    answer: &'a str,
}

/// Answers to each question: one, or a list of several.
pub(super) struct Spans;

impl TaskForm for Spans {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        fn form(span: &Span) -> SpanForm<'_> {
            SpanForm {
                score: span.score,
                start: span.start,
                end: span.end,
                answer: &span.answer,
            }
        }
        let lists = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Spans(spans) => OneOrMore::of(spans.iter().map(form).collect()),
            _ => OneOrMore::More(Vec::new()),
        });
        json::indented(&lists.collect::<Vec<_>>())
    }
}

/// A word for a mask.
#[derive(Serialize)]
struct FilledForm<'a> {
    score: f32,
    token: u32,
    token_str: &'a str,
    sequence: &'a str,
}

/// Words for masks: those of the only text, or a list for each text; and within that of the only mask, or a list for
/// each mask.
pub(super) struct Fillings;

impl TaskForm for Fillings {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        fn form(filled: &Filled) -> FilledForm<'_> {
            FilledForm {
                score: filled.score,
                token: filled.token,
                token_str: &filled.word,
                sequence: &filled.sequence,
            }
        }
        let texts = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Masks(masks) => {
                let lists = masks
                    .iter()
                    .map(|words| words.iter().map(form).collect::<Vec<_>>());
                OneOrMore::of(lists.collect())
            }
            _ => OneOrMore::More(Vec::new()),
        });
        json::indented(&OneOrMore::of(texts.collect()))
    }
}

/// Ranked labels of each text.
pub(super) struct Choices {
    pub(super) texts: Vec<String>,
}

impl TaskForm for Choices {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        #[derive(Serialize)]
        struct Choice<'a> {
            sequence: &'a str,
            labels: Vec<&'a str>,
            scores: Vec<f32>,
        }
        let choices = self.texts.iter().zip(answers).map(|(text, answered)| {
            let labels: &[Label] = match &answered.answer {
                TaskAnswer::Labels(labels) => labels,
                _ => &[],
            };
            Choice {
                sequence: text,
                labels: labels.iter().map(|label| &*label.label).collect(),
                scores: labels.iter().map(|label| label.score).collect(),
            }
        });
        json::indented(&choices.collect::<Vec<_>>())
    }
}

/// Vectors of tokens; the pipeline computes each text as a batch of one, which the answer shows.
pub(super) struct TokenVectors;

impl TaskForm for TokenVectors {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let texts = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Vectors(vectors) => [vectors.as_slice()],
            _ => [&[] as &[Vec<f32>]],
        });
        json::indented(&texts.collect::<Vec<_>>())
    }
}

/// One vector for each text.
pub(super) struct Vectors;

impl TaskForm for Vectors {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        json::indented(&vectors(answers))
    }
}

/// The vectors of all texts.
pub(super) fn vectors(answers: &[Answered]) -> Vec<&[f32]> {
    answers
        .iter()
        .map(|answered| match &answered.answer {
            TaskAnswer::Vector(vector) => vector.as_slice(),
            _ => &[],
        })
        .collect()
}

/// The scores of the only request.
pub(super) fn scores(answers: &[Answered]) -> &[f32] {
    match answers.first().map(|answered| &answered.answer) {
        Some(TaskAnswer::Scores(scores)) => scores,
        _ => &[],
    }
}

/// Cosines.
pub(super) struct Similarity;

impl TaskForm for Similarity {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        json::indented(&scores(answers))
    }
}

/// A list of one score for each pair, as DJL's translators answer.
pub(super) struct Ranking;

impl TaskForm for Ranking {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let lists = scores(answers).iter().map(|score| [*score]);
        json::indented(&lists.collect::<Vec<_>>())
    }
}
