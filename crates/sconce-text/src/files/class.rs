//! Which of transformers' tokenizer classes reads a folder.
//!
//! `tokenizer_class` says so; else `model_type` of `config.json` does; else the files that are
//! there, if only one class can be meant. An unknown class is an error, never a guess.

use crate::error::TextError;
use crate::files::assemble::Parts;
use crate::files::folder::{Folder, Source};
use crate::files::roles::{Role, Roles};
use crate::files::{byte_level, clip, llama, mapped, unigram, word_piece};

/// One way to read a folder, shared by the classes that agree in everything.
pub(super) struct Class {
    /// Names in `tokenizer_class`, without the ending `Fast`.
    pub(super) names: &'static [&'static str],
    /// Values of `model_type` that mean the first of the names (transformers'
    /// `tokenization_auto.py`).
    pub(super) model_types: &'static [&'static str],
    /// The vocabulary's files.
    pub(super) files: &'static [&'static str],
    /// The roles that the class fills by itself.
    pub(super) roles: &'static [Role],
    /// The class's default for `clean_up_tokenization_spaces`.
    pub(super) clean_up: bool,
    /// Reads the files.
    pub(super) parts: fn(&Folder, &Roles) -> Result<Parts, TextError>,
}

impl Class {
    /// Whether the folder has all its files, of a class that has some.
    fn is_there(&self, folder: &Folder) -> bool {
        !self.files.is_empty() && self.files.iter().all(|name| folder.has(name))
    }
}

/// All that can be read, by kind.
const KINDS: [&[Class]; 6] = [
    byte_level::CLASSES,
    clip::CLASSES,
    word_piece::CLASSES,
    llama::CLASSES,
    unigram::CLASSES,
    mapped::CLASSES,
];

/// What a vocabulary means where nothing names a class.
const BY_FILES: [(&str, &str); 3] = [
    ("vocab.json", "GPT2Tokenizer"),
    ("vocab.txt", "BertTokenizer"),
    ("tokenizer.model", "LlamaTokenizer"),
];

/// Files of forms that are known but not read.
const OTHER_FILES: [&str; 4] = ["tekken.json", "tiktoken.model", "bpe.codes", "vocab.bpe"];

/// The class that reads the folder. All its files exist.
pub(super) fn choose(folder: &Folder) -> Result<&'static Class, TextError> {
    let (class, said) = named(folder)?;
    match class.files.iter().find(|name| !folder.has(name)) {
        None => Ok(class),
        // A vocabulary is nowhere: a list of all files helps more than the first one of this class.
        Some(_) if !all().any(|class| class.is_there(folder)) => Err(nothing(folder)),
        Some(name) => Err(TextError::Missing {
            path: folder.dir.join(name),
            cure: format!(
                "{} ({said}) is read from {}: fetch it from where the checkpoint comes from",
                class.names[0],
                class.files.join(" and ")
            ),
        }),
    }
}

/// The class, and what said so.
fn named(folder: &Folder) -> Result<(&'static Class, String), TextError> {
    for (source, key) in [
        (Source::Tokenizer, "tokenizer_class"),
        (Source::Model, "tokenizer_class"),
        (Source::Model, "model_type"),
    ] {
        let Some(value) = folder.text(source, key)? else {
            continue;
        };
        let found = if key == "model_type" {
            all().find(|class| class.model_types.contains(&value))
        } else {
            by_name(value.strip_suffix("Fast").unwrap_or(value))
        };
        return match found {
            Some(class) => Ok((class, format!("{key} is {value:?}"))),
            None if all().any(|class| class.is_there(folder)) => Err(TextError::UnknownClass {
                path: folder.path(source),
                key,
                value: value.into(),
                supported: supported(),
            }),
            None => Err(nothing(folder)),
        };
    }
    for (file, name) in BY_FILES {
        if let (true, Some(class)) = (folder.has(file), by_name(name)) {
            return Ok((class, format!("as {file} suggests")));
        }
    }
    match all()
        .flat_map(|class| class.files)
        .find(|name| folder.has(name))
    {
        Some(name) => Err(TextError::Unnamed {
            path: folder.dir.join(name),
            supported: supported(),
        }),
        None => Err(nothing(folder)),
    }
}

fn by_name(name: &str) -> Option<&'static Class> {
    all().find(|class| class.names.contains(&name))
}

fn all() -> impl Iterator<Item = &'static Class> {
    KINDS.into_iter().flatten()
}

fn supported() -> String {
    let names: Vec<_> = all().flat_map(|class| class.names).copied().collect();
    names.join(", ")
}

fn nothing(folder: &Folder) -> TextError {
    let mut looked_for = vec!["tokenizer.json".to_owned()];
    for class in all() {
        let files = class.files.join(" with ");
        if !files.is_empty() && !looked_for.contains(&files) {
            looked_for.push(files);
        }
    }
    let found: Vec<_> = OTHER_FILES
        .into_iter()
        .filter(|name| folder.has(name))
        .collect();
    TextError::NoTokenizer {
        dir: folder.dir.into(),
        looked_for: looked_for.join(", "),
        found: match found.as_slice() {
            [] => String::new(),
            found => format!(" (there is {}, a form that is not read)", found.join(", ")),
        },
    }
}
