//! `zero-shot-classification`: transformers' `pipelines/zero_shot_classification.py`. Each label makes a sentence of
//! the template, and the model says whether the text entails it.

use sconce_core::task::{Choose, Label, Truncation};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_text::Cut;

use crate::reader::Reader;
use crate::softmax::{ranked, softmax};
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Chooser {
    pub(crate) reader: Reader,
    /// The class of entailment.
    pub(crate) entailment: usize,
    /// Number of classes.
    pub(crate) classes: usize,
}

impl Task for Chooser {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Choose(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::ZeroShotClassification));
        };
        let Choose {
            text,
            labels,
            template,
            multi_label,
        } = asked;
        let texts = labels
            .iter()
            .map(|label| self.pair(&text, &template.replace("{}", label)))
            .collect::<Result<_, _>>()?;
        let entailment = self.entailment;
        // The last class stands for contradiction where the first is entailment, as in transformers.
        let contradiction = if entailment == 0 { self.classes - 1 } else { 0 };
        Ok(Work::new(texts, move |rows| {
            let entails: Vec<f32> = rows.iter().map(|row| row.numbers[entailment]).collect();
            let scores = if multi_label || labels.len() == 1 {
                let against = |row: &sconce_models::encoder::Rows| {
                    softmax(&[row.numbers[contradiction], row.numbers[entailment]])[1]
                };
                rows.iter().map(against).collect()
            } else {
                softmax(&entails)
            };
            let label = |at: usize| Label {
                label: labels[at].clone(),
                score: scores[at],
            };
            let order = ranked(&scores, scores.len());
            Ok(TaskAnswer::Labels(order.into_iter().map(label).collect()))
        }))
    }
}

impl Chooser {
    /// Text and sentence; the text is cut where both are too long.
    fn pair(&self, text: &str, sentence: &str) -> Result<crate::work::Text, ServeError> {
        let truncation = Truncation {
            cut: true,
            max_len: None,
        };
        let encoded = self
            .reader
            .fitting(text, Some(sentence), truncation, Cut::Text(0))?;
        Ok(self.reader.text(&encoded))
    }
}
