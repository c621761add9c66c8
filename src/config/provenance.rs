//! Which file and line, or which override, set each value.

/// Where each leaf came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance {}
