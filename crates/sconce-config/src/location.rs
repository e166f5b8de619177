//! Where a model's files are: looks into directories, never fetches.

use std::path::{Path, PathBuf};

use crate::bucket;
use crate::draft::Draft;
use crate::error::ConfigError;
use crate::handler::Handler;
use crate::script;
use crate::settings::{HubModel, ModelSource, PrefixSettings};

/// Files of which a model's folder has one: transformers' or that of a pipeline of diffusers.
const PRESENT: [&str; 2] = ["config.json", "model_index.json"];

/// What a folder that PEFT saved has in their place: the adapter of another model.
const ADAPTER: &str = "adapter_config.json";

/// How the names of files end that are models by themselves.
const GGUF: &str = ".gguf";

/// A model's place, and the GGUF file there, if one is named as the model.
pub(crate) struct Located {
    pub(crate) source: ModelSource,
    pub(crate) gguf_file: Option<String>,
    /// The adapter that changes it for every request, of a folder that is one and names its base.
    pub(crate) adapter: Option<PathBuf>,
}

impl From<ModelSource> for Located {
    fn from(source: ModelSource) -> Self {
        Self {
            source,
            gguf_file: None,
            adapter: None,
        }
    }
}

/// What a directory holds, in order of name.
pub(crate) struct Listing {
    items: Vec<Item>,
}

/// One entry of a directory.
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
}

impl Item {
    /// Whether it can be a model by itself: a visible directory or an archive.
    pub(crate) fn is_model_like(&self) -> bool {
        (self.is_dir && !self.name.starts_with('.')) || is_archive(&self.name)
    }
}

/// The suffixes of archives that DJL Serving unpacks.
const ARCHIVES: [&str; 6] = [".zip", ".mar", ".tgz", ".tar.gz", ".tar.z", ".tar"];

pub(crate) fn is_archive(name: &str) -> bool {
    ARCHIVES.iter().any(|end| name.ends_with(end))
}

/// The name of an archive without what it is packed with.
pub(crate) fn without_archive_suffix(name: &str) -> &str {
    let mut found = ARCHIVES.iter().filter_map(|end| name.strip_suffix(end));
    found.next().unwrap_or(name)
}

