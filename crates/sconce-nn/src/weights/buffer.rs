//! The bytes behind tensors: a mapped file or an owned copy, and the casts between bytes and numbers.
//! Every pointer cast of the weight readers is in this file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;

use candle_core::quantized::k_quants::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, GgmlType,
};
use memmap2::{Mmap, MmapMut};

use super::dtype::Element;
use super::elsewhere::Elsewhere;
use super::pieces::Piece;

#[cfg(target_endian = "big")]
compile_error!(
    "checkpoints are little-endian and are read in place: big-endian machines are not supported"
);

/// Owned buffers begin on such a boundary, so that vector loads of packed rows are aligned.
const ALIGNMENT: usize = 64;
/// From this size on an owned buffer gets memory of its own, in bytes: a huge page of x86-64 and the usual one of arm64.
const HUGE_PAGE: usize = 2 << 20;

/// Read-only bytes, shared by all views of them.
pub(crate) enum Buffer {
    /// A whole file.
    Mapped(Mmap),
    /// A copy made by a conversion.
    Owned(AlignedBytes),
    /// None yet: they are computed when they are copied.
    Computed(Computed),
    /// None here: they are fetched when they are needed.
    Elsewhere(Elsewhere),
    /// No bytes at all, but the length that they would have, and whether they would be owned: an outline.
    Outline { len: usize, owned: bool },
}

/// A matrix whose bytes are computed when they are copied.
pub(crate) struct Computed {
    /// Bytes of all.
    pub(super) len: usize,
    /// Numbers in a row.
    pub(super) columns: usize,
    pub(super) matrix: Box<dyn Compute>,
}

/// How the bytes of a matrix are computed.
pub(super) trait Compute: Send + Sync {
    /// Writes a part of it, row-major and without gaps; whole blocks of a quantised one. The target is zero.
    fn write(&self, rows: Range<usize>, columns: Range<usize>, target: &mut [u8]);

    /// Takes the pages of the file out of memory that it is made from.
    fn give_back(&self);
}

impl Buffer {
    /// Maps a whole file; nothing is read until the pages are touched. The file must not be empty.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. Another process that truncates the file while it is served
        // would make reads fault, as with every mapped checkpoint; bytes that change in place are only numbers,
        // since headers are parsed once and bounds are kept outside the map.
        unsafe { Mmap::map(file) }.map(Self::Mapped)
    }

    /// Takes the pages of a mapped file out of this process' memory; they are read again when they are needed.
    /// Those that a computed matrix is made from as a whole.
    pub(super) fn give_back(&self, begin: usize, len: usize) {
        if let Self::Computed(computed) = self {
            computed.matrix.give_back();
        }
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            // SAFETY: the map is read-only and of a file, so nothing is lost; it is only a hint.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, begin, len)
            };
        }
        #[cfg(not(unix))]
        let _ = (begin, len);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(owned) => owned.bytes(),
            Self::Computed(_) | Self::Elsewhere(_) | Self::Outline { .. } => &[],
        }
    }

    /// Number of bytes, also where there are none yet, or none because it is an outline.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Outline { len, .. }
            | Self::Computed(Computed { len, .. })
            | Self::Elsewhere(Elsewhere { len, .. }) => *len,
            other => other.bytes().len(),
        }
    }

    /// Where the bytes begin; the beginning of a page where there are none, as if their file were mapped.
    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Outline { .. } | Self::Elsewhere(_) => 0,
            other => other.bytes().as_ptr() as usize,
        }
    }
}

/// Zero-filled bytes that begin on a 64-byte boundary and can be written before they are shared.
pub(crate) enum AlignedBytes {
    /// Within a vector that is a little too long, from the first boundary on.
    Small {
        bytes: Vec<u8>,
        begin: usize,
        len: usize,
    },
    /// Memory of its own, in huge pages where the system has them: fewer page faults here and fewer misses in kernels.
    Large(MmapMut),
    /// A part of such memory.
    Piece(Piece),
}

impl AlignedBytes {
    pub(crate) fn zeroed(len: usize) -> Self {
        if len >= HUGE_PAGE
            && let Some(large) = Self::large(len)
        {
            return large;
        }
        // Unlike aligned allocation, this takes pages that are zero already.
        let bytes = vec![0; len + ALIGNMENT - 1];
        let begin = bytes.as_ptr().align_offset(ALIGNMENT);
        Self::Small { bytes, begin, len }
    }

    fn large(len: usize) -> Option<Self> {
        let map = MmapMut::map_anon(len).ok()?;
        // Only a hint: without huge pages everything works, slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self::Large(map))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small { bytes, begin, len } => &bytes[*begin..begin + len],
            Self::Large(map) => map,
            Self::Piece(piece) => piece.bytes(),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small { bytes, begin, len } => &mut bytes[*begin..*begin + *len],
            Self::Large(map) => map,
            Self::Piece(piece) => piece.bytes_mut(),
        }
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

/// A block of quantised numbers as ggml lays it out.
///
/// # Safety
/// The type has a fixed layout without padding and takes every bit pattern.
pub(crate) unsafe trait Block: GgmlType {}

macro_rules! blocks {
    ($($block:ty),* $(,)?) => {$(
        // SAFETY: `repr(C)` of half-precision numbers and bytes, whose sizes candle asserts to add up to its own.
        unsafe impl Block for $block {}
    )*};
}

blocks! { BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ4K, BlockQ5K, BlockQ6K }

/// A copy of the block that these bytes are, wherever they lie.
///
/// # Panics
/// When they are not as many as the block has.
pub(crate) fn block<B: Block>(bytes: &[u8]) -> B {
    assert_eq!(bytes.len(), size_of::<B>());
    // SAFETY: as many bytes as the block has, which takes every bit pattern; the read does not need alignment.
    unsafe { bytes.as_ptr().cast::<B>().read_unaligned() }
}

/// Blocks as the bytes that hold them.
pub(crate) fn bytes_of_blocks<B: Block>(blocks: &[B]) -> &[u8] {
    // SAFETY: a `Block` has no padding, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), size_of_val(blocks)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_bytes_begin_on_a_vector_boundary_and_casts_check_it() {
        let large = AlignedBytes::zeroed(HUGE_PAGE + 1);
        assert_eq!(
            (large.bytes().len(), large.bytes()[HUGE_PAGE]),
            (HUGE_PAGE + 1, 0)
        );
        assert_eq!(large.bytes().as_ptr() as usize % ALIGNMENT, 0);
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
