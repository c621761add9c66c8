//! Whether requests of a running open loop pile up: more come than the server can answer, so that every later one waits longer.
//!
//! Two things must grow at once: requests in flight, and the time to the first token. In flight alone grows while the first requests are still
//! being answered; the time to the first token alone grows when longer prompts come. A server that is over its capacity by a share s makes each
//! second of requests wait about s seconds longer, so a slope of the time to the first token has a meaning of its own.

use std::fmt;

use crate::stats::summary::student_t_quantile;

/// Seconds that must have been seen before the growth is judged for the first time.
pub const LEAST_S: f64 = 10.0;
/// First tokens that must have been seen.
pub const LEAST_POINTS: u64 = 50;
/// How many times the requests in flight in the last third must be those of the first.
pub const DOUBLED: f64 = 2.0;
/// How many times both must be in the last third what they are in the middle one: what levels off is no pile.
const STILL_GROWING: f64 = 1.25;
/// Least slope of the time to the first token, in ms per second: 1 % over capacity.
pub const LEAST_SLOPE: f64 = 10.0;
/// The growth must hold until the time seen is so many times that when it first showed: a queue of a server that keeps up grows, too, but not for
/// as long again.
pub const PERSISTS: f64 = 2.0;
/// Confidence of the two slopes, two-sided.
const CONFIDENCE: f64 = 0.99;
/// Bins, and the seconds of a bin at first: when all are used, two become one.
const BINS: usize = 64;
const BIN_S: f64 = 0.25;
/// Fewest bins a slope is taken from.
const LEAST_BINS: usize = 12;

/// What was seen in a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    points: f64,
    t_s: f64,
    in_flight: f64,
    ttft_ms: f64,
}

impl Bin {
    fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.t_s += other.t_s;
        self.in_flight += other.in_flight;
        self.ttft_ms += other.ttft_ms;
    }
    fn mean(&self) -> [f64; 3] {
        [self.t_s, self.in_flight, self.ttft_ms].map(|sum| sum / self.points)
    }
}

/// Why a stage is over-saturated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pile {
    /// Seconds it was watched.
    pub seen_s: f64,
    /// Mean requests in flight in the first and the last third of that.
    pub in_flight: [f64; 2],
    /// Mean time to the first token in the first and the last third, in ms.
    pub ttft_ms: [f64; 2],
    /// Slope of the requests in flight per second, and its margin of error.
    pub in_flight_per_s: [f64; 2],
    /// Slope of the time to the first token in ms per second, and its margin of error.
    pub ttft_ms_per_s: [f64; 2],
}

impl fmt::Display for Pile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests pile up: in {:.0} s those in flight went from {:.0} to {:.0} and the time to the first token from {:.0} to {:.0} ms \
             ({:+.0} ± {:.0} ms each second)",
            self.seen_s,
            self.in_flight[0],
            self.in_flight[1],
            self.ttft_ms[0],
            self.ttft_ms[1],
            self.ttft_ms_per_s[0],
            self.ttft_ms_per_s[1]
        )
    }
}

/// Watches a stage whose rate is constant; of a rate that rises by plan it would say what the plan says. Memory and time for each point are
/// constant.
#[derive(Debug, Clone)]
pub struct OverSaturation {
    bins: Vec<Bin>,
    bin_s: f64,
    begin_s: Option<f64>,
    points: u64,
    /// The time seen when the growth first showed that has held since.
    held_from_s: Option<f64>,
}

impl Default for OverSaturation {
    fn default() -> Self {
        Self { bins: Vec::with_capacity(BINS), bin_s: BIN_S, begin_s: None, points: 0, held_from_s: None }
    }
}

impl OverSaturation {
    /// Takes in a first token: when it came in seconds of any clock that does not step, the requests in flight then, and its request's time to the
    /// first token in ms. Says why the stage is over-saturated, if it is.
    pub fn feed(&mut self, t_s: f64, in_flight: u32, ttft_ms: f64) -> Option<Pile> {
        let begin_s = *self.begin_s.get_or_insert(t_s);
        let since = t_s - begin_s;
        if !(since.is_finite() && ttft_ms.is_finite()) {
            return None;
        }
        self.points += 1;
        while since >= self.bin_s * BINS as f64 {
            self.halve();
        }
        let index = (since.max(0.0) / self.bin_s) as usize;
        let opened = index >= self.bins.len();
        // A bin is judged when it is full: when the first point of a later one comes.
        let mut pile = None;
        if opened {
            let growth = self.growth();
            self.held_from_s = growth.map(|growth| self.held_from_s.unwrap_or(growth.seen_s));
            pile = growth.filter(|growth| self.held_from_s.is_some_and(|from_s| growth.seen_s >= PERSISTS * from_s));
            self.bins.resize(index + 1, Bin::default());
        }
        self.bins[index].add(&Bin { points: 1.0, t_s: since, in_flight: f64::from(in_flight), ttft_ms });
        pile
    }

