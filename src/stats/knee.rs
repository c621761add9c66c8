//! Where a curve changes its slope: two lines that meet, fitted by least squares.
//!
//! For each pair of neighbouring x the best meeting point between them is known in closed form (Hudson, "Fitting Segmented Curves Whose Join
//! Points Have to Be Estimated", JASA 61, 1966): either the two free lines of the left and the right points meet there, or the best lies at an
//! end. So the fit is exact, not searched on a grid. Whether two lines are better than one cannot be read from an F table, as the meeting point
//! does not exist under the single line (Davies, Biometrika 74, 1987); but the ratio of the two sums of squares does not depend on line or
//! noise level, so its distribution under the single line is drawn. The interval is that of resampled residuals.

use serde::{Deserialize, Serialize};

use super::bootstrap::Generator;
use super::quantile::{quantile_of_sorted, sorted};

/// Fewest points: through four points two lines always go, so that nothing is left to judge them by.
pub const MIN_POINTS: usize = 5;
/// Significance below which two lines are believed.
pub const ALPHA: f64 = 0.05;
const DRAWS: usize = 999;
const RESAMPLES: usize = 2000;
/// Share of a sum of squares below which it is rounding.
const ROUNDING: f64 = 1e-12;

/// Two lines that meet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TwoLines {
    /// Where they meet.
    pub at: f64,
    /// 95 % interval of that.
    pub ci95: [f64; 2],
    /// Their height there.
    pub value: f64,
    /// Slope before.
    pub slope_before: f64,
    /// Slope after.
    pub slope_after: f64,
    /// p of a single line.
    pub p_value: f64,
}

/// The two lines that fit `y` over `x` best, `x` ascending; `seed` draws the test and the interval.
///
/// `None` if one line does as well (p ≥ [`ALPHA`]), for fewer than [`MIN_POINTS`] different x, or for values that are not finite or not in
/// order. The lines meet between the second and the last but one x.
pub fn two_lines(x: &[f64], y: &[f64], seed: u64) -> Option<TwoLines> {
    let different = 1 + x.windows(2).filter(|pair| pair[0] < pair[1]).count();
    let usable = x.iter().chain(y).all(|value| value.is_finite()) && x.windows(2).all(|pair| pair[0] <= pair[1]);
    if x.len() != y.len() || x.is_empty() || different < MIN_POINTS || !usable {
        return None;
    }
    let (scale_x, scale_y) = (Scale::of(x)?, Scale::of(y)?);
    let x: Vec<f64> = x.iter().map(|value| scale_x.apply(*value)).collect();
    let y: Vec<f64> = y.iter().map(|value| scale_y.apply(*value)).collect();
    let n = x.len();
    let sums = Sums::of(&x, &y);
    let whole = sums.line(0, n)?;
    // Both scales are 1, so the sum of squares of y is n.
    if whole.rss <= ROUNDING * 100.0 * n as f64 {
        return None;
    }
    let best = sums.joined(&x)?;
    let p_value = p_of_one_line(&x, ratio(whole.rss, best.rss), seed)?;
    if p_value >= ALPHA {
        return None;
    }
    let [low, high] = interval(&x, &y, &best, seed)?;
    let slope = scale_y.spread / scale_x.spread;
    Some(TwoLines {
        at: scale_x.restore(best.at),
        ci95: [scale_x.restore(low), scale_x.restore(high)],
        value: scale_y.restore(best.value),
        slope_before: best.before * slope,
        slope_after: best.after * slope,
        p_value,
    })
}

/// Values with mean 0 and spread 1 keep sums of squares free of cancellation.
struct Scale {
    mean: f64,
    spread: f64,
}

impl Scale {
    fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        (spread > f64::EPSILON * mean.abs() && spread.is_finite()).then_some(Self { mean, spread })
    }
    fn apply(&self, value: f64) -> f64 {
        (value - self.mean) / self.spread
    }
    fn restore(&self, value: f64) -> f64 {
        value * self.spread + self.mean
    }
}

