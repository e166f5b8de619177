//! Small cases of the block manager.

use super::*;

const KIND: Kind = Kind {
    long: false,
    adapter: 0,
};

fn manager(blocks: usize) -> BlockManager {
    BlockManager::new(blocks, Some(PrefixIndex::new(blocks, u64::MAX)))
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).collect()
}

/// Admits, publishes and releases a sequence, so that its full blocks are cached.
fn cache(manager: &mut BlockManager, tokens: &[u32]) {
    let mut table = manager.admit(tokens, 0, KIND, 0).unwrap();
    manager.publish(&mut table, tokens);
    manager.release(&mut table);
}

#[test]
fn a_prefix_is_shared_up_to_the_last_full_block_below_the_limit() {
    let mut manager = manager(8);
    let prompt = tokens(3 * BLOCK);
    cache(&mut manager, &prompt);
    for (reusable, shared) in [(0, 0), (BLOCK - 1, 0), (BLOCK, 1), (3 * BLOCK - 1, 2)] {
        let mut table = manager.admit(&prompt, reusable, KIND, 0).unwrap();
        assert_eq!(
            (table.published(), table.capacity()),
            (shared * BLOCK, 3 * BLOCK)
        );
        manager
            .audit(&[(&table, &prompt[..table.published()], 0)])
            .unwrap();
        manager.release(&mut table);
    }
}

#[test]
fn admission_counts_cached_blocks_as_room_except_those_it_shares() {
    let mut manager = manager(4);
    let prompt = tokens(3 * BLOCK);
    cache(&mut manager, &prompt[..2 * BLOCK]);
    assert!(manager.admit(&prompt, 2 * BLOCK, KIND, 2).is_none());
    assert_eq!(manager.used(), 0);
    let table = manager.admit(&prompt, 2 * BLOCK, KIND, 1).unwrap();
    assert_eq!((manager.used(), table.published()), (3, 2 * BLOCK));
}

#[test]
fn the_least_recently_used_chain_is_evicted_from_its_end() {
    let mut manager = manager(4);
    let (old, new) = (tokens(2 * BLOCK), vec![9; 2 * BLOCK]);
    cache(&mut manager, &old);
    cache(&mut manager, &new);
    let mut other = manager.admit(&[5], 0, KIND, 0).unwrap();
    assert_eq!(manager.find_prefix(&old, KIND).len(), 1);
    assert!(manager.grow(&mut other, BLOCK + 1));
    assert_eq!(manager.find_prefix(&old, KIND).len(), 0);
    assert_eq!(manager.find_prefix(&new, KIND).len(), 2);
    manager.audit(&[(&other, &[], 0)]).unwrap();
}

#[test]
fn equal_blocks_computed_side_by_side_become_one_when_published() {
    let mut manager = manager(4);
    let prompt = tokens(2 * BLOCK);
    let mut first = manager.admit(&prompt, 0, KIND, 0).unwrap();
    let mut second = manager.admit(&prompt, 0, KIND, 0).unwrap();
    manager.publish(&mut first, &prompt);
    assert_eq!(manager.used(), 4);
    manager.publish(&mut second, &prompt);
    assert_eq!(manager.used(), 2);
    assert_eq!(first.covering(2 * BLOCK), second.covering(2 * BLOCK));
    manager
        .audit(&[(&first, &prompt, 0), (&second, &prompt, 1)])
        .unwrap();
}

#[test]
fn blocks_that_another_sequence_computes_meanwhile_are_adopted() {
    let mut manager = manager(4);
    let prompt = tokens(2 * BLOCK);
    let mut first = manager.admit(&prompt, 0, KIND, 0).unwrap();
    let mut second = manager.admit(&prompt, 0, KIND, 0).unwrap();
    manager.publish(&mut first, &prompt);
    assert_eq!(manager.adopt(&mut second, &prompt, 5, 2 * BLOCK - 1), 5);
    assert_eq!(manager.adopt(&mut second, &prompt, 0, 2 * BLOCK - 1), BLOCK);
    assert_eq!(manager.used(), 3);
    manager
        .audit(&[(&first, &prompt, 0), (&second, &prompt[..BLOCK], 1)])
        .unwrap();
}

#[test]
fn growing_takes_one_block_and_says_when_none_is_left() {
    let mut manager = manager(2);
    let mut table = manager.admit(&tokens(BLOCK), 0, KIND, 0).unwrap();
    assert!(manager.grow(&mut table, BLOCK));
    assert_eq!(manager.used(), 1);
    assert!(manager.grow(&mut table, BLOCK + 1));
    assert!(!manager.grow(&mut table, 2 * BLOCK + 1));
    manager.release(&mut table);
    assert_eq!(manager.used(), 0);
}

#[test]
fn the_audit_notices_a_lost_block() {
    let mut manager = manager(2);
    drop(manager.admit(&tokens(1), 0, KIND, 0).unwrap());
    assert!(manager.audit(&[]).unwrap_err().contains("owners"));
}
