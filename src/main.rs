//! The perfprof binary.

fn main() {}
