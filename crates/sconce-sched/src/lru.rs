//! The order in which cached blocks nobody owns are given up: a linked list inside arrays.
//!
//! Adding, removing from the middle and taking the oldest cost the same however long it is.

use crate::plan::BlockId;

/// Distinct blocks from the least to the most recently added.
pub(crate) struct Lru {
    /// One per block, then the anchor that closes the ring. A link to itself: not in the list.
    links: Vec<Link>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
}

impl Lru {
    /// An empty list with room for `blocks` blocks.
    pub(crate) fn new(blocks: u32) -> Self {
        let alone = |at| Link {
            older: at,
            newer: at,
        };
        Self {
            links: (0..=blocks).map(alone).collect(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a block as the most recent one; it must not be in the list.
    pub(crate) fn push(&mut self, block: BlockId) {
        debug_assert!(!self.contains(block), "{block:?} is cached twice");
        let anchor = self.anchor();
        let newest = self.links[anchor as usize].older;
        self.links[block.index()] = Link {
            older: newest,
            newer: anchor,
        };
        self.links[newest as usize].newer = block.0;
        self.links[anchor as usize].older = block.0;
        self.len += 1;
    }

    /// Takes a block out, wherever it is; it must be in the list.
    pub(crate) fn remove(&mut self, block: BlockId) {
        debug_assert!(self.contains(block), "{block:?} is not cached");
        let Link { older, newer } = self.links[block.index()];
        self.links[older as usize].newer = newer;
        self.links[newer as usize].older = older;
        self.links[block.index()] = Link {
            older: block.0,
            newer: block.0,
        };
        self.len -= 1;
    }

    /// Takes out the least recent block.
    pub(crate) fn pop_oldest(&mut self) -> Option<BlockId> {
        let oldest = self.iter().next()?;
        self.remove(oldest);
        Some(oldest)
    }

    pub(crate) fn contains(&self, block: BlockId) -> bool {
        self.links[block.index()].newer != block.0
    }

    /// From the least to the most recent.
    pub(crate) fn iter(&self) -> impl Iterator<Item = BlockId> + '_ {
        let anchor = self.anchor();
        let mut at = anchor;
        std::iter::from_fn(move || {
            at = self.links[at as usize].newer;
            (at != anchor).then_some(BlockId(at))
        })
    }

    fn anchor(&self) -> u32 {
        (self.links.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_leave_in_the_order_of_their_last_use() {
        let mut lru = Lru::new(4);
        for block in [2, 0, 3] {
            lru.push(BlockId(block));
        }
        lru.remove(BlockId(2));
        lru.push(BlockId(2));
        assert!(lru.contains(BlockId(0)) && !lru.contains(BlockId(1)));
        let order: Vec<_> = std::iter::from_fn(|| lru.pop_oldest()).collect();
        assert_eq!(order, [0, 3, 2].map(BlockId));
        assert_eq!(lru.len(), 0);
    }
}
