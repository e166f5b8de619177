//! Where a model's files come from: a directory as it is, or a hub's repository or a
//! prefix of S3 in the cache.

use std::path::PathBuf;

use sconce_config::{ModelSettings, ModelSource};
use sconce_core::Observer;

use crate::error::ManagerError;
use crate::{hub, s3};

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
