//! When requests are sent in an open loop.
//!
//! All random arrivals are unit-rate renewal processes whose time is stretched by the rate: the k-th request is due where the integral of the rate has
//! reached the sum of the first k gaps (the time-rescaling theorem; Brown, Barbieri, Ventura, Kass, Frank: "The time-rescaling theorem and its application
//! to neural spike train data analysis", Neural Computation 14, 2002). So a ramp is a Poisson process of just that rate, not one that is switched in steps.

use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Exp1, Gamma};

use crate::config::schema::load::{ArrivalKind, LoadConfig};
use crate::diagnostics::{ExitStatus, Failure};
use crate::load::workload::item::Dataset;

/// Shapes of the gamma distribution that are drawn from: beyond, gaps are 0 or all the same to the last digit.
const SHAPES: std::ops::RangeInclusive<f64> = 0.01..=1e6;
/// Told apart from the streams of the workload, which have the same seed.
const STREAM: u64 = 0x6172_7269_7661_6c73;
const NS: f64 = 1e9;

/// Why there is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// A rate, a shape or a speed that is none.
    #[error("`{setting}` is {value}: {expected}")]
    Number {
        /// The key.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: String,
    },
    /// Neither a number of requests nor a duration.
    #[error("neither `requests_per_stage` nor `duration_s` says when a stage ends")]
    NoEnd,
    /// A trace without times.
    #[error("`arrival=trace` needs a dataset with times, and `{0}` has none")]
    NoTimes(String),
    /// A kind of arrival that has no schedule, or lacks a setting.
    #[error("{0}")]
    NotOpen(String),
    /// The file of a series cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal of the system.
        source: std::io::Error,
    },
    /// A line of it that cannot be used.
    #[error("{path}:{line}: {message}", path = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// 1-based line.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

impl From<ArrivalError> for Failure {
    fn from(error: ArrivalError) -> Self {
        match error {
            ArrivalError::Io { path, source } => {
                Self::new(ExitStatus::CouldNotStart, format!("cannot read `{}`", path.display())).because(source)
            }
            other => Self::new(ExitStatus::Usage, other.to_string()),
        }
    }
}

/// When the requests of a stage are due.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// The k-th request, from 0, after k/rate seconds.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// Exponential gaps.
    Poisson {
        /// Requests per second.
        rate: f64,
    },
    /// Gaps of a gamma distribution with mean 1/rate; their coefficient of variation is 1/√shape.
    Gamma {
        /// Requests per second.
        rate: f64,
        /// The shape; 1 is Poisson.
        shape: f64,
    },
    /// A rate that changes linearly.
    Ramp {
        /// Requests per second at the begin.
        from: f64,
        /// Requests per second after `over_s`; it stays there.
        to: f64,
        /// Seconds the change takes.
        over_s: f64,
        /// Where the integral of the rate is whole, instead of at random.
        even: bool,
    },
    /// Rates that hold from their second to the next one's; before the first there is none. At random.
    Series(Vec<(f64, f64)>),
    /// Recorded times.
    Trace {
        /// Nanoseconds after some instant, in any order.
        at_ns: Vec<u64>,
        /// How much faster than recorded.
        speed: f64,
    },
}

impl Arrival {
    /// The arrivals of a stage of `rate` requests per second, which series and traces do not look at.
    ///
    /// # Errors
    /// If the file of a series cannot be used, the dataset has no times, or the loop is closed.
    pub fn of(config: &LoadConfig, rate: f64, dataset: &Dataset) -> Result<Self, ArrivalError> {
        let lacks =
            |setting: &str| ArrivalError::NotOpen(format!("`arrival={}` needs `{setting}`", config.arrival.name()));
        Ok(match config.arrival {
            ArrivalKind::Closed => return Err(ArrivalError::NotOpen("a closed loop has no schedule".to_owned())),
            ArrivalKind::Constant => Self::Constant { rate },
            ArrivalKind::Poisson => Self::Poisson { rate },
            ArrivalKind::Gamma => Self::Gamma { rate, shape: config.burstiness },
            ArrivalKind::Ramp => Self::Ramp {
                from: rate,
                to: config.rate_end.ok_or_else(|| lacks("rate_end"))?,
                over_s: config.duration_s.ok_or_else(|| lacks("duration_s"))?,
                even: false,
            },
            ArrivalKind::Series => {
                Self::Series(read_series(config.rate_series.as_deref().ok_or_else(|| lacks("rate_series"))?)?)
            }
            ArrivalKind::Trace => {
                let at_ns: Option<Vec<u64>> = dataset.items.iter().map(|item| item.at_ns).collect();
                let at_ns = at_ns.ok_or_else(|| ArrivalError::NoTimes(dataset.name.clone()))?;
                Self::Trace { at_ns, speed: config.trace_speed }
            }
        })
    }

