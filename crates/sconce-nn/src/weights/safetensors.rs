//! One safetensors file: a JSON header that names types, shapes and byte ranges, then the numbers.
//! The header is parsed and checked by the `safetensors` crate; this adds views in place and errors that name sizes.

use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::buffer::Buffer;
use super::checkpoint::{Contents, Format, Stored};
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::{HostTensor, row_major};

/// Bytes of the number before the header that states its length.
const PREFIX: usize = 8;
/// The longest header the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Views of all tensors of the mapped file.
pub(crate) fn read(path: &Path, buffer: &Arc<Buffer>) -> Result<Contents, WeightError> {
    let (metadata, begin) = header(path, buffer.bytes())?;
    let mut contents = Contents::new();
    for (name, info) in metadata.tensors() {
        let stored = match stored_dtype(info.dtype) {
            Some(dtype) => {
                let offset = begin + info.data_offsets.0;
                let shape = info.shape.clone();
                let strides = row_major(&shape);
                Stored::Tensor(HostTensor::view(
                    buffer.clone(),
                    offset,
                    dtype,
                    shape,
                    strides,
                )?)
            }
            None => Stored::Unsupported(format!("{:?}", info.dtype)),
        };
        contents.insert(name, stored);
    }
    Ok(contents)
}

/// The parsed header and the place of the first number, with the file's size checked against both.
fn header(path: &Path, bytes: &[u8]) -> Result<(Metadata, usize), WeightError> {
    let truncated = |expected: u64| WeightError::Truncated {
        path: path.to_owned(),
        expected,
        actual: bytes.len() as u64,
    };
    let malformed = |problem: String| WeightError::Malformed {
        path: path.to_owned(),
        format: Format::Safetensors.name(),
        problem,
    };
    let (prefix, rest) = bytes
        .split_first_chunk::<PREFIX>()
        .ok_or_else(|| truncated(PREFIX as u64))?;
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER {
        return Err(malformed(format!(
            "its first bytes {:?} state a header of {length} bytes, the limit is {MAX_HEADER}; is it the file that was meant?",
            String::from_utf8_lossy(prefix)
        )));
    }
    // The limit above fits every usize.
    let length = length as usize;
    let json = rest
        .get(..length)
        .ok_or_else(|| truncated((PREFIX + length) as u64))?;
    let metadata: Metadata =
        serde_json::from_slice(json).map_err(|cause| malformed(format!("header: {cause}")))?;
    let begin = PREFIX + length;
    let end = begin as u64 + metadata.data_len() as u64;
    if end > bytes.len() as u64 {
        return Err(truncated(end));
    }
    if end < bytes.len() as u64 {
        return Err(malformed(format!(
            "its header accounts for {end} bytes, the file has {}",
            bytes.len()
        )));
    }
    Ok((metadata, begin))
}

fn stored_dtype(dtype: Dtype) -> Option<StoredDtype> {
    Some(match dtype {
        Dtype::F64 => StoredDtype::F64,
        Dtype::F32 => StoredDtype::F32,
        Dtype::F16 => StoredDtype::F16,
        Dtype::BF16 => StoredDtype::BF16,
        Dtype::I64 => StoredDtype::I64,
        Dtype::I32 => StoredDtype::I32,
        Dtype::I16 => StoredDtype::I16,
        Dtype::I8 => StoredDtype::I8,
        Dtype::U64 => StoredDtype::U64,
        Dtype::U32 => StoredDtype::U32,
        Dtype::U16 => StoredDtype::U16,
        Dtype::U8 => StoredDtype::U8,
        Dtype::BOOL => StoredDtype::Bool,
        _ => return None,
    })
}
