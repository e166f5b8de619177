//! Why there is nothing below a prefix: what is there instead, and what was probably meant.

use std::fmt;

use super::error::some_of;

/// What to do with an archive.
pub(super) const UNPACK: &str = "archives are not unpacked: unpack it, upload the files (tar xf, \
                                 aws s3 sync) and name their prefix, or let SageMaker unpack it \
                                 into /opt/ml/model (ModelDataUrl)";

/// A prefix without objects directly below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// The bucket has no objects at all.
    EmptyBucket,
    /// There are only prefixes below it.
    OnlyFolders(Vec<String>),
    /// The console has made a folder, and nobody has put anything into it.
    OnlyMarker,
    /// It is the key of an object.
    Object { key: String },
    /// There is nothing of that name; what there is beside it, if that may be known.
    Missing { beside: Option<Vec<String>> },
}

impl Nothing {
    /// What to do.
    pub(crate) fn cure(&self) -> String {
        match self {
            Self::EmptyBucket | Self::OnlyMarker => {
                "upload the files of the checkpoint: aws s3 sync DIRECTORY s3://bucket/prefix/"
                    .into()
            }
            Self::OnlyFolders(folders) => match folders.as_slice() {
                [only] => format!("did you mean the prefix {only}/?"),
                _ => "name one of them".into(),
            },
            Self::Object { key } if is_archive(key) => UNPACK.into(),
            Self::Object { key } => match key.rsplit_once('/') {
                Some((folder, _)) => {
                    format!("name the prefix of all files of the model, {folder}/")
                }
                None => "name the prefix of all files of the model".into(),
            },
            Self::Missing { .. } => "check the prefix; capital and small letters differ".into(),
        }
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyBucket => f.write_str("the bucket is empty"),
            Self::OnlyFolders(folders) => {
                write!(
                    f,
                    "there are no objects in it, only prefixes: {}",
                    some_of(folders)
                )
            }
            Self::OnlyMarker => {
                f.write_str("there is nothing in it but the marker of an empty folder")
            }
            Self::Object { key } => write!(f, "{key} is one object and no prefix of objects"),
            Self::Missing { beside: None } => f.write_str("there are no objects below this prefix"),
            Self::Missing {
                beside: Some(names),
            } => {
                let names = some_of(names);
                write!(
                    f,
                    "there are no objects below this prefix; beside it there is {names}"
                )
            }
        }
    }
}

/// The suffixes of archives that DJL Serving unpacks.
pub(super) fn is_archive(name: &str) -> bool {
    [".zip", ".mar", ".tgz", ".tar.gz", ".tar.z", ".tar"]
        .iter()
        .any(|end| name.ends_with(end))
}
