//! Arbitrary text as a kernel name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perfprof::analysis::classify::Classifier;
use perfprof::analysis::kernel_names;

fuzz_target!(|name: &str| {
    let _ = kernel_names::shorten(name);
    let _ = Classifier::builtin().classify(name, name);
});
