//! Memory of the machine and of this process, as the kernel counts it.
//!
//! This module reads `/proc` and the control group; it never estimates. On a system without them every figure is `None`.

use std::path::Path;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1024;

/// Memory of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemMemory {
    /// `MemTotal`.
    pub total_bytes: u64,
    /// `MemAvailable`: what can be had without swapping (proc(5)).
    pub available_bytes: Option<u64>,
    /// The smallest limit of the control groups this process is in; null without one.
    pub cgroup_limit_bytes: Option<u64>,
}

impl SystemMemory {
    /// What this process may use in all: the machine's memory or the control group's limit, whichever is less.
    pub fn usable_bytes(&self) -> u64 {
        self.cgroup_limit_bytes.map_or(self.total_bytes, |limit| limit.min(self.total_bytes))
    }
}

/// Memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// `VmRSS`: resident now.
    pub rss_bytes: Option<u64>,
    /// `VmHWM`: the highest `VmRSS` since the start of the process or the last [`reset_peak`].
    pub peak_rss_bytes: Option<u64>,
}

/// A `Key:   123 kB` line of `/proc/meminfo` or `/proc/<pid>/status`, in bytes.
fn kib_field(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB)
}

/// Memory of the machine; `None` where `/proc/meminfo` cannot be read.
pub fn system() -> Option<SystemMemory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let mut memory = parse_meminfo(&text)?;
    memory.cgroup_limit_bytes = cgroup_limit(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"));
    Some(memory)
}

fn parse_meminfo(text: &str) -> Option<SystemMemory> {
    Some(SystemMemory {
        total_bytes: kib_field(text, "MemTotal")?,
        available_bytes: kib_field(text, "MemAvailable"),
        cgroup_limit_bytes: None,
    })
}

/// The directories of this process's control groups in `root`, innermost first, for one v1 `controller` or the v2 hierarchy.
pub(crate) fn cgroup_directories(root: &Path, membership: &Path, controller: &str) -> Vec<std::path::PathBuf> {
    let Ok(text) = std::fs::read_to_string(membership) else { return Vec::new() };
    let mut directories = Vec::new();
    for line in text.lines() {
        // `0::/path` is the v2 hierarchy; `4:memory:/path` one of v1 (cgroups(7)).
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let base = if controllers.is_empty() {
            root.to_path_buf()
        } else if controllers.split(',').any(|name| name == controller) {
            root.join(controller)
        } else {
            continue;
        };
        // Inside a container the path names the host's tree while only the container's own root is mounted, so each ancestor that
        // exists counts, down to the mount itself.
        let mut relative = Path::new(path.trim_start_matches('/'));
        loop {
            directories.push(base.join(relative));
            match relative.parent() {
                Some(parent) => relative = parent,
                None => break,
            }
        }
    }
    directories
}

fn cgroup_limit(root: &Path, membership: &Path) -> Option<u64> {
    cgroup_directories(root, membership, "memory")
        .iter()
        .flat_map(|directory| [directory.join("memory.max"), directory.join("memory.limit_in_bytes")])
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        // v1 writes "no limit" as the largest page-aligned i64.
        .filter(|limit| *limit < i64::MAX as u64 / 2)
        .min()
}

/// Memory of this process now.
pub fn process() -> ProcessMemory {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ProcessMemory { rss_bytes: kib_field(&text, "VmRSS"), peak_rss_bytes: kib_field(&text, "VmHWM") }
}

/// Sets the peak back to the memory resident now, so that a later [`process`] gives the peak of one repeat.
///
/// # Errors
/// In words where the kernel does not allow it (`/proc/self/clear_refs` missing or read-only, as in some containers): peaks then
/// count from the start of the process.
pub fn reset_peak() -> Result<(), String> {
    // "5" resets the peak resident set size only (proc(5), /proc/pid/clear_refs).
    std::fs::write("/proc/self/clear_refs", "5")
        .map_err(|error| format!("the peak memory counter cannot be reset (/proc/self/clear_refs: {error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes_and_a_missing_line_is_unknown() {
        let memory =
            parse_meminfo("MemTotal:       24684000 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n").unwrap();
        assert_eq!(memory.total_bytes, 24_684_000 * 1024);
        assert_eq!(memory.available_bytes, Some(23_000_000 * 1024));
        assert_eq!(parse_meminfo("MemTotal: 5 kB\n").unwrap().available_bytes, None);
        assert_eq!(parse_meminfo("MemFree: 5 kB\n"), None);
        assert_eq!(kib_field("MemTotal: 18446744073709551615 kB", "MemTotal"), None);
    }

    #[test]
    fn the_tightest_limit_on_the_way_to_the_root_counts() {
        let root = tempfile::tempdir().unwrap();
        let membership = root.path().join("membership");
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        std::fs::write(root.path().join("a/b/memory.max"), "max\n").unwrap();
        std::fs::write(&membership, "0::/a/b\n").unwrap();
        assert_eq!(cgroup_limit(root.path(), &membership), Some(1000));
        // A container sees a path that is not mounted, and its limit at the root of its mount.
        std::fs::write(root.path().join("memory.max"), "700\n").unwrap();
        std::fs::write(&membership, "0::/docker/123\n").unwrap();
        assert_eq!(cgroup_limit(root.path(), &membership), Some(700));
    }

    #[test]
    fn version_1_without_a_limit_is_no_limit() {
        let root = tempfile::tempdir().unwrap();
        let membership = root.path().join("membership");
        std::fs::create_dir_all(root.path().join("memory")).unwrap();
        std::fs::write(root.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        std::fs::write(&membership, "4:cpu,memory:/\n").unwrap();
        assert_eq!(cgroup_limit(root.path(), &membership), None);
        std::fs::write(root.path().join("memory/memory.limit_in_bytes"), "4096\n").unwrap();
        assert_eq!(cgroup_limit(root.path(), &membership), Some(4096));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_follows_an_allocation_and_can_be_reset() {
        const SIZE: usize = 64 << 20;
        let before = process().rss_bytes.unwrap();
        let block = std::hint::black_box(vec![1u8; SIZE]);
        let peak = process().peak_rss_bytes.unwrap();
        assert!(peak >= before.saturating_sub(8 << 20) + SIZE as u64 / 2, "{peak} after {before}");
        drop(block);
        if reset_peak().is_ok() {
            let after = process();
            // The new peak starts at what is resident now, give or take what other test threads touch meanwhile.
            assert!(after.peak_rss_bytes.unwrap() >= after.rss_bytes.unwrap().saturating_sub(64 << 20));
        }
    }
}
