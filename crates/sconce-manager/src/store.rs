//! Where a model's files come from: a directory as it is, or a hub's repository in the cache.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use sconce_config::ModelSource;
use sconce_core::{Phase, Progress};
use sconce_engine::Observer;
use tracing::{info, warn};

use crate::error::ManagerError;

/// The directory that holds the model's files, fetched first if need be.
pub(crate) fn directory(
    source: &ModelSource,
    observer: &Observer,
) -> Result<PathBuf, ManagerError> {
    match source {
        ModelSource::Directory(dir) => Ok(dir.clone()),
        ModelSource::Hub {
            id,
            revision,
            token,
        } => {
            let revision = revision.as_deref().unwrap_or("main");
            fetch(&HubModel { id, revision }, token.clone(), observer)
        }
    }
}

struct HubModel<'a> {
    id: &'a str,
    revision: &'a str,
}

impl HubModel<'_> {
    fn error(&self, what: impl Into<String>, cause: &ApiError) -> ManagerError {
        ManagerError::Hub {
            id: self.id.into(),
            revision: self.revision.into(),
            what: what.into(),
            cause: cause.to_string(),
        }
    }
}

fn fetch(
    model: &HubModel<'_>,
    token: Option<String>,
    observer: &Observer,
) -> Result<PathBuf, ManagerError> {
    observer(Phase::Fetching, Progress::default());
    let repo = Repo::with_revision(model.id.into(), RepoType::Model, model.revision.into());
    let cache = Cache::from_env().repo(repo.clone());
    let mut builder = ApiBuilder::from_env();
    if token.is_some() {
        builder = builder.with_token(token);
    }
    let api = builder
        .build()
        .map_err(|error| model.error("opening the hub's cache", &error))?;
    let api = api.repo(repo);
    let listing = match (api.info(), cache.get("config.json")) {
        (Ok(listing), _) => listing,
        (Err(error), Some(config)) => {
            warn!(
                "the hub does not answer ({error}): serving {} from the cache",
                model.id
            );
            return Ok(parent(&config));
        }
        (Err(error), None) => return Err(model.error("listing its files", &error)),
    };
    let files: Vec<String> = listing
        .siblings
        .into_iter()
        .map(|file| file.rfilename)
        .collect();
    let wanted = wanted_files(&files).ok_or_else(|| ManagerError::NoWeights {
        id: model.id.into(),
        files: files
            .iter()
            .take(12)
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    info!(
        "{} files of {} at {} are needed",
        wanted.len(),
        model.id,
        model.revision
    );
    let mut dir = PathBuf::new();
    for file in wanted {
        let path = match cache.get(file) {
            Some(path) => path,
            None => download(model, &api, file, observer)?,
        };
        dir = parent(&path);
    }
    Ok(dir)
}

fn download(
    model: &HubModel<'_>,
    api: &ApiRepo,
    file: &str,
    observer: &Observer,
) -> Result<PathBuf, ManagerError> {
    let report = Report {
        observer,
        progress: Progress::default(),
    };
    api.download_with_progress(file, report)
        .map_err(|error| model.error(format!("fetching {file}"), &error))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(PathBuf::from).unwrap_or_default()
}

struct Report<'a> {
    observer: &'a Observer,
    progress: Progress,
}

impl hf_hub::api::Progress for Report<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        info!(
            "fetching {filename}: {:.1} MiB",
            size as f64 / f64::from(1 << 20)
        );
        self.progress = Progress {
            done: 0,
            total: size as u64,
        };
    }

    fn update(&mut self, size: usize) {
        self.progress.done += size as u64;
        (self.observer)(Phase::Fetching, self.progress);
    }

    fn finish(&mut self) {}
}

/// The files of the top folder that serving needs: safetensors if there are any, else
/// `pytorch_model*.bin`, and all JSON and vocabulary files. `None`: no weights.
fn wanted_files(files: &[String]) -> Option<Vec<&str>> {
    let top = || {
        files
            .iter()
            .map(String::as_str)
            .filter(|file| !file.contains('/'))
    };
    let is_safetensors = |file: &&str| {
        let stem = file.trim_end_matches(".index.json");
        stem.starts_with("model") && stem.ends_with(".safetensors")
    };
    let is_torch = |file: &&str| {
        let stem = file.trim_end_matches(".index.json");
        stem.starts_with("pytorch_model") && stem.ends_with(".bin")
    };
    let mut weights: Vec<&str> = top().filter(is_safetensors).collect();
    if weights.is_empty() {
        weights = top().filter(is_torch).collect();
    }
    if weights.is_empty() {
        return None;
    }
    let text = top().filter(|file| {
        let is_index = file.ends_with(".index.json");
        (file.ends_with(".json") && !is_index) || matches!(*file, "merges.txt" | "vocab.txt")
    });
    Some(text.chain(weights).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        files.iter().map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn safetensors_are_preferred_and_folders_left_alone() {
        let files = names(&[
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
        ]);
        let wanted = wanted_files(&files).unwrap();
        assert_eq!(
            wanted,
            [
                "config.json",
                "tokenizer.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ]
        );
    }

    #[test]
    fn torch_files_serve_where_there_are_no_safetensors() {
        let files = names(&[
            "config.json",
            "pytorch_model.bin",
            "adapter_model.safetensors",
        ]);
        assert_eq!(
            wanted_files(&files).unwrap(),
            ["config.json", "pytorch_model.bin"]
        );
    }

    #[test]
    fn a_repository_without_weights_is_refused() {
        assert_eq!(wanted_files(&names(&["config.json", "model.gguf"])), None);
    }
}
