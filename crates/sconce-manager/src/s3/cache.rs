//! The folder of this machine in which the objects of a prefix are kept from start to start.
//!
//! `<cache>/download/<name>-<hash>/` has the files, the `.json` beside it says which objects they
//! are. A file that is being fetched has another name; one whose name stands in the record is
//! whole. The `.lock` keeps two processes from fetching the same prefix at the same time.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use sconce_config::{PrefixSettings, S3Model};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::access;
use super::error::Problem;
use super::object::S3Object;

const SETTINGS: &str = "serving.properties";

/// Which objects the files of a folder are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    url: String,
    /// Whether these are all that were wanted.
    whole: bool,
    files: BTreeMap<String, Object>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Object {
    size: u64,
    etag: String,
}

impl Object {
    fn of(file: &S3Object) -> Self {
        Self {
            size: file.size,
            etag: file.etag.clone(),
        }
    }
}

/// A prefix's folder.
pub(crate) struct Folder {
    dir: PathBuf,
    record: Record,
    /// Held while it is written to.
    _lock: Option<File>,
}

impl Folder {
    /// The first folder that has all of these files; no write is needed then.
    pub(crate) fn with(model: &S3Model, wanted: &[&S3Object]) -> Option<Self> {
        let mut folders = model.caches.iter().map(|cache| Self::read(model, cache));
        folders.find(|folder| folder.record.whole && folder.missing(wanted).is_empty())
    }

    /// The first folder that has all files of an earlier start with the same settings.
    pub(crate) fn of_an_earlier_start(model: &S3Model) -> Option<Self> {
        let mut folders = model.caches.iter().map(|cache| Self::read(model, cache));
        folders.find(|folder| folder.is_as_recorded() && folder.has_settings_of(model))
    }

    /// The first folder that has all files of an earlier start, whatever its settings were.
    pub(crate) fn of_whatever_settings(model: &S3Model) -> Option<Self> {
        let mut folders = model.caches.iter().map(|cache| Self::read(model, cache));
        folders.find(Self::is_as_recorded)
    }

    /// The first folder that can be written; others wait until it is dropped.
    pub(crate) fn to_write(model: &S3Model) -> Result<Self, Problem> {
        let mut first = None;
        for cache in &model.caches {
            let folder = Self::read(model, cache);
            match folder.locked() {
                Ok(lock) => {
                    // Whoever had it before may have fetched everything.
                    let mut folder = Self::read(model, cache);
                    folder._lock = Some(lock);
                    return Ok(folder);
                }
                Err(cause) => {
                    let problem = Problem::cache(&folder.dir, &cause);
                    warn!("objects cannot be kept at {problem}");
                    first.get_or_insert(problem);
                }
            }
        }
        Err(first.expect("the configuration names at least one cache"))
    }

    fn read(model: &S3Model, cache: &Path) -> Self {
        let dir = cache.join("download").join(name(model));
        let text = std::fs::read(dir.with_extension("json"));
        let record = text
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let record = record.filter(|record: &Record| record.url == model.url());
        Self {
            dir,
            record: record.unwrap_or_default(),
            _lock: None,
        }
    }

