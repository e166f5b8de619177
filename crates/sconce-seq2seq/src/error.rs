//! Why an engine cannot start.

use std::path::PathBuf;

use sconce_core::Task;
use sconce_engine::EngineError;
use thiserror::Error;

/// The first cause that keeps a model from answering.
#[derive(Debug, Error)]
pub enum Seq2SeqError {
    /// What engines have in common: files, weights, memory.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The class is no encoder-decoder.
    #[error(
        "{task} is a task of encoder-decoders, and config.json names {class}{}; architectures that do it: {supported}",
        fits.as_ref().map(|task| format!(", which does {task}")).unwrap_or_default()
    )]
    NotSeq2Seq {
        /// The task.
        task: Task,
        /// What `architectures` says.
        class: String,
        /// A task that the class does, if it is known.
        fits: Option<Task>,
        /// All classes that do the task.
        supported: String,
    },
    /// The task's name says languages that the tokenizer has no tokens for.
    #[error(
        "option.task names the language {language}, and the tokenizer in {} has no token {token}; name languages as this \
         model does",
        dir.display()
    )]
    Language {
        /// The model's directory.
        dir: PathBuf,
        /// The language.
        language: String,
        /// How its token would be spelled.
        token: String,
    },
    /// Nothing says how a dialogue is written out.
    #[error(
        "{}: conversational needs a chat_template, which the checkpoint does not have; add it to tokenizer_config.json, or \
         set option.task=text2text-generation and send what the model reads",
        dir.join("tokenizer_config.json").display()
    )]
    NoTemplate {
        /// The model's directory.
        dir: PathBuf,
    },
    /// A token that decoding begins or ends with is beyond the vocabulary.
    #[error(
        "{}: the token {id} that generation_config.json or config.json names as {key} is not below vocab_size = {vocab}",
        dir.display()
    )]
    Token {
        /// The model's directory.
        dir: PathBuf,
        /// The key.
        key: &'static str,
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
}

impl Seq2SeqError {
    /// Bytes that have to become free before the model can start, if nothing but memory is missing.
    pub fn missing_memory(&self) -> Option<u64> {
        match self {
            Self::Engine(error) => error.missing_memory(),
            _ => None,
        }
    }

    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::NotSeq2Seq { .. } => "task-does-not-fit",
            Self::Language { .. } => "token-missing",
            Self::NoTemplate { .. } => "template-missing",
            Self::Token { .. } => "bad-model-config",
        }
    }
}

sconce_engine::through_engine_error!(Seq2SeqError);
