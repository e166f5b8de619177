//! Fetches what is missing of a prefix into its folder, several parts at a time: before the model is loaded, or, as far as
//! weights are concerned, meanwhile.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use sconce_config::{PrefixSettings, S3Model};
use sconce_core::{Observer, Phase, Progress};
use tracing::{info, warn};

use super::access::PATIENCE;
use super::arriving::Arriving;
use super::bucket::Bucket;
use super::cache::Folder;
use super::error::Problem;
use super::files::S3Files;
use super::object::S3Object;
use super::stream::Stream;
use crate::coming::{Coming, Fetching};
use crate::disk;
use crate::remote::headers;
use crate::wanted::wanted_files;

/// Bytes that one request asks for, as the AWS command line does.
pub(super) const PART: u64 = 8 << 20;
/// Requests at the same time. AWS counts on 85 to 90 MB/s of each ("Performance design patterns
/// for Amazon S3"); each needs the memory of its part.
pub(super) const REQUESTS: usize = 12;

/// Objects as they can be had now.
pub(super) enum Fetched {
    /// The folder with all that serving needs.
    Whole(PathBuf),
    /// What does not take long, while the rest comes.
    Coming(Coming),
}

/// The folder with all objects that serving needs, after fetching those that are not there.
pub(super) fn snapshot(model: &S3Model, observer: &Observer) -> Result<PathBuf, Problem> {
    let (bucket, wanted) = match look(model)? {
        Found::Earlier(dir) => return Ok(dir),
        Found::Listed(bucket, wanted) => (bucket, wanted),
    };
    let (mut folder, missing) = claim(model, &wanted)?;
    let mut transfer = Transfer::of(&bucket, &mut folder, &missing);
    transfer.observer = Some(observer);
    bucket.wait(transfer.run(&missing))?;
    folder.complete()?;
    Ok(folder.dir().to_path_buf())
}

/// The same without waiting for weights, which a thread fetches.
pub(super) fn begin(model: &S3Model, observer: &Observer) -> Result<Fetched, Problem> {
    let (bucket, wanted) = match look(model)? {
        Found::Earlier(dir) => return Ok(Fetched::Whole(dir)),
        Found::Listed(bucket, wanted) => (bucket, wanted),
    };
    let (mut folder, missing) = claim(model, &wanted)?;
    let is_coming = |file: &S3Object| is_weight(&file.name) && missing.contains(file);
    let (weights, here): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_coming);
    let texts: Vec<_> = missing
        .iter()
        .filter(|file| !is_coming(file))
        .cloned()
        .collect();
    let mut transfer = Transfer::of(&bucket, &mut folder, &missing);
    transfer.observer = Some(observer);
    bucket.wait(transfer.run(&texts))?;
    let progress = transfer.progress;
    if weights.is_empty() {
        folder.complete()?;
        return Ok(Fetched::Whole(folder.dir().to_path_buf()));
    }
    let names = here.iter().map(|file| file.name.clone()).collect();
    let files = S3Files::partly_here(model, bucket, folder.dir(), names);
    let headers = headers(&files, model.gguf_file.as_deref()).map_err(Problem::of_headers)?;
    let arriving = Arc::new(Arriving::new(model, folder.dir().to_path_buf()));
    for file in here.iter().filter(|file| is_weight(&file.name)) {
        let path = folder.dir().join(&file.name);
        let open = File::open(&path).map_err(|cause| Problem::cache(&path, &cause))?;
        arriving.open(&file.name, Arc::new(open), file.size, true);
    }
    let coming = Coming::new(headers, Arc::clone(&arriving) as Arc<dyn Fetching>);
    let rest = Rest {
        bucket: files.into_bucket(),
        folder,
        weights,
        progress,
        arriving,
    };
    let thread = std::thread::Builder::new().name("fetch".into());
    let thread = thread.spawn(move || rest.fetch());
    thread.map_err(|cause| Problem::Runtime(cause.to_string()))?;
    Ok(Fetched::Coming(coming))
}

/// Headers and texts, and numbers when they are asked for; what a cache has as a whole is taken from there.
pub(super) fn stream(model: &S3Model, observer: &Observer) -> Result<Fetched, Problem> {
    let (bucket, wanted) = match look(model)? {
        Found::Earlier(dir) => return Ok(Fetched::Whole(dir)),
        Found::Listed(bucket, wanted) => (bucket, wanted),
    };
    let total = wanted.iter().map(|file| file.size).sum();
    observer(Phase::Fetching, Progress { done: 0, total });
    info!(
        "streaming {}: {} files, {:.1} MiB, of which nothing but headers and texts is written to the disk",
        model.url(),
        wanted.len(),
        mib(total)
    );
    let files = S3Files::of(model, bucket);
    let headers = headers(&files, model.gguf_file.as_deref()).map_err(Problem::of_headers)?;
    let stream = Arc::new(Stream::begin(model, files.into_bucket())?);
    Ok(Fetched::Coming(Coming::new(headers, stream)))
}

