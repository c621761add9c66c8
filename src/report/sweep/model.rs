//! What the report of a sweep is rendered from. Values only: nothing here is read from a file or measured.

use crate::record::sweep::SweepMetrics;

/// Everything the report of a sweep is made from.
#[derive(Debug, Clone, Copy)]
pub struct SweepReport<'a> {
    /// The answer, as written to `metrics.json`.
    pub metrics: &'a SweepMetrics,
    /// Where everything comes from (command line, versions): name and text.
    pub provenance: &'a [(String, String)],
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
}
