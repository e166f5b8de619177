//! Models below a prefix of an S3 bucket, fetched into a folder of this machine.
//!
//! `access` says how the environment wants S3 to be asked, `connector` carries the requests,
//! `bucket` lists and reads, `cache` keeps the files, `fetch` brings the two together. Decoders are loaded while
//! their weights come: those in files by `arriving`, those of which nothing is kept by `stream`.

mod access;
mod arriving;
mod bucket;
mod cache;
#[cfg(test)]
mod coming_tests;
mod connector;
mod error;
mod fetch;
mod files;
mod nothing;
mod object;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use sconce_config::{BucketFile, BucketFolder, S3Model};
use sconce_core::{Observer, Phase, Progress};

use crate::store::Place;
use bucket::Bucket;
use cache::Folder;
pub use error::S3Error;
use fetch::Fetched;
pub(crate) use files::S3Files;

/// The port is not open yet while settings are looked for: failures are the loader's to tell.
const GLANCE: Duration = Duration::from_secs(8);
/// A longer file of settings is none.
const LONGEST_SETTINGS: u64 = 1 << 20;
const SETTINGS: &str = "serving.properties";

/// The directory with all objects that serving needs, after fetching those that are not there. If
/// S3 cannot be reached, what was fetched last is taken.
pub(crate) fn snapshot(model: &S3Model, observer: &Observer) -> Result<PathBuf, Box<S3Error>> {
    observer(Phase::Fetching, Progress::default());
    fetch::snapshot(model, observer).map_err(|problem| Box::new(S3Error::new(model, problem)))
}

/// The same for who can begin with what does not take long; `streams`: nothing is kept on the disk.
pub(crate) fn begin(
    model: &S3Model,
    streams: bool,
    observer: &Observer,
) -> Result<Place, Box<S3Error>> {
    observer(Phase::Fetching, Progress::default());
    let fetched = match streams {
        true => fetch::stream(model, observer),
        false => fetch::begin(model, observer),
    };
    match fetched {
        Ok(Fetched::Whole(dir)) => Ok(Place::Here(dir)),
        Ok(Fetched::Coming(coming)) => Ok(Place::Coming(coming)),
        Err(problem) => Err(Box::new(S3Error::new(model, problem))),
    }
}

/// What there is below a prefix that settings depend on. `None`: that cannot be known now, and
/// loading the model will tell why.
pub(crate) fn bucket_folder(model: &S3Model) -> Option<BucketFolder> {
    match Bucket::open(model, GLANCE) {
        Ok(bucket) => of_bucket(&bucket),
        Err(problem) if problem.is_passing() => {
            let with_code = || {
                of_an_earlier_start(&S3Model {
                    all: true,
                    ..model.clone()
                })
            };
            of_an_earlier_start(model).or_else(with_code)
        }
        Err(_) => None,
    }
}

/// The folder with the objects of an earlier start with the same settings, if there was one.
pub(crate) fn cached(model: &S3Model) -> Option<PathBuf> {
    Folder::of_an_earlier_start(model).map(|folder| folder.dir().to_path_buf())
}

fn of_bucket(bucket: &Bucket) -> Option<BucketFolder> {
    let files = bucket.files();
    let mut folder = BucketFolder {
        files: files.iter().map(|file| file.name.clone()).collect(),
        properties: None,
    };
    if let Some(file) = files.iter().find(|file| file.name == SETTINGS) {
        let size = Some(file.size).filter(|&size| size <= LONGEST_SETTINGS)?;
        let bytes = match size {
            0 => vec![],
            _ => bucket.read(file, 0..size).ok()?,
        };
        let etag = file.etag.clone();
        folder.properties = Some(BucketFile { bytes, etag });
    }
    Some(folder)
}

fn of_an_earlier_start(model: &S3Model) -> Option<BucketFolder> {
    let folder = Folder::of_whatever_settings(model)?;
    let properties = folder.settings();
    Some(BucketFolder {
        files: folder.names(),
        properties: properties.map(|(etag, bytes)| BucketFile { bytes, etag }),
    })
}
