//! Which models a start is about: the directory on the command line, else what `load_models`,
//! `model_store` and `HF_MODEL_ID` say, by DJL Serving's rules; and what a registration means.

use std::path::{Path, PathBuf};

use sconce_core::{Registration, registry};

use crate::bucket;
use crate::draft::Draft;
use crate::environment::CommandLine;
use crate::error::{ConfigError, Written};
use crate::gather::Setting;
use crate::location::{self, Listing};
use crate::outside::Outside;
use crate::provenance::Provenance;

/// `load_models` of a server that begins without models.
const NONE: &str = "NONE";

/// A model to serve, before its own settings are read.
#[derive(Clone)]
pub(crate) struct Startup {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) place: Place,
    /// The GGUF file of the directory that is named as the model.
    pub(crate) file: Option<String>,
    /// The archive out of which the directory comes, and in whose place it is.
    archive: Option<PathBuf>,
    pub(crate) from: Provenance,
    /// Keys that win over the model's own file, with their values.
    pub(crate) keys: Vec<(&'static str, String)>,
}

/// Where a model is.
#[derive(Clone)]
pub(crate) enum Place {
    /// A directory, which may have a `serving.properties`.
    Directory(PathBuf),
    /// What `HF_MODEL_ID` or the command line says.
    HubModel(String),
    /// `s3://bucket/prefix/`: a directory, but not on this machine.
    Bucket(String),
}

impl Startup {
    fn new(name: String, place: Place, from: Provenance) -> Self {
        Self {
            name,
            version: None,
            place,
            file: None,
            archive: None,
            from,
            keys: Vec::new(),
        }
    }

    fn directory(dir: PathBuf, from: Provenance) -> Result<Self, ConfigError> {
        let dir = location::descend(dir)?;
        Ok(Self::new(path_name(&dir), Place::Directory(dir), from))
    }

    /// A GGUF file, whose settings lie beside it.
    fn file(path: &Path, from: Provenance) -> Self {
        let (dir, file) = location::split(path);
        let name = path_name(&path.with_extension(""));
        Self {
            file: Some(file),
            ..Self::new(name, Place::Directory(dir), from)
        }
    }

    fn bucket(url: &str, from: Provenance) -> Self {
        let name = model_name(bucket::last_part(url));
        Self::new(name, Place::Bucket(url.into()), from)
    }

