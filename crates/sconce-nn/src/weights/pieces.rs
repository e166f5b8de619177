//! Memory in huge pages, given out in pieces one behind the other. A piece is the only one that ever reaches its bytes,
//! so it can be filled while its neighbours are read. What lies in pieces is left to the arena.
#![allow(unsafe_code)]

use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};

/// Bytes that are asked of the system at once, at least.
const CHUNK: usize = 64 << 20;

/// Pieces begin on lines of the cache.
const ALIGNMENT: usize = 64;

/// Gives pieces out.
#[derive(Default)]
pub(super) struct Pieces {
    /// A map of which no reference is ever made to more than a piece: it hands out pointers only.
    chunk: Option<Arc<MmapRaw>>,
    /// Bytes of the chunk that are given out.
    used: usize,
}

/// Some bytes of a chunk, zero at first.
pub(crate) struct Piece {
    chunk: Arc<MmapRaw>,
    begin: usize,
    len: usize,
}

impl Pieces {
    /// The next piece; `None` when the system has no memory for it.
    pub(super) fn next(&mut self, len: usize) -> Option<Piece> {
        let begin = self.used.next_multiple_of(ALIGNMENT);
        let end = begin.checked_add(len)?;
        let open = self.chunk.take();
        let (chunk, begin) = match open.filter(|chunk| end <= chunk.len()) {
            Some(chunk) => (chunk, begin),
            None => (Arc::new(chunk(len.max(CHUNK))?), 0),
        };
        self.used = begin + len;
        self.chunk = Some(Arc::clone(&chunk));
        Some(Piece { chunk, begin, len })
    }
}

fn chunk(len: usize) -> Option<MmapRaw> {
    let map = MmapMut::map_anon(len).ok()?;
    // Only a hint: without huge pages everything works, slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map.into())
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: inside the map, which lives as long as `self`. `Pieces::next` makes pieces that do not overlap, they
        // cannot be cloned, and no other reference into the map is made; so whoever writes here has `self` exclusively.
        unsafe { std::slice::from_raw_parts(self.chunk.as_ptr().add(self.begin), self.len) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.chunk.as_mut_ptr().add(self.begin), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_written_while_others_are_read() {
        let mut pieces = Pieces::default();
        let lengths = [5, 0, CHUNK - 100, 70, CHUNK + 1, 64];
        let mut all: Vec<Piece> = Vec::new();
        for (number, len) in (1u8..).zip(lengths) {
            let mut piece = pieces.next(len).unwrap();
            assert_eq!(piece.bytes().as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(piece.bytes().len(), len);
            let ends =
                |piece: &Piece| [piece.bytes().first(), piece.bytes().last()].map(|b| b.copied());
            assert!(ends(&piece).into_iter().flatten().all(|byte| byte == 0));
            // What was given out before is borrowed meanwhile.
            let earlier: Vec<&[u8]> = all.iter().map(Piece::bytes).collect();
            piece.bytes_mut().fill(number);
            for (number, bytes) in (1u8..).zip(earlier) {
                assert!(bytes.iter().all(|&byte| byte == number));
            }
            all.push(piece);
        }
        assert!(pieces.next(usize::MAX).is_none());
    }
}
