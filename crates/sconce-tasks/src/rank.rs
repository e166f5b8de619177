//! `text-ranking`: how well texts answer a query, by a cross-encoder of one class. The score is its logit's sigmoid
//! unless the checkpoint or the request says otherwise, as in sentence-transformers' `CrossEncoder`.

use sconce_core::task::{Function, Rank};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_text::Cut;

use crate::reader::Reader;
use crate::softmax::sigmoid;
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Ranker {
    pub(crate) reader: Reader,
    /// What becomes of logits where the request does not say.
    pub(crate) function: Function,
}

impl Task for Ranker {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Rank(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::TextRanking));
        };
        let Rank {
            pairs,
            function,
            truncation,
        } = asked;
        let text = |(query, text): &(String, String)| {
            let encoded = self
                .reader
                .fitting(query, Some(text), truncation, Cut::Longest)?;
            Ok(self.reader.text(&encoded))
        };
        let texts = pairs.iter().map(text).collect::<Result<_, ServeError>>()?;
        let function = function.unwrap_or(self.function);
        Ok(Work::new(texts, move |rows| {
            let score = |logit: f32| match function {
                Function::Sigmoid => sigmoid(logit),
                Function::Softmax | Function::None => logit,
            };
            let scores = rows.iter().map(|row| score(row.numbers[0]));
            Ok(TaskAnswer::Scores(scores.collect()))
        }))
    }
}
