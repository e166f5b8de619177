//! Checks what [`super::BlockManager`] promises; for tests and for whoever suspects a fault.

use super::{BlockManager, Table, full_block};
use crate::plan::{BLOCK, BlockId};
use crate::prefix::Parent;

impl BlockManager {
    /// Says what is wrong, given every table there is with the computed tokens of its sequence and that sequence's number.
    pub(crate) fn audit(&self, tables: &[(&Table, &[u32], u64)]) -> Result<(), String> {
        let mut owners = vec![0; self.total()];
        for (table, tokens, sequence) in tables {
            for block in &table.blocks {
                owners[block.index()] += 1;
            }
            let siblings = tables.iter().filter(|(_, _, other)| other == sequence);
            let siblings: Vec<&Table> = siblings.map(|(table, _, _)| *table).collect();
            self.audit_table(table, tokens, &siblings)?;
        }
        if owners != self.owners {
            return Err(format!("owners are {owners:?}, recorded {:?}", self.owners));
        }
        self.audit_states()?;
        self.audit_chains()
    }

    /// Published blocks hold the sequence's tokens, the others have no owners but its texts.
    fn audit_table(
        &self,
        table: &Table,
        tokens: &[u32],
        siblings: &[&Table],
    ) -> Result<(), String> {
        if table.capacity() < tokens.len() || table.published() > tokens.len() {
            return Err(format!(
                "{} computed tokens with room for {}, of which {} are published",
                tokens.len(),
                table.capacity(),
                table.published()
            ));
        }
        for (at, &block) in table.blocks.iter().enumerate() {
            if at >= table.published {
                let own = siblings
                    .iter()
                    .filter(|other| other.blocks.get(at) == Some(&block));
                if self.owners[block.index()] as usize != own.count() || self.is_published(block) {
                    return Err(format!("{block:?} is shared but not full and published"));
                }
                continue;
            }
            let entry = self.index.as_ref().and_then(|index| index.entry(block));
            let right = entry.is_some_and(|entry| {
                entry.parent == table.parent(at) && entry.tokens == *full_block(tokens, at)
            });
            if !right {
                return Err(format!(
                    "{block:?} is published as {entry:?}, not as block {at}"
                ));
            }
        }
        Ok(())
    }

    /// Each block is free, cached or owned, and exactly one of them.
    fn audit_states(&self) -> Result<(), String> {
        let mut free = vec![0; self.total()];
        for block in &self.free {
            free[block.index()] += 1;
        }
        for (at, &free) in free.iter().enumerate() {
            let block = BlockId(at as u32);
            let cached = self.cached.contains(block);
            let owned = !self.is_unowned(block);
            if free + usize::from(cached) + usize::from(owned) != 1 {
                return Err(format!(
                    "{block:?} is {free} times free, cached: {cached}, owned: {owned}"
                ));
            }
            if self.is_published(block) != cached && !owned {
                return Err(format!(
                    "{block:?} is cached but not published, or free and published"
                ));
            }
        }
        match self.cached.iter().count() {
            count if count == self.cached.len() => Ok(()),
            count => Err(format!(
                "{count} blocks are cached, counted {}",
                self.cached.len()
            )),
        }
    }

    /// A published block's parent is published, has as many owners, and is evicted later.
    fn audit_chains(&self) -> Result<(), String> {
        let Some(index) = &self.index else {
            return Ok(());
        };
        let mut rank = vec![usize::MAX; self.total()];
        for (at, block) in self.cached.iter().enumerate() {
            rank[block.index()] = at;
        }
        let mut published = 0;
        for at in 0..self.total() {
            let Some(entry) = index.entry(BlockId(at as u32)) else {
                continue;
            };
            published += 1;
            if index.find(entry.parent, &entry.tokens) != Some(BlockId(at as u32)) {
                return Err(format!(
                    "block {at} of {BLOCK} tokens is published but not found"
                ));
            }
            let Parent::Block(parent) = entry.parent else {
                continue;
            };
            let fewer = self.owners[parent.index()] < self.owners[at];
            let sooner = rank[parent.index()] < rank[at];
            if index.entry(parent).is_none() || fewer || sooner {
                return Err(format!("{parent:?} can vanish before its child {at}"));
            }
        }
        match index.len() {
            len if len == published => Ok(()),
            len => Err(format!(
                "{published} blocks are published, {len} can be found"
            )),
        }
    }
}
