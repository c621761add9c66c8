//! The ceilings a run is held against, each with where it comes from.
//!
//! The order is: what the user set, what a data sheet says of this very device, what was measured here, unknown. A default for
//! an unknown device does not exist: a wrong peak makes a wrong MFU that nobody notices.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ceilings;
use super::identify::Machine;
use super::peaks::{self, Lookup};
use crate::estimate::format::Format;

/// The device a run computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRef {
    /// The processor.
    Cpu,
    /// The graphics processor CUDA calls by this ordinal.
    Cuda(u32),
}

impl std::fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(ordinal) => f.pad(&format!("cuda:{ordinal}")),
        }
    }
}

/// What the user set; a given value beats everything else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeakOverrides {
    /// `hardware.name=`: look the peaks up under this name instead of the one the driver reports.
    pub name: Option<String>,
    /// `hardware.peak_tflops=`, in FLOP/s.
    pub peak_flops_per_s: Option<f64>,
    /// `hardware.peak_bandwidth_gbs=`, in B/s.
    pub peak_bytes_per_s: Option<f64>,
    /// `hardware.memory_gb=`, in bytes.
    pub memory_bytes: Option<u64>,
}

/// Whether ceilings may be measured where nothing else is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasurePolicy {
    /// Never; they stay unknown.
    Never,
    /// With short micro-benchmarks that together take about this long.
    Within(Duration),
}

/// Where a ceiling comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeakKind {
    /// The table of data sheets.
    Table,
    /// The user.
    Override,
    /// A micro-benchmark on this machine.
    Measured,
    /// Nowhere.
    Unknown,
}

impl PeakKind {
    /// The name in `metrics.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Override => "override",
            Self::Measured => "measured",
            Self::Unknown => "unknown",
        }
    }
}

/// A ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeakValue {
    /// The value in FLOP/s or B/s; null if unknown.
    pub value: Option<f64>,
    /// Where it comes from.
    pub kind: PeakKind,
    /// Citation, override name or method; for unknown: why, and how to set it.
    pub source: String,
}

/// The ceilings of one device for one arithmetic format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedHardware {
    /// Device name as the system reports it.
    pub device: String,
    /// `cpu` or `cuda:N`.
    pub device_id: String,
    /// UUID of the graphics processor.
    pub uuid: Option<String>,
    /// Engine threads; null on a graphics processor.
    pub threads: Option<u32>,
    /// Arithmetic format the FLOP/s ceiling is for.
    pub compute_dtype: Format,
    /// Dense FLOP/s.
    pub peak_flops_per_s: PeakValue,
    /// Memory bytes per second.
    pub peak_bytes_per_s: PeakValue,
    /// Memory of the device (of the machine or its control group, for the processor).
    pub memory_bytes: Option<u64>,
    /// Thermal design power from the table.
    pub tdp_w: Option<f64>,
    /// What was measured, whole; null if nothing was.
    pub measured: Option<ceilings::Ceilings>,
    /// What the reader should know about these figures.
    pub notes: Vec<String>,
}

/// What [`resolve`] needs to know.
#[derive(Debug, Clone)]
pub struct ResolveRequest<'a> {
    /// The machine, from [`super::identify::machine`].
    pub machine: &'a Machine,
    /// The device the run computes on.
    pub device: DeviceRef,
    /// What the user set.
    pub overrides: &'a PeakOverrides,
    /// Arithmetic format of the matrix products (the activations' format; `I8` where the engine multiplies integers).
    pub compute_dtype: Format,
    /// Engine threads (processor only).
    pub threads: u32,
    /// Whether to measure.
    pub measure: MeasurePolicy,
}

const SET_FLOPS: &str = "set `hardware.peak_tflops=` to have MFU";
const SET_BANDWIDTH: &str = "set `hardware.peak_bandwidth_gbs=` to have MBU";

fn unknown(reason: &str, how: &str) -> PeakValue {
    PeakValue { value: None, kind: PeakKind::Unknown, source: format!("{reason}; {how}") }
}

fn overridden(value: Option<f64>, key: &str) -> Option<PeakValue> {
    value.map(|value| PeakValue { value: Some(value), kind: PeakKind::Override, source: format!("set by `{key}`") })
}

