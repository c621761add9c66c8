//! Collects what a subject is made of, and refuses values that are none.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::merge;
use crate::compare::subject::{MeasureValues, Outcomes, Subject, SubjectKind};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::stats::summary::{self, Summary};

/// Relative difference between the mean of the values and the mean the source states that is worth a word.
const MEAN_TOLERANCE: f64 = 1e-3;

/// Longest text of a fact; a fact names something, it does not hold it.
const FACT_LIMIT: usize = 200;

/// The values of one measure as a source gives them.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// As found: what is not finite or negative is refused here and counted.
    pub(super) values: Vec<f64>,
    /// Each value comes from a process of its own.
    pub(super) own_process_each: bool,
    /// What the source says of them.
    pub(super) reported: Option<Summary>,
}

impl Series {
    pub(super) fn of(name: &'static str, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name, unit, values, ..Self::default() }
    }
    /// One value, where there is one.
    pub(super) fn one(name: &'static str, unit: &'static str, value: Option<f64>) -> Self {
        Self::of(name, unit, value.into_iter().collect())
    }
    pub(super) fn reported(mut self, reported: Option<Summary>) -> Self {
        self.reported = reported;
        self
    }
}

/// One result of a file: a test, a request rate, a command.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Its case where the source names one.
    pub(super) case: Option<String>,
    /// Otherwise what may tell it from the other results of the file: name and value.
    pub(super) tells: Vec<(&'static str, String)>,
    /// What was run.
    pub(super) facts: BTreeMap<String, Option<String>>,
    /// What was run and always belongs to the case.
    pub(super) case_facts: BTreeMap<String, Option<String>>,
    pub(super) series: Vec<Series>,
    pub(super) outcomes: Outcomes,
}

impl Entry {
    pub(super) fn fact(&mut self, name: &str, value: Option<String>) {
        self.facts.insert(clipped(name), value.map(|text| clipped(&text)));
    }
    pub(super) fn case_fact(&mut self, name: &str, value: Option<String>) {
        self.case_facts.insert(name.to_owned(), value.map(|text| clipped(&text)));
    }
}

/// Text short enough for a fact, without line ends.
pub(super) fn clipped(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= FACT_LIMIT {
        return text.chars().map(clean).collect();
    }
    text.chars().take(FACT_LIMIT).map(clean).chain(['…']).collect()
}

/// A subject in the making.
#[derive(Debug)]
pub(super) struct Builder {
    subject: Subject,
    diagnostics: Diagnostics,
    /// Row of each measure of each case: a file may hold any number of them.
    places: FxHashMap<(Option<String>, &'static str), usize>,
}

/// A case and what was run in it.
type CaseFacts = (Option<String>, BTreeMap<String, Option<String>>);

impl Builder {
    pub(super) fn new(kind: SubjectKind, label: &str, tool: &str) -> Self {
        let subject = Subject {
            label: clipped(label),
            kind,
            tool: clipped(tool),
            run_ids: Vec::new(),
            files: Vec::new(),
            facts: BTreeMap::new(),
            measures: Vec::new(),
            operators: Vec::new(),
            outcomes: Outcomes::default(),
            validity: Validity::from_reasons(Vec::new()),
            price_usd_per_hour: None,
            power_w: None,
            diagnostics: Vec::new(),
        };
        Self { subject, diagnostics: Diagnostics::default(), places: FxHashMap::default() }
    }

    /// What has no rule of its own here.
    pub(super) fn subject(&mut self) -> &mut Subject {
        &mut self.subject
    }

    pub(super) fn fact(&mut self, name: &str, value: Option<String>) {
        self.subject.facts.insert(name.to_owned(), value.map(|text| clipped(&text)));
    }

    pub(super) fn case_fact(&mut self, case: &str, name: &str, value: Option<String>) {
        self.fact(&case_fact_name(case, name), value);
    }

    pub(super) fn note(&mut self, code: &str, severity: Severity, first: String) {
        self.diagnostics.note(code, severity, first);
    }

    pub(super) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.diagnostics.extend(diagnostics);
    }

    /// Adds the values of one measure of process `run`; what is no value is counted in a diagnostic.
    pub(super) fn series(&mut self, case: Option<&str>, series: &Series, run: u32) {
        let good = |value: &f64| value.is_finite() && *value >= 0.0;
        let refused = series.values.iter().filter(|value| !good(value)).count();
        if refused > 0 {
            let first = series.values.iter().copied().find(|value| !good(value)).unwrap_or(f64::NAN);
            let what = if first < 0.0 { first.to_string() } else { "not a number".to_owned() };
            let place = case.map_or_else(String::new, |case| format!(" of `{case}`"));
            self.diagnostics.push(Diagnostic {
                code: "value_not_taken".to_owned(),
                severity: Severity::Warn,
                count: refused as u64,
                first: format!(
                    "`{}`{place}: {refused} of {} values are missing, not finite or negative and were left out (the first is {what})",
                    series.name,
                    series.values.len()
                ),
            });
        }
        let values: Vec<f64> = series.values.iter().copied().filter(good).collect();
        let reported =
            series.reported.clone().map(sane).filter(|summary| summary.mean.is_some() || summary.p50.is_some());
        if values.is_empty() && reported.is_none() {
            return;
        }
        if let (Some(mean), Some(stated)) = (summary::mean(&values), reported.as_ref().and_then(|summary| summary.mean))
            && (mean - stated).abs() > MEAN_TOLERANCE * stated.abs()
        {
            self.diagnostics.note(
                "summary_differs",
                Severity::Warn,
                format!(
                    "`{}`: the mean of the {} values is {mean:.4} {}, but the file itself states {stated:.4}; the values are used",
                    series.name,
                    values.len(),
                    series.unit
                ),
            );
        }
        let first_run = run;
        let runs = (0..values.len() as u32)
            .map(|index| if series.own_process_each { first_run.saturating_add(index) } else { first_run });
        let measures = &mut self.subject.measures;
        let place = *self.places.entry((case.map(str::to_owned), series.name)).or_insert(measures.len());
        if let Some(known) = measures.get_mut(place) {
            known.runs.extend(runs);
            known.values.extend(values);
            if !known.values.is_empty() {
                known.reported = None;
            }
        } else {
            let reported = if values.is_empty() { reported } else { None };
            measures.push(MeasureValues {
                case: case.map(str::to_owned),
                name: series.name.to_owned(),
                unit: series.unit.to_owned(),
                runs: runs.collect(),
                values,
                blocks: Vec::new(),
                reported,
            });
        }
    }

