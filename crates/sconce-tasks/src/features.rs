//! `feature-extraction`: a vector for each token, as transformers' `pipelines/feature_extraction.py` gives them; where the
//! configuration names a pooling one in their place, and of the length 1 where it asks for that.

use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_text::Cut;

use crate::modules::{VectorWish, normalize, pooled};
use crate::reader::Reader;
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Extractor {
    pub(crate) reader: Reader,
    pub(crate) wish: VectorWish,
}

impl Task for Extractor {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Features(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::FeatureExtraction));
        };
        let encoded = self
            .reader
            .fitting(&asked.text, None, asked.truncation, Cut::Longest)?;
        let text = self.reader.text(&encoded);
        let wish = self.wish;
        Ok(Work::new(vec![text], move |rows| {
            let rows = rows.into_iter().next().unwrap_or_default();
            let all: Vec<&[f32]> = rows.numbers.chunks_exact(rows.width.max(1)).collect();
            let mut vectors: Vec<Vec<f32>> = match wish.pooling {
                Some(pooling) => vec![pooled(pooling, &all, 0)],
                None => all.iter().map(|row| row.to_vec()).collect(),
            };
            if wish.normalize == Some(true) {
                vectors.iter_mut().for_each(|vector| normalize(vector));
            }
            Ok(TaskAnswer::Vectors(vectors))
        }))
    }
}
