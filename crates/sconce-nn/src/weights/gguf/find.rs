//! Which GGUF files of a folder make a model: the one that is named, or the only one; and the rest of its set.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::malformed;
use super::metadata::Metadata;
use crate::weights::error::WeightError;
use crate::weights::open::LOOKED_FOR;

const ENDING: &str = ".gguf";
/// How the names of projectors of images begin, which llama.cpp keeps beside the model.
const PROJECTOR: &str = "mmproj";
/// Digits of each number in the names of a set.
const DIGITS: usize = 5;
/// More files than any set has; 5 digits go further.
const MOST_FILES: u64 = 9_999;

/// Place of a file in its set: `model-00002-of-00003.gguf`.
struct Part<'a> {
    stem: &'a str,
    number: u64,
    count: u64,
}

impl<'a> Part<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let rest = name.strip_suffix(ENDING)?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let plain = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (number, count) = (digits(number)?, digits(count)?);
        let sensible = (1..=count).contains(&number) && count <= MOST_FILES;
        sensible.then_some(Self {
            stem,
            number,
            count,
        })
    }

    fn name(&self, number: u64) -> String {
        format!(
            "{}-{number:0DIGITS$}-of-{:0DIGITS$}{ENDING}",
            self.stem, self.count
        )
    }
}

/// The files among these names from which a model can be opened: of a set the first, and no projectors.
pub fn first_files<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let first = |name: &&str| {
        name.ends_with(ENDING)
            && !name.starts_with(PROJECTOR)
            && Part::of(name).is_none_or(|part| part.number == 1)
    };
    let mut files: Vec<&str> = names.into_iter().filter(first).collect();
    files.sort_unstable();
    files
}

/// The names of all files of the set that a file is the first of; the file itself where it is whole.
pub fn set_of(first: &str) -> Vec<String> {
    match Part::of(first) {
        Some(part) => (1..=part.count).map(|number| part.name(number)).collect(),
        None => vec![first.to_owned()],
    }
}

/// The GGUF file that a folder is served from: the one that is `named`, else the only one where there is no checkpoint
/// of another format. `None`: another format is there, or nothing.
pub fn find(dir: &Path, named: Option<&str>) -> Result<Option<PathBuf>, WeightError> {
    if named.is_none() && LOOKED_FOR.iter().any(|name| exists(&dir.join(name))) {
        return Ok(None);
    }
    let names = match names(dir) {
        Ok(names) => names,
        // Whoever opens the folder says what is wrong with it.
        Err(_) if named.is_none() => return Ok(None),
        Err(cause) => {
            return Err(WeightError::Read {
                path: dir.to_owned(),
                cause,
            });
        }
    };
    let files = first_files(names.iter().map(String::as_str));
    let list = || files.iter().map(ToString::to_string).collect();
    match (named, files.as_slice()) {
        (Some(name), _) if names.iter().any(|there| there == name) => Ok(Some(dir.join(name))),
        (Some(name), _) => Err(WeightError::NoSuchGguf {
            dir: dir.to_owned(),
            name: name.to_owned(),
            files: list(),
        }),
        (None, []) => match names.iter().find(|name| name.ends_with(ENDING)) {
            Some(name) => Err(no_model(dir, name)),
            None => Ok(None),
        },
        (None, [only]) => Ok(Some(dir.join(only))),
        (None, _) => Err(WeightError::SeveralGguf {
            dir: dir.to_owned(),
            files: list(),
        }),
    }
}

/// Why a folder with this file and no other GGUF files has no model.
fn no_model(dir: &Path, name: &str) -> WeightError {
    let (code, what) = if name.starts_with(PROJECTOR) {
        (
            "other-format",
            "the projector of a model that sees images: its language model, another GGUF file, is missing",
        )
    } else {
        (
            "shard-missing",
            "a later file of a set: the first one, whose name has -00001-of-, is missing",
        )
    };
    WeightError::NoWeights {
        dir: dir.to_owned(),
        code,
        advice: format!("{name} is {what}"),
    }
}

/// Whether there is something of that name, be it a link that leads nowhere.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    fs::read_dir(dir)?.map(name).collect()
}

/// All files of the set that the file is the first of.
pub(super) fn split_set(first: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let name = first
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let Some(part) = Part::of(&name).filter(|part| part.count > 1) else {
        return Ok(vec![first.to_owned()]);
    };
    if part.number != 1 {
        let problem = format!(
            "it is file {} of a set of {}: name the first one, {}",
            part.number,
            part.count,
            part.name(1)
        );
        return Err(malformed(first, problem));
    }
    let names = set_of(&name);
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !exists(&first.with_file_name(name)))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(WeightError::MissingShards {
            index: first.to_owned(),
            missing,
        });
    }
    let paths = names.iter().map(|name| first.with_file_name(name));
    Ok(paths.collect())
}

/// Fails when the place in a set that the keys tell is not the one that the name tells.
pub(super) fn check_split(keys: &Metadata, path: &Path) -> Result<(), WeightError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (number, count) = match Part::of(&name) {
        Some(part) => (part.number - 1, part.count),
        None => (0, 1),
    };
    let wanted =
        "what the file's name says, which ends in -00001-of-00003.gguf for the first of three";
    match keys.whole("split.count")? {
        // Some tools write 0 into files that are whole.
        None | Some(0) if count == 1 => Ok(()),
        Some(said) if said == count => match keys.whole("split.no")? {
            Some(said) if said == number => Ok(()),
            _ => Err(keys.refuse("split.no", wanted)),
        },
        _ => Err(keys.refuse("split.count", wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_from_parts_and_projectors() {
        let names = [
            "b.Q8_0.gguf",
            "a-00002-of-00002.gguf",
            "a-00001-of-00002.gguf",
            "mmproj-b.gguf",
            "config.json",
            "c-1-of-2.gguf",
        ];
        assert_eq!(
            first_files(names),
            ["a-00001-of-00002.gguf", "b.Q8_0.gguf", "c-1-of-2.gguf"]
        );
        assert_eq!(
            set_of("a-00001-of-00002.gguf"),
            ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
        );
        assert_eq!(set_of("b.Q8_0.gguf"), ["b.Q8_0.gguf"]);
    }

    #[test]
    fn one_file_is_taken_several_are_listed_and_a_name_decides() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(dir.path().join(name), "x").unwrap();
        assert_eq!(find(dir.path(), None).unwrap(), None);
        put("b.gguf");
        assert_eq!(
            find(dir.path(), None).unwrap(),
            Some(dir.path().join("b.gguf"))
        );
        put("a.gguf");
        let several = find(dir.path(), None).unwrap_err();
        assert_eq!(several.code(), "several-gguf");
        assert!(several.to_string().contains("a.gguf, b.gguf"), "{several}");
        assert_eq!(
            find(dir.path(), Some("b.gguf")).unwrap(),
            Some(dir.path().join("b.gguf"))
        );
        let absent = find(dir.path(), Some("c.gguf")).unwrap_err().to_string();
        assert!(
            absent.contains("c.gguf") && absent.contains("a.gguf, b.gguf"),
            "{absent}"
        );
        put("model.safetensors");
        assert_eq!(find(dir.path(), None).unwrap(), None);
    }
}
