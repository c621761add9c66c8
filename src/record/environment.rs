//! `env.json`: the machine, the system and the build a run was made with.
//!
//! Read by hand from `/proc` and `/sys`; what cannot be read is null. Nothing here identifies the user: the host name is hashed,
//! and of the environment only allow-listed variables are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::manifest::sha256_hex;
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
    let system = System { root: PathBuf::from("/") };
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
    System { root: PathBuf::from("/") }.host_hash()
}

/// `/proc` and `/sys` below a root, so that tests can stand up machines of their own.
struct System {
    root: PathBuf,
}

impl System {
    /// A file without the space around its content; `None` if unreadable or empty.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = std::fs::read(self.root.join(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Entries of a directory named `prefix` and a number, by number.
    fn numbered(&self, directory: &str, prefix: &str) -> Vec<u32> {
        let Ok(items) = std::fs::read_dir(self.root.join(directory)) else { return Vec::new() };
        let numbers: BTreeSet<u32> =
            items.flatten().filter_map(|item| item.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()).collect();
        numbers.into_iter().collect()
    }

    fn host_hash(&self) -> Option<String> {
        let name = self.text("proc/sys/kernel/hostname")?;
        Some(sha256_hex(format!("perfprof host {name}").as_bytes())[..16].to_owned())
    }

