//! The kernel classifier against names from real traces and sources, labelled by what the kernels do.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use perfprof::analysis::classify::{Classifier, KernelClass};

struct Labelled {
    name: String,
    class: String,
    set: String,
}

fn labelled() -> Vec<Labelled> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kernel_names.tsv");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields.len(), 4, "{line}");
            Labelled { name: fields[0].to_owned(), class: fields[1].to_owned(), set: fields[3].to_owned() }
        })
        .collect()
}

#[test]
fn every_label_is_a_class_and_no_name_is_listed_twice() {
    let classes: BTreeSet<&str> = KernelClass::ALL.iter().map(|class| class.name()).collect();
    let mut names = BTreeSet::new();
    for row in labelled() {
        assert!(classes.contains(row.class.as_str()), "{}: {}", row.name, row.class);
        assert!(names.insert(row.name.clone()), "{} is there twice", row.name);
    }
    assert!(names.len() >= 1200, "{}", names.len());
}

#[test]
fn known_kernels_are_classified_right_or_not_at_all() {
    let classifier = Classifier::builtin();
    let (mut wrong, mut unknown, mut known) = (Vec::new(), Vec::new(), 0);
    for row in labelled() {
        let got = classifier.classify(&row.name, &row.name);
        let entry = format!("{:<20} {:<20} {:<28} {}", row.class, got.class, got.rule.unwrap_or_default(), &row.name);
        match (got.class.name(), row.class.as_str()) {
            (got, label) if got == label => known += usize::from(label != "unclassified"),
            ("unclassified", _) => unknown.push((row.set, entry)),
            _ => wrong.push((row.set, entry)),
        }
    }
    let total = labelled().iter().filter(|row| row.class != "unclassified").count();
    for (set, entry) in wrong.iter().chain(&unknown) {
        eprintln!("{set:<10} {entry}");
    }
    eprintln!("{known} right, {} wrong, {} unclassified of {total}", wrong.len(), unknown.len());
    assert!(wrong.is_empty(), "{} names are of the wrong class", wrong.len());
    assert!(known * 100 >= total * 98, "only {known} of {total} names are classified");
}

#[test]
fn every_rule_has_its_own_id_and_decides_some_name() {
    let classifier = Classifier::builtin();
    let mut decided: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in Classifier::rules() {
        assert!(decided.insert(rule.id, 0).is_none(), "{} is the id of two rules", rule.id);
    }
    for row in labelled() {
        if let Some(rule) = classifier.classify(&row.name, &row.name).rule {
            *decided.get_mut(rule.as_str()).unwrap() += 1;
        }
    }
    let idle: Vec<_> = decided.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    assert!(idle.is_empty(), "rules no listed name needs: {idle:?}");
}

#[test]
fn hostile_names_are_classified_without_harm() {
    let classifier = Classifier::builtin();
    let names = [
        String::new(),
        "\0".repeat(1000),
        "<".repeat(100_000),
        "(".repeat(100_000),
        "a<".repeat(50_000),
        "_ZN".repeat(30_000),
        "é".repeat(50_000),
        "void cutlass::device_kernel<".repeat(4_000),
        "\u{202e}gemm\u{0}kernel<int)>(".to_owned(),
        format!("{}<{}>", "k".repeat(60_000), "::{lambda(".repeat(4_000)),
    ];
    for name in &names {
        let classified = classifier.classify(name, name);
        assert!(classified.traits.dtypes.len() <= 8);
        assert!(perfprof::analysis::kernel_names::shorten(name).chars().count() <= 100);
    }
}

#[test]
fn no_listed_name_shortens_to_what_launches_it() {
    for row in labelled() {
        let short = perfprof::analysis::kernel_names::shorten(&row.name);
        assert!(short.chars().count() <= 100 && !short.is_empty(), "{}: {short}", row.name);
        assert!(!short.contains("namespace)") && !short.contains("<unnamed>"), "{short}");
        if row.name != short {
            assert!(
                !["Kernel2", "Kernel", "device_kernel", "kernel", "kentry"].contains(&short.as_str()),
                "{}",
                row.name
            );
        }
    }
}
