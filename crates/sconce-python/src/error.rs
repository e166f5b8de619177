//! Why a worker does not start, or no longer works.

use std::path::PathBuf;

use thiserror::Error;

use crate::protocol::ProtocolError;

/// The first cause, with the last lines that the worker wrote where they tell more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PythonError {
    /// There is no such interpreter, or it cannot be run.
    #[error(
        "Python cannot be started: {executable}: {cause}; install Python 3, or name it with \
         option.pythonExecutable or PYTHON_EXECUTABLE"
    )]
    NoPython {
        /// The name or path that was tried.
        executable: String,
        /// What the system says.
        cause: String,
    },
    /// The model's directory is gone.
    #[error("{} is no directory that can be entered any more; put the model's files back", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Files that a worker needs cannot be written.
    #[error("{} cannot be written: {cause}; set TMPDIR to a directory that can be", path.display())]
    Temporary {
        /// File or directory.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// pip does not install what the model needs.
    #[error(
        "{} cannot be installed{words}\n(name packages that the index has, set PIP_INDEX_URL, or \
         put wheels into the folder `requirements` beside it)",
        file.display()
    )]
    Requirements {
        /// The file.
        file: PathBuf,
        /// pip's last lines.
        words: String,
    },
    /// The process ended by itself while it was starting.
    #[error("the Python worker {how} before the model was loaded{words}")]
    Ended {
        /// Code or signal, as the end of a sentence.
        how: String,
        /// Its last lines.
        words: String,
    },
    /// It does not become ready.
    #[error(
        "the Python worker had not loaded the model after model_loading_timeout = {seconds} s \
         and was ended while it was {doing}; raise option.model_loading_timeout if it needs \
         longer{words}"
    )]
    Slow {
        /// `model_loading_timeout`.
        seconds: u64,
        /// What it was at.
        doing: &'static str,
        /// Its last lines.
        words: String,
    },
    /// The first call of the handler failed.
    #[error("the handler cannot load the model: {code} {message}{words}")]
    Init {
        /// The status that it chose.
        code: i16,
        /// Its message, or the text of the exception.
        message: String,
        /// Its last lines.
        words: String,
    },
    /// A script that is to change requests or answers has no function for either.
    #[error(
        "{} has no function for requests (@input_formatter) or answers (@output_formatter, or the \
         one that option.output_formatter names); write one, or remove the file",
        dir.join("model.py").display()
    )]
    NoFunction {
        /// The model's directory.
        dir: PathBuf,
    },
    /// The worker's socket cannot be used.
    #[error("the Python worker cannot be talked to: {cause}{words}")]
    Socket {
        /// What the system says.
        cause: String,
        /// Its last lines.
        words: String,
    },
    /// What the worker sends is no message.
    #[error("the Python worker broke the protocol: {cause}")]
    Protocol {
        /// What is wrong.
        #[from]
        cause: ProtocolError,
    },
    /// A thread cannot be started.
    #[error("no thread for a worker can be started: {cause}")]
    Thread {
        /// What the system says.
        cause: String,
    },
    /// The model was stopped while it was being loaded.
    #[error("the model was stopped")]
    Stopped,
}

impl PythonError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPython { .. } => "no-python",
            Self::NoDirectory { .. } => "no-directory",
            Self::Temporary { .. } => "no-temporary-directory",
            Self::Requirements { .. } => "requirements",
            Self::Ended { .. } => "worker-ended",
            Self::Slow { .. } => "worker-slow",
            Self::Init { .. } => "handler-init",
            Self::NoFunction { .. } => "no-function",
            Self::Socket { .. } => "worker-socket",
            Self::Protocol { .. } => "worker-protocol",
            Self::Thread { .. } => "no-thread",
            Self::Stopped => "stopped",
        }
    }
}
