//! The bytes behind tensors: a mapped file or an owned copy, and the casts between bytes and numbers.
//! Every pointer cast of the weight readers is in this file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

use super::dtype::Element;

#[cfg(target_endian = "big")]
compile_error!(
    "checkpoints are little-endian and are read in place: big-endian machines are not supported"
);

/// Owned buffers begin on such a boundary, so that vector loads of packed rows are aligned.
pub(crate) const ALIGNMENT: usize = 64;

/// Read-only bytes, shared by all views of them.
pub(crate) enum Buffer {
    /// A whole file.
    Mapped(Mmap),
    /// A copy made by a conversion.
    Owned(AlignedBytes),
}

impl Buffer {
    /// Maps a whole file; nothing is read until the pages are touched. The file must not be empty.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. Another process that truncates the file while it is served
        // would make reads fault, as with every mapped checkpoint; bytes that change in place are only numbers,
        // since headers are parsed once and bounds are kept outside the map.
        unsafe { Mmap::map(file) }.map(Self::Mapped)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(owned) => owned.bytes(),
        }
    }
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; ALIGNMENT]);

/// Zero-filled bytes that begin on a 64-byte boundary and can be written before they are shared.
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self {
            lines: vec![Line([0; ALIGNMENT]); len.div_ceil(ALIGNMENT)],
            len,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the lines are one allocation of at least `len` initialised bytes without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// The bytes as numbers, or `None` when they begin off the number's boundary or end within a number.
pub(crate) fn cast<T: Element>(bytes: &[u8]) -> Option<&[T]> {
    let size = size_of::<T>();
    if !bytes.as_ptr().cast::<T>().is_aligned() || !bytes.len().is_multiple_of(size) {
        return None;
    }
    // SAFETY: aligned and whole numbers, checked above; an `Element` takes every bit pattern; the lifetime is kept.
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size) })
}

/// As [`cast`], for writing.
pub(crate) fn cast_mut<T: Element>(bytes: &mut [u8]) -> Option<&mut [T]> {
    let size = size_of::<T>();
    if !bytes.as_ptr().cast::<T>().is_aligned() || !bytes.len().is_multiple_of(size) {
        return None;
    }
    // SAFETY: as in `cast`; every `Element` is valid bytes in turn, and the exclusive borrow is kept.
    Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size) })
}

/// The numbers as the bytes that hold them.
pub(crate) fn bytes_of<T: Element>(numbers: &[T]) -> &[u8] {
    // SAFETY: an `Element` has no padding, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_bytes_begin_on_a_vector_boundary_and_casts_check_it() {
        let mut owned = AlignedBytes::zeroed(100);
        assert_eq!(owned.bytes().as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(owned.bytes().len(), 100);
        owned.bytes_mut()[4..8].copy_from_slice(&1.5f32.to_le_bytes());
        assert_eq!(cast::<f32>(&owned.bytes()[..8]), Some(&[0.0, 1.5][..]));
        assert_eq!(cast::<f32>(&owned.bytes()[1..5]), None);
        assert_eq!(cast::<f32>(&owned.bytes()[..5]), None);
        assert_eq!(AlignedBytes::zeroed(0).bytes(), b"");
    }
}
