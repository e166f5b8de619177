//! Models that come and go while the server runs: what is asked of whoever keeps them, and every
//! way in which it can be refused.

use std::time::Duration;

use thiserror::Error;

/// A model that is to be served, as somebody asks for it; what is `None` the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// Where its files are: a directory, `file:`, `s3://bucket/prefix/`, or an id of the hub.
    pub url: String,
    /// Its name; `None`: taken from the URL.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What runs it (`engine`).
    pub engine: Option<String>,
    /// Where it computes (`device`, of `load_on_devices`).
    pub device: Option<String>,
    /// Requests that are put together (`batch_size`).
    pub batch_size: Option<usize>,
    /// Requests that may wait (`job_queue_size`).
    pub job_queue_size: Option<usize>,
    /// How long a batch waits to be filled, in milliseconds (`max_batch_delay`).
    pub max_batch_delay: Option<usize>,
    /// How long an unneeded worker stays, in seconds (`max_idle_time`).
    pub max_idle_time: Option<usize>,
    /// Workers that there always are (`min_worker`).
    pub min_workers: Option<usize>,
    /// Workers that there are at most (`max_worker`).
    pub max_workers: Option<usize>,
}

/// A model that was accepted and is on its way.
pub trait Coming: Send {
    /// The name it was given.
    fn name(&self) -> &str;
    /// Waits until it answers. One that does not is not kept: the first cause.
    fn wait(self: Box<Self>) -> Result<(), RegistryError>;
    /// Returns at once: nobody waits. One that does not answer in time has failed, and stays for
    /// whoever asks how it is.
    fn watch(self: Box<Self>) -> Result<(), RegistryError>;
}

/// How many workers a model has after it was asked for another number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// As many there always are.
    pub min: usize,
    /// As many there are at most.
    pub max: usize,
}

/// What keeps the models. All of it may wait, and is called where waiting is allowed.
pub trait Registry: Send + Sync {
    /// Begins to load a model.
    fn register(&self, wanted: &Registration) -> Result<Box<dyn Coming>, RegistryError>;
    /// Changes how many workers a model has, each version of it if none is named.
    fn scale(
        &self,
        name: &str,
        version: Option<&str>,
        min: Option<usize>,
        max: Option<usize>,
    ) -> Result<Vec<Scaled>, RegistryError>;
    /// Ends a model, every version of it if none is named: it takes nothing new, finishes what it
    /// has begun, and has given back what it held when this returns.
    fn unregister(&self, name: &str, version: Option<&str>) -> Result<(), RegistryError>;
}

/// Why the models stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// A parameter of the request cannot be used.
    #[error("Parameter {name} is {value:?}: {problem}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        problem: String,
    },
    /// A model of this name and version is there already.
    #[error("Workflow {0} is already registered.")]
    AlreadyThere(String),
    /// There is no such model.
    #[error("Model or workflow not found: {0}")]
    Unknown(String),
    /// The place may not be loaded from.
    #[error("Permission denied: {url}: {problem}")]
    Forbidden {
        /// The place.
        url: String,
        /// Which places may, and who says so.
        problem: String,
    },
    /// There is nothing at the place.
    #[error("Invalid model url: {url}: {problem}")]
    Nowhere {
        /// The place.
        url: String,
        /// What was found instead.
        problem: String,
    },
    /// The model's configuration is wrong.
    #[error("{0}")]
    Configuration(String),
    /// The memory that is left does not suffice.
    #[error("No enough memory to load the model. {model}: {problem}")]
    Memory {
        /// The model's name.
        model: String,
        /// What it takes and what is left.
        problem: String,
    },
    /// The model does not load.
    #[error("model {model} cannot be served: {cause}")]
    Failed {
        /// Its name.
        model: String,
        /// The first cause.
        cause: String,
    },
    /// It was not ready in time.
    #[error(
        "model {model} was not ready after model_loading_timeout = {} s; raise it if the weights \
         need longer to arrive",
        after.as_secs()
    )]
    TooLate {
        /// Its name.
        model: String,
        /// The time it had.
        after: Duration,
    },
    /// Somebody ended it while it was on its way.
    #[error("model {0} was unregistered while it was loading")]
    Withdrawn(String),
    /// It cannot be changed before it is ready.
    #[error("Model is not ready: {model} ({phase})")]
    NotReady {
        /// Its name.
        model: String,
        /// What it is doing, or why it failed.
        phase: String,
    },
    /// The server is on its way out.
    #[error("the server is shutting down and loads no more models")]
    Ending,
    /// The system gives no thread.
    #[error("the loading cannot be started: {0}")]
    System(String),
}

/// Name and version of a model, as messages have them: `name:version`, or the name alone.
pub fn label(name: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("{name}:{version}"),
        None => name.to_owned(),
    }
}

/// Longest name of a model, and of a version, in bytes.
const LONGEST: usize = 256;

/// Says what is wrong with the name of a model, as the end of a sentence: it must fit into one part
/// of a path.
///
/// # Errors
/// What is wrong.
pub fn check_name(name: &str) -> Result<(), String> {
    check_part(name)
}

/// The same of a version, which follows the name in paths where the words of other routes stand.
///
/// # Errors
/// What is wrong.
pub fn check_version(version: &str) -> Result<(), String> {
    if matches!(version, "invoke" | "adapters") {
        return Err(format!(
            "is {version}, the last part of another route; choose another"
        ));
    }
    check_part(version)
}

fn check_part(part: &str) -> Result<(), String> {
    // What nobody sees in a log would make two names look like one; bytes that are no text have come as U+FFFD.
    let unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}');
    let bad =
        |c: &char| c.is_control() || c.is_whitespace() || unseen(*c) || "/\\?#%:=,;[]".contains(*c);
    if part.is_empty() {
        return Err("is empty; give it at least one letter".into());
    }
    if part.len() > LONGEST {
        return Err(format!(
            "has {} bytes; at most {LONGEST} are taken",
            part.len()
        ));
    }
    if part == "." || part == ".." {
        return Err("is taken out of paths by clients; give it a letter".into());
    }
    match part.chars().find(bad) {
        Some(c) => Err(format!(
            "has {c:?}, and it must fit into one part of a path: take letters of any language, \
             digits, dots, hyphens and underscores"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_one_part_of_a_path() {
        for good in ["m", "gpt-j_6B", "v1.2", "模型", "mödel", "a1b2c3"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(257);
        for (bad, told) in [
            ("a/b", "has '/'"),
            ("", "is empty"),
            ("..", "taken out of paths"),
            ("a b", "has ' '"),
            ("a\n", "has '\\n'"),
            ("50%", "has '%'"),
            ("a:b", "has ':'"),
            ("a\u{202e}b", "has '\\u{202e}'"),
            ("\u{fffd}", "has '\u{fffd}'"),
            (&long, "has 257 bytes"),
        ] {
            let problem = check_name(bad).unwrap_err();
            assert!(problem.contains(told), "{bad}: {problem}");
        }
        assert!(
            check_version("invoke")
                .unwrap_err()
                .contains("another route")
        );
        assert_eq!(check_version("1.0"), Ok(()));
    }
}
