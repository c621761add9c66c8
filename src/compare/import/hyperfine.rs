//! `hyperfine --export-json`: wall times of whole commands, each run a process of its own.

use serde_json::Value;

use super::builder::{Entry, Series};
use super::definition;
use super::json;
use crate::compare::subject::Outcomes;
use crate::stats::summary::Summary;

pub(super) fn entries(documents: &[Value]) -> Vec<Entry> {
    documents.iter().flat_map(|document| json::list(document, "results").unwrap_or_default()).map(entry).collect()
}

fn entry(value: &Value) -> Entry {
    let mut entry = Entry::default();
    let command = json::text(value, "command");
    entry.tells = command.map(|command| ("command", command.to_owned())).into_iter().collect();
    // With the parameters alone a swept command still has a name.
    entry.fact("command", command.map(str::to_owned));
    if let Some(Value::Object(parameters)) = value.get("parameters") {
        for (name, value) in parameters.iter().take(16) {
            entry.fact(&format!("parameter.{name}"), json::scalar(value));
        }
    }
    entry.fact(definition::TOTAL, Some("wall time of a whole process, start and end included".to_owned()));
    let times = json::list(value, "times").unwrap_or_default();
    let codes = json::list(value, "exit_codes").unwrap_or_default();
    // Null is a run that a signal ended. A file without exit codes has aborted on the first failure.
    let good = |index: usize| codes.get(index).is_none_or(|code| code.as_i64() == Some(0));
    let of_good = |list: &[Value], scale: f64| -> Vec<f64> {
        let kept = list.iter().enumerate().filter(|(index, _)| good(*index));
        kept.map(|(_, value)| json::element(value) * scale).collect()
    };
    let ok = (0..times.len()).filter(|index| good(*index)).count() as u64;
    entry.outcomes = Outcomes { ok, failed: times.len() as u64 - ok, ..Outcomes::default() };
    let seconds = |key: &str| json::number(value, key);
    let reported = seconds("mean").filter(|_| entry.outcomes.failed == 0).map(|mean| Summary {
        unit: "s".to_owned(),
        n: ok,
        mean: Some(mean),
        std: seconds("stddev"),
        min: seconds("min"),
        p50: seconds("median"),
        max: seconds("max"),
        ..Summary::default()
    });
    let each = |series: Series| Series { own_process_each: true, ..series };
    entry.series.push(each(Series::of("wall_s", "s", of_good(times, 1.0)).reported(reported)));
    if let Some(memory) = json::list(value, "memory_usage_byte") {
        entry.series.push(each(Series::of("peak_rss_bytes", "bytes", of_good(memory, 1.0))));
    }
    for (key, name) in [("user", "cpu_user_s"), ("system", "cpu_system_s")] {
        let mean =
            seconds(key).map(|mean| Summary { unit: "s".to_owned(), n: ok, mean: Some(mean), ..Summary::default() });
        entry.series.push(Series::of(name, "s", Vec::new()).reported(mean));
    }
    entry
}
