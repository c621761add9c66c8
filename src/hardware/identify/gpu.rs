//! NVIDIA graphics processors as NVML reports them, tied to the ordinals a CUDA program in this environment would use.

use nvml_wrapper::Nvml;
use serde::{Deserialize, Serialize};

/// One graphics processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuIdentity {
    /// NVML's index (PCI bus order).
    pub nvml_index: u32,
    /// The ordinal (`cuda:N`) under the `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` of this process; null if it is hidden or
    /// the order cannot be known without asking CUDA.
    pub cuda_ordinal: Option<u32>,
    /// `GPU-…`, the name that stays the same whatever the order.
    pub uuid: Option<String>,
    /// Name as the driver reports it.
    pub name: Option<String>,
    /// PCI bus id.
    pub pci_bus_id: Option<String>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// CUDA compute capability.
    pub compute_capability: Option<(u8, u8)>,
    /// Power limit in force, in watts.
    pub power_limit_w: Option<f64>,
    /// Highest SM clock in MHz.
    pub max_sm_mhz: Option<u32>,
    /// Highest memory clock in MHz.
    pub max_memory_mhz: Option<u32>,
    /// Whether MIG is on; null where the part has no MIG.
    pub mig: Option<bool>,
    /// Whether ECC is on; null where the part has no ECC.
    pub ecc: Option<bool>,
    /// Processes that have a context on it now; null if the driver does not tell.
    pub compute_processes: Option<u32>,
}

/// The NVIDIA driver and its devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuSystem {
    /// Driver version.
    pub driver_version: Option<String>,
    /// NVML version.
    pub nvml_version: Option<String>,
    /// Highest CUDA version the driver supports, e.g. `12.8`.
    pub cuda_driver_version: Option<String>,
    /// Devices in NVML's order.
    pub devices: Vec<GpuIdentity>,
    /// Why an ordinal is not known; null when all are.
    pub ordinal_note: Option<String>,
}

impl GpuSystem {
    /// The device a CUDA program calls `cuda:ordinal`.
    pub fn by_ordinal(&self, ordinal: u32) -> Option<&GpuIdentity> {
        self.devices.iter().find(|device| device.cuda_ordinal == Some(ordinal))
    }
}

/// The graphics processors of this machine.
///
/// # Errors
/// Why NVML cannot be used, in words; the caller goes on without it.
pub fn gpus() -> Result<GpuSystem, String> {
    let nvml = Nvml::init().map_err(|error| nvml_reason(&error))?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let order = std::env::var("CUDA_DEVICE_ORDER").ok();
    from_nvml(&nvml, visible.as_deref(), order.as_deref())
}

/// NVML's errors in words that say what to do.
pub(crate) fn nvml_reason(error: &nvml_wrapper::error::NvmlError) -> String {
    use nvml_wrapper::error::NvmlError;
    match error {
        NvmlError::LibloadingError(_) => {
            "GPU metrics unavailable: libnvidia-ml.so.1 is not on this machine (no NVIDIA driver, or a container without it)".to_owned()
        }
        NvmlError::DriverNotLoaded => {
            "GPU metrics unavailable: the NVIDIA kernel driver is not loaded (check `nvidia-smi`, then `modprobe nvidia`)".to_owned()
        }
        NvmlError::LibRmVersionMismatch => {
            "GPU metrics unavailable: NVML and the kernel driver have different versions (reboot after a driver update)".to_owned()
        }
        NvmlError::NoPermission => {
            "GPU metrics unavailable: no permission to use NVML (is /dev/nvidiactl readable?)".to_owned()
        }
        other => format!("GPU metrics unavailable: {other}"),
    }
}

