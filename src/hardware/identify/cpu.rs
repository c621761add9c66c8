//! The processor: model, the cores this process may use, instruction sets and caches.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::hardware::memory::cgroup_directories;

/// One level of cache as the first usable CPU sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1, 2, 3, …
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Bytes of one instance.
    pub size_bytes: u64,
    /// Instances on the machine; null if the system does not tell.
    pub instances: Option<u32>,
}

/// The processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuIdentity {
    /// Model name; the architecture where the system gives none.
    pub model: String,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
    /// Sockets; null if the system does not tell.
    pub sockets: Option<u32>,
    /// Physical cores of the machine; null if the system does not tell.
    pub physical_cores: Option<u32>,
    /// Logical CPUs of the machine that are online; null if the system does not tell.
    pub logical_cpus: Option<u32>,
    /// Logical CPUs this process may run on (`sched_getaffinity`).
    pub logical_available: u32,
    /// Physical cores among them; null if the system does not tell.
    pub physical_available: Option<u32>,
    /// CPU time per second the control group allows (`cpu.max`); null without a quota.
    pub cgroup_quota_cpus: Option<f64>,
    /// `min(logical_available, cgroup_quota_cpus)`: the CPU seconds per second this process can have.
    pub usable_cpus: f64,
    /// Instruction sets that matter to inference, e.g. `avx2`, `avx512_vnni`, `amx_tile`.
    pub isa: Vec<String>,
    /// Caches.
    pub caches: Vec<Cache>,
    /// Highest frequency in MHz (cpufreq); null on virtual machines.
    pub max_mhz: Option<f64>,
    /// True on a virtual machine that says so.
    pub virtual_machine: bool,
}

impl CpuIdentity {
    /// Bytes of the last-level cache, all instances together.
    pub fn last_level_cache_bytes(&self) -> Option<u64> {
        let last = self.caches.iter().filter(|cache| cache.kind != "Instruction").max_by_key(|cache| cache.level)?;
        Some(last.size_bytes * u64::from(last.instances.unwrap_or(1)))
    }
    /// True if the processor has instruction set `name`.
    pub fn has(&self, name: &str) -> bool {
        self.isa.iter().any(|known| known == name)
    }
}

/// Flags of `/proc/cpuinfo` worth telling, with the name they are told by.
const ISA_FLAGS: &[(&str, &str)] = &[
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("fma", "fma"),
    ("f16c", "f16c"),
    ("avx_vnni", "avx_vnni"),
    ("avx512f", "avx512f"),
    ("avx512bw", "avx512bw"),
    ("avx512vl", "avx512vl"),
    ("avx512dq", "avx512dq"),
    ("avx512_vnni", "avx512_vnni"),
    ("avx512_bf16", "avx512_bf16"),
    ("avx512_fp16", "avx512_fp16"),
    ("amx_tile", "amx_tile"),
    ("amx_int8", "amx_int8"),
    ("amx_bf16", "amx_bf16"),
    ("amx_fp16", "amx_fp16"),
    ("asimd", "neon"),
    ("asimdhp", "neon_fp16"),
    ("asimddp", "neon_dotprod"),
    ("i8mm", "neon_i8mm"),
    ("bf16", "neon_bf16"),
    ("sve", "sve"),
    ("sve2", "sve2"),
];

