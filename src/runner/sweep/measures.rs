//! The measures a point can be judged by, for each command that can run one.

use std::collections::BTreeMap;

use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::record::load::outcome::Outcome;
use crate::record::sweep::CaseResult;
use crate::runner::load::summary as load;
use crate::runner::summary as stage1;
use crate::stats::summary::Summary;

/// Figures of a stage of a load test that are one number, beside its measures.
const LOAD_FIGURES: [&str; 5] = ["request_per_s", "output_tok_per_s", "total_tok_per_s", "goodput_per_s", "error_rate"];

/// Names of the measures of a run of `command`.
pub fn measures_of(command: &str) -> Vec<&'static str> {
    match command {
        "load" => LOAD_FIGURES.into_iter().chain(load::MEASURES).collect(),
        _ => stage1::MEASURES.to_vec(),
    }
}

/// Measures that maps are drawn of where nothing is looked for.
pub(super) fn usual_maps(command: &str) -> [&'static str; 2] {
    match command {
        "load" => ["output_tok_per_s", "ttft_ms"],
        _ => ["prefill_tok_per_s", "decode_tok_per_s"],
    }
}

/// What a load test says of its point: the measures of its best stage, and the rates and the share of errors there; `None` where no request
/// succeeded.
///
/// Where no stage is called the best, since none is VALID or none kept the service level, it is the one with the most output tokens per second.
pub fn load_result(metrics: &LoadMetrics) -> Option<CaseResult> {
    let stage = best_stage(metrics)?;
    let mut measures: BTreeMap<String, Summary> = BTreeMap::new();
    for (name, distribution) in stage.measures.iter().filter(|(_, distribution)| distribution.summary.n > 0) {
        measures.insert(name.clone(), distribution.summary.clone());
    }
    let figures = [
        ("req/s", stage.rates.request_per_s),
        ("tok/s", stage.rates.output_tok_per_s),
        ("tok/s", stage.rates.total_tok_per_s),
        ("req/s", stage.goodput_per_s),
        ("ratio", stage.error_rate),
    ];
    for (name, (unit, value)) in LOAD_FIGURES.into_iter().zip(figures) {
        if let Some(value) = value {
            measures.insert(name.to_owned(), Summary::from_values(unit, &[value]));
        }
    }
    Some(CaseResult { case: stage.plan.label.clone(), measures })
}

fn best_stage(metrics: &LoadMetrics) -> Option<&StageBlock> {
    let succeeded = || metrics.stages.iter().filter(|stage| stage.outcomes.contains_key(Outcome::Ok.name()));
    let named = metrics.saturation.as_ref().and_then(|saturation| saturation.best.as_ref());
    let best = named.and_then(|best| succeeded().find(|stage| stage.plan.label == best.stage));
    let rate =
        |stage: &StageBlock| (stage.rates.output_tok_per_s.unwrap_or(-1.0), stage.rates.request_per_s.unwrap_or(-1.0));
    let order = |a: &&StageBlock, b: &&StageBlock| {
        let ((tokens_a, requests_a), (tokens_b, requests_b)) = (rate(a), rate(b));
        tokens_a.total_cmp(&tokens_b).then(requests_a.total_cmp(&requests_b))
    };
    best.or_else(|| succeeded().max_by(order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::row::RequestRow;
    use crate::runner::load::summary::{Extras, summarize};
    use crate::runner::load::testing::{closed, context, even, failed, stage, ttft_level};

    /// A run of stages of 20 requests each of 5 tokens 10 ms apart, at so many in flight; the answers come later the more there are.
    fn run(levels: &[u32], limit_ms: Option<f64>) -> LoadMetrics {
        let mut all: Vec<RequestRow> = Vec::new();
        let mut records = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            let sent = |id: u64| id / u64::from(*level) * 200;
            let mut rows: Vec<RequestRow> =
                (0..20).map(|id| even(id, sent(id), 50 + u64::from(*level), 10, 5)).collect();
            for row in &mut rows {
                row.stage = index as u32;
            }
            records.push(stage(closed(*level), &rows));
            all.extend(rows);
        }
        let mut context = context(records);
        context.levels = limit_ms.map(ttft_level).into_iter().collect();
        summarize(&context, &all, &Extras { status: "complete", ..Extras::default() })
    }

    #[test]
    fn a_point_has_the_measures_and_rates_of_the_best_stage() {
        let result = load_result(&run(&[1, 2, 4], None)).unwrap();
        assert_eq!(result.case, "c=4");
        // The last of 5 rounds of 4 begins at 800 ms and ends 54 + 40 + 1 ms later.
        assert!((result.measures["request_per_s"].p50.unwrap() - 20.0 / 0.895).abs() < 1e-9);
        assert!((result.measures["output_tok_per_s"].p50.unwrap() - 100.0 / 0.895).abs() < 1e-9);
        assert_eq!((result.measures["ttft_ms"].p50, result.measures["ttft_ms"].n), (Some(54.0), 20));
        assert_eq!(result.measures["error_rate"].p50, Some(0.0));
        assert!(!result.measures.contains_key("goodput_per_s"), "no level was given");
        assert!(!result.measures.contains_key("connect_ms"), "nothing was measured");
    }

    #[test]
    fn a_level_that_nothing_keeps_leaves_the_fastest_stage_with_a_goodput_of_none() {
        let metrics = run(&[1, 4], Some(10.0));
        assert_eq!(metrics.saturation.as_ref().unwrap().best, None);
        let result = load_result(&metrics).unwrap();
        assert_eq!((result.case.as_str(), result.measures["goodput_per_s"].p50), ("c=4", Some(0.0)));
    }

    #[test]
    fn without_a_success_there_is_no_result() {
        let rows: Vec<RequestRow> =
            (0..4).map(|id| failed(id, id * 10, Outcome::ConnectError, "refused", "connection refused")).collect();
        let context = context(vec![stage(closed(1), &rows)]);
        assert_eq!(load_result(&summarize(&context, &rows, &Extras { status: "complete", ..Extras::default() })), None);
    }

    #[test]
    fn every_measure_of_a_result_can_be_looked_for() {
        let known = measures_of("load");
        let result = load_result(&run(&[2], Some(100.0))).unwrap();
        assert!(result.measures.keys().all(|name| known.contains(&name.as_str())), "{:?}", result.measures.keys());
        assert!(known.contains(&"goodput_per_s") && !known.contains(&"decode_tok_per_s"));
    }
}
