//! Why there is no usable tokenizer, or why it cannot do what was asked.

use std::path::PathBuf;

use thiserror::Error;

/// A tokenizer that cannot be opened or used; says which file and what to do.
#[derive(Debug, Error)]
pub enum TextError {
    /// The directory holds no vocabulary.
    #[error(
        "{} has no tokenizer: looked for {looked_for}{found}; fetch these files from where the \
         checkpoint comes from, or write tokenizer.json there with transformers' \
         AutoTokenizer.from_pretrained(dir).save_pretrained(dir)",
        dir.display()
    )]
    NoTokenizer {
        /// The directory.
        dir: PathBuf,
        /// The files that would do.
        looked_for: String,
        /// Files of other forms that are there.
        found: String,
    },
    /// A file that the tokenizer class needs is not there.
    #[error("{} does not exist; {cure}", path.display())]
    Missing {
        /// The file looked for.
        path: PathBuf,
        /// Who needs it, and how to get it.
        cure: String,
    },
    /// The tokenizer class is not one that can be read from its own files.
    #[error(
        "{}: `{key}` is {value:?}, whose files cannot be read without tokenizer.json; write that \
         with transformers' AutoTokenizer.from_pretrained(dir).save_pretrained(dir). Supported \
         tokenizer classes: {supported}",
        path.display()
    )]
    UnknownClass {
        /// The file that names the class.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value found.
        value: String,
        /// The classes that are read.
        supported: String,
    },
    /// A vocabulary that several classes read differently, and nothing names one.
    #[error(
        "{} can be read in several ways; name the class as `tokenizer_class` in \
         tokenizer_config.json: {supported}",
        path.display()
    )]
    Unnamed {
        /// The vocabulary.
        path: PathBuf,
        /// The classes that are read.
        supported: String,
    },
    /// The contents of a file cannot be right.
    #[error("{} is damaged or incomplete: {cause}; fetch it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        cause: String,
    },
    /// A vocabulary of a kind that is not read.
    #[error(
        "{}: {cause}; supported: {supported}. Put the tokenizer.json of the checkpoint that it was \
         made from beside it",
        path.display()
    )]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        cause: String,
        /// All that is read.
        supported: String,
    },
    /// The operating system refuses to read the file.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is the placeholder that Git LFS leaves when contents were not fetched.
    #[error("{} is a Git LFS pointer, not its contents; run `git lfs pull` there", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// The template of dialogues is not one.
    #[error("{}: `chat_template` cannot be used: {cause}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        cause: String,
    },
    /// The file is not JSON.
    #[error(
        "{} is not JSON: {cause} (line {line}, column {column}); the file is damaged or \
         incomplete, fetch it again",
        path.display()
    )]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Line of the first mistake, from 1.
        line: usize,
        /// Column of the first mistake, from 1.
        column: usize,
        /// What is wrong there.
        cause: String,
    },
    /// The file is JSON but describes no tokenizer that can be built.
    #[error(
        "{} describes no usable tokenizer: {cause}; write it again with \
         AutoTokenizer.from_pretrained(dir).save_pretrained(dir)",
        path.display()
    )]
    NotTokenizer {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        cause: String,
    },
    /// A key of a configuration file has a value of the wrong kind.
    #[error("{}: `{key}` is {value}, but must be {wanted}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The key, with the keys around it.
        key: String,
        /// The value found, shortened.
        value: String,
        /// What is accepted.
        wanted: &'static str,
    },
    /// The text cannot be tokenised.
    #[error("a text of {bytes} bytes cannot be tokenised: {cause}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// The tokenizer's answer.
        cause: String,
    },
    /// The ids cannot be turned into text.
    #[error("{count} token ids cannot be decoded: {cause}")]
    Decode {
        /// Number of ids.
        count: usize,
        /// The tokenizer's answer.
        cause: String,
    },
}

impl TextError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTokenizer { .. } | Self::Missing { .. } => "no-tokenizer",
            Self::UnknownClass { .. } | Self::Unnamed { .. } | Self::Vocabulary { .. } => {
                "unsupported-tokenizer"
            }
            Self::Unreadable { .. } => "unreadable",
            Self::LfsPointer { .. } => "lfs-pointer",
            Self::NotJson { .. } => "bad-json",
            Self::Damaged { .. } | Self::NotTokenizer { .. } => "bad-tokenizer",
            Self::Setting { .. } | Self::Template { .. } => "bad-tokenizer-config",
            Self::Encode { .. } => "text-refused",
            Self::Decode { .. } => "ids-refused",
        }
    }
}
