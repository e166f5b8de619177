//! Archives of models on this machine, unpacked once into a directory that stays, as DJL Serving does.
//!
//! What an archive says is not trusted: nothing is written outside of the directory, nothing is linked, and no more than
//! weights may reasonably grow. The directory has its name only when everything in it is there.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use ring::digest::{SHA256, digest};
use tar::{Archive, Entry, EntryType};
use tempfile::TempDir;
use thiserror::Error;
use tracing::info;

use crate::disk;

/// Weights hardly shrink, texts do so by this at most; a bomb by a thousand.
const MOST_GROWTH: u64 = 20;
/// However small the archive, so many bytes are no bomb.
const HARMLESS: u64 = 64 << 20;
/// A model has some dozens of files.
const MOST_ENTRIES: usize = 100_000;

/// Why an archive is not unpacked.
#[derive(Debug, Error)]
enum Problem {
    #[error(
        "is packed in a way that is not read: only .tar, .tar.gz and .tgz are; unpack it into a directory"
    )]
    Format,
    #[error(
        "has {path:?}, which would lie outside of its directory; pack it anew, with relative paths"
    )]
    Outside { path: String },
    #[error(
        "has {path:?}, which is {kind}; pack it anew with files and directories alone (tar --dereference)"
    )]
    Kind { path: String, kind: &'static str },
    #[error("has more than {MOST_ENTRIES} files, which no model has")]
    Entries,
    #[error(
        "has {size} bytes and holds more than {limit}, as no model does: weights hardly shrink"
    )]
    Bomb { size: u64, limit: u64 },
    #[error("needs {needed} MiB more and {} has {free} MiB left; set SERVING_DOWNLOAD_DIR to a directory with room", place.display())]
    Space {
        place: PathBuf,
        free: u64,
        needed: u64,
    },
    #[error("cannot be unpacked: {0}")]
    Damaged(io::Error),
    #[error("cannot be unpacked into {}: {cause}; set SERVING_DOWNLOAD_DIR to a directory that can be written", place.display())]
    Place { place: PathBuf, cause: io::Error },
}

/// The directory with what an archive holds, below the first of these that can be written.
///
/// # Errors
/// Why there is none, as the end of a sentence.
pub(crate) fn unpacked(archive: &Path, caches: &[PathBuf]) -> Result<PathBuf, String> {
    find_or_unpack(archive, caches).map_err(|problem| problem.to_string())
}

fn find_or_unpack(archive: &Path, caches: &[PathBuf]) -> Result<PathBuf, Problem> {
    let is_packed = match Format::of(archive) {
        Some(format) => format == Format::TarGz,
        None => return Err(Problem::Format),
    };
    let name = name(archive).map_err(Problem::Damaged)?;
    let places = caches.iter().map(|cache| cache.join("archives"));
    let places: Vec<PathBuf> = places.collect();
    if let Some(there) = places
        .iter()
        .map(|place| place.join(&name))
        .find(|dir| dir.is_dir())
    {
        return Ok(there);
    }
    let mut first = None;
    for place in places {
        let made = fs::create_dir_all(&place).and_then(|()| TempDir::new_in(&place));
        match made {
            Ok(dir) => return unpack(archive, is_packed, dir, &place.join(&name)),
            Err(cause) => {
                first.get_or_insert(Problem::Place { place, cause });
            }
        }
    }
    Err(first.expect("the configuration names at least one cache"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Tar,
    TarGz,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match name {
            name if name.ends_with(".tar.gz") || name.ends_with(".tgz") => Some(Self::TarGz),
            name if name.ends_with(".tar") => Some(Self::Tar),
            _ => None,
        }
    }
}

/// A name that no other archive has, nor this one once it is written anew.
fn name(archive: &Path) -> io::Result<String> {
    let path = archive.canonicalize()?;
    let file = path.metadata()?;
    let identity = format!(
        "{}\n{}\n{}.{}",
        path.display(),
        file.len(),
        file.mtime(),
        file.mtime_nsec()
    );
    let hash = digest(&SHA256, identity.as_bytes());
    let hash = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}"));
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.split('.').next().unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let stem: String = stem.chars().filter(is_plain).take(60).collect();
    Ok(format!("{stem}-{}", hash.collect::<String>()))
}

