//! Energy of the CPU packages through RAPL's sysfs counters (kernel documentation, `power/powercap/powercap`).
//!
//! This module reads counters; what the energy was spent on is for the caller to say. The counters take in everything the package
//! did, also for other processes.

use std::path::{Path, PathBuf};

/// Where the kernel puts the counters.
pub const POWERCAP_ROOT: &str = "/sys/class/powercap";

/// One energy counter, with what it has counted since it was opened.
#[derive(Debug)]
struct Domain {
    name: String,
    file: PathBuf,
    /// The counter returns to 0 after this value.
    range_uj: u64,
    last_uj: u64,
    counted_uj: u128,
}

impl Domain {
    fn advance(&mut self) -> Result<(), String> {
        let now = read_counter(&self.file)?;
        self.counted_uj += u128::from(elapsed_uj(self.last_uj, now, self.range_uj));
        self.last_uj = now;
        Ok(())
    }
}

/// The increase of a counter that may have wrapped once.
fn elapsed_uj(before: u64, now: u64, range: u64) -> u64 {
    if now >= before {
        now - before
    } else {
        // The counter runs from 0 to `range` and begins again: the step from `range` to 0 is one count.
        range.saturating_sub(before).saturating_add(now).saturating_add(1)
    }
}

fn read_counter(file: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{} is readable by root only (run as root, or `chmod a+r` it)", file.display())
        }
        _ => format!("{}: {error}", file.display()),
    })?;
    text.trim().parse().map_err(|_| format!("{} does not hold a number: `{}`", file.display(), text.trim()))
}

/// Joules since the meter was opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergyReading {
    /// Sum over the CPU packages (cores, caches, memory controller).
    pub package_j: f64,
    /// Sum over the DRAM domains, which the packages do not contain; null where the machine has none.
    pub dram_j: Option<f64>,
}

/// Reads package and DRAM energy. Counters wrap (commonly after some 65 to 262 kJ): read at least every few minutes under load.
#[derive(Debug)]
pub struct EnergyMeter {
    packages: Vec<Domain>,
    dram: Vec<Domain>,
}

impl EnergyMeter {
    /// Opens the counters of this machine.
    ///
    /// # Errors
    /// Why energy cannot be measured here, in words.
    pub fn open() -> Result<Self, String> {
        Self::open_at(Path::new(POWERCAP_ROOT))
    }

    /// Opens the counters below `root`.
    ///
    /// # Errors
    /// Why energy cannot be measured there, in words.
    pub fn open_at(root: &Path) -> Result<Self, String> {
        let entries =
            std::fs::read_dir(root).map_err(|error| format!("no RAPL energy counters: {}: {error}", root.display()))?;
        let mut meter = Self { packages: Vec::new(), dram: Vec::new() };
        let mut directories: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        directories.sort();
        for directory in directories {
            let Some(entry) = directory.file_name().and_then(|name| name.to_str()) else { continue };
            // `intel-rapl-mmio:0` shows the same package a second time; counting it would double the energy.
            if !entry.starts_with("intel-rapl:") {
                continue;
            }
            let Ok(name) = std::fs::read_to_string(directory.join("name")) else { continue };
            let name = name.trim().to_owned();
            let list = if name.starts_with("package") {
                &mut meter.packages
            } else if name == "dram" {
                &mut meter.dram
            } else {
                // `core` and `uncore` are parts of the package, `psys` holds the packages.
                continue;
            };
            let file = directory.join("energy_uj");
            let last_uj = read_counter(&file).map_err(|reason| format!("no RAPL energy: {reason}"))?;
            let range_uj = read_counter(&directory.join("max_energy_range_uj"))
                .map_err(|reason| format!("no RAPL energy: {reason}"))?;
            list.push(Domain { name, file, range_uj, last_uj, counted_uj: 0 });
        }
        if meter.packages.is_empty() {
            return Err(format!("no RAPL package counter below {} (virtual machines rarely have one)", root.display()));
        }
        Ok(meter)
    }

