//! What is free on a disk, asked before much is written to it.

use std::path::Path;

/// The bytes that are free where a directory lies, if they are fewer than needed.
pub(crate) fn lacks(dir: &Path, needed: u64) -> Option<u64> {
    // Where nothing is known of the disk, writing will tell.
    let disk = rustix::fs::statvfs(dir).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    (needed > free).then_some(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_disk_has_everything_and_each_has_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lacks(dir.path(), u64::MAX).is_some_and(|free| free < u64::MAX));
        assert_eq!(lacks(dir.path(), 0), None);
        assert_eq!(lacks(Path::new("/no/such/place"), u64::MAX), None);
    }
}
