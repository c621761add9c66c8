//! Derives the answer of a study from what is in its directory.
