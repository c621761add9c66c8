//! `--benchmark_format=json` of google-benchmark: mean times of an iteration, one value for each repetition.

use std::collections::BTreeMap;

use serde_json::Value;

use super::builder::{Entry, Series};
use super::json;
use crate::compare::subject::{Outcomes, fact};

pub(super) fn entries(documents: &[Value]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: BTreeMap<(Option<String>, String), usize> = BTreeMap::new();
    for document in documents {
        let context = document.get("context").unwrap_or(&Value::Null);
        let host = context.to_string();
        for row in json::list(document, "benchmarks").unwrap_or_default() {
            // Aggregates (mean, median, stddev) repeat what the repetitions say.
            if json::text(row, "run_type") == Some("aggregate") {
                continue;
            }
            let name = json::text(row, "run_name").or_else(|| json::text(row, "name")).unwrap_or("unnamed").to_owned();
            let next = entry(row, context, name);
            // Repetitions come from one process.
            let place = *places.entry((next.case.clone(), host.clone())).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(known) => join(known, next),
                None => entries.push(next),
            }
        }
    }
    entries
}

fn entry(row: &Value, context: &Value, name: String) -> Entry {
    let mut entry = Entry { case: Some(name), ..Entry::default() };
    entry.fact(
        fact::HOST,
        context.get("host_name").and_then(json::scalar).map(|name| {
            // The name itself says more about the user than a comparison needs.
            crate::record::manifest::sha256_hex(name.as_bytes())[..16].to_owned()
        }),
    );
    entry.fact("cpus", context.get("num_cpus").and_then(json::scalar));
    entry.fact(fact::CLOCK_MHZ, context.get("mhz_per_cpu").and_then(json::scalar));
    entry.fact("cpu_scaling_enabled", context.get("cpu_scaling_enabled").and_then(json::scalar));
    entry.fact("library_build_type", context.get("library_build_type").and_then(json::scalar));
    entry.case_fact("benchmark_threads", row.get("threads").and_then(json::scalar));
    if row.get("error_occurred").and_then(Value::as_bool) == Some(true)
        || row.get("skipped").is_some_and(|s| !s.is_null() && s != false)
    {
        entry.outcomes = Outcomes { failed: 1, ..Outcomes::default() };
        return entry;
    }
    entry.outcomes = Outcomes { ok: 1, ..Outcomes::default() };
    let scale = match json::text(row, "time_unit") {
        None | Some("ns") => Some(1.0),
        Some("us") => Some(1e3),
        Some("ms") => Some(1e6),
        Some("s") => Some(1e9),
        Some(_) => None,
    };
    for (key, name) in [("real_time", "real_time_ns"), ("cpu_time", "cpu_time_ns")] {
        let value = json::number(row, key).zip(scale).map(|(value, scale)| value * scale);
        entry.series.push(Series::one(name, "ns", value));
    }
    for (key, name, unit) in
        [("items_per_second", "items_per_s", "items/s"), ("bytes_per_second", "bytes_per_s", "B/s")]
    {
        entry.series.push(Series::one(name, unit, json::number(row, key)));
    }
    entry
}

fn join(known: &mut Entry, next: Entry) {
    known.outcomes = super::merge::sum_outcomes(known.outcomes, next.outcomes);
    for series in next.series {
        match known.series.iter_mut().find(|known| known.name == series.name) {
            Some(known) => known.values.extend(series.values),
            None => known.series.push(series),
        }
    }
}
