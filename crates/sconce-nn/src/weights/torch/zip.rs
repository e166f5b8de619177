//! The zip archive around a torch checkpoint: finds entries that are stored as they are, in place.
//! Only what `torch.save` writes: no compression, no encryption, no spanning. Sizes beyond 4 GiB (ZIP64) are read.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::malformed;
use crate::weights::error::WeightError;

const LOCAL: u32 = 0x0403_4b50;
const LOCAL_LEN: usize = 30;
const CENTRAL: u32 = 0x0201_4b50;
const CENTRAL_LEN: usize = 46;
const END: u32 = 0x0605_4b50;
const END_LEN: usize = 22;
const LOCATOR64: u32 = 0x0706_4b50;
const LOCATOR64_LEN: usize = 20;
const END64: u32 = 0x0606_4b50;
/// The extra field that holds sizes too large for 32 bits.
const EXTRA64: u16 = 1;
const STORED: u16 = 0;
const ENCRYPTED: u16 = 1;

/// The directory of an archive over the bytes of the file.
pub(super) struct Archive<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    /// `torch.save` puts all entries in one folder; its name with the slash.
    folder: &'a [u8],
    entries: HashMap<&'a [u8], Entry>,
}

struct Entry {
    /// Where the local header begins.
    header: u64,
    size: u64,
    packed_size: u64,
    method: u16,
    flags: u16,
}

/// Where the directory lies and how many entries it has.
struct Directory {
    range: Range<usize>,
    count: u64,
}

impl<'a> Archive<'a> {
    /// Reads the directory and finds the folder that holds `data.pkl`.
    pub(super) fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self, WeightError> {
        let directory = directory(bytes).ok_or_else(|| {
            malformed(path, "the zip directory at its end is missing or damaged: the file is cut short, download it again")
        })?;
        let mut entries = HashMap::new();
        let mut at = directory.range.start;
        while at < directory.range.end {
            let (name, entry, next) = central_entry(&bytes[..directory.range.end], at)
                .ok_or_else(|| malformed(path, format!("damaged zip directory at byte {at}")))?;
            if entries.insert(name, entry).is_some() {
                let name = String::from_utf8_lossy(name);
                return Err(malformed(path, format!("zip entry `{name}` occurs twice")));
            }
            at = next;
        }
        if entries.len() as u64 != directory.count {
            let problem = format!(
                "{} zip entries where {} are announced",
                entries.len(),
                directory.count
            );
            return Err(malformed(path, problem));
        }
        let folder = folder(entries.keys().copied()).ok_or_else(|| {
            malformed(
                path,
                "this zip archive has no `data.pkl`: `torch.save` did not write it",
            )
        })?;
        Ok(Self {
            path,
            bytes,
            folder,
            entries,
        })
    }

    /// Place of an entry's bytes in the file; `None` when there is no such entry in the folder of the checkpoint.
    pub(super) fn find(&self, name: &str) -> Result<Option<Range<usize>>, WeightError> {
        let full = [self.folder, name.as_bytes()].concat();
        let Some(entry) = self.entries.get(full.as_slice()) else {
            return Ok(None);
        };
        if entry.method != STORED || entry.flags & ENCRYPTED != 0 || entry.size != entry.packed_size
        {
            return Err(malformed(
                self.path,
                format!(
                    "zip entry `{name}` is compressed or encrypted, which torch never does: save it again with `torch.save`"
                ),
            ));
        }
        let range = self.data(entry, &full);
        range
            .map(Some)
            .ok_or_else(|| malformed(self.path, format!("zip entry `{name}` leaves the file")))
    }

    /// Checks the local header and steps over it.
    fn data(&self, entry: &Entry, name: &[u8]) -> Option<Range<usize>> {
        let header = usize::try_from(entry.header).ok()?;
        let fields = self.bytes.get(header..)?.get(..LOCAL_LEN)?;
        if u32_at(fields, 0)? != LOCAL || usize::from(u16_at(fields, 26)?) != name.len() {
            return None;
        }
        let begin = header + LOCAL_LEN + name.len();
        if self.bytes.get(header + LOCAL_LEN..begin)? != name {
            return None;
        }
        let begin = begin + usize::from(u16_at(fields, 28)?);
        let end = begin.checked_add(usize::try_from(entry.size).ok()?)?;
        (end <= self.bytes.len()).then_some(begin..end)
    }
}

/// The folder of the one `data.pkl` that lies in at most one folder.
fn folder<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let mut found = names.filter_map(|name| {
        let folder = name.strip_suffix(b"data.pkl")?;
        let slashes = folder.iter().filter(|&&byte| byte == b'/').count();
        (folder.is_empty() || (slashes == 1 && folder.ends_with(b"/"))).then_some(folder)
    });
    let folder = found.next()?;
    found.next().is_none().then_some(folder)
}

/// Finds the directory by the record at the end of the file.
fn directory(bytes: &[u8]) -> Option<Directory> {
    let last = bytes.len().checked_sub(END_LEN)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    // A comment of up to 64 KiB may follow; its length must lead exactly to the end.
    let at = (first..=last).rev().find(|&at| {
        u32_at(bytes, at) == Some(END) && u16_at(bytes, at + 20).map(usize::from) == Some(last - at)
    })?;
    let (count, size, begin, limit) = match directory64(bytes, at) {
        Some(found) => found?,
        None => {
            let count = u64::from(u16_at(bytes, at + 10)?);
            (
                count,
                u64::from(u32_at(bytes, at + 12)?),
                u64::from(u32_at(bytes, at + 16)?),
                at,
            )
        }
    };
    let end = usize::try_from(begin.checked_add(size)?).ok()?;
    let range = usize::try_from(begin).ok()?..end;
    (end <= limit).then_some(Directory { range, count })
}