    fn os(&self) -> OsBlock {
        let release = self.text("etc/os-release").or_else(|| self.text("usr/lib/os-release"));
        let pretty_name = release.and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned))?;
            Some(line.trim_matches(['"', '\'']).to_owned())
        });
        OsBlock {
            family: std::env::consts::OS.to_owned(),
            pretty_name,
            kernel: self.text("proc/sys/kernel/osrelease"),
            host_hash: self.host_hash(),
            uptime_s: self.text("proc/uptime").and_then(|text| {
                let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
                Some(seconds as u64)
            }),
            transparent_huge_pages: self
                .text("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| bracketed(&text)),
            swappiness: self.number("proc/sys/vm/swappiness"),
        }
    }

    fn cpu(&self) -> CpuBlock {
        let info = CpuInfo::parse(&self.text("proc/cpuinfo").unwrap_or_default());
        let frequency = "sys/devices/system/cpu/cpu0/cpufreq";
        let khz = |name: &str| self.number::<f64>(&format!("{frequency}/{name}")).map(|khz| khz / 1e3);
        let turbo = self
            .number::<u32>("sys/devices/system/cpu/intel_pstate/no_turbo")
            .map(|off| off == 0)
            .or_else(|| self.number::<u32>("sys/devices/system/cpu/cpufreq/boost").map(|on| on == 1));
        CpuBlock {
            architecture: std::env::consts::ARCH.to_owned(),
            model: info.model,
            sockets: info.sockets,
            physical_cores: info.cores,
            logical_cpus: self
                .text("sys/devices/system/cpu/online")
                .and_then(|list| cpu_list_length(&list))
                .or(info.processors),
            available_parallelism: std::thread::available_parallelism().ok().map(|count| count.get() as u32),
            smt: self.number::<u32>("sys/devices/system/cpu/smt/active").map(|active| active == 1),
            governor: self.text(&format!("{frequency}/scaling_governor")),
            frequency_driver: self.text(&format!("{frequency}/scaling_driver")),
            frequency_mhz: khz("scaling_cur_freq").or(info.mhz),
            min_frequency_mhz: khz("cpuinfo_min_freq"),
            max_frequency_mhz: khz("cpuinfo_max_freq"),
            turbo,
            features: info.features,
            caches: self.caches(),
            numa: self.numa(),
        }
    }

    fn caches(&self) -> Vec<Cache> {
        let base = "sys/devices/system/cpu/cpu0/cache";
        let cache = |index: u32| {
            let file = |name: &str| self.text(&format!("{base}/index{index}/{name}"));
            Some(Cache {
                level: file("level")?.parse().ok()?,
                kind: file("type")?,
                bytes: size_with_suffix(&file("size")?)?,
                shared_cpus: file("shared_cpu_list"),
            })
        };
        self.numbered(base, "index").into_iter().filter_map(cache).collect()
    }

    fn numa(&self) -> Vec<NumaNode> {
        let base = "sys/devices/system/node";
        let node = |node: u32| {
            let memory = self.text(&format!("{base}/node{node}/meminfo"));
            let memory_bytes = memory.and_then(|text| {
                let line = text.lines().find(|line| line.contains("MemTotal:"))?;
                kib_value(line.split("MemTotal:").nth(1)?)
            });
            NumaNode { node, cpus: self.text(&format!("{base}/node{node}/cpulist")), memory_bytes }
        };
        self.numbered(base, "node").into_iter().map(node).collect()
    }

    fn memory(&self) -> MemoryBlock {
        let text = self.text("proc/meminfo").unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let bytes = |name: &str| field(name).and_then(kib_value);
        MemoryBlock {
            total_bytes: bytes("MemTotal"),
            available_bytes: bytes("MemAvailable"),
            swap_total_bytes: bytes("SwapTotal"),
            swap_free_bytes: bytes("SwapFree"),
            huge_pages_total: field("HugePages_Total").and_then(|count| count.parse().ok()),
            huge_page_bytes: bytes("Hugepagesize"),
        }
    }

    fn cgroup(&self) -> CgroupBlock {
        let Some(groups) = self.text("proc/self/cgroup") else { return CgroupBlock::default() };
        let unified = self.root.join("sys/fs/cgroup/cgroup.controllers").exists();
        // `hierarchy:controllers:path`; version 2 has hierarchy 0 and no controllers.
        let path_of = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
            })
        };
        if unified {
            let path = path_of("").unwrap_or_default();
            return CgroupBlock {
                version: Some(2),
                cpu_quota: self.tightest("sys/fs/cgroup", &path, |directory| {
                    cpu_max(&self.text(&format!("{directory}/cpu.max"))?)
                }),
                memory_limit_bytes: self.tightest("sys/fs/cgroup", &path, |directory| {
                    self.number::<u64>(&format!("{directory}/memory.max"))
                }),
            };
        }
        let cpu = path_of("cpu").unwrap_or_default();
        let memory = path_of("memory").unwrap_or_default();
        CgroupBlock {
            version: Some(1),
            cpu_quota: self.tightest("sys/fs/cgroup/cpu", &cpu, |directory| {
                let quota: f64 = self.number(&format!("{directory}/cpu.cfs_quota_us"))?;
                let period: f64 = self.number(&format!("{directory}/cpu.cfs_period_us"))?;
                (quota > 0.0 && period > 0.0).then(|| quota / period)
            }),
            memory_limit_bytes: self.tightest("sys/fs/cgroup/memory", &memory, |directory| {
                let limit: u64 = self.number(&format!("{directory}/memory.limit_in_bytes"))?;
                // "No limit" is the largest multiple of the page size.
                (limit < 1 << 60).then_some(limit)
            }),
        }
    }

    /// The smallest limit of a group and its parents. Inside a container the path of the host may not exist; the mount point
    /// itself, the last parent, then holds the limits.
    fn tightest<T: PartialOrd>(&self, mount: &str, path: &str, limit: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut directory = path.trim_matches('/').to_owned();
        let mut tightest: Option<T> = None;
        loop {
            let found = limit(&if directory.is_empty() { mount.to_owned() } else { format!("{mount}/{directory}") });
            if let Some(found) = found
                && tightest.as_ref().is_none_or(|known| found < *known)
            {
                tightest = Some(found);
            }
            if directory.is_empty() {
                return tightest;
            }
            directory = directory.rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned());
        }
    }

    fn load(&self) -> LoadBlock {
        let text = self.text("proc/loadavg").unwrap_or_default();
        let fields: Vec<&str> = text.split_whitespace().collect();
        let average = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let load_average = match (average(0), average(1), average(2)) {
            (Some(one), Some(five), Some(fifteen)) => Some([one, five, fifteen]),
            _ => None,
        };
        let pressure = |name: &str| self.text(&format!("proc/pressure/{name}")).and_then(|text| pressure(&text));
        LoadBlock {
            load_average,
            runnable_tasks: fields.get(3).and_then(|field| field.split('/').next()?.parse().ok()),
            pressure_cpu: pressure("cpu"),
            pressure_memory: pressure("memory"),
            pressure_io: pressure("io"),
        }
    }

    fn virtualization(&self) -> VirtualizationBlock {
        let info = self.text("proc/cpuinfo").unwrap_or_default();
        // Only x86 tells by a flag; elsewhere its absence means nothing.
        let flags = info.lines().find(|line| line.starts_with("flags"));
        let hypervisor = flags.map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let exists = |path: &str| self.root.join(path).exists();
        let container = if exists("var/run/secrets/kubernetes.io") || groups.contains("kubepods") {
            Some("kubernetes")
        } else if exists("run/.containerenv") || groups.contains("libpod") {
            Some("podman")
        } else if exists(".dockerenv") || groups.contains("docker") {
            Some("docker")
        } else if groups.contains("/lxc/") {
            Some("lxc")
        } else {
            None
        };
        VirtualizationBlock {
            virtual_machine: hypervisor.or_else(|| exists("sys/hypervisor/type").then_some(true)),
            vendor: self.text("sys/class/dmi/id/sys_vendor"),
            product: self.text("sys/class/dmi/id/product_name"),
            container: container.map(str::to_owned),
        }
    }
}

