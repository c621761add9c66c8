//! Operator tables made by hand.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::attribute_operators;
use super::test_traces::{assert_sums, changed};
use crate::compare::result::{Attribution, ChangeKind};
use crate::compare::subject::{MeasureValues, OperatorTime, Outcomes, Subject, SubjectKind};
use crate::diagnostics::Validity;

/// Repeats in which operators were counted.
const REPEATS: u64 = 4;

fn operator(phase: &str, name: &str, class: &str, layer: Option<u32>, calls: u64, us_per_repeat: u64) -> OperatorTime {
    OperatorTime {
        case: None,
        phase: phase.to_owned(),
        layer,
        module: None,
        class: class.to_owned(),
        name: name.to_owned(),
        shape: None,
        repeats: REPEATS,
        calls: calls * REPEATS,
        total_ns: us_per_repeat * 1_000 * REPEATS,
    }
}

fn subject(label: &str, operators: Vec<OperatorTime>, measures: &[(&str, &[f64])]) -> Subject {
    let measures = measures
        .iter()
        .map(|(name, values)| MeasureValues {
            name: (*name).to_owned(),
            unit: "ms".to_owned(),
            values: values.to_vec(),
            ..MeasureValues::default()
        })
        .collect();
    Subject {
        label: label.to_owned(),
        kind: SubjectKind::Stage1,
        tool: "perfprof".to_owned(),
        run_ids: Vec::new(),
        files: Vec::new(),
        facts: BTreeMap::new(),
        measures,
        operators,
        outcomes: Outcomes::default(),
        validity: Validity::from_reasons(Vec::new()),
        price_usd_per_hour: None,
        power_w: None,
        diagnostics: Vec::new(),
    }
}

fn one(a: &Subject, b: &Subject) -> Attribution {
    let mut found = attribute_operators(a, b);
    assert_eq!(found.len(), 1);
    assert_sums(&found[0]);
    found.remove(0)
}

fn unfused() -> Vec<OperatorTime> {
    vec![
        operator("decode", "input_layernorm", "norm", None, 22, 50),
        operator("decode", "q_proj", "linear", None, 22, 300),
        operator("decode", "k_proj", "linear", None, 22, 100),
        operator("decode", "v_proj", "linear", None, 22, 100),
        operator("decode", "self_attn", "attention", None, 22, 200),
        operator("decode", "residual", "elementwise", None, 44, 40),
        operator("decode", "gate_proj", "linear", None, 22, 800),
        operator("decode", "up_proj", "linear", None, 22, 800),
        operator("decode", "act_fn", "activation", None, 22, 60),
        operator("decode", "down_proj", "linear", None, 22, 900),
    ]
}

fn fused() -> Vec<OperatorTime> {
    vec![
        operator("decode", "input_layernorm", "norm", None, 22, 60),
        operator("decode", "qkv_proj", "linear", None, 22, 400),
        operator("decode", "self_attn", "attention", None, 22, 200),
        operator("decode", "gate_up_proj", "linear", None, 22, 1_200),
        operator("decode", "down_proj", "linear", None, 22, 700),
    ]
}

#[test]
fn fused_operators_stand_against_the_parts_they_replace() {
    let found = one(&subject("reference", unfused(), &[]), &subject("fused", fused(), &[]));
    let rows: Vec<(String, String, f64)> = changed(&found)
        .iter()
        .map(|row| {
            let before = row.baseline_kernel.clone().unwrap_or_default();
            (before, row.kernel.clone().unwrap(), row.delta_ns)
        })
        .collect();
    let expected = [
        ("gate_proj + up_proj + act_fn", "gate_up_proj", -460_000.0),
        ("", "down_proj", -200_000.0),
        ("q_proj + k_proj + v_proj", "qkv_proj", -100_000.0),
        ("input_layernorm + residual", "input_layernorm", -30_000.0),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(a, b, ns)| (a.to_owned(), b.to_owned(), ns)).collect();
    assert_eq!(rows, expected);
    assert!(found.rows.iter().all(|row| !matches!(row.change, ChangeKind::New | ChangeKind::Gone)));
    assert!(found.diagnostics.iter().any(|diagnostic| diagnostic.code == "phase_time_missing"));
}

