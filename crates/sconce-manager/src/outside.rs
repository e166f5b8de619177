//! What configuration asks of whoever fetches and unpacks.

use std::path::{Path, PathBuf};

use sconce_config::{BucketFolder, Outside, S3Model};

use crate::{archive, s3};

/// Reaches S3, and unpacks archives.
#[derive(Clone, Copy, Debug)]
pub struct Reached;

impl Outside for Reached {
    fn folder(&self, model: &S3Model) -> Option<BucketFolder> {
        s3::bucket_folder(model)
    }

    fn unpacked(&self, archive: &Path, caches: &[PathBuf]) -> Result<PathBuf, String> {
        archive::unpacked(archive, caches)
    }
}
