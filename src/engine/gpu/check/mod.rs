//! Every kernel against a reference in f64, written from the definition of what it computes.
//!
//! Inputs come fresh from a seed and are rounded to what the kernel is given; outputs hold NaN before the launch and have a margin behind them
//! that must stay as it was. What a value may be off by is the sum of the roundings that the kernel has to make, derived where each kernel
//! is checked: `u` is the unit roundoff of the 16-bit type (2⁻¹¹ for f16, 2⁻⁸ for bf16), `e` that of f32 (2⁻²⁴). Roundings inside of a sum
//! are independent of each other; four standard deviations of theirs are allowed, as the sum of the squares of their bounds has it.

mod attention;
mod comparison;
mod device;
mod gemv;
mod memory;
mod norms;
mod quantized;
mod rows;
mod sampling;

use serde::Serialize;

use super::backend::{GpuBackend, GpuResult, HalfType};
use comparison::Comparison;
use device::Device;

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckResult {
    /// Function of the kernel.
    pub kernel: &'static str,
    /// Sizes and options.
    pub case: String,
    /// Error of the value that comes closest to its tolerance, or goes furthest beyond; NaN where nothing was computed, or NaN was.
    pub max_error: f64,
    /// What that value may be off by.
    pub tolerance: f64,
    /// Its index, over all outputs of the kernel one after the other.
    pub worst_index: usize,
    /// Whether every value is within its tolerance.
    pub ok: bool,
    /// What the device refused or a kernel did wrong besides values; null if nothing.
    pub error: Option<String>,
}

/// How large the cases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Shapes of real models.
    Full,
    /// Every path of the code in sizes that an emulator can run.
    Small,
}

/// Collects the results of cases.
struct Checks<'a> {
    backend: &'a dyn GpuBackend,
    half: HalfType,
    seed: u64,
    filter: Option<&'a str>,
    scale: Scale,
    progress: &'a mut dyn FnMut(&CheckResult),
    results: Vec<CheckResult>,
}

impl Checks<'_> {
    /// Runs a case unless it is filtered out. Its inputs depend on the seed and its name alone.
    fn case(&mut self, kernel: &'static str, case: String, run: impl FnOnce(&mut Device<'_>) -> GpuResult<Comparison>) {
        let wanted = |filter: &str| kernel.contains(filter) || case.contains(filter);
        if self.filter.is_some_and(|filter| !wanted(filter)) {
            return;
        }
        // FNV-1a of the name.
        let mut seed = self.seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in kernel.bytes().chain(case.bytes()) {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        let mut device = Device::new(self.backend, self.half, seed);
        let result = match run(&mut device) {
            Ok(comparison) => comparison.into_result(kernel, case),
            Err(error) => CheckResult {
                kernel,
                case,
                max_error: f64::NAN,
                tolerance: 0.0,
                worst_index: 0,
                ok: false,
                error: Some(error.to_string()),
            },
        };
        (self.progress)(&result);
        self.results.push(result);
    }

    /// `small` in reduced sizes, else `full`.
    fn pick<T>(&self, full: Vec<T>, small: Vec<T>) -> Vec<T> {
        match self.scale {
            Scale::Full => full,
            Scale::Small => small,
        }
    }
}

/// Runs all cases whose kernel or name contains `filter`, with inputs made from `seed`, and tells `progress` of each.
pub fn run(
    backend: &dyn GpuBackend,
    half: HalfType,
    seed: u64,
    filter: Option<&str>,
    scale: Scale,
    progress: &mut dyn FnMut(&CheckResult),
) -> Vec<CheckResult> {
    let mut checks = Checks { backend, half, seed, filter, scale, progress, results: Vec::new() };
    memory::run(&mut checks);
    rows::run(&mut checks);
    norms::run(&mut checks);
    quantized::run(&mut checks);
    gemv::run(&mut checks);
    attention::run(&mut checks);
    sampling::run(&mut checks);
    checks.results
}
