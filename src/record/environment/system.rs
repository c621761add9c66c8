//! Reads the machine from `/proc` and `/sys`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Cache, CgroupBlock, CpuBlock, LoadBlock, MemoryBlock, NumaNode, OsBlock, Pressure, VirtualizationBlock};
use crate::record::manifest::sha256_hex;

/// `/proc` and `/sys` below a root, so that tests can stand up machines of their own.
pub(super) struct System {
    root: PathBuf,
}

impl System {
    /// The machine we run on.
    pub(super) fn here() -> Self {
        Self { root: PathBuf::from("/") }
    }

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

    pub(super) fn host_hash(&self) -> Option<String> {
        let name = self.text("proc/sys/kernel/hostname")?;
        Some(sha256_hex(format!("perfprof host {name}").as_bytes())[..16].to_owned())
    }

    pub(super) fn os(&self) -> OsBlock {
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

    pub(super) fn cpu(&self) -> CpuBlock {
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

    pub(super) fn memory(&self) -> MemoryBlock {
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

    pub(super) fn cgroup(&self) -> CgroupBlock {
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
                cpu_quota: tightest("sys/fs/cgroup", &path, |directory| {
                    cpu_max(&self.text(&format!("{directory}/cpu.max"))?)
                }),
                memory_limit_bytes: tightest("sys/fs/cgroup", &path, |directory| {
                    self.number::<u64>(&format!("{directory}/memory.max"))
                }),
            };
        }
        let cpu = path_of("cpu").unwrap_or_default();
        let memory = path_of("memory").unwrap_or_default();
        CgroupBlock {
            version: Some(1),
            cpu_quota: tightest("sys/fs/cgroup/cpu", &cpu, |directory| {
                let quota: f64 = self.number(&format!("{directory}/cpu.cfs_quota_us"))?;
                let period: f64 = self.number(&format!("{directory}/cpu.cfs_period_us"))?;
                (quota > 0.0 && period > 0.0).then(|| quota / period)
            }),
            memory_limit_bytes: tightest("sys/fs/cgroup/memory", &memory, |directory| {
                let limit: u64 = self.number(&format!("{directory}/memory.limit_in_bytes"))?;
                // "No limit" is the largest multiple of the page size.
                (limit < 1 << 60).then_some(limit)
            }),
        }
    }

    pub(super) fn load(&self) -> LoadBlock {
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

    pub(super) fn virtualization(&self) -> VirtualizationBlock {
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

/// The smallest limit of a group and its parents. Inside a container the path of the host may not exist; the mount point
/// itself, the last parent, then holds the limits.
fn tightest<T: PartialOrd>(mount: &str, path: &str, limit: impl Fn(&str) -> Option<T>) -> Option<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let system = System { root: dir.path().to_owned() };
        (dir, system)
    }

    #[test]
    fn a_machine_that_tells_nothing_is_null_everywhere() {
        let (_dir, system) = machine(&[]);
        let cpu = system.cpu();
        assert_eq!((cpu.model, cpu.sockets, cpu.physical_cores, cpu.logical_cpus), (None, None, None, None));
        assert_eq!((cpu.smt, cpu.governor, cpu.frequency_mhz, cpu.turbo), (None, None, None, None));
        assert!(cpu.caches.is_empty() && cpu.numa.is_empty() && cpu.features.is_empty());
        assert_eq!(system.memory(), MemoryBlock::default());
        assert_eq!(system.cgroup(), CgroupBlock::default());
        assert_eq!(system.load(), LoadBlock::default());
        assert_eq!(system.virtualization(), VirtualizationBlock::default());
        assert_eq!((system.os().kernel, system.host_hash()), (None, None));
    }

    #[test]
    fn a_two_socket_server_is_counted_by_core_and_not_by_thread() {
        let mut info = String::new();
        for processor in 0..8 {
            // Two sockets of two cores of two threads; core ids repeat on the second socket.
            let (package, core) = (processor / 2 % 2, processor / 4);
            info.push_str(&format!(
                "processor\t: {processor}\nmodel name\t: Test CPU @ 2.00GHz\ncpu MHz\t\t: 2100.5\nphysical id\t: {package}\n\
                 core id\t\t: {core}\nflags\t\t: fpu sse4_2 avx2 avx512_bf16 amx_tile hypervisor\n\n"
            ));
        }
        let (_dir, system) = machine(&[
            ("proc/cpuinfo", &info),
            ("sys/devices/system/cpu/online", "0-5,7\n"),
            ("sys/devices/system/cpu/smt/active", "1\n"),
            ("sys/devices/system/cpu/cpufreq/boost", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1800000\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/size", "48K\n"),
            ("sys/devices/system/node/node1/cpulist", "4-7\n"),
            ("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:       1024 kB\nNode 1 MemFree: 1 kB\n"),
        ]);
        let cpu = system.cpu();
        assert_eq!(
            (cpu.sockets, cpu.physical_cores, cpu.logical_cpus, cpu.smt),
            (Some(2), Some(4), Some(7), Some(true))
        );
        assert_eq!(cpu.model.as_deref(), Some("Test CPU @ 2.00GHz"));
        assert_eq!(cpu.features, ["sse4_2", "avx2", "avx512_bf16", "amx_tile"]);
        assert_eq!(
            (cpu.governor.as_deref(), cpu.frequency_mhz, cpu.turbo),
            (Some("powersave"), Some(1800.0), Some(false))
        );
        assert_eq!(cpu.caches, [Cache { level: 1, kind: "Data".to_owned(), bytes: 49152, shared_cpus: None }]);
        assert_eq!(cpu.numa, [NumaNode { node: 1, cpus: Some("4-7".to_owned()), memory_bytes: Some(1 << 20) }]);
        assert_eq!(system.virtualization().virtual_machine, Some(true));
    }

    #[test]
    fn the_tightest_limit_of_a_group_and_its_parents_counts() {
        let (_dir, v2) = machine(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.max", "1048576\n"),
        ]);
        assert_eq!(
            v2.cgroup(),
            CgroupBlock { version: Some(2), cpu_quota: Some(1.5), memory_limit_bytes: Some(1 << 20) }
        );
        let (_dir, v1) = machine(&[
            ("proc/self/cgroup", "4:memory:/not/here\n2:cpu,cpuacct:/c\n0::/\n"),
            ("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(v1.cgroup(), CgroupBlock { version: Some(1), cpu_quota: Some(0.5), memory_limit_bytes: None });
    }

    #[test]
    fn memory_load_and_pages_are_read_in_their_units() {
        let (_dir, system) = machine(&[
            (
                "proc/meminfo",
                "MemTotal:       2048 kB\nMemAvailable:   1024 kB\nHugePages_Total:       3\nHugepagesize:       2048 kB\n",
            ),
            ("proc/loadavg", "0.50 1.25 2.00 3/106 20766\n"),
            (
                "proc/pressure/cpu",
                "some avg10=1.53 avg60=5.57 avg300=8.80 total=66242774\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
            ),
            ("proc/sys/kernel/hostname", "secret-machine-name\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("etc/os-release", "ID=x\nPRETTY_NAME=\"Test OS 1\"\n"),
        ]);
        let memory = system.memory();
        assert_eq!((memory.total_bytes, memory.available_bytes), (Some(2 << 20), Some(1 << 20)));
        assert_eq!(
            (memory.huge_pages_total, memory.huge_page_bytes, memory.swap_total_bytes),
            (Some(3), Some(2 << 20), None)
        );
        let load = system.load();
        assert_eq!((load.load_average, load.runnable_tasks), (Some([0.5, 1.25, 2.0]), Some(3)));
        assert_eq!(load.pressure_cpu.unwrap().some_avg60, Some(5.57));
        let os = system.os();
        assert_eq!(
            (os.transparent_huge_pages.as_deref(), os.pretty_name.as_deref()),
            (Some("madvise"), Some("Test OS 1"))
        );
        assert!(!serde_json::to_string(&os).unwrap().contains("secret-machine-name"));
        assert_eq!(os.host_hash.unwrap().len(), 16);
    }
}
