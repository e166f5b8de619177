//! Finds the block that already holds a full block of tokens after a given prefix.
//!
//! Blocks form chains: an entry is a parent block and the tokens that follow it, so two entries
//! are equal exactly when their whole prefixes are. The hash only narrows the search; parent and
//! tokens are compared, so a collision costs a chance to share and never shares wrong keys.
//! Ownership and eviction are left to [`crate::blocks`], which withdraws a block before its
//! parent; otherwise a parent's id could be reused under its children.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::plan::{BLOCK, BlockId};

/// The computed full blocks by what they hold.
pub(crate) struct PrefixIndex {
    by_hash: HashMap<u64, BlockId>,
    entries: Vec<Option<Box<Entry>>>,
    /// The bits of the hash that are used: all, except in tests that want collisions.
    hash_bits: u64,
}

/// What the keys of a sequence depend on besides its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// On which side of [`crate::Limits::border`] it is.
    pub(crate) long: bool,
    /// Its [`crate::Sequence::adapter`].
    pub(crate) adapter: u64,
}

/// What comes before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Parent {
    /// Nothing: it begins sequences of this kind.
    Start(Kind),
    /// Another block.
    Block(BlockId),
}

/// What a published block holds, and where it hangs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    hash: u64,
    pub(crate) parent: Parent,
    pub(crate) tokens: [u32; BLOCK],
}

/// What became of an attempt to publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The block can be found from now on.
    New,
    /// Another block holds the same; that one is found.
    Existing(BlockId),
    /// A block with other contents has the same hash; it stays.
    Collision,
}

impl PrefixIndex {
    /// An empty index for blocks `0..blocks`.
    pub(crate) fn new(blocks: usize, hash_bits: u64) -> Self {
        Self {
            by_hash: HashMap::new(),
            entries: (0..blocks).map(|_| None).collect(),
            hash_bits,
        }
    }

    /// The block that holds `tokens` after the chain that ends in `parent`.
    pub(crate) fn find(&self, parent: Parent, tokens: &[u32; BLOCK]) -> Option<BlockId> {
        let hash = self.hash(parent, tokens);
        let block = *self.by_hash.get(&hash)?;
        self.holds(block, parent, tokens).then_some(block)
    }

    /// Makes `block` findable; it must not be published already.
    pub(crate) fn publish(
        &mut self,
        block: BlockId,
        parent: Parent,
        tokens: &[u32; BLOCK],
    ) -> Published {
        let hash = self.hash(parent, tokens);
        match self.by_hash.get(&hash) {
            Some(&other) if self.holds(other, parent, tokens) => Published::Existing(other),
            Some(_) => Published::Collision,
            None => {
                self.by_hash.insert(hash, block);
                self.entries[block.index()] = Some(Box::new(Entry {
                    hash,
                    parent,
                    tokens: *tokens,
                }));
                Published::New
            }
        }
    }

    /// Forgets a block, because its contents are about to be overwritten.
    pub(crate) fn withdraw(&mut self, block: BlockId) {
        if let Some(entry) = self.entries[block.index()].take() {
            self.by_hash.remove(&entry.hash);
        }
    }

    /// What a published block holds; `None` for all others.
    pub(crate) fn entry(&self, block: BlockId) -> Option<&Entry> {
        self.entries[block.index()].as_deref()
    }

    /// Number of published blocks.
    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    fn holds(&self, block: BlockId, parent: Parent, tokens: &[u32; BLOCK]) -> bool {
        self.entry(block)
            .is_some_and(|entry| entry.parent == parent && entry.tokens == *tokens)
    }

    /// Without random keys, so that plans depend on the calls only. Whoever constructs
    /// collisions loses sharing, nothing else.
    fn hash(&self, parent: Parent, tokens: &[u32; BLOCK]) -> u64 {
        let mut hasher = DefaultHasher::new();
        parent.hash(&mut hasher);
        tokens.hash(&mut hasher);
        hasher.finish() & self.hash_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u32; BLOCK] = [7; BLOCK];
    const START: Parent = Parent::Start(Kind {
        long: false,
        adapter: 0,
    });
    const B: [u32; BLOCK] = [8; BLOCK];

    #[test]
    fn the_same_tokens_after_another_prefix_are_another_block() {
        let mut index = PrefixIndex::new(4, u64::MAX);
        assert_eq!(index.publish(BlockId(0), START, &A), Published::New);
        assert_eq!(
            index.publish(BlockId(1), Parent::Block(BlockId(0)), &A),
            Published::New
        );
        assert_eq!(index.find(START, &A), Some(BlockId(0)));
        assert_eq!(index.find(Parent::Block(BlockId(0)), &A), Some(BlockId(1)));
        assert_eq!(index.find(Parent::Block(BlockId(1)), &A), None);
        assert_eq!(
            index.publish(BlockId(2), START, &A),
            Published::Existing(BlockId(0))
        );
        for (long, adapter) in [(true, 0), (false, 1)] {
            let other = Parent::Start(Kind { long, adapter });
            assert_eq!(index.find(other, &A), None);
        }
    }

    #[test]
    fn a_collision_shares_nothing_and_keeps_the_older_block() {
        let mut index = PrefixIndex::new(4, 0);
        assert_eq!(index.publish(BlockId(0), START, &A), Published::New);
        assert_eq!(index.find(START, &B), None);
        assert_eq!(index.publish(BlockId(1), START, &B), Published::Collision);
        assert_eq!(index.find(START, &A), Some(BlockId(0)));
        index.withdraw(BlockId(0));
        assert_eq!(index.publish(BlockId(1), START, &B), Published::New);
        assert_eq!((index.find(START, &A), index.len()), (None, 1));
    }

    #[test]
    fn a_collision_of_equal_tokens_after_different_prefixes_shares_nothing() {
        let mut index = PrefixIndex::new(4, 0);
        assert_eq!(index.publish(BlockId(0), START, &A), Published::New);
        assert_eq!(index.find(Parent::Block(BlockId(0)), &A), None);
        assert_eq!(
            index.publish(BlockId(1), Parent::Block(BlockId(0)), &A),
            Published::Collision
        );
    }
}
