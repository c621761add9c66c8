//! Every kernel against its reference, in three orders of threads.

use perfprof::engine::gpu::backend::HalfType;
use perfprof::engine::gpu::check::{self, CheckResult, Scale};
use perfprof::engine::gpu::kernel::SOURCES;

use super::{Order, with_order};

/// Runs all checks and gives what failed, in words.
fn failures(order: Order, half: HalfType, seed: u64) -> Option<(Vec<CheckResult>, Vec<String>)> {
    let device = with_order(order)?;
    let mut failed = Vec::new();
    let mut note = |result: &CheckResult| {
        if !result.ok {
            failed.push(format!("{order:?}: {result:?}"));
        }
    };
    let results = check::run(&*device, half, seed, None, Scale::Small, &mut note);
    Some((results, failed))
}

fn all_pass(half: HalfType) {
    // A new seed in each order: inputs are not chosen to fit.
    for (seed, order) in [(11, Order::Forward), (12, Order::Random(1)), (13, Order::Random(2))] {
        let Some((results, failed)) = failures(order, half, seed) else { return };
        assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), results.len(), failed.join("\n"));
        for result in &results {
            assert!(result.max_error <= result.tolerance && result.tolerance.is_finite(), "{result:?}");
        }
        // No source is without a check, and none of the results is a repeat.
        for source in SOURCES {
            for line in source.text.lines().filter_map(|line| line.strip_prefix("PP_KERNEL ")) {
                let kernel = line.split('(').next().expect("a string has a first part");
                assert!(results.iter().any(|result| result.kernel == kernel), "`{kernel}` has no check");
            }
        }
        let mut names: Vec<_> = results.iter().map(|result| (result.kernel, &result.case)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), results.len());
    }
}

#[test]
fn all_kernels_are_right_in_f16() {
    all_pass(HalfType::F16);
}

#[test]
fn all_kernels_are_right_in_bf16() {
    all_pass(HalfType::BF16);
}

#[test]
fn a_filter_picks_cases_and_leaves_their_inputs_as_they_are() {
    let Some(device) = with_order(Order::Forward) else { return };
    let run = |filter| check::run(&*device, HalfType::F16, 5, filter, Scale::Small, &mut |_| {});
    let norms = run(Some("rms_norm_heads"));
    assert!(norms.len() > 2 && norms.iter().all(|result| result.kernel == "rms_norm_heads"));
    let one = run(Some(norms[1].case.as_str()));
    assert_eq!(one, norms[1..2]);
    let other = check::run(&*device, HalfType::F16, 6, Some(norms[1].case.as_str()), Scale::Small, &mut |_| {});
    assert_ne!(other[0].max_error, one[0].max_error, "another seed, the same inputs");
    assert!(run(Some("no such kernel")).is_empty());
}
