//! What the files of a model are, told by hashes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::error::RecordError;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The model's name.
    pub name: String,
    /// Its files, by their paths in its folder, in order. Hidden ones do not count.
    pub files: Vec<Stored>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its path in the folder, with slashes.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
}

impl Checkpoint {
    /// Reads all files of a folder, which takes as long as reading them does.
    pub fn of(name: &str, dir: &Path) -> Result<Self, RecordError> {
        let mut files = Vec::new();
        walk(dir, "", &mut files)?;
        files.sort_by(|one: &Stored, other| one.path.cmp(&other.path));
        Ok(Self {
            name: name.into(),
            files,
        })
    }

    /// What differs from another time, as sentences; `self` is how it was.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let find = |of: &Self, path: &str| of.files.iter().find(|file| file.path == path).cloned();
        let of_then = self
            .files
            .iter()
            .filter_map(|then| match find(now, &then.path) {
                None => Some(format!("{} is missing", then.path)),
                Some(now) if now != *then => Some(format!(
                    "{} has {} bytes with the hash {}, and had {} with {}",
                    then.path,
                    now.bytes,
                    short(&now.sha256),
                    then.bytes,
                    short(&then.sha256)
                )),
                Some(_) => None,
            });
        let is_new = |now: &&Stored| find(self, &now.path).is_none();
        let new = now.files.iter().filter(is_new);
        of_then
            .chain(new.map(|file| format!("{} is new", file.path)))
            .collect()
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn walk(dir: &Path, place: &str, files: &mut Vec<Stored>) -> Result<(), RecordError> {
    let entries = fs::read_dir(dir).map_err(RecordError::of_file(dir))?;
    for entry in entries {
        let entry = entry.map_err(RecordError::of_file(dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let place = match place {
            "" => name.into_owned(),
            above => format!("{above}/{name}"),
        };
        // Links count as what they lead to, as in the hub's cache.
        let about = fs::metadata(&path).map_err(RecordError::of_file(&path))?;
        if about.is_dir() {
            walk(&path, &place, files)?;
        } else if about.is_file() {
            files.push(Stored {
                path: place,
                bytes: about.len(),
                sha256: hash_of(&path)?,
            });
        }
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
pub fn hash_of(path: &Path) -> Result<String, RecordError> {
    let mut file = File::open(path).map_err(RecordError::of_file(path))?;
    let (mut context, mut piece) = (Context::new(&SHA256), vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece).map_err(RecordError::of_file(path))?;
        if read == 0 {
            break;
        }
        context.update(&piece[..read]);
    }
    let digest = context.finish();
    Ok(digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("unet")).unwrap();
        write("config.json", "{}");
        write("unet/weights", "abc");
        write(".hidden", "x");
        let then = Checkpoint::of("m", dir.path()).unwrap();
        let paths: Vec<&str> = then.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["config.json", "unet/weights"]);
        // The hash of "abc" in FIPS 180-2.
        assert!(then.files[1].sha256.starts_with("ba7816bf8f01cfea4141"));
        write(".hidden", "y");
        assert_eq!(
            then.changes(&Checkpoint::of("m", dir.path()).unwrap()),
            [""; 0]
        );
        write("unet/weights", "abd");
        write("more", "");
        fs::remove_file(dir.path().join("config.json")).unwrap();
        let changes = then.changes(&Checkpoint::of("m", dir.path()).unwrap());
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert_eq!(
            (&*changes[0], &*changes[2]),
            ("config.json is missing", "more is new")
        );
        assert!(changes[1].contains("ba7816bf8f01"), "{}", changes[1]);
        assert!(Checkpoint::of("m", &dir.path().join("nowhere")).is_err());
    }
}