    /// Names of the domains that are counted.
    pub fn domains(&self) -> Vec<&str> {
        self.packages.iter().chain(&self.dram).map(|domain| domain.name.as_str()).collect()
    }

    /// Package and DRAM energy since the meter was opened.
    ///
    /// # Errors
    /// If a counter can no longer be read.
    pub fn read(&mut self) -> Result<EnergyReading, String> {
        for domain in self.packages.iter_mut().chain(&mut self.dram) {
            domain.advance()?;
        }
        let joules = |domains: &[Domain]| domains.iter().map(|domain| domain.counted_uj as f64 * 1e-6).sum::<f64>();
        Ok(EnergyReading {
            package_j: joules(&self.packages),
            dram_j: (!self.dram.is_empty()).then(|| joules(&self.dram)),
        })
    }

    /// Joules of packages and DRAM together since the meter was opened.
    ///
    /// # Errors
    /// If a counter can no longer be read.
    pub fn read_joules(&mut self) -> Result<f64, String> {
        let reading = self.read()?;
        Ok(reading.package_j + reading.dram_j.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(root: &Path, entry: &str, name: &str, energy: &str) {
        let directory = root.join(entry);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("name"), format!("{name}\n")).unwrap();
        std::fs::write(directory.join("energy_uj"), energy).unwrap();
        std::fs::write(directory.join("max_energy_range_uj"), "1000000\n").unwrap();
    }

    #[test]
    fn packages_and_dram_count_once_and_their_parts_do_not() {
        let root = tempfile::tempdir().unwrap();
        domain(root.path(), "intel-rapl:0", "package-0", "100");
        domain(root.path(), "intel-rapl:1", "package-1", "200");
        domain(root.path(), "intel-rapl:2", "psys", "0");
        domain(root.path(), "intel-rapl:0:0", "core", "0");
        domain(root.path(), "intel-rapl:0:1", "dram", "0");
        domain(root.path(), "intel-rapl-mmio:0", "package-0", "0");
        let mut meter = EnergyMeter::open_at(root.path()).unwrap();
        for (entry, energy) in [
            ("intel-rapl:0", "300100"),
            ("intel-rapl:1", "500200"),
            ("intel-rapl:2", "900000"),
            ("intel-rapl:0:0", "250000"),
            ("intel-rapl:0:1", "40000"),
            ("intel-rapl-mmio:0", "300000"),
        ] {
            std::fs::write(root.path().join(entry).join("energy_uj"), energy).unwrap();
        }
        let reading = meter.read().unwrap();
        assert!((reading.package_j - 0.8).abs() < 1e-12);
        assert!((reading.dram_j.unwrap() - 0.04).abs() < 1e-12);
        assert!((meter.read_joules().unwrap() - 0.84).abs() < 1e-12);
    }

    #[test]
    fn a_wrapped_counter_goes_on_counting() {
        let root = tempfile::tempdir().unwrap();
        domain(root.path(), "intel-rapl:0", "package-0", "999999");
        let mut meter = EnergyMeter::open_at(root.path()).unwrap();
        // 999999 -> 1000000 -> 0 -> 10: twelve micro-joules.
        std::fs::write(root.path().join("intel-rapl:0/energy_uj"), "10").unwrap();
        assert!((meter.read().unwrap().package_j - 12e-6).abs() < 1e-15);
        assert_eq!(meter.read().unwrap().dram_j, None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let root = tempfile::tempdir().unwrap();
        assert!(EnergyMeter::open_at(&root.path().join("absent")).unwrap_err().contains("absent"));
        assert!(EnergyMeter::open_at(root.path()).unwrap_err().contains("package"));
        domain(root.path(), "intel-rapl:0", "package-0", "many");
        assert!(EnergyMeter::open_at(root.path()).unwrap_err().contains("`many`"));
    }
}
