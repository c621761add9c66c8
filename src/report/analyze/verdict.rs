//! What limits the traced work, in one plain sentence, and the cards below it.

use serde::Serialize;

use super::format::{duration, maybe_duration};
use super::model::TraceReport;
use super::tables::class_totals;
use super::waits::device;
use super::{counters, words};
use crate::analysis::classify::KernelClass;
use crate::analysis::coverage;
use crate::analysis::idle::IdleCause;
use crate::analysis::launch::LaunchVerdict;
use crate::analysis::steps::Phase;
use crate::report::number::{self, UNKNOWN, percent};
use crate::report::stage2;

/// From this share of the window on a device counts as busy: its own work limits it.
const BUSY: f64 = 0.8;
/// What stands between a refused figure and the reason in the words of [`coverage`].
const REFUSED: &str = " are refused: ";

/// What limits the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::report) struct Verdict {
    /// One sentence.
    pub sentence: String,
    /// What belongs to it, one sentence each.
    pub more: Vec<String>,
    /// `ok` where the answer stands, `warn` where it is in doubt, `bad` where there is none.
    pub tone: &'static str,
}

/// One number on top of the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::report) struct Card {
    /// What it is.
    pub label: &'static str,
    /// The value.
    pub value: String,
    /// What it is of.
    pub sub: String,
}

/// Busy and idle time over all devices.
struct Whole {
    window_ns: u64,
    busy_ns: u64,
    devices: usize,
    /// By name: time in ns and gaps, the longest first.
    causes: Vec<(&'static str, Option<IdleCause>, u64, u64)>,
    host_ns: u64,
}

impl Whole {
    fn of(report: &TraceReport<'_>) -> Option<Self> {
        let mut whole = Self { window_ns: 0, busy_ns: 0, devices: 0, causes: Vec::new(), host_ns: 0 };
        for idle in report.idle.iter().filter(|idle| idle.window_ns > 0) {
            whole.window_ns = whole.window_ns.saturating_add(idle.window_ns);
            whole.busy_ns = whole.busy_ns.saturating_add(idle.busy_ns);
            whole.host_ns = whole.host_ns.saturating_add(idle.host_ns());
            whole.devices += 1;
            for (name, cause, ns) in words::causes(idle) {
                let gaps = cause.map_or(idle.below_1us_gaps, |cause| {
                    idle.idle_by_cause.iter().find(|row| row.cause == cause).map_or(0, |row| row.spread.count)
                });
                match whole.causes.iter_mut().find(|known| known.0 == name) {
                    Some(known) => (known.2, known.3) = (known.2.saturating_add(ns), known.3.saturating_add(gaps)),
                    None => whole.causes.push((name, cause, ns, gaps)),
                }
            }
        }
        whole.causes.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(b.0)));
        (whole.window_ns > 0).then_some(whole)
    }
    fn share(&self, ns: u64) -> f64 {
        ns as f64 / self.window_ns as f64
    }
    fn gpus(&self) -> String {
        if self.devices == 1 { "The GPU".to_owned() } else { format!("The {} GPUs together", self.devices) }
    }
}

/// Why idle time must not be stated, if so.
fn idle_refused(report: &TraceReport<'_>) -> Option<String> {
    let trust = &report.coverage?.trust;
    let reason = trust.reasons.first().map_or("the trace is not whole", |reason| core(reason));
    (!trust.idle_shares).then(|| reason.to_owned())
}

/// The reason itself, without what it is a reason to refuse.
fn core(reason: &str) -> &str {
    reason.split_once(REFUSED).map_or(reason, |(_, core)| core)
}

/// True where there are counters of Nsight Compute and no trace.
pub(super) fn counters_only(report: &TraceReport<'_>) -> bool {
    let no_work = report.coverage.is_none_or(|coverage| coverage.verdict == coverage::Verdict::NoGpuWork);
    no_work && !report.ncu.is_empty()
}

/// Whether shares of classes in all GPU time may be stated.
pub(super) fn kernel_shares(report: &TraceReport<'_>) -> bool {
    report.coverage.is_none_or(|coverage| coverage.trust.kernel_shares)
}

/// What an operator class takes of the kernel time, in words.
fn top_class(report: &TraceReport<'_>) -> Option<(String, f64)> {
    let totals = class_totals(report.kernels?, None);
    let (class, _, _, _, share) = totals.into_iter().find(|total| total.4.is_some())?;
    let name = match class {
        KernelClass::Unclassified => "work of no known class".to_owned(),
        known => known.name().replace('_', " "),
    };
    Some((name, share.filter(|share| share.is_finite())?))
}

/// Without the full stop it may end with.
fn bare(text: &str) -> &str {
    text.trim_end().trim_end_matches('.')
}

