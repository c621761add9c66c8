//! Intervals for few units: Welch's and Student's t on logarithms, signed ranks of blocks.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::super::bootstrap::Statistic;
use super::super::hodges_lehmann::one_sample;
use super::super::summary::{mean, standard_deviation, student_t_quantile};
use super::studentized::welch_freedom;
use super::{Found, Groups, IntervalMethod, MIN_SIGNED_RANK, Spread};

/// exp(mean of the candidate's logarithms − mean of the baseline's): the ratio of geometric means.
pub(super) fn welch(candidate: &[f64], baseline: &[f64], method: IntervalMethod) -> Option<Found> {
    let side = |logs: &[f64]| {
        let centre = mean(logs)?;
        let spread = standard_deviation(logs, centre)?;
        Some((centre, spread * spread / logs.len() as f64))
    };
    let ((a, va), (b, vb)) = (side(candidate)?, side(baseline)?);
    let freedom = welch_freedom([va, vb], [candidate.len(), baseline.len()]);
    Some(Found {
        ratio: (a - b).exp(),
        method,
        units: [candidate.len() as u64, baseline.len() as u64],
        spread: Spread::LogT { log_ratio: a - b, error: (va + vb).sqrt(), freedom },
    })
}

/// From the ratio of each block.
pub(super) fn blocked(candidate: &Groups, baseline: &Groups, statistic: Statistic) -> Option<Found> {
    if candidate.units() != baseline.units() {
        return None;
    }
    let log_ratio = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        let (a, b) = (statistic.estimate(a)?, statistic.estimate(b)?);
        (a > 0.0 && b > 0.0).then(|| (a / b).ln())
    };
    let logs: Vec<f64> = candidate.0.iter().zip(&baseline.0).map(log_ratio).collect::<Option<_>>()?;
    let units = [logs.len() as u64; 2];
    if logs.len() >= MIN_SIGNED_RANK {
        let ratio = one_sample(&logs, 0.9)?.shift.exp();
        return Some(Found { ratio, method: IntervalMethod::SignedRank, units, spread: Spread::SignedRank(logs) });
    }
    let centre = mean(&logs)?;
    let error = standard_deviation(&logs, centre)? / (logs.len() as f64).sqrt();
    let spread = Spread::LogT { log_ratio: centre, error, freedom: (logs.len() - 1) as f64 };
    Some(Found { ratio: centre.exp(), method: IntervalMethod::StudentLog, units, spread })
}

pub(super) fn t_interval(log_ratio: f64, error: f64, freedom: f64, tail: f64) -> Option<[f64; 2]> {
    let half = student_t_quantile(1.0 - tail, freedom)? * error;
    Some([(log_ratio - half).exp(), (log_ratio + half).exp()])
}

pub(super) fn t_p_value(log_ratio: f64, error: f64, freedom: f64) -> Option<f64> {
    if error == 0.0 {
        return Some(if log_ratio == 0.0 { 1.0 } else { 0.0 });
    }
    Some(2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf((log_ratio / error).abs()))
}

pub(super) fn signed_rank_interval(logs: &[f64], tail: f64) -> Option<[f64; 2]> {
    one_sample(logs, 1.0 - 2.0 * tail)?.interval.map(|ends| ends.map(f64::exp))
}
