//! Why an engine cannot start.

use std::path::PathBuf;

use sconce_core::Task;
use sconce_engine::EngineError;
use thiserror::Error;

/// The first cause that keeps a model from answering.
#[derive(Debug, Error)]
pub enum StartError {
    /// What engines have in common: files, weights, memory, threads.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
    /// A file of sentence-transformers says something that is not served.
    #[error("{}: {problem}", file.display())]
    Modules {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl StartError {
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
            Self::NoEncoder { .. } | Self::Misfit { .. } => "task-does-not-fit",
            Self::Labels { .. } => "labels-do-not-fit",
            Self::NoToken { .. } => "token-missing",
            Self::Modules { .. } => "unsupported-modules",
        }
    }
}

sconce_engine::through_engine_error!(StartError);

fn listed(tasks: &[Task]) -> String {
    let names: Vec<&str> = tasks.iter().map(|task| task.name()).collect();
    names.join(", ")
}
