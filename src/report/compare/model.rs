//! What the report of `perfprof compare` and `perfprof ab` is rendered from. Values only: nothing here is read from a file or measured.

use serde::{Deserialize, Serialize};

use crate::compare::result::CompareMetrics;
use crate::compare::subject::{MeasureValues, Subject};
use crate::report::model::AssumptionSection;

/// Values kept of one measure of one case of one subject: more marks than a chart can tell apart would only make the page heavy.
pub const VALUES_KEPT: usize = 500;

/// The values of one measure of one case of one subject, thinned evenly where there were many.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// Label of the subject.
    pub label: String,
    /// Case; null where there is one only or none.
    pub case: Option<String>,
    /// Name of the measure.
    pub measure: String,
    /// Unit of the values.
    pub unit: String,
    /// Values in the order they were measured.
    pub values: Vec<f64>,
    /// For each value the process that measured it; empty where that is not known.
    pub runs: Vec<u32>,
    /// For each value its block; empty where the subjects were not interleaved.
    pub blocks: Vec<u32>,
    /// Values there were before any were left out.
    pub total: u64,
}

impl Distribution {
    /// The values of `measure`, at most `limit` of them: of more, every k-th is kept, so that order and shape stay.
    pub fn new(label: &str, measure: &MeasureValues, limit: usize) -> Self {
        let n = measure.values.len();
        let kept: Vec<usize> = if n <= limit {
            (0..n).collect()
        } else {
            (0..limit).map(|at| at.saturating_mul(n) / limit.max(1)).collect()
        };
        // A list that does not go with the values says nothing about them.
        let pick = |all: &[u32]| {
            if all.len() == n { kept.iter().filter_map(|at| all.get(*at).copied()).collect() } else { Vec::new() }
        };
        Self {
            label: label.to_owned(),
            case: measure.case.clone(),
            measure: measure.name.clone(),
            unit: measure.unit.clone(),
            values: kept.iter().filter_map(|at| measure.values.get(*at).copied()).collect(),
            runs: pick(&measure.runs),
            blocks: pick(&measure.blocks),
            total: n as u64,
        }
    }
}

/// The values of every measure of every subject that has any, thinned to [`VALUES_KEPT`].
pub fn distributions(subjects: &[Subject]) -> Vec<Distribution> {
    subjects
        .iter()
        .flat_map(|subject| subject.measures.iter().map(move |measure| (subject, measure)))
        .filter(|(_, measure)| !measure.values.is_empty())
        .map(|(subject, measure)| Distribution::new(&subject.label, measure, VALUES_KEPT))
        .collect()
}

/// Everything the report of a comparison is made from.
#[derive(Debug, Clone, Copy)]
pub struct CompareReport<'a> {
    /// The answer, as written to `metrics.json`.
    pub metrics: &'a CompareMetrics,
    /// The values behind it, see [`distributions`]; empty where the sources give summaries only.
    pub distributions: &'a [Distribution],
    /// Where everything comes from (command line, files, versions, machine): name and text.
    pub provenance: &'a [(String, String)],
    /// Definitions and assumptions beyond those of [`super::assumption_sections`], which every report has.
    pub assumptions: &'a [AssumptionSection],
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_order_and_what_belongs_to_each_value() {
        let measure = MeasureValues {
            name: "tpot_ms".to_owned(),
            values: (0..1000).map(f64::from).collect(),
            runs: (0..1000).map(|at| at / 100).collect(),
            blocks: vec![1, 2],
            ..MeasureValues::default()
        };
        let kept = Distribution::new("a", &measure, 300);
        assert_eq!((kept.values.len(), kept.runs.len(), kept.total), (300, 300, 1000));
        assert!(kept.values.is_sorted() && kept.values[0] == 0.0 && kept.values[299] > 990.0);
        assert!(kept.values.iter().zip(&kept.runs).all(|(value, run)| *value as u32 / 100 == *run));
        assert!(kept.blocks.is_empty(), "two blocks for a thousand values tell nothing");
        assert_eq!(Distribution::new("a", &measure, 5000).values.len(), 1000);
        assert!(Distribution::new("a", &measure, 0).values.is_empty());
    }
}
