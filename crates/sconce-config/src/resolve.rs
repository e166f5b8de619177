//! From everything that was found to settings, in two passes: the server first, because it says
//! where the model is, then the model, whose own file has a say.

use std::path::PathBuf;

use crate::draft::{Draft, EntryPoint};
use crate::entry::{self, Scope};
use crate::environment::{CommandLine, Environment};
use crate::error::{ConfigError, ConfigErrors};
use crate::gather::{Gathered, Setting, Strength};
use crate::location;
use crate::provenance::Origin;
use crate::settings::{ModelSettings, ModelSource, ServerSettings};
use crate::settle::{apply_all, defaults, settle};
use crate::startup::{self, Place, Startup};

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The server's settings.
    pub server: ServerSettings,
    /// The model's settings.
    pub model: ModelSettings,
    /// What is probably not meant, as sentences.
    pub warnings: Vec<String>,
    /// Everything that somebody set, with its place; the model's own place first.
    pub origins: Vec<Origin>,
    /// Everything else that has an effect, with its default.
    pub defaults: Vec<Origin>,
}

/// Reads every place where options are set and makes settings of them, or lists all problems.
pub fn resolve(line: &CommandLine, environment: &Environment) -> Result<Resolved, ConfigErrors> {
    let mut gathered = Gathered::default();
    gathered.command_line(line);
    gathered.environment(environment);
    gathered.server_file(environment);
    let mut draft = Draft::new();
    draft.hub_cache = hub_cache(environment);
    let of_server = |scope: Scope| !scope.in_model_file();
    let mut wrong = Wrong(apply_all(
        &mut draft,
        &settle(&gathered.settings),
        of_server,
    ));
    let startup = match startup::choose(line, &draft, &gathered.settings) {
        Ok(startup) => Some(startup),
        Err(problem) => {
            wrong.unless_caused(&["HF_MODEL_ID", "load_models", "model_store"], problem);
            None
        }
    };
    if let Some(startup) = &startup {
        gathered.registration(startup);
    }
    let settled = settle(&gathered.settings);
    wrong
        .0
        .extend(apply_all(&mut draft, &settled, Scope::in_model_file));
    let mut origins: Vec<_> = startup.iter().map(Startup::origin).collect();
    origins.extend(settled.iter().map(|settled| settled.origin()));
    let defaults = defaults(&settled);
    if let Some(startup) = startup {
        locate(startup, &mut draft, &mut wrong);
    }
    let mut problems = gathered.problems;
    problems.extend(wrong.0.into_iter().map(|(_, problem)| problem));
    let mut warnings = startup::unused(line, &gathered.settings);
    let is_foreign = draft.entry_point == EntryPoint::OwnCode;
    let unknown = gathered
        .unknown
        .into_iter()
        .filter(|unknown| !(unknown.of_model && is_foreign));
    let unknown = unknown.map(|unknown| unknown.error);
    if draft.lenient {
        warnings.extend(unknown.map(|error| error.to_string()));
    } else {
        problems.extend(unknown);
    }
    if !problems.is_empty() {
        return Err(ConfigErrors { problems });
    }
    Ok(Resolved {
        server: draft.server,
        model: draft.model,
        warnings,
        origins,
        defaults,
    })
}

/// The cache of `huggingface_hub` where no option names another.
fn hub_cache(environment: &Environment) -> Option<PathBuf> {
    let home = environment.get("HOME")?;
    Some(PathBuf::from(home).join(".cache/huggingface/hub"))
}

/// Problems, with the keys that have them.
struct Wrong(Vec<(&'static str, ConfigError)>);

impl Wrong {
    /// Adds a problem, unless it only follows from that of one of these keys.
    fn unless_caused(&mut self, by: &[&str], problem: ConfigError) {
        if !self.0.iter().any(|(key, _)| by.contains(key)) {
            self.0.push(("", problem));
        }
    }
}

/// Sets name and source of the model.
fn locate(startup: Startup, draft: &mut Draft, wrong: &mut Wrong) {
    let source: Result<ModelSource, ConfigError> = match &startup.place {
        Place::HubModel(id) => location::of_hub_model(id, draft),
        Place::Directory(dir) => {
            if let Some(file) = location::own_code(dir, draft) {
                draft.entry_point = EntryPoint::OwnCode;
                wrong
                    .0
                    .push(("option.entryPoint", ConfigError::OwnCode { file }));
            }
            location::of_directory(dir, draft)
        }
    };
    draft.model.name = startup.name;
    match source {
        Ok(source) => draft.model.source = source,
        Err(problem) => wrong.unless_caused(&["option.model_id", "option.entryPoint"], problem),
    }
}

impl Gathered {
    /// Adds what the model's own file says, and what `load_models` says of it.
    fn registration(&mut self, startup: &Startup) {
        if let Place::Directory(dir) = &startup.place {
            self.model_file(dir);
        }
        let entry = entry::of_key("engine").expect("the table has the engine");
        self.settings
            .extend(startup.engine.iter().map(|engine| Setting {
                entry,
                spelling: entry.key.into(),
                value: engine.clone(),
                from: startup.from.clone(),
                strength: Strength::CommandLine,
            }));
    }
}

impl Startup {
    fn origin(&self) -> Origin {
        let value = match &self.place {
            Place::Directory(dir) => dir.display().to_string(),
            Place::HubModel(id) => id.clone(),
        };
        let note = Some(format!("named {}", self.name));
        Origin {
            key: "model".into(),
            value,
            from: self.from.clone(),
            note,
        }
    }
}
