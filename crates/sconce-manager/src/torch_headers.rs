//! The parts of a torch file elsewhere that say which tensors it has: the zip directory at its
//! end, the pickle, and a local header before each storage.
//!
//! Fetching a local header for each of hundreds of storages would take hundreds of requests, and
//! tells nothing: they are written as `torch.save` writes them, numbers aligned to 64 bytes.

use std::ops::Range;

use crate::error::ManagerError;
use crate::remote::{Part, Read};

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_LEN: u64 = 30;
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const CENTRAL_LEN: usize = 46;
const END: [u8; 4] = *b"PK\x05\x06";
const END64: [u8; 4] = *b"PK\x06\x06";
const EXTRA64: u16 = 1;

/// Where `torch.save` begins storages, in bytes.
const ALIGNMENT: u64 = 64;

/// What is fetched of the end at first: the directory of thousands of storages is shorter.
const TAIL: u64 = 1 << 20;

/// Entries up to this size are fetched; the pickle and the byte order are, storages need not be.
const SMALL: u64 = 64 << 20;

/// One entry of the directory.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: Vec<u8>,
    /// Where the local header begins.
    header: u64,
    size: u64,
}

/// The parts of a file of `size` bytes. A file that is no archive gives its two ends, and the
/// reader of the folder says what is wrong with it.
pub(crate) fn parts(size: u64, read: &Read) -> Result<Vec<Part>, ManagerError> {
    let begin = size.saturating_sub(TAIL);
    let mut tail = read(begin..size)?;
    let mut start = begin;
    if let Some(range) = directory(&tail, begin)
        && range.start < begin
    {
        let mut longer = read(range.start..begin)?;
        longer.append(&mut tail);
        (tail, start) = (longer, range.start);
    }
    let mut parts = Vec::new();
    let entries = directory(&tail, start).and_then(|range| {
        entries(tail.get((range.start - start) as usize..(range.end - start) as usize)?)
    });
    for entry in entries.iter().flatten() {
        let is_meta = entry.name.ends_with(b"data.pkl") || entry.name.ends_with(b"byteorder");
        if is_meta && entry.size <= SMALL && entry.header < start {
            let longest = LOCAL_LEN + entry.name.len() as u64 + 2 * ALIGNMENT + entry.size;
            let end = (entry.header + longest).min(start);
            parts.push((entry.header, read(entry.header..end)?));
        } else if entry.header < start {
            parts.push((entry.header, local_header(entry)));
        }
    }
    if parts.is_empty() && start > 0 {
        parts.push((0, read(0..start.min(ALIGNMENT))?));
    }
    parts.push((start, tail));
    Ok(parts)
}

/// A local header whose numbers begin on the next boundary.
fn local_header(entry: &Entry) -> Vec<u8> {
    let begin = entry.header + LOCAL_LEN + entry.name.len() as u64;
    let extra = (begin.next_multiple_of(ALIGNMENT) - begin) as u16;
    let mut bytes = LOCAL.to_vec();
    bytes.resize(26, 0);
    bytes.extend((entry.name.len() as u16).to_le_bytes());
    bytes.extend(extra.to_le_bytes());
    bytes.extend(&entry.name);
    bytes
}

/// Where the directory lies in the file, from the records at its end; `tail` begins at `begin`.
fn directory(tail: &[u8], begin: u64) -> Option<Range<u64>> {
    let find = |mark: &[u8; 4]| tail.windows(4).rposition(|window| window == mark);
    let end = find(&END)?;
    let (size, at) = (u32_at(tail, end + 12)?, u32_at(tail, end + 16)?);
    let (size, at) = match (size, at) {
        (u32::MAX, _) | (_, u32::MAX) => {
            let end = find(&END64)?;
            (u64_at(tail, end + 40)?, u64_at(tail, end + 48)?)
        }
        (size, at) => (u64::from(size), u64::from(at)),
    };
    let range = at..at.checked_add(size)?;
    (range.end <= begin + tail.len() as u64).then_some(range)
}

fn entries(mut directory: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while directory.starts_with(&CENTRAL) {
        let name_end = CENTRAL_LEN + usize::from(u16_at(directory, 28)?);
        let extra_end = name_end + usize::from(u16_at(directory, 30)?);
        let end = extra_end + usize::from(u16_at(directory, 32)?);
        let mut packed = u64::from(u32_at(directory, 20)?);
        let mut entry = Entry {
            name: directory.get(CENTRAL_LEN..name_end)?.to_vec(),
            header: u64::from(u32_at(directory, 42)?),
            size: u64::from(u32_at(directory, 24)?),
        };
        let extra = directory.get(name_end..extra_end)?;
        widen([&mut entry.size, &mut packed, &mut entry.header], extra)?;
        entries.push(entry);
        directory = directory.get(end..)?;
    }
    Some(entries)
}

/// Replaces the fields that are full by those of the ZIP64 extra field.
fn widen(fields: [&mut u64; 3], mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let end = 4 + usize::from(u16_at(extra, 2)?);
        if u16_at(extra, 0)? == EXTRA64 {
            let full = fields
                .into_iter()
                .filter(|field| **field == u64::from(u32::MAX));
            for (index, field) in full.enumerate() {
                *field = u64_at(extra, 4 + 8 * index)?;
            }
            return Some(());
        }
        extra = extra.get(end..)?;
    }
    Some(())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_header_puts_its_numbers_on_a_boundary() {
        let entry = Entry {
            name: b"archive/data/7".to_vec(),
            header: 1000,
            size: 4,
        };
        let bytes = local_header(&entry);
        let extra = u64::from(u16_at(&bytes, 28).unwrap());
        assert_eq!((1000 + bytes.len() as u64 + extra) % 64, 0);
        assert!(bytes.ends_with(b"archive/data/7"));
    }

    #[test]
    fn what_is_no_archive_gives_its_ends() {
        let file = vec![7_u8; 3 << 20];
        let read = |range: Range<u64>| Ok(file[range.start as usize..range.end as usize].to_vec());
        let parts = parts(file.len() as u64, &read).unwrap();
        assert_eq!((parts[0].0, parts[0].1.len()), (0, 64));
        assert_eq!(parts[1].0, 2 << 20);
    }
}