#[test]
fn what_operators_do_not_explain_is_its_own_row() {
    let slow = vec![operator("decode", "down_proj", "linear", None, 22, 1_000)];
    let fast = vec![operator("decode", "down_proj", "linear", None, 22, 900)];
    let a = subject("a", fast, &[("decode_ms", &[1.0, 1.1, 1.2])]);
    let b = subject("b", slow, &[("decode_ms", &[1.4, 1.5, 1.9])]);
    let found = one(&a, &b);
    // Medians 1.1 and 1.5 ms; operators 0.9 and 1.0 ms; 0.2 and 0.5 ms remain.
    let decode = &found.phases[0];
    assert!((decode.delta_ns - 400_000.0).abs() < 1e-3 && decode.delta_ci95_ns.is_none());
    let rest = found.rows.iter().find(|row| row.change == ChangeKind::Unattributed).unwrap();
    assert!((rest.delta_ns - 300_000.0).abs() < 1e-3);
    // The larger side has 0.5 of 1.5 ms without a name.
    assert!((found.accounted_share.unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert!(found.sentences[0].contains("too few to tell"), "{:?}", found.sentences);
}

#[test]
fn runs_with_other_numbers_of_repeats_compare_by_repeat() {
    let mut many = unfused();
    for row in &mut many {
        (row.repeats, row.calls, row.total_ns) = (3 * row.repeats, 3 * row.calls, 3 * row.total_ns);
    }
    let found = one(&subject("a", unfused(), &[]), &subject("b", many, &[]));
    assert!(changed(&found).is_empty() && found.rows.iter().all(|row| row.count_delta == 0.0));
}

#[test]
fn layers_are_added_up_and_other_kernels_of_a_module_are_one_row() {
    let layered = |name: &str, us: u64| {
        (0..3)
            .map(|layer| OperatorTime {
                module: Some("mlp.down_proj".to_owned()),
                ..operator("decode", name, "gemm", Some(layer), 1, us)
            })
            .collect::<Vec<_>>()
    };
    let found = one(&subject("a", layered("Cijk_A", 10), &[]), &subject("b", layered("sm90_gemm", 12), &[]));
    assert_eq!(found.rows.len(), 1);
    let row = &found.rows[0];
    assert_eq!((row.baseline_kernel.as_deref(), row.kernel.as_deref()), (Some("Cijk_A"), Some("sm90_gemm")));
    assert_eq!((row.layer, row.baseline_calls, row.matched_by.as_str()), (None, 3.0, "same module, other kernel"));
    assert!((row.delta_ns - 6_000.0).abs() < 1e-6);
}

#[test]
fn cases_are_held_against_their_own() {
    let of_case = |case: &str, us: u64| OperatorTime {
        case: Some(case.to_owned()),
        ..operator("prefill", "q_proj", "linear", None, 1, us)
    };
    let a = subject("a", vec![of_case("p128", 10), of_case("p512", 40)], &[]);
    let b = subject("b", vec![of_case("p128", 11), of_case("p512", 44), of_case("p9", 1)], &[]);
    let found = attribute_operators(&a, &b);
    let deltas: Vec<(Option<&str>, f64)> =
        found.iter().map(|one| (one.case.as_deref(), one.phases[0].delta_ns)).collect();
    assert_eq!(deltas, [(Some("p128"), 1_000.0), (Some("p512"), 4_000.0)]);
    assert!(attribute_operators(&a, &subject("c", Vec::new(), &[])).is_empty());
}

#[test]
fn a_table_that_does_not_say_its_repeats_is_left_out_with_a_word() {
    let mut rows = unfused();
    rows[0].repeats = 0;
    let found = one(&subject("a", rows, &[]), &subject("b", unfused(), &[]));
    assert!(found.diagnostics.iter().any(|diagnostic| diagnostic.code == "operators_without_repeats"));
    assert!(found.rows.iter().all(|row| row.baseline_ns.is_finite()));
}

fn any_operators() -> impl Strategy<Value = Vec<OperatorTime>> {
    let names = [
        "q_proj",
        "k_proj",
        "v_proj",
        "qkv_proj",
        "input_layernorm",
        "residual",
        "act_fn",
        "gate_up_proj",
        "up_proj",
        "lm_head",
    ];
    let phase = prop::sample::select(vec!["prefill", "decode"]);
    let class = prop::sample::select(vec!["linear", "norm"]);
    let row = (
        phase,
        prop::sample::select(names.to_vec()),
        class,
        prop::option::of(0_u32..3),
        0_u64..5,
        0_u64..900,
        1_u64..4,
    );
    let row = row.prop_map(|(phase, name, class, layer, calls, us, repeats)| OperatorTime {
        repeats,
        ..operator(phase, name, class, layer, calls, us)
    });
    prop::collection::vec(row, 1..20)
}

proptest! {
    #[test]
    fn parts_of_any_tables_add_up_and_swapping_turns_the_sign(
        a in any_operators(),
        b in any_operators(),
        times in (0.0_f64..9.0, 0.0_f64..9.0),
    ) {
        let a = subject("a", a, &[("decode_ms", &[times.0])]);
        let b = subject("b", b, &[("decode_ms", &[times.1])]);
        let (there, back) = (one(&a, &b), one(&b, &a));
        for phase in &there.phases {
            let other = back.phases.iter().find(|other| other.phase == phase.phase).unwrap();
            prop_assert!((phase.delta_ns + other.delta_ns).abs() < 1e-3);
        }
        prop_assert!(one(&a, &a).rows.iter().all(|row| row.delta_ns.abs() < 1e-6));
    }
}

#[test]
fn repeats_of_few_processes_are_no_evidence_of_their_own() {
    // Four processes a side, each slow or fast throughout: by their twenty-four repeats the sides would differ beyond doubt.
    let rows = |medians: [f64; 4]| -> (Vec<f64>, Vec<u32>) {
        let values = medians.iter().flat_map(|median| (0..6).map(move |row| median + f64::from(row) * 0.01)).collect();
        (values, (0..24).map(|row| row / 6).collect())
    };
    let side = |label: &str, medians: [f64; 4]| {
        let mut subject =
            subject(label, vec![operator("prefill", "q_proj", "linear", Some(0), 1, 900)], &[("prefill_ms", &[])]);
        (subject.measures[0].values, subject.measures[0].runs) = rows(medians);
        subject
    };
    let found = one(&side("a", [8.0, 8.1, 4.0, 8.2]), &side("b", [4.1, 4.0, 8.0, 4.2]));
    let phase = &found.phases[0];
    assert_eq!(phase.units, [4, 4]);
    let [low, high] = phase.delta_ci95_ns.unwrap();
    assert!(low < 0.0 && high > 0.0, "{phase:?}");
    let text = found.sentences.join("\n");
    assert!(text.contains("is within the noise of the processes") && text.contains("from 4 and 4 processes"), "{text}");
    // Each within its own process: means of the medians, (8.025 + 8.125 + 4.025 + 8.225) / 4 ms.
    assert!((phase.baseline_ns - 7.1e6).abs() < 1.0, "{phase:?}");
    // A part whose noise nobody knows is no finding where the phase has none.
    assert!(!text.contains("q_proj"), "{text}");
}

#[test]
fn phases_of_blocks_are_told_by_the_differences_within_them() {
    // A machine that is 18 % slower in every second block; the candidate takes 5 ms longer in each.
    let side = |label: &str, longer: f64| {
        let level = |block: u32| if block.is_multiple_of(2) { 77.0 } else { 91.0 };
        let values: Vec<f64> = (0..12)
            .flat_map(|block| [0.0, 0.2].map(|of| level(block) + longer + of + f64::from(block) / 100.0))
            .collect();
        let mut side = subject(label, unfused(), &[("decode_ms", &values)]);
        side.measures[0].blocks = (0..12).flat_map(|block| [block; 2]).collect();
        // Each turn is a process.
        side.measures[0].runs = side.measures[0].blocks.clone();
        side
    };
    let (baseline, candidate) = (side("a", 0.0), side("b", 5.0));
    let found = one(&baseline, &candidate);
    let phase = found.phases.iter().find(|phase| phase.phase == "decode").unwrap();
    assert_eq!(phase.units, [12, 12]);
    assert!((phase.delta_ns - 5e6).abs() < 1.0);
    let [low, high] = phase.delta_ci95_ns.unwrap();
    assert!(low > 4.99e6 && high < 5.01e6, "{low} to {high}");
    assert!(found.sentences.iter().any(|said| said.contains("from 12 blocks")), "{:?}", found.sentences);
    // Without blocks the two speeds of the machine hide it.
    let mut alone = [baseline, candidate];
    for side in &mut alone {
        side.measures[0].blocks.clear();
    }
    let found = one(&alone[0], &alone[1]);
    let [low, high] = found.phases.iter().find(|phase| phase.phase == "decode").unwrap().delta_ci95_ns.unwrap();
    assert!(low < 0.0 && high > 0.0, "{low} to {high}");
}
