//! Runs work repeatedly and turns it into rows.
