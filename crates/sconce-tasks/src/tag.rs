//! `token-classification` (`ner`): transformers' `pipelines/token_classification.py`, with its rules for words and
//! groups. A token belongs to the word before it as the tokenizer's spelling says, or, where it says nothing, if no
//! space stands before it.

use std::sync::Arc;

use sconce_core::task::{Aggregation, Entity, Tag, Truncation};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_models::encoder::Rows;
use sconce_text::{Cut, Encoded, Role, Tokenizer};

use crate::reader::{Chars, Reader, too_short};
use crate::softmax::{largest, softmax};
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Tagger {
    pub(crate) reader: Reader,
    pub(crate) classes: Arc<[String]>,
}

impl Task for Tagger {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Tag(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::TokenClassification));
        };
        let windows = self.windows(&asked)?;
        let texts = windows
            .iter()
            .map(|window| self.reader.text(window))
            .collect();
        let grouping = Grouping {
            tokenizer: Arc::clone(&self.reader.tokenizer),
            classes: Arc::clone(&self.classes),
            asked,
        };
        Ok(Work::new(texts, move |rows| {
            let mut found = Vec::new();
            let chars = Chars::of(&grouping.asked.text);
            for (window, rows) in windows.iter().zip(&rows) {
                found.extend(grouping.entities(window, rows, &chars));
            }
            if windows.len() > 1 {
                found = without_overlaps(found);
            }
            Ok(TaskAnswer::Entities(found))
        }))
    }
}

impl Tagger {
    fn windows(&self, asked: &Tag) -> Result<Vec<Encoded>, ServeError> {
        let reader = &self.reader;
        let Some(stride) = asked.stride else {
            // The pipeline always cuts.
            let truncation = Truncation {
                cut: true,
                max_len: None,
            };
            let encoded = reader.fitting(&asked.text, None, truncation, Cut::Longest)?;
            return Ok(vec![encoded]);
        };
        if asked.aggregation == Aggregation::None {
            let problem = "needs an aggregation_strategy other than none, which overlaps have to be settled by";
            return Err(ServeError::parameter("stride", stride, problem));
        }
        let encoded = reader.tokens(&asked.text, None)?;
        let windows = encoded.windows(reader.max_len, stride, 0);
        let windows = windows.map_err(|short| match short.surplus < short.len {
            true => {
                let room = short.len - short.surplus;
                let problem = format!("must be below the {room} tokens of text that a window has");
                ServeError::parameter("stride", stride, problem)
            }
            false => too_short(short, reader.max_len),
        })?;
        for window in &windows {
            reader.require(window, &asked.text)?;
        }
        Ok(windows)
    }
}

/// A token, or the tokens of a word, before they are grouped.
#[derive(Clone, Debug)]
struct Piece {
    word: String,
    scores: Vec<f32>,
    start: usize,
    end: usize,
    index: usize,
    /// Belongs to the word before.
    goes_on: bool,
}

/// Makes entities of tokens.
struct Grouping {
    tokenizer: Arc<Tokenizer>,
    classes: Arc<[String]>,
    asked: Tag,
}

impl Grouping {
    fn entities(&self, window: &Encoded, rows: &Rows, chars: &Chars<'_>) -> Vec<Entity> {
        let pieces = self.pieces(window, rows, chars);
        let aggregation = self.asked.aggregation;
        let mut entities: Vec<Entity> = match aggregation {
            Aggregation::None | Aggregation::Simple => pieces
                .into_iter()
                .map(|piece| self.of_token(piece))
                .collect(),
            Aggregation::First | Aggregation::Average | Aggregation::Max => self.words(pieces),
        };
        if aggregation != Aggregation::None {
            entities = self.groups(entities);
        }
        let ignored = &self.asked.ignore_labels;
        entities.retain(|entity| !ignored.contains(&entity.class));
        entities
    }

    fn pieces(&self, window: &Encoded, rows: &Rows, chars: &Chars<'_>) -> Vec<Piece> {
        let unknown = self.tokenizer.role(Role::Unknown);
        let spelled = self.tokenizer.has_word_parts();
        let mut pieces = Vec::new();
        for (index, token) in window.tokens.iter().enumerate() {
            if token.text.is_none() {
                continue;
            }
            let (start, end) = token.chars;
            let mut word = self.tokenizer.spelling(token.id).unwrap_or_default();
            let mut goes_on = if spelled {
                word.chars().count() != end - start
            } else {
                start > 0 && !chars.slice((start - 1, start + 1)).contains(' ')
            };
            if Some(token.id) == unknown {
                word = chars.slice(token.chars).to_owned();
                goes_on = false;
            }
            let logits = &rows.numbers[index * rows.width..][..rows.width];
            pieces.push(Piece {
                word,
                scores: softmax(logits),
                start,
                end,
                index,
                goes_on,
            });
        }
        pieces
    }

