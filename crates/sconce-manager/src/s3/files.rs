//! A prefix as files that are read in parts; nothing goes into the cache.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sconce_config::S3Model;

use super::bucket::Bucket;
use super::error::{Problem, S3Error};
use crate::error::ManagerError;
use crate::remote::{Remote, RemoteFile};
use crate::wanted::Unclear;

/// Whoever asks waits in front of a terminal.
const PATIENCE: Duration = Duration::from_secs(15);

/// The objects below a prefix.
pub(crate) struct S3Files<'a> {
    model: &'a S3Model,
    bucket: Bucket,
    /// A folder with some of them.
    here: Option<(PathBuf, Vec<String>)>,
}

impl<'a> S3Files<'a> {
    pub(crate) fn open(model: &'a S3Model) -> Result<Self, ManagerError> {
        let bucket = Bucket::open(model, PATIENCE).map_err(|problem| error(model, problem))?;
        Ok(Self::of(model, bucket))
    }

    /// Those of a bucket that is open.
    pub(super) fn of(model: &'a S3Model, bucket: Bucket) -> Self {
        let here = None;
        Self {
            model,
            bucket,
            here,
        }
    }

    /// The same, where those of these names are in a folder already.
    pub(super) fn partly_here(
        model: &'a S3Model,
        bucket: Bucket,
        dir: &Path,
        names: Vec<String>,
    ) -> Self {
        let here = Some((dir.into(), names));
        Self {
            model,
            bucket,
            here,
        }
    }

    pub(super) fn into_bucket(self) -> Bucket {
        self.bucket
    }

    /// The file in which an object is already.
    fn copy(&self, name: &str) -> Option<PathBuf> {
        let (dir, names) = self.here.as_ref()?;
        names
            .iter()
            .any(|there| there == name)
            .then(|| dir.join(name))
    }
}

fn error(model: &S3Model, problem: Problem) -> ManagerError {
    ManagerError::S3(Box::new(S3Error::new(model, problem)))
}

impl Remote for S3Files<'_> {
    fn list(&self) -> Result<Vec<RemoteFile>, ManagerError> {
        let files = self.bucket.files().iter().map(|file| RemoteFile {
            name: file.name.clone(),
            size: file.size,
        });
        Ok(files.collect())
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, ManagerError> {
        if range.is_empty() {
            return Ok(vec![]);
        }
        if let Some(copy) = self.copy(name) {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let read =
                File::open(&copy).and_then(|file| file.read_exact_at(&mut bytes, range.start));
            let read = read.map_err(|cause| error(self.model, Problem::cache(&copy, &cause)));
            return read.map(|()| bytes);
        }
        let file = self.bucket.files().iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| Problem::unlisted(name));
        let bytes = file.and_then(|file| self.bucket.read(file, range));
        bytes.map_err(|problem| error(self.model, problem))
    }

    fn describe(&self) -> String {
        self.model.url()
    }

    fn unclear(&self, unclear: Unclear, names: &[&str]) -> ManagerError {
        error(self.model, Problem::unclear(unclear, names))
    }
}