fn unpack(archive: &Path, is_packed: bool, dir: TempDir, whole: &Path) -> Result<PathBuf, Problem> {
    let file = File::open(archive).map_err(Problem::Damaged)?;
    let size = file.metadata().map_err(Problem::Damaged)?.len();
    info!("unpacking {} into {}", archive.display(), whole.display());
    let file = BufReader::with_capacity(1 << 20, file);
    let reader: Box<dyn Read> = match is_packed {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let limit = size.saturating_mul(MOST_GROWTH).max(HARMLESS);
    // What is read counts, not what entries say of themselves.
    extract(reader.take(limit), dir.path(), (size, limit))?;
    // Whoever was faster has unpacked the same.
    match fs::rename(dir.path(), whole) {
        Err(cause) if !whole.is_dir() => Err(Problem::Place {
            place: whole.into(),
            cause,
        }),
        Err(_) => Ok(whole.into()),
        Ok(()) => {
            // It has another name now, and must not be removed by the old one.
            let _ = dir.keep();
            Ok(whole.into())
        }
    }
}

fn extract(
    reader: io::Take<Box<dyn Read>>,
    dir: &Path,
    (size, limit): (u64, u64),
) -> Result<(), Problem> {
    let mut archive = Archive::new(reader);
    let mut count = 0;
    let mut ended = Ok(());
    for entry in archive.entries().map_err(Problem::Damaged)? {
        count += 1;
        ended = match entry {
            _ if count > MOST_ENTRIES => Err(Problem::Entries),
            Ok(entry) => place(entry, dir),
            Err(cause) => Err(Problem::Damaged(cause)),
        };
        if ended.is_err() {
            break;
        }
    }
    // An archive that is cut off by the limit looks damaged.
    match ended {
        Err(Problem::Damaged(_)) if archive.into_inner().limit() == 0 => {
            Err(Problem::Bomb { size, limit })
        }
        ended => ended,
    }
}

fn place(mut entry: Entry<'_, impl Read>, dir: &Path) -> Result<(), Problem> {
    let path = entry.path().map_err(Problem::Damaged)?.into_owned();
    let shown = || path.display().to_string();
    let kind = match entry.header().entry_type() {
        // They describe the entry after them.
        EntryType::XHeader | EntryType::XGlobalHeader => return Ok(()),
        EntryType::Regular | EntryType::Continuous | EntryType::Directory => None,
        EntryType::Symlink | EntryType::Link => Some("a link"),
        EntryType::GNUSparse => Some("a file with holes"),
        _ => Some("neither a file nor a directory"),
    };
    if let Some(kind) = kind {
        let path = shown();
        return Err(Problem::Kind { path, kind });
    }
    let mut inner = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => inner.push(part),
            Component::CurDir => {}
            _ => return Err(Problem::Outside { path: shown() }),
        }
    }
    let to = dir.join(inner);
    if entry.header().entry_type() == EntryType::Directory {
        return fs::create_dir_all(to).map_err(Problem::Damaged);
    }
    let needed = entry.size();
    if let Some(free) = disk::lacks(dir, needed) {
        return Err(Problem::Space {
            place: dir.into(),
            free: free >> 20,
            needed: needed.div_ceil(1 << 20),
        });
    }
    // Nothing of its mode is kept: what is in a model is read.
    let write = |entry: &mut Entry<'_, _>| {
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        let written = io::copy(entry, &mut File::create(&to)?)?;
        match written == needed {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    write(&mut entry).map_err(Problem::Damaged)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    /// A directory with an archive that is made so, and one to unpack into.
    struct Bench(TempDir);

    impl Bench {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn caches(&self) -> Vec<PathBuf> {
            vec![
                "/proc/nobody/writes/here".into(),
                self.0.path().join("cache"),
            ]
        }

        fn pack(&self, name: &str, fill: impl FnOnce(&mut Builder<Box<dyn io::Write>>)) -> PathBuf {
            let path = self.0.path().join(name);
            let file = File::create(&path).unwrap();
            let writer: Box<dyn io::Write> = match name.ends_with(".tar") {
                true => Box::new(file),
                false => Box::new(GzEncoder::new(file, Compression::fast())),
            };
            let mut builder = Builder::new(writer);
            fill(&mut builder);
            builder.into_inner().unwrap().flush().unwrap();
            path
        }

        fn unpacked(&self, archive: &Path) -> Result<PathBuf, String> {
            unpacked(archive, &self.caches())
        }

        /// What is told of an archive that must not be unpacked, and that nothing is left of it.
        #[track_caller]
        fn refused(&self, archive: &Path) -> String {
            let told = self.unpacked(archive).unwrap_err();
            let left = fs::read_dir(self.0.path().join("cache/archives"));
            assert_eq!(left.map_or(0, Iterator::count), 0, "{told}");
            told
        }
    }

    fn header(kind: EntryType, path: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        // `set_path` refuses what others pack.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn file(builder: &mut Builder<Box<dyn io::Write>>, path: &str, bytes: &[u8]) {
        let header = header(EntryType::Regular, path, bytes.len() as u64);
        builder.append(&header, bytes).unwrap();
    }

    #[test]
    fn files_and_folders_are_unpacked_once() {
        let bench = Bench::new();
        let fill = |builder: &mut Builder<Box<dyn io::Write>>| {
            file(builder, "./config.json", b"{}");
            file(builder, "folder/deep/weights", &[7; 5000]);
        };
        for name in ["m-1.tar.gz", "m-2.tgz", "m-3.tar"] {
            let archive = bench.pack(name, fill);
            let dir = bench.unpacked(&archive).unwrap();
            assert!(dir.starts_with(bench.0.path().join("cache/archives")));
            assert_eq!(fs::read(dir.join("config.json")).unwrap(), b"{}");
            assert_eq!(
                fs::read(dir.join("folder/deep/weights")).unwrap(),
                [7; 5000]
            );
            fs::write(dir.join("mark"), "").unwrap();
            assert_eq!(bench.unpacked(&archive), Ok(dir.clone()));
            assert!(dir.join("mark").exists(), "it was not unpacked again");
        }
        let anew = bench.pack("m-1.tar.gz", |builder| file(builder, "config.json", b"[]"));
        let dir = bench.unpacked(&anew).unwrap();
        assert_eq!(fs::read(dir.join("config.json")).unwrap(), b"[]");
    }

    #[test]
    fn nothing_is_written_outside_and_nothing_is_linked() {
        let bench = Bench::new();
        for path in ["../evil", "folder/../../evil", "/tmp/evil-of-an-archive"] {
            let archive = bench.pack("m.tar.gz", |builder| file(builder, path, b"x"));
            let told = bench.refused(&archive);
            assert!(
                told.contains("outside of its directory") && told.contains(path),
                "{told}"
            );
        }
        assert!(!bench.0.path().join("evil").exists());
        assert!(!Path::new("/tmp/evil-of-an-archive").exists());
        for (kind, word) in [
            (EntryType::Symlink, "a link"),
            (EntryType::Link, "a link"),
            (EntryType::Fifo, "neither a file nor a directory"),
            (EntryType::Char, "neither a file nor a directory"),
        ] {
            let archive = bench.pack("m.tar.gz", |builder| {
                let mut header = header(kind, "inner", 0);
                header.set_link_name("/etc/passwd").unwrap();
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            });
            let told = bench.refused(&archive);
            assert!(told.contains("\"inner\"") && told.contains(word), "{told}");
        }
    }

    #[test]
    fn bombs_damage_and_other_formats_are_told_apart() {
        let bench = Bench::new();
        let bomb = bench.pack("m.tar.gz", |builder| {
            let size = HARMLESS + 1;
            let header = header(EntryType::Regular, "weights", size);
            builder.append(&header, io::repeat(0).take(size)).unwrap();
        });
        let told = bench.refused(&bomb);
        assert!(told.contains("holds more than 67108864"), "{told}");
        let whole =
            fs::read(bench.pack("m.tar.gz", |b| file(b, "weights", &[1; 100_000]))).unwrap();
        let path = bench.0.path().join("cut.tar.gz");
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(bench.refused(&path).contains("cannot be unpacked"));
        fs::write(&path, "no archive").unwrap();
        assert!(bench.refused(&path).contains("cannot be unpacked"));
        for name in ["m.zip", "m.mar", "m.tar.z"] {
            let path = bench.0.path().join(name);
            fs::write(&path, "x").unwrap();
            assert!(bench.refused(&path).contains("only .tar, .tar.gz and .tgz"));
        }
    }
}