/// A prefix as it is found.
enum Found {
    /// All that serving needs is in a folder of this machine.
    Earlier(PathBuf),
    /// Its objects that serving needs; not all of them are here.
    Listed(Bucket, Vec<S3Object>),
}

fn look(model: &S3Model) -> Result<Found, Problem> {
    let bucket = match Bucket::open(model, PATIENCE) {
        Ok(bucket) => bucket,
        Err(problem) => {
            let earlier = Folder::of_an_earlier_start(model).filter(|_| problem.is_passing());
            let dir = earlier.ok_or_else(|| problem.clone())?.dir().to_path_buf();
            let (url, place) = (model.url(), dir.display());
            warn!("{problem}: serving {url} as it was fetched before, from {place}");
            return Ok(Found::Earlier(dir));
        }
    };
    check_settings(model, bucket.files())?;
    let wanted = wanted(model, bucket.files())?;
    if let Some(folder) = Folder::with(model, &wanted) {
        info!("{} is at {} already", model.url(), folder.dir().display());
        return Ok(Found::Earlier(folder.dir().to_path_buf()));
    }
    let wanted = wanted.into_iter().cloned().collect();
    Ok(Found::Listed(bucket, wanted))
}

/// The folder to fetch into, and what it lacks.
fn claim(model: &S3Model, wanted: &[S3Object]) -> Result<(Folder, Vec<S3Object>), Problem> {
    let wanted: Vec<&S3Object> = wanted.iter().collect();
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
        mib(total)
    );
    let missing = missing.into_iter().cloned().collect();
    Ok((folder, missing))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn is_weight(name: &str) -> bool {
    let ends = [".safetensors", ".bin", ".gguf"];
    ends.iter().any(|end| name.ends_with(end))
}

/// What is left to fetch while the model is loaded.
struct Rest {
    bucket: Bucket,
    folder: Folder,
    weights: Vec<S3Object>,
    progress: Progress,
    arriving: Arc<Arriving>,
}

impl Rest {
    fn fetch(mut self) {
        let mut transfer = Transfer::of(&self.bucket, &mut self.folder, &[]);
        transfer.arriving = Some(&*self.arriving);
        transfer.progress = self.progress;
        let end = match self.bucket.wait(transfer.run(&self.weights)) {
            Ok(End::All) => self.folder.complete(),
            Ok(End::Abandoned) => return,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = &end {
            warn!("{problem}: the next start fetches what is missing");
        }
        self.arriving.end(end);
    }
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
    open: HashMap<usize, (Arc<File>, u64)>,
    /// Who hears of progress.
    observer: Option<&'a Observer>,
    /// Who waits for parts.
    arriving: Option<&'a Arriving>,
    progress: Progress,
}

/// How a transfer ends that does not fail.
enum End {
    All,
    /// Nobody wants it any more.
    Abandoned,
}

impl<'a> Transfer<'a> {
    fn of(bucket: &'a Bucket, folder: &'a mut Folder, missing: &[S3Object]) -> Self {
        let total = missing.iter().map(|file| file.size).sum();
        Self {
            bucket,
            folder,
            open: HashMap::new(),
            observer: None,
            arriving: None,
            progress: Progress { done: 0, total },
        }
    }

    async fn run(&mut self, files: &[S3Object]) -> Result<End, Problem> {
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
                let bytes = bucket.part(&files[at], range.clone()).await?;
                Ok::<_, Problem>((at, range.start, bytes))
            })
            .buffer_unordered(REQUESTS);
        while let Some((at, start, bytes)) = arriving.try_next().await? {
            if !self.write(at, &files[at], start, &bytes)? {
                return Ok(End::Abandoned);
            }
        }
        Ok(End::All)
    }

    fn create(&self, file: &S3Object) -> Result<Arc<File>, Problem> {
        let path = self.folder.part(file);
        let create = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            options.open(&path)
        };
        let open = create().map_err(|cause| Problem::cache(&path, &cause))?;
        let open = Arc::new(open);
        if let Some(arriving) = self.arriving {
            arriving.open(&file.name, Arc::clone(&open), file.size, false);
        }
        Ok(open)
    }

    /// False: nobody wants the rest.
    fn write(
        &mut self,
        at: usize,
        file: &S3Object,
        start: u64,
        bytes: &[u8],
    ) -> Result<bool, Problem> {
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
        if let Some(observer) = self.observer {
            observer(Phase::Fetching, self.progress);
        }
        let arriving = self.arriving;
        Ok(arriving.is_none_or(|waiting| waiting.arrived(&file.name, start, self.progress)))
    }
}

/// The ranges of bytes in which an object is fetched.
pub(super) fn parts(size: u64) -> impl Iterator<Item = Range<u64>> {
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
