//! Count, sum, mean, median, least, greatest and standard deviation of the values of many groups at once.

/// What nsys says of a set of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub(super) total: i128,
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) median: f64,
    pub(super) min: i64,
    pub(super) max: i64,
    /// Of the sample (n - 1); 0 for one value.
    pub(super) deviation: f64,
}

impl Summary {
    /// `None` for no values. Orders the values as it likes.
    pub(super) fn of(values: &mut [i64]) -> Option<Self> {
        let count = values.len();
        let first = *values.first()?;
        let (mut total, mut min, mut max) = (0_i128, first, first);
        for value in values.iter() {
            total += i128::from(*value);
            min = min.min(*value);
            max = max.max(*value);
        }
        // Squares of the distances to a whole number near the mean, summed exactly; then one correction for the whole number.
        let n = count as i128;
        let centre = total / n;
        let (mut distance, mut squares) = (0_i128, 0_i128);
        for value in values.iter() {
            let d = i128::from(*value) - centre;
            distance += d;
            squares = squares.saturating_add(d.saturating_mul(d));
        }
        let scaled = n.saturating_mul(squares).saturating_sub(distance * distance);
        let deviation = if count < 2 { 0.0 } else { (scaled as f64 / (n as f64 * (n - 1) as f64)).sqrt() };
        let (below, upper, _) = values.select_nth_unstable(count / 2);
        let upper = *upper;
        let median = match below.iter().max() {
            Some(lower) if count.is_multiple_of(2) => (i128::from(*lower) + i128::from(upper)) as f64 / 2.0,
            _ => upper as f64,
        };
        Some(Self { total, count: count as u64, mean: total as f64 / count as f64, median, min, max, deviation })
    }
}

/// Collects the values of many groups in two passes over the rows, first their number, then the values, into one vector.
#[derive(Debug, Default)]
pub(super) struct Collector {
    /// First the number of values of each group, then where its next value goes.
    next: Vec<usize>,
    values: Vec<i64>,
    filling: bool,
}

impl Collector {
    /// Runs `rows` twice, which must add the same values to the same groups both times; the summary of each group, `None` for an empty one.
    pub(super) fn collect(groups: usize, rows: impl Fn(&mut Self)) -> Vec<Option<Summary>> {
        let mut collector = Self { next: vec![0; groups], ..Self::default() };
        rows(&mut collector);
        collector.start_filling();
        rows(&mut collector);
        collector.finish()
    }
    /// The first pass is over.
    pub(super) fn start_filling(&mut self) {
        let mut total = 0;
        for next in &mut self.next {
            let count = *next;
            *next = total;
            total += count;
        }
        self.values = vec![0; total];
        self.filling = true;
    }
    /// Adds a value; a group that is new comes to be, in the first pass.
    pub(super) fn add(&mut self, group: u32, value: i64) {
        let group = group as usize;
        if self.filling {
            self.values[self.next[group]] = value;
            self.next[group] += 1;
        } else {
            if group >= self.next.len() {
                self.next.resize(group + 1, 0);
            }
            self.next[group] += 1;
        }
    }
    /// The second pass is over.
    pub(super) fn finish(mut self) -> Vec<Option<Summary>> {
        let mut start = 0;
        self.next
            .iter()
            .map(|end| {
                let summary = Summary::of(&mut self.values[start..*end]);
                start = *end;
                summary
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Collector, Summary};

    #[test]
    fn an_even_number_of_values_has_the_mean_of_the_middle_two_as_median() {
        let summary = Summary::of(&mut [7, 1, 4, 2]).unwrap();
        assert_eq!((summary.total, summary.count, summary.min, summary.max), (14, 4, 1, 7));
        assert_eq!((summary.mean, summary.median), (3.5, 3.0));
        // Squares of -2.5, -1.5, 0.5, 3.5 sum to 21.
        assert_eq!(summary.deviation, 7.0_f64.sqrt());
    }

    #[test]
    fn one_value_has_no_deviation_and_huge_values_lose_no_digit() {
        assert_eq!(Summary::of(&mut [9]).unwrap().deviation, 0.0);
        let base = 1_700_000_000_000_000_000;
        let summary = Summary::of(&mut [base, base + 2, base + 4]).unwrap();
        assert_eq!((summary.deviation, summary.median), (2.0, (base + 2) as f64));
        assert_eq!(Summary::of(&mut []), None);
    }

    #[test]
    fn values_go_to_their_groups_and_an_empty_group_has_no_summary() {
        let rows = [(2_u32, 5_i64), (0, 1), (2, 7)];
        let summaries = Collector::collect(4, |out| rows.iter().for_each(|(group, value)| out.add(*group, *value)));
        let totals: Vec<Option<i128>> = summaries.iter().map(|summary| summary.map(|summary| summary.total)).collect();
        assert_eq!(totals, [Some(1), None, Some(12), None]);
    }
}