/// The ZIP64 record before the end record at `end`: count, size, begin of the directory and its limit. `None` without such
/// a record, `Some(None)` when it is damaged.
fn directory64(bytes: &[u8], end: usize) -> Option<Option<(u64, u64, u64, usize)>> {
    let locator = end.checked_sub(LOCATOR64_LEN)?;
    if u32_at(bytes, locator)? != LOCATOR64 {
        return None;
    }
    let read = || {
        let at = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
        let fields = bytes[..locator].get(at..)?;
        if u32_at(fields, 0)? != END64 {
            return None;
        }
        Some((
            u64_at(fields, 32)?,
            u64_at(fields, 40)?,
            u64_at(fields, 48)?,
            at,
        ))
    };
    Some(read())
}

/// One entry of the directory at `at`: its name, its fields and where the next one begins.
fn central_entry(bytes: &[u8], at: usize) -> Option<(&[u8], Entry, usize)> {
    let fields = bytes.get(at..)?;
    if u32_at(fields, 0)? != CENTRAL {
        return None;
    }
    let name_end = CENTRAL_LEN + usize::from(u16_at(fields, 28)?);
    let extra_end = name_end + usize::from(u16_at(fields, 30)?);
    let end = extra_end + usize::from(u16_at(fields, 32)?);
    fields.get(..end)?;
    let mut entry = Entry {
        header: u64::from(u32_at(fields, 42)?),
        size: u64::from(u32_at(fields, 24)?),
        packed_size: u64::from(u32_at(fields, 20)?),
        method: u16_at(fields, 10)?,
        flags: u16_at(fields, 8)?,
    };
    widen(&mut entry, &fields[name_end..extra_end])?;
    Some((&fields[CENTRAL_LEN..name_end], entry, at + end))
}

/// Replaces the fields that are full by those of the ZIP64 extra field, which has only these, in this order.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let end = 4 + usize::from(u16_at(extra, 2)?);
        let mut content = extra.get(4..end)?;
        if u16_at(extra, 0)? == EXTRA64 {
            for field in [&mut entry.size, &mut entry.packed_size, &mut entry.header] {
                if *field == u64::from(u32::MAX) {
                    *field = u64_at(content, 0)?;
                    content = &content[8..];
                }
            }
        }
        extra = &extra[end..];
    }
    Some(())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"m/data.pkl";
    const CONTENT: &[u8] = b"N.";

    /// An archive of one entry whose sizes and place are in ZIP64 fields, as they are beyond 4 GiB.
    fn zip64(count: u64) -> Vec<u8> {
        let full = u32::MAX.to_le_bytes();
        let name_len = (NAME.len() as u16).to_le_bytes();
        let local = [
            &LOCAL.to_le_bytes()[..],
            &[0; 22],
            &name_len,
            &[0; 2],
            NAME,
            CONTENT,
        ]
        .concat();
        let extra = [
            &[1, 0, 24, 0][..],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[0; 8],
        ]
        .concat();
        let extra = [&[9, 9, 1, 0, 7][..], &extra].concat();
        let extra_len = (extra.len() as u16).to_le_bytes();
        let central = [
            &CENTRAL.to_le_bytes()[..],
            &[0; 16],
            &full,
            &full,
            &name_len,
            &extra_len,
            &[0; 10],
            &full,
            NAME,
            &extra,
        ]
        .concat();
        let place = local.len() as u64;
        let end64 = [
            &END64.to_le_bytes()[..],
            &[0; 28],
            &count.to_le_bytes(),
            &(central.len() as u64).to_le_bytes(),
            &place.to_le_bytes(),
        ]
        .concat();
        let locator = [
            &LOCATOR64.to_le_bytes()[..],
            &[0; 4],
            &(place + central.len() as u64).to_le_bytes(),
            &[1, 0, 0, 0],
        ];
        let end = [
            &END.to_le_bytes()[..],
            &[0; 4],
            &[0xff; 12],
            &[3, 0],
            b"end",
        ]
        .concat();
        [local, central, end64, locator.concat(), end].concat()
    }

    #[test]
    fn sizes_and_places_of_zip64_are_followed() {
        let bytes = zip64(1);
        let archive = Archive::open(Path::new("m.bin"), &bytes).unwrap();
        let range = archive.find("data.pkl").unwrap().unwrap();
        assert_eq!(&bytes[range], CONTENT);
        assert!(archive.find("data/0").unwrap().is_none());
    }

    #[test]
    fn a_directory_that_does_not_add_up_is_refused() {
        let message = Archive::open(Path::new("m.bin"), &zip64(2))
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains("1 zip entries where 2 are announced"),
            "{message}"
        );
        let mut renamed = zip64(1);
        let place = renamed
            .windows(NAME.len())
            .rposition(|seen| seen == NAME)
            .unwrap();
        renamed[place + NAME.len() - 1] = b'x';
        let message = Archive::open(Path::new("m.bin"), &renamed)
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains("`torch.save` did not write it"),
            "{message}"
        );
        let mut moved = zip64(1);
        moved[0] = 0;
        let archive = Archive::open(Path::new("m.bin"), &moved).unwrap();
        assert!(
            archive
                .find("data.pkl")
                .unwrap_err()
                .to_string()
                .contains("leaves the file")
        );
    }
}