/// What limits the traced work.
pub(in crate::report) fn verdict(report: &TraceReport<'_>) -> Verdict {
    let Some(run) = report.stage2 else { return of_trace(report) };
    if report.coverage.is_none() && !counters_only(report) {
        return stage2::verdict(run);
    }
    let mut verdict = of_trace(report);
    verdict.more.extend(stage2::sentences(run));
    verdict
}

fn of_trace(report: &TraceReport<'_>) -> Verdict {
    if counters_only(report)
        && let Some(sentence) = counters::sentence(report.ncu)
    {
        let more = vec!["There is no timeline: counters say how kernels run, not when.".to_owned()];
        return Verdict { sentence, more, tone: "ok" };
    }
    if report.coverage.is_some_and(|coverage| coverage.verdict == coverage::Verdict::NoGpuWork) {
        return Verdict {
            sentence: "Cannot tell what limits it: the trace holds no GPU work.".to_owned(),
            more: Vec::new(),
            tone: "bad",
        };
    }
    let class = top_class(report).filter(|_| kernel_shares(report));
    if let Some(reason) = idle_refused(report) {
        let mut more = Vec::new();
        if let Some((class, share)) = class {
            more.push(format!("Of the kernel time that is there, {class} takes {}.", percent(share)));
        }
        return Verdict {
            sentence: format!("Cannot tell how busy the GPU was: {}.", bare(&reason)),
            more,
            tone: "warn",
        };
    }
    let Some(whole) = Whole::of(report) else {
        return Verdict {
            sentence: "Cannot tell what limits it: no device had a window of time to judge.".to_owned(),
            more: Vec::new(),
            tone: "bad",
        };
    };
    let busy = whole.share(whole.busy_ns);
    let is = if whole.devices == 1 { "is" } else { "are" };
    let waits = waits_sentence(&whole, is);
    let own = if whole.devices == 1 { "its own work limits it" } else { "their own work limits them" };
    let works = match &class {
        Some((class, share)) => format!(
            "{} {is} busy {} of the time, so {own}: {class} takes {} of the kernel time.",
            whole.gpus(),
            percent(busy),
            percent(*share)
        ),
        None => {
            format!("{} {is} busy {} of the time; which operators take it cannot be told.", whole.gpus(), percent(busy))
        }
    };
    let mut lines = Vec::new();
    let sentence = match waits {
        Some(waits) if busy < BUSY => {
            lines.extend(more(report, &whole));
            if let Some((class, share)) = class {
                lines.push(format!("While the GPU works, {class} takes {} of the kernel time.", percent(share)));
            }
            waits
        }
        waits => {
            if busy < 0.99 {
                lines.extend(waits);
            }
            lines.extend(launch_words(report));
            works
        }
    };
    let whole_trace = report.coverage.is_none_or(|coverage| coverage.verdict == coverage::Verdict::Complete);
    Verdict { sentence, more: lines, tone: if whole_trace { "ok" } else { "warn" } }
}

/// How long it waits and mostly why; `None` if it never does.
fn waits_sentence(whole: &Whole, is: &str) -> Option<String> {
    let (name, cause, ns, _) = whole.causes.first()?;
    let because = cause.map_or("of the pauses from one kernel to the next", words::cause);
    Some(format!(
        "{} {is} idle {} of the time, mostly because {because} ({}: {} of the window).",
        whole.gpus(),
        percent(whole.share(whole.window_ns.saturating_sub(whole.busy_ns))),
        name.replace('_', " "),
        percent(whole.share(*ns))
    ))
}

fn more(report: &TraceReport<'_>, whole: &Whole) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((_, Some(cause), ..)) = whole.causes.first()
        && let Some(remedy) = words::remedy(*cause)
    {
        lines.push(format!("What to try first: {remedy}."));
    }
    let host = whole.share(whole.host_ns);
    let largest_is_all = whole.causes.first().is_some_and(|cause| cause.2 == whole.host_ns);
    if host >= 0.01 && !largest_is_all {
        lines.push(format!("All causes on the host together make {} of the window.", percent(host)));
    }
    lines.extend(launch_words(report));
    lines
}

/// Whether each device waits for launches.
fn launch_words(report: &TraceReport<'_>) -> Vec<String> {
    let devices = report.launch.map_or(&[][..], |launch| &launch.devices);
    let told = report.coverage.is_none_or(|coverage| coverage.trust.queue_times);
    devices
        .iter()
        .filter(|_| told)
        .take(4)
        .filter_map(|row| {
            let name = device(report, row.device);
            let gain = bound(row.speedup_bound, "; were launching free, the work would be");
            match row.verdict {
                LaunchVerdict::Unknown => None,
                LaunchVerdict::LaunchBound => Some(format!("{name} is launch bound: it waits for launches{gain}.")),
                LaunchVerdict::GpuBound => Some(format!("{name} is not waiting for launches.")),
                LaunchVerdict::Mixed => Some(format!("{name} waits for launches part of the time{gain}.")),
            }
        })
        .collect()
}

