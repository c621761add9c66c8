//! Which repeats of a process were still its warm-up.

use crate::record::rows::{RepeatRow, RowStatus};
use crate::stats::changepoint::{MIN_VALUES, warm_up};

/// What was found of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steady {
    /// For each row whether it is left out.
    pub dropped: Vec<bool>,
    /// Cases that had not become steady when the process ended; their rows are kept, since none of them is better than another.
    pub never_steady: Vec<String>,
}

impl Steady {
    /// Repeats without spans that are left out: the figure the reports give.
    pub fn dropped_repeats(&self, rows: &[RepeatRow]) -> u32 {
        self.dropped.iter().zip(rows).filter(|(dropped, row)| **dropped && !row.spans).count() as u32
    }
}

/// The rows of one process (in the order they were measured) that lie before the point from which its whole times are steady, case by case.
///
/// Looks at the repeats without spans; those with spans before the same point are left out too. Fewer than [`MIN_VALUES`] repeats show nothing,
/// and then none is left out. Where more than half of the repeats would go, the process is not taken for steady at all.
pub fn steady(rows: &[RepeatRow], seed: u64) -> Steady {
    let mut dropped = vec![false; rows.len()];
    let mut never_steady = Vec::new();
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    for case in cases {
        let plain: Vec<(usize, f64)> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.case == case && !row.spans && row.status == RowStatus::Ok)
            .filter_map(|(place, row)| Some((place, row.total_ms?)))
            .collect();
        if plain.len() < MIN_VALUES {
            continue;
        }
        let values: Vec<f64> = plain.iter().map(|(_, value)| *value).collect();
        match warm_up(&values, seed).map(|found| found.steady_from) {
            None | Some(Some(0)) => {}
            Some(Some(from)) if 2 * from <= plain.len() => {
                let first = plain.get(from).map_or(rows.len(), |(place, _)| *place);
                for (place, row) in rows.iter().enumerate().take(first) {
                    dropped[place] |= row.case == case;
                }
            }
            Some(_) => never_steady.push(case.to_owned()),
        }
    }
    Steady { dropped, never_steady }
}
