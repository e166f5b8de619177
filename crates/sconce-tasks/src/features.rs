//! `feature-extraction`: a vector for each token, as transformers' `pipelines/feature_extraction.py` gives them.

use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_text::Cut;

use crate::reader::Reader;
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Extractor {
    pub(crate) reader: Reader,
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
        Ok(Work::new(vec![text], |rows| {
            let rows = rows.into_iter().next().unwrap_or_default();
            let vectors = rows.numbers.chunks_exact(rows.width.max(1));
            Ok(TaskAnswer::Vectors(vectors.map(<[f32]>::to_vec).collect()))
        }))
    }
}