fn bound(speedup: Option<f64>, lead: &str) -> String {
    speedup
        .filter(|speedup| speedup.is_finite())
        .map_or_else(String::new, |speedup| format!("{lead} at most {} as fast", number::factor(speedup)))
}

/// What a reader must know before any share: why the run is INVALID, what is refused and why, and why the trace is not whole.
pub(super) fn warnings(report: &TraceReport<'_>) -> Vec<String> {
    let Some(coverage) = report.coverage else {
        if report.stage2.is_some() {
            return report.invalid.iter().map(|reason| format!("INVALID: {}.", bare(reason))).collect();
        }
        return vec!["How complete the trace is was not checked.".to_owned()];
    };
    // The same reason may refuse several figures: it is said once.
    let mut reasons: Vec<(&str, Vec<&str>, bool)> = Vec::new();
    let all = report.invalid.iter().map(|reason| (reason, true));
    // A file of counters alone has no trace that could be incomplete.
    let trace = if counters_only(report) { &[][..] } else { &coverage.trust.reasons };
    for (reason, invalid) in all.chain(trace.iter().map(|reason| (reason, false))) {
        let (what, core) = match reason.split_once(REFUSED) {
            Some((what, core)) => (Some(what), core),
            None => (None, reason.as_str()),
        };
        let at = reasons.iter().position(|known| known.0 == core).unwrap_or_else(|| {
            reasons.push((core, Vec::new(), false));
            reasons.len() - 1
        });
        let known = &mut reasons[at];
        known.2 |= invalid;
        if let Some(what) = what.filter(|what| !known.1.contains(what)) {
            known.1.push(what);
        }
    }
    let mut lines: Vec<String> = reasons
        .iter()
        .map(|(core, refused, invalid)| {
            let lead = if *invalid { "INVALID: " } else { "" };
            let refused = match refused.as_slice() {
                [] => String::new(),
                many => format!(". Not stated for this reason: {}", many.join(", ")),
            };
            format!("{lead}{}{refused}.", bare(core))
        })
        .collect();
    if coverage.verdict != coverage::Verdict::Complete && !counters_only(report) {
        let said = |reason: &&String| !reasons.iter().any(|(core, ..)| core == &reason.as_str());
        lines.extend(coverage.reasons.iter().filter(said).map(|reason| format!("{}.", bare(reason))));
    }
    lines
}

/// The cards.
pub(super) fn cards(report: &TraceReport<'_>) -> Vec<Card> {
    let own = report.stage2.map_or_else(Vec::new, stage2::cards);
    if counters_only(report) {
        return counters::cards(report.ncu).into_iter().chain(own).collect();
    }
    if report.stage2.is_some() && report.coverage.is_none() {
        return own;
    }
    let whole = Whole::of(report);
    let refused = idle_refused(report);
    let mut cards = vec![
        busy_card(whole.as_ref(), refused.as_deref()),
        cause_card(whole.as_ref(), refused.as_deref()),
        launch_card(report),
        class_card(report),
        steps_card(report),
        kernels_card(report),
        window_card(report, whole.as_ref()),
        trace_card(report),
    ];
    cards.extend(own);
    cards
}

/// A card whose value is not known, and why.
fn unknown(label: &'static str, sub: &str) -> Card {
    Card { label, value: UNKNOWN.to_owned(), sub: sub.to_owned() }
}

fn busy_card(whole: Option<&Whole>, refused: Option<&str>) -> Card {
    const LABEL: &str = "GPU busy";
    match (whole, refused) {
        (_, Some(_)) => unknown(LABEL, "not stated: see the warnings"),
        (None, _) => unknown(LABEL, "not known: no device work"),
        (Some(whole), _) => Card {
            label: LABEL,
            value: percent(whole.share(whole.busy_ns)),
            sub: if whole.devices == 1 {
                format!("{} of {} (union)", duration(whole.busy_ns as f64), duration(whole.window_ns as f64))
            } else {
                format!("mean of {} GPUs, weighted by their windows", whole.devices)
            },
        },
    }
}

fn cause_card(whole: Option<&Whole>, refused: Option<&str>) -> Card {
    const LABEL: &str = "Biggest cause of idle time";
    match (whole.and_then(|whole| Some((whole, whole.causes.first()?))), refused) {
        (_, Some(_)) => unknown(LABEL, "not stated: see the warnings"),
        (None, _) => unknown(LABEL, "no idle time"),
        (Some((whole, (name, _, ns, gaps))), _) => Card {
            label: LABEL,
            value: name.replace('_', " "),
            sub: format!(
                "{} of the window: {} in {} gaps",
                percent(whole.share(*ns)),
                duration(*ns as f64),
                number::count(*gaps)
            ),
        },
    }
}

