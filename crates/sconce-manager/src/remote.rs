//! Files that are not on this machine.

/// One file of a place that lists its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Path within the place.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    /// Changes with the bytes (an entity tag); empty: the place does not say.
    pub(crate) version: String,
}
