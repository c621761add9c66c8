//! The whole judgement over a baseline and its candidates.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::all_failed;
use super::result::{
    Attribution, COMPARE_SCHEMA_VERSION, CompareMetrics, Comparison, CostRow, Difference, DifferenceKind, GateResult,
    QualityRow, StudyBlock, SubjectBlock, SubjectMeasure,
};
use super::sentences::{self, Judged};
use super::settings::CompareSettings;
use super::subject::Subject;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
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
    let (mut differences, mut comparisons) = (Vec::new(), Vec::new());
    let mut diagnostics = Diagnostics::default();
    for subject in subjects {
        about(subject, settings, &mut diagnostics);
    }
    for candidate in candidates {
        let found = super::equal_work::differences(baseline, candidate, settings);
        let compared = super::effect::compare_subjects(baseline, candidate, &found, controls, settings);
        differences.extend(found);
        comparisons.extend(compared.comparisons);
        diagnostics.extend(compared.diagnostics);
    }
    let gate = (!settings.gate.is_empty()).then(|| super::gate::evaluate(baseline, candidates, controls, settings));
    let cost: Vec<CostRow> = subjects.iter().flat_map(super::cost::cost_rows).collect();
    let validity = Validity::from_reasons(reasons(subjects, &differences, settings));
    let sentences = sentences::sentences(&Judged {
        baseline: &baseline.label,
        candidates: &candidates.iter().map(|subject| subject.label.as_str()).collect::<Vec<_>>(),
        differences: &differences,
        comparisons: &comparisons,
        controls,
        attribution: &attribution,
        gate: gate.as_ref(),
        cost: &cost,
        invalid: &validity.reasons,
    });
    Ok(Judgement {
        validity,
        subjects: subjects.iter().map(block).collect(),
        differences,
        comparisons,
        attribution,
        gate,
        cost,
        sentences,
        diagnostics: diagnostics.into_vec(),
    })
}

/// Why the verdicts may not be relied on.
fn reasons(subjects: &[Subject], differences: &[Difference], settings: &CompareSettings) -> Vec<String> {
    let mut reasons = Vec::new();
    for subject in subjects {
        if !subject.validity.is_valid() && !settings.allow_invalid {
            let why = subject.validity.reasons.join("; ");
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            reasons.push(format!("`{}` is itself INVALID{why}", subject.label));
        } else if all_failed(subject) {
            reasons.push(format!("no piece of `{}` ended well", subject.label));
        }
    }
    let unequal: BTreeSet<&str> = differences
        .iter()
        .filter(|row| row.kind == DifferenceKind::NotTheSameWork)
        .map(|row| row.candidate_label.as_str())
        .collect();
    if !settings.gate.is_empty() {
        reasons.extend(unequal.iter().map(|label| {
            format!("a gate cannot be held against `{label}`, which did not do the same work as the baseline")
        }));
    }
    reasons
}

/// Findings about one subject.
fn about(subject: &Subject, settings: &CompareSettings, diagnostics: &mut Diagnostics) {
    let (label, outcomes) = (&subject.label, &subject.outcomes);
    diagnostics.extend(subject.diagnostics.iter().map(|found| {
        // Two sides may say the same: a reader must know which.
        let first = if found.first.contains(label.as_str()) {
            found.first.clone()
        } else {
            format!("`{label}`: {}", found.first)
        };
        Diagnostic { first, ..found.clone() }
    }));
    if !subject.validity.is_valid() && settings.allow_invalid {
        let why = subject.validity.reasons.join("; ");
        diagnostics.note(
            "invalid_side",
            Severity::Warn,
            format!("`{label}` is INVALID and is compared all the same, as was asked for: {why}"),
        );
    }
    let bad = outcomes.failed.saturating_add(outcomes.oom);
    if bad > 0 {
        let all = bad.saturating_add(outcomes.ok);
        let rest = if outcomes.ok > 0 { "the values are of those that ended well" } else { "there are no values" };
        let text = format!("{bad} of {all} pieces of `{label}` failed ({} out of memory): {rest}", outcomes.oom);
        diagnostics.note("failed_pieces", Severity::Warn, text);
    }
    if outcomes.disturbed > 0 {
        let text = format!(
            "{} of {} pieces of `{label}` were disturbed by other processes; they stay in the values",
            outcomes.disturbed, outcomes.ok
        );
        diagnostics.note("disturbed_pieces", Severity::Warn, text);
    }
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