struct Line {
    intercept: f64,
    slope: f64,
    rss: f64,
}

struct Joined {
    at: f64,
    value: f64,
    before: f64,
    after: f64,
    rss: f64,
}

impl Joined {
    fn height(&self, x: f64) -> f64 {
        self.value + (x - self.at) * if x < self.at { self.before } else { self.after }
    }
}

/// Sums of 1, x, y, x², xy and y² over the first points, for each number of them: any stretch is summed up by one subtraction.
struct Sums(Vec<[f64; 6]>);

impl Sums {
    fn of(x: &[f64], y: &[f64]) -> Self {
        let mut running = [0.0; 6];
        let mut sums = vec![running];
        for (x, y) in x.iter().zip(y) {
            for (sum, term) in running.iter_mut().zip([1.0, *x, *y, x * x, x * y, y * y]) {
                *sum += term;
            }
            sums.push(running);
        }
        Self(sums)
    }

    fn over(&self, from: usize, to: usize) -> [f64; 6] {
        std::array::from_fn(|term| self.0[to][term] - self.0[from][term])
    }

    /// The line through the points `from..to`; `None` if they have one x.
    fn line(&self, from: usize, to: usize) -> Option<Line> {
        let [n, x, y, xx, xy, yy] = self.over(from, to);
        let (xx, xy, yy) = (xx - x * x / n, xy - x * y / n, yy - y * y / n);
        let slope = xy / xx;
        (xx > ROUNDING).then(|| Line { intercept: (y - slope * x) / n, slope, rss: (yy - slope * xy).max(0.0) })
    }

    /// The best two lines that meet.
    fn joined(&self, x: &[f64]) -> Option<Joined> {
        let n = x.len();
        let free = (2..=n - 2).filter_map(|split| {
            let (left, right) = (self.line(0, split)?, self.line(split, n)?);
            let at = (right.intercept - left.intercept) / (left.slope - right.slope);
            (x[split - 1]..=x[split]).contains(&at).then_some(Joined {
                at,
                value: left.intercept + left.slope * at,
                before: left.slope,
                after: right.slope,
                rss: left.rss + right.rss,
            })
        });
        let at_points = (1..n - 1).filter_map(|index| self.joined_at(index, x[index]));
        free.chain(at_points).min_by(|a, b| a.rss.total_cmp(&b.rss))
    }

    /// The best two lines that meet at the x of point `index`: y = value + before · min(x − at, 0) + after · max(x − at, 0), whose two slopes
    /// touch no common point.
    fn joined_at(&self, index: usize, at: f64) -> Option<Joined> {
        let moments = |from: usize, to: usize| {
            let [n, x, y, xx, xy, _] = self.over(from, to);
            (x - n * at, xx - 2.0 * at * x + n * at * at, xy - at * y)
        };
        let points = self.0.len() - 1;
        let ((l, ll, ly), (r, rr, ry)) = (moments(0, index), moments(index, points));
        let [n, _, y, _, _, yy] = self.over(0, points);
        if ll <= ROUNDING || rr <= ROUNDING {
            return None;
        }
        let value = (y - l * ly / ll - r * ry / rr) / (n - l * l / ll - r * r / rr);
        let (before, after) = ((ly - value * l) / ll, (ry - value * r) / rr);
        let rss = (yy - value * y - before * ly - after * ry).max(0.0);
        value.is_finite().then_some(Joined { at, value, before, after, rss })
    }
}

/// How much worse one line is; where two lines leave nothing but rounding, no more than that can be said.
fn ratio(one: f64, two: f64) -> f64 {
    one / two.max(ROUNDING * one)
}

