//! `fill-mask`: transformers' `pipelines/fill_mask.py`. Several masks are found each by itself.

use std::sync::Arc;

use sconce_core::task::{Fill, Filled};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_text::{Cut, Role, Tokenizer};

use crate::reader::Reader;
use crate::softmax::{ranked, softmax};
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Filler {
    pub(crate) reader: Reader,
    /// The id of the mask.
    pub(crate) mask: u32,
}

impl Task for Filler {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Fill(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::FillMask));
        };
        let Fill {
            text,
            top_k,
            targets,
            truncation,
        } = asked;
        let encoded = self.reader.fitting(&text, None, truncation, Cut::Longest)?;
        let mut work = self.reader.text(&encoded);
        let places: Vec<u32> = (0..)
            .zip(&work.ids)
            .filter(|(_, id)| **id == self.mask)
            .map(|(at, _)| at)
            .collect();
        if places.is_empty() {
            return Err(self.no_mask(&text));
        }
        let targets = self.targets(&targets)?;
        let filling = Filling {
            tokenizer: Arc::clone(&self.reader.tokenizer),
            ids: work.ids.clone(),
            places: places.clone(),
            targets,
            top_k,
        };
        work.wanted = Some(places);
        Ok(Work::new(vec![work], move |rows| {
            let rows = rows.into_iter().next().unwrap_or_default();
            let logits = rows.numbers.chunks_exact(rows.width.max(1));
            let masks = filling.places.iter().zip(logits);
            let masks = masks.map(|(place, logits)| filling.words(*place as usize, logits));
            Ok(TaskAnswer::Masks(masks.collect()))
        }))
    }
}

impl Filler {
    fn no_mask(&self, text: &str) -> ServeError {
        let mask = self
            .reader
            .tokenizer
            .spelling(self.mask)
            .unwrap_or_default();
        let problem = format!("has no {mask}; write it where a word is to be found");
        ServeError::parameter("inputs", text, problem)
    }

    /// The ids of words: their own, or those of their first tokens.
    fn targets(&self, words: &[String]) -> Result<Vec<u32>, ServeError> {
        let mut ids = Vec::new();
        for word in words {
            let tokenizer = &self.reader.tokenizer;
            let first = || {
                let tokens = tokenizer.encode_with_places(word, None, false).ok()?;
                tokens.tokens.first().map(|token| token.id)
            };
            match tokenizer.id_of(word).or_else(first) {
                Some(id) if ids.contains(&id) => {}
                Some(id) => ids.push(id),
                None => {
                    let problem = "has no token in the vocabulary; remove it";
                    return Err(ServeError::parameter("targets", word, problem));
                }
            }
        }
        Ok(ids)
    }
}

/// What is made of the logits of masks.
struct Filling {
    tokenizer: Arc<Tokenizer>,
    ids: Vec<u32>,
    places: Vec<u32>,
    targets: Vec<u32>,
    top_k: usize,
}

impl Filling {
    fn words(&self, place: usize, logits: &[f32]) -> Vec<Filled> {
        let scores = softmax(logits);
        if self.targets.is_empty() {
            let best = ranked(&scores, self.top_k).into_iter();
            return best
                .map(|id| self.filled(place, id as u32, scores[id]))
                .collect();
        }
        let of_targets: Vec<f32> = self.targets.iter().map(|id| scores[*id as usize]).collect();
        let best = ranked(&of_targets, self.top_k).into_iter();
        best.map(|at| self.filled(place, self.targets[at], of_targets[at]))
            .collect()
    }

    fn filled(&self, place: usize, token: u32, score: f32) -> Filled {
        let mut ids = self.ids.clone();
        ids[place] = token;
        let padding = self.tokenizer.role(Role::Padding);
        ids.retain(|id| Some(*id) != padding);
        // With several masks the others must stay to be seen.
        let single = self.places.len() == 1;
        Filled {
            score,
            token,
            word: self.tokenizer.token_text(token),
            sequence: self.tokenizer.decode(&ids, single).unwrap_or_default(),
        }
    }
}