    fn locked(&self) -> io::Result<File> {
        std::fs::create_dir_all(&self.dir)?;
        let lock = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(self.dir.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                info!("another process fetches the same objects: waiting for it");
                lock.lock()?;
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(cause)) => warn!("{}: {cause}", self.dir.display()),
        }
        Ok(lock)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Those files that are not there, or are other objects.
    pub(crate) fn missing<'f>(&self, wanted: &[&'f S3Object]) -> Vec<&'f S3Object> {
        let is_missing = |file: &&&S3Object| {
            self.record.files.get(&file.name) != Some(&Object::of(file))
                || !self.has(&file.name, file.size)
        };
        wanted.iter().filter(is_missing).copied().collect()
    }

    /// The names in the record.
    pub(crate) fn names(&self) -> Vec<String> {
        self.record.files.keys().cloned().collect()
    }

    /// The entity tag and the bytes of the model's own settings.
    pub(crate) fn settings(&self) -> Option<(String, Vec<u8>)> {
        let object = self.record.files.get(SETTINGS)?;
        let bytes = std::fs::read(self.dir.join(SETTINGS)).ok()?;
        Some((object.etag.clone(), bytes))
    }

    fn has(&self, name: &str, size: u64) -> bool {
        std::fs::metadata(self.dir.join(name)).is_ok_and(|meta| meta.len() == size)
    }

    fn is_as_recorded(&self) -> bool {
        let mut files = self.record.files.iter();
        self.record.whole && files.all(|(name, object)| self.has(name, object.size))
    }

    fn has_settings_of(&self, model: &S3Model) -> bool {
        let etag = self.record.files.get(SETTINGS).map(|object| &object.etag);
        match &model.settings {
            PrefixSettings::Elsewhere => true,
            PrefixSettings::Read(read) => read.as_ref() == etag,
            PrefixSettings::Unread => etag.is_none(),
        }
    }

    /// Takes only those of the recorded files for whole that are wanted and not missing.
    pub(crate) fn begin(
        &mut self,
        model: &S3Model,
        wanted: &[&S3Object],
        missing: &[&S3Object],
    ) -> Result<(), Problem> {
        let is_there = |name: &str| {
            wanted.iter().any(|file| file.name == name)
                && !missing.iter().any(|file| file.name == name)
        };
        self.record.url = model.url();
        self.record.whole = false;
        self.record.files.retain(|name, _| is_there(name));
        self.save()
    }

    /// Where a file lies until it is whole.
    pub(crate) fn part(&self, file: &S3Object) -> PathBuf {
        self.dir.join(format!("{}.part", file.name))
    }

    /// Gives a whole file its name.
    pub(crate) fn finish(&mut self, file: &S3Object) -> Result<(), Problem> {
        let path = self.dir.join(&file.name);
        let wrong = |cause| Problem::cache(&path, &cause);
        std::fs::rename(self.part(file), &path).map_err(wrong)?;
        self.record
            .files
            .insert(file.name.clone(), Object::of(file));
        self.save()
    }

    /// All wanted files are there: removes others, such as those of an older version.
    pub(crate) fn complete(&mut self) -> Result<(), Problem> {
        let wrong = |cause| Problem::cache(&self.dir, &cause);
        for entry in std::fs::read_dir(&self.dir).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let folder = format!("{name}/");
            let is_part = |file: &String| *file == name || file.starts_with(&folder);
            if self.record.files.keys().any(is_part) {
                continue;
            }
            match entry.path().is_dir() {
                true => std::fs::remove_dir_all(entry.path()),
                false => std::fs::remove_file(entry.path()),
            }
            .map_err(wrong)?;
        }
        self.record.whole = true;
        self.save()
    }

    fn save(&self) -> Result<(), Problem> {
        let path = self.dir.with_extension("json");
        let wrong = |cause| Problem::cache(&path, &cause);
        let text = serde_json::to_vec_pretty(&self.record).map_err(|cause| wrong(cause.into()))?;
        let new = self.dir.with_extension("json.part");
        std::fs::write(&new, text).map_err(wrong)?;
        std::fs::rename(&new, &path).map_err(wrong)
    }
}

/// A name that no other prefix has, and that tells people which one it is.
fn name(model: &S3Model) -> String {
    let endpoint = access::endpoint(model, "").unwrap_or_default();
    let hash = digest(&SHA256, format!("{endpoint}\n{}", model.url()).as_bytes());
    let hash: String = hash.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let last = model.prefix.rsplit('/').next().unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let last: String = last.chars().filter(is_plain).take(60).collect();
    // Code writes beside itself, and needs files that serving without it does not.
    let kind = if model.all { "-code" } else { "" };
    format!("{last}-{hash}{kind}")
}
