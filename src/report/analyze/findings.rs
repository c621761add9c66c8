//! The caller's findings as every format shows them.

use serde::Serialize;

use super::format::duration;
use super::model::TraceReport;
use super::tables::severity;
use crate::analysis::findings::Finding;
use crate::report::escape;
use crate::report::number::percent;

/// Findings shown; metrics.json has all.
const SHOWN: usize = 20;

/// One finding in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    /// One sentence.
    pub title: String,
    /// `info`, `warning`, …
    pub severity: &'static str,
    /// What it can give.
    pub gain: String,
    /// False where the gain is not known.
    pub bounded: bool,
    /// The numbers it rests on.
    pub evidence: Vec<String>,
    /// How to check it.
    pub check: String,
}

/// The findings in the order given.
pub(super) fn findings(report: &TraceReport<'_>) -> Vec<Shown> {
    // Without a trace every finding about one says only that there is none.
    if super::verdict::counters_only(report) {
        return Vec::new();
    }
    // The longest window stands for the wall time that can be saved.
    let window = report.idle.iter().map(|idle| idle.window_ns).max().filter(|ns| *ns > 0);
    report.findings.iter().take(SHOWN).map(|finding| shown(finding, window)).collect()
}

fn shown(finding: &Finding, window_ns: Option<u64>) -> Shown {
    let line = |text: &str, limit| escape::cut(&escape::one_line(text), limit);
    Shown {
        title: line(&finding.title, 400),
        severity: severity(finding.severity),
        gain: gain(finding, window_ns),
        bounded: finding.gain_high_ns.is_some(),
        evidence: finding.evidence.iter().take(12).map(|text| line(text, 600)).collect(),
        check: line(&finding.how_to_check, 800),
    }
}

fn gain(finding: &Finding, window_ns: Option<u64>) -> String {
    let of_window = |ns: i64| {
        window_ns.map_or_else(String::new, |window| format!(" ({} of the window)", percent(ns as f64 / window as f64)))
    };
    match (finding.gain_low_ns, finding.gain_high_ns) {
        (_, None) => "what it can give is not known".to_owned(),
        (None | Some(0), Some(high)) => format!("gives at most {}{}", duration(high as f64), of_window(high)),
        (Some(low), Some(high)) if low == high => format!("gives {}{}", duration(high as f64), of_window(high)),
        (Some(low), Some(high)) => {
            format!("gives {} to {}{}", duration(low as f64), duration(high as f64), of_window(high))
        }
    }
}
