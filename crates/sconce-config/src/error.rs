//! Every way in which a configuration can be wrong. Messages name key, value, place and cure.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::properties::PropertiesError;
use crate::provenance::Provenance;

/// All problems of one start, at least one; `Display` lists them.
#[derive(Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors {
    /// In the order in which they were met.
    pub problems: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [] => f.write_str("the configuration is wrong")?,
            [only] => write!(f, "the configuration is wrong: {only}")?,
            problems => {
                write!(
                    f,
                    "the configuration is wrong in {} places:",
                    problems.len()
                )?;
                for problem in problems {
                    write!(f, "\n  - {problem}")?;
                }
            }
        }
        let is_unknown = |problem: &ConfigError| matches!(problem, ConfigError::UnknownKey { .. });
        if self.problems.iter().any(is_unknown) {
            f.write_str("\n(SCONCE_STRICT=warn makes unknown names warnings)")?;
        }
        Ok(())
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No option has this name.
    #[error("{}", unknown_text(key, from, nearest))]
    UnknownKey {
        /// As written.
        key: String,
        /// Where.
        from: Provenance,
        /// The known names that look most like it; may be empty.
        nearest: Vec<String>,
    },
    /// A value without meaning.
    #[error("{written}: the value {problem}; {}", cure(default))]
    Invalid {
        /// Who says so.
        written: Box<Written>,
        /// What it must be.
        problem: String,
        /// Value if it is left out; empty: none.
        default: &'static str,
    },
    /// A meaning that is not served.
    #[error("{written} is not supported: {reason}")]
    Unsupported {
        /// Who says so.
        written: Box<Written>,
        /// Why, and the cure.
        reason: String,
    },
    /// A value is still to be filled in.
    #[error(
        "{written}: {text} stays as it is, as nothing replaces it, neither here nor in DJL \
         Serving; write the value itself"
    )]
    Placeholder {
        /// Who says so.
        written: Box<Written>,
        /// The text, from `${` to `}`.
        text: String,
    },
    /// Two options exclude each other.
    #[error("{second} contradicts {first}: {reason}")]
    Contradiction {
        /// One of them.
        first: Box<Written>,
        /// The other.
        second: Box<Written>,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// Two spellings of the same option disagree.
    #[error("{second}, but {first} is the same option by another name; keep one of them")]
    Conflict {
        /// One of them.
        first: Box<Written>,
        /// The other.
        second: Box<Written>,
    },
    /// A properties file has a mistake in its form.
    #[error("{}: {problem}", path.display())]
    Properties {
        /// The file.
        path: PathBuf,
        /// The mistake, with its line.
        problem: PropertiesError,
    },
    /// A file or directory cannot be read.
    #[error("{} cannot be read: {cause}{}", path.display(), permission(cause))]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// There is no model.
    #[error(
        "there is no model to serve: {looked}; name a directory (`sconce serve DIRECTORY`), set \
         HF_MODEL_ID, or put the model into the model store"
    )]
    NoModel {
        /// Where it was looked for.
        looked: String,
    },
    /// There is more than one model.
    #[error(
        "one model is asked for, and here are {}: {}; name the one that is meant (a directory on the \
         command line, load_models, HF_MODEL_ID or the model store)",
        models.len(), models.join(", ")
    )]
    SeveralModels {
        /// Their places.
        models: Vec<String>,
    },
    /// Two models of a start have the same name.
    #[error(
        "{first} and {second} would both be called {name}; give one of them another name or version \
         (load_models=name:version=url)"
    )]
    SameName {
        /// The name, with the version if they have one.
        name: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// The name of a model is neither a directory nor an id of the hub.
    #[error(
        "{key}={id} names no model: there is no such directory, and an id of the Hugging Face hub \
         has the form organisation/name"
    )]
    NoSuchModel {
        /// `option.model_id` or `HF_MODEL_ID`.
        key: String,
        /// The name.
        id: String,
    },
    /// A file that is named as a model is not unpacked.
    #[error("{} {problem}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why, as the end of a sentence.
        problem: String,
    },
    /// A model may not be registered from there.
    #[error("{url}: {problem}")]
    Forbidden {
        /// Where it is.
        url: String,
        /// Which places may be, and who says so.
        problem: String,
    },
    /// A URL of S3 names nothing that could be there.
    #[error("{key}={url}: the URL {problem}; correct it")]
    BadUrl {
        /// Who says so.
        key: String,
        /// The URL.
        url: String,
        /// What it must be.
        problem: String,
    },
    /// There is no place for files from the hub.
    #[error(
        "there is no place for models of the Hugging Face hub: neither HF_HOME nor HOME is set; \
         set HF_HOME to a directory that can be written"
    )]
    NoHubCache,
    /// The model is named and lies there as well.
    #[error(
        "{key}={id} names a model, and {} holds one too ({}); remove one of them: the key, if the \
         weights in the directory are meant, or the files",
        dir.display(), files.join(", ")
    )]
    NamedAndPresent {
        /// `option.model_id`, as spelt.
        key: String,
        /// The name.
        id: String,
        /// The directory.
        dir: PathBuf,
        /// What makes it a checkpoint.
        files: Vec<String>,
    },
    /// `option.entryPoint` names a script that is not there.
    #[error(
        "option.entryPoint={entry_point} names no file: neither it nor {} exists; to have the \
         native engine answer, set it to djl_python.huggingface",
        looked.display()
    )]
    NoScript {
        /// As written.
        entry_point: String,
        /// Where it was looked for last.
        looked: PathBuf,
    },
    /// The model has Python code of its own that is not run.
    #[error("{} is Python code that would answer requests, and {why}", file.display())]
    OwnCode {
        /// The script.
        file: PathBuf,
        /// Why it is not run, and the cure.
        why: String,
    },
    /// A directory has neither a checkpoint nor the name of one.
    #[error(
        "{} is no model: it has no config.json or model_index.json, and no serving.properties with option.model_id; \
         it holds {found}{hint}",
        dir.display()
    )]
    NotAModel {
        /// The directory.
        dir: PathBuf,
        /// The stable name of what it is instead.
        code: &'static str,
        /// What it holds.
        found: String,
        /// What that may be; may be empty.
        hint: String,
    },
}

/// A setting as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The spelling; for a variable the key that it stands for.
    pub key: String,
    /// Shortened; secrets are replaced.
    pub value: String,
    /// Where.
    pub from: Provenance,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}={}", self.from, self.key, self.value)
    }
}

/// The cure, where rights are missing.
fn permission(cause: &str) -> &'static str {
    if cause.contains("Permission denied") {
        "; give the user of this process the right to read it (chmod a+rX), or start it as another"
    } else {
        ""
    }
}

fn unknown_text(key: &str, from: &Provenance, nearest: &[String]) -> String {
    let guess = match nearest {
        [] => "no option has a name like it; `sconce options` lists them all".into(),
        names => format!("did you mean {}?", names.join(" or ")),
    };
    match from {
        Provenance::Environment(_) => format!("{from}: it sets no known option; {guess}"),
        _ => format!("{from}: unknown key {key}; {guess}"),
    }
}

fn cure(default: &str) -> String {
    match default {
        "" => "correct or remove it".into(),
        default => format!("correct it, or remove it for the default of {default}"),
    }
}