    /// Requests that are due within `seconds` on average.
    pub fn expected(&self, seconds: f64) -> f64 {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } | Self::Gamma { rate, .. } => rate * seconds,
            Self::Ramp { from, to, over_s, .. } => {
                let inside = seconds.min(*over_s);
                from * inside + (to - from) * inside * inside / (2.0 * over_s) + to * (seconds - inside)
            }
            Self::Series(steps) => (0..steps.len())
                .map(|index| {
                    let (begin, rate) = steps[index];
                    let end = steps.get(index + 1).map_or(seconds, |next| next.0.min(seconds));
                    rate * (end - begin).max(0.0)
                })
                .sum(),
            Self::Trace { at_ns, speed } => {
                let begin = at_ns.iter().min().copied().unwrap_or(0);
                at_ns.iter().filter(|at| ((**at - begin) as f64 / speed) < seconds * NS).count() as f64
            }
        }
    }

    /// Seconds after which the integral of the rate is `sum`; `None` if it never is.
    fn inverse(&self, sum: f64) -> Option<f64> {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } | Self::Gamma { rate, .. } => Some(sum / rate),
            Self::Ramp { from, to, over_s, .. } => {
                let whole = (from + to) / 2.0 * over_s;
                if sum >= whole {
                    return (*to > 0.0).then(|| over_s + (sum - whole) / to);
                }
                let curve = (to - from) / (2.0 * over_s);
                // The root of curve·t² + from·t − sum in the form that loses no digits where the curve is nearly straight.
                let below = from + (from * from + 4.0 * curve * sum).max(0.0).sqrt();
                Some(if sum == 0.0 { 0.0 } else { 2.0 * sum / below })
            }
            Self::Series(steps) => {
                let mut rest = sum;
                for (index, (begin, rate)) in steps.iter().enumerate() {
                    let room = steps.get(index + 1).map_or(f64::INFINITY, |next| rate * (next.0 - begin));
                    // A rate of 0 for ever has room for nothing, and infinity times 0 is no number.
                    if *rate > 0.0 && rest < room {
                        return Some(begin + rest / rate);
                    }
                    rest -= if *rate > 0.0 { room } else { 0.0 };
                }
                None
            }
            Self::Trace { .. } => None,
        }
    }

    fn check(&self) -> Result<(), ArrivalError> {
        let positive = |setting: &'static str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(ArrivalError::Number { setting, value, expected: "it must be above 0".to_owned() })
            }
        };
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => positive("rate", *rate),
            Self::Gamma { rate, shape } => {
                positive("rate", *rate)?;
                if SHAPES.contains(shape) {
                    return Ok(());
                }
                let expected = format!("it must be from {} to {}", SHAPES.start(), SHAPES.end());
                Err(ArrivalError::Number { setting: "burstiness", value: *shape, expected })
            }
            Self::Ramp { from, to, over_s, .. } => {
                let sound = |value: f64| value.is_finite() && value >= 0.0;
                if !sound(*from) || !sound(*to) || from + to <= 0.0 {
                    let expected = "the rates of a ramp must not be negative, and one must be above 0".to_owned();
                    return Err(ArrivalError::Number { setting: "rate", value: *from, expected });
                }
                positive("duration_s", *over_s)
            }
            Self::Series(_) => Ok(()),
            Self::Trace { speed, .. } => positive("trace_speed", *speed),
        }
    }
}

/// Times at which requests are due, in nanoseconds after the begin of the stage, never falling.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrival: Arrival,
    gaps: Gaps,
    /// Integral of the rate up to the next request.
    sum: f64,
    issued: u64,
    requests: u64,
    /// Nothing is due at or after this.
    end_ns: u64,
    last_ns: u64,
}

/// What the integral of the rate grows by from one request to the next.
#[derive(Debug, Clone)]
enum Gaps {
    Even,
    Exponential(StdRng),
    /// Mean 1.
    Gamma(StdRng, Gamma<f64>),
}

