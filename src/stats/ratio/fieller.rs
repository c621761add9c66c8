use super::super::summary::{mean, standard_deviation, student_t_quantile};

/// Fieller's interval of mean(candidate) / mean(baseline) for independent rows (J. R. Statist. Soc. B 16, 1954), with Welch's degrees of
/// freedom: a cross-check of the bootstrap.
///
/// `None` where it is unbounded (the mean of the baseline is not clearly away from 0), for fewer than two rows a side, or for a
/// confidence outside (0, 1).
pub fn fieller_interval(candidate: &[f64], baseline: &[f64], confidence: f64) -> Option<[f64; 2]> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let (a, b) = (mean(candidate)?, mean(baseline)?);
    let error = |values: &[f64], mean: f64| {
        Some((standard_deviation(values, mean)?.powi(2) / values.len() as f64, (values.len() - 1) as f64))
    };
    let ((va, fa), (vb, fb)) = (error(candidate, a)?, error(baseline, b)?);
    if va + vb == 0.0 {
        return (b != 0.0).then_some([a / b; 2]);
    }
    // Of a − ρ·b at the estimated ρ, whose variance decides.
    let vr = (a / b).powi(2) * vb;
    let freedom = (va + vr).powi(2) / (va * va / fa + vr * vr / fb);
    let t = student_t_quantile(0.5 + confidence / 2.0, freedom)?;
    // (a − ρb)² ≤ t²(va + ρ²vb), a quadratic in ρ.
    let leading = b * b - t * t * vb;
    if leading <= 0.0 {
        return None;
    }
    let root = ((a * b).powi(2) - leading * (a * a - t * t * va)).max(0.0).sqrt();
    Some([(a * b - root) / leading, (a * b + root) / leading])
}
