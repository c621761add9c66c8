//! The graphics processor of this machine during a load test.

use std::time::Duration;

use crate::hardware::identify::gpus;
use crate::hardware::nvml::{GpuSampler, GpuSeries};
use crate::net::clock::now_ns;
use crate::record::gpu::{GPU_SCHEMA_VERSION, GpuColumns, GpuRepeat, GpuTelemetry, SlowColumns};
use crate::record::load::context::StageRecord;

/// Looks at the first GPU until it is told to stop.
pub struct GpuWatch {
    sampler: GpuSampler,
    file: GpuTelemetry,
    /// The sampler's clock plus this is the run's, in seconds.
    offset_s: f64,
}

impl GpuWatch {
    /// Starts, if there is a GPU whose driver tells anything. `origin_ns` is the begin of the run's clock.
    pub fn start(run_id: &str, interval: Duration, origin_ns: u64) -> Option<Self> {
        let system = gpus().ok()?;
        let device = system.by_ordinal(0).or_else(|| system.devices.first())?.clone();
        let sampler =
            GpuSampler::start_nvml(&device, interval).inspect_err(|reason| tracing::warn!("{reason}")).ok()?;
        let offset_s = now_ns().saturating_sub(origin_ns) as f64 / 1e9 - sampler.now_s();
        let file = GpuTelemetry {
            schema_version: GPU_SCHEMA_VERSION,
            run_id: run_id.to_owned(),
            complete: false,
            driver_version: system.driver_version.clone(),
            device,
            interval_s: sampler.interval().as_secs_f64(),
            before: None,
            repeats: Vec::new(),
            gaps: Vec::new(),
            samples: GpuColumns::default(),
            slow_samples: SlowColumns::default(),
        };
        Some(Self { sampler, file, offset_s })
    }

    /// Stops, and gives what was seen on the run's clock, with the time of each stage.
    pub fn finish(self, stages: &[StageRecord]) -> GpuTelemetry {
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
