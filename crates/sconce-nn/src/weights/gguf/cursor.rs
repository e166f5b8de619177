//! Little-endian fields of a GGUF file, one after the other. Every length and count is compared with the bytes that
//! are left before anything is made of it.

use std::path::Path;

use super::malformed;
use crate::weights::error::WeightError;

/// Bytes of a file and how far they have been read.
pub(super) struct Cursor<'a> {
    pub(super) path: &'a Path,
    /// The file, or its beginning.
    pub(super) bytes: &'a [u8],
    /// Bytes of the whole file.
    pub(super) total: u64,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Bytes of the file that have not been read.
    pub(super) fn left(&self) -> u64 {
        self.total.saturating_sub(self.at as u64)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], WeightError> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len))
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(WeightError::Truncated {
                path: self.path.to_owned(),
                expected: (self.at as u64).saturating_add(len),
                actual: self.bytes.len() as u64,
            });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WeightError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WeightError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WeightError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and as many bytes of UTF-8. `what` is for the message: the value of which key, the name of what.
    pub(super) fn text(&mut self, what: &dyn Fn() -> String) -> Result<&'a str, WeightError> {
        let begin = self.at;
        let len = self.u64()?;
        if len > self.left() {
            return Err(malformed(
                self.path,
                format!(
                    "{} at byte {begin} has {len} bytes, but {} follow; download it again",
                    what(),
                    self.left()
                ),
            ));
        }
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|cause| {
            malformed(
                self.path,
                format!("{} at byte {begin} is not UTF-8: {cause}", what()),
            )
        })
    }

    /// A number of things of which each takes at least `least` bytes.
    pub(super) fn check_count(
        &self,
        count: u64,
        least: usize,
        what: &dyn Fn() -> String,
    ) -> Result<usize, WeightError> {
        let most = self.left() / least as u64;
        if let (true, Ok(count)) = (count <= most, usize::try_from(count)) {
            return Ok(count);
        }
        Err(malformed(
            self.path,
            format!(
                "it announces {count} {}, but the {} bytes that follow hold {most} at most; download it again",
                what(),
                self.left()
            ),
        ))
    }
}