impl Schedule {
    /// A schedule that ends after `requests`, or before `duration_s` has passed, whichever is first.
    ///
    /// # Errors
    /// If it would never end, or a number cannot be used.
    pub fn new(
        arrival: Arrival,
        requests: Option<u64>,
        duration_s: Option<f64>,
        seed: u64,
    ) -> Result<Self, ArrivalError> {
        arrival.check()?;
        if requests.is_none() && duration_s.is_none() && !matches!(arrival, Arrival::Trace { .. }) {
            return Err(ArrivalError::NoEnd);
        }
        let rng = || StdRng::seed_from_u64(seed ^ STREAM);
        let gaps = match &arrival {
            Arrival::Constant { .. } | Arrival::Trace { .. } | Arrival::Ramp { even: true, .. } => Gaps::Even,
            Arrival::Gamma { shape, .. } => {
                let unit_mean = Gamma::new(*shape, 1.0 / shape).map_err(|error| ArrivalError::Number {
                    setting: "burstiness",
                    value: *shape,
                    expected: error.to_string(),
                })?;
                Gaps::Gamma(rng(), unit_mean)
            }
            _ => Gaps::Exponential(rng()),
        };
        let arrival = match arrival {
            Arrival::Trace { mut at_ns, speed } => {
                at_ns.sort_unstable();
                Arrival::Trace { at_ns, speed }
            }
            other => other,
        };
        let end_ns = duration_s.map_or(u64::MAX, |seconds| (seconds * NS) as u64);
        let mut schedule =
            Self { arrival, gaps, sum: 0.0, issued: 0, requests: requests.unwrap_or(u64::MAX), end_ns, last_ns: 0 };
        // An even process has a request at its begin, a random one a gap before its first.
        schedule.sum = schedule.gap().unwrap_or(0.0);
        Ok(schedule)
    }

    /// The next gap of a random process.
    fn gap(&mut self) -> Option<f64> {
        match &mut self.gaps {
            Gaps::Even => None,
            Gaps::Exponential(rng) => Some(Exp1.sample(rng)),
            Gaps::Gamma(rng, gamma) => Some(gamma.sample(rng)),
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.issued >= self.requests {
            return None;
        }
        let at_ns = match &self.arrival {
            Arrival::Trace { at_ns, speed } => {
                let at = at_ns.get(usize::try_from(self.issued).ok()?)?;
                ((at - at_ns[0]) as f64 / speed).round() as u64
            }
            other => (other.inverse(self.sum)? * NS).round() as u64,
        };
        if at_ns >= self.end_ns {
            self.requests = 0;
            return None;
        }
        self.issued += 1;
        // Counted and not summed, an even process does not drift.
        self.sum = match self.gap() {
            Some(gap) => self.sum + gap,
            None => self.issued as f64,
        };
        self.last_ns = self.last_ns.max(at_ns);
        Some(self.last_ns)
    }
}

/// Reads lines of `seconds,requests_per_second`; a first line of words, empty lines, and lines that begin with `#` are passed over.
///
/// # Errors
/// What is wrong, with its line.
pub fn read_series(path: &Path) -> Result<Vec<(f64, f64)>, ArrivalError> {
    let text = std::fs::read_to_string(path).map_err(|source| ArrivalError::Io { path: path.to_owned(), source })?;
    parse_series(&text).map_err(|(line, message)| ArrivalError::Line { file: path.to_owned(), line, message })
}

pub(super) fn parse_series(text: &str) -> Result<Vec<(f64, f64)>, (u64, String)> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    let mut is_first = true;
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let (number, line) = (index as u64 + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if std::mem::take(&mut is_first) && cells.iter().all(|cell| cell.parse::<f64>().is_err()) {
            continue;
        }
        let value = |index: usize, what: &str| -> Result<f64, (u64, String)> {
            let cell = cells.get(index).copied().unwrap_or("");
            let value = cell.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
            value.ok_or_else(|| (number, format!("`{cell:.40}` is no {what}: expected a number that is not negative")))
        };
        let step = (value(0, "time in seconds")?, value(1, "rate")?);
        if let Some(before) = steps.last().filter(|before| before.0 >= step.0) {
            return Err((number, format!("{} s is not after {} s of the line before", step.0, before.0)));
        }
        steps.push(step);
    }
    if !steps.iter().any(|step| step.1 > 0.0) {
        return Err((1, "the file has no line with a rate above 0".to_owned()));
    }
    Ok(steps)
}
