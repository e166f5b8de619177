//! Fetches a repository of the Hugging Face hub into the cache that Python's `huggingface_hub`
//! uses as well.
//!
//! All files are of one commit. The cache calls a commit the branch's head only when all of its
//! files have arrived, so a start that was cut off is never taken for a whole model.

use std::cell::{Cell, OnceCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use sconce_config::HubModel;
use sconce_core::{Observer, Phase, Progress};
use sconce_engine::first_files;
use serde::Deserialize;
use tracing::{info, warn};

use crate::disk;
use crate::error::ManagerError;
use crate::hub_error::{HubError, Problem};
use crate::remote::{Remote, RemoteFile};
use crate::wanted::{Unclear, wanted_files};

/// A file is asked for again after each of these; then the connection counts as broken.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(1000),
    Duration::from_millis(4000),
];

/// What the hub says of a repository at a revision.
#[derive(Debug, Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    rfilename: String,
    /// In bytes; mirrors may leave it out.
    size: Option<u64>,
}

/// The folder of the cache with all files that serving needs, after fetching those that are not
/// there. If the hub cannot be reached, the commit that was fetched last is taken.
pub(crate) fn snapshot(model: &HubModel, observer: &Observer) -> Result<PathBuf, Box<HubError>> {
    observer(Phase::Fetching, Progress::default());
    if model.offline {
        let kept = cached(model).ok_or_else(|| offline(model));
        return kept.map_err(|problem| Box::new(HubError::new(model, problem)));
    }
    Hub::open(model, observer)
        .and_then(|hub| hub.snapshot())
        .map_err(|problem| Box::new(HubError::new(model, problem)))
}

/// The repository as files that are read in parts; nothing goes into the cache.
pub(crate) struct HubFiles<'a> {
    hub: Hub<'a>,
    /// The commit that the listing named: all files are of it.
    commit: OnceCell<String>,
}

impl<'a> HubFiles<'a> {
    pub(crate) fn open(model: &'a HubModel) -> Result<Self, ManagerError> {
        if model.offline {
            return Err(error(model, offline(model)));
        }
        let hub = Hub::open(model, &|_, _| {}).map_err(|problem| error(model, problem))?;
        Ok(Self {
            hub,
            commit: OnceCell::new(),
        })
    }

    fn error(&self, problem: Problem) -> ManagerError {
        error(self.hub.model, problem)
    }
}

fn offline(model: &HubModel) -> Problem {
    Problem::Offline {
        path: model.cache.display().to_string(),
    }
}

fn error(model: &HubModel, problem: Problem) -> ManagerError {
    ManagerError::Hub(Box::new(HubError::new(model, problem)))
}

impl Remote for HubFiles<'_> {
    fn list(&self) -> Result<Vec<RemoteFile>, ManagerError> {
        let branch = self.hub.branch();
        let listing = self.hub.listing(&branch).map_err(|p| self.error(p))?;
        // The listing of one repository is asked for once.
        let _ = self.commit.set(listing.sha);
        let known = |file: File| {
            Some(RemoteFile {
                name: file.rfilename,
                size: file.size?,
            })
        };
        Ok(listing.siblings.into_iter().filter_map(known).collect())
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, ManagerError> {
        let commit = self.commit.get().map_or("main", String::as_str);
        let bytes = self.hub.part(commit, name, range);
        bytes.map_err(|problem| self.error(problem))
    }

    fn describe(&self) -> String {
        format!("{} of {}", self.hub.model.id, self.hub.model.endpoint)
    }

    fn unclear(&self, unclear: Unclear, names: &[&str]) -> ManagerError {
        self.error(Problem::unclear(unclear, names))
    }
}

/// The folder with the files of an earlier start, if there was one.
pub(crate) fn cached(model: &HubModel) -> Option<PathBuf> {
    let dir = head(&Cache::new(model.cache.clone()).repo(branch(model)))?;
    let names: Vec<String> = std::fs::read_dir(&dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let has_gguf = || !first_files(names.iter().map(String::as_str)).is_empty();
    (dir.join("config.json").exists() || has_gguf()).then_some(dir)
}

/// The folder of the commit that the cache calls the head of a branch, if it has one. The
/// library's own question is for a file, and there is none that all repositories have.
fn head(branch: &CacheRepo) -> Option<PathBuf> {
    let dir = branch.get("")?;
    // Without the slash at its end.
    Some(dir.components().collect())
}

/// What was asked for, a branch in most cases.
fn branch(model: &HubModel) -> Repo {
    let revision = model.revision.as_deref().unwrap_or("main");
    Repo::with_revision(model.id.clone(), RepoType::Model, revision.into())
}

struct Hub<'a> {
    model: &'a HubModel,
    cache: Cache,
    api: Api,
    observer: &'a Observer,
}