    /// Adds results: names their cases, numbers repeats of one case as processes of their own, and states each fact once where all agree.
    pub(super) fn entries(&mut self, entries: Vec<Entry>) {
        let cases = case_names(&entries);
        let facts: Vec<CaseFacts> =
            cases.iter().cloned().zip(entries.iter().map(|entry| entry.facts.clone())).collect();
        self.facts_of_cases(&facts);
        let mut met: BTreeMap<Option<String>, u32> = BTreeMap::new();
        for (case, entry) in cases.into_iter().zip(entries) {
            for (name, value) in &entry.case_facts {
                let name = case.as_ref().map_or_else(|| name.clone(), |case| case_fact_name(case, name));
                self.agreed_fact(name, value.clone());
            }
            let run = *met.entry(case.clone()).and_modify(|run| *run += 1).or_insert(0);
            for series in &entry.series {
                self.series(case.as_deref(), series, run);
            }
            let (sum, more) = (&mut self.subject.outcomes, entry.outcomes);
            *sum = merge::sum_outcomes(*sum, more);
        }
    }

    /// A fact that all results share is one of the subject; others belong to their cases.
    fn facts_of_cases(&mut self, entries: &[CaseFacts]) {
        let names: BTreeSet<&String> = entries.iter().flat_map(|(_, facts)| facts.keys()).collect();
        for name in names {
            let of = |facts: &BTreeMap<String, Option<String>>| facts.get(name).cloned().flatten();
            let first = entries.first().and_then(|(_, facts)| of(facts));
            let shared = entries.iter().all(|(_, facts)| of(facts) == first);
            if shared {
                self.fact(name, first);
                continue;
            }
            for (case, facts) in entries {
                let name = case.as_ref().map_or_else(|| name.clone(), |case| case_fact_name(case, name));
                self.agreed_fact(name, of(facts));
            }
        }
    }

    /// A fact stated more than once: null, with a word on it, where the statements differ.
    fn agreed_fact(&mut self, name: String, value: Option<String>) {
        match self.subject.facts.get(&name) {
            Some(known) if *known != value => {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
                let first = format!("`{name}` is {} and {}; it was left open", text(known), text(&value));
                self.diagnostics.note("facts_disagree", Severity::Warn, first);
                self.subject.facts.insert(name, None);
            }
            Some(_) => {}
            None => self.fact(&name, value),
        }
    }

    pub(super) fn finish(mut self) -> Subject {
        self.subject.diagnostics = self.diagnostics.into_vec();
        self.subject
    }
}

/// `case:NAME.fact`.
pub(super) fn case_fact_name(case: &str, name: &str) -> String {
    format!("case:{}.{name}", clipped(case))
}

/// A summary with what is not finite or negative as null.
fn sane(summary: Summary) -> Summary {
    let keep = |value: Option<f64>| value.filter(|value| value.is_finite() && *value >= 0.0);
    Summary {
        mean: keep(summary.mean),
        std: keep(summary.std),
        min: keep(summary.min),
        p50: keep(summary.p50),
        p90: keep(summary.p90),
        p95: keep(summary.p95),
        p99: keep(summary.p99),
        max: keep(summary.max),
        ci95: summary.ci95.filter(|[low, high]| low.is_finite() && high.is_finite()),
        ..summary
    }
}

/// The case of each entry: as the source names it, else what differs between the entries, else none.
fn case_names(entries: &[Entry]) -> Vec<Option<String>> {
    let names: BTreeSet<&str> = entries.iter().flat_map(|entry| entry.tells.iter().map(|(name, _)| *name)).collect();
    let value = |entry: &'_ Entry, name: &str| -> Option<String> {
        entry.tells.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let differing: BTreeSet<&str> = names
        .into_iter()
        .filter(|name| {
            let first = entries.first().and_then(|entry| value(entry, name));
            entries.iter().any(|entry| value(entry, name) != first)
        })
        .collect();
    let suffix = |entry: &Entry| -> String {
        let parts: Vec<String> = entry
            .tells
            .iter()
            .filter(|(name, _)| differing.contains(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        parts.join(" ")
    };
    entries
        .iter()
        .map(|entry| {
            let suffix = suffix(entry);
            match (&entry.case, suffix.is_empty()) {
                (Some(case), true) => Some(clipped(case)),
                (Some(case), false) => Some(clipped(&format!("{case} {suffix}"))),
                (None, true) => None,
                (None, false) => Some(clipped(&suffix)),
            }
        })
        .collect()
}
