//! What can go wrong with a repository of the hub, in words that name the cure.

use std::fmt;
use std::path::Path;

use hf_hub::Cache;
use hf_hub::api::sync::ApiError;
use sconce_config::HubModel;
use thiserror::Error;

use crate::wanted::Unclear;

/// A problem, and the model that has it.
#[derive(Debug, Error)]
#[error(
    "the model {id} (revision {revision}) of {endpoint} cannot be had: {problem}; {}",
    problem.cure(*has_token, id, endpoint)
)]
pub struct HubError {
    id: String,
    revision: String,
    endpoint: String,
    has_token: bool,
    problem: Problem,
}

impl HubError {
    pub(crate) fn new(model: &HubModel, problem: Problem) -> Self {
        Self {
            id: model.id.clone(),
            revision: model.revision.clone().unwrap_or_else(|| "main".into()),
            endpoint: model.endpoint.clone(),
            has_token: model.token.is_some() || Cache::new(model.cache.clone()).token().is_some(),
            problem,
        }
    }
}

impl HubError {
    /// Whether it may be over soon.
    pub(crate) fn is_passing(&self) -> bool {
        self.problem.is_passing()
    }

    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self.problem {
            Problem::Refused {
                status: 401 | 403, ..
            } => "hub-access",
            Problem::Refused { status: 404, .. } => "no-such-model",
            Problem::NoWeights { .. } => "weights-missing",
            Problem::Gguf(ref unclear) => unclear.code(),
            Problem::Space { .. } | Problem::Cache { .. } | Problem::Offline { .. } => "hub-cache",
            _ => "hub-unreachable",
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug, Error)]
pub(crate) enum Problem {
    /// The hub answers, but with another status than 200.
    #[error("{} with status {status}{}", refused(file.as_deref()), quoted(reason.as_deref()))]
    Refused {
        /// `None`: the repository's listing.
        file: Option<String>,
        status: u16,
        /// The hub's own words.
        reason: Option<String>,
    },
    /// There is no answer, or no end of one.
    #[error("{what}: {cause}")]
    Connection { what: String, cause: String },
    /// What an earlier start left of a file is longer than the file, or as long.
    #[error("what has arrived of {file} is no beginning of it")]
    Part { file: String },
    /// A file came with another length than announced.
    #[error("{file} arrived with {length} bytes instead of {wanted}")]
    Length {
        file: String,
        length: u64,
        wanted: u64,
    },
    /// A file belongs to another commit than the listing.
    #[error("{file} does not come from the commit {commit} that the listing names")]
    Commit { file: String, commit: String },
    /// There is nothing to serve in the repository.
    #[error("it has neither safetensors nor pytorch_model*.bin nor GGUF files, only {files}")]
    NoWeights { files: String },
    /// It cannot be told which GGUF file is to be served.
    #[error(transparent)]
    Gguf(Unclear),
    /// Nobody may be asked, and the cache does not have it.
    #[error("HF_HUB_OFFLINE is set, and {path} does not have it whole")]
    Offline { path: String },
    /// The disk is too small.
    #[error("{path} has {free} MiB left, and {needed} MiB have to be fetched")]
    Space {
        path: String,
        free: u64,
        needed: u64,
    },
    /// The cache cannot be read or written.
    #[error("{path}: {cause}")]
    Cache { path: String, cause: String },
}

impl Problem {
    pub(crate) fn listing(error: ApiError) -> Self {
        Self::of_library(None, error)
    }

    pub(crate) fn fetching(file: &str, error: ApiError) -> Self {
        Self::of_library(Some(file), error)
    }