    fn archive(path: PathBuf, from: Provenance) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = model_name(location::without_archive_suffix(&name));
        Self {
            archive: Some(path.clone()),
            ..Self::new(name, Place::Directory(path), from)
        }
    }

    /// The same with an archive as the directory that it holds.
    pub(crate) fn unpacked(
        self,
        draft: &Draft,
        outside: &dyn Outside,
    ) -> Result<Self, ConfigError> {
        let Some(path) = &self.archive else {
            return Ok(self);
        };
        let unpacked = outside.unpacked(path, &draft.bucket_access.caches());
        let dir = unpacked.map_err(|problem| ConfigError::Archive {
            path: path.clone(),
            problem,
        })?;
        Ok(Self {
            place: Place::Directory(location::descend(dir)?),
            ..self
        })
    }

    fn hub_model(id: &str, from: Provenance) -> Self {
        let name = match location::named(id, None) {
            Some(file) if location::is_gguf(&file) => path_name(&file.with_extension("")),
            Some(dir) => path_name(&dir),
            None => model_name(id),
        };
        Self::new(name, Place::HubModel(id.into()), from)
    }

    /// Name and version, as messages have them.
    pub(crate) fn label(&self) -> String {
        registry::label(&self.name, self.version.as_deref())
    }

    /// Where it is, as a URL.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::Directory(_) => format!("file:{}", self.what()),
            Place::HubModel(_) | Place::Bucket(_) => self.what(),
        }
    }

    /// What is named.
    pub(crate) fn what(&self) -> String {
        if let Some(archive) = &self.archive {
            return archive.display().to_string();
        }
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

/// The one model of a start that is about one.
pub(crate) fn choose_one(
    line: &CommandLine,
    draft: &Draft,
    settings: &[Setting],
) -> Result<Startup, ConfigError> {
    let mut models = choose(line, draft, settings)?;
    match (models.pop(), models.as_slice()) {
        (Some(model), []) => Ok(model),
        (Some(last), others) => Err(ConfigError::SeveralModels {
            models: others.iter().chain([&last]).map(Startup::shown).collect(),
        }),
        (None, _) => Err(ConfigError::NoModel {
            looked: "load_models names none".into(),
        }),
    }
}

/// All models of a start; none only where that is asked for.
pub(crate) fn choose(
    line: &CommandLine,
    draft: &Draft,
    settings: &[Setting],
) -> Result<Vec<Startup>, ConfigError> {
    if let Some(dir) = &line.model_dir {
        if let Some(url) = dir.to_str().filter(|name| bucket::is_url(name)) {
            return Ok(vec![Startup::bucket(url, Provenance::CommandLine)]);
        }
        if location::is_gguf(dir) {
            return Ok(vec![Startup::file(dir, Provenance::CommandLine)]);
        }
        return Ok(vec![Startup::directory(
            dir.clone(),
            Provenance::CommandLine,
        )?]);
    }
    if let Some(id) = &line.model_id {
        return Ok(vec![Startup::hub_model(id, Provenance::CommandLine)]);
    }
    let mut models = match draft.load_models.as_str() {
        // HF_MODEL_ID does not count then either, as in DJL Serving.
        NONE => return Ok(vec![]),
        "ALL" => scan(&draft.model_store, &provenance("model_store", settings))?,
        list => listed(list, draft, &provenance("load_models", settings))?,
    };
    if let Some(url) = draft.hub_model.as_ref().filter(|id| bucket::is_url(id)) {
        let from = provenance("HF_MODEL_ID", settings);
        models.push(Startup::bucket(url, from));
    } else if let Some(id) = &draft.hub_model {
        models.push(Startup::hub_model(id, provenance("HF_MODEL_ID", settings)));
    }
    if models.is_empty() && !draft.server.multi_model {
        let state = if draft.model_store.is_dir() {
            "is empty"
        } else {
            "does not exist"
        };
        let store = draft.model_store.display();
        let looked = format!("the model store {store} {state} and HF_MODEL_ID is not set");
        return Err(ConfigError::NoModel { looked });
    }
    named_apart(models)
}

/// Refuses two models of one name.
fn named_apart(models: Vec<Startup>) -> Result<Vec<Startup>, ConfigError> {
    for (at, model) in models.iter().enumerate() {
        let is_same = |other: &&Startup| other.label() == model.label();
        if let Some(first) = models[..at].iter().find(is_same) {
            return Err(ConfigError::SameName {
                name: model.label(),
                first: first.shown(),
                second: model.shown(),
            });
        }
    }
    Ok(models)
}

/// The model that somebody registers, if it may come from there.
pub(crate) fn registered(wanted: &Registration, draft: &Draft) -> Result<Startup, ConfigError> {
    let url = wanted.url.as_str();
    let written = Written {
        key: "url".into(),
        value: url.into(),
        from: Provenance::Registration,
    };
    let pattern = draft.server.model_url_pattern.as_ref();
    let forbidden = |problem| ConfigError::Forbidden {
        url: url.into(),
        problem,
    };
    // Who may not register it does not learn what is there.
    if let Some(pattern) = pattern.filter(|pattern| !pattern.allows(url)) {
        return Err(forbidden(format!(
            "it does not match model_url_pattern = {pattern}"
        )));
    }
    let spot = Spot::of(url, draft);
    if pattern.is_none() && !spot.is_of_this_machine() {
        return Err(forbidden(
            "only directories of this machine may be registered unless model_url_pattern says \
             otherwise, such as model_url_pattern=s3://my-bucket/.*"
                .into(),
        ));
    }
    let mut model = located(spot, url, &written)?;
    if let Some(name) = &wanted.name {
        model.name.clone_from(name);
    }
    model.version.clone_from(&wanted.version);
    let number = |key, number: Option<usize>| Some((key, number?.to_string()));
    let text = |key, text: &Option<String>| Some((key, text.clone()?));
    model.keys = [
        text("engine", &wanted.engine),
        on_devices(wanted.device.as_deref()),
        number("batch_size", wanted.batch_size),
        number("job_queue_size", wanted.job_queue_size),
        number("max_batch_delay", wanted.max_batch_delay),
        number("max_idle_time", wanted.max_idle_time),
        number("minWorkers", wanted.min_workers),
        number("maxWorkers", wanted.max_workers),
    ]
    .into_iter()
    .flatten()
    .collect();
    Ok(model)
}

/// The key that says on which devices a model is to be loaded; `*` is what holds unless somebody does.
fn on_devices(device: Option<&str>) -> Option<(&'static str, String)> {
    let device = device.filter(|device| *device != "*")?;
    Some(("load_on_devices", device.to_owned()))
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
        return Ok(Startup::archive(path, from.clone()));
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
    let written = Written {
        key: "load_models".into(),
        value: entry.into(),
        from: from.clone(),
    };
    let (label, url) = match entry.split_once('=') {
        Some((label, url)) if !label.contains('?') => (label, url),
        _ => ("", entry),
    };
    let fields = label.trim_matches(['[', ']']).split(':').map(str::trim);
    let mut fields = fields.map(|field| Some(field).filter(|field| !field.is_empty()));
    let mut next = || fields.next().flatten();
    let (name, version, engine, device) = (next(), next(), next(), next());
    let mut model = located(Spot::of(url, draft), url, &written)?;
    let invalid = |problem: String| ConfigError::Invalid {
        written: Box::new(written.clone()),
        problem,
        default: "ALL",
    };
    if let Some(name) = name {
        registry::check_name(name)
            .map_err(|problem| invalid(format!("has a name which {problem}")))?;
        model.name = name.into();
    }
    if let Some(version) = version {
        registry::check_version(version)
            .map_err(|problem| invalid(format!("has a version which {problem}")))?;
        model.version = Some(version.into());
    }
    let engine = engine.map(|engine| ("engine", engine.to_owned()));
    model.keys = engine.into_iter().chain(on_devices(device)).collect();
    Ok(model)
}

/// What a URL names.
enum Spot {
    /// What is there on this machine.
    Here(PathBuf),
    /// `s3://bucket/prefix/`.
    Bucket,
    /// Another scheme.
    Foreign,
    /// It has the form of a hub's id, and nothing is there on this machine.
    Hub,
    /// Nothing is there on this machine.
    Nowhere,
}

impl Spot {
    /// A path counts as it stands, else within the model store.
    fn of(url: &str, draft: &Draft) -> Self {
        if bucket::is_url(url) {
            return Self::Bucket;
        }
        if url.contains("://") && !url.starts_with("file:") {
            return Self::Foreign;
        }
        let path = location::without_scheme(url);
        let places = [PathBuf::from(path), draft.model_store.join(path)];
        match places.into_iter().find(|path| path.exists()) {
            Some(path) => Self::Here(path),
            None if is_hub_id(url) => Self::Hub,
            None => Self::Nowhere,
        }
    }

    /// Whether nothing is fetched from elsewhere.
    fn is_of_this_machine(&self) -> bool {
        matches!(self, Self::Here(_) | Self::Nowhere)
    }
}

/// The model at a URL. Ids of the hub are for registrations: `load_models` has none in DJL Serving.
fn located(spot: Spot, url: &str, written: &Written) -> Result<Startup, ConfigError> {
    let from = &written.from;
    let invalid = |problem: &str| ConfigError::Invalid {
        written: Box::new(written.clone()),
        problem: problem.into(),
        default: "ALL",
    };
    match spot {
        Spot::Here(path) => model_at(path, from),
        Spot::Bucket => {
            bucket::parse(url).map_err(|problem| invalid(&problem))?;
            Ok(Startup::bucket(url, from.clone()))
        }
        Spot::Foreign => Err(ConfigError::Unsupported {
            written: Box::new(written.clone()),
            reason: "models are fetched from S3 and the hub only; name s3://bucket/prefix/ or a \
                     directory"
                .into(),
        }),
        Spot::Hub if *from == Provenance::Registration => Ok(Startup::hub_model(url, from.clone())),
        Spot::Nowhere if *from == Provenance::Registration => Err(ConfigError::NoSuchModel {
            key: "url".into(),
            id: url.into(),
        }),
        Spot::Hub | Spot::Nowhere => Err(invalid(
            "must be ALL, a directory, or name=directory, and there is no such directory",
        )),
    }
}

/// Whether it has the form `organisation/name`.
fn is_hub_id(url: &str) -> bool {
    let is_word = |word: &str| {
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !word.is_empty() && !word.starts_with('.') && word.chars().all(is_of_word)
    };
    url.split_once('/')
        .is_some_and(|(organisation, name)| is_word(organisation) && is_word(name))
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
