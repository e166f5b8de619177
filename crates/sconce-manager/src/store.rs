//! Where a model's files come from: a directory as it is, or a hub's repository or a
//! prefix of S3 in the cache.

use std::path::{Path, PathBuf};

use sconce_config::{ModelSettings, ModelSource};
use sconce_core::Observer;
use tracing::warn;

use crate::coming::Coming;
use crate::error::ManagerError;
use crate::{hub, s3};

/// Where a model's files are.
pub(crate) enum Place {
    /// In a directory.
    Here(PathBuf),
    /// Its weights are on their way.
    Coming(Coming),
}

impl Place {
    /// The directory with all files, or with texts and headers.
    pub(crate) fn headers(&self) -> &Path {
        match self {
            Self::Here(dir) => dir,
            Self::Coming(coming) => coming.headers(),
        }
    }
}

/// Where the model's files are, for who can begin before weights are there. `streams`: weights in S3 are not to be kept.
pub(crate) fn begin(
    source: &ModelSource,
    streams: bool,
    observer: &Observer,
) -> Result<Place, ManagerError> {
    match source {
        ModelSource::S3(model) => Ok(s3::begin(model, streams, observer)?),
        other => {
            if streams {
                warn!("option.load_format = stream has no effect: only models in S3 are streamed");
            }
            directory(other, observer).map(Place::Here)
        }
    }
}

/// The directory that holds the model's files, fetched first if need be.
pub(crate) fn directory(
    source: &ModelSource,
    observer: &Observer,
) -> Result<PathBuf, ManagerError> {
    match source {
        ModelSource::Directory(dir) => Ok(dir.clone()),
        ModelSource::Hub(model) => Ok(hub::snapshot(model, observer)?),
        ModelSource::S3(model) => Ok(s3::snapshot(model, observer)?),
    }
}

/// The directory with the files of a model that has been loaded; `None`: it was not fetched yet.
pub fn files_of(model: &ModelSettings) -> Option<PathBuf> {
    match &model.source {
        ModelSource::Directory(dir) => Some(dir.clone()),
        ModelSource::Hub(model) => hub::cached(model),
        ModelSource::S3(model) => s3::cached(model),
    }
}
