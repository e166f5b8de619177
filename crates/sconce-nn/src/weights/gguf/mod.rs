//! GGUF files, llama.cpp's format: keys with the model's settings and its tokenizer, then tensors, all in one file or
//! in a set of files with numbers in their names.
//!
//! candle's own reader is not used: it allocates as many bytes and entries as a header announces before it looks
//! whether the file has them, and it reads tensors into memory, where these are views of the map.

mod cursor;
mod find;
mod header;
mod metadata;
#[cfg(test)]
mod tests;
mod types;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WeightSource;
use super::checkpoint::{Checkpoint, Contents, map};
use super::elsewhere::Numbers;
use super::error::WeightError;
use super::host_tensor::HostTensor;

pub use find::{find, first_files, set_of};
pub use header::header_end;
pub use metadata::Metadata;

/// What such files are called in errors.
const FORMAT: &str = "GGUF";

/// The checkpoint of a GGUF file or of a whole split set: tensors under the names and in the order that the file has
/// them, and its keys.
#[derive(Debug)]
pub struct Gguf {
    checkpoint: Checkpoint,
    metadata: Metadata,
}

impl Gguf {
    /// Maps the file, or all files of the set that it is the first of, and reads what stands before the numbers.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let paths = find::split_set(path)?;
        let mut metadata = None;
        let mut files: Vec<(PathBuf, Contents)> = Vec::with_capacity(paths.len());
        for path in paths {
            let buffer = Arc::new(map(&path, FORMAT)?);
            let (keys, contents) = header::read(&path, &buffer)?;
            find::check_split(&keys, &path)?;
            metadata.get_or_insert(keys);
            files.push((path, contents));
        }
        let Some(metadata) = metadata else {
            return Err(malformed(path, "its set of files is empty".to_owned()));
        };
        Ok(Self {
            checkpoint: Checkpoint::join(path.to_owned(), files)?,
            metadata,
        })
    }

    /// The same file in a folder, of which only the keys and the list of tensors are true, while `numbers` has the rest.
    pub fn elsewhere(self, dir: &Path, numbers: &Arc<dyn Numbers>) -> Self {
        Self {
            checkpoint: self.checkpoint.elsewhere(dir, numbers),
            ..self
        }
    }

    /// The keys of the file, of the first one of a set.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl WeightSource for Gguf {
    fn names(&self) -> Vec<String> {
        self.checkpoint.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.checkpoint.get(name)
    }

    fn numbers(&self) -> Option<&Arc<dyn Numbers>> {
        self.checkpoint.numbers()
    }

    fn total_bytes(&self) -> u64 {
        self.checkpoint.total_bytes()
    }

    fn describe(&self) -> String {
        self.checkpoint.describe()
    }
}

fn malformed(path: &Path, problem: String) -> WeightError {
    WeightError::Malformed {
        path: path.to_owned(),
        format: FORMAT,
        problem,
    }
}
