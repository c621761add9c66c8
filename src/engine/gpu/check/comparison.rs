//! Values against expected ones.

use super::CheckResult;

/// Unit roundoff of f32.
pub(super) const E: f64 = 1.0 / (1_u64 << 24) as f64;
/// Standard deviations of independent roundings that are allowed, times the deviation of one: uniform over ± its bound, 1/√3 of it.
/// 4 / √3, and a little for what is not independent.
pub(super) const INDEPENDENT: f64 = 2.5;

/// What a value should be, and what it may be off by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) value: f64,
    pub(super) tolerance: f64,
}

impl Expected {
    pub(super) fn exact(value: f64) -> Self {
        Self { value, tolerance: 0.0 }
    }
}

/// The comparison of all outputs of a case.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    compared: usize,
    failed: usize,
    /// Share of its tolerance that the worst value is off by; its error, tolerance and index.
    worst: Option<(f64, f64, f64, usize)>,
    fault: Option<String>,
}

impl Comparison {
    /// Compares one value.
    pub(super) fn value(&mut self, got: f64, expected: Expected) {
        let error = if got == expected.value { 0.0 } else { (got - expected.value).abs() };
        let ok = error <= expected.tolerance;
        let share = match (ok, error.is_nan()) {
            (_, true) => f64::INFINITY,
            (true, _) if error == 0.0 => 0.0,
            _ => error / expected.tolerance,
        };
        if self.worst.is_none_or(|(worst, ..)| share > worst) {
            self.worst = Some((share, error, expected.tolerance, self.compared));
        }
        self.compared += 1;
        self.failed += usize::from(!ok);
    }

    /// Compares all values; a different number of them is a fault.
    pub(super) fn values(&mut self, got: &[f64], expected: impl IntoIterator<Item = Expected>) {
        let mut count = 0;
        for expected in expected {
            match got.get(count) {
                Some(got) => self.value(*got, expected),
                None => self.fault(format!("only {} values came out", got.len())),
            }
            count += 1;
        }
        if count < got.len() {
            self.fault(format!("{} values came out where {count} are expected", got.len()));
        }
    }

    /// Compares one value with what it was before the launch; NaN is NaN.
    pub(super) fn unchanged(&mut self, got: f64, before: f64) {
        let got = if got.is_nan() && before.is_nan() { 0.0 } else { got };
        self.value(got, Expected::exact(if before.is_nan() { 0.0 } else { before }));
    }

    /// Compares bit patterns.
    pub(super) fn bits<T: PartialEq + Into<u64> + Copy>(&mut self, got: &[T], expected: &[T]) {
        if got.len() != expected.len() {
            self.fault(format!("{} values came out where {} are expected", got.len(), expected.len()));
        }
        for (got, expected) in got.iter().zip(expected) {
            let distance = (*got).into().abs_diff((*expected).into());
            self.value(distance as f64, Expected::exact(0.0));
        }
    }

    /// Notes what is wrong besides values; the first is kept.
    pub(super) fn fault(&mut self, what: impl Into<String>) {
        self.fault.get_or_insert_with(|| what.into());
    }

    /// Notes `what` unless `holds`.
    pub(super) fn demand(&mut self, holds: bool, what: &str) {
        if !holds {
            self.fault(what);
        }
    }

    pub(super) fn into_result(self, kernel: &'static str, case: String) -> CheckResult {
        let (_, max_error, tolerance, worst_index) = self.worst.unwrap_or((0.0, f64::NAN, 0.0, 0));
        let ok = self.failed == 0 && self.compared > 0 && self.fault.is_none();
        CheckResult { kernel, case, max_error, tolerance, worst_index, ok, error: self.fault }
    }
}
