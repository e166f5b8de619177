//! Where a model's files come from: a directory as it is, or a hub's repository or a
//! prefix of S3 in the cache.

use std::path::PathBuf;

use sconce_config::ModelSource;
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
