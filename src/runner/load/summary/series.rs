//! Values that were read now and then, over the length of a stage.

/// Share of a stage that readings must cover for a growth to be that of the stage.
const COVERED: f64 = 0.9;

/// The value of `points` (time, value; in order of time) at `t`, on the line between its neighbours; outside, that of the nearest point.
fn at(points: &[(f64, f64)], t: f64) -> Option<f64> {
    let after = points.partition_point(|point| point.0 < t);
    let Some(&(t1, v1)) = points.get(after) else { return points.last().map(|point| point.1) };
    let Some(&(t0, v0)) = after.checked_sub(1).and_then(|before| points.get(before)) else { return Some(v1) };
    Some(if t1 > t0 { v0 + (v1 - v0) * (t - t0) / (t1 - t0) } else { v1 })
}

/// How much a counter grew from `from` to `to`, and the time its readings cover of that; `None` for fewer than two readings that touch it.
///
/// A counter that falls was set back with its server; what it shows after that is growth. Between two readings it is taken to grow evenly.
fn growth_and_cover(points: &[(f64, f64)], from: f64, to: f64) -> Option<(f64, f64)> {
    let mut total = 0.0;
    let mut grown: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for (index, &(t, value)) in points.iter().enumerate() {
        if let Some(before) = index.checked_sub(1).map(|before| points[before].1) {
            total += if value >= before { value - before } else { value };
        }
        grown.push((t, total));
    }
    let (first, last) = (grown.first()?.0.max(from), grown.last()?.0.min(to));
    (last > first).then(|| Some((at(&grown, last)? - at(&grown, first)?, last - first))).flatten()
}

/// How much a counter grew from `from` to `to`; `None` where its readings do not cover that time.
pub(super) fn growth(points: &[(f64, f64)], from: f64, to: f64) -> Option<f64> {
    growth_and_cover(points, from, to).filter(|(_, cover)| *cover >= COVERED * (to - from)).map(|(grown, _)| grown)
}

/// The mean over time of a gauge from `from` to `to` and its largest reading in it; `None` without a reading in it.
pub(super) fn mean_and_largest(points: &[(f64, f64)], from: f64, to: f64) -> Option<[f64; 2]> {
    let inside: Vec<(f64, f64)> = points.iter().copied().filter(|(t, _)| (from..=to).contains(t)).collect();
    let largest = inside.iter().map(|point| point.1).reduce(f64::max)?;
    let (first, last) = (points.first()?.0.max(from), points.last()?.0.min(to));
    let mut corners = vec![(first, at(points, first)?)];
    corners.extend(inside.iter().copied().filter(|(t, _)| *t > first && *t < last));
    corners.push((last, at(points, last)?));
    let area: f64 = corners.windows(2).map(|pair| (pair[1].0 - pair[0].0) * f64::midpoint(pair[0].1, pair[1].1)).sum();
    let mean = if last > first { area / (last - first) } else { inside[0].1 };
    Some([mean, largest])
}

/// The mean of what a histogram saw from `from` to `to`, of readings (time, sum, count); `None` if it saw nothing.
pub(super) fn mean_of_histogram(points: &[(f64, f64, f64)], from: f64, to: f64) -> Option<f64> {
    let sums: Vec<(f64, f64)> = points.iter().map(|(t, sum, _)| (*t, *sum)).collect();
    let counts: Vec<(f64, f64)> = points.iter().map(|(t, _, count)| (*t, *count)).collect();
    let (sum, _) = growth_and_cover(&sums, from, to)?;
    let (count, _) = growth_and_cover(&counts, from, to)?;
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_cut_at_the_ends_of_the_stage() {
        let counter = [(0.0, 100.0), (1.0, 200.0), (2.0, 400.0), (3.0, 500.0)];
        // Half of the first 100, all of the 200, half of the last 100.
        assert_eq!(growth(&counter, 0.5, 2.5), Some(300.0));
        assert_eq!(growth(&counter, 0.0, 3.2), Some(400.0), "3 of 3.2 s are known");
        assert_eq!(growth(&counter, 0.0, 6.0), None, "3 of 6 s are not enough");
        assert_eq!(growth(&counter[..1], 0.0, 1.0), None);
        assert_eq!(growth(&counter, 5.0, 6.0), None);
        assert_eq!(growth(&[], 0.0, 1.0), None);
    }

    #[test]
    fn a_counter_set_back_goes_on_from_0() {
        let counter = [(0.0, 900.0), (1.0, 1000.0), (2.0, 30.0), (3.0, 50.0)];
        assert_eq!(growth(&counter, 0.0, 3.0), Some(150.0));
    }

    #[test]
    fn the_mean_of_a_gauge_is_over_time() {
        // 0 to 10 in one second, then 10 for three: (5 · 1 + 10 · 3) / 4.
        let gauge = [(0.0, 0.0), (1.0, 10.0), (4.0, 10.0)];
        assert_eq!(mean_and_largest(&gauge, 0.0, 4.0), Some([8.75, 10.0]));
        assert_eq!(mean_and_largest(&gauge, 0.5, 1.5), Some([8.75, 10.0]), "7.5 and 10, half a second each");
        assert_eq!(mean_and_largest(&gauge, 4.0, 9.0), Some([10.0, 10.0]));
        assert_eq!(mean_and_largest(&gauge, 2.0, 3.0), None);
    }

    #[test]
    fn the_mean_of_a_histogram_is_that_of_what_it_saw_in_between() {
        // 10 observations of 0.5 s in the stage, 90 of 0.1 s before it.
        let histogram = [(0.0, 9.0, 90.0), (1.0, 14.0, 100.0)];
        assert_eq!(mean_of_histogram(&histogram, 0.0, 1.0), Some(0.5));
        assert_eq!(mean_of_histogram(&[(0.0, 9.0, 90.0), (1.0, 9.0, 90.0)], 0.0, 1.0), None);
    }
}
