//! Two operator tables.

use crate::compare::result::Attribution;
use crate::compare::subject::Subject;

/// Where the difference between two subjects comes from, by their operator tables: one attribution for each case that both have operators of.
pub fn attribute_operators(_baseline: &Subject, _candidate: &Subject) -> Vec<Attribution> {
    Vec::new()
}
