//! Requests and answers of the tasks besides text generation, in the form that DJL Serving's Hugging Face handler
//! gives transformers' pipelines: `inputs`, or without that key the whole body, is the pipeline's input, `parameters`
//! are its arguments, and the answer is a list, also for one input.
//!
//! `read` takes a body apart, `parse` has a function for each task, `render` the forms of answers, `write` and `converse`
//! both for the tasks that write; `openai` and `tei` are the same for other servers' routes.

mod converse;
pub mod openai;
mod parse;
mod read;
mod render;
pub mod tei;
#[cfg(test)]
mod tests;
mod write;

use sconce_core::{Answered, Ask, ServeError, Task};

use crate::dialect::Answer;

pub(crate) use read::Request;

/// A request that has been understood.
pub struct AcceptedTask {
    /// What the engine is asked; at least one, answered in this order.
    pub asks: Vec<Ask>,
    /// How it is answered.
    pub answer: Answer,
}

/// Writes the answer of a task.
pub trait TaskForm: Send {
    /// The value of Content-Type.
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    /// The body; `answers` are in the order of what was asked.
    fn body(&self, answers: &[Answered]) -> Vec<u8>;
}

/// Understands a request for a task, or says why not.
pub fn accept(task: Task, body: &[u8]) -> Result<AcceptedTask, ServeError> {
    let request = Request::read(body)?;
    match task {
        Task::TextClassification => parse::classification(request),
        Task::TokenClassification => parse::tokens(request),
        Task::QuestionAnswering => parse::questions(request),
        Task::FillMask => parse::masks(request),
        Task::ZeroShotClassification => parse::zero_shot(request),
        Task::FeatureExtraction => parse::features(request),
        Task::TextEmbedding => parse::embedding(request),
        Task::SentenceSimilarity => parse::similarity(request),
        Task::TextRanking => parse::ranking(request),
        Task::Text2TextGeneration | Task::Summarization | Task::Translation => {
            write::texts(task, request)
        }
        Task::Conversational => converse::dialogues(request),
        Task::TextToImage => Err(ServeError::Malformed(
            "pictures have forms of their own: send {\"prompt\": \"…\"} to /invocations".into(),
        )),
        Task::TextGeneration => Err(ServeError::Malformed(
            "text generation has dialects of its own".into(),
        )),
    }
}

impl AcceptedTask {
    pub(crate) fn new(asks: Vec<Ask>, form: impl TaskForm + 'static) -> Self {
        Self {
            asks,
            answer: Answer::Task(Box::new(form)),
        }
    }
}
