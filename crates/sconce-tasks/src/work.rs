//! A request on its way through the engine: its texts as tokens, and what is made of their rows.

use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_models::encoder::Rows;

/// A task: before and after the encoder.
pub(crate) trait Task: Send + Sync {
    /// Makes texts of a request, or says what is wrong with it. May tokenise long texts.
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError>;
}

/// A text as the encoder takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Vec<u32>,
    /// Tokens whose rows are wanted, of models that give some for each; `None`: all.
    pub(crate) wanted: Option<Vec<u32>>,
}

/// Makes an answer of the rows of all texts, in their order.
pub(crate) type Finish = Box<dyn FnOnce(Vec<Rows>) -> Result<TaskAnswer, ServeError> + Send>;

/// What a request asks of the encoder.
pub(crate) struct Work {
    pub(crate) texts: Vec<Text>,
    pub(crate) finish: Finish,
}

impl Work {
    pub(crate) fn new(
        texts: Vec<Text>,
        finish: impl FnOnce(Vec<Rows>) -> Result<TaskAnswer, ServeError> + Send + 'static,
    ) -> Self {
        Self {
            texts,
            finish: Box::new(finish),
        }
    }

    /// Tokens of all texts.
    pub(crate) fn tokens(&self) -> usize {
        self.texts.iter().map(|text| text.ids.len()).sum()
    }
}

/// The request belongs to another task than the model does.
pub(crate) fn misplaced(ask: &Ask, task: sconce_core::Task) -> ServeError {
    ServeError::Malformed(format!(
        "this is a request for {}, and the model does {task}",
        ask.task()
    ))
}
