//! Files of `torch.save`: a zip archive of raw storages and one pickle that says which tensor is which part of which storage.
//! The pickle is read as data by a machine that knows no calls but those that rebuild tensors; nothing is executed.

mod error;
mod globals;
mod state_dict;
mod unpickle;
mod value;
mod zip;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use self::value::{Heap, Tensor, Value};
use self::zip::Archive;
use super::buffer::Buffer;
use super::checkpoint::{Contents, Format, Stored};
use super::error::WeightError;
use super::host_tensor::{HostTensor, span};
pub use error::{PickleError, PickleProblem};

/// How zip archives begin, and bare pickles.
const ZIP: &[u8] = b"PK\x03\x04";
const PICKLE: u8 = 0x80;
/// Bytes of a tensor's name.
const MAX_NAME: usize = 4096;
/// Bytes to which a tensor may be expanded even in a smaller file.
const MIN_EXPANSION: usize = 1 << 20;

/// Views of all tensors of the mapped file's state dict.
pub(crate) fn read(path: &Path, buffer: &Arc<Buffer>) -> Result<Contents, WeightError> {
    let bytes = buffer.bytes();
    if !bytes.starts_with(ZIP) {
        return Err(match bytes.first() {
            Some(&PICKLE) => WeightError::LegacyTorch {
                path: path.to_owned(),
            },
            _ => malformed(
                path,
                "it does not begin like a zip archive; download it again",
            ),
        });
    }
    let archive = Archive::open(path, bytes)?;
    if let Some(order) = archive.find("byteorder")?.map(|range| &bytes[range])
        && order != b"little"
    {
        let order = String::from_utf8_lossy(order);
        return Err(malformed(
            path,
            format!("its numbers are in `{order:.16}` byte order, only `little` is supported"),
        ));
    }
    let pickle = archive
        .find("data.pkl")?
        .ok_or_else(|| malformed(path, "`data.pkl` is missing"))?;
    let fail = |cause| WeightError::Pickle {
        path: path.to_owned(),
        cause,
    };
    let (heap, content) = unpickle::unpickle(&bytes[pickle]).map_err(fail)?;
    let items = state_dict::find(&heap, content).map_err(|problem| WeightError::StateDict {
        path: path.to_owned(),
        problem,
    })?;
    let file = TorchFile {
        path,
        buffer,
        archive,
        heap: &heap,
    };
    let mut contents = Contents::new();
    for &(key, value) in items {
        if let Some(tensor) = heap.tensor(value) {
            let name = file.name(key)?;
            contents.insert(name.to_owned(), Stored::Tensor(file.view(name, tensor)?));
        }
    }
    Ok(contents)
}

pub(super) fn malformed(path: &Path, problem: impl Into<String>) -> WeightError {
    WeightError::Malformed {
        path: path.to_owned(),
        format: Format::Torch.name(),
        problem: problem.into(),
    }
}

struct TorchFile<'a> {
    path: &'a Path,
    buffer: &'a Arc<Buffer>,
    archive: Archive<'a>,
    heap: &'a Heap<'a>,
}

impl TorchFile<'_> {
    fn name(&self, key: Value) -> Result<&str, WeightError> {
        match self.heap.text(key) {
            Ok(name) if name.len() <= MAX_NAME => Ok(name),
            Ok(name) => Err(malformed(
                self.path,
                format!(
                    "a tensor's name has {} bytes, the limit is {MAX_NAME}",
                    name.len()
                ),
            )),
            Err(_) => {
                let kind = self.heap.name_of(key);
                Err(malformed(
                    self.path,
                    format!("a tensor's name is {kind}, not text"),
                ))
            }
        }
    }

    /// The tensor in place, every element checked to lie in its storage.
    fn view(&self, name: &str, tensor: Tensor) -> Result<HostTensor, WeightError> {
        let fail = |problem: String| malformed(self.path, format!("tensor `{name}`: {problem}"));
        let dimensions = |tuple| {
            self.heap
                .dimensions(tuple)
                .map_err(|problem| fail(problem.to_string()))
        };
        let shape = dimensions(tensor.shape)?;
        let strides = dimensions(tensor.strides)?;
        if shape.len() != strides.len() {
            return Err(fail(format!(
                "sizes {shape:?} and strides {strides:?} differ in number"
            )));
        }
        let elements =
            span(&shape, &strides).ok_or_else(|| fail(format!("impossible sizes {shape:?}")))?;
        if elements == 0 {
            return HostTensor::view(self.buffer.clone(), 0, tensor.dtype, shape, strides);
        }
        // An expanded tensor repeats its storage; a hostile one could ask for any amount of memory when it is copied.
        let packed = shape
            .iter()
            .copied()
            .try_fold(tensor.dtype.size(), usize::checked_mul);
        let limit = self.buffer.bytes().len().max(MIN_EXPANSION);
        if packed.is_none_or(|bytes| bytes > limit) {
            return Err(fail(format!(
                "sizes {shape:?} expand it beyond {limit} bytes"
            )));
        }
        let storage = self.storage(&fail, tensor)?;
        let size = tensor.dtype.size();
        let offset = tensor.offset.checked_mul(size);
        let end = elements
            .checked_mul(size)
            .zip(offset)
            .and_then(|(bytes, offset)| offset.checked_add(bytes));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= storage.len() => HostTensor::view(
                self.buffer.clone(),
                storage.start + offset,
                tensor.dtype,
                shape,
                strides,
            ),
            _ => Err(fail(format!(
                "sizes {shape:?}, strides {strides:?} and offset {} leave the {} bytes of its storage",
                tensor.offset,
                storage.len()
            ))),
        }
    }

    /// Place of the tensor's storage in the file.
    fn storage(
        &self,
        fail: &dyn Fn(String) -> WeightError,
        tensor: Tensor,
    ) -> Result<Range<usize>, WeightError> {
        let key = self
            .heap
            .text(tensor.storage.key)
            .map_err(|problem| fail(problem.to_string()))?;
        let entry = self
            .archive
            .find(&format!("data/{key}"))?
            .ok_or_else(|| fail(format!("its storage `data/{key:.64}` is not in the file")))?;
        let unit = tensor.storage.dtype.map_or(1, |dtype| dtype.size());
        match tensor.storage.elements.checked_mul(unit) {
            Some(bytes) if bytes <= entry.len() => Ok(entry.start..entry.start + bytes),
            _ => Err(fail(format!(
                "its storage `data/{key:.64}` has {} bytes in place of {} times {unit}",
                entry.len(),
                tensor.storage.elements
            ))),
        }
    }
}
