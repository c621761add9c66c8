//! What a stage2 run says in sentences: the verdict where there is no single timeline, what bounds the costliest kernels, the cards.

use super::model::Stage2Report;
use crate::analysis::ncu::Bound;
use crate::record::stage2::ProfileOutcome;
use crate::report::analyze::counters::bound;
use crate::report::analyze::verdict::{Card, Verdict};
use crate::report::analyze::{AnalyzeReport, verdict_sentence};
use crate::report::escape::{cut, one_line};
use crate::report::number::{UNKNOWN, count, digits, factor, percent};
use crate::runner::stage2::{KernelProfileBlock, OverheadBasis};

/// Phases a sentence is said about.
const PHASES: usize = 4;

/// What was profiled, in a few words.
pub(in crate::report) fn title(report: &Stage2Report<'_>) -> String {
    let workload = &report.metrics.workload;
    let text = match (&workload.program, &workload.model) {
        (Some(program), _) => program
            .first()
            .map_or_else(|| "a program".to_owned(), |path| path.rsplit('/').next().unwrap_or(path).to_owned()),
        (None, Some(model)) => format!("stage1 of {}", model.name),
        (None, None) => "perfprof stage1".to_owned(),
    };
    cut(&one_line(&text), 100)
}

/// What the run says where it has no timeline of its own.
pub(in crate::report) fn verdict(report: &Stage2Report<'_>) -> Verdict {
    let failed = |error: Option<&str>| {
        let why = error
            .or(report.metrics.validity.reasons.first().map(String::as_str))
            .unwrap_or("the run did not get that far");
        Verdict {
            sentence: format!("Nothing was profiled: {}.", cut(&one_line(why), 300).trim_end_matches('.')),
            more: plain(report).into_iter().collect(),
            tone: "bad",
        }
    };
    if report.captures.is_empty() {
        let more = sentences(report);
        if more.is_empty() {
            return failed(report.error);
        }
        return Verdict { sentence: "There are counters and no timeline.".to_owned(), more, tone: "warn" };
    }
    let mut more = Vec::new();
    for capture in &report.metrics.captures {
        let line = match report.captures.iter().find(|known| known.name == capture.name) {
            Some(known) => verdict_sentence(&AnalyzeReport {
                metrics: known.metrics,
                analysis: known.analysis,
                assumptions: known.assumptions,
                generated_at: report.generated_at,
            }),
            None => format!("no timeline: {}", capture.error.as_deref().unwrap_or("it was not captured")),
        };
        more.push(format!("{}: {}", capture.name, cut(&one_line(&line), 600)));
    }
    more.extend(sentences(report));
    let whole = report.captures.len() == report.metrics.captures.len() && report.metrics.validity.is_valid();
    Verdict {
        sentence: format!(
            "{} of {} captures have a timeline; each has a report of its own.",
            report.captures.len(),
            report.metrics.captures.len()
        ),
        more,
        tone: if whole { "ok" } else { "warn" },
    }
}

fn plain(report: &Stage2Report<'_>) -> Option<String> {
    let plain = report.metrics.workload.plain.as_ref()?;
    Some(match &plain.run {
        Some(run) => format!("The run of the workload alone is in `{run}`."),
        None => format!("The workload alone took {} s.", digits(plain.wall_s)),
    })
}

/// What bounds the costliest profiled kernel of each phase.
pub(in crate::report) fn sentences(report: &Stage2Report<'_>) -> Vec<String> {
    let mut phases: Vec<(Option<&str>, Option<&str>)> = Vec::new();
    let mut lines = Vec::new();
    for kernel in &report.metrics.kernels {
        let key = (kernel.capture.as_deref(), kernel.phase.as_deref());
        if kernel.counters.is_none() || phases.contains(&key) || phases.len() == PHASES {
            continue;
        }
        phases.push(key);
        lines.extend(sentence(kernel));
    }
    lines
}

fn sentence(kernel: &KernelProfileBlock) -> Option<String> {
    let counters = kernel.counters.as_ref()?;
    let name = cut(&one_line(&kernel.name), 60);
    let of = kernel.phase.as_deref().map_or_else(String::new, |phase| format!(" of {}", cut(&one_line(phase), 30)));
    let share = kernel.share.map_or_else(String::new, |share| format!(", {} of the kernel time,", percent(share)));
    let used = |value: Option<f64>| value.map_or_else(|| UNKNOWN.to_owned(), |value| percent(value / 100.0));
    let says = match counters.bound {
        Some(Bound::Latency) => "waits rather than works".to_owned(),
        Some(Bound::Balanced) => "is bound by compute and memory alike".to_owned(),
        Some(found) => format!("is bound by {}", bound(found)),
        None => "has counters that do not say what bounds it".to_owned(),
    };
    let mut text = format!(
        "{name}, the costliest kernel{of}{share} {says}: compute {} and memory {} of their peaks",
        used(counters.sm_percent),
        used(counters.memory_percent.or(counters.dram_percent))
    );
    if let Some(roofline) = &kernel.roofline {
        if let Some(share) = roofline.share_of_attainable {
            text.push_str(&format!("; {} of what the roofline allows", percent(share)));
        } else if let Some(share) = roofline.share_of_bandwidth {
            text.push_str(&format!("; {} of the memory bandwidth", percent(share)));
        }
    }
    text.push('.');
    Some(text)
}

/// The cards of what is not the timeline's.
pub(in crate::report) fn cards(report: &Stage2Report<'_>) -> Vec<Card> {
    let metrics = report.metrics;
    let overhead = metrics.overhead.first();
    let cost = Card {
        label: "Cost of tracing",
        value: overhead.map_or_else(|| UNKNOWN.to_owned(), |block| factor(block.ratio)),
        sub: match overhead.map(|block| block.basis) {
            Some(OverheadBasis::TotalMs) => "median total_ms under nsys ÷ alone".to_owned(),
            Some(OverheadBasis::WallS) => {
                "wall time under nsys ÷ alone, the tracer's own begin and end included".to_owned()
            }
            None => "not known: the whole run was not both traced and run alone".to_owned(),
        },
    };
    let profiled = metrics.kernels.iter().filter(|kernel| kernel.outcome == ProfileOutcome::Ok).count();
    let bounds = [Bound::Memory, Bound::Compute, Bound::Latency, Bound::Balanced].map(|wanted| {
        let is_it = |kernel: &&KernelProfileBlock| kernel.counters.as_ref().and_then(|one| one.bound) == Some(wanted);
        (bound(wanted), metrics.kernels.iter().filter(is_it).count())
    });
    let told: Vec<String> =
        bounds.iter().filter(|(_, many)| *many > 0).map(|(name, many)| format!("{many} {name}")).collect();
    let kernels = Card {
        label: "Profiled kernels",
        value: if metrics.kernels.is_empty() {
            UNKNOWN.to_owned()
        } else {
            format!("{} of {}", count(profiled as u64), count(metrics.kernels.len() as u64))
        },
        sub: if told.is_empty() { "no counters".to_owned() } else { format!("bound by: {}", told.join(", ")) },
    };
    vec![cost, kernels]
}
