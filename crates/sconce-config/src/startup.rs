//! Which model a start is about: the directory on the command line, else what `load_models`,
//! `model_store` and `HF_MODEL_ID` say, by DJL Serving's rules.

use std::path::{Path, PathBuf};

use crate::bucket;
use crate::draft::Draft;
use crate::environment::CommandLine;
use crate::error::{ConfigError, Written};
use crate::gather::Setting;
use crate::location::{self, Listing};
use crate::provenance::Provenance;

/// The model to serve, before its own settings are read.
pub(crate) struct Startup {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// The GGUF file of the directory that is named as the model.
    pub(crate) file: Option<String>,
    pub(crate) from: Provenance,
    /// The engine that `load_models` names.
    pub(crate) engine: Option<String>,
}

/// Where a model is.
pub(crate) enum Place {
    /// A directory, which may have a `serving.properties`.
    Directory(PathBuf),
    /// What `HF_MODEL_ID` or the command line says.
    HubModel(String),
    /// `s3://bucket/prefix/`: a directory, but not on this machine.
    Bucket(String),
}

impl Startup {
    fn directory(dir: PathBuf, from: Provenance) -> Result<Self, ConfigError> {
        let dir = location::descend(dir)?;
        Ok(Self {
            name: path_name(&dir),
            place: Place::Directory(dir),
            file: None,
            from,
            engine: None,
        })
    }

    /// A GGUF file, whose settings lie beside it.
    fn file(path: &Path, from: Provenance) -> Self {
        let (dir, file) = location::split(path);
        Self {
            name: path_name(&path.with_extension("")),
            place: Place::Directory(dir),
            file: Some(file),
            from,
            engine: None,
        }
    }

    fn bucket(url: &str, from: Provenance) -> Self {
        Self {
            name: model_name(bucket::last_part(url)),
            place: Place::Bucket(url.into()),
            file: None,
            from,
            engine: None,
        }
    }

    fn hub_model(id: &str, from: Provenance) -> Self {
        let name = match location::named(id, None) {
            Some(file) if location::is_gguf(&file) => path_name(&file.with_extension("")),
            Some(dir) => path_name(&dir),
            None => model_name(id),
        };
        Self {
            name,
            place: Place::HubModel(id.into()),
            file: None,
            from,
            engine: None,
        }
    }

    /// What is named.
    pub(crate) fn what(&self) -> String {
        match (&self.place, &self.file) {
            (Place::Directory(dir), Some(file)) => dir.join(file).display().to_string(),
            (Place::Directory(dir), None) => dir.display().to_string(),
            (Place::HubModel(name) | Place::Bucket(name), _) => name.clone(),
        }
    }

    fn shown(&self) -> String {
        format!("{} ({})", self.what(), self.from)
    }
}

/// Decides for one model.
pub(crate) fn choose(
    line: &CommandLine,
    draft: &Draft,
    settings: &[Setting],
) -> Result<Startup, ConfigError> {
    if let Some(dir) = &line.model_dir {
        if let Some(url) = dir.to_str().filter(|name| bucket::is_url(name)) {
            return Ok(Startup::bucket(url, Provenance::CommandLine));
        }
        if location::is_gguf(dir) {
            return Ok(Startup::file(dir, Provenance::CommandLine));
        }
        return Startup::directory(dir.clone(), Provenance::CommandLine);
    }
    if let Some(id) = &line.model_id {
        return Ok(Startup::hub_model(id, Provenance::CommandLine));
    }
    let mut models = match draft.load_models.as_str() {
        "ALL" => scan(&draft.model_store, &provenance("model_store", settings))?,
        list => listed(list, draft, &provenance("load_models", settings))?,
    };
    if let Some(url) = draft.hub_model.as_ref().filter(|id| bucket::is_url(id)) {
        let from = provenance("HF_MODEL_ID", settings);
        models.push(Startup::bucket(url, from));
    } else if let Some(id) = &draft.hub_model {
        models.push(Startup::hub_model(id, provenance("HF_MODEL_ID", settings)));
    }
    let several = models.iter().map(Startup::shown).collect::<Vec<_>>();
    match (models.pop(), several.len()) {
        (Some(model), 1) => Ok(model),
        (Some(_), _) => Err(ConfigError::SeveralModels { models: several }),
        (None, _) => {
            let state = if draft.model_store.is_dir() {
                "is empty"
            } else {
                "does not exist"
            };
            let store = draft.model_store.display();
            let looked = format!("the model store {store} {state} and HF_MODEL_ID is not set");
            Err(ConfigError::NoModel { looked })
        }
    }
}