/// The share of straight lines with normal noise that look at least as broken.
fn p_of_one_line(x: &[f64], observed: f64, seed: u64) -> Option<f64> {
    let mut random = Generator::stream(seed, 1);
    let mut noise = vec![0.0; x.len()];
    let mut extreme = 1;
    for _ in 0..DRAWS {
        noise.fill_with(|| normal(&mut random));
        let sums = Sums::of(x, &noise);
        let drawn = ratio(sums.line(0, x.len())?.rss, sums.joined(x)?.rss);
        extreme += usize::from(drawn >= observed * (1.0 - 1e-9));
    }
    Some(extreme as f64 / (DRAWS + 1) as f64)
}

/// 95 % interval of the meeting point: the fit of the fit plus resampled residuals, which are widened for the four figures they were fitted with.
fn interval(x: &[f64], y: &[f64], fit: &Joined, seed: u64) -> Option<[f64; 2]> {
    let n = x.len();
    let widened = (n as f64 / (n as f64 - 4.0)).sqrt();
    let heights: Vec<f64> = x.iter().map(|x| fit.height(*x)).collect();
    let mut residuals: Vec<f64> = y.iter().zip(&heights).map(|(y, height)| (y - height) * widened).collect();
    let mean = residuals.iter().sum::<f64>() / n as f64;
    for residual in &mut residuals {
        *residual -= mean;
    }
    let mut random = Generator::stream(seed, 2);
    let mut drawn = vec![0.0; n];
    let mut places = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for (value, height) in drawn.iter_mut().zip(&heights) {
            *value = height + residuals[random.below(n)];
        }
        places.extend(Sums::of(x, &drawn).joined(x).map(|joined| joined.at));
    }
    let places = sorted(&places);
    Some([quantile_of_sorted(&places, 0.025)?, quantile_of_sorted(&places, 0.975)?])
}

