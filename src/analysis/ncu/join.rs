//! Matches kernels of Nsight Compute with kernel names of a timeline.
//!
//! The two tools print one name differently: nsys writes `mul_mat_q<(ggml_type)8, (int)128>(const char *)` where ncu writes
//! `mul_mat_q<8, 128>(const char *)`, and either may have been told to print base or mangled names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::trace::ncu::NcuReport;
use crate::trace::timeline::Timeline;

/// Names of a timeline quoted for one match at most.
const NAMES: usize = 8;

/// How two names were found to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameMatch {
    /// The same text, demangled or mangled.
    Exact,
    /// The same but for blanks and for casts of template arguments.
    Normalised,
    /// The same template arguments; return type and parameters are not compared.
    TemplateArguments,
    /// The same base name, where one side has no template arguments: several instances may stand behind it.
    Base,
}

/// A kernel of the report that the timeline has too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuMatch {
    /// Name in the report.
    pub ncu_name: String,
    /// Names in the timeline, the longest in time first; at most eight.
    pub timeline_names: Vec<String>,
    /// How many names match in the timeline.
    pub timeline_name_count: u64,
    /// How they were matched.
    pub matched_by: NameMatch,
    /// Launches in the report.
    pub ncu_launches: u64,
    /// Mean duration in the report, ns.
    pub ncu_mean_ns: Option<f64>,
    /// Launches in the timeline.
    pub timeline_launches: u64,
    /// Sum of durations in the timeline, ns.
    pub timeline_sum_ns: i64,
    /// Mean duration in the timeline, ns.
    pub timeline_mean_ns: Option<f64>,
    /// Mean in the report over mean in the timeline. Far from 1: other clocks, cold caches, or other shapes.
    pub ncu_to_timeline: Option<f64>,
}

/// A kernel of the report that the timeline does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuUnmatched {
    /// Name in the report.
    pub name: String,
    /// Launches in the report.
    pub launches: u64,
    /// Names in the timeline with the same base name and other template arguments.
    pub same_base: u64,
}

/// A kernel of the timeline that was not profiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelineUnmatched {
    /// Name in the timeline.
    pub name: String,
    /// Launches.
    pub launches: u64,
    /// Sum of durations, ns.
    pub sum_ns: i64,
}

/// Kernels of a report beside those of a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuJoin {
    /// In both, the longest in the timeline first. This list and the next two have at most as many entries as asked for.
    pub matched: Vec<NcuMatch>,
    /// Names in both that are not listed.
    pub matched_left_out: u64,
    /// Only in the report, in order of names.
    pub only_in_ncu: Vec<NcuUnmatched>,
    /// Names only in the report that are not listed.
    pub only_in_ncu_left_out: u64,
    /// Only in the timeline, the longest first.
    pub only_in_timeline: Vec<TimelineUnmatched>,
    /// Names only in the timeline that are not listed.
    pub only_in_timeline_left_out: u64,
    /// Sum of durations of all kernels of the timeline, ns.
    pub timeline_sum_ns: i64,
    /// Sum of durations of those that were profiled, ns; each counts once.
    pub matched_sum_ns: i64,
}

/// The names of a timeline at each step of likeness.
#[derive(Default)]
struct Index {
    exact: FxHashMap<String, Vec<u32>>,
    normalised: FxHashMap<String, Vec<u32>>,
    arguments: FxHashMap<String, Vec<u32>>,
    base: FxHashMap<String, Vec<u32>>,
    /// Names whose base alone is known.
    bare: BTreeSet<u32>,
}

