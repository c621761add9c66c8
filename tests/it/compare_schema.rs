//! The published schema of `metrics.json` of `compare` and `ab` against the type that writes it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use perfprof::compare::result::CompareMetrics;
use perfprof::diagnostics::{Diagnostic, Severity};
use serde_json::{Value, json};

use crate::compare_sample::{Odd, formats, study};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/metrics.compare.schema.json")).unwrap()
}

/// A document in which every optional value is set.
fn example() -> CompareMetrics {
    let mut metrics = study().metrics;
    metrics.quality = formats().metrics.quality.split_off(3);
    metrics.attribution[0].case = Some("chat-128".to_owned());
    metrics.attribution[0].rows[0].layer = Some(3);
    metrics.attribution[0].rows.truncate(1);
    metrics.attribution[0].phases.truncate(1);
    metrics.attribution[0].diagnostics = vec![Diagnostic::new("few_steps", Severity::Warn, "only three steps")];
    metrics.comparisons = vec![metrics.comparisons.remove(3)];
    metrics.subjects.truncate(1);
    metrics.subjects[0].measures.truncate(1);
    metrics.subjects[0].files = vec!["a.json".to_owned()];
    metrics.cost.truncate(1);
    metrics.cost[0].joule_per_output_token = Some(1.2);
    metrics.cost[0].energy_source = Some("measured".to_owned());
    metrics.differences.truncate(1);
    let study = metrics.study.as_mut().unwrap();
    study.order.truncate(1);
    study.control.truncate(1);
    metrics.gate.as_mut().unwrap().rules.truncate(1);
    metrics
}

/// Pointers of all values in `value`, the outermost first.
fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut inner = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        all.extend(pointers(value).into_iter().map(|rest| format!("/{key}{rest}")));
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inner(key, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value)),
        _ => {}
    }
    all
}

fn errors(document: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_of_comparisons_is_a_schema_and_accepts_what_is_written() {
    assert!(jsonschema::meta::is_valid(&schema()));
    for metrics in [study().metrics, formats().metrics, example()] {
        assert_eq!(errors(&serde_json::to_value(metrics).unwrap()), Vec::<String>::new());
    }
}

#[test]
fn the_schema_of_comparisons_takes_every_word_of_every_vocabulary() {
    // Odd comparisons hold every variant of every enum, in every place, and numbers that no study gives: only the latter are refused.
    let plausible =
        ["minimum", "maximum", "less than", "greater than", "does not match", "shorter than", "not valid under any"];
    for seed in 0..40 {
        let document = serde_json::to_value(Odd::new(seed).sample().metrics).unwrap();
        let wrong: Vec<String> =
            errors(&document).into_iter().filter(|error| !plausible.iter().any(|word| error.contains(word))).collect();
        assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
    }
}

/// Both directions: a field the schema lacks is refused by `additionalProperties`, a field it demands must exist.
#[test]
fn the_schema_of_comparisons_knows_each_field_and_whether_it_may_be_null() {
    const MAPS: [&str; 4] = ["measures", "facts", "variants/0", "warmup_dropped"];
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    let (mut nullable, mut without_default) = (0, 0);
    for pointer in pointers(&document) {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let in_map = MAPS.iter().any(|map| parent.ends_with(map)) || pointer.contains("/variants/");
        if document.pointer(parent).unwrap().is_object() && !in_map {
            let mut without = document.clone();
            without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            // Fields that joined the contract later may be missing in files of before.
            let late = key == "delta_ci95_ns";
            assert_eq!(validator.is_valid(&without), late, "{pointer} left out");
            without_default += u32::from(!late);
            let mut more = document.clone();
            more.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(format!("{key}_x"), Value::Null);
            assert!(!validator.is_valid(&more), "{pointer}_x is accepted");
        }
        let mut null = document.clone();
        *null.pointer_mut(&pointer).unwrap() = Value::Null;
        let by_type = serde_json::from_value::<CompareMetrics>(null.clone()).is_ok();
        assert_eq!(validator.is_valid(&null), by_type, "{pointer}: the type and the schema disagree about null");
        nullable += u32::from(by_type);
    }
    assert!(nullable > 40 && without_default > 120, "{nullable} {without_default}");
}

#[test]
fn broken_comparisons_are_rejected() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    for (pointer, wrong) in [
        ("/schema_version", json!(2)),
        ("/command", json!("stage1")),
        ("/status", json!("running")),
        ("/run_id", json!("../x")),
        ("/validity/reasons", json!(["but VALID"])),
        ("/comparisons/0/verdict", json!("winner")),
        ("/comparisons/0/direction", json!("up")),
        ("/comparisons/0/ci95", json!([1.0])),
        ("/comparisons/0/p_value", json!(1.5)),
        ("/comparisons/0/ratio", json!("NaN")),
        ("/comparisons/0/n", json!([1, 2, 3])),
        ("/comparisons/0/margin", json!(-0.01)),
        ("/differences/0/kind", json!("serious")),
        ("/attribution/0/rows/0/change", json!("moved")),
        ("/attribution/0/rows/0/share", json!(1.5)),
        ("/gate/rules/0/outcome", json!("skipped")),
        ("/gate/passed", json!("yes")),
        ("/subjects/0/kind", json!("guess")),
        ("/subjects/0/outcomes/ok", json!(-1)),
        ("/study/order/0", json!([-1])),
        ("/quality/0/top1_agreement", json!(1.1)),
        ("/diagnostics/0/severity", json!("fatal")),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong.clone();
        assert!(!validator.is_valid(&broken), "{pointer} = {wrong} is accepted");
    }
}

#[test]
fn the_schema_of_comparisons_describes_every_field() {
    fn check(schema: &Value, place: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                if place.ends_with("if") || place.ends_with("then") || place.ends_with("else") {
                    continue;
                }
                assert!(
                    property.get("description").is_some() || property.get("const").is_some(),
                    "{place}/{name} has no description"
                );
            }
        }
        match schema {
            Value::Object(map) => map.iter().for_each(|(key, value)| check(value, &format!("{place}/{key}"))),
            Value::Array(items) => items.iter().for_each(|value| check(value, place)),
            _ => {}
        }
    }
    check(&schema(), "");
}