/// A normal number (Box & Muller, Ann. Math. Statist. 29, 1958).
fn normal(random: &mut Generator) -> f64 {
    let (radius, angle) = (1.0 - random.uniform(), random.uniform());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(x: f64, at: f64, before: f64, after: f64) -> f64 {
        10.0 + before * x.min(at) + after * (x - at).max(0.0)
    }

    fn grid(n: usize) -> Vec<f64> {
        (1..=n).map(|x| x as f64).collect()
    }

    #[test]
    fn two_exact_lines_are_found_between_the_points_and_on_one() {
        let x = grid(12);
        for at in [4.0, 6.3, 9.75] {
            let y: Vec<f64> = x.iter().map(|x| planted(*x, at, 5.0, -0.5)).collect();
            let found = two_lines(&x, &y, 1).unwrap();
            assert!((found.at - at).abs() < 1e-6, "{found:?}");
            assert!(found.ci95.iter().all(|end| (end - at).abs() < 1e-4), "{found:?}");
            assert!((found.value - (10.0 + 5.0 * at)).abs() < 1e-5, "{found:?}");
            assert!((found.slope_before - 5.0).abs() < 1e-6 && (found.slope_after + 0.5).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn the_fit_is_the_best_of_all_meeting_points() {
        // Brute force: for each of 20 001 places the slopes by solving the normal equations of 1, min(x − k, 0), max(x − k, 0).
        let x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
        let y = [9.0, 21.0, 38.0, 85.0, 150.0, 190.0, 205.0];
        let residual = |at: f64| {
            let rows: Vec<[f64; 3]> = x.iter().map(|x| [1.0, (x - at).min(0.0), (x - at).max(0.0)]).collect();
            let mut system = [[0.0; 4]; 3];
            for (row, y) in rows.iter().zip(y) {
                for i in 0..3 {
                    for j in 0..3 {
                        system[i][j] += row[i] * row[j];
                    }
                    system[i][3] += row[i] * y;
                }
            }
            for pivot in 0..3 {
                for other in (0..3).filter(|other| *other != pivot) {
                    let factor = system[other][pivot] / system[pivot][pivot];
                    for column in 0..4 {
                        system[other][column] -= factor * system[pivot][column];
                    }
                }
            }
            let solved: Vec<f64> = (0..3).map(|i| system[i][3] / system[i][i]).collect();
            rows.iter()
                .zip(y)
                .map(|(row, y)| (y - (0..3).map(|i| row[i] * solved[i]).sum::<f64>()).powi(2))
                .sum::<f64>()
        };
        let places = (0..=20_000).map(|step| 2.0 + 30.0 * f64::from(step) / 20_000.0);
        let best = places.min_by(|a, b| residual(*a).total_cmp(&residual(*b))).unwrap();
        let found = two_lines(&x, &y, 1).unwrap();
        assert!((found.at - best).abs() < 0.01, "{} is not {best}", found.at);
    }

    #[test]
    fn the_interval_holds_a_planted_knee_as_often_as_it_says() {
        // 200 intervals of 95 %: 190 ± 3; the percentile interval of so few residuals is a little short.
        let x = grid(20);
        let mut held = 0;
        for seed in 0..200 {
            let mut random = Generator::new(seed);
            let y: Vec<f64> = x.iter().map(|x| planted(*x, 8.4, 10.0, 1.0) + 4.0 * normal(&mut random)).collect();
            let found = two_lines(&x, &y, seed).expect("the knee stands out of the noise");
            assert!(found.ci95[0] <= found.at && found.at <= found.ci95[1]);
            held += u32::from((found.ci95[0]..=found.ci95[1]).contains(&8.4));
        }
        assert!(held >= 178, "{held} of 200");
    }

    #[test]
    fn a_straight_line_has_no_knee_but_by_chance() {
        let x = grid(12);
        let seen = (0..200).filter(|seed| {
            let mut random = Generator::new(*seed);
            let y: Vec<f64> = x.iter().map(|x| 3.0 * x + 2.0 * normal(&mut random)).collect();
            two_lines(&x, &y, *seed).is_some()
        });
        // 5 % of 200 are 10 ± 3.
        let seen = seen.count();
        assert!(seen <= 19, "{seen} of 200");
        let exact: Vec<f64> = x.iter().map(|x| 0.1 * x).collect();
        assert_eq!(two_lines(&x, &exact, 1), None);
        assert_eq!(two_lines(&x, &[7.0; 12], 1), None, "nor has a constant");
    }

    #[test]
    fn a_curve_that_saturates_bends_where_it_is_between_its_slopes() {
        // y = x / (1 + x / 16) · 100 on doublings: the slope falls from 100 to 0.35.
        let x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
        let y: Vec<f64> = x.iter().map(|x| 100.0 * x / (1.0 + x / 16.0)).collect();
        let found = two_lines(&x, &y, 1).unwrap();
        assert!((8.0..=64.0).contains(&found.at), "{found:?}");
        assert!(found.slope_before > 10.0 * found.slope_after && found.slope_after > 0.0, "{found:?}");
    }

    #[test]
    fn too_little_or_broken_input_has_no_answer() {
        let bent = [1.0, 2.0, 3.0, 3.1];
        assert_eq!(two_lines(&grid(4), &bent, 1), None, "two lines go through any four points");
        assert_eq!(two_lines(&[1.0, 2.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 2.0, 3.0, 3.0], 1), None);
        assert_eq!(two_lines(&grid(5), &[1.0, 2.0, f64::NAN, 3.0, 3.0], 1), None);
        assert_eq!(two_lines(&[5.0, 4.0, 3.0, 2.0, 1.0], &[1.0, 2.0, 3.0, 3.0, 3.0], 1), None);
        assert_eq!(two_lines(&grid(5), &grid(6), 1), None);
        assert_eq!(two_lines(&[], &[], 1), None);
    }

    #[test]
    fn the_same_seed_says_the_same() {
        let x = grid(10);
        let y = [10.0, 21.0, 29.0, 41.0, 50.0, 52.0, 50.5, 53.0, 51.0, 52.0];
        let found = two_lines(&x, &y, 9).unwrap();
        assert_eq!(Some(found), two_lines(&x, &y, 9));
        assert!((4.0..6.0).contains(&found.at));
    }
}
