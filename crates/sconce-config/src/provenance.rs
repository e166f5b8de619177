//! Where a value was found, and the line of the log that says so.

use std::fmt;
use std::path::PathBuf;

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// In a properties file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// On the command line.
    CommandLine,
    /// In a request to register a model.
    Registration,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Registration => f.write_str("registration"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting with its value and where it came from; its `Display` is a line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The key of the table, whatever spelling was used.
    pub key: String,
    /// The value as written; secrets are replaced.
    pub value: String,
    /// Where it was found.
    pub from: Provenance,
    /// What else is to be known: that it is without effect and why, or what it overrides.
    pub note: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.from)?;
        match &self.note {
            Some(note) => write!(f, ", {note}"),
            None => Ok(()),
        }
    }
}

/// What is shown of a value: nothing of a secret, the beginning of a long one.
pub(crate) fn shown(value: &str, secret: bool) -> String {
    const LONGEST: usize = 200;
    if secret {
        return "(hidden)".into();
    }
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.into(),
    }
}
