//! Arbitrary bytes as a file for the nsys reader.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use perfprof::trace::import::ReadOptions;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::Builder::new().suffix(".sqlite").tempfile() else { return };
    if file.write_all(bytes).is_ok() {
        let _ = perfprof::trace::nsys::read(file.path(), &ReadOptions::default());
    }
});
