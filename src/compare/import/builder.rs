//! Collects what a subject is made of, and refuses values that are none.
