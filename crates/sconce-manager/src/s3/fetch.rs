//! Fetches what is missing of a prefix into its folder, several parts at a time.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use sconce_config::{PrefixSettings, S3Model};
use sconce_core::{Observer, Phase, Progress};
use tracing::{info, warn};

use super::access::PATIENCE;
use super::bucket::Bucket;
use super::cache::Folder;
use super::error::Problem;
use super::object::S3Object;
use crate::disk;
use crate::wanted::wanted_files;

/// Bytes that one request asks for, as the AWS command line does.
const PART: u64 = 8 << 20;
/// Requests at the same time. AWS counts on 85 to 90 MB/s of each ("Performance design patterns
/// for Amazon S3"); each needs the memory of its part.
const REQUESTS: usize = 12;

/// The folder with all objects that serving needs, after fetching those that are not there.
pub(super) fn snapshot(model: &S3Model, observer: &Observer) -> Result<PathBuf, Problem> {
    let bucket = match Bucket::open(model, PATIENCE) {
        Ok(bucket) => bucket,
        Err(problem) => {
            let earlier = Folder::of_an_earlier_start(model).filter(|_| problem.is_passing());
            let dir = earlier.ok_or_else(|| problem.clone())?.dir().to_path_buf();
            let (url, place) = (model.url(), dir.display());
            warn!("{problem}: serving {url} as it was fetched before, from {place}");
            return Ok(dir);
        }
    };
    check_settings(model, bucket.files())?;
    let wanted = wanted(model, bucket.files())?;
    if let Some(folder) = Folder::with(model, &wanted) {
        info!("{} is at {} already", model.url(), folder.dir().display());
        return Ok(folder.dir().to_path_buf());
    }
    let mut folder = Folder::to_write(model)?;
    let missing = folder.missing(&wanted);
    folder.begin(model, &wanted, &missing)?;
    let total = missing.iter().map(|file| file.size).sum();
    check_space(&folder, total)?;
    info!(
        "fetching {} into {}: {} of {} files are missing, {:.1} MiB",
        model.url(),
        folder.dir().display(),
        missing.len(),
        wanted.len(),
        total as f64 / f64::from(1 << 20)
    );
    let mut transfer = Transfer {
        bucket: &bucket,
        folder: &mut folder,
        open: HashMap::new(),
        observer,
        progress: Progress { done: 0, total },
    };
    bucket.wait(transfer.run(&missing))?;
    folder.complete()?;
    Ok(folder.dir().to_path_buf())
}

/// Whether the settings that hold are those of the objects that were listed.
fn check_settings(model: &S3Model, files: &[S3Object]) -> Result<(), Problem> {
    let listed = files.iter().find(|file| file.name == "serving.properties");
    let listed = listed.map(|file| &file.etag);
    match &model.settings {
        PrefixSettings::Read(read) if read.as_ref() != listed => {
            Err(Problem::Settings("has changed since the program started"))
        }
        PrefixSettings::Unread if listed.is_some() => Err(Problem::Settings(
            "could not be read when the program started",
        )),
        _ => Ok(()),
    }
}

fn wanted<'f>(model: &S3Model, files: &'f [S3Object]) -> Result<Vec<&'f S3Object>, Problem> {
    if model.all {
        return Ok(files.iter().collect());
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let wanted = wanted_files(&names, model.gguf_file.as_deref())
        .map_err(|unclear| Problem::unclear(unclear, &names))?;
    let has_settings = model.settings != PrefixSettings::Elsewhere;
    let is_wanted = |file: &&S3Object| {
        wanted.contains(&file.name.as_str()) || (has_settings && file.name == "serving.properties")
    };
    Ok(files.iter().filter(is_wanted).collect())
}

fn check_space(folder: &Folder, needed: u64) -> Result<(), Problem> {
    match disk::lacks(folder.dir(), needed) {
        None => Ok(()),
        Some(free) => Err(Problem::Space {
            path: folder.dir().display().to_string(),
            free: free >> 20,
            needed: needed.div_ceil(1 << 20),
        }),
    }
}

/// Files on their way.
struct Transfer<'a> {
    bucket: &'a Bucket,
    folder: &'a mut Folder,
    /// By place in the list: the file, and the bytes that it lacks.
    open: HashMap<usize, (File, u64)>,
    observer: &'a Observer,
    progress: Progress,
}

impl Transfer<'_> {
    async fn run(&mut self, files: &[&S3Object]) -> Result<(), Problem> {
        let empty = files.iter().filter(|file| file.size == 0);
        for file in empty {
            self.create(file)?;
            self.folder.finish(file)?;
        }
        let bucket = self.bucket;
        let ranges = files.iter().enumerate().flat_map(|(at, file)| {
            let ranges = parts(file.size);
            ranges.map(move |range| (at, range))
        });
        let mut arriving = stream::iter(ranges)
            .map(|(at, range)| async move {
                let bytes = bucket.part(files[at], range.clone()).await?;
                Ok((at, range.start, bytes))
            })
            .buffer_unordered(REQUESTS);
        while let Some((at, start, bytes)) = arriving.try_next().await? {
            self.write(at, files[at], start, &bytes)?;
        }
        Ok(())
    }

    fn create(&self, file: &S3Object) -> Result<File, Problem> {
        let path = self.folder.part(file);
        let create = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            File::create(&path)
        };
        create().map_err(|cause| Problem::cache(&path, &cause))
    }

    fn write(
        &mut self,
        at: usize,
        file: &S3Object,
        start: u64,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        let (handle, left) = match self.open.remove(&at) {
            Some(open) => open,
            None => (self.create(file)?, file.size),
        };
        let wrong = |cause| Problem::cache(&self.folder.part(file), &cause);
        handle.write_all_at(bytes, start).map_err(wrong)?;
        let left = left.saturating_sub(bytes.len() as u64);
        if left > 0 {
            self.open.insert(at, (handle, left));
        } else {
            // The record must not outlive the bytes that it speaks of.
            handle.sync_data().map_err(wrong)?;
            self.folder.finish(file)?;
        }
        self.progress.done += bytes.len() as u64;
        (self.observer)(Phase::Fetching, self.progress);
        Ok(())
    }
}

/// The ranges of bytes in which an object is fetched.
fn parts(size: u64) -> impl Iterator<Item = Range<u64>> {
    let count = size.div_ceil(PART);
    (0..count).map(move |part| part * PART..size.min((part + 1) * PART))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object_once() {
        for size in [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7] {
            let mut next = 0;
            for part in parts(size) {
                assert_eq!(part.start, next);
                assert!(part.end > part.start && part.end - part.start <= PART);
                next = part.end;
            }
            assert_eq!(next, size);
        }
    }
}