/// Joins the kernels of `report` with those of `timeline`; each list has at most `limit` entries.
pub fn join(report: &NcuReport, timeline: &Timeline, limit: usize) -> NcuJoin {
    let mut launches = vec![0_u64; timeline.kernel_names.len()];
    let mut sums = vec![0_i64; timeline.kernel_names.len()];
    for row in 0..timeline.kernels.len() {
        let name = timeline.kernels.name[row] as usize;
        launches[name] += 1;
        sums[name] = sums[name].saturating_add(timeline.kernels.duration_ns(row));
    }
    let index = index(timeline, &launches);
    let mut in_report: BTreeMap<&Arc<str>, (u64, f64, u64)> = BTreeMap::new();
    for kernel in &report.kernels {
        let counts = in_report.entry(&kernel.name).or_default();
        counts.0 += 1;
        if let Some(duration) = super::Launch::of(kernel).duration_ns {
            counts.1 += duration;
            counts.2 += 1;
        }
    }
    let mut found = BTreeSet::new();
    let (mut matched, mut only_in_ncu) = (Vec::new(), Vec::new());
    for (name, (count, duration, timed)) in in_report {
        let Some((matched_by, mut rows)) = index.find(name) else {
            let same_base = index.base.get(base(&arguments(name))).map_or(0, Vec::len) as u64;
            only_in_ncu.push(NcuUnmatched { name: name.to_string(), launches: count, same_base });
            continue;
        };
        rows.sort_by_key(|row| std::cmp::Reverse(sums[*row as usize]));
        found.extend(rows.iter().copied());
        let timeline_launches: u64 = rows.iter().map(|row| launches[*row as usize]).sum();
        let timeline_sum_ns: i64 = rows.iter().fold(0, |sum, row| sum.saturating_add(sums[*row as usize]));
        let ncu_mean_ns = (timed > 0).then(|| duration / timed as f64);
        let timeline_mean_ns = (timeline_launches > 0).then(|| timeline_sum_ns as f64 / timeline_launches as f64);
        matched.push(NcuMatch {
            ncu_name: name.to_string(),
            timeline_names: rows.iter().take(NAMES).map(|row| text(timeline, *row)).collect(),
            timeline_name_count: rows.len() as u64,
            matched_by,
            ncu_launches: count,
            ncu_mean_ns,
            timeline_launches,
            timeline_sum_ns,
            timeline_mean_ns,
            ncu_to_timeline: ncu_mean_ns.zip(timeline_mean_ns.filter(|mean| *mean > 0.0)).map(|(ncu, mean)| ncu / mean),
        });
    }
    matched.sort_by(|a, b| b.timeline_sum_ns.cmp(&a.timeline_sum_ns).then_with(|| a.ncu_name.cmp(&b.ncu_name)));
    let mut others: Vec<u32> =
        (0..launches.len() as u32).filter(|row| launches[*row as usize] > 0 && !found.contains(row)).collect();
    others.sort_by_key(|row| std::cmp::Reverse(sums[*row as usize]));
    let listed = others.iter().take(limit).map(|row| TimelineUnmatched {
        name: text(timeline, *row),
        launches: launches[*row as usize],
        sum_ns: sums[*row as usize],
    });
    let beyond = |count: usize| count.saturating_sub(limit) as u64;
    let (matched_left_out, only_in_ncu_left_out) = (beyond(matched.len()), beyond(only_in_ncu.len()));
    matched.truncate(limit);
    only_in_ncu.truncate(limit);
    NcuJoin {
        matched,
        matched_left_out,
        only_in_ncu,
        only_in_ncu_left_out,
        only_in_timeline: listed.collect(),
        only_in_timeline_left_out: beyond(others.len()),
        timeline_sum_ns: sums.iter().fold(0, |sum, next| sum.saturating_add(*next)),
        matched_sum_ns: found.iter().fold(0, |sum, row| sum.saturating_add(sums[*row as usize])),
    }
}

fn text(timeline: &Timeline, row: u32) -> String {
    timeline.text(timeline.kernel_names[row as usize].demangled).to_owned()
}

fn index(timeline: &Timeline, launches: &[u64]) -> Index {
    let mut index = Index::default();
    for (row, name) in timeline.kernel_names.iter().enumerate().filter(|(row, _)| launches[*row] > 0) {
        let row = row as u32;
        let demangled = timeline.text(name.demangled);
        let add = |map: &mut FxHashMap<String, Vec<u32>>, key: String| {
            let rows = map.entry(key).or_default();
            if rows.last() != Some(&row) {
                rows.push(row);
            }
        };
        add(&mut index.exact, demangled.to_owned());
        if let Some(mangled) = name.mangled {
            add(&mut index.exact, timeline.text(mangled).to_owned());
        }
        add(&mut index.normalised, normalised(demangled));
        let arguments = arguments(demangled);
        add(&mut index.base, base(&arguments).to_owned());
        add(&mut index.base, base(&self::arguments(timeline.text(name.short))).to_owned());
        if arguments.contains('<') {
            add(&mut index.arguments, arguments);
        } else {
            index.bare.insert(row);
        }
    }
    index
}

