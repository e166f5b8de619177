//! A model that is loaded while it is fetched: its texts and the headers of its weights are in a folder, and the numbers
//! come when they are asked for, or are on their way to the disk. Who fetches them is left to `s3`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_core::{Observer, Task};
use sconce_engine::Numbers;
use tempfile::TempDir;

use crate::error::ManagerError;

/// Whoever fetches the numbers of a model.
pub(crate) trait Fetching: Send + Sync {
    /// Where numbers are read.
    fn numbers(self: Arc<Self>) -> Arc<dyn Numbers>;

    /// Where the files will be when all have come; `None`: nowhere, as nothing is kept.
    fn kept(&self) -> Option<PathBuf>;

    /// Waits until all have come.
    fn wait(&self, observer: &Observer) -> Result<(), ManagerError>;

    /// The first cause why numbers do not come.
    fn failure(&self) -> Option<ManagerError>;

    /// Ends fetching what nobody wants any more.
    fn abandon(&self);
}

/// Such a model.
pub(crate) struct Coming {
    /// Texts, and weight files that have headers alone.
    headers: TempDir,
    fetching: Arc<dyn Fetching>,
    is_wanted: bool,
}

impl Coming {
    pub(crate) fn new(headers: TempDir, fetching: Arc<dyn Fetching>) -> Self {
        Self {
            headers,
            fetching,
            is_wanted: false,
        }
    }

    /// What is there already.
    pub(crate) fn headers(&self) -> &Path {
        self.headers.path()
    }

    /// What follows the headers.
    pub(crate) fn numbers(&self) -> Arc<dyn Numbers> {
        Arc::clone(&self.fetching).numbers()
    }

    /// Where the model will be, or where it is as far as it is kept.
    pub(crate) fn dir(&self) -> PathBuf {
        let kept = self.fetching.kept();
        kept.unwrap_or_else(|| self.headers.path().into())
    }

    /// The folder with all files, once they have come; for models that are loaded from files.
    pub(crate) fn whole(
        mut self,
        task: Task,
        observer: &Observer,
    ) -> Result<PathBuf, ManagerError> {
        let Some(dir) = self.fetching.kept() else {
            return Err(ManagerError::NotStreamed { task });
        };
        self.fetching.wait(observer)?;
        self.is_wanted = true;
        Ok(dir)
    }

    /// The cause of an error of loading, if it is that numbers do not come.
    pub(crate) fn cause(&self, error: ManagerError) -> ManagerError {
        self.fetching.failure().unwrap_or(error)
    }

    /// The model is loaded: what has not come yet is still fetched, for the next start.
    pub(crate) fn settle(mut self) {
        self.is_wanted = true;
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if !self.is_wanted {
            self.fetching.abandon();
        }
    }
}
