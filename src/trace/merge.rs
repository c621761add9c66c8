//! Joins the traces of several files, one per rank or process, into one timeline.

use super::import::Import;

/// Merges `parts` in the order given.
pub fn merge(mut parts: Vec<Import>) -> Import {
    if parts.len() == 1 { parts.remove(0) } else { unimplemented!("merging follows") }
}
