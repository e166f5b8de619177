//! What can be wrong with a checkpoint, each with the file, the value and the cure.

use std::path::PathBuf;

use super::dtype::StoredDtype;
use super::torch::PickleError;

/// Why weights cannot be found, read or reshaped.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The system refuses to list, open or map a file.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The folder has no checkpoint in a readable format.
    #[error("no weights in {}: looked for {}, *.gguf; {advice}", dir.display(), super::open::LOOKED_FOR.join(", "))]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// The stable name of what is there instead.
        code: &'static str,
        /// What is there instead, and what to do about it.
        advice: String,
    },
    /// A part of a pipeline has none.
    #[error("no weights in {}: looked for {looked_for}; fetch the whole folder again", dir.display())]
    NoPart {
        /// The part's folder.
        dir: PathBuf,
        /// The files.
        looked_for: String,
    },
    /// The folder has several models in GGUF files.
    #[error(
        "{} has several GGUF files, {}: name the one to serve with option.gguf_file",
        dir.display(),
        files.join(", ")
    )]
    SeveralGguf {
        /// The folder.
        dir: PathBuf,
        /// All that could be meant, sorted.
        files: Vec<String>,
    },
    /// The folder lacks the GGUF file that is to be served.
    #[error("{} has no file `{name}`; GGUF files there: {}", dir.display(), listed(files))]
    NoSuchGguf {
        /// The folder.
        dir: PathBuf,
        /// The file that was named.
        name: String,
        /// All that are there, sorted.
        files: Vec<String>,
    },
    /// The file is a git-lfs pointer, not the weights it points to.
    #[error("{} is a git-lfs pointer, not weights: run `git lfs pull` in its repository or download the file again", path.display())]
    LfsPointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// The file ends before its header says.
    #[error("{} is cut short: {expected} bytes expected, {actual} found; download it again", path.display())]
    Truncated {
        /// The short file.
        path: PathBuf,
        /// The size the header asks for, in bytes.
        expected: u64,
        /// The size on disk, in bytes.
        actual: u64,
    },
    /// The file's own structure contradicts itself.
    #[error("{} is not a valid {format} file: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What is wrong, with the values.
        problem: String,
    },
    /// A pickle inside a torch file cannot be read as data.
    #[error("{}: {cause}", path.display())]
    Pickle {
        /// The torch file.
        path: PathBuf,
        /// What the pickle does that is not data.
        #[source]
        cause: PickleError,
    },
    /// The torch file holds something else than the tensors of one model.
    #[error("{} holds no state dict: {problem}", path.display())]
    StateDict {
        /// The torch file.
        path: PathBuf,
        /// What it holds.
        problem: String,
    },
    /// The torch file was written before torch 1.6 or with `_use_new_zipfile_serialization=False`.
    #[error(
        "{} is in torch's old format, a bare pickle: load it in torch and `torch.save` it again, or convert it to safetensors",
        path.display()
    )]
    LegacyTorch {
        /// The torch file.
        path: PathBuf,
    },
    /// The index names shards that are not there.
    #[error("{} names shards that are missing: {}; download them beside it", index.display(), missing.join(", "))]
    MissingShards {
        /// The index file.
        index: PathBuf,
        /// All names without a file.
        missing: Vec<String>,
    },
    /// The index places a tensor in a shard that does not hold it.
    #[error(
        "{} places {} tensors in shards that lack them, the first is `{name}` in {shard}: index and shards are of different checkpoints, download both again",
        index.display(),
        count
    )]
    NotInShard {
        /// The index file.
        index: PathBuf,
        /// The first tensor that is missing.
        name: String,
        /// The shard that should have it.
        shard: String,
        /// How many are missing.
        count: usize,
    },
    /// Two shards hold a tensor of the same name.
    #[error(
        "tensor `{name}` is both in {} and in {}: remove the file that does not belong here",
        first.display(),
        second.display()
    )]
    Duplicate {
        /// The tensor.
        name: String,
        /// The shard that was read first.
        first: PathBuf,
        /// The shard that repeats it.
        second: PathBuf,
    },
    /// The checkpoint has no tensor of that name.
    #[error("no tensor `{name}` in {origin}{}", similar_names(similar))]
    NoTensor {
        /// The name asked for.
        name: String,
        /// The file or index that was read.
        origin: String,
        /// Names that end alike.
        similar: Vec<String>,
    },
    /// The tensor is stored in a type without a reader.
    #[error("tensor `{name}` in {} is stored as {dtype}, which is not supported", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type's name in the file.
        dtype: String,
    },
    /// A matrix that was packed by AWQ or GPTQ does not fit together.
    #[error("`{name}` in {origin} cannot be unpacked: {problem}")]
    Packed {
        /// The matrix or one of its tensors.
        name: String,
        /// The file or index that was read.
        origin: String,
        /// What is wrong, with the values.
        problem: String,
    },
    /// The checkpoint should be packed by AWQ or GPTQ and is not.
    #[error(
        "{origin}: no tensor is packed (none is called `….qweight`), though config.json has a quantization_config; \
         remove it, or download the weights again"
    )]
    NotPacked {
        /// The file or index that was read.
        origin: String,
    },
    /// The numbers are elsewhere and do not come.
    #[error("the numbers of {file} do not come: {cause}")]
    Elsewhere {
        /// The file.
        file: String,
        /// Why.
        cause: String,
    },
    /// A conversion that is not offered.
    #[error(
        "cannot convert {from} to {to}: only conversions to floating-point types and to block formats exist"
    )]
    Convert {
        /// The stored type.
        from: StoredDtype,
        /// The wanted type.
        to: StoredDtype,
    },
    /// An operation does not fit the tensor's type, shape or placement.
    #[error("{operation} of a {dtype} tensor of shape {shape:?}: {problem}")]
    Layout {
        /// What was asked for.
        operation: &'static str,
        /// The tensor's type.
        dtype: StoredDtype,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// Why it is impossible, with the values.
        problem: String,
    },
}

impl WeightError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::NoWeights { code, .. } => code,
            Self::NoPart { .. } => "weights-missing",
            Self::SeveralGguf { .. } => "several-gguf",
            Self::NoSuchGguf { .. } => "weights-missing",
            Self::LfsPointer { .. } => "lfs-pointer",
            Self::Truncated { .. } => "truncated-shard",
            Self::Malformed { format, .. } if *format == super::index::FORMAT => "bad-index",
            Self::Malformed { .. } | Self::StateDict { .. } => "bad-weights",
            Self::Pickle { .. } => "unsafe-pickle",
            Self::LegacyTorch { .. } => "legacy-torch",
            Self::MissingShards { .. } => "shard-missing",
            Self::NotInShard { .. } | Self::Duplicate { .. } => "shards-disagree",
            Self::NoTensor { .. } => "tensor-missing",
            Self::UnsupportedDtype { .. } => "quantised-weights",
            Self::Packed { .. } | Self::NotPacked { .. } => "quantised-weights",
            Self::Elsewhere { .. } => "weights-unreachable",
            Self::Convert { .. } | Self::Layout { .. } => "bad-weights",
        }
    }
}

fn listed(files: &[String]) -> String {
    if files.is_empty() {
        return "none".to_owned();
    }
    files.join(", ")
}

fn similar_names(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; similar names: {}", names.join(", "))
}