    fn halve(&mut self) {
        self.bins = self
            .bins
            .chunks(2)
            .map(|pair| {
                let mut joined = Bin::default();
                for bin in pair {
                    joined.add(bin);
                }
                joined
            })
            .collect();
        self.bin_s *= 2.0;
    }

    /// The growth of both over all that was seen, if it is one.
    fn growth(&self) -> Option<Pile> {
        let means: Vec<[f64; 3]> = self.bins.iter().filter(|bin| bin.points > 0.0).map(Bin::mean).collect();
        let seen_s = self.bins.len() as f64 * self.bin_s;
        if self.points < LEAST_POINTS || seen_s < LEAST_S || means.len() < LEAST_BINS {
            return None;
        }
        let third = means.len() / 3;
        let mean = |part: &[[f64; 3]], of: usize| part.iter().map(|mean| mean[of]).sum::<f64>() / part.len() as f64;
        let thirds = |of: usize| {
            [&means[..third], &means[third..2 * third], &means[means.len() - third..]].map(|part| mean(part, of))
        };
        let ([first, middle, last], [first_ms, middle_ms, last_ms]) = (thirds(1), thirds(2));
        let still = last >= STILL_GROWING * middle && last_ms >= STILL_GROWING * middle_ms;
        if last < DOUBLED * first.max(1.0) || !still {
            return None;
        }
        let (in_flight_per_s, ttft_ms_per_s) = (slope(&means, 1)?, slope(&means, 2)?);
        let grows = |[slope, margin]: [f64; 2]| slope > margin;
        (grows(in_flight_per_s) && grows(ttft_ms_per_s) && ttft_ms_per_s[0] >= LEAST_SLOPE).then_some(Pile {
            seen_s,
            in_flight: [first, last],
            ttft_ms: [first_ms, last_ms],
            in_flight_per_s,
            ttft_ms_per_s,
        })
    }
}

