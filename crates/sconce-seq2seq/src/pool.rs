//! The blocks of the cache: who has them, and how many are promised. Decisions only, no tensors.
//!
//! A request is promised all blocks that it may ever hold when it joins. Beams share blocks; one that more than one
//! holds is copied before it is written to, so that together they never hold more than each by itself would.

/// Blocks by number, each held by so many.
pub(crate) struct Pool {
    free: Vec<u32>,
    holders: Vec<u32>,
    promised: usize,
}

impl Pool {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            // The lowest numbers go first.
            free: (0..blocks as u32).rev().collect(),
            holders: vec![0; blocks],
            promised: 0,
        }
    }

    /// All blocks.
    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }

    /// Blocks that somebody holds.
    pub(crate) fn used(&self) -> usize {
        self.len() - self.free.len()
    }

    /// Promises so many blocks; false: there are not as many left.
    pub(crate) fn promise(&mut self, blocks: usize) -> bool {
        let fits = self.promised + blocks <= self.len();
        if fits {
            self.promised += blocks;
        }
        fits
    }

    /// Takes a promise back.
    pub(crate) fn forget(&mut self, blocks: usize) {
        self.promised -= blocks;
    }

    /// Hands out a block; there is one for whoever stays within its promise.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.holders[block as usize] = 1;
        Some(block)
    }

    /// One more holds these blocks.
    pub(crate) fn share(&mut self, blocks: &[u32]) {
        for &block in blocks {
            self.holders[block as usize] += 1;
        }
    }

    /// One less does.
    pub(crate) fn release(&mut self, blocks: &[u32]) {
        for &block in blocks {
            let holders = &mut self.holders[block as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(block);
            }
        }
    }

    /// Whether others hold it too.
    pub(crate) fn is_shared(&self, block: u32) -> bool {
        self.holders[block as usize] > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_kept_and_shared_blocks_come_back_with_the_last_holder() {
        let mut pool = Pool::new(3);
        assert!(pool.promise(2) && !pool.promise(2) && pool.promise(1));
        let blocks = [pool.take().unwrap(), pool.take().unwrap()];
        assert_eq!((blocks, pool.used()), ([0, 1], 2));
        pool.share(&blocks);
        pool.release(&blocks[..1]);
        assert!(pool.is_shared(1) && !pool.is_shared(0));
        pool.release(&blocks);
        assert_eq!(pool.used(), 1);
        pool.release(&blocks[1..]);
        assert_eq!(pool.used(), 0);
        pool.forget(2);
        assert!(pool.promise(2));
    }
}
