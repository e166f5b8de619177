//! Why an engine cannot start.

use std::path::PathBuf;

use sconce_core::Task;
use sconce_models::{ConfigError, LoadError};
use sconce_nn::weights::WeightError;
use sconce_text::TextError;
use thiserror::Error;

/// The first cause that keeps a model from answering.
#[derive(Debug, Error)]
pub enum StartError {
    /// `config.json` asks for something that cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weight files are missing or broken.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no usable tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The class is no encoder.
    #[error(
        "{task} is a task of encoders, and config.json names {class}; architectures that do it: {supported}"
    )]
    NoEncoder {
        /// The task.
        task: Task,
        /// What `architectures` says.
        class: String,
        /// All classes that do the task.
        supported: String,
    },
    /// The checkpoint was trained for something else.
    #[error(
        "{class} has no head for {task}: a head with random weights is not served; this checkpoint does {}",
        listed(fits)
    )]
    Misfit {
        /// The class.
        class: String,
        /// The task.
        task: Task,
        /// Tasks that the checkpoint does.
        fits: Vec<Task>,
    },
    /// The classes are not those of the task.
    #[error("{}: {task} needs {wanted}, and the classes are {found}", file.display())]
    Labels {
        /// The file.
        file: PathBuf,
        /// The task.
        task: Task,
        /// What the task needs.
        wanted: &'static str,
        /// The classes.
        found: String,
    },
    /// A token that the task needs is not in the vocabulary.
    #[error("{}: the tokenizer has no {token}, which {task} needs", dir.display())]
    NoToken {
        /// The model's directory.
        dir: PathBuf,
        /// The role of the token.
        token: &'static str,
        /// The task.
        task: Task,
    },
    /// The tokenizer makes ids that the model has no embedding for.
    #[error(
        "{}: the tokenizer has {tokenizer} entries but the model's vocabulary has {model}: the tokenizer belongs to \
         another model",
        dir.display()
    )]
    Vocabulary {
        /// The model's directory.
        dir: PathBuf,
        /// Entries of the tokenizer, added tokens included.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// The wanted length is longer than the model's.
    #[error(
        "option.max_model_len = {wanted}: the model takes {context} tokens; set at most {context}"
    )]
    Context {
        /// The option's value.
        wanted: usize,
        /// What the model takes.
        context: usize,
    },
    /// A file of sentence-transformers says something that is not served.
    #[error("{}: {problem}", file.display())]
    Modules {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A forward pass before the first request failed or gave no numbers.
    #[error("the canary forward pass failed: {0}")]
    Canary(String),
    /// The engine's thread ended while it was being started.
    #[error("the engine's thread panicked while loading")]
    Panicked,
    /// The operating system gave no thread.
    #[error("starting the engine: {0}")]
    System(#[source] std::io::Error),
}

impl StartError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Weights(error) => error.code(),
            Self::Load(error) => error.code(),
            Self::Text(error) => error.code(),
            Self::NoEncoder { .. } | Self::Misfit { .. } => "task-does-not-fit",
            Self::Labels { .. } => "labels-do-not-fit",
            Self::NoToken { .. } => "token-missing",
            Self::Vocabulary { .. } => "tokenizer-of-another-model",
            Self::Context { .. } => "context-too-long",
            Self::Modules { .. } => "unsupported-modules",
            Self::Canary(_) => "canary-failed",
            Self::Panicked => "panic",
            Self::System(_) => "system",
        }
    }
}

fn listed(tasks: &[Task]) -> String {
    let names: Vec<&str> = tasks.iter().map(|task| task.name()).collect();
    names.join(", ")
}
