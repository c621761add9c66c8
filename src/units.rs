//! Physical quantities and how they are printed.
//!
//! This module formats numbers; it never decides what a number means. Every quantity that leaves a function is either one of
//! these types or a field whose name ends in its unit (`_ns`, `_ms`, `_bytes`, `_tok_per_s`).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl std::ops::Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl std::ops::Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl std::ops::Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }
        /// The ratio of two like quantities has no unit.
        impl std::ops::Div for $name {
            type Output = f64;
            fn div(self, other: Self) -> f64 {
                self.0 / other.0
            }
        }
        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                Self(iter.map(|quantity| quantity.0).sum())
            }
        }
    };
}

quantity!(
    /// A duration in seconds.
    Seconds
);
quantity!(
    /// An amount of memory or traffic in bytes.
    Bytes
);
quantity!(
    /// A count of floating-point operations; one fused multiply-add counts as two.
    Flops
);
quantity!(
    /// A rate in floating-point operations per second.
    FlopsPerSecond
);
quantity!(
    /// A rate in bytes per second.
    Bandwidth
);

impl Seconds {
    /// From integer nanoseconds, the unit of every timeline.
    pub fn from_ns(ns: u64) -> Self {
        Self(ns as f64 * 1e-9)
    }
    /// In milliseconds, the unit of the reports.
    pub fn as_ms(self) -> f64 {
        self.0 * 1e3
    }
}

impl std::ops::Div<Seconds> for Bytes {
    type Output = Bandwidth;
    fn div(self, time: Seconds) -> Bandwidth {
        Bandwidth(self.0 / time.0)
    }
}
impl std::ops::Div<Seconds> for Flops {
    type Output = FlopsPerSecond;
    fn div(self, time: Seconds) -> FlopsPerSecond {
        FlopsPerSecond(self.0 / time.0)
    }
}
impl std::ops::Div<FlopsPerSecond> for Flops {
    type Output = Seconds;
    fn div(self, rate: FlopsPerSecond) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}
impl std::ops::Div<Bandwidth> for Bytes {
    type Output = Seconds;
    fn div(self, rate: Bandwidth) -> Seconds {
        Seconds(self.0 / rate.0)
    }
}

/// Three significant digits without an exponent, e.g. `1.23`, `45.6`, `789`.
fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    // The bounds sit at the rounding points, so that 9.996 becomes `10.0` and not `10.00`.
    if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Writes `value` with the largest prefix of `steps` (factor, suffix; ascending) that keeps it at 1 or more.
fn scaled(f: &mut fmt::Formatter<'_>, value: f64, steps: &[(f64, &str)]) -> fmt::Result {
    if !value.is_finite() {
        return f.pad("–");
    }
    let (factor, suffix) = steps.iter().rev().find(|(factor, _)| value.abs() >= *factor * 0.9995).unwrap_or(&steps[0]);
    f.pad(&format!("{} {suffix}", three_digits(value / factor)))
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &[(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")])
    }
}
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KI: f64 = 1024.0;
        scaled(
            f,
            self.0,
            &[(1.0, "B"), (KI, "KiB"), (KI * KI, "MiB"), (KI * KI * KI, "GiB"), (KI * KI * KI * KI, "TiB")],
        )
    }
}
impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[(1.0, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP")],
        )
    }
}
impl fmt::Display for FlopsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &[(1.0, "FLOP/s"), (1e6, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s"), (1e15, "PFLOP/s")])
    }
}
impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &[(1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_three_digits_with_the_fitting_prefix() {
        assert_eq!(Seconds(0.012_345).to_string(), "12.3 ms");
        assert_eq!(Seconds(9.996e-4).to_string(), "1.00 ms");
        assert_eq!(Bytes(1536.0).to_string(), "1.50 KiB");
        assert_eq!(FlopsPerSecond(989.4e12).to_string(), "989 TFLOP/s");
        assert_eq!(Bandwidth(3.35e12).to_string(), "3.35 TB/s");
        assert_eq!(Seconds(0.0).to_string(), "0.00 ns");
        assert_eq!(Seconds(f64::NAN).to_string(), "–");
    }

    #[test]
    fn a_rate_is_an_amount_over_a_time() {
        assert_eq!((Bytes(10.0) / Seconds(2.0)).0, 5.0);
        assert_eq!((Flops(10.0) / FlopsPerSecond(5.0)).0, 2.0);
    }
}