    pub(crate) fn cache(path: &Path, cause: &std::io::Error) -> Self {
        Self::Cache {
            path: path.display().to_string(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn commit(file: &str, commit: &str) -> Self {
        let (file, commit) = (file.into(), commit.into());
        Self::Commit { file, commit }
    }

    pub(crate) fn unclear(unclear: Unclear, files: &[&str]) -> Self {
        match unclear {
            Unclear::NoWeights => Self::no_weights(files),
            other => Self::Gguf(other),
        }
    }

    fn no_weights(files: &[&str]) -> Self {
        const MOST: usize = 12;
        let some = &files[..files.len().min(MOST)];
        let files = match files.len() {
            0 => "nothing at all".into(),
            all if all > MOST => format!("{} and {} more", some.join(", "), all - MOST),
            _ => some.join(", "),
        };
        Self::NoWeights { files }
    }

    fn of_library(file: Option<&str>, error: ApiError) -> Self {
        let what = file.map_or_else(|| "listing its files".into(), |f| format!("fetching {f}"));
        match error {
            ApiError::InvalidResume => Self::Part {
                file: file.unwrap_or_default().into(),
            },
            ApiError::IoError(cause) if is_about_disks(&cause) => Self::Cache {
                path: what,
                cause: cause.to_string(),
            },
            ApiError::RequestError(error) => match (*error, file) {
                // Range not satisfiable: nothing is left to ask for.
                (ureq::Error::StatusCode(416), Some(file)) => Self::Part { file: file.into() },
                (ureq::Error::StatusCode(status), _) => Self::Refused {
                    file: file.map(String::from),
                    status,
                    reason: None,
                },
                (other, _) => Self::Connection {
                    what,
                    cause: other.to_string(),
                },
            },
            other => Self::Connection {
                what,
                cause: other.to_string(),
            },
        }
    }

    /// Whether it may be over soon.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Connection { .. } | Self::Part { .. } | Self::Length { .. } => true,
            Self::Commit { .. }
            | Self::NoWeights { .. }
            | Self::Gguf(_)
            | Self::Offline { .. }
            | Self::Space { .. }
            | Self::Cache { .. } => false,
        }
    }

    /// Whether what has arrived of a file must go before it can be fetched.
    pub(crate) fn is_about_the_part(&self) -> bool {
        matches!(self, Self::Part { .. })
    }

    fn cure(&self, has_token: bool, id: &str, endpoint: &str) -> String {
        match self {
            Self::Refused { status, .. } => match (status, has_token) {
                (401 | 403, false) => format!(
                    "there is no such repository, or only those may read it who have a token: \
                     check the name, or set HF_TOKEN to the token of an account that has access \
                     (see {endpoint}/{id})"
                ),
                (401, true) => {
                    "the hub does not know the token: check HF_TOKEN and the name".into()
                }
                (403, true) => {
                    format!("the account of HF_TOKEN has no access: ask for it at {endpoint}/{id}")
                }
                (404, _) => "check the name and option.revision".into(),
                (429, false) => {
                    "wait, or set HF_TOKEN: the hub limits nameless clients more".into()
                }
                _ => "try again later".into(),
            },
            Self::Connection { .. } => {
                "check the network, HTTPS_PROXY and HF_ENDPOINT, or put the \
                                        files into a directory and serve that"
                    .into()
            }
            Self::Part { .. } => "remove the files *.part from the cache".into(),
            Self::Length { .. } => "try again; what has arrived of other files is kept".into(),
            Self::Commit { .. } => "start again: the repository has changed meanwhile".into(),
            Self::NoWeights { .. } => "name a repository with a checkpoint of transformers".into(),
            Self::Gguf(_) => format!("its files are listed at {endpoint}/{id}/tree/main"),
            Self::Offline { .. } => {
                "start once without it, or set HF_HOME to a cache that has the model".into()
            }
            Self::Space { .. } | Self::Cache { .. } => {
                "set HF_HOME to a directory with room that can be written".into()
            }
        }
    }
}

/// The library has one error for both ends of a copy.
fn is_about_disks(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        cause.kind(),
        PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
    )
}

fn refused(file: Option<&str>) -> String {
    match file {
        Some(file) => format!("the hub refuses {file}"),
        None => "the hub refuses it".into(),
    }
}

fn quoted(reason: Option<&str>) -> impl fmt::Display {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}
