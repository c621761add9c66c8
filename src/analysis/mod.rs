//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.
