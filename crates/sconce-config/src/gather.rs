//! Collects who sets what: every place is read, nothing is judged but names.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use strsim::damerau_levenshtein;

use crate::entry::{self, Entry, Scope, Variable};
use crate::environment::{CommandLine, Environment};
use crate::error::{ConfigError, Written};
use crate::nearest::nearest;
use crate::options::options;
use crate::prefix::Prefix;
use crate::properties;
use crate::provenance::{Provenance, shown};

/// One option set in one place.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) entry: &'static Entry,
    /// The key as written; the table's key where a variable sets it.
    pub(crate) spelling: String,
    /// Without blanks around it.
    pub(crate) value: String,
    pub(crate) from: Provenance,
    pub(crate) strength: Strength,
}

impl Setting {
    /// For a message.
    pub(crate) fn written(&self) -> Box<Written> {
        let value = shown(&self.value, self.entry.secret);
        let (key, from) = (self.spelling.clone(), self.from.clone());
        Box::new(Written { key, value, from })
    }
}

/// Which of two places wins: the later variant, and of variables of one kind the one that the
/// entry lists first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strength {
    /// `config.properties`.
    ServerFile,
    /// Arguments that DJL Serving has too, over which it lets variables win.
    Arguments,
    /// A variable that fills a gap.
    Fills(Reverse<usize>),
    /// `SERVING_*`, `OPTION_*`, `ARGS_*`.
    Prefixed,
    /// `serving.properties`.
    ModelFile,
    /// A variable that overrides the files.
    Overrides(Reverse<usize>),
    /// The command line, and what `load_models` or a registration says of its model.
    CommandLine,
}

/// A name that no option has.
#[derive(Clone)]
pub(crate) struct Unknown {
    pub(crate) error: ConfigError,
    /// Whether it would be an option of the user's Python code, if there is any.
    pub(crate) of_model: bool,
}

/// Everything that was found.
#[derive(Clone, Default)]
pub(crate) struct Gathered {
    pub(crate) settings: Vec<Setting>,
    pub(crate) unknown: Vec<Unknown>,
    /// Files that cannot be read or parsed.
    pub(crate) problems: Vec<ConfigError>,
    /// Variables without a meaning whose names look like slips, as sentences.
    pub(crate) doubtful: Vec<String>,
    /// Every key of the model without `option.`, known or not, weak settings first.
    written: Vec<(String, String)>,
}

impl Gathered {
    /// The model's keys, each with the value that counts: what DJL Serving's handlers are told.
    pub(crate) fn properties(&self) -> Vec<(String, String)> {
        let mut properties: Vec<(String, String)> = Vec::new();
        // Variables for Python's processes are no options of the handler.
        for (key, value) in self.written.iter().filter(|(key, _)| key != "env") {
            match properties.iter_mut().find(|(known, _)| known == key) {
                Some(property) => property.1.clone_from(value),
                None => properties.push((key.clone(), value.clone())),
            }
        }
        properties
    }

    pub(crate) fn command_line(&mut self, line: &CommandLine) {
        let port = line.port.map(|port| port.to_string());
        for (key, value, strength) in [
            ("load_models", line.load_models.clone(), Strength::Arguments),
            ("model_store", line.model_store.clone(), Strength::Arguments),
            ("--host", line.host.clone(), Strength::CommandLine),
            ("--port", port, Strength::CommandLine),
        ] {
            let entry = entry::of_key(key).expect("the table has the keys of the command line");
            self.settings.extend(value.map(|value| Setting {
                entry,
                spelling: key.into(),
                value,
                from: Provenance::CommandLine,
                strength,
            }));
        }
    }

    pub(crate) fn environment(&mut self, environment: &Environment) {
        for (name, value) in environment.iter() {
            let from = Provenance::Environment(name.into());
            if let Some(key) = Prefix::of(name).and_then(|prefix| prefix.model_key(name)) {
                self.written.push((key, value.trim().into()));
            }
            let (found, strength) = match entry::of_variable(name) {
                Some((entry, Variable::Fills(_), place)) => {
                    (Some(entry), Strength::Fills(Reverse(place)))
                }
                Some((entry, Variable::Overrides(_), place)) => {
                    (Some(entry), Strength::Overrides(Reverse(place)))
                }
                None => match Prefix::of(name) {
                    Some(prefix) => (prefix.entry(name), Strength::Prefixed),
                    None => {
                        self.doubtful.extend(slip(name, &from));
                        continue;
                    }
                },
            };
            match (found, Prefix::of(name)) {
                (Some(entry), _) => {
                    let (spelling, value) = (entry.key.into(), value.trim().into());
                    self.settings.push(Setting {
                        entry,
                        spelling,
                        value,
                        from,
                        strength,
                    });
                }
                (None, Some(prefix)) => self.unknown.push(Unknown {
                    error: ConfigError::UnknownKey {
                        key: name.into(),
                        from,
                        nearest: owned(nearest(name, prefix.names().iter().map(String::as_str))),
                    },
                    of_model: prefix != Prefix::Serving,
                }),
                (None, None) => {}
            }
        }
    }

