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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use safetensors::tensor::{TensorView, serialize};

    use super::*;
    use crate::weights::buffer::AlignedBytes;

    fn sample() -> Vec<u8> {
        let data: Vec<u8> = (0..24).collect();
        let tensors = [
            (
                "matrix",
                TensorView::new(Dtype::F32, vec![2, 3], &data).unwrap(),
            ),
            (
                "mask",
                TensorView::new(Dtype::BOOL, vec![3], &data[..3]).unwrap(),
            ),
            (
                "small",
                TensorView::new(Dtype::F8_E4M3, vec![2], &data[..2]).unwrap(),
            ),
            (
                "none",
                TensorView::new(Dtype::BF16, vec![0, 4], &[]).unwrap(),
            ),
        ];
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize(tensors, Some(metadata)).unwrap()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Contents, WeightError> {
        let mut owned = AlignedBytes::zeroed(bytes.len());
        owned.bytes_mut().copy_from_slice(bytes);
        read(
            Path::new("model.safetensors"),
            &Arc::new(Buffer::Owned(owned)),
        )
    }

    fn with_header(json: &str, data: &[u8]) -> Vec<u8> {
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
    }

    #[test]
    fn tensors_are_views_of_what_the_crate_wrote() {
        let contents = read_bytes(&sample()).unwrap();
        let Stored::Tensor(matrix) = &contents["matrix"] else {
            unreachable!()
        };
        assert_eq!(
            (matrix.dtype(), matrix.shape()),
            (StoredDtype::F32, &[2, 3][..])
        );
        assert_eq!(matrix.row_bytes(1), (12..24).collect::<Vec<u8>>());
        let Stored::Tensor(mask) = &contents["mask"] else {
            unreachable!()
        };
        assert_eq!(mask.to_vec_f32().unwrap(), [0.0, 1.0, 1.0]);
        assert!(matches!(&contents["small"], Stored::Unsupported(name) if name == "F8_E4M3"));
        assert!(matches!(&contents["none"], Stored::Tensor(none) if none.elements() == 0));
    }

    #[test]
    fn a_short_file_says_how_many_bytes_are_missing() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let error = read_bytes(&bytes[..end]).unwrap_err();
            assert!(
                matches!(error, WeightError::Truncated { .. }),
                "cut at {end}: {error}"
            );
        }
        let message = read_bytes(&bytes[..bytes.len() - 1])
            .unwrap_err()
            .to_string();
        let sizes = format!(
            "{} bytes expected, {} found; download it again",
            bytes.len(),
            bytes.len() - 1
        );
        assert!(message.contains(&sizes), "{message}");
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        let one = |fields: &str| format!(r#"{{"w":{{{fields}}}}}"#);
        for (json, data, part) in [
            ("{", &[][..], "header: "),
            ("[]", &[], "header: "),
            (
                &one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#),
                &[0; 9],
                "accounts for",
            ),
            (
                &one(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#),
                &[0; 8],
                "header: ",
            ),
            (
                &one(r#""dtype":"F32","shape":[1],"data_offsets":[4,8]"#),
                &[0; 8],
                "header: ",
            ),
            (
                &one(r#""dtype":"F99","shape":[1],"data_offsets":[0,4]"#),
                &[0; 4],
                "header: ",
            ),
            (
                &one(r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#),
                &[],
                "header: ",
            ),
        ] {
            let message = read_bytes(&with_header(json, data))
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with("model.safetensors is not a valid safetensors file"),
                "{message}"
            );
            assert!(message.contains(part), "{message}");
        }
        let message = read_bytes(b"<!DOCTYPE html><html>")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("\"<!DOCTYP\" state a header of"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn changed_files_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = sample();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            for stored in read_bytes(&bytes).into_iter().flat_map(Contents::into_values) {
                if let Stored::Tensor(tensor) = stored {
                    prop_assert_eq!(tensor.to_vec_f32().unwrap().len(), tensor.elements());
                }
            }
        }
    }
}
