//! A prefix of a bucket: what it holds, and the bytes of its objects.
//!
//! The library is asynchronous and the rest of loading is not: a bucket has a runtime of its own,
//! without threads but those that wait for answers.

use std::ops::Range;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use sconce_config::S3Model;
use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use super::access::{self, Credentials};
use super::error::{Asked, Problem};
use super::nothing::Nothing;
use super::object::S3Object;
use crate::wanted::belongs;

/// An open prefix; its objects were listed when it was opened.
pub(crate) struct Bucket {
    runtime: Runtime,
    store: AmazonS3,
    files: Vec<S3Object>,
}

impl Bucket {
    /// Lists the objects directly below the prefix, at least one, and those of folders there that belong to the model.
    pub(crate) fn open(model: &S3Model, patience: Duration) -> Result<Self, Problem> {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|cause| Problem::Runtime(cause.to_string()))?;
        let prefix = Path::parse(&model.prefix).map_err(|cause| Problem::Connection {
            asked: Asked::Listing,
            cause: cause.to_string(),
        })?;
        let region = access::region(model);
        let mut store = access::client(model, region, patience)?;
        let files = runtime.block_on(async {
            authenticate(model, &store).await?;
            let listed = |store: AmazonS3| {
                let prefix = prefix.clone();
                async move {
                    match model.all {
                        true => all(&store, &prefix).await,
                        false => listed(&store, &prefix).await,
                    }
                }
            };
            let problem = match listed(store.clone()).await {
                Ok(files) => return Ok(files),
                Err(problem) => problem,
            };
            // Only a bucket's own region takes its requests, and refusals elsewhere name it.
            match problem.right_region() {
                Some(right) if right != region => {
                    warn!(
                        "the bucket {} is in {right} and not in {region}: it is read from there; \
                         AWS_REGION={right} saves a request",
                        model.bucket
                    );
                    store = access::client(model, right, patience)?;
                    listed(store.clone()).await
                }
                _ => Err(problem),
            }
        })?;
        Ok(Self {
            runtime,
            store,
            files,
        })
    }

    /// The objects that were listed.
    pub(crate) fn files(&self) -> &[S3Object] {
        &self.files
    }

    /// Some bytes of an object, if it is still the one that was listed.
    pub(crate) async fn part(
        &self,
        file: &S3Object,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Problem> {
        let asked = || Asked::Object(file.name.clone());
        let length = range.end.saturating_sub(range.start);
        let options = GetOptions {
            if_match: Some(file.etag.clone()).filter(|etag| !etag.is_empty()),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let wrong = |error| Problem::of_store(asked(), &error);
        let answer = self.store.get_opts(&file.location, options).await;
        let answer = answer.map_err(wrong)?;
        let bytes = answer.bytes().await.map_err(wrong)?;
        if bytes.len() as u64 != length {
            return Err(Problem::Connection {
                asked: asked(),
                cause: format!("{} bytes came instead of {length}", bytes.len()),
            });
        }
        Ok(bytes.into())
    }

    /// The same, waiting for it.
    pub(crate) fn read(&self, file: &S3Object, range: Range<u64>) -> Result<Vec<u8>, Problem> {
        self.wait(self.part(file, range))
    }

    /// Waits for the end of something that asks this bucket.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Asks for credentials first, so that their absence is no refusal of S3.
async fn authenticate(model: &S3Model, store: &AmazonS3) -> Result<(), Problem> {
    let looked = Credentials::of(model);
    match looked {
        Credentials::Unsigned => Ok(()),
        Credentials::Nowhere => Err(Problem::Credentials {
            looked: looked.place(),
            cause: "nobody can be asked".into(),
        }),
        _ => match store.credentials().get_credential().await {
            Ok(_) => Ok(()),
            Err(error) => Err(Problem::of_credentials(looked, &error)),
        },
    }
}

/// All objects below the prefix, those of folders too.
async fn all(store: &AmazonS3, prefix: &Path) -> Result<Vec<S3Object>, Problem> {
    let wrong = |error| Problem::of_store(Asked::Listing, &error);
    let found: Vec<_> = store
        .list(Some(prefix))
        .try_collect()
        .await
        .map_err(wrong)?;
    let objects = found.into_iter().filter_map(|meta| {
        let parts = meta.location.prefix_match(prefix)?;
        let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
        // The marker of a folder ends with a slash, which the library takes away.
        let name = parts.join("/");
        (!name.is_empty()).then(|| S3Object {
            name,
            location: meta.location.clone(),
            size: meta.size,
            etag: meta.e_tag.unwrap_or_default(),
        })
    });
    let objects: Vec<_> = objects.collect();
    // Consoles mark folders by empty objects, whose names are those of the folders.
    let is_folder = |file: &S3Object| {
        let below = format!("{}/", file.name);
        file.size == 0 && objects.iter().any(|other| other.name.starts_with(&below))
    };
    let files: Vec<_> = objects
        .iter()
        .filter(|file| !is_folder(file))
        .cloned()
        .collect();
    match files.is_empty() {
        true => Err(Problem::Nothing(around(store, prefix).await)),
        false => Ok(files),
    }
}

/// The objects of a listing but the one that marks the folder, their names behind `before`.
fn directly(objects: Vec<ObjectMeta>, folder: &Path, before: &str) -> Vec<S3Object> {
    let objects = objects.into_iter().filter(|meta| meta.location != *folder);
    let object = |meta: ObjectMeta| S3Object {
        name: format!("{before}{}", meta.location.filename().unwrap_or_default()),
        location: meta.location,
        size: meta.size,
        etag: meta.e_tag.unwrap_or_default(),
    };
    objects.map(object).collect()
}

/// The objects directly below the prefix; with those of the folders that belong to a pipeline, or to modules.
async fn listed(store: &AmazonS3, prefix: &Path) -> Result<Vec<S3Object>, Problem> {
    let wrong = |error| Problem::of_store(Asked::Listing, &error);
    let level = store
        .list_with_delimiter(Some(prefix))
        .await
        .map_err(wrong)?;
    let has_marker = level.objects.iter().any(|meta| meta.location == *prefix);
    let mut files = directly(level.objects, prefix, "");
    let beside: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let beside: Vec<&str> = beside.iter().map(String::as_str).collect();
    for folder in &level.common_prefixes {
        let name = folder.filename().unwrap_or_default();
        if belongs(name, &beside) {
            let below = store.list_with_delimiter(Some(folder)).await;
            let below = below.map_err(wrong)?.objects;
            files.extend(directly(below, folder, &format!("{name}/")));
        }
    }
    if !files.is_empty() {
        return Ok(files);
    }
    let folders: Vec<_> = level.common_prefixes.iter().map(Path::to_string).collect();
    Err(Problem::Nothing(if !folders.is_empty() {
        Nothing::OnlyFolders(folders)
    } else if has_marker {
        Nothing::OnlyMarker
    } else {
        around(store, prefix).await
    }))
}

/// What there is one level above a prefix below which there is nothing.
async fn around(store: &AmazonS3, prefix: &Path) -> Nothing {
    let Some(last) = prefix.filename() else {
        return Nothing::EmptyBucket;
    };
    let parts: Vec<_> = prefix.parts().collect();
    let parent: Path = parts[..parts.len() - 1].iter().cloned().collect();
    // Who may list the prefix need not be allowed to list what is above it.
    let Ok(level) = store.list_with_delimiter(Some(&parent)).await else {
        return Nothing::Missing { beside: None };
    };
    if level
        .objects
        .iter()
        .any(|meta| meta.location.filename() == Some(last))
    {
        let key = prefix.to_string();
        return Nothing::Object { key };
    }
    let folders = level.common_prefixes.iter().map(|path| format!("{path}/"));
    let objects = level.objects.iter().map(|meta| meta.location.to_string());
    Nothing::Missing {
        beside: Some(folders.chain(objects).collect()),
    }
}