    /// Reads `config.properties`: the one that the command line names, else that of
    /// `MODEL_SERVER_HOME`, if it has one.
    pub(crate) fn server_file(&mut self, line: &CommandLine, environment: &Environment) {
        if let Some(path) = line.config_file.clone() {
            let (find, is_here) = (entry::of_server, Scope::in_server_file);
            return self.file(path, find, is_here, Strength::ServerFile);
        }
        let Some(home) = environment.get("MODEL_SERVER_HOME") else {
            return;
        };
        let places = ["conf/config.properties", "config.properties"];
        let file = places
            .iter()
            .map(|place| Path::new(home).join(place))
            .find(|p| p.exists());
        if let Some(path) = file {
            self.file(
                path,
                entry::of_server,
                Scope::in_server_file,
                Strength::ServerFile,
            );
        }
    }

    /// Reads a model's `serving.properties`, if there is one.
    pub(crate) fn model_file(&mut self, dir: &Path) {
        let path = dir.join("serving.properties");
        if path.exists() {
            self.model_properties(path);
        }
    }

    /// DJL Serving writes a `serving.properties` for the model of `HF_MODEL_ID`: what these
    /// variables say stands in it, and so wins over `OPTION_*`.
    pub(crate) fn generated_file(&mut self) {
        let written = ["HF_REVISION", "HF_TASK"];
        let is_written = |setting: &&mut Setting| match &setting.from {
            Provenance::Environment(name) => written.contains(&name.as_str()),
            _ => false,
        };
        for setting in self.settings.iter_mut().filter(is_written) {
            setting.strength = Strength::ModelFile;
        }
    }

    /// Takes a model's `serving.properties` that has been fetched from somewhere else.
    pub(crate) fn model_text(&mut self, path: PathBuf, bytes: &[u8]) {
        let (find, is_here) = (entry::of_model, Scope::in_model_file);
        self.text(path, bytes, find, is_here, Strength::ModelFile);
    }

    /// Reads a file of the model's options.
    pub(crate) fn model_properties(&mut self, path: PathBuf) {
        self.file(
            path,
            entry::of_model,
            Scope::in_model_file,
            Strength::ModelFile,
        );
    }

    fn file(
        &mut self,
        path: PathBuf,
        find: fn(&str) -> Option<&'static Entry>,
        is_here: fn(Scope) -> bool,
        strength: Strength,
    ) {
        match std::fs::read(&path) {
            Ok(bytes) => self.text(path, &bytes, find, is_here, strength),
            Err(cause) => {
                let cause = cause.to_string();
                self.problems.push(ConfigError::Unreadable { path, cause });
            }
        }
    }

    fn text(
        &mut self,
        path: PathBuf,
        bytes: &[u8],
        find: fn(&str) -> Option<&'static Entry>,
        is_here: fn(Scope) -> bool,
        strength: Strength,
    ) {
        let parsed = properties::parse(bytes);
        let wrong = |problem| ConfigError::Properties {
            path: path.clone(),
            problem,
        };
        self.problems.extend(parsed.problems.into_iter().map(wrong));
        for property in parsed.properties {
            let from = Provenance::File {
                path: path.clone(),
                line: property.line,
            };
            let key = property.key;
            if strength == Strength::ModelFile {
                let plain = key.strip_prefix("option.").unwrap_or(&key);
                self.written
                    .push((plain.into(), property.value.trim().into()));
            }
            match find(&key) {
                Some(entry) => {
                    let value = property.value.trim().into();
                    self.settings.push(Setting {
                        entry,
                        spelling: key,
                        value,
                        from,
                        strength,
                    });
                }
                None => {
                    let known = options().filter(|entry| is_here(entry.scope));
                    let nearest = owned(nearest(&key, known.flat_map(Entry::names)));
                    let of_model = strength == Strength::ModelFile;
                    let error = ConfigError::UnknownKey { key, from, nearest };
                    self.unknown.push(Unknown { error, of_model });
                }
            }
        }
    }
}

/// Says that a variable, which may well be somebody else's, nearly has the name of one that is
/// read.
fn slip(name: &str, from: &Provenance) -> Option<String> {
    // SageMaker sets these beside SM_NUM_GPUS.
    const OTHERS: [&str; 2] = ["SM_NUM_CPUS", "SM_NUM_NEURONS"];
    const SHORTEST: usize = 8;
    if name.len() < SHORTEST || OTHERS.contains(&name) {
        return None;
    }
    let variables = options().flat_map(|entry| entry.variables);
    let known = variables.map(|variable| variable.name());
    let near = nearest(name, known.filter(|known| known.len() >= SHORTEST));
    let names: Vec<_> = near
        .into_iter()
        .filter(|known| damerau_levenshtein(name, known) <= 2)
        .collect();
    let guess = names.join(" or ");
    (!names.is_empty()).then(|| format!("{from} sets nothing; did you mean {guess}?"))
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(String::from).collect()
}