fn launch_card(report: &TraceReport<'_>) -> Card {
    const LABEL: &str = "Launching";
    if report.coverage.is_some_and(|coverage| !coverage.trust.queue_times || !coverage.trust.idle_shares) {
        return unknown(LABEL, "not stated: see the warnings");
    }
    // The device that waits most for launches stands for all.
    let worst = report.launch.and_then(|launch| {
        launch.devices.iter().min_by_key(|row| match row.verdict {
            LaunchVerdict::LaunchBound => 0,
            LaunchVerdict::Mixed => 1,
            LaunchVerdict::GpuBound => 2,
            LaunchVerdict::Unknown => 3,
        })
    });
    let Some(row) = worst else { return unknown(LABEL, "not known: no launches") };
    let waiting = matches!(row.verdict, LaunchVerdict::LaunchBound | LaunchVerdict::Mixed);
    let gain = bound(row.speedup_bound.filter(|_| waiting), "free launching:");
    let rate = row.launches_per_s.map_or_else(String::new, |rate| format!("{} launches/s", number::digits(rate)));
    let parts: Vec<String> = [rate, gain].into_iter().filter(|part| !part.is_empty()).collect();
    Card { label: LABEL, value: words::launch(row.verdict).to_owned(), sub: parts.join("; ") }
}

fn class_card(report: &TraceReport<'_>) -> Card {
    const LABEL: &str = "Top operator class";
    match top_class(report) {
        None => unknown(LABEL, "not known: no kernels"),
        Some((class, share)) if kernel_shares(report) => {
            Card { label: LABEL, value: class, sub: format!("{} of the kernel time (sum)", percent(share)) }
        }
        Some((class, _)) => {
            Card { label: LABEL, value: class, sub: "of the kernels seen; share not stated".to_owned() }
        }
    }
}

/// The phase with the most steps.
fn main_phase<'a>(report: &TraceReport<'a>) -> Option<&'a Phase> {
    report.steps?.phases.iter().filter(|phase| phase.steps > 0).max_by_key(|phase| phase.steps)
}

fn steps_card(report: &TraceReport<'_>) -> Card {
    const LABEL: &str = "Steps";
    let Some(phase) = main_phase(report) else { return unknown(LABEL, "not known: none were found") };
    let median = maybe_duration(phase.step_ns.as_ref().map(|spread| spread.p50));
    let name = crate::report::escape::cut(&crate::report::escape::one_line(&phase.name), 30);
    Card { label: LABEL, value: number::count(phase.steps), sub: format!("{name}; median {median}") }
}

fn kernels_card(report: &TraceReport<'_>) -> Card {
    const LABEL: &str = "Kernels";
    let Some(coverage) = report.kernels.map(|kernels| &kernels.coverage) else {
        return unknown(LABEL, "not known");
    };
    let known = (coverage.kernel_ns > 0).then(|| coverage.classified_ns as f64 / coverage.kernel_ns as f64);
    Card {
        label: LABEL,
        value: number::count(coverage.kernels),
        sub: format!(
            "{} (sum); {} of it in known classes",
            duration(coverage.kernel_ns as f64),
            number::maybe_percent(known)
        ),
    }
}

fn window_card(report: &TraceReport<'_>, whole: Option<&Whole>) -> Card {
    const LABEL: &str = "Window";
    let longest = report.idle.iter().map(|idle| idle.window_ns).max().filter(|ns| *ns > 0);
    let (Some(ns), Some(whole)) = (longest, whole) else { return unknown(LABEL, "not known: no device work") };
    let gpus = if whole.devices == 1 { "one GPU".to_owned() } else { format!("{} GPUs, the longest", whole.devices) };
    Card { label: LABEL, value: duration(ns as f64), sub: format!("first to last work of {gpus}") }
}

fn trace_card(report: &TraceReport<'_>) -> Card {
    const LABEL: &str = "Trace";
    let Some(coverage) = report.coverage else { return unknown(LABEL, "completeness not checked") };
    let value = match coverage.verdict {
        coverage::Verdict::Complete => "complete",
        coverage::Verdict::Partial => "partial",
        coverage::Verdict::NoGpuWork => "no GPU work",
    };
    let launches = &coverage.launches;
    let linked = (launches.kernels > 0).then(|| launches.linked_kernels as f64 / launches.kernels as f64);
    let sub = linked.map_or_else(
        || "no kernels to join to calls".to_owned(),
        |share| format!("{} of the kernels joined to their call", percent(share)),
    );
    Card { label: LABEL, value: value.to_owned(), sub }
}
