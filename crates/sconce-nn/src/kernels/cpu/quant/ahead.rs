//! Has weights read before they are needed.
#![allow(unsafe_code)]

use super::formats::{Format, Source};
use super::isa::{Isa, Line, SIDE};

/// The first-level cache has too few requests under way for the speed of memory, so the second level is asked so many
/// bytes earlier.
const FARTHER: usize = 8 << 10;

/// The weights of the next sixteen rows: in memory they follow upon each other, but sixteen streams at once are more than
/// processors foresee.
pub(super) struct Ahead {
    at: *const u8,
    /// Bytes that sixteen rows have of a block of 32.
    bytes: usize,
}

impl Ahead {
    /// Of those behind sixteen rows.
    #[inline(always)]
    pub(super) fn of<F: Format>(rows: Source) -> Self {
        Self {
            at: rows.start.wrapping_add(SIDE * rows.stride),
            bytes: SIDE * F::BYTES / F::BLOCKS,
        }
    }

    /// Asks for as much as a block takes.
    ///
    /// # Safety
    /// As for [`Isa`].
    #[inline(always)]
    pub(super) unsafe fn fetch<I: Isa>(&mut self) {
        for line in 0..self.bytes.div_ceil(size_of::<Line>()) {
            let at = self.at.wrapping_add(line * size_of::<Line>());
            // SAFETY: promised by the caller; nothing is read.
            unsafe {
                I::prefetch(at);
                I::prefetch_to_second_level(at.wrapping_add(FARTHER));
            }
        }
        self.at = self.at.wrapping_add(self.bytes);
    }
}