/// The ceilings of the device of `request`. Measures only if the policy allows it, something is missing and the device is the
/// processor.
pub fn resolve(request: &ResolveRequest<'_>) -> ResolvedHardware {
    resolve_with(request, ceilings::measure)
}

/// [`resolve`] with the measuring function as an argument.
pub(crate) fn resolve_with(
    request: &ResolveRequest<'_>,
    measure: impl FnOnce(&ceilings::MeasureRequest) -> ceilings::Ceilings,
) -> ResolvedHardware {
    let overrides = request.overrides;
    let gpu = match request.device {
        DeviceRef::Cpu => None,
        DeviceRef::Cuda(ordinal) => request.machine.gpu.as_ref().and_then(|system| system.by_ordinal(ordinal)),
    };
    let reported = match request.device {
        DeviceRef::Cpu => Some(request.machine.cpu.model.clone()),
        DeviceRef::Cuda(_) => gpu.and_then(|gpu| gpu.name.clone()),
    };
    let reported_memory = match request.device {
        DeviceRef::Cpu => request.machine.memory.map(|memory| memory.usable_bytes()),
        DeviceRef::Cuda(_) => gpu.and_then(|gpu| gpu.memory_bytes),
    };
    let memory_bytes = overrides.memory_bytes.or(reported_memory);
    let mut resolved = ResolvedHardware {
        device: reported.clone().or_else(|| overrides.name.clone()).unwrap_or_else(|| "unknown".to_owned()),
        device_id: request.device.to_string(),
        uuid: gpu.and_then(|gpu| gpu.uuid.clone()),
        threads: (request.device == DeviceRef::Cpu).then_some(request.threads),
        compute_dtype: request.compute_dtype,
        peak_flops_per_s: unknown("peak FLOP/s unknown", SET_FLOPS),
        peak_bytes_per_s: unknown("peak memory bandwidth unknown", SET_BANDWIDTH),
        memory_bytes,
        tdp_w: None,
        measured: None,
        notes: Vec::new(),
    };

    // A processor's figure depends on how many of its cores run and how wide; a table by name could only be wrong.
    let table_name = match request.device {
        DeviceRef::Cpu => overrides.name.clone(),
        DeviceRef::Cuda(_) => overrides.name.clone().or_else(|| reported.clone()),
    };
    // A name the user chose need not be that of the part in this machine, so this machine's memory says nothing about it.
    let table_memory = if overrides.name.is_some() { overrides.memory_bytes } else { reported_memory };
    match table_name.as_deref().map(|name| (name, peaks::lookup(name, table_memory))) {
        Some((name, Lookup::Found(entry))) => {
            resolved.tdp_w = entry.tdp_w;
            resolved.notes.extend((!entry.note.is_empty()).then(|| entry.note.to_owned()));
            resolved.peak_flops_per_s = match entry.dense(request.compute_dtype) {
                Some(value) => PeakValue {
                    value: Some(value),
                    kind: PeakKind::Table,
                    source: format!("{}, dense {}: {}", entry.product, request.compute_dtype, entry.source),
                },
                None => {
                    unknown(&format!("the table has no dense {} figure for `{name}`", request.compute_dtype), SET_FLOPS)
                }
            };
            resolved.peak_bytes_per_s = PeakValue {
                value: Some(entry.bandwidth_bytes_per_s),
                kind: PeakKind::Table,
                source: format!("{}: {}", entry.product, entry.source),
            };
        }
        Some((name, Lookup::Ambiguous(candidates))) => {
            let reason =
                format!("`{name}` may be any of {}; set `hardware.name=` to one of them", candidates.join(", "));
            resolved.peak_flops_per_s = unknown(&reason, SET_FLOPS);
            resolved.peak_bytes_per_s = unknown(&reason, SET_BANDWIDTH);
        }
        Some((name, Lookup::Unknown)) => {
            let reason = format!("`{name}` is not in the table of peaks");
            resolved.peak_flops_per_s = unknown(&reason, SET_FLOPS);
            resolved.peak_bytes_per_s = unknown(&reason, SET_BANDWIDTH);
        }
        None if request.device != DeviceRef::Cpu => {
            let reason = match (&request.machine.gpu, &request.machine.gpu_reason) {
                (Some(system), _) => system
                    .ordinal_note
                    .clone()
                    .unwrap_or_else(|| format!("NVML shows no device that is `{}`", request.device)),
                (None, Some(reason)) => reason.clone(),
                (None, None) => "the device's name is unknown".to_owned(),
            };
            resolved.peak_flops_per_s = unknown(&reason, SET_FLOPS);
            resolved.peak_bytes_per_s = unknown(&reason, SET_BANDWIDTH);
        }
        None => {}
    }

    let missing_flops = resolved.peak_flops_per_s.value.is_none() && overrides.peak_flops_per_s.is_none();
    let missing_bandwidth = resolved.peak_bytes_per_s.value.is_none() && overrides.peak_bytes_per_s.is_none();
    if let MeasurePolicy::Within(budget) = request.measure
        && request.device == DeviceRef::Cpu
        && (missing_flops || missing_bandwidth)
    {
        let ceilings = measure(&ceilings::MeasureRequest {
            formats: if missing_flops { vec![request.compute_dtype] } else { Vec::new() },
            bandwidth: missing_bandwidth,
            threads: request.threads,
            budget,
            last_level_cache_bytes: request.machine.cpu.last_level_cache_bytes(),
            available_bytes: request.machine.memory.and_then(|memory| memory.available_bytes),
        });
        let measured = |measured: &ceilings::Measured| PeakValue {
            value: Some(measured.value),
            kind: PeakKind::Measured,
            source: measured.describe(),
        };
        if missing_flops && let Some(value) = ceilings.flops_per_s.get(request.compute_dtype.name()) {
            resolved.peak_flops_per_s = measured(value);
        }
        if missing_bandwidth && let Some(value) = &ceilings.read_bytes_per_s {
            resolved.peak_bytes_per_s = measured(value);
        }
        resolved.notes.extend(ceilings.notes.iter().cloned());
        if missing_flops && request.machine.cpu.isa.iter().any(|name| name.starts_with("amx_")) {
            resolved.notes.push(
                "the measured FLOP/s are those of the vector units; the AMX units of this processor can do more"
                    .to_owned(),
            );
        }
        resolved.measured = Some(ceilings);
    }

    if let Some(value) = overridden(overrides.peak_flops_per_s, "hardware.peak_tflops") {
        resolved.peak_flops_per_s = value;
    }
    if let Some(value) = overridden(overrides.peak_bytes_per_s, "hardware.peak_bandwidth_gbs") {
        resolved.peak_bytes_per_s = value;
    }
    resolved
}

