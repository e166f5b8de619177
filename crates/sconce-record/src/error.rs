//! Why a recording cannot be written or read.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What is wrong with a folder.
#[derive(Debug, Error)]
pub enum RecordError {
    /// There is something in it already.
    #[error("{}: the folder is not empty; name a new one, so that no recording is mixed with another", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be made, written or read.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file, or the folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A file does not say what it has to.
    #[error("{}{}: {cause}; it is no recording of `sconce serve --record`, or was changed", path.display(), place(*line))]
    Content {
        /// The file.
        path: PathBuf,
        /// The line from 1, of a file that has one for each request.
        line: Option<usize>,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// There is no thread that writes.
    #[error("no thread for the recording: {0}")]
    Thread(#[source] io::Error),
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(":{line}"))
}

impl RecordError {
    pub(crate) fn of_file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }
}
