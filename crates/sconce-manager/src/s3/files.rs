//! A prefix as files that are read in parts; nothing goes into the cache.

use std::ops::Range;
use std::time::Duration;

use sconce_config::S3Model;

use super::bucket::Bucket;
use super::error::{Asked, Problem, S3Error};
use crate::error::ManagerError;
use crate::remote::{Remote, RemoteFile};
use crate::wanted::Unclear;

/// Whoever asks waits in front of a terminal.
const PATIENCE: Duration = Duration::from_secs(15);

/// The objects below a prefix.
pub(crate) struct S3Files<'a> {
    model: &'a S3Model,
    bucket: Bucket,
}

impl<'a> S3Files<'a> {
    pub(crate) fn open(model: &'a S3Model) -> Result<Self, ManagerError> {
        let bucket = Bucket::open(model, PATIENCE).map_err(|problem| error(model, problem))?;
        Ok(Self { model, bucket })
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
        let file = self.bucket.files().iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| Problem::Connection {
            asked: Asked::Object(name.into()),
            cause: "the listing does not name it".into(),
        });
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