impl Listing {
    pub(crate) fn read(dir: &Path) -> Result<Self, ConfigError> {
        let unreadable = |cause: std::io::Error| ConfigError::Unreadable {
            path: dir.into(),
            cause: cause.to_string(),
        };
        let mut items = Vec::new();
        for item in std::fs::read_dir(dir).map_err(unreadable)? {
            let item = item.map_err(unreadable)?;
            let name = item.file_name().to_string_lossy().into_owned();
            // Follows links, as mounted volumes are full of them.
            items.push(Item {
                name,
                is_dir: item.path().is_dir(),
            });
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { items })
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    fn has(&self, name: &str) -> bool {
        self.items.iter().any(|item| item.name == name)
    }

    fn has_gguf(&self) -> bool {
        self.items.iter().any(|item| item.name.ends_with(GGUF))
    }

    /// What a directory without `config.json` is instead of a model: its stable name and a hint.
    fn instead(&self) -> (&'static str, &'static str) {
        let any = |fits: fn(&str) -> bool| self.items.iter().any(|item| fits(&item.name));
        if self.items.is_empty() {
            (
                "empty-directory",
                "; was it mounted, was it copied to another place?",
            )
        } else if self.has(ADAPTER) {
            (
                "adapter-only",
                "; it is an adapter, and its adapter_config.json names no base model (or is no JSON): say where that is by \
                 base_model_name_or_path there, or serve it with option.enable_lora=true and put the adapter into a folder of its \
                 folder adapters",
            )
        } else if any(|name| name == "params.json" || name.starts_with("consolidated.")) {
            (
                "other-format",
                "; it is in the layout of the original authors: take the folder that was converted \
                 for transformers",
            )
        } else if any(|name| name == "ds_inference_config.json" || name == "config.ini") {
            (
                "partitioned-checkpoint",
                "; it was cut for another engine: take the checkpoint it was cut from",
            )
        } else if self.has("MAR-INF") {
            (
                "torchserve-archive",
                "; it is an archive of TorchServe, whose handlers are not run: give its model a \
                 model.py with a function handle(inputs)",
            )
        } else if any(is_archive) {
            (
                "archive-only",
                "; archives are not unpacked: unpack it into the directory",
            )
        } else if any(|name| name.ends_with(".ckpt") || name.ends_with(".safetensors")) {
            (
                "single-file-checkpoint",
                "; weights in one file say nothing of their model: of Stable Diffusion, load them with \
                 from_single_file of diffusers, and save_pretrained the result",
            )
        } else {
            ("no-checkpoint", "")
        }
    }

    /// The first names, for a message.
    fn summary(&self) -> String {
        const MOST: usize = 12;
        let names: Vec<_> = self
            .items
            .iter()
            .map(|item| item.name.as_str())
            .take(MOST)
            .collect();
        match (names.as_slice(), self.items.len()) {
            ([], _) => "nothing".into(),
            (names, all) if all > MOST => format!("{} and {} more", names.join(", "), all - MOST),
            (names, _) => names.join(", "),
        }
    }
}

/// The directory itself, or the only thing in it, if that is a directory.
pub(crate) fn descend(dir: PathBuf) -> Result<PathBuf, ConfigError> {
    match Listing::read(&dir)?.items() {
        [only] if only.is_dir && !only.name.starts_with('.') => Ok(dir.join(&only.name)),
        _ => Ok(dir),
    }
}

/// The model of a directory: the `file` there that is the model, else what `option.model_id` names,
/// else the directory itself.
pub(crate) fn of_directory(
    dir: &Path,
    file: Option<&str>,
    draft: &Draft,
) -> Result<Located, ConfigError> {
    if let Some(file) = file {
        return of_file(dir, file, draft);
    }
    let Some(id) = &draft.model_id else {
        return checkpoint(dir, draft);
    };
    let inner = named(id, Some(dir));
    let is_here = |inner: &Path| {
        same(inner, dir)
            || inner
                .parent()
                .is_some_and(|in_| is_gguf(inner) && same(in_, dir))
    };
    if !inner.as_deref().is_some_and(is_here) {
        not_here_as_well(dir, id)?;
    }
    match inner {
        Some(inner) => checkpoint(&inner, draft),
        None => elsewhere(id, draft, "option.model_id").map(Into::into),
    }
}

/// A file that is named itself: `option.model_id` beside it may name it as well, or where it is.
fn of_file(dir: &Path, file: &str, draft: &Draft) -> Result<Located, ConfigError> {
    let path = dir.join(file);
    if let Some(id) = &draft.model_id {
        let named = named(id, Some(dir));
        if !named.is_some_and(|named| same(&named, &path) || same(&named, dir)) {
            return Err(ConfigError::NamedAndPresent {
                key: "option.model_id".into(),
                id: id.into(),
                dir: dir.into(),
                files: vec![file.into()],
            });
        }
    }
    checkpoint(&path, draft)
}

/// The model of a URL of S3: what `option.model_id` names, else the objects there.
pub(crate) fn of_bucket(
    url: &str,
    settings: PrefixSettings,
    draft: &Draft,
) -> Result<Located, ConfigError> {
    let has_code = draft.model.python.as_ref();
    let has_code = has_code.is_some_and(|python| python.is_fetched);
    match &draft.model_id {
        None => in_bucket(url, settings, draft, "model").map(Into::into),
        // The code lies here, and gets what else it wants by itself.
        Some(_) if has_code => in_bucket(url, settings, draft, "model").map(Into::into),
        Some(id) => match named(id, None) {
            Some(dir) => checkpoint(&dir, draft),
            None => elsewhere(id, draft, "option.model_id").map(Into::into),
        },
    }
}

/// Refuses a directory with a checkpoint whose properties name another one: nobody can tell which
/// of them is meant.
fn not_here_as_well(dir: &Path, id: &str) -> Result<(), ConfigError> {
    let listing = Listing::read(dir)?;
    let is_weights = |name: &str| {
        let ends = [
            ".safetensors",
            ".bin",
            ".safetensors.index.json",
            ".bin.index.json",
        ];
        ends.iter().any(|end| name.ends_with(end))
    };
    let names = || listing.items.iter().map(|item| item.name.clone());
    let weights = names().find(|name| is_weights(name));
    let Some(weights) = weights.filter(|_| listing.has("config.json")) else {
        return Ok(());
    };
    Err(ConfigError::NamedAndPresent {
        key: "option.model_id".into(),
        id: id.into(),
        dir: dir.into(),
        files: vec!["config.json".into(), weights],
    })
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// The model that this key (`HF_MODEL_ID`, or the command line) names.
pub(crate) fn of_hub_model(id: &str, key: &str, draft: &Draft) -> Result<Located, ConfigError> {
    match named(id, None) {
        Some(dir) => checkpoint(&dir, draft),
        None => hub(id, draft, key).map(Into::into),
    }
}

/// What is not on this machine.
fn elsewhere(id: &str, draft: &Draft, key: &str) -> Result<ModelSource, ConfigError> {
    if bucket::is_url(id) {
        return in_bucket(id, PrefixSettings::Elsewhere, draft, key);
    }
    hub(id, draft, key)
}

fn in_bucket(
    url: &str,
    settings: PrefixSettings,
    draft: &Draft,
    key: &str,
) -> Result<ModelSource, ConfigError> {
    let model = bucket::model(url, settings, draft);
    let wrong = |problem| ConfigError::BadUrl {
        key: key.into(),
        url: url.into(),
        problem,
    };
    model.map(ModelSource::S3).map_err(wrong)
}

/// The directory or GGUF file that an id names, if it exists: as it stands, or within another one.
pub(crate) fn named(id: &str, within: Option<&Path>) -> Option<PathBuf> {
    let path = without_scheme(id);
    let inner = within.map(|dir| dir.join(path));
    inner
        .into_iter()
        .chain([PathBuf::from(path)])
        .find(|path| path.is_dir() || is_gguf(path))
}

/// Whether the path is that of a GGUF file, which is a model by itself.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == &GGUF[1..]) && path.is_file()
}

/// A path without `file:` or `file://` before it.
pub(crate) fn without_scheme(url: &str) -> &str {
    let path = url.strip_prefix("file:").unwrap_or(url);
    path.strip_prefix("//")
        .filter(|_| path.len() < url.len())
        .unwrap_or(path)
}

/// Python code that would answer instead of the native engine: what `option.entryPoint` names, or,
/// if it is not set, a script with one of the names that DJL Serving looks for.
pub(crate) fn own_code(dir: &Path, draft: &Draft) -> Result<Option<PathBuf>, ConfigError> {
    match (draft.facts.handler, &draft.entry_point) {
        (None, _) => Ok(script(dir).or_else(|| sklearn(dir))),
        (Some(Handler::Predictive), Some(name)) => Ok(Some(name.into())),
        (Some(Handler::OwnCode), Some(name)) => named_script(name, dir).map(Some),
        // Beside a handler of DJL Serving it may have functions for requests and answers.
        _ => Ok(script(dir)),
    }
}

/// The handler of a model of scikit-learn that lies there alone.
fn sklearn(dir: &Path) -> Option<PathBuf> {
    script::has_pickled_model(dir).then(|| script::SKLEARN.into())
}

/// A script that is taken without being named.
pub(crate) fn script(dir: &Path) -> Option<PathBuf> {
    let folder = dir.file_name().map(|name| name.to_string_lossy());
    let mut paths = script_names(folder.as_deref()).map(|name| dir.join(name));
    paths.find(|path| path.is_file())
}

/// The names of such scripts in a folder of this name.
pub(crate) fn script_names(folder: Option<&str>) -> impl Iterator<Item = String> {
    let named = folder.map(|name| format!("{name}.py"));
    ["model.py".to_owned()].into_iter().chain(named)
}

/// The script that an entry point names. The SageMaker SDK writes the caller's path where it has
/// put the file into the model's directory: the base name counts then.
fn named_script(name: &str, dir: &Path) -> Result<PathBuf, ConfigError> {
    let is_url = name.starts_with("http://") || name.starts_with("https://");
    // A module is looked for by Python itself.
    if is_url || !name.ends_with(".py") {
        return Ok(name.into());
    }
    let path = Path::new(without_scheme(name));
    let base = dir.join(path.file_name().unwrap_or_default());
    let places = [dir.join(path), base.clone()];
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| ConfigError::NoScript {
        entry_point: name.into(),
        looked: base,
    })
}

