//! The folder of a recording: what its files are called and say.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::RecordError;
use crate::exchange::Exchange;

pub(crate) const ABOUT: &str = "recording.json";
pub(crate) const CHECKPOINTS: &str = "checkpoints.json";
pub(crate) const EXCHANGES: &str = "exchanges.jsonl";

/// By what and how the answers were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The program's version.
    pub version: String,
    /// The hash of the program.
    pub program: String,
    /// The processor, as the system calls it.
    pub processor: String,
    /// The arguments that say what is served, each with its value.
    pub arguments: Vec<(String, String)>,
    /// Variables that set something, but for secrets.
    pub variables: Vec<(String, String)>,
    /// The models of the start, with all settings.
    pub models: Vec<ModelAbout>,
}

/// A model and its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelAbout {
    /// Its name.
    pub name: String,
    /// Everything that somebody set, then everything else with its default.
    pub settings: Vec<Setting>,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value; secrets are replaced.
    pub value: String,
    /// Where it was found.
    pub from: String,
}

impl About {
    /// What is not as it was, as sentences; `self` is how it was.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.program != now.program {
            let (then, now) = (&self.version, &now.version);
            changes.push(format!(
                "the program is another build ({now}, and was {then})"
            ));
        }
        if self.processor != now.processor {
            changes.push(format!(
                "the processor is {}, and was {}: kernels may round otherwise",
                now.processor, self.processor
            ));
        }
        for then in &self.models {
            match now.models.iter().find(|model| model.name == then.name) {
                None => changes.push(format!("the model {} is not there", then.name)),
                Some(now) => changes.extend(then.changes(now)),
            }
        }
        changes
    }
}

impl ModelAbout {
    fn changes(&self, now: &Self) -> Vec<String> {
        let value = |of: &Self, key: &str| {
            let found = of.settings.iter().find(|setting| setting.key == key);
            found.map(|setting| setting.value.clone())
        };
        let keys = self.settings.iter().chain(&now.settings);
        let mut keys: Vec<&str> = keys.map(|setting| setting.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        let differs = |key: &str| {
            let (then, now) = (value(self, key), value(now, key));
            let shown = |value: Option<String>| value.unwrap_or_else(|| "not set".into());
            (then != now).then(|| {
                let (then, now) = (shown(then), shown(now));
                format!("{key} of the model {} is {now}, and was {then}", self.name)
            })
        };
        keys.into_iter().filter_map(differs).collect()
    }
}

/// A recording that is read.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    /// By what and how the answers were made.
    pub about: About,
    /// The files of the models; none if it ended before they had been read.
    pub checkpoints: Vec<Checkpoint>,
}

impl Recording {
    /// Opens a folder.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        let checkpoints = dir.join(CHECKPOINTS);
        Ok(Self {
            dir: dir.into(),
            about: read(&dir.join(ABOUT))?,
            checkpoints: match checkpoints.exists() {
                true => read(&checkpoints)?,
                false => Vec::new(),
            },
        })
    }

    /// The requests with their answers, in the order in which answers ended.
    pub fn exchanges(
        &self,
    ) -> Result<impl Iterator<Item = Result<Exchange, RecordError>>, RecordError> {
        let path = self.dir.join(EXCHANGES);
        let file = File::open(&path).map_err(RecordError::of_file(&path))?;
        let lines = BufReader::new(file).lines().enumerate();
        Ok(lines.map(move |(at, line)| {
            let line = line.map_err(RecordError::of_file(&path))?;
            serde_json::from_str(&line).map_err(|cause| RecordError::Content {
                path: path.clone(),
                line: Some(at + 1),
                cause,
            })
        }))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = fs::read(path).map_err(RecordError::of_file(path))?;
    serde_json::from_slice(&bytes).map_err(|cause| RecordError::Content {
        path: path.into(),
        line: None,
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(value: &str) -> About {
        let setting = Setting {
            key: "option.dtype".into(),
            value: value.into(),
            from: "default".into(),
        };
        About {
            program: "a".into(),
            models: vec![ModelAbout {
                name: "m".into(),
                settings: vec![setting],
            }],
            ..About::default()
        }
    }

    #[test]
    fn every_setting_that_is_not_as_it_was_is_told() {
        assert_eq!(about("auto").changes(&about("auto")), [""; 0]);
        let changes = about("auto").changes(&about("bf16"));
        assert_eq!(
            changes,
            ["option.dtype of the model m is bf16, and was auto"]
        );
        let other = About {
            program: "b".into(),
            processor: "another".into(),
            ..About::default()
        };
        let changes = about("auto").changes(&other);
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert!(changes[2].contains("m is not there"), "{changes:?}");
    }

    #[test]
    fn what_is_no_recording_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let error = Recording::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(ABOUT), "{error}");
        fs::write(dir.path().join(ABOUT), "{}").unwrap();
        let error = Recording::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("missing field") && error.contains("no recording"),
            "{error}"
        );
        let text = serde_json::to_string(&about("auto")).unwrap();
        fs::write(dir.path().join(ABOUT), text).unwrap();
        fs::write(dir.path().join(EXCHANGES), "{}\n").unwrap();
        let recording = Recording::open(dir.path()).unwrap();
        let error = recording.exchanges().unwrap().next().unwrap().unwrap_err();
        assert!(error.to_string().contains("exchanges.jsonl:1"), "{error}");
    }
}
