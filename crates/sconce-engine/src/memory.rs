//! The plan of the key/value cache: how many blocks are reserved at start.
//!
//! Everything is reserved before the first request; afterwards requests are admitted by blocks,
//! so load can never exhaust memory.

use std::fs;
use std::path::Path;

use sconce_nn::BLOCK;

use crate::error::EngineError;

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheNeeds {
    /// Bytes of one block of 32 tokens, all layers, keys and values, all ranks together.
    pub(crate) bytes_per_block: u64,
    /// Longest sequence in tokens.
    pub(crate) max_len: usize,
    /// Sequences computed at the same time.
    pub(crate) max_rows: usize,
    /// `option.kv_cache_memory`; `None`: chosen from the memory at hand.
    pub(crate) wanted_bytes: Option<u64>,
}

/// Number of blocks to reserve: what the option says, else what `max_rows` sequences of full
/// length need, but at most a quarter of the memory that is available now.
pub(crate) fn plan_blocks(needs: CacheNeeds, available: Option<u64>) -> Result<usize, EngineError> {
    let useful = needs.max_rows as u64 * needs.max_len.div_ceil(BLOCK) as u64;
    let budget = match (needs.wanted_bytes, available) {
        (Some(bytes), _) => bytes,
        (None, Some(bytes)) => (bytes / 4).min(useful * needs.bytes_per_block),
        (None, None) => needs.max_len.div_ceil(BLOCK) as u64 * needs.bytes_per_block,
    };
    let blocks = (budget / needs.bytes_per_block) as usize;
    if blocks < needs.max_len.div_ceil(BLOCK) {
        return Err(EngineError::Memory {
            budget,
            holds: blocks * BLOCK,
            max_len: needs.max_len,
            per_token: needs.bytes_per_block / BLOCK as u64,
        });
    }
    Ok(blocks)
}

/// Bytes that this process may still take: the machine's available memory, or less where a
/// control group says so. `None` where the system does not tell.
pub(crate) fn available_memory() -> Option<u64> {
    let machine = meminfo_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(cgroup_headroom(Path::new("/sys/fs/cgroup")).map_or(machine, |free| free.min(machine)))
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Version 2 first, then version 1; "max" and absurd limits mean none.
fn cgroup_headroom(root: &Path) -> Option<u64> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let pairs = [
        ("memory.max", "memory.current"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
        ),
    ];
    pairs
        .iter()
        .find_map(|(limit, used)| Some(read(limit)?.saturating_sub(read(used)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: CacheNeeds = CacheNeeds {
        bytes_per_block: 1000,
        max_len: 64,
        max_rows: 4,
        wanted_bytes: None,
    };

    #[test]
    fn plenty_of_memory_reserves_what_all_rows_can_use_and_no_more() {
        assert_eq!(plan_blocks(NEEDS, Some(1 << 40)).unwrap(), 8);
    }

    #[test]
    fn scarce_memory_reserves_a_quarter() {
        assert_eq!(plan_blocks(NEEDS, Some(20_000)).unwrap(), 5);
    }

    #[test]
    fn one_full_sequence_must_fit_and_the_message_names_the_cure() {
        let error = plan_blocks(
            CacheNeeds {
                wanted_bytes: Some(1500),
                ..NEEDS
            },
            None,
        );
        let text = error.unwrap_err().to_string();
        for part in ["1500", "at most 32", "64", "option.kv_cache_memory", "1984"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn control_groups_of_both_versions_lower_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_headroom(dir.path()), None);
        fs::write(dir.path().join("memory.max"), "max\n").unwrap();
        fs::write(dir.path().join("memory.current"), "5\n").unwrap();
        assert_eq!(cgroup_headroom(dir.path()), None);
        fs::write(dir.path().join("memory.max"), "105\n").unwrap();
        assert_eq!(cgroup_headroom(dir.path()), Some(100));
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(
            meminfo_available("MemTotal: 9 kB\nMemAvailable:  2 kB\n"),
            Some(2048)
        );
        assert_eq!(meminfo_available("nothing"), None);
    }
}