fn from_nvml(nvml: &Nvml, visible: Option<&str>, order: Option<&str>) -> Result<GpuSystem, String> {
    let count = nvml.device_count().map_err(|error| nvml_reason(&error))?;
    let mut devices = Vec::new();
    for index in 0..count {
        let Ok(device) = nvml.device_by_index(index) else { continue };
        devices.push(GpuIdentity {
            nvml_index: index,
            cuda_ordinal: None,
            uuid: device.uuid().ok(),
            name: device.name().ok(),
            pci_bus_id: device.pci_info().ok().map(|pci| pci.bus_id),
            memory_bytes: device.memory_info().ok().map(|memory| memory.total),
            compute_capability: device
                .cuda_compute_capability()
                .ok()
                .and_then(|version| Some((u8::try_from(version.major).ok()?, u8::try_from(version.minor).ok()?))),
            power_limit_w: device.enforced_power_limit().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
            max_sm_mhz: device.max_clock_info(nvml_wrapper::enum_wrappers::device::Clock::SM).ok(),
            max_memory_mhz: device.max_clock_info(nvml_wrapper::enum_wrappers::device::Clock::Memory).ok(),
            mig: device.mig_mode().ok().map(|mode| mode.current == 1),
            ecc: device.is_ecc_enabled().ok().map(|state| state.currently_enabled),
            compute_processes: device.running_compute_processes().ok().map(|list| list.len() as u32),
        });
    }
    let ordinals = cuda_ordinals(&devices, visible, order);
    for (device, ordinal) in devices.iter_mut().zip(&ordinals.by_device) {
        device.cuda_ordinal = *ordinal;
    }
    let cuda = nvml.sys_cuda_driver_version().ok();
    Ok(GpuSystem {
        driver_version: nvml.sys_driver_version().ok(),
        nvml_version: nvml.sys_nvml_version().ok(),
        cuda_driver_version: cuda.map(|version| {
            format!(
                "{}.{}",
                nvml_wrapper::cuda_driver_version_major(version),
                nvml_wrapper::cuda_driver_version_minor(version)
            )
        }),
        devices,
        ordinal_note: ordinals.note,
    })
}

/// Which device is `cuda:N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaOrdinals {
    /// The ordinal of each device of the argument, `None` where hidden or unknown.
    pub by_device: Vec<Option<u32>>,
    /// What stands in the way of knowing, in words.
    pub note: Option<String>,
}