/// Folder and name of a file.
pub(crate) fn split(file: &Path) -> (PathBuf, String) {
    // A bare name has an empty parent.
    let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let name = file.file_name().unwrap_or_default();
    (
        folder.unwrap_or(Path::new(".")).into(),
        name.to_string_lossy().into_owned(),
    )
}

fn checkpoint(dir: &Path, draft: &Draft) -> Result<Located, ConfigError> {
    model_in(dir, draft, true)
}

/// The model of a folder; that of an adapter, if it may be one, is its base.
fn model_in(dir: &Path, draft: &Draft, may_adapt: bool) -> Result<Located, ConfigError> {
    if is_gguf(dir) {
        let (folder, name) = split(dir);
        return Ok(Located {
            source: ModelSource::Directory(folder),
            gguf_file: Some(name),
            adapter: None,
        });
    }
    let listing = Listing::read(dir)?;
    if PRESENT.iter().any(|name| listing.has(name)) || listing.has_gguf() {
        return Ok(ModelSource::Directory(dir.into()).into());
    }
    if may_adapt
        && listing.has(ADAPTER)
        && let Some((base, revision)) = base_of(dir)
    {
        let located = match named(&base, Some(dir)) {
            Some(folder) => model_in(&folder, draft, false)?,
            None => elsewhere(&base, draft, "base_model_name_or_path")?.into(),
        };
        return Ok(adapted(located, dir, revision));
    }
    let (code, hint) = match !may_adapt && listing.has(ADAPTER) {
        true => (
            "adapter-only",
            "; it is an adapter too, and adapters are not served on top of each other: merge it into its base",
        ),
        false => listing.instead(),
    };
    let (found, hint) = (listing.summary(), hint.into());
    Err(ConfigError::NotAModel {
        dir: dir.into(),
        code,
        found,
        hint,
    })
}

