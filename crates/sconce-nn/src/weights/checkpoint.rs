//! One checkpoint, of one file or of several shards, as a source of tensors.
//! What a file's bytes mean is left to `safetensors`, `torch` and `gguf`, which files belong together to `index`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WeightSource;
use super::buffer::Buffer;
use super::elsewhere::{self, Numbers};
use super::error::WeightError;
use super::host_tensor::HostTensor;
use super::{safetensors, torch};

/// The beginning of every git-lfs pointer file.
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// How many similar names an error lists.
const SIMILAR: usize = 3;

/// The formats of checkpoints that transformers reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    Torch,
}

/// What a file says about one tensor.
#[derive(Debug)]
pub(crate) enum Stored {
    Tensor(HostTensor),
    /// A type without a reader, under the file's name for it: an error only for whoever asks for this tensor.
    Unsupported(String),
}

/// All tensors of one file by name.
pub(crate) type Contents = BTreeMap<String, Stored>;

/// Mapped files and their tensors.
pub(crate) struct Checkpoint {
    /// The file or index that was opened.
    origin: PathBuf,
    shards: Vec<PathBuf>,
    /// Each tensor with the position of its file in `shards`.
    tensors: BTreeMap<String, (usize, Stored)>,
    /// Where the numbers are, if the files have headers alone.
    numbers: Option<Arc<dyn Numbers>>,
}

impl Checkpoint {
    /// Maps the files and reads their headers; `origin` is the file itself or the index that names the shards.
    pub(crate) fn read(
        origin: PathBuf,
        format: Format,
        shards: Vec<PathBuf>,
    ) -> Result<Self, WeightError> {
        let files = shards.into_iter().map(|path| {
            let contents = contents(&path, format)?;
            Ok((path, contents))
        });
        Self::join(origin, files.collect::<Result<_, WeightError>>()?)
    }

    /// The checkpoint of files that have been read.
    pub(crate) fn join(
        origin: PathBuf,
        files: Vec<(PathBuf, Contents)>,
    ) -> Result<Self, WeightError> {
        let (shards, all): (Vec<PathBuf>, Vec<Contents>) = files.into_iter().unzip();
        let mut tensors = BTreeMap::new();
        for (position, (path, contents)) in shards.iter().zip(all).enumerate() {
            for (name, stored) in contents {
                match tensors.entry(name) {
                    Entry::Vacant(place) => {
                        place.insert((position, stored));
                    }
                    Entry::Occupied(taken) => {
                        return Err(WeightError::Duplicate {
                            name: taken.key().clone(),
                            first: shards[taken.get().0].clone(),
                            second: path.clone(),
                        });
                    }
                }
            }
        }
        Ok(Self {
            origin,
            shards,
            tensors,
            numbers: None,
        })
    }

    /// The same checkpoint, of whose files in `dir` only the headers are true.
    pub(crate) fn elsewhere(mut self, dir: &Path, numbers: &Arc<dyn Numbers>) -> Self {
        let files: Vec<Arc<str>> = self
            .shards
            .iter()
            .map(|shard| elsewhere::name_of(shard, dir))
            .collect();
        for (shard, stored) in self.tensors.values_mut() {
            if let Stored::Tensor(tensor) = stored {
                *tensor = tensor.moved_elsewhere(&files[*shard], numbers);
            }
        }
        self.numbers = Some(Arc::clone(numbers));
        self
    }

    /// Whether the tensor lies in this file.
    pub(crate) fn holds(&self, name: &str, shard: &Path) -> bool {
        self.tensors
            .get(name)
            .is_some_and(|(position, _)| self.shards[*position] == shard)
    }

    /// Names that end in the same two parts, such as those with another prefix.
    fn similar(&self, name: &str) -> Vec<String> {
        let tail = tail(name);
        let alike = self
            .tensors
            .keys()
            .filter(|known| self::tail(known) == tail);
        alike.take(SIMILAR).cloned().collect()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("origin", &self.origin)
            .field("shards", &self.shards)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl WeightSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        match self.tensors.get(name) {
            Some((_, Stored::Tensor(tensor))) => Ok(tensor.clone()),
            Some((position, Stored::Unsupported(dtype))) => Err(WeightError::UnsupportedDtype {
                path: self.shards[*position].clone(),
                name: name.to_owned(),
                dtype: dtype.clone(),
            }),
            None => Err(WeightError::NoTensor {
                name: name.to_owned(),
                origin: self.origin.display().to_string(),
                similar: self.similar(name),
            }),
        }
    }

    fn numbers(&self) -> Option<&Arc<dyn Numbers>> {
        self.numbers.as_ref()
    }

    fn total_bytes(&self) -> u64 {
        let sizes = self.tensors.values().map(|(_, stored)| match stored {
            Stored::Tensor(tensor) => tensor.byte_len() as u64,
            Stored::Unsupported(_) => 0,
        });
        sizes.sum()
    }

    fn describe(&self) -> String {
        match self.shards.len() {
            1 => self.origin.display().to_string(),
            count => format!("{} with {count} shards", self.origin.display()),
        }
    }
}

/// Maps one file and reads what it says about its tensors.
fn contents(path: &Path, format: Format) -> Result<Contents, WeightError> {
    let buffer = Arc::new(map(path, format.name())?);
    match format {
        Format::Safetensors => safetensors::read(path, &buffer),
        Format::Torch => torch::read(path, &buffer),
    }
}

/// Maps one file that is neither empty nor a pointer; `format` is for the message.
pub(crate) fn map(path: &Path, format: &'static str) -> Result<Buffer, WeightError> {
    let fail = |cause| WeightError::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if size == 0 {
        return Err(WeightError::Malformed {
            path: path.to_owned(),
            format,
            problem: "it is empty; download it again".to_owned(),
        });
    }
    let buffer = Buffer::map(&file).map_err(fail)?;
    if is_lfs_pointer(buffer.bytes()) {
        return Err(WeightError::LfsPointer {
            path: path.to_owned(),
        });
    }
    Ok(buffer)
}

/// Whether these are the bytes of a pointer that git-lfs left in the place of a file.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Torch => "torch",
        }
    }
}

/// The last two parts of a dotted name.
fn tail(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at + 1);
    dots.nth(1).map_or(name, |at| &name[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_name_is_its_last_two_parts() {
        assert_eq!(tail("model.layers.0.mlp.weight"), "mlp.weight");
        assert_eq!(tail("mlp.weight"), "mlp.weight");
        assert_eq!(tail("weight"), "weight");
    }
}