/// Ties devices (in NVML's order, which is PCI order) to CUDA ordinals, by the rules of the CUDA C++ Programming Guide, section
/// "CUDA Environment Variables".
///
/// CUDA's default order is `FASTEST_FIRST`, by a measure that is not published: with unlike devices and no
/// `CUDA_DEVICE_ORDER=PCI_BUS_ID`, plain indices cannot be tied to devices. UUIDs always can.
pub fn cuda_ordinals(devices: &[GpuIdentity], visible: Option<&str>, order: Option<&str>) -> CudaOrdinals {
    let mut by_device = vec![None; devices.len()];
    let alike = devices.windows(2).all(|pair| pair[0].name.is_some() && pair[0].name == pair[1].name);
    let pci_order = order == Some("PCI_BUS_ID") || alike;
    let unknown_order = || {
        Some(
            "the devices differ and CUDA orders them fastest first by a measure of its own; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name \
             devices by UUID in CUDA_VISIBLE_DEVICES"
                .to_owned(),
        )
    };
    let Some(visible) = visible else {
        if pci_order {
            for (index, slot) in by_device.iter_mut().enumerate() {
                *slot = Some(index as u32);
            }
            return CudaOrdinals { by_device, note: None };
        }
        return CudaOrdinals { by_device, note: unknown_order() };
    };
    let mut note = None;
    for (next, entry) in (0u32..).zip(visible.split(',').map(str::trim)) {
        // The list ends at the first entry that names no device: only what stands before it is visible.
        let position = if entry.starts_with("GPU-") {
            let mut matches = devices
                .iter()
                .enumerate()
                .filter(|(_, device)| device.uuid.as_deref().is_some_and(|uuid| uuid.starts_with(entry)));
            match (matches.next(), matches.next()) {
                (Some((position, _)), None) => Some(position),
                // A prefix must be long enough to name one device.
                _ => None,
            }
        } else if entry.starts_with("MIG-") {
            note = Some(format!("`{entry}` names a MIG instance, which has no device of its own in this list"));
            None
        } else {
            entry.parse::<usize>().ok().filter(|index| *index < devices.len())
        };
        let Some(position) = position else {
            if note.is_none() && !entry.is_empty() && entry != "-1" && entry != "NoDevFiles" {
                note = Some(format!("CUDA_VISIBLE_DEVICES ends at `{entry}`, which names no device"));
            }
            break;
        };
        let by_index = !entry.starts_with("GPU-");
        if by_index && !pci_order {
            note = unknown_order();
        } else if by_device[position].is_some() {
            // A device named twice makes CUDA see none at all.
            return CudaOrdinals {
                by_device: vec![None; devices.len()],
                note: Some(format!("CUDA_VISIBLE_DEVICES names `{entry}` twice, so CUDA sees no device")),
            };
        } else {
            by_device[position] = Some(next);
        }
    }
    CudaOrdinals { by_device, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str, uuid: &str) -> GpuIdentity {
        GpuIdentity {
            nvml_index: index,
            cuda_ordinal: None,
            uuid: Some(uuid.to_owned()),
            name: Some(name.to_owned()),
            pci_bus_id: None,
            memory_bytes: None,
            compute_capability: None,
            power_limit_w: None,
            max_sm_mhz: None,
            max_memory_mhz: None,
            mig: None,
            ecc: None,
            compute_processes: None,
        }
    }

    fn alike() -> Vec<GpuIdentity> {
        ["GPU-aa11", "GPU-ab22", "GPU-cc33"]
            .iter()
            .enumerate()
            .map(|(i, uuid)| device(i as u32, "H100", uuid))
            .collect()
    }

    fn unlike() -> Vec<GpuIdentity> {
        vec![device(0, "T4", "GPU-aa11"), device(1, "H100", "GPU-bb22")]
    }

    #[test]
    fn without_the_variable_equal_devices_keep_their_order() {
        assert_eq!(cuda_ordinals(&alike(), None, None).by_device, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_list_renumbers_and_hides() {
        assert_eq!(cuda_ordinals(&alike(), Some("2,0"), None).by_device, [Some(1), None, Some(0)]);
        assert_eq!(cuda_ordinals(&alike(), Some(""), None).by_device, [None, None, None]);
        assert_eq!(cuda_ordinals(&alike(), Some("-1"), None).by_device, [None, None, None]);
    }

    #[test]
    fn the_list_ends_at_the_first_bad_entry() {
        let ordinals = cuda_ordinals(&alike(), Some("1,7,0"), None);
        assert_eq!(ordinals.by_device, [None, Some(0), None]);
        assert!(ordinals.note.unwrap().contains("`7`"));
    }

    #[test]
    fn a_uuid_names_its_device_in_any_order() {
        assert_eq!(cuda_ordinals(&unlike(), Some("GPU-bb22,GPU-aa11"), None).by_device, [Some(1), Some(0)]);
        // An ambiguous prefix names nothing.
        assert_eq!(cuda_ordinals(&alike(), Some("GPU-a"), None).by_device, [None, None, None]);
        assert_eq!(cuda_ordinals(&alike(), Some("GPU-ab"), None).by_device, [None, Some(0), None]);
    }

    #[test]
    fn unlike_devices_have_no_known_order_until_it_is_set() {
        let ordinals = cuda_ordinals(&unlike(), None, None);
        assert_eq!(ordinals.by_device, [None, None]);
        assert!(ordinals.note.unwrap().contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"));
        assert_eq!(cuda_ordinals(&unlike(), None, Some("PCI_BUS_ID")).by_device, [Some(0), Some(1)]);
        assert_eq!(cuda_ordinals(&unlike(), Some("0"), None).by_device, [None, None]);
    }

    #[test]
    fn a_device_named_twice_hides_all() {
        let ordinals = cuda_ordinals(&alike(), Some("0,0"), None);
        assert_eq!(ordinals.by_device, [None, None, None]);
        assert!(ordinals.note.unwrap().contains("twice"));
    }
}
