//! An object of a bucket, as a listing describes it.

use object_store::path::Path;

/// An object directly below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Object {
    /// The key without the prefix.
    pub(crate) name: String,
    /// The key as the library knows it: it must not encode a second time what is encoded.
    pub(crate) location: Path,
    /// In bytes.
    pub(crate) size: u64,
    /// The entity tag, which changes with the bytes; empty: the service gives none.
    pub(crate) etag: String,
}