/// Other models that are named but not served, because the command line names one.
pub(crate) fn unused(line: &CommandLine, settings: &[Setting]) -> Vec<String> {
    let is_model = |setting: &&Setting| match setting.entry.key {
        "HF_MODEL_ID" => true,
        "load_models" => setting.value != "ALL",
        _ => false,
    };
    let unused = settings
        .iter()
        .filter(|_| line.model_dir.is_some() || line.model_id.is_some())
        .filter(is_model);
    let text = |setting: &Setting| {
        let Setting {
            entry, value, from, ..
        } = setting;
        format!(
            "{from}: {}={value} is not used: the command line names the model",
            entry.key
        )
    };
    unused.map(text).collect()
}

/// The models of a store: each visible directory and archive if there is nothing else, otherwise
/// the store itself.
fn scan(store: &Path, from: &Provenance) -> Result<Vec<Startup>, ConfigError> {
    if !store.is_dir() {
        return Ok(vec![]);
    }
    let listing = Listing::read(store)?;
    if !listing.items().iter().all(location::Item::is_model_like) {
        return Ok(vec![Startup::directory(store.into(), from.clone())?]);
    }
    let paths = listing.items().iter().map(|item| store.join(&item.name));
    paths.map(|path| model_at(path, from)).collect()
}

fn model_at(path: PathBuf, from: &Provenance) -> Result<Startup, ConfigError> {
    if location::is_gguf(&path) {
        return Ok(Startup::file(&path, from.clone()));
    }
    if path.is_file() {
        let reason = "archives are not unpacked yet; unpack it into a directory".into();
        let written = Written {
            key: "model".into(),
            value: path.display().to_string(),
            from: from.clone(),
        };
        return Err(ConfigError::Unsupported {
            written: Box::new(written),
            reason,
        });
    }
    Startup::directory(path, from.clone())
}

/// The entries of `load_models`: `[[name[:version[:engine[:devices]]]]=]url`, separated by
/// commas or blanks.
fn listed(list: &str, draft: &Draft, from: &Provenance) -> Result<Vec<Startup>, ConfigError> {
    let entries = list.split([',', ' ']).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| listed_model(entry, draft, from))
        .collect()
}

fn listed_model(entry: &str, draft: &Draft, from: &Provenance) -> Result<Startup, ConfigError> {
    let written = || {
        let (key, value) = ("load_models".into(), entry.into());
        Box::new(Written {
            key,
            value,
            from: from.clone(),
        })
    };
    let unsupported = |reason: &str| ConfigError::Unsupported {
        written: written(),
        reason: reason.into(),
    };
    let (label, url) = match entry.split_once('=') {
        Some((label, url)) if !label.contains('?') => (label, url),
        _ => ("", entry),
    };
    let is_remote = url.contains("://") && !url.starts_with("file:");
    if is_remote && !bucket::is_url(url) {
        return Err(unsupported(
            "models are fetched from S3 and the hub only; name s3://bucket/prefix/ or a directory",
        ));
    }
    let mut fields = label.trim_matches(['[', ']']).split(':').map(str::trim);
    let (name, _version, engine) = (fields.next(), fields.next(), fields.next());
    if !matches!(fields.next(), None | Some("" | "*" | "cpu" | "-1")) {
        return Err(unsupported(
            "the CPU is the only device; write * or leave it out",
        ));
    }
    let invalid = |problem: &str| ConfigError::Invalid {
        written: written(),
        problem: problem.into(),
        default: "ALL",
    };
    let mut model = if is_remote {
        bucket::parse(url).map_err(|problem| invalid(&problem))?;
        Startup::bucket(url, from.clone())
    } else {
        let path = location::without_scheme(url);
        let places = [PathBuf::from(path), draft.model_store.join(path)];
        let path = places.into_iter().find(|path| path.exists());
        let path = path.ok_or_else(|| {
            invalid("must be ALL, a directory, or name=directory, and there is no such directory")
        })?;
        model_at(path, from)?
    };
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        model.name = name.into();
    }
    model.engine = engine.filter(|engine| !engine.is_empty()).map(String::from);
    Ok(model)
}

fn provenance(key: &str, settings: &[Setting]) -> Provenance {
    let of_key = settings.iter().filter(|setting| setting.entry.key == key);
    let strongest = of_key.max_by_key(|setting| setting.strength);
    strongest.map_or(Provenance::Default, |setting| setting.from.clone())
}

/// The name of the model in a directory: that of the directory.
fn path_name(dir: &Path) -> String {
    // `.` and `..` have no name of their own.
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let name = name(dir).or_else(|| name(&dir.canonicalize().ok()?));
    name.map_or_else(|| "model".into(), |name| model_name(&name))
}

/// A name that fits into a path: everything but letters, digits and underscores is replaced.
fn model_name(text: &str) -> String {
    let text = text.trim_end_matches('/');
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
