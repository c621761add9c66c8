//! Ranked findings: what costs time in this trace, what speaks for it, the most it can give, and how to check.
//!
//! Every finding is made from numbers of this trace; one whose numbers stay below its limit is not made. A gain is never more than the idle time,
//! the kernel time or the simulated gain it comes from, so never more than the window. Gains of different findings overlap and do not add up.

mod data;
mod device;
mod kernels;

use serde::{Deserialize, Serialize};

use super::class_roofline::ModelledWork;
use super::coverage::Coverage;
use super::critical_path::CriticalPath;
use super::idle::DeviceIdle;
use super::kernel_summary::KernelSummary;
use super::launch::LaunchAnalysis;
use super::overlap::OverlapAnalysis;
use super::steps::Steps;
use super::transfers::TransferAnalysis;
use crate::diagnostics::Severity;

/// Something the trace shows that costs time, with what it rests on and what it can give at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable snake_case code, e.g. `launch_bound`.
    pub code: String,
    /// One plain sentence.
    pub title: String,
    /// How much it matters.
    pub severity: Severity,
    /// The numbers it rests on, each with its unit and where it stands.
    pub evidence: Vec<String>,
    /// Least time of the window that removing it gives, ns; null where nothing bounds it from below.
    pub gain_low_ns: Option<i64>,
    /// Most time of the window that removing it can give, ns; null where nothing bounds it.
    pub gain_high_ns: Option<i64>,
    /// How a person checks it or tries the change.
    pub how_to_check: String,
}

/// The results findings are made from.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// What the trace can say.
    pub coverage: &'a Coverage,
    /// Idle time by device.
    pub idle: &'a [DeviceIdle],
    /// Launching.
    pub launch: &'a LaunchAnalysis,
    /// Overlap.
    pub overlap: &'a OverlapAnalysis,
    /// Copies and allocations.
    pub transfers: &'a TransferAnalysis,
    /// Critical path; `None` where it was refused.
    pub critical_path: Option<&'a CriticalPath>,
    /// Phases and steps.
    pub steps: &'a Steps,
    /// Kernels by class and name.
    pub kernels: &'a KernelSummary,
    /// Analytic model beside the measured times.
    pub modelled: Option<&'a ModelledWork>,
}

/// The findings of a trace: what is wrong with the data first, then by the most they can give.
pub fn findings(results: &Results<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    data::findings(results, &mut found);
    // What is idle for want of data, or hidden in graphs, is no finding about the program.
    if results.coverage.trust.idle_shares {
        for idle in results.idle {
            device::idle_findings(results, idle, &mut found);
        }
        device::overlap_findings(results, &mut found);
    }
    device::transfer_findings(results, &mut found);
    kernels::findings(results, &mut found);
    found.sort_by_key(|finding| {
        (std::cmp::Reverse(finding.severity >= Severity::Error), std::cmp::Reverse(finding.gain_high_ns.unwrap_or(0)))
    });
    found
}

/// Milliseconds or microseconds, as a person writes them.
fn time(ns: impl Into<f64>) -> String {
    crate::units::Seconds(ns.into() / 1e9).to_string()
}

/// `part / whole` in percent.
fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1} %", 100.0 * part / whole) } else { "an unknown share".to_owned() }
}

fn device_name(results: &Results<'_>, device: u32) -> String {
    if results.idle.len() > 1 { format!("GPU {device}: ") } else { String::new() }
}

#[cfg(test)]
mod tests;
