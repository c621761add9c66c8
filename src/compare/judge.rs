//! The whole judgement over a baseline and its candidates.

use std::collections::BTreeMap;

use super::result::{
    Attribution, COMPARE_SCHEMA_VERSION, CompareMetrics, Comparison, CostRow, Difference, GateResult, QualityRow,
    StudyBlock, SubjectBlock, SubjectMeasure,
};
use super::settings::CompareSettings;
use super::subject::Subject;
use crate::diagnostics::{Diagnostic, Validity};
use crate::stats::summary::Summary;

/// Subjects that cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    /// Fewer than two.
    #[error("a comparison needs a baseline and at least one candidate, there {} {count}", if *.count == 1 { "is" } else { "are" })]
    TooFew {
        /// How many there are.
        count: usize,
    },
    /// Two of the same name: no sentence could tell them apart.
    #[error("two subjects are called `{label}`")]
    SameLabel {
        /// The name.
        label: String,
    },
}

/// The pieces of [`CompareMetrics`] that follow from the subjects.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Whether the verdicts may be relied on.
    pub validity: Validity,
    /// The subjects, baseline first.
    pub subjects: Vec<SubjectBlock>,
    /// Facts in which candidates differ from the baseline.
    pub differences: Vec<Difference>,
    /// Every measure of every candidate against the baseline.
    pub comparisons: Vec<Comparison>,
    /// Where the differences come from, as passed in.
    pub attribution: Vec<Attribution>,
    /// The gate; null without rules.
    pub gate: Option<GateResult>,
    /// Cost.
    pub cost: Vec<CostRow>,
    /// The answer in words, most important first.
    pub sentences: Vec<String>,
    /// Findings.
    pub diagnostics: Vec<Diagnostic>,
}

impl Judgement {
    /// The whole `metrics.json`. `status` is that of the run (`complete`, `interrupted`, `failed`); a judgement that is INVALID makes a
    /// complete run `invalid`.
    pub fn into_metrics(
        self,
        command: &str,
        run_id: &str,
        status: &str,
        quality: Vec<QualityRow>,
        study: Option<StudyBlock>,
    ) -> CompareMetrics {
        let status = if status == "complete" && !self.validity.is_valid() { "invalid" } else { status };
        CompareMetrics {
            schema_version: COMPARE_SCHEMA_VERSION,
            command: command.to_owned(),
            run_id: run_id.to_owned(),
            status: status.to_owned(),
            validity: self.validity,
            measures: BTreeMap::new(),
            subjects: self.subjects,
            differences: self.differences,
            comparisons: self.comparisons,
            attribution: self.attribution,
            gate: self.gate,
            cost: self.cost,
            quality,
            study,
            sentences: self.sentences,
            diagnostics: self.diagnostics,
        }
    }
}

/// Judges `subjects`, the baseline first.
///
/// `controls` are the comparisons of an A/A control (empty where none was run). Fails for fewer than two subjects or two of the same
/// label; anything else that is wrong with them is in the result.
pub fn judge(
    subjects: &[Subject],
    controls: &[Comparison],
    attribution: Vec<Attribution>,
    settings: &CompareSettings,
) -> Result<Judgement, JudgeError> {
    let [baseline, candidates @ ..] = subjects else { return Err(JudgeError::TooFew { count: 0 }) };
    if candidates.is_empty() {
        return Err(JudgeError::TooFew { count: 1 });
    }
    for (index, subject) in subjects.iter().enumerate() {
        if subjects[..index].iter().any(|other| other.label == subject.label) {
            return Err(JudgeError::SameLabel { label: subject.label.clone() });
        }
    }
    let (mut differences, mut comparisons, mut diagnostics) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in candidates {
        let found = super::equal_work::differences(baseline, candidate, settings);
        let compared = super::effect::compare_subjects(baseline, candidate, &found, controls, settings);
        differences.extend(found);
        comparisons.extend(compared.comparisons);
        diagnostics.extend(compared.diagnostics);
    }
    let gate = (!settings.gate.is_empty()).then(|| super::gate::evaluate(baseline, candidates, settings));
    Ok(Judgement {
        validity: Validity::from_reasons(Vec::new()),
        subjects: subjects.iter().map(block).collect(),
        differences,
        comparisons,
        attribution,
        gate,
        cost: subjects.iter().flat_map(super::cost::cost_rows).collect(),
        sentences: Vec::new(),
        diagnostics,
    })
}

/// A subject as it stands in the file.
pub fn block(subject: &Subject) -> SubjectBlock {
    let measures = subject.measures.iter().map(|measure| SubjectMeasure {
        case: measure.case.clone(),
        name: measure.name.clone(),
        summary: match &measure.reported {
            Some(reported) if measure.values.is_empty() => reported.clone(),
            _ => Summary::from_values(&measure.unit, &measure.values),
        },
    });
    SubjectBlock {
        label: subject.label.clone(),
        kind: subject.kind,
        tool: subject.tool.clone(),
        run_ids: subject.run_ids.clone(),
        files: subject.files.clone(),
        facts: subject.facts.clone(),
        outcomes: subject.outcomes,
        validity: subject.validity.clone(),
        measures: measures.collect(),
    }
}