/// The processor of this machine.
pub fn cpu() -> CpuIdentity {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let available = affinity();
    let quota = cgroup_quota(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"));
    identify(&info, Path::new("/sys/devices/system/cpu"), &available, quota)
}

/// The CPU seconds per second this process can have: its affinity, limited by the control group's quota.
pub fn usable_cpus() -> f64 {
    let available = affinity().len() as f64;
    cgroup_quota(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"))
        .map_or(available, |quota| quota.min(available))
}

fn identify(info: &str, sysfs: &Path, available: &[u32], quota: Option<f64>) -> CpuIdentity {
    let field = |names: &[&str]| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| names.contains(&key.trim()))
            .map(|(_, value)| value.trim().to_owned())
    };
    // x86 writes `flags`, arm64 `Features`.
    let flags = field(&["flags", "Features"]).unwrap_or_default();
    let flags: BTreeSet<&str> = flags.split_whitespace().collect();
    let online = std::fs::read_to_string(sysfs.join("online")).ok().and_then(|text| parse_cpu_list(&text));
    let topology = |cpu: u32| -> Option<(u32, u32)> {
        let read = |name: &str| -> Option<u32> {
            std::fs::read_to_string(sysfs.join(format!("cpu{cpu}/topology/{name}"))).ok()?.trim().parse().ok()
        };
        Some((read("physical_package_id")?, read("core_id")?))
    };
    let cores_of = |cpus: &[u32]| -> Option<BTreeSet<(u32, u32)>> { cpus.iter().map(|cpu| topology(*cpu)).collect() };
    let cores = online.as_deref().and_then(cores_of);
    let logical_available = available.len() as u32;
    CpuIdentity {
        model: field(&["model name", "Model", "Hardware"]).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        architecture: std::env::consts::ARCH.to_owned(),
        sockets: cores
            .as_ref()
            .map(|cores| cores.iter().map(|(socket, _)| socket).collect::<BTreeSet<_>>().len() as u32),
        physical_cores: cores.as_ref().map(|cores| cores.len() as u32),
        logical_cpus: online.as_ref().map(|cpus| cpus.len() as u32),
        logical_available,
        physical_available: cores_of(available).map(|cores| cores.len() as u32),
        cgroup_quota_cpus: quota,
        usable_cpus: quota.map_or(f64::from(logical_available), |quota| quota.min(f64::from(logical_available))),
        isa: ISA_FLAGS.iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, name)| (*name).to_owned()).collect(),
        caches: caches(sysfs, available.first().copied().unwrap_or(0), online.as_deref()),
        max_mhz: std::fs::read_to_string(sysfs.join("cpu0/cpufreq/cpuinfo_max_freq"))
            .ok()
            .and_then(|text| text.trim().parse::<f64>().ok())
            .map(|khz| khz / 1e3),
        virtual_machine: flags.contains("hypervisor"),
    }
}

/// `0-3,8,10-11` as numbers (kernel cpulist format).
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // A machine has a few thousand CPUs at the most; a longer range is a broken file, not a list to build.
        if last < first || last - first > 65_536 {
            return None;
        }
        cpus.extend(first..=last);
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// `32K`, `2048K` or `1M` in bytes.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 1 << 10),
        'M' => (&text[..text.len() - 1], 1 << 20),
        'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn caches(sysfs: &Path, cpu: u32, online: Option<&[u32]>) -> Vec<Cache> {
    let mut caches = Vec::new();
    for index in 0..8 {
        let directory = sysfs.join(format!("cpu{cpu}/cache/index{index}"));
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
        let (Some(level), Some(kind), Some(size)) = (
            read("level").and_then(|text| text.trim().parse().ok()),
            read("type"),
            read("size").and_then(|text| parse_size(&text)),
        ) else {
            continue;
        };
        let instances = online.and_then(|cpus| {
            let groups: BTreeSet<String> = cpus
                .iter()
                .map(|cpu| {
                    std::fs::read_to_string(sysfs.join(format!("cpu{cpu}/cache/index{index}/shared_cpu_list")))
                        .ok()
                        .map(|text| text.trim().to_owned())
                })
                .collect::<Option<_>>()?;
            Some(groups.len() as u32)
        });
        caches.push(Cache { level, kind: kind.trim().to_owned(), size_bytes: size, instances });
    }
    caches
}

/// CPUs of the control group's quota: the least over the groups this process is in.
fn cgroup_quota(root: &Path, membership: &Path) -> Option<f64> {
    cgroup_directories(root, membership, "cpu")
        .iter()
        .filter_map(|directory| {
            let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
            if let Some(text) = read("cpu.max") {
                // v2: `<quota µs|max> <period µs>`.
                let mut fields = text.split_whitespace();
                let quota: f64 = fields.next()?.parse().ok()?;
                let period: f64 = fields.next()?.parse().ok()?;
                return (quota > 0.0 && period > 0.0).then(|| quota / period);
            }
            // v1: −1 is no quota.
            let quota: f64 = read("cpu.cfs_quota_us")?.trim().parse().ok()?;
            let period: f64 = read("cpu.cfs_period_us")?.trim().parse().ok()?;
            (quota > 0.0 && period > 0.0).then(|| quota / period)
        })
        .min_by(f64::total_cmp)
}

/// The CPUs this process may run on.
#[cfg(target_os = "linux")]
fn affinity() -> Vec<u32> {
    // A fixed cpu_set_t ends at CPU 1023 and the call fails with EINVAL on larger machines, so the mask grows until it fits.
    let mut words = 16usize;
    while words <= 1024 {
        let mut mask = vec![0u64; words];
        // SAFETY: the pointer is to `words` × 8 writable bytes, the size passed, and the kernel writes no more than that.
        let status = unsafe { libc::sched_getaffinity(0, words * 8, mask.as_mut_ptr().cast::<libc::cpu_set_t>()) };
        if status == 0 {
            let cpus: Vec<u32> = mask
                .iter()
                .enumerate()
                .flat_map(|(word, bits)| {
                    (0..64u32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word as u32 * 64 + bit)
                })
                .collect();
            if !cpus.is_empty() {
                return cpus;
            }
        }
        words *= 2;
    }
    fallback_affinity()
}

