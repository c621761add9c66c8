//! `perfprof kernels`: the CUDA kernels on the device at hand, checked against references and timed.

use std::io::Write as _;

use serde::Serialize;

use super::Context;
use crate::diagnostics::{ExitStatus, Failure};
use crate::engine::device;
use crate::engine::gpu::backend::{GpuError, HalfType, SharedBackend};
use crate::engine::gpu::bench::{self, BenchResult};
use crate::engine::gpu::ceilings::{self, Sizes};
use crate::engine::gpu::check::{self, CheckResult, Scale};
use crate::hardware::ceilings::Ceilings;
use crate::units::{Bandwidth, FlopsPerSecond};

/// What is done with the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelsAction {
    /// Run each against its reference.
    Check,
    /// Time each.
    Bench,
}

/// Options of `perfprof kernels`.
#[derive(Debug, Clone)]
pub struct KernelsOptions {
    /// What to do.
    pub action: KernelsAction,
    /// CUDA ordinal of the device.
    pub device: usize,
    /// Type of activations and of weights that are not quantized.
    pub half: HalfType,
    /// Only kernels and cases whose name contains this.
    pub filter: Option<String>,
    /// Check in reduced sizes.
    pub small: bool,
    /// Seed of the inputs; `None` takes one from the clock.
    pub seed: Option<u64>,
}

/// Runs `perfprof kernels`.
pub fn run(options: &KernelsOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let backend = device::backend(options.device)
        .map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()).hint(error.hint()))?;
    match options.action {
        KernelsAction::Check => check(options, context, &backend),
        KernelsAction::Bench => bench(options, context, &backend),
    }
}

fn failure(error: &GpuError) -> Failure {
    Failure::new(ExitStatus::CouldNotStart, error.what.clone()).because(error.reason.clone())
}

/// The answer of `kernels check --json`.
#[derive(Serialize)]
struct Checked<'a> {
    device: &'a str,
    dtype: &'static str,
    seed: u64,
    passed: usize,
    failed: usize,
    results: &'a [CheckResult],
}

fn check(options: &KernelsOptions, context: &Context, backend: &SharedBackend) -> anyhow::Result<ExitStatus> {
    // Fresh inputs in every run: a kernel must not be right for one seed only. The seed is printed, so that a failure can be had again.
    let seed = options.seed.unwrap_or_else(|| jiff::Timestamp::now().as_nanosecond() as u64 & 0xffff_ffff);
    let mut progress = |result: &CheckResult| {
        if !context.json {
            let verdict = if result.ok { "ok  " } else { "FAIL" };
            let _ = writeln!(
                anstream::stdout(),
                "{verdict} {:<20} {:<56} error {:.2e}, allowed {:.2e}",
                result.kernel,
                result.case,
                result.max_error,
                result.tolerance
            );
        }
    };
    let scale = if options.small { Scale::Small } else { Scale::Full };
    let results = check::run(&**backend, options.half, seed, options.filter.as_deref(), scale, &mut progress);
    let failed = results.iter().filter(|result| !result.ok).count();
    let answer = Checked {
        device: &backend.facts().name,
        dtype: options.half.name(),
        seed,
        passed: results.len() - failed,
        failed,
        results: &results,
    };
    let text = if context.json {
        serde_json::to_string_pretty(&answer)? + "\n"
    } else {
        format!(
            "\n{} of {} cases passed on {} in {}, seed {seed}\n",
            answer.passed,
            results.len(),
            answer.device,
            answer.dtype
        )
    };
    super::print_answer(&text)?;
    if results.is_empty() {
        return Err(Failure::new(ExitStatus::Usage, "no kernel and no case has that in its name").into());
    }
    Ok(if failed == 0 { ExitStatus::Success } else { ExitStatus::Invalid })
}

/// The answer of `kernels bench --json`.
#[derive(Serialize)]
struct Benched<'a> {
    device: &'a str,
    dtype: &'static str,
    ceilings: &'a Ceilings,
    results: &'a [BenchResult],
}

fn bench(options: &KernelsOptions, context: &Context, backend: &SharedBackend) -> anyhow::Result<ExitStatus> {
    let ceilings = ceilings::measure(&**backend, options.half, Sizes::default()).map_err(|error| failure(&error))?;
    let copy = ceilings.copy_bytes_per_s.as_ref().map(|measured| measured.value);
    if !context.json {
        for (name, measured) in [("copy", &ceilings.copy_bytes_per_s), ("read", &ceilings.read_bytes_per_s)] {
            if let Some(measured) = measured {
                let text = format!("memory {name}: {} ({})\n", Bandwidth(measured.value), measured.describe());
                super::print_answer(&text)?;
            }
        }
        for (format, measured) in &ceilings.flops_per_s {
            let text = format!("product in {format}: {} ({})\n\n", FlopsPerSecond(measured.value), measured.describe());
            super::print_answer(&text)?;
        }
    }
    let mut progress = |result: &BenchResult| {
        if !context.json {
            let share =
                copy.map_or_else(String::new, |copy| format!(", {:.0} % of copy", 100.0 * result.bytes_per_s / copy));
            let _ = writeln!(
                anstream::stdout(),
                "{:<18} {:<44} {:>9.2} us  {}{share}, {}",
                result.kernel,
                result.case,
                result.median_us,
                Bandwidth(result.bytes_per_s),
                FlopsPerSecond(result.flops_per_s)
            );
        }
    };
    let results = bench::run(&**backend, options.half, options.filter.as_deref(), &mut progress)
        .map_err(|error| failure(&error))?;
    if context.json {
        let answer = Benched {
            device: &backend.facts().name,
            dtype: options.half.name(),
            ceilings: &ceilings,
            results: &results,
        };
        super::print_answer(&(serde_json::to_string_pretty(&answer)? + "\n"))?;
    }
    if results.is_empty() {
        return Err(Failure::new(ExitStatus::Usage, "no kernel and no case has that in its name").into());
    }
    Ok(ExitStatus::Success)
}