/// What `/proc/cpuinfo` tells.
#[derive(Debug, Default, PartialEq)]
struct CpuInfo {
    model: Option<String>,
    processors: Option<u32>,
    sockets: Option<u32>,
    cores: Option<u32>,
    mhz: Option<f64>,
    features: Vec<String>,
}

/// Beginnings of the extensions that decide which matrix kernels can run.
const FEATURES: [&str; 16] = [
    "sse4_2", "avx", "fma", "f16c", "amx_", "asimd", "sve", "sme", "i8mm", "bf16", "fphp", "bmi2", "neon", "svei8mm",
    "svebf16", "dotprod",
];

impl CpuInfo {
    fn parse(text: &str) -> Self {
        let fields =
            || text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
        let first = |names: &[&str]| fields().find(|(key, _)| names.contains(key)).map(|(_, value)| value.to_owned());
        let processors = fields().filter(|(key, _)| *key == "processor").count() as u32;
        let mut packages = BTreeSet::new();
        let mut cores = BTreeSet::new();
        let mut package = None;
        for (key, value) in fields() {
            match key {
                "processor" => package = None,
                "physical id" => {
                    package = Some(value);
                    packages.insert(value);
                }
                "core id" => {
                    if let Some(package) = package {
                        cores.insert((package, value));
                    }
                }
                _ => {}
            }
        }
        let some = |count: usize| (count > 0).then_some(count as u32);
        let features = first(&["flags", "Features"]).unwrap_or_default();
        Self {
            model: first(&["model name", "Model", "cpu model"]),
            processors: (processors > 0).then_some(processors),
            sockets: some(packages.len()),
            cores: some(cores.len()),
            mhz: first(&["cpu MHz"]).and_then(|mhz| mhz.parse().ok()),
            features: features
                .split_whitespace()
                .filter(|flag| FEATURES.iter().any(|known| flag.starts_with(known)))
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// `always [madvise] never` → `madvise`.
fn bracketed(text: &str) -> Option<String> {
    text.split_once('[')?.1.split_once(']').map(|(chosen, _)| chosen.to_owned())
}

/// Number of CPUs in a list such as `0-3,8`.
fn cpu_list_length(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// `48K` → 49152.
fn size_with_suffix(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `  123 kB` → 125952.
fn kib_value(text: &str) -> Option<u64> {
    text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `max 100000` → no limit; `150000 100000` → 1.5 CPUs.
fn cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The `some` line of a pressure file.
fn pressure(text: &str) -> Option<Pressure> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let field = |name: &str| {
        line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok())
    };
    Some(Pressure { some_avg10: field("avg10"), some_avg60: field("avg60"), some_avg300: field("avg300") })
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
