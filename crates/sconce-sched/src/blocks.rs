//! The blocks of the key/value cache: each is free, cached or owned, exactly one of them.
//!
//! A full block whose keys are computed is *published*: other sequences with the same prefix
//! may own it too. Sequences share full blocks only and nothing is written to a full block. The texts of one sequence share
//! whatever they have in common; one that is about to write to a block of several gets a copy of its own. A published block that loses its last owner stays *cached* until its
//! room is needed, the least recently used first. Who gets blocks is left to the scheduler.
//!
//! Whoever owns a block owns all blocks before it, and blocks are given back last first.
//! Therefore a cached block always goes before its parent, on which [`PrefixIndex`] relies.

mod audit;
#[cfg(test)]
mod tests;

use crate::lru::Lru;
use crate::plan::{BLOCK, BlockId};
use crate::prefix::{Kind, Parent, PrefixIndex, Published};

/// The blocks of one sequence in the order of positions. Given back with
/// [`BlockManager::release`], never by dropping.
#[derive(Default)]
pub(crate) struct Table {
    blocks: Vec<BlockId>,
    /// So many blocks at the front are published.
    published: usize,
    /// Of which kind its sequence is.
    kind: Kind,
}

impl Table {
    /// The blocks that hold the first `tokens` positions.
    pub(crate) fn covering(&self, tokens: usize) -> &[BlockId] {
        &self.blocks[..tokens.div_ceil(BLOCK)]
    }

    /// Makes room for the names of the blocks of so many tokens.
    pub(crate) fn reserve(&mut self, tokens: usize) {
        let missing = tokens.div_ceil(BLOCK).saturating_sub(self.blocks.len());
        self.blocks.reserve_exact(missing);
    }