impl ResolvedHardware {
    /// Takes what was measured on a graphics processor: kept beside the peaks, and in the place of those that are unknown.
    pub fn take_measured(&mut self, ceilings: ceilings::Ceilings) {
        let measured = |measured: &ceilings::Measured| PeakValue {
            value: Some(measured.value),
            kind: PeakKind::Measured,
            source: measured.describe(),
        };
        if self.peak_flops_per_s.value.is_none()
            && let Some(value) = ceilings.flops_per_s.get(self.compute_dtype.name())
        {
            self.peak_flops_per_s = measured(value);
        }
        if self.peak_bytes_per_s.value.is_none()
            && let Some(value) = &ceilings.copy_bytes_per_s
        {
            self.peak_bytes_per_s = measured(value);
        }
        self.measured = Some(ceilings);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hardware::ceilings::{Ceilings, MeasureRequest, Measured};
    use crate::hardware::identify::{CpuIdentity, GpuIdentity, GpuSystem};
    use crate::hardware::memory::SystemMemory;

    fn machine(gpu: Option<(&str, u64)>) -> Machine {
        Machine {
            cpu: CpuIdentity {
                model: "Test CPU".to_owned(),
                architecture: "x86_64".to_owned(),
                sockets: None,
                physical_cores: None,
                logical_cpus: None,
                logical_available: 2,
                physical_available: None,
                cgroup_quota_cpus: None,
                usable_cpus: 2.0,
                isa: vec!["avx2".to_owned(), "amx_tile".to_owned()],
                caches: Vec::new(),
                max_mhz: None,
                virtual_machine: true,
            },
            memory: Some(SystemMemory {
                total_bytes: 64 << 30,
                available_bytes: Some(32 << 30),
                cgroup_limit_bytes: None,
            }),
            memory_speed_mt_per_s: None,
            gpu_reason: gpu.is_none().then(|| "GPU metrics unavailable: no driver".to_owned()),
            gpu: gpu.map(|(name, memory)| GpuSystem {
                driver_version: None,
                nvml_version: None,
                cuda_driver_version: None,
                devices: vec![GpuIdentity {
                    nvml_index: 0,
                    cuda_ordinal: Some(0),
                    uuid: Some("GPU-7".to_owned()),
                    name: Some(name.to_owned()),
                    pci_bus_id: None,
                    memory_bytes: Some(memory),
                    compute_capability: None,
                    power_limit_w: None,
                    max_sm_mhz: None,
                    max_memory_mhz: None,
                    mig: None,
                    ecc: None,
                    compute_processes: None,
                }],
                ordinal_note: None,
            }),
        }
    }

    fn resolve_on(
        machine: &Machine,
        device: DeviceRef,
        overrides: &PeakOverrides,
        dtype: Format,
        measure: MeasurePolicy,
    ) -> ResolvedHardware {
        let request = ResolveRequest { machine, device, overrides, compute_dtype: dtype, threads: 2, measure };
        resolve_with(&request, |asked: &MeasureRequest| {
            assert_eq!(device, DeviceRef::Cpu, "only the processor is measured");
            assert_eq!((asked.threads, asked.available_bytes), (2, Some(32 << 30)));
            let measured = |value: f64| Measured { value, n: 5, spread: 0.1, method: "a test".to_owned() };
            Ceilings {
                flops_per_s: asked
                    .formats
                    .iter()
                    .map(|format| (format.name().to_owned(), measured(5e10)))
                    .collect::<BTreeMap<_, _>>(),
                read_bytes_per_s: asked.bandwidth.then(|| measured(2e10)),
                copy_bytes_per_s: asked.bandwidth.then(|| measured(1e10)),
                notes: Vec::new(),
            }
        })
    }

    const ALLOWED: MeasurePolicy = MeasurePolicy::Within(Duration::from_secs(1));

    #[test]
    fn a_known_device_takes_its_data_sheet() {
        let machine = machine(Some(("NVIDIA H200", 143_771 << 20)));
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &PeakOverrides::default(), Format::BF16, ALLOWED);
        assert_eq!(resolved.peak_flops_per_s.value, Some(989.4e12));
        assert_eq!(resolved.peak_bytes_per_s.value, Some(4.8e12));
        assert_eq!(resolved.peak_flops_per_s.kind, PeakKind::Table);
        assert!(resolved.peak_flops_per_s.source.contains("H200 datasheet"));
        assert_eq!(
            (resolved.device_id.as_str(), resolved.uuid.as_deref(), resolved.threads),
            ("cuda:0", Some("GPU-7"), None)
        );
    }

