//! Arbitrary bytes as a file for the ncu reader.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use perfprof::trace::import::ReadOptions;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::Builder::new().suffix(".csv").tempfile() else { return };
    if file.write_all(bytes).is_ok() {
        let _ = perfprof::trace::ncu::read(file.path(), &ReadOptions::default());
    }
});
