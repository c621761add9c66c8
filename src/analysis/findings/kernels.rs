//! Findings about kernels and steps.

use super::{Finding, Results, percent, time};
use crate::analysis::classify::KernelClass;
use crate::diagnostics::Severity;

/// Classes that move elements and compute next to nothing: candidates for fusion.
const MOVERS: [KernelClass; 6] = [
    KernelClass::Elementwise,
    KernelClass::Copy,
    KernelClass::Cast,
    KernelClass::Fill,
    KernelClass::Gather,
    KernelClass::Scatter,
];

pub(super) fn findings(results: &Results<'_>, found: &mut Vec<Finding>) {
    if results.coverage.trust.kernel_shares {
        dominant(results, found);
        movers(results, found);
    }
    roofline(results, found);
    unclassified(results, found);
    stragglers(results, found);
}

/// Kernel time by class over all phases, largest first.
fn classes(results: &Results<'_>) -> Vec<(KernelClass, u64, i64)> {
    let mut sums: std::collections::BTreeMap<KernelClass, (u64, i64)> = std::collections::BTreeMap::new();
    for total in &results.kernels.classes {
        if matches!(total.class, KernelClass::Memcpy | KernelClass::Memset) {
            continue;
        }
        let sum = sums.entry(total.class).or_default();
        sum.0 += total.calls;
        sum.1 += total.total_ns;
    }
    let mut classes: Vec<_> = sums.into_iter().map(|(class, (calls, ns))| (class, calls, ns)).collect();
    classes.sort_by_key(|(_, _, ns)| std::cmp::Reverse(*ns));
    classes
}

/// A sum of kernel time may exceed the window where kernels overlap; a gain cannot.
fn within_window(results: &Results<'_>, ns: i64) -> i64 {
    let window = results.idle.iter().map(|idle| idle.window_ns as i64).max().unwrap_or(i64::MAX);
    ns.min(window)
}

/// What the simulation says of kernels that take no time while the host launches as it did.
fn simulated(gain_ns: i64, kernel_ns: i64) -> String {
    let text =
        format!("were it free and launched as it is, the work would take {} less (simulated)", time(gain_ns as f64));
    if gain_ns < kernel_ns / 2 { text + ": the host's launching is the next limit" } else { text }
}

fn what_if(results: &Results<'_>, class: &str) -> Option<i64> {
    let row = results.critical_path?.what_if.iter().find(|row| row.class == class)?;
    Some(row.gain_ns as i64)
}

fn dominant(results: &Results<'_>, found: &mut Vec<Finding>) {
    let all = results.kernels.coverage.kernel_ns as f64;
    let Some((class, calls, ns)) = classes(results).first().copied() else { return };
    if all <= 0.0 || class == KernelClass::Unclassified || (ns as f64) < 0.25 * all {
        return;
    }
    let mut evidence =
        vec![format!("{} in {calls} kernels, {} of the kernel time", time(ns as f64), percent(ns as f64, all))];
    evidence.extend(results.kernels.rows.iter().find(|row| row.class == class).map(|row| {
        format!(
            "largest: `{}`, {} calls, {} in all, median {}",
            row.name,
            row.calls,
            time(row.total_ns as f64),
            time(row.p50_ns)
        )
    }));
    let gain = what_if(results, class.name());
    evidence
        .extend(gain.map(|gain| format!("were it free, the work would take {} less (simulated)", time(gain as f64))));
    found.push(Finding {
        code: "dominant_class".to_owned(),
        title: format!("The largest part of the kernel time ({}) is {}.", percent(ns as f64, all), class.name().replace('_', " ")),
        severity: Severity::Info,
        evidence,
        gain_low_ns: None,
        gain_high_ns: Some(within_window(results, ns)),
        how_to_check: "It cannot be free: give `model=`, `batch=` and `prompt_tokens=` to see how far from the roofline it runs, or profile \
                       its largest kernel with ncu."
            .to_owned(),
    });
}

fn movers(results: &Results<'_>, found: &mut Vec<Finding>) {
    let all = results.kernels.coverage.kernel_ns as f64;
    let movers: Vec<_> = classes(results).into_iter().filter(|(class, _, _)| MOVERS.contains(class)).collect();
    let (calls, ns) = movers.iter().fold((0, 0), |(calls, ns), row| (calls + row.1, ns + row.2));
    if all <= 0.0 || (ns as f64) < 0.15 * all {
        return;
    }
    let mut evidence: Vec<String> = movers
        .iter()
        .take(5)
        .map(|(class, calls, ns)| format!("{}: {calls} kernels, {}", class.name(), time(*ns as f64)))
        .collect();
    if let Some((class, _, ns)) = movers.first() {
        let gain = what_if(results, class.name());
        evidence.extend(gain.map(|gain| format!("{} alone: {}", class.name(), simulated(gain, *ns))));
    }
    found.push(Finding {
        code: "unfused_elementwise".to_owned(),
        title: format!(
            "{} of the kernel time goes into {calls} kernels that only move or touch elements.",
            percent(ns as f64, all)
        ),
        severity: Severity::Warn,
        evidence,
        gain_low_ns: None,
        // Fusion takes away launches too, so the simulation, which keeps them, is no bound from above.
        gain_high_ns: Some(within_window(results, ns)),
        how_to_check: "Fuse them into their neighbours (a compiler such as torch.compile, or hand-written kernels), and watch the count of \
                       kernels per step."
            .to_owned(),
    });
}