    #[test]
    fn an_unknown_device_has_no_peak_and_says_how_to_set_one() {
        let machine = machine(Some(("NVIDIA Frobnicator 9000", 8 << 30)));
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &PeakOverrides::default(), Format::BF16, ALLOWED);
        assert_eq!((resolved.peak_flops_per_s.value, resolved.peak_bytes_per_s.value), (None, None));
        assert_eq!(resolved.peak_flops_per_s.kind, PeakKind::Unknown);
        assert!(resolved.peak_flops_per_s.source.contains("`NVIDIA Frobnicator 9000`"));
        assert!(resolved.peak_flops_per_s.source.contains("hardware.peak_tflops="));
        assert!(resolved.peak_bytes_per_s.source.contains("hardware.peak_bandwidth_gbs="));
    }

    #[test]
    fn what_the_user_sets_wins_and_is_named_so() {
        let machine = machine(Some(("NVIDIA H200", 143_771 << 20)));
        let overrides = PeakOverrides { peak_flops_per_s: Some(5e14), ..PeakOverrides::default() };
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &overrides, Format::BF16, ALLOWED);
        assert_eq!((resolved.peak_flops_per_s.value, resolved.peak_flops_per_s.kind), (Some(5e14), PeakKind::Override));
        assert_eq!(resolved.peak_bytes_per_s.kind, PeakKind::Table);
    }

    #[test]
    fn a_format_without_a_figure_is_unknown_though_the_device_is_known() {
        let machine = machine(Some(("Tesla T4", 15_360 << 20)));
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &PeakOverrides::default(), Format::BF16, ALLOWED);
        assert_eq!(resolved.peak_flops_per_s.value, None);
        assert!(resolved.peak_flops_per_s.source.contains("bf16"));
        assert_eq!(resolved.peak_bytes_per_s.value, Some(320e9));
    }

    #[test]
    fn a_processor_is_measured_if_that_is_allowed() {
        let machine = machine(None);
        let resolved = resolve_on(&machine, DeviceRef::Cpu, &PeakOverrides::default(), Format::F32, ALLOWED);
        assert_eq!((resolved.peak_flops_per_s.value, resolved.peak_flops_per_s.kind), (Some(5e10), PeakKind::Measured));
        assert_eq!((resolved.peak_bytes_per_s.value, resolved.peak_bytes_per_s.kind), (Some(2e10), PeakKind::Measured));
        assert!(resolved.peak_flops_per_s.source.starts_with("measured: a test, n = 5"));
        assert!(resolved.notes.iter().any(|note| note.contains("AMX")));
        let resolved =
            resolve_on(&machine, DeviceRef::Cpu, &PeakOverrides::default(), Format::F32, MeasurePolicy::Never);
        assert_eq!((resolved.peak_flops_per_s.value, resolved.measured), (None, None));
        assert_eq!(
            (resolved.device.as_str(), resolved.threads, resolved.memory_bytes),
            ("Test CPU", Some(2), Some(64 << 30))
        );
    }

    #[test]
    fn only_what_is_missing_is_measured() {
        let machine = machine(None);
        let overrides = PeakOverrides { peak_bytes_per_s: Some(1e11), ..PeakOverrides::default() };
        let resolved = resolve_on(&machine, DeviceRef::Cpu, &overrides, Format::F32, ALLOWED);
        assert_eq!(resolved.peak_bytes_per_s.kind, PeakKind::Override);
        assert_eq!(resolved.measured.unwrap().read_bytes_per_s, None);
    }

    #[test]
    fn without_a_driver_the_reason_stands_in_the_place_of_the_peak() {
        let machine = machine(None);
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &PeakOverrides::default(), Format::BF16, ALLOWED);
        assert!(resolved.peak_flops_per_s.source.contains("no driver"));
        // A name helps even then, say for a trace from another machine, and this machine's memory is none of its business.
        let overrides = PeakOverrides { name: Some("NVIDIA H100 PCIe".to_owned()), ..PeakOverrides::default() };
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &overrides, Format::BF16, ALLOWED);
        assert_eq!((resolved.device.as_str(), resolved.peak_flops_per_s.value), ("NVIDIA H100 PCIe", Some(756e12)));
    }

    #[test]
    fn what_was_measured_on_a_gpu_fills_gaps_and_replaces_no_data_sheet() {
        let measured = |value: f64| Measured { value, n: 5, spread: 0.1, method: "a test".to_owned() };
        let ceilings = Ceilings {
            flops_per_s: BTreeMap::from([("bf16".to_owned(), measured(7e14))]),
            read_bytes_per_s: Some(measured(4.4e12)),
            copy_bytes_per_s: Some(measured(4.2e12)),
            notes: Vec::new(),
        };
        let resolve = |name| {
            let machine = machine(Some((name, 143_771 << 20)));
            resolve_on(&machine, DeviceRef::Cuda(0), &PeakOverrides::default(), Format::BF16, ALLOWED)
        };
        let mut known = resolve("NVIDIA H200");
        known.take_measured(ceilings.clone());
        assert_eq!((known.peak_flops_per_s.kind, known.peak_bytes_per_s.kind), (PeakKind::Table, PeakKind::Table));
        assert_eq!(known.measured.as_ref(), Some(&ceilings));
        let mut unknown = resolve("NVIDIA Frobnicator 9000");
        unknown.take_measured(ceilings);
        assert_eq!((unknown.peak_flops_per_s.value, unknown.peak_bytes_per_s.value), (Some(7e14), Some(4.2e12)));
        assert_eq!(unknown.peak_bytes_per_s.kind, PeakKind::Measured);
    }

    #[test]
    fn part_of_a_name_lists_what_it_may_be() {
        let machine = machine(None);
        let overrides = PeakOverrides { name: Some("A100".to_owned()), ..PeakOverrides::default() };
        let resolved = resolve_on(&machine, DeviceRef::Cuda(0), &overrides, Format::BF16, ALLOWED);
        assert_eq!(resolved.peak_flops_per_s.value, None);
        assert!(resolved.peak_flops_per_s.source.contains("NVIDIA A100 PCIe 40GB"));
    }
}
