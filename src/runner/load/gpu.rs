//! The graphics processors of this machine during a load test.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::hardware::identify::{GpuIdentity, gpus};
use crate::hardware::nvml::{GpuSampler, GpuSeries};
use crate::net::clock::now_ns;
use crate::record::gpu::{GPU_SCHEMA_VERSION, GpuColumns, GpuRepeat, GpuTelemetry, SlowColumns};
use crate::record::load::context::StageRecord;

/// Looks at the GPUs until it is told to stop.
pub struct GpuWatch {
    devices: Vec<Watched>,
    /// Why there are none.
    why_none: Option<String>,
}

struct Watched {
    sampler: GpuSampler,
    file: GpuTelemetry,
    /// The sampler's clock plus this is the run's, in seconds.
    offset_s: f64,
}

/// Whether `address` is of this machine: only then do its GPUs say anything of the server.
///
/// A socket can be bound to no address but those of the machine; nothing is sent.
pub fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

impl GpuWatch {
    /// Starts on every GPU that `CUDA_VISIBLE_DEVICES` leaves in sight (on all, if it cannot be known which those are) and whose driver tells
    /// anything. `origin_ns` is the begin of the run's clock.
    pub fn start(run_id: &str, interval: Duration, origin_ns: u64) -> Self {
        let system = match gpus() {
            Ok(system) => system,
            Err(reason) => return Self::none(reason.clone()),
        };
        let seen = |device: &&GpuIdentity| device.cuda_ordinal.is_some();
        let known = system.devices.iter().any(|device| seen(&device));
        let devices = system.devices.iter().filter(|device| !known || seen(device));
        let watch = |device: &GpuIdentity| -> Result<Watched, String> {
            let sampler = GpuSampler::start_nvml(device, interval)?;
            let offset_s = now_ns().saturating_sub(origin_ns) as f64 / 1e9 - sampler.now_s();
            let file = GpuTelemetry {
                schema_version: GPU_SCHEMA_VERSION,
                run_id: run_id.to_owned(),
                complete: false,
                driver_version: system.driver_version.clone(),
                device: device.clone(),
                interval_s: sampler.interval().as_secs_f64(),
                before: None,
                repeats: Vec::new(),
                gaps: Vec::new(),
                samples: GpuColumns::default(),
                slow_samples: SlowColumns::default(),
            };
            Ok(Watched { sampler, file, offset_s })
        };
        let mut watched = Self::none("the driver knows no device that is in sight".to_owned());
        for device in devices {
            match watch(device) {
                Ok(device) => watched.devices.push(device),
                Err(reason) => watched.why_none = Some(reason),
            }
        }
        watched
    }

    /// Looks at nothing, and why.
    pub fn none(why: String) -> Self {
        Self { devices: Vec::new(), why_none: Some(why) }
    }

    /// Why no device is looked at; `None` if one is.
    pub fn why_none(&self) -> Option<&str> {
        self.why_none.as_deref().filter(|_| self.devices.is_empty())
    }

    /// Stops, and gives what was seen of each device on the run's clock, with the time of each stage.
    pub fn finish(self, stages: &[StageRecord]) -> Vec<GpuTelemetry> {
        self.devices.into_iter().map(|device| device.finish(stages)).collect()
    }
}

impl Watched {
    fn finish(self, stages: &[StageRecord]) -> GpuTelemetry {
        let GpuSeries { samples, slow, gaps } = self.sampler.finish();
        let mut file = GpuTelemetry {
            complete: true,
            samples: GpuColumns::of(&samples),
            slow_samples: SlowColumns::of(&slow),
            gaps,
            ..self.file
        };
        for at in file.samples.t_s.iter_mut().chain(&mut file.slow_samples.t_s) {
            *at += self.offset_s;
        }
        for gap in &mut file.gaps {
            gap.from_s += self.offset_s;
            gap.to_s += self.offset_s;
        }
        let seconds = |ns: u64| ns as f64 / 1e9;
        file.repeats = stages
            .iter()
            .enumerate()
            .map(|(index, stage)| GpuRepeat {
                row: index as u32,
                start_s: seconds(stage.begin_ns),
                end_s: seconds(stage.end_ns),
                // The looks go on by themselves; none was made at the begin or end of a stage.
                looked: false,
            })
            .collect();
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_told_from_others() {
        let here = |text: &str| is_here(text.parse().unwrap());
        assert!(here("127.0.0.1") && here("127.8.9.10") && here("::1"));
        // Of documentation (RFC 5737, RFC 3849): no machine has them.
        assert!(!here("192.0.2.7") && !here("203.0.113.9") && !here("2001:db8::7"));
    }
}