/// The base model that an adapter was made for, and its revision on the hub.
fn base_of(dir: &Path) -> Option<(String, Option<String>)> {
    let bytes = std::fs::read(dir.join(ADAPTER)).ok()?;
    let keys: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let text = |key: &str| {
        let text = keys.get(key)?.as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    Some((text("base_model_name_or_path")?, text("revision")))
}

/// The base with its adapter. `option.revision` is that of what was named, not of the base.
fn adapted(located: Located, dir: &Path, revision: Option<String>) -> Located {
    let source = match located.source {
        ModelSource::Hub(model) => ModelSource::Hub(HubModel { revision, ..model }),
        other => other,
    };
    Located {
        source,
        adapter: Some(dir.into()),
        ..located
    }
}

fn hub(id: &str, draft: &Draft, key: &str) -> Result<ModelSource, ConfigError> {
    let is_name = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(plain)
    };
    if id.split('/').count() > 2 || !id.split('/').all(is_name) {
        return Err(ConfigError::NoSuchModel {
            key: key.into(),
            id: id.into(),
        });
    }
    let cache = draft.hub_cache.clone().ok_or(ConfigError::NoHubCache)?;
    Ok(ModelSource::Hub(HubModel {
        id: id.into(),
        revision: draft.revision.clone(),
        token: draft.token.clone(),
        endpoint: draft.hub_endpoint.clone(),
        cache,
        offline: draft.hub_offline,
        gguf_file: draft.model.gguf_file.clone(),
    }))
}
