//! `env.json`: the machine, the system and the build a run was made with.
//!
//! Read by hand from `/proc` and `/sys`; what cannot be read is null. Nothing here identifies the user: the host name is hashed,
//! and of the environment only allow-listed variables are kept.

mod system;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::system::System;
use super::redact::Redactor;

/// Version of [`Environment`].
pub const ENVIRONMENT_SCHEMA_VERSION: u32 = 1;
/// Name of the file.
pub const ENVIRONMENT_FILE: &str = "env.json";

/// `env.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// [`ENVIRONMENT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was captured, RFC 3339 UTC.
    pub captured_at: String,
    /// Operating system.
    pub os: OsBlock,
    /// Processor.
    pub cpu: CpuBlock,
    /// Memory.
    pub memory: MemoryBlock,
    /// Limits of the control group.
    pub cgroup: CgroupBlock,
    /// What else the machine was doing at the start.
    pub load: LoadBlock,
    /// Virtual machine and container.
    pub virtualization: VirtualizationBlock,
    /// How perfprof was built.
    pub build: BuildBlock,
    /// State of the git tree in the working directory; null outside one.
    pub git: Option<GitBlock>,
    /// GPUs, driver and CUDA, filled in by the hardware module; null without one.
    pub gpu: serde_json::Value,
    /// Allow-listed environment variables that are set.
    pub variables: BTreeMap<String, String>,
}

/// Operating system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OsBlock {
    /// `linux`, `macos` and so on.
    pub family: String,
    /// Name and version as the distribution prints it.
    pub pretty_name: Option<String>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Hash of the host name: tells two machines apart without naming them.
    pub host_hash: Option<String>,
    /// Seconds since boot.
    pub uptime_s: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// `vm.swappiness`.
    pub swappiness: Option<u64>,
}

/// One cache level as the first CPU sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1, 2, 3.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Size of one instance.
    pub bytes: u64,
    /// CPUs that share one instance.
    pub shared_cpus: Option<String>,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// Number.
    pub node: u32,
    /// Its CPUs, e.g. `0-15`.
    pub cpus: Option<String>,
    /// Its memory.
    pub memory_bytes: Option<u64>,
}

/// Processor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CpuBlock {
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// Name.
    pub model: Option<String>,
    /// Sockets.
    pub sockets: Option<u32>,
    /// Physical cores.
    pub physical_cores: Option<u32>,
    /// Logical CPUs online.
    pub logical_cpus: Option<u32>,
    /// CPUs this process may use: affinity and control-group quota taken into account.
    pub available_parallelism: Option<u32>,
    /// Simultaneous multithreading is on.
    pub smt: Option<bool>,
    /// Frequency governor of the first CPU.
    pub governor: Option<String>,
    /// Frequency driver of the first CPU.
    pub frequency_driver: Option<String>,
    /// Frequency of the first CPU at the start.
    pub frequency_mhz: Option<f64>,
    /// Lowest frequency.
    pub min_frequency_mhz: Option<f64>,
    /// Highest frequency.
    pub max_frequency_mhz: Option<f64>,
    /// Turbo or boost is allowed.
    pub turbo: Option<bool>,
    /// Instruction-set extensions that matter to matrix products.
    pub features: Vec<String>,
    /// Caches.
    pub caches: Vec<Cache>,
    /// NUMA nodes.
    pub numa: Vec<NumaNode>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryBlock {
    /// Installed, as the kernel counts it.
    pub total_bytes: Option<u64>,
    /// Available at the start.
    pub available_bytes: Option<u64>,
    /// Swap space.
    pub swap_total_bytes: Option<u64>,
    /// Free swap space at the start.
    pub swap_free_bytes: Option<u64>,
    /// Reserved huge pages.
    pub huge_pages_total: Option<u64>,
    /// Size of a reserved huge page.
    pub huge_page_bytes: Option<u64>,
}

/// Limits of the control group, the tightest of the group and its parents.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CgroupBlock {
    /// 1 or 2.
    pub version: Option<u32>,
    /// CPUs' worth of time allowed; null where there is no limit.
    pub cpu_quota: Option<f64>,
    /// Memory allowed; null where there is no limit.
    pub memory_limit_bytes: Option<u64>,
}

/// Pressure-stall information of one resource (Documentation/accounting/psi.rst of Linux).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Percent of the last 10 s in which some task waited.
    pub some_avg10: Option<f64>,
    /// Percent of the last 60 s.
    pub some_avg60: Option<f64>,
    /// Percent of the last 300 s.
    pub some_avg300: Option<f64>,
}

/// What else the machine was doing at the start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadBlock {
    /// Load averages over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Tasks running or ready to run at that instant.
    pub runnable_tasks: Option<u32>,
    /// Waiting for a CPU.
    pub pressure_cpu: Option<Pressure>,
    /// Waiting for memory.
    pub pressure_memory: Option<Pressure>,
    /// Waiting for a disk.
    pub pressure_io: Option<Pressure>,
}

/// Virtual machine and container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VirtualizationBlock {
    /// A hypervisor is present; null where the processor does not tell.
    pub virtual_machine: Option<bool>,
    /// Vendor of the (virtual) machine.
    pub vendor: Option<String>,
    /// Product name of the (virtual) machine.
    pub product: Option<String>,
    /// `docker`, `podman`, `kubernetes`, `lxc`; null where no sign of one was found.
    pub container: Option<String>,
}