impl Index {
    fn find(&self, name: &str) -> Option<(NameMatch, Vec<u32>)> {
        let at = |map: &FxHashMap<String, Vec<u32>>, key: &str| map.get(key).cloned();
        if let Some(rows) = at(&self.exact, name) {
            return Some((NameMatch::Exact, rows));
        }
        if let Some(rows) = at(&self.normalised, &normalised(name)) {
            return Some((NameMatch::Normalised, rows));
        }
        let arguments = arguments(name);
        let has_arguments = arguments.contains('<');
        if has_arguments && let Some(rows) = at(&self.arguments, &arguments) {
            return Some((NameMatch::TemplateArguments, rows));
        }
        // Two instances of one template are two kernels: a base name decides only where one side says no more.
        let mut rows = at(&self.base, base(&arguments))?;
        if has_arguments {
            rows.retain(|row| self.bare.contains(row));
        }
        (!rows.is_empty()).then_some((NameMatch::Base, rows))
    }
}

/// Without blanks, and without the casts nsys writes before template arguments (`(int)128`, `(ggml_type)8`, `(bool)1`).
fn normalised(name: &str) -> String {
    let text: Vec<char> = name.chars().filter(|c| !c.is_whitespace()).collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at] == '(' && matches!(out.chars().last(), Some('<' | ',')) {
            let close = text[at..].iter().position(|c| *c == ')').map(|length| at + length);
            let is_type = |c: &char| c.is_alphanumeric() || matches!(c, '_' | ':' | '<' | '>' | '*' | '&');
            if let Some(close) = close
                && close > at + 1
                && text[at + 1..close].iter().all(is_type)
                && text.get(close + 1).is_some_and(|c| c.is_ascii_digit() || *c == '-')
            {
                at = close + 1;
                continue;
            }
        }
        out.push(text[at]);
        at += 1;
    }
    out
}

/// Qualified name with template arguments, normalised, without return type and parameters.
fn arguments(name: &str) -> String {
    let name = name.replace("(anonymous namespace)", "{unnamed}").replace("<unnamed>", "{unnamed}");
    let (mut depth, mut start, mut end) = (0_i32, 0, name.len());
    for (at, c) in name.char_indices() {
        match c {
            '<' => depth += 1,
            // Not the arrow of a lambda's type.
            '>' if !name[..at].ends_with('-') => depth -= 1,
            ' ' if depth == 0 => start = at + 1,
            '(' if depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    normalised(name.get(start..end).unwrap_or(&name))
}

/// The last part of a qualified name, without template arguments.
fn base(arguments: &str) -> &str {
    let outer = arguments.split('<').next().unwrap_or(arguments);
    outer.rsplit("::").next().unwrap_or(outer)
}

#[cfg(test)]
mod tests {
    use super::{arguments, base, normalised};

    #[test]
    fn casts_of_template_arguments_and_blanks_do_not_count() {
        assert_eq!(
            normalised("void mul_mat_q<(ggml_type)8, (int)128, (bool)0>(const char *, int)"),
            normalised("void mul_mat_q<8, 128, 0>(const char *, int)")
        );
        assert_ne!(normalised("k<(int)8>(int)"), normalised("k<(int)16>(int)"));
        // A function type is not a cast.
        assert_eq!(normalised("k<(lambda)>(int)"), "k<(lambda)>(int)");
    }

    #[test]
    fn return_types_and_parameters_are_cut_off() {
        for (name, with_arguments, alone) in [
            ("void ns::k<int, 4>(T1 *)", "ns::k<int,4>", "k"),
            ("enable_if<!T7, void>::type kernel<int, f<g>>(T13)", "kernel<int,f<g>>", "kernel"),
            ("void at::<unnamed>::softmax<(int)4>(float *)", "at::{unnamed}::softmax<4>", "softmax"),
            ("void (anonymous namespace)::plain(int)", "{unnamed}::plain", "plain"),
            ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
        ] {
            assert_eq!((arguments(name).as_str(), base(&arguments(name))), (with_arguments, alone), "{name}");
        }
    }
}
