//! Subjects for the tests of this module.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;

use super::subject::{MeasureValues, Outcomes, Subject, SubjectKind};
use crate::diagnostics::Validity;

/// A subject that says nothing.
pub(super) fn subject(label: &str) -> Subject {
    Subject {
        label: label.to_owned(),
        kind: SubjectKind::Stage1,
        tool: "perfprof 0.1.0".to_owned(),
        run_ids: vec![format!("run-{label}")],
        files: Vec::new(),
        facts: BTreeMap::new(),
        measures: Vec::new(),
        operators: Vec::new(),
        outcomes: Outcomes { ok: 10, ..Outcomes::default() },
        validity: Validity::from_reasons(Vec::new()),
        price_usd_per_hour: None,
        power_w: None,
        diagnostics: Vec::new(),
    }
}

/// A subject with facts.
pub(super) fn with_facts(label: &str, facts: &[(&str, &str)]) -> Subject {
    let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    Subject { facts, ..subject(label) }
}

/// Rows of one process each.
pub(super) fn measure_of(case: Option<&str>, name: &str, unit: &str, values: &[f64]) -> MeasureValues {
    MeasureValues {
        case: case.map(str::to_owned),
        name: name.to_owned(),
        unit: unit.to_owned(),
        values: values.to_vec(),
        runs: (0..values.len() as u32).collect(),
        blocks: Vec::new(),
        reported: None,
    }
}

/// Log-normal rows: `processes` processes of `rows` rows around `centre`, with a relative spread between processes and one within.
pub(super) struct Simulated {
    pub centre: f64,
    pub processes: u32,
    pub rows: u32,
    pub between: f64,
    pub within: f64,
}

impl Simulated {
    /// The rows of one measure.
    pub(super) fn measure(&self, name: &str, unit: &str, seed: u64) -> MeasureValues {
        let mut random = StdRng::seed_from_u64(seed);
        let mut normal = || random.sample::<f64, _>(StandardNormal);
        let mut measure = measure_of(None, name, unit, &[]);
        measure.runs.clear();
        for process in 0..self.processes {
            let offset = self.between * normal();
            for _ in 0..self.rows {
                measure.values.push(self.centre * (offset + self.within * normal()).exp());
                measure.runs.push(process);
            }
        }
        measure
    }
}