fn roofline(results: &Results<'_>, found: &mut Vec<Finding>) {
    let Some(modelled) = results.modelled else { return };
    for row in modelled.classes.iter().take(2) {
        let (Some(gpu), Some(least), Some(lost)) = (row.gpu_ns, row.roofline_ns, row.lost_ns) else { continue };
        // Twice the least time is where a good kernel may still be found.
        if lost < least {
            continue;
        }
        found.push(Finding {
            code: "far_from_roofline".to_owned(),
            title: format!(
                "{}: {} takes {:.1} times what the roofline allows.",
                row.phase,
                row.class.replace('_', " "),
                gpu as f64 / least
            ),
            severity: Severity::Warn,
            evidence: vec![format!(
                "{} measured, {} at the roofline ({}-bound), {} lost over {} steps",
                time(gpu as f64),
                time(least),
                row.bound.as_deref().unwrap_or("unknown"),
                time(lost),
                row.steps
            )],
            gain_low_ns: None,
            gain_high_ns: Some(lost as i64),
            how_to_check: "Profile its largest kernel with ncu: is the bandwidth or the tensor-core figure low, or is the grid too small?"
                .to_owned(),
        });
    }
}

fn unclassified(results: &Results<'_>, found: &mut Vec<Finding>) {
    let coverage = &results.kernels.coverage;
    let unknown = coverage.kernel_ns - coverage.classified_ns;
    if coverage.kernel_ns <= 0 || (unknown as f64) < 0.1 * coverage.kernel_ns as f64 {
        return;
    }
    found.push(Finding {
        code: "unclassified_kernels".to_owned(),
        title: format!(
            "{} of the kernel time is in kernels whose class is not known.",
            percent(unknown as f64, coverage.kernel_ns as f64)
        ),
        severity: Severity::Info,
        evidence: coverage
            .top_unclassified
            .iter()
            .take(3)
            .map(|name| {
                let short = crate::analysis::kernel_names::shorten(&name.full_name);
                format!("`{short}`: {} calls, {}", name.calls, time(name.total_ns as f64))
            })
            .collect(),
        gain_low_ns: None,
        gain_high_ns: None,
        how_to_check: "Name them in a file for `--rules`.".to_owned(),
    });
}

fn stragglers(results: &Results<'_>, found: &mut Vec<Finding>) {
    let steps = results.steps;
    if let Some(worst) = steps.stragglers.first() {
        let beyond: f64 =
            steps.stragglers.iter().map(|step| step.duration_ns as f64 * (1.0 - 1.0 / step.times_median)).sum();
        let count = steps.stragglers.len() as u64 + steps.stragglers_omitted;
        found.push(Finding {
            code: "straggling_steps".to_owned(),
            title: format!("{count} steps take far longer than the others of their phase."),
            severity: Severity::Info,
            evidence: vec![format!(
                "longest: step {} ({}), {} = {:.1} times the median",
                worst.step,
                worst.phase,
                time(worst.duration_ns as f64),
                worst.times_median
            )],
            gain_low_ns: None,
            gain_high_ns: Some(beyond as i64),
            how_to_check: "Open the report at their begin (`--window`) and look at the gaps: allocation, compilation, a full cache, or another \
                           process."
                .to_owned(),
        });
    }
    for drift in &steps.drift {
        let sure = drift.interval[0] > 0.0 || drift.interval[1] < 0.0;
        if sure && drift.relative_change.abs() > 0.05 {
            found.push(Finding {
                code: "drifting_steps".to_owned(),
                title: format!(
                    "{} steps become {} by {:.0} % from first to last.",
                    drift.phase,
                    if drift.relative_change > 0.0 { "longer" } else { "shorter" },
                    drift.relative_change.abs() * 100.0
                ),
                severity: Severity::Info,
                evidence: vec![format!(
                    "{} a step (95 % interval {} to {}), {} steps",
                    time(drift.slope_ns_per_step),
                    time(drift.interval[0]),
                    time(drift.interval[1]),
                    drift.n
                )],
                gain_low_ns: None,
                gain_high_ns: None,
                how_to_check: "A growing context lengthens attention; without that, look at clocks and temperature."
                    .to_owned(),
            });
        }
    }
}
