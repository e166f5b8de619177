//! What is asked of others on the way to settings: this crate opens no archive and speaks to no network.

use std::path::{Path, PathBuf};

use crate::bucket::BucketFolder;
use crate::settings::S3Model;

/// Who reaches what is no directory of this machine.
pub trait Outside {
    /// What there is below a prefix of S3 that is a model, asked once for each; `None`: that cannot be known now.
    fn folder(&self, model: &S3Model) -> Option<BucketFolder>;
    /// The directory with what an archive of this machine holds, below one of `caches`: the first one that can be written
    /// counts.
    ///
    /// # Errors
    /// Why it is not unpacked, as the end of a sentence.
    fn unpacked(&self, archive: &Path, caches: &[PathBuf]) -> Result<PathBuf, String>;
}

/// Reaches nothing: what is no directory stays unknown.
#[derive(Clone, Copy, Debug)]
pub struct Unreached;

impl Outside for Unreached {
    fn folder(&self, _: &S3Model) -> Option<BucketFolder> {
        None
    }

    fn unpacked(&self, _: &Path, _: &[PathBuf]) -> Result<PathBuf, String> {
        Err("is not unpacked here".into())
    }
}
