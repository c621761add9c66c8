//! The rules by which a gap gets its cause.