    /// Tokens for which there is room.
    pub(crate) fn capacity(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Tokens in published blocks.
    pub(crate) fn published(&self) -> usize {
        self.published * BLOCK
    }

    /// Of which kind its sequence is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What block `at` continues.
    fn parent(&self, at: usize) -> Parent {
        match at.checked_sub(1) {
            Some(before) => Parent::Block(self.blocks[before]),
            None => Parent::Start(self.kind),
        }
    }
}

/// Owner of all blocks.
pub(crate) struct BlockManager {
    /// Number of tables that hold each block.
    owners: Vec<u32>,
    free: Vec<BlockId>,
    cached: Lru,
    /// `None`: prefixes are not shared.
    index: Option<PrefixIndex>,
}

impl BlockManager {
    /// `blocks` free blocks; those of computed prefixes are shared if there is an index.
    pub(crate) fn new(blocks: usize, index: Option<PrefixIndex>) -> Self {
        let count = u32::try_from(blocks).expect("blocks are numbered with 32 bits");
        Self {
            owners: vec![0; blocks],
            free: (0..count).rev().map(BlockId).collect(),
            cached: Lru::new(count),
            index,
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.owners.len()
    }

    /// Blocks that somebody owns; the others can be handed out.
    pub(crate) fn used(&self) -> usize {
        self.total() - self.available()
    }

    /// A table with room for all of `tokens`, whose first [`Table::published`] tokens are shared
    /// and already computed: as many as are found, at most `reusable`, among those of the same
    /// `kind`. `None`, and nothing changes, if fewer than `reserve` blocks would be left.
    pub(crate) fn admit(
        &mut self,
        tokens: &[u32],
        reusable: usize,
        kind: Kind,
        reserve: usize,
    ) -> Option<Table> {
        let mut blocks = self.find_prefix(&tokens[..reusable], kind);
        let published = blocks.len();
        let idle = blocks.iter().filter(|block| self.is_unowned(**block));
        let available = self.available() - idle.count();
        let missing = tokens.len().div_ceil(BLOCK) - published;
        if available < missing.saturating_add(reserve) {
            return None;
        }
        for &block in &blocks {
            self.acquire(block);
        }
        blocks.reserve(missing);
        for _ in 0..missing {
            blocks.push(self.take().expect("available blocks were counted"));
        }
        Some(Table {
            blocks,
            published,
            kind,
        })
    }

    /// Makes room for `tokens` positions, at most one block more than there is. False: no block
    /// is left.
    pub(crate) fn grow(&mut self, table: &mut Table, tokens: usize) -> bool {
        if table.capacity() >= tokens {
            return true;
        }
        match self.take() {
            Some(block) => {
                table.blocks.push(block);
                true
            }
            None => false,
        }
    }

    /// Replaces blocks that are about to be computed, from position `computed` on, by published
    /// ones that another sequence has computed since. Returns the new number of computed
    /// tokens, at most `reusable`.
    pub(crate) fn adopt(
        &mut self,
        table: &mut Table,
        tokens: &[u32],
        computed: usize,
        reusable: usize,
    ) -> usize {
        let mut computed = computed;
        while computed == table.published() && computed + BLOCK <= reusable {
            let Some(index) = &self.index else { break };
            let at = table.published;
            let Some(block) = index.find(table.parent(at), full_block(tokens, at)) else {
                break;
            };
            self.replace(table, at, block);
            computed += BLOCK;
        }
        computed
    }

    /// Publishes the full blocks among the computed `tokens`. A block that somebody else
    /// published first is given back for that one: their contents are the same.
    pub(crate) fn publish(&mut self, table: &mut Table, tokens: &[u32]) {
        while table.published() + BLOCK <= tokens.len() {
            let Some(index) = &mut self.index else { return };
            let at = table.published;
            let block = table.blocks[at];
            match index.publish(block, table.parent(at), full_block(tokens, at)) {
                Published::New => table.published += 1,
                Published::Existing(other) => self.replace(table, at, other),
                Published::Collision => return,
            }
        }
    }

    /// Another table of the same blocks, for a text that has all in common with this one's so far.
    pub(crate) fn share(&mut self, table: &Table) -> Table {
        for &block in &table.blocks {
            self.acquire(block);
        }
        Table {
            blocks: table.blocks.clone(),
            ..*table
        }
    }

    /// Makes the block of a position that is about to be written the table's own. `copies` is told of a block that takes
    /// the place of a shared one, from and to. False: no block is left.
    pub(crate) fn own(
        &mut self,
        table: &mut Table,
        position: usize,
        copies: &mut Vec<(BlockId, BlockId)>,
    ) -> bool {
        let at = position / BLOCK;
        let Some(&block) = table.blocks.get(at) else {
            return true;
        };
        if self.owners[block.index()] == 1 {
            return true;
        }
        let Some(own) = self.take() else {
            return false;
        };
        copies.push((block, own));
        table.blocks[at] = own;
        self.give_back(block);
        true
    }

    /// Gives all blocks of a table back.
    pub(crate) fn release(&mut self, table: &mut Table) {
        while let Some(block) = table.blocks.pop() {
            self.give_back(block);
        }
        table.published = 0;
    }

    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    fn is_unowned(&self, block: BlockId) -> bool {
        self.owners[block.index()] == 0
    }

    /// The published blocks that hold the full blocks of `tokens`, up to the first that is
    /// missing.
    fn find_prefix(&self, tokens: &[u32], kind: Kind) -> Vec<BlockId> {
        let mut found = Vec::new();
        let Some(index) = &self.index else {
            return found;
        };
        let mut parent = Parent::Start(kind);
        for tokens in tokens.as_chunks::<BLOCK>().0 {
            match index.find(parent, tokens) {
                Some(block) => {
                    found.push(block);
                    parent = Parent::Block(block);
                }
                None => break,
            }
        }
        found
    }

    /// Puts a published block into the place of the table's first unpublished one.
    fn replace(&mut self, table: &mut Table, at: usize, block: BlockId) {
        self.acquire(block);
        let own = std::mem::replace(&mut table.blocks[at], block);
        self.give_back(own);
        table.published += 1;
    }

    fn acquire(&mut self, block: BlockId) {
        if self.is_unowned(block) {
            self.cached.remove(block);
        }
        self.owners[block.index()] += 1;
    }

    fn give_back(&mut self, block: BlockId) {
        self.owners[block.index()] -= 1;
        if !self.is_unowned(block) {
            return;
        }
        if self.is_published(block) {
            self.cached.push(block);
        } else {
            self.free.push(block);
        }
    }

    /// A block for one owner: a free one, else the least recently used cached one.
    fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop().or_else(|| self.evict())?;
        self.owners[block.index()] = 1;
        Some(block)
    }

    fn evict(&mut self) -> Option<BlockId> {
        let block = self.cached.pop_oldest()?;
        if let Some(index) = &mut self.index {
            index.withdraw(block);
        }
        Some(block)
    }

    fn is_published(&self, block: BlockId) -> bool {
        self.index
            .as_ref()
            .is_some_and(|index| index.entry(block).is_some())
    }
}

/// Block number `at` of a sequence's tokens.
fn full_block(tokens: &[u32], at: usize) -> &[u32; BLOCK] {
    &tokens.as_chunks::<BLOCK>().0[at]
}