/// The least-squares slope over time and its margin of error, widened for neighbours that depend on each other: by √((1 + ρ) / (1 − ρ)) with the
/// correlation ρ of neighbouring residuals.
fn slope(means: &[[f64; 3]], of: usize) -> Option<[f64; 2]> {
    let n = means.len() as f64;
    let (t, y) =
        (means.iter().map(|mean| mean[0]).sum::<f64>() / n, means.iter().map(|mean| mean[of]).sum::<f64>() / n);
    let tt: f64 = means.iter().map(|mean| (mean[0] - t).powi(2)).sum();
    let ty: f64 = means.iter().map(|mean| (mean[0] - t) * (mean[of] - y)).sum();
    if tt <= 0.0 {
        return None;
    }
    let slope = ty / tt;
    let residuals: Vec<f64> = means.iter().map(|mean| mean[of] - y - slope * (mean[0] - t)).collect();
    let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
    let products: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let rho = if squares > 0.0 { (products / squares).clamp(0.0, 0.95) } else { 0.0 };
    let error = (squares / (n - 2.0) / tt * (1.0 + rho) / (1.0 - rho)).sqrt();
    Some([slope, student_t_quantile(0.5 + CONFIDENCE / 2.0, n - 2.0)? * error])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::bootstrap::Generator;

    fn exponential(random: &mut Generator, mean: f64) -> f64 {
        -mean * (1.0 - random.uniform()).ln()
    }

    /// A queue before `slots` slots of `service_s` each, Poisson arrivals at `rate` for `seconds`: (first token at, in flight then, TTFT in ms).
    /// The first token comes a tenth of the service after a slot was had.
    fn queue(seed: u64, rate: f64, slots: usize, service_s: f64, seconds: f64) -> Vec<(f64, u32, f64)> {
        let mut random = Generator::new(seed);
        let mut free = vec![0.0f64; slots];
        let (mut now, mut requests) = (0.0, Vec::new());
        loop {
            now += exponential(&mut random, 1.0 / rate);
            if now > seconds {
                break;
            }
            let slot = (0..slots).min_by(|a, b| free[*a].total_cmp(&free[*b])).unwrap();
            let begun = free[slot].max(now);
            let service = service_s * (0.5 + random.uniform());
            free[slot] = begun + service;
            requests.push((now, begun + 0.1 * service, begun + service));
        }
        let mut seen: Vec<(f64, u32, f64)> = requests
            .iter()
            .map(|(came, first, _)| {
                let out = requests.iter().filter(|(came, _, ended)| came <= first && ended > first).count();
                (*first, out as u32, (first - came) * 1e3)
            })
            .collect();
        seen.sort_by(|a, b| a.0.total_cmp(&b.0));
        seen
    }

    fn watch(points: impl IntoIterator<Item = (f64, u32, f64)>) -> Option<Pile> {
        let mut watch = OverSaturation::default();
        points.into_iter().find_map(|(t, in_flight, ttft)| watch.feed(t, in_flight, ttft))
    }

    #[test]
    fn a_queue_that_grows_without_end_is_seen_within_a_minute() {
        // 8 slots of 1 s answer 8 requests per second; 12 come: each second of requests waits half a second longer.
        for seed in 0..50 {
            let pile = watch(queue(seed, 12.0, 8, 1.0, 90.0)).expect("it is over-saturated");
            assert!(pile.seen_s <= 60.0, "{pile:?}");
            let [slope, margin] = pile.ttft_ms_per_s;
            assert!(slope > margin && (100.0..800.0).contains(&slope), "{pile:?}");
        }
    }

    #[test]
    fn a_queue_that_its_server_keeps_up_with_is_never_one() {
        // Up to 85 % of what the server can do, where the queue often has tens of requests.
        for seed in 0..200 {
            for rate in [2.0, 5.6, 6.8] {
                assert_eq!(watch(queue(seed, rate, 8, 1.0, 120.0)), None, "seed {seed}, rate {rate}");
            }
        }
    }

    #[test]
    fn noise_about_a_level_is_no_pile() {
        for seed in 0..200 {
            let mut random = Generator::new(seed);
            let noise = (0..2000).map(|point| {
                let in_flight = 10.0 + 8.0 * (random.uniform() - 0.5);
                (f64::from(point) * 0.05, in_flight as u32, 50.0 + exponential(&mut random, 100.0))
            });
            assert_eq!(watch(noise.collect::<Vec<_>>()), None, "seed {seed}");
        }
    }

    #[test]
    fn filling_up_at_the_begin_is_no_pile() {
        // Answers take 60 s: in flight grows for a minute, while the first tokens take what they take.
        let mut random = Generator::new(1);
        let fill = (0..1200).map(|point| {
            let t = f64::from(point) * 0.1;
            let in_flight = (10.0 * t).min(600.0);
            (t, in_flight as u32, 50.0 + 0.1 * in_flight + exponential(&mut random, 20.0))
        });
        assert_eq!(watch(fill.collect::<Vec<_>>()), None);
    }

    #[test]
    fn one_of_the_two_growing_alone_is_no_pile() {
        let steady_flight = (0..1000).map(|point| (f64::from(point) * 0.1, 10, 50.0 + 5.0 * f64::from(point)));
        assert_eq!(watch(steady_flight), None);
        let steady_ttft = (0..1000u32).map(|point| (f64::from(point) * 0.1, 10 + point, 50.0));
        assert_eq!(watch(steady_ttft), None);
    }

    #[test]
    fn a_pile_is_told_in_words_with_its_numbers() {
        // Ten in flight more, and 500 ms more, each second: the bins are exact.
        let grown = (0..1000u32).map(|point| (f64::from(point) * 0.1, 10 + point, 100.0 + 50.0 * f64::from(point)));
        let pile = watch(grown).unwrap();
        assert!(
            (pile.in_flight_per_s[0] - 10.0).abs() < 0.1 && (pile.ttft_ms_per_s[0] - 500.0).abs() < 5.0,
            "{pile:?}"
        );
        assert!((20.0..22.0).contains(&pile.seen_s));
        let text = pile.to_string();
        assert!(text.starts_with("requests pile up: in 20 s") && text.contains("+500 ± 0 ms each second"), "{text}");
    }

    #[test]
    fn a_few_points_or_seconds_say_nothing_and_hours_take_no_more_room() {
        let short = (0..90u32).map(|point| (f64::from(point) * 0.1, 10 + 10 * point, 100.0 * f64::from(point)));
        assert_eq!(watch(short), None, "nine seconds");
        let few = (0..40u32).map(|point| (f64::from(point), 10 + 10 * point, 100.0 * f64::from(point)));
        assert_eq!(watch(few), None, "forty points");
        let mut watch = OverSaturation::default();
        for point in 0..200_000u32 {
            assert_eq!(watch.feed(f64::from(point), 10, 50.0), None);
        }
        assert!(watch.bins.len() <= BINS);
        assert_eq!(watch.feed(f64::NAN, 10, 50.0), None);
    }
}
