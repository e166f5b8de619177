//! The two inputs that are not files: the environment, read once, and the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::entry;
use crate::prefix::Prefix;

/// Environment variables by name. The only place of the program that reads the process's own.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process; bytes that are not UTF-8 are replaced by U+FFFD.
    pub fn from_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// A variable that is set and not empty: an empty value counts as unset, as in DJL Serving.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The variables that set options, but for secrets: what has to be the same for the same settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let known = self.iter().filter(|(name, _)| sets_an_option(name));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        known.map(owned).collect()
    }

    /// The same with other variables in place of [`settings`](Self::settings).
    pub fn with_settings(self, others: &[(String, String)]) -> Self {
        let rest = self.0.into_iter().filter(|(name, _)| !sets_an_option(name));
        rest.chain(others.iter().cloned()).collect()
    }

    /// Every variable that is not empty, in order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(_, value)| !value.is_empty())
    }
}

/// Whether a variable sets an option that is no secret.
fn sets_an_option(name: &str) -> bool {
    let by_prefix = || Prefix::of(name)?.entry(name);
    let entry = entry::of_variable(name).map(|(entry, ..)| entry);
    entry.or_else(by_prefix).is_some_and(|entry| !entry.secret)
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// What the command line says of the configuration. It wins over everything else, but for what
/// DJL Serving's own arguments say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The model's directory, or `s3://bucket/prefix/`; `None`: `load_models`, `model_store` and
    /// `HF_MODEL_ID` decide.
    pub model_dir: Option<PathBuf>,
    /// The model as `HF_MODEL_ID` would name it; counts where there is no directory.
    pub model_id: Option<String>,
    /// A file that stands for the model's `serving.properties`.
    pub properties: Option<PathBuf>,
    /// `load_models`, as DJL Serving's `--models` says it; `SERVING_LOAD_MODELS` wins.
    pub load_models: Option<String>,
    /// `model_store`, as DJL Serving's `--model-store` says it; `SERVING_MODEL_STORE` wins.
    pub model_store: Option<String>,
    /// The `config.properties` to read, as DJL Serving's `--config-file` says it.
    pub config_file: Option<PathBuf>,
    /// Address to listen on.
    pub host: Option<String>,
    /// Port to listen on; 0 takes a free one.
    pub port: Option<u16>,
}
