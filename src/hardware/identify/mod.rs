//! What the machine is: processor, memory and graphics processors.
//!
//! This module names things and counts them; how fast they are is for [`super::peaks`] and [`super::ceilings`].

mod cpu;
mod gpu;

pub use cpu::{Cache, CpuIdentity, cpu, usable_cpus};
pub(crate) use gpu::nvml_reason;
pub use gpu::{CudaOrdinals, GpuIdentity, GpuSystem, cuda_ordinals, gpus};

use serde::{Deserialize, Serialize};

use super::memory::{self, SystemMemory};

/// What the machine is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor.
    pub cpu: CpuIdentity,
    /// Main memory; null if the system does not tell.
    pub memory: Option<SystemMemory>,
    /// Transfer rate of the memory modules in MT/s (SMBIOS type 17, readable by root on most machines); null if unreadable.
    pub memory_speed_mt_per_s: Option<u32>,
    /// NVIDIA graphics processors through NVML; null when NVML cannot be used, and then `gpu_reason` says why.
    pub gpu: Option<GpuSystem>,
    /// Why `gpu` is null.
    pub gpu_reason: Option<String>,
}

/// Looks at the machine. Nothing missing is an error: it is null in the answer.
pub fn machine() -> Machine {
    let (gpu, gpu_reason) = match gpus() {
        Ok(system) => (Some(system), None),
        Err(reason) => (None, Some(reason)),
    };
    Machine {
        cpu: cpu(),
        memory: memory::system(),
        memory_speed_mt_per_s: memory_speed(std::path::Path::new("/sys/firmware/dmi/tables/DMI")),
        gpu,
        gpu_reason,
    }
}

/// The configured speed of the populated memory modules, where all have the same.
fn memory_speed(table: &std::path::Path) -> Option<u32> {
    parse_memory_speed(&std::fs::read(table).ok()?)
}

/// Walks the SMBIOS structure table (DMTF DSP0134 3.x, chapter 6 and section 7.18 "Memory Device").
fn parse_memory_speed(table: &[u8]) -> Option<u32> {
    const MEMORY_DEVICE: u8 = 17;
    let word = |structure: &[u8], offset: usize| {
        structure.get(offset..offset + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    let mut speeds = Vec::new();
    let mut rest = table;
    while rest.len() >= 4 {
        let length = usize::from(rest[1]);
        if length < 4 || rest.len() < length {
            break;
        }
        let structure = &rest[..length];
        if structure[0] == MEMORY_DEVICE {
            // Size 0 is an empty socket; configured speed (offset 0x20) is what it runs at, speed (0x15) what it could.
            let populated = word(structure, 0x0C).is_some_and(|size| size != 0);
            let speed = word(structure, 0x20).filter(|speed| *speed != 0).or_else(|| word(structure, 0x15));
            if let Some(speed) = speed.filter(|speed| populated && *speed != 0 && *speed != u16::MAX) {
                speeds.push(u32::from(speed));
            }
        }
        // The strings behind a structure end with two zero bytes.
        let Some(end) = rest[length..].windows(2).position(|pair| pair == [0, 0]) else { break };
        rest = &rest[length + end + 2..];
    }
    speeds.sort_unstable();
    speeds.dedup();
    (speeds.len() == 1).then(|| speeds[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_device(size: u16, speed: u16, configured: u16) -> Vec<u8> {
        let mut structure = vec![0u8; 0x28];
        structure[0] = 17;
        structure[1] = 0x28;
        structure[0x0C..0x0E].copy_from_slice(&size.to_le_bytes());
        structure[0x15..0x17].copy_from_slice(&speed.to_le_bytes());
        structure[0x20..0x22].copy_from_slice(&configured.to_le_bytes());
        structure.extend_from_slice(b"DIMM A1\0\0");
        structure
    }

    #[test]
    fn memory_runs_at_its_configured_speed() {
        let mut table = vec![0u8, 6, 0, 0, 0, 0, b'x', 0, 0];
        table.extend(memory_device(16384, 5600, 4800));
        table.extend(memory_device(0, 0, 0));
        table.extend(memory_device(16384, 5600, 4800));
        assert_eq!(parse_memory_speed(&table), Some(4800));
        table.extend(memory_device(16384, 5600, 4400));
        assert_eq!(parse_memory_speed(&table), None, "unequal modules have no one speed");
        assert_eq!(parse_memory_speed(&table[..20]), None);
        assert_eq!(parse_memory_speed(&[17, 0, 0, 0]), None);
    }

    #[test]
    fn this_machine_has_a_processor() {
        let machine = machine();
        assert!(machine.cpu.usable_cpus > 0.0);
        assert!(machine.cpu.logical_available >= 1);
        assert!(machine.gpu.is_some() != machine.gpu_reason.is_some());
    }
}