impl<'a> Hub<'a> {
    fn open(model: &'a HubModel, observer: &'a Observer) -> Result<Self, Problem> {
        let cache = Cache::new(model.cache.clone());
        let mut builder =
            ApiBuilder::from_cache(cache.clone()).with_endpoint(model.endpoint.clone());
        if model.token.is_some() {
            builder = builder.with_token(model.token.clone());
        }
        let api = builder.build().map_err(Problem::listing)?;
        Ok(Self {
            model,
            cache,
            api,
            observer,
        })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.model.id.clone(), RepoType::Model, revision.into())
    }

    fn branch(&self) -> Repo {
        branch(self.model)
    }

    /// These bytes of a file of a commit.
    fn part(&self, commit: &str, file: &str, range: Range<u64>) -> Result<Vec<u8>, Problem> {
        if range.is_empty() {
            return Ok(vec![]);
        }
        let fail = |cause| Problem::fetching(file, ApiError::RequestError(Box::new(cause)));
        let url = self.api.repo(self.repo(commit)).url(file);
        let mut request = ureq::get(url)
            .header("Range", format!("bytes={}-{}", range.start, range.end - 1))
            .config()
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .build();
        if let Some(token) = self.model.token.clone().or_else(|| self.cache.token()) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let wanted = range.end - range.start;
        let mut response = request.call().map_err(fail)?;
        let body = response.body_mut().with_config().limit(wanted);
        let bytes = body.read_to_vec().map_err(fail)?;
        let length = bytes.len() as u64;
        if length < wanted {
            return Err(Problem::Length {
                file: file.into(),
                length,
                wanted,
            });
        }
        Ok(bytes)
    }

    fn snapshot(&self) -> Result<PathBuf, Problem> {
        let branch = self.branch();
        match self.listing(&branch) {
            Ok(listing) => {
                let dir = self.complete(&listing)?;
                let branch = self.cache.repo(branch.clone());
                // A cache that is complete may be one that can only be read.
                if head(&branch).as_ref() != Some(&dir) {
                    branch
                        .create_ref(&listing.sha)
                        .map_err(|cause| Problem::cache(&dir, &cause))?;
                }
                Ok(dir)
            }
            Err(problem) if problem.is_passing() => {
                let dir = cached(self.model).ok_or_else(|| problem.clone())?;
                warn!(
                    "{problem}: serving {} as it was fetched before, from {}",
                    self.model.id,
                    dir.display()
                );
                Ok(dir)
            }
            Err(problem) => Err(problem),
        }
    }

    fn listing(&self, branch: &Repo) -> Result<Listing, Problem> {
        let request = self.api.repo(branch.clone()).info_request();
        // A refusal has its reason in a header, which the library's own error would not keep.
        let request = request.config().http_status_as_error(false).build();
        let mut response = request
            .query("blobs", "true")
            .call()
            .map_err(|error| Problem::listing(ApiError::RequestError(Box::new(error))))?;
        let status = response.status().as_u16();
        if status != 200 {
            let reason = response.headers().get("x-error-message");
            let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into());
            return Err(Problem::Refused {
                file: None,
                status,
                reason,
            });
        }
        let listing = response.body_mut().read_json();
        listing.map_err(|error| Problem::listing(ApiError::RequestError(Box::new(error))))
    }

    /// Fetches what is not there yet of a commit's files.
    fn complete(&self, listing: &Listing) -> Result<PathBuf, Problem> {
        let names: Vec<&str> = listing
            .siblings
            .iter()
            .map(|file| file.rfilename.as_str())
            .collect();
        let wanted = wanted_files(&names, self.model.gguf_file.as_deref())
            .map_err(|unclear| Problem::unclear(unclear, &names))?;
        let commit = self.repo(&listing.sha);
        let dir = self.cache.repo(commit.clone()).pointer_path(&listing.sha);
        let missing: Vec<&File> = listing
            .siblings
            .iter()
            .filter(|file| wanted.contains(&file.rfilename.as_str()))
            .filter(|file| !dir.join(&file.rfilename).exists())
            .collect();
        let total = missing.iter().filter_map(|file| file.size).sum();
        if !missing.is_empty() {
            std::fs::create_dir_all(&dir).map_err(|cause| Problem::cache(&dir, &cause))?;
            check_space(&dir, total)?;
            info!(
                "fetching {} at {}: {} of {} files are missing, {:.1} MiB",
                self.model.id,
                listing.sha,
                missing.len(),
                wanted.len(),
                total as f64 / f64::from(1 << 20)
            );
        }
        let progress = Rc::new(Cell::new(Progress { done: 0, total }));
        let api = self.api.repo(commit);
        for file in missing {
            let path = self.persist(&api, file, &progress)?;
            if path != dir.join(&file.rfilename) {
                return Err(Problem::commit(file.rfilename.as_str(), &listing.sha));
            }
        }
        Ok(dir)
    }

    /// Fetches a file, again if the connection breaks; what has arrived is kept.
    fn persist(
        &self,
        api: &ApiRepo,
        file: &File,
        progress: &Rc<Cell<Progress>>,
    ) -> Result<PathBuf, Problem> {
        let before = progress.get();
        let mut pauses = PAUSES.iter();
        loop {
            progress.set(before);
            let problem = match self.fetch(api, file, progress) {
                Ok(path) => return Ok(path),
                Err(problem) => problem,
            };
            let Some(&pause) = pauses.next().filter(|_| problem.is_passing()) else {
                return Err(problem);
            };
            if problem.is_about_the_part() {
                self.forget_part(api, &file.rfilename);
            }
            warn!("{problem}: trying again in {} ms", pause.as_millis());
            sleep(pause);
        }
    }

    /// Removes what has arrived of a file, which cannot be its beginning.
    fn forget_part(&self, api: &ApiRepo, file: &str) {
        let Ok(metadata) = self.api.metadata(&api.url(file)) else {
            return;
        };
        let blob = self
            .cache
            .repo(self.repo("main"))
            .blob_path(metadata.etag());
        if let Err(cause) = std::fs::remove_file(blob.with_extension("part")) {
            warn!("what has arrived of {file} cannot be removed: {cause}");
        }
    }

    fn fetch(
        &self,
        api: &ApiRepo,
        file: &File,
        progress: &Rc<Cell<Progress>>,
    ) -> Result<PathBuf, Problem> {
        let name = file.rfilename.as_str();
        let size = Rc::new(Cell::new(0));
        let report = Report {
            observer: self.observer,
            progress: Rc::clone(progress),
            size: Rc::clone(&size),
        };
        let path = api
            .download_with_progress(name, report)
            .map_err(|error| Problem::fetching(name, error))?;
        let length = std::fs::metadata(&path).map(|meta| meta.len());
        let length = length.map_err(|cause| Problem::cache(&path, &cause))?;
        let wanted = file.size.unwrap_or(size.get());
        if length == wanted {
            return Ok(path);
        }
        discard(&path).map_err(|cause| Problem::cache(&path, &cause))?;
        Err(Problem::Length {
            file: name.into(),
            length,
            wanted,
        })
    }
}

fn check_space(dir: &Path, needed: u64) -> Result<(), Problem> {
    match disk::lacks(dir, needed) {
        None => Ok(()),
        Some(free) => Err(Problem::Space {
            path: dir.display().to_string(),
            free: free >> 20,
            needed: needed.div_ceil(1 << 20),
        }),
    }
}

/// Removes a file of the cache and what it points to, so that the next start fetches it again.
fn discard(pointer: &Path) -> std::io::Result<()> {
    std::fs::remove_file(pointer.canonicalize()?)?;
    std::fs::remove_file(pointer)
}

/// Adds what arrives of one file to the progress of all.
struct Report<'a> {
    observer: &'a Observer,
    progress: Rc<Cell<Progress>>,
    /// What the server says of the file's size.
    size: Rc<Cell<u64>>,
}

impl hf_hub::api::Progress for Report<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.size.set(size as u64);
    }

    fn update(&mut self, size: usize) {
        let mut progress = self.progress.get();
        progress.done += size as u64;
        self.progress.set(progress);
        (self.observer)(Phase::Fetching, progress);
    }

    fn finish(&mut self) {}
}
