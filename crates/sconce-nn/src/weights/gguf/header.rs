//! What stands before the numbers of a GGUF file: keys, and for each tensor its name, sizes, type and place.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::{malformed, types};
use crate::weights::buffer::{AlignedBytes, Buffer};
use crate::weights::checkpoint::{Contents, Stored};
use crate::weights::error::WeightError;
use crate::weights::host_tensor::{HostTensor, row_major};

const MAGIC: &[u8; 4] = b"GGUF";
/// Version 2 has sizes of 64 bits where version 1 had 32; version 3 differs from it in big-endian files only.
const VERSIONS: [u32; 2] = [2, 3];
/// A key takes at least its length, its type and a value of one byte.
const LEAST_KEY: usize = 8 + 4 + 1;
/// A tensor takes at least the length of its name, its number of dimensions, its type and its place.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;
/// The most dimensions that ggml has.
const MOST_DIMENSIONS: u32 = 4;
const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT: u64 = 32;

/// A tensor as the header describes it.
struct Info<'a> {
    name: &'a str,
    /// As torch has them: the last one is that of neighbours.
    shape: Vec<usize>,
    kind: u32,
    /// From the beginning of the numbers.
    offset: u64,
}

/// The keys of the mapped file and views of all its tensors.
pub(super) fn read(path: &Path, buffer: &Arc<Buffer>) -> Result<(Metadata, Contents), WeightError> {
    let header = Header::parse(path, buffer, buffer.len() as u64)?;
    let mut contents = Contents::new();
    for info in &header.infos {
        let stored = stored(path, buffer, info, &header)?;
        contents.insert(info.name.to_owned(), stored);
    }
    Ok((header.metadata, contents))
}

/// Where the header of a file of `total` bytes ends, of which these are the first; `None`: it takes more of them.
/// For whoever has the file elsewhere.
pub fn header_end(beginning: &[u8], total: u64) -> Result<Option<u64>, WeightError> {
    let mut bytes = AlignedBytes::zeroed(beginning.len());
    bytes.bytes_mut().copy_from_slice(beginning);
    let buffer = Arc::new(Buffer::Owned(bytes));
    match Header::parse(Path::new("a GGUF file"), &buffer, total) {
        Ok(header) => Ok(Some(header.end)),
        Err(WeightError::Truncated { expected, .. }) if expected <= total => Ok(None),
        Err(error) => Err(error),
    }
}

/// What stands before the numbers.
struct Header<'a> {
    metadata: Metadata,
    infos: Vec<Info<'a>>,
    alignment: u64,
    /// The byte behind it.
    end: u64,
}

impl<'a> Header<'a> {
    fn parse(path: &'a Path, buffer: &'a Arc<Buffer>, total: u64) -> Result<Self, WeightError> {
        let bytes = buffer.bytes();
        let mut cursor = Cursor {
            path,
            bytes,
            total,
            at: 0,
        };
        check_begin(&mut cursor)?;
        let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
        let keys = cursor.check_count(keys, LEAST_KEY, &|| "keys".to_owned())?;
        // Those that follow the keys are counted again behind them.
        cursor.check_count(tensors, LEAST_TENSOR, &|| "tensors".to_owned())?;
        let metadata = Metadata::read(&mut cursor, buffer, keys)?;
        let alignment = alignment(&metadata)?;
        let tensors = cursor.check_count(tensors, LEAST_TENSOR, &|| "tensors".to_owned())?;
        let mut names = BTreeSet::new();
        let mut infos = Vec::new();
        for index in 0..tensors {
            let info = info(&mut cursor, index)?;
            if !names.insert(info.name) {
                let problem = format!("it has the tensor `{}` twice", info.name);
                return Err(malformed(path, problem));
            }
            infos.push(info);
        }
        Ok(Self {
            metadata,
            infos,
            alignment,
            end: cursor.at as u64,
        })
    }
}

