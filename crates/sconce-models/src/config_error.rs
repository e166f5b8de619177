//! What can be wrong with `config.json`: the file, the key, the value and what would be accepted.

use std::path::PathBuf;

use sconce_nn::weights::WeightError;
use thiserror::Error;

/// Why a checkpoint's configuration cannot be served.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is absent or unreadable.
    #[error("cannot read {}: {cause}; a model directory holds a Hugging Face checkpoint with config.json", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The file is the placeholder that Git LFS leaves when contents were not fetched.
    #[error("{} is a Git LFS pointer, not its contents; run `git lfs pull` there", file.display())]
    LfsPointer {
        /// The file.
        file: PathBuf,
    },
    /// The file is not JSON.
    #[error("{} is not JSON: {cause}", file.display())]
    NotJson {
        /// The file.
        file: PathBuf,
        /// Where and why parsing stopped.
        #[source]
        cause: serde_json::Error,
    },
    /// A key without a default is absent.
    #[error("{}: `{key}` is absent; it must be {wanted}", file.display())]
    Absent {
        /// The file.
        file: PathBuf,
        /// The key, with its other spellings.
        key: String,
        /// Type and range of the value.
        wanted: &'static str,
    },
    /// A value has the wrong type or lies out of range.
    #[error("{}: `{key}` = {value}; it must be {wanted}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key as the file spells it.
        key: String,
        /// The value as JSON, shortened.
        value: String,
        /// Type and range of the value.
        wanted: String,
    },
    /// A value is well-formed, but names something that is not implemented.
    #[error("{}: `{key}` = {value} is not supported; supported: {supported}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key as the file spells it.
        key: String,
        /// The value as JSON, shortened.
        value: String,
        /// All values that are.
        supported: String,
    },
    /// The checkpoint's code comes with it and would have to be run.
    #[error(
        "{}: `architectures` = {found} is code of its own (`auto_map`), which is not run; supported architectures: {supported}",
        file.display()
    )]
    RemoteCode {
        /// The file.
        file: PathBuf,
        /// The named architectures.
        found: String,
        /// All architectures that are built in.
        supported: String,
    },
    /// A GGUF file's keys or tensors cannot be read.
    #[error(transparent)]
    Gguf(#[from] WeightError),
    /// Two values contradict each other.
    #[error("{}: `{key}` = {value} is not a multiple of `{divisor}` = {by}", file.display())]
    NotMultiple {
        /// The file.
        file: PathBuf,
        /// The key that must be divisible.
        key: String,
        /// Its value.
        value: usize,
        /// The key that must divide it.
        divisor: String,
        /// Its value.
        by: usize,
    },
}

/// Keys of `quantization_config` whose values may name what is not read.
const PACKING_KEYS: [&str; 6] = [
    "quant_method",
    "bits",
    "w_bit",
    "version",
    "checkpoint_format",
    "zero_point",
];

impl ConfigError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::LfsPointer { .. } => "lfs-pointer",
            Self::NotJson { .. } => "bad-json",
            Self::Absent { key, .. } | Self::Unsupported { key, .. }
                if key == "architectures" || key == crate::gguf::ARCHITECTURE =>
            {
                "unsupported-architecture"
            }
            Self::Gguf(error) => error.code(),
            Self::Unsupported { key, .. } if PACKING_KEYS.contains(&key.as_str()) => {
                "quantised-weights"
            }
            Self::RemoteCode { .. } => "remote-code",
            Self::Absent { .. } | Self::Value { .. } | Self::NotMultiple { .. } => {
                "bad-model-config"
            }
            Self::Unsupported { .. } => "unsupported-feature",
        }
    }
}