#[cfg(not(target_os = "linux"))]
fn affinity() -> Vec<u32> {
    fallback_affinity()
}

fn fallback_affinity() -> Vec<u32> {
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two cores of two threads, 1 MiB of L2 each core, 8 MiB of L3 each socket.
    fn sysfs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("online"), "0-7\n").unwrap();
        for cpu in 0..8u32 {
            let (socket, core) = (cpu / 4, cpu % 4 / 2);
            let directory = root.path().join(format!("cpu{cpu}"));
            std::fs::create_dir_all(directory.join("topology")).unwrap();
            std::fs::write(directory.join("topology/physical_package_id"), format!("{socket}\n")).unwrap();
            std::fs::write(directory.join("topology/core_id"), format!("{core}\n")).unwrap();
            let first = cpu / 2 * 2;
            for (index, level, kind, size, shared) in [
                (0, "1", "Data", "48K", format!("{first}-{}", first + 1)),
                (1, "2", "Unified", "1M", format!("{first}-{}", first + 1)),
                (2, "3", "Unified", "8192K", format!("{}-{}", socket * 4, socket * 4 + 3)),
            ] {
                let cache = directory.join(format!("cache/index{index}"));
                std::fs::create_dir_all(&cache).unwrap();
                std::fs::write(cache.join("level"), level).unwrap();
                std::fs::write(cache.join("type"), kind).unwrap();
                std::fs::write(cache.join("size"), size).unwrap();
                std::fs::write(cache.join("shared_cpu_list"), shared).unwrap();
            }
        }
        root
    }

    const INFO: &str =
        "processor\t: 0\nmodel name\t: Test CPU @ 2.0GHz\nflags\t\t: fpu avx avx2 fma hypervisor avx512_vnni\n";

    #[test]
    fn cores_threads_sockets_and_caches_are_told_apart() {
        let root = sysfs();
        let cpu = identify(INFO, root.path(), &[0, 1, 4], None);
        assert_eq!(cpu.model, "Test CPU @ 2.0GHz");
        assert_eq!((cpu.sockets, cpu.physical_cores, cpu.logical_cpus), (Some(2), Some(4), Some(8)));
        assert_eq!((cpu.logical_available, cpu.physical_available), (3, Some(2)));
        assert_eq!(cpu.isa, ["avx", "avx2", "fma", "avx512_vnni"]);
        assert!(cpu.virtual_machine);
        assert_eq!(cpu.last_level_cache_bytes(), Some(16 << 20));
        assert_eq!(cpu.caches[1], Cache { level: 2, kind: "Unified".into(), size_bytes: 1 << 20, instances: Some(4) });
    }

    #[test]
    fn a_quota_limits_what_affinity_allows() {
        let root = sysfs();
        assert_eq!(identify(INFO, root.path(), &[0, 1, 2], Some(1.5)).usable_cpus, 1.5);
        assert_eq!(identify(INFO, root.path(), &[0, 1, 2], Some(8.0)).usable_cpus, 3.0);
    }

    #[test]
    fn an_unreadable_system_is_unknown_and_not_one() {
        let root = tempfile::tempdir().unwrap();
        let cpu = identify("", root.path(), &[0], None);
        assert_eq!((cpu.sockets, cpu.physical_cores, cpu.physical_available), (None, None, None));
        assert_eq!(cpu.last_level_cache_bytes(), None);
        assert_eq!(cpu.model, std::env::consts::ARCH);
    }

    #[test]
    fn the_tightest_quota_counts() {
        let root = tempfile::tempdir().unwrap();
        let membership = root.path().join("membership");
        std::fs::write(&membership, "0::/a/b\n").unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cgroup_quota(root.path(), &membership), None);
        std::fs::write(root.path().join("a/cpu.max"), "250000 100000\n").unwrap();
        assert_eq!(cgroup_quota(root.path(), &membership), Some(2.5));
    }

    #[test]
    fn lists_and_sizes_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("3-1"), None);
        assert_eq!(parse_cpu_list("0-4294967295"), None);
        assert_eq!(parse_cpu_list(""), None);
        assert_eq!(parse_size("266240K\n"), Some(266_240 << 10));
        assert_eq!(parse_size("x"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn affinity_agrees_with_the_standard_library() {
        // `available_parallelism` also applies the quota, rounded down, so it can only be less.
        let standard = std::thread::available_parallelism().unwrap().get();
        assert!(affinity().len() >= standard);
    }
}