/// Magic and version.
fn check_begin(cursor: &mut Cursor) -> Result<(), WeightError> {
    let magic = cursor.take(MAGIC.len() as u64)?;
    if magic != MAGIC {
        let found = String::from_utf8_lossy(magic).into_owned();
        return Err(malformed(
            cursor.path,
            format!("its first bytes are {found:?}, not \"GGUF\"; is it the file that was meant?"),
        ));
    }
    let version = cursor.u32()?;
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    let problem = if VERSIONS.contains(&version.swap_bytes()) {
        "it is big-endian, which is not read: convert it with gguf-py's gguf_convert_endian.py, or take a little-endian \
         file"
            .to_owned()
    } else if version == 1 {
        "it is of version 1, which was given up in 2023: convert the model anew with llama.cpp's convert_hf_to_gguf.py"
            .to_owned()
    } else {
        format!("it is of version {version}, but versions 2 and 3 are read")
    };
    Err(malformed(cursor.path, problem))
}

fn alignment(metadata: &Metadata) -> Result<u64, WeightError> {
    // As ggml has it, of 32 bits.
    let sensible = |alignment: &u64| alignment.is_power_of_two() && *alignment <= 1 << 31;
    match metadata.whole(ALIGNMENT_KEY)? {
        None => Ok(ALIGNMENT),
        Some(alignment) if sensible(&alignment) => Ok(alignment),
        Some(_) => Err(metadata.refuse(ALIGNMENT_KEY, "a power of two below 4294967296")),
    }
}

fn info<'a>(cursor: &mut Cursor<'a>, index: usize) -> Result<Info<'a>, WeightError> {
    let name = cursor.text(&|| format!("the name of tensor {index}"))?;
    let dimensions = cursor.u32()?;
    if dimensions > MOST_DIMENSIONS {
        return Err(malformed(
            cursor.path,
            format!(
                "its tensor `{name}` has {dimensions} dimensions, the limit is {MOST_DIMENSIONS}"
            ),
        ));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        let size = cursor.u64()?;
        let size = usize::try_from(size).map_err(|_| too_large(cursor.path, name))?;
        shape.push(size);
    }
    shape.reverse();
    Ok(Info {
        name,
        shape,
        kind: cursor.u32()?,
        offset: cursor.u64()?,
    })
}

/// The tensor as a view of the file, once it is known that all of it lies there.
fn stored(
    path: &Path,
    buffer: &Arc<Buffer>,
    info: &Info,
    header: &Header,
) -> Result<Stored, WeightError> {
    let Info { name, shape, .. } = info;
    // No overflow: the header lies in memory, and alignments are below 4 GiB.
    let (begin, alignment) = (
        header.end.next_multiple_of(header.alignment),
        header.alignment,
    );
    if !info.offset.is_multiple_of(alignment) {
        let problem = format!(
            "its tensor `{name}` begins at {}, which is no multiple of the alignment {alignment}",
            info.offset
        );
        return Err(malformed(path, problem));
    }
    let dtype = match types::stored(info.kind) {
        Ok(dtype) => dtype,
        Err(description) => return Ok(Stored::Unsupported(description)),
    };
    let elements = shape
        .iter()
        .try_fold(1usize, |all, &dim| all.checked_mul(dim));
    let row = shape.last().copied().unwrap_or(1);
    let numbers = dtype.per_block();
    if !row.is_multiple_of(numbers) {
        let problem = format!(
            "its tensor `{name}` has rows of {row} numbers, but a block of {dtype} has {numbers}"
        );
        return Err(malformed(path, problem));
    }
    let length = elements.and_then(|elements| dtype.checked_bytes(elements));
    let Some(length) = length else {
        return Err(too_large(path, name));
    };
    let offset = begin.saturating_add(info.offset);
    let end = offset.saturating_add(length as u64);
    if end > buffer.len() as u64 {
        return Err(WeightError::Truncated {
            path: path.to_owned(),
            expected: end,
            actual: buffer.len() as u64,
        });
    }
    let strides = row_major(shape);
    let view = HostTensor::view(
        buffer.clone(),
        offset as usize,
        dtype,
        shape.clone(),
        strides,
    )?;
    Ok(Stored::Tensor(view))
}

fn too_large(path: &Path, name: &str) -> WeightError {
    malformed(
        path,
        format!("its tensor `{name}` has more numbers than can be counted"),
    )
}
