//! `text-classification` (`sentiment-analysis`): transformers' `pipelines/text_classification.py`.

use sconce_core::task::{Classify, Function, Label};
use sconce_core::{Ask, ServeError, Task as Kind, TaskAnswer};
use sconce_models::encoder::{Labels, Problem, Rows};
use sconce_text::Cut;

use crate::reader::Reader;
use crate::softmax::{applied, ranked};
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Classifier {
    pub(crate) reader: Reader,
    pub(crate) labels: Labels,
}

impl Task for Classifier {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Classify(asked) = ask else {
            return Err(misplaced(&ask, Kind::TextClassification));
        };
        let Classify {
            text,
            pair,
            truncation,
            ..
        } = &asked;
        let encoded = self
            .reader
            .fitting(text, pair.as_deref(), *truncation, Cut::Longest)?;
        let text = self.reader.text(&encoded);
        let function = asked.function.unwrap_or_else(|| usual(&self.labels));
        let names = self.labels.names.clone();
        Ok(Work::new(vec![text], move |rows| {
            let scores = applied(function, &first(rows));
            let order = if asked.unsorted {
                (0..scores.len()).collect()
            } else {
                ranked(&scores, asked.top_k.unwrap_or(scores.len()))
            };
            let label = |at: usize| Label {
                label: names[at].clone(),
                score: scores[at],
            };
            Ok(TaskAnswer::Labels(order.into_iter().map(label).collect()))
        }))
    }
}

/// What becomes of logits where the request does not say.
fn usual(labels: &Labels) -> Function {
    match labels.problem {
        Some(Problem::Regression) => Function::None,
        Some(Problem::MultiLabel) => Function::Sigmoid,
        _ if labels.names.len() == 1 => Function::Sigmoid,
        _ => Function::Softmax,
    }
}

/// The numbers of the only text.
pub(crate) fn first(rows: Vec<Rows>) -> Vec<f32> {
    rows.into_iter().next().unwrap_or_default().numbers
}