/// How perfprof was built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BuildBlock {
    /// Version of perfprof.
    pub perfprof_version: String,
    /// Commit it was built from, where the builder set `PERFPROF_BUILD_COMMIT`.
    pub commit: Option<String>,
    /// Version line of the compiler.
    pub rustc: Option<String>,
    /// Target triple.
    pub target: Option<String>,
    /// `debug` or `release`.
    pub profile: Option<String>,
    /// Optimisation level.
    pub opt_level: Option<String>,
    /// Instruction sets the compiler was allowed to use everywhere.
    pub target_features: Vec<String>,
    /// Cargo features of perfprof.
    pub features: Vec<String>,
    /// Versions of the crates that do the work, from the lock file.
    pub crates: BTreeMap<String, String>,
}

/// State of the git tree in the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitBlock {
    /// Commit checked out.
    pub commit: Option<String>,
    /// Branch checked out; null when detached.
    pub branch: Option<String>,
    /// Tracked files differ from the commit; null where git did not answer in time.
    pub dirty: Option<bool>,
}

/// Captures the environment now; `gpu` is what the hardware module knows of the GPUs, or null.
pub fn capture(gpu: serde_json::Value) -> Environment {
    let system = System::here();
    let variables = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    Environment {
        schema_version: ENVIRONMENT_SCHEMA_VERSION,
        captured_at: super::run_dir::rfc3339(jiff::Timestamp::now()),
        os: system.os(),
        cpu: system.cpu(),
        memory: system.memory(),
        cgroup: system.cgroup(),
        load: system.load(),
        virtualization: system.virtualization(),
        build: build(),
        git: std::env::current_dir().ok().and_then(|directory| git_state(&directory)),
        gpu,
        variables: Redactor::from_env().environment(variables),
    }
}

/// Hash of the machine's name: equal on one machine, and no way to read the name off it.
pub fn host_hash() -> Option<String> {
    System::here().host_hash()
}

/// How this binary was built; the build script passes what cargo and the lock file know.
fn build() -> BuildBlock {
    let owned = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    let list = |value: Option<&str>| -> Vec<String> {
        value.unwrap_or_default().split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    BuildBlock {
        perfprof_version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: owned(option_env!("PERFPROF_BUILD_COMMIT")),
        rustc: owned(option_env!("PERFPROF_RUSTC")),
        target: owned(option_env!("PERFPROF_TARGET")),
        profile: owned(option_env!("PERFPROF_PROFILE")),
        opt_level: owned(option_env!("PERFPROF_OPT_LEVEL")),
        target_features: list(option_env!("PERFPROF_TARGET_FEATURES")),
        features: list(option_env!("PERFPROF_FEATURES")),
        crates: list(option_env!("PERFPROF_CRATES"))
            .iter()
            .filter_map(|item| item.split_once('='))
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect(),
    }
}

/// How long git may take; a huge tree on a slow disk must not delay a run.
const GIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The git tree `directory` lies in, if git is there and says so.
fn git_state(directory: &Path) -> Option<GitBlock> {
    if !directory.ancestors().any(|part| part.join(".git").exists()) {
        return None;
    }
    let commit = git(directory, &["rev-parse", "--verify", "--quiet", "HEAD"]);
    let branch = git(directory, &["symbolic-ref", "--short", "--quiet", "HEAD"]);
    let status = git(directory, &["status", "--porcelain", "--untracked-files=no"]);
    Some(GitBlock {
        commit: commit.filter(|text| !text.is_empty()),
        branch: branch.filter(|text| !text.is_empty()),
        dirty: status.map(|text| !text.is_empty()),
    })
}

/// The output of one git command; `None` if it fails or takes too long.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    // Into a file, not a pipe: a long list of changed files would fill a pipe that nobody reads while we wait.
    let output = tempfile::tempfile().ok()?;
    let mut child = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        // Only looking: git must neither take the index lock nor ask anything.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().ok()?)
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + GIT_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                // Ended badly, or too slow: a kill of an ended child does nothing.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let mut output = output;
    let mut text = String::new();
    std::io::Seek::rewind(&mut output).ok()?;
    std::io::Read::read_to_string(&mut output, &mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_git_tree_is_described_by_commit_branch_and_changes() {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
                .args(arguments)
                .current_dir(dir.path())
                .output();
            output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        assert_eq!(git_state(dir.path()), None);
        if git(&["init", "--initial-branch=topic"]).is_none() {
            eprintln!("skipped: no git here");
            return;
        }
        assert_eq!(git_state(dir.path()).unwrap().commit, None);
        std::fs::write(dir.path().join("file"), "1").unwrap();
        git(&["add", "file"]);
        git(&["commit", "--no-verify", "-m", "first"]);
        let head = std::fs::read_to_string(dir.path().join(".git/refs/heads/topic")).unwrap();
        let clean = git_state(dir.path()).unwrap();
        let expected =
            GitBlock { commit: Some(head.trim().to_owned()), branch: Some("topic".to_owned()), dirty: Some(false) };
        assert_eq!(clean, expected);
        std::fs::write(dir.path().join("file"), "2").unwrap();
        assert_eq!(git_state(dir.path()).unwrap().dirty, Some(true));
    }

    #[test]
    fn the_build_is_described_by_the_lock_file() {
        let build = build();
        assert!(build.rustc.unwrap().starts_with("rustc 1."));
        assert_eq!(build.crates["candle-core"], "0.11.1");
        assert!(build.crates.contains_key("tokenizers"));
    }
}
