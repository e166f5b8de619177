//! How much memory this process may still take.

use std::fs;
use std::path::Path;

/// Bytes that this process may still take: the machine's available memory, or less where a
/// control group says so. `None` where the system does not tell.
pub fn available_memory() -> Option<u64> {
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

/// Version 2 first, then version 1; "max" and absurd limits mean none. Pages of files count as
/// used there, though the kernel gives them back when it needs them: weights that have just been
/// fetched would otherwise leave no room for themselves.
fn cgroup_headroom(root: &Path) -> Option<u64> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let groups = [
        ("memory.max", "memory.current", "memory.stat"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
        ),
    ];
    groups.iter().find_map(|(limit, used, stat)| {
        let (limit, used) = (read(limit)?, read(used)?);
        let stat = fs::read_to_string(root.join(stat)).unwrap_or_default();
        Some(limit.saturating_sub(used.saturating_sub(pages_of_files(&stat))))
    })
}

/// Pages of files in a group's `memory.stat`, in bytes.
fn pages_of_files(stat: &str) -> u64 {
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    let pages = lines.filter(|(name, _)| matches!(*name, "active_file" | "inactive_file"));
    pages
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_both_versions_lower_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(cgroup_headroom(dir.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "5\n");
        assert_eq!(cgroup_headroom(dir.path()), None);
        write("memory.max", "105\n");
        assert_eq!(cgroup_headroom(dir.path()), Some(100));
        write("memory.stat", "anon 1\nactive_file 2\ninactive_file 1\n");
        assert_eq!(cgroup_headroom(dir.path()), Some(103));
        for file in ["memory.max", "memory.current"] {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        fs::create_dir(dir.path().join("memory")).unwrap();
        write("memory/memory.limit_in_bytes", "50\n");
        write("memory/memory.usage_in_bytes", "20\n");
        assert_eq!(cgroup_headroom(dir.path()), Some(30));
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