    fn of_token(&self, piece: Piece) -> Entity {
        let best = largest(&piece.scores);
        Entity {
            class: self.classes[best].clone(),
            score: piece.scores[best],
            index: Some(piece.index),
            word: piece.word,
            start: piece.start,
            end: piece.end,
        }
    }

    /// Words of tokens that agree on one class.
    fn words(&self, pieces: Vec<Piece>) -> Vec<Entity> {
        let mut words: Vec<Vec<Piece>> = Vec::new();
        for piece in pieces {
            match words.last_mut() {
                Some(word) if piece.goes_on => word.push(piece),
                _ => words.push(vec![piece]),
            }
        }
        words.into_iter().map(|word| self.of_word(&word)).collect()
    }

    fn of_word(&self, word: &[Piece]) -> Entity {
        let (best, score) = match self.asked.aggregation {
            Aggregation::Average => {
                let mean = |class: usize| {
                    let sum: f32 = word.iter().map(|piece| piece.scores[class]).sum();
                    sum / word.len() as f32
                };
                let means: Vec<f32> = (0..self.classes.len()).map(mean).collect();
                let best = largest(&means);
                (best, means[best])
            }
            Aggregation::Max => {
                let tops: Vec<f32> = word
                    .iter()
                    .map(|piece| piece.scores[largest(&piece.scores)])
                    .collect();
                let top = &word[largest(&tops)];
                let best = largest(&top.scores);
                (best, top.scores[best])
            }
            _ => {
                let best = largest(&word[0].scores);
                (best, word[0].scores[best])
            }
        };
        let spellings = word.iter().map(|piece| piece.word.clone()).collect();
        Entity {
            class: self.classes[best].clone(),
            score,
            index: None,
            word: self.tokenizer.joined(spellings),
            start: word[0].start,
            end: word[word.len() - 1].end,
        }
    }

    /// Neighbours of one class, by the prefixes of its name.
    fn groups(&self, entities: Vec<Entity>) -> Vec<Entity> {
        let mut groups: Vec<Vec<Entity>> = Vec::new();
        for entity in entities {
            let joins = groups
                .last()
                .and_then(|group| group.last())
                .is_some_and(|last| {
                    let ((begins, tag), (_, before)) = (tag(&entity.class), tag(&last.class));
                    tag == before && !begins
                });
            match groups.last_mut() {
                Some(group) if joins => group.push(entity),
                _ => groups.push(vec![entity]),
            }
        }
        groups.iter().map(|group| self.of_group(group)).collect()
    }

    fn of_group(&self, group: &[Entity]) -> Entity {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let class = first
            .class
            .split_once('-')
            .map_or(&*first.class, |(_, tag)| tag);
        let sum: f32 = group.iter().map(|entity| entity.score).sum();
        Entity {
            class: class.to_owned(),
            score: sum / group.len() as f32,
            index: None,
            word: self
                .tokenizer
                .joined(group.iter().map(|entity| entity.word.clone()).collect()),
            start: first.start,
            end: last.end,
        }
    }
}

/// Whether a class begins an entity, and its name without the prefix.
fn tag(class: &str) -> (bool, &str) {
    match (class.strip_prefix("B-"), class.strip_prefix("I-")) {
        (Some(tag), _) => (true, tag),
        (None, Some(tag)) => (false, tag),
        (None, None) => (false, class),
    }
}

/// Of entities that overlap the longest, or of equally long ones the best.
fn without_overlaps(mut entities: Vec<Entity>) -> Vec<Entity> {
    entities.sort_by_key(|entity| entity.start);
    let mut kept: Vec<Entity> = Vec::new();
    for entity in entities {
        let Some(last) = kept
            .last_mut()
            .filter(|last| last.start <= entity.start && entity.start < last.end)
        else {
            kept.push(entity);
            continue;
        };
        let (len, before) = (entity.end - entity.start, last.end - last.start);
        if len > before || (len == before && entity.score > last.score) {
            *last = entity;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(start: usize, end: usize, score: f32) -> Entity {
        Entity {
            class: "X".into(),
            score,
            index: None,
            word: String::new(),
            start,
            end,
        }
    }

    #[test]
    fn of_overlapping_entities_the_longest_stays() {
        let all = vec![
            entity(10, 14, 0.5),
            entity(0, 4, 0.9),
            entity(2, 8, 0.1),
            entity(10, 14, 0.7),
        ];
        let kept: Vec<_> = without_overlaps(all)
            .iter()
            .map(|e| (e.start, e.score))
            .collect();
        assert_eq!(kept, [(2, 0.1), (10, 0.7)]);
    }

    #[test]
    fn prefixes_tell_beginnings() {
        assert_eq!(tag("B-PER"), (true, "PER"));
        assert_eq!(tag("I-PER"), (false, "PER"));
        assert_eq!(tag("PER-X"), (false, "PER-X"));
    }
}
