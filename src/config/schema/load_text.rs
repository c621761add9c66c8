//! Settings of `load` that are written as text: stages of concurrency, and distributions of lengths.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::load::MOST_IN_FLIGHT;

/// More stages than this are a mistake.
const MOST_STAGES: usize = 1000;

/// The stages of a closed loop: `1,2,4-16`, `4-64x2`, `8-64+8`; ranges include both ends and may fall; a number given twice counts once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Concurrency(pub Vec<u32>);

impl Concurrency {
    /// Reads `text`.
    ///
    /// # Errors
    /// Which part of it is no concurrency, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels: Vec<u32> = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            for level in parse_part(part).map_err(|reason| format!("`{part}` is no concurrency: {reason}"))? {
                if !levels.contains(&level) {
                    levels.push(level);
                }
            }
            if levels.len() > MOST_STAGES {
                return Err(format!("`{text}` has more than {MOST_STAGES} stages"));
            }
        }
        Ok(Self(levels))
    }
}

fn parse_part(part: &str) -> Result<Vec<u32>, String> {
    let number = |text: &str| -> Result<u32, String> {
        let digits = text.trim();
        if digits.is_empty() {
            return Err("a number is missing".to_owned());
        }
        let value: u64 = digits.parse().map_err(|_| format!("`{digits}` is no whole number above 0"))?;
        match value {
            0 => Err("at least one request must be in flight".to_owned()),
            value if value > MOST_IN_FLIGHT => Err(format!("{value} is more than {MOST_IN_FLIGHT}")),
            value => Ok(value as u32),
        }
    };
    let Some((first, rest)) = part.split_once('-').filter(|(first, _)| !first.is_empty()) else {
        return number(part).map(|level| vec![level]);
    };
    let first = number(first)?;
    if let Some((last, factor)) = rest.split_once('x') {
        let (last, factor) = (number(last)?, number(factor)?);
        if factor < 2 {
            return Err("a range that multiplies needs a factor of 2 or more".to_owned());
        }
        let (low, high) = (first.min(last), first.max(last));
        let mut levels: Vec<u32> =
            std::iter::successors(Some(low), |level| level.checked_mul(factor).filter(|next| *next <= high)).collect();
        if levels.last() != Some(&high) {
            levels.push(high);
        }
        if first > last {
            levels.reverse();
        }
        return Ok(levels);
    }
    let (last, step) = match rest.split_once('+') {
        Some((last, step)) => (number(last)?, number(step)?),
        None => (number(rest)?, 1),
    };
    let (low, high) = (first.min(last), first.max(last));
    if (high - low) / step >= MOST_STAGES as u32 {
        return Err(format!("it has more than {MOST_STAGES} stages"));
    }
    let mut levels: Vec<u32> = (low..=high).step_by(step as usize).collect();
    if levels.last() != Some(&high) {
        levels.push(high);
    }
    if first > last {
        levels.reverse();
    }
    Ok(levels)
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum One {
            Number(serde_json::Number),
            Text(String),
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            One(One),
            Many(Vec<One>),
        }
        let text = |one: One| match one {
            One::Number(number) => number.to_string(),
            One::Text(text) => text,
        };
        let text = match Given::deserialize(deserializer)? {
            Given::One(one) => text(one),
            Given::Many(many) => many.into_iter().map(text).collect::<Vec<_>>().join(","),
        };
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What lengths, or seconds, are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Always the same.
    Constant(f64),
    /// Evenly between two, both included.
    Uniform(f64, f64),
    /// Normal: mean, standard deviation.
    Normal(f64, f64),
    /// Log-normal: median, standard deviation of the logarithm.
    LogNormal(f64, f64),
    /// Exponential: mean.
    Exponential(f64),
}

/// A distribution of lengths: `128`, `64-256`, `normal(512,128)`, `lognormal(512,0.5)`, `exponential(256)`, the last three with optional bounds
/// `,min,max` to which draws are clamped.
#[derive(Debug, Clone, PartialEq)]
pub struct Lengths {
    /// The distribution.
    pub shape: Shape,
    /// Draws below are taken as this.
    pub min: f64,
    /// Draws above are taken as this.
    pub max: f64,
    /// As it was written.
    text: String,
}

impl Lengths {
    /// Reads `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = |part: &str| -> Result<f64, String> {
            let value: f64 = part.trim().parse().map_err(|_| format!("`{}` is no number", part.trim()))?;
            if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(format!("{value} is below 0")) }
        };
        let wrong = |reason: String| format!("`{text}` is no distribution of lengths: {reason}");
        let (shape, min, max) = if let Some((name, rest)) = text.split_once('(') {
            let Some(inside) = rest.strip_suffix(')') else { return Err(wrong("`)` is missing".to_owned())) };
            let values = inside.split(',').map(number).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            let (parameters, of) = match name.trim() {
                "normal" | "lognormal" => (2, "a middle and a spread"),
                "exponential" => (1, "a mean"),
                "uniform" => (2, "two ends"),
                "constant" => (1, "a value"),
                other => {
                    return Err(wrong(format!(
                        "`{other}` is not one of normal, lognormal, exponential, uniform, constant"
                    )));
                }
            };
            if values.len() != parameters && values.len() != parameters + 2 {
                return Err(wrong(format!(
                    "`{}` takes {of}, and optionally a least and a greatest value",
                    name.trim()
                )));
            }
            let shape = match name.trim() {
                "normal" => Shape::Normal(values[0], values[1]),
                "lognormal" if values[0] > 0.0 => Shape::LogNormal(values[0], values[1]),
                "lognormal" => return Err(wrong("the median must be above 0".to_owned())),
                "exponential" => Shape::Exponential(values[0]),
                "uniform" => Shape::Uniform(values[0].min(values[1]), values[0].max(values[1])),
                _ => Shape::Constant(values[0]),
            };
            let bounds = values.get(parameters..).unwrap_or(&[]);
            (shape, bounds.first().copied().unwrap_or(0.0), bounds.get(1).copied().unwrap_or(f64::INFINITY))
        } else if let Some((low, high)) = text.split_once('-') {
            let (low, high) = (number(low).map_err(wrong)?, number(high).map_err(wrong)?);
            (Shape::Uniform(low.min(high), low.max(high)), 0.0, f64::INFINITY)
        } else {
            (Shape::Constant(number(text).map_err(wrong)?), 0.0, f64::INFINITY)
        };
        if min > max {
            return Err(wrong(format!("the least value {min} is above the greatest {max}")));
        }
        Ok(Self { shape, min, max, text: text.to_owned() })
    }

    /// Always `value`.
    pub fn constant(value: f64) -> Self {
        Self { shape: Shape::Constant(value), min: 0.0, max: f64::INFINITY, text: value.to_string() }
    }

    /// Whether all draws are 0.
    pub fn is_zero(&self) -> bool {
        self.shape == Shape::Constant(0.0)
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Lengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(serde_json::Number),
            Text(String),
        }
        let text = match Given::deserialize(deserializer)? {
            Given::Number(number) => number.to_string(),
            Given::Text(text) => text,
        };
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Vec<u32> {
        Concurrency::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
    }

    #[test]
    fn ranges_include_both_ends_and_count_nothing_twice() {
        assert_eq!(levels("1,2,4-8"), [1, 2, 4, 5, 6, 7, 8]);
        assert_eq!(levels("8-5"), [8, 7, 6, 5]);
        assert_eq!(levels("2,1-3,3"), [2, 1, 3]);
        assert_eq!(levels("1-100x3"), [1, 3, 9, 27, 81, 100]);
        assert_eq!(levels("64-1x4"), [64, 16, 4, 1]);
        assert_eq!(levels("8-30+8"), [8, 16, 24, 30]);
        assert_eq!(levels(" 4 , 4 "), [4]);
    }

    #[test]
    fn what_is_no_concurrency_is_named() {
        for (text, named) in [
            ("0", "`0`"),
            ("-1", "`-1`"),
            ("1000000000", "1000000000"),
            ("4-1,1,,2", "``"),
            ("a", "`a`"),
            ("1-", "missing"),
            ("1-60000", "stages"),
            ("1-8x1", "factor"),
            ("3.5", "3.5"),
        ] {
            let error = Concurrency::parse(text).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn lists_of_numbers_and_texts_are_one_list() {
        let read = |json: &str| serde_json::from_str::<Concurrency>(json).unwrap().0;
        assert_eq!(read("4"), [4]);
        assert_eq!(read(r#"[1, "2-4"]"#), [1, 2, 3, 4]);
        assert_eq!(read(r#""1,2""#), [1, 2]);
        assert!(serde_json::from_str::<Concurrency>("[1.5]").is_err());
    }

    #[test]
    fn distributions_are_read_as_they_are_written() {
        let shape = |text: &str| Lengths::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).shape;
        assert_eq!(shape("128"), Shape::Constant(128.0));
        assert_eq!(shape("256-64"), Shape::Uniform(64.0, 256.0));
        assert_eq!(shape("normal(512, 128)"), Shape::Normal(512.0, 128.0));
        assert_eq!(shape("lognormal(512,0.5)"), Shape::LogNormal(512.0, 0.5));
        assert_eq!(shape("exponential(10)"), Shape::Exponential(10.0));
        let bounded = Lengths::parse("normal(512,128,1,2048)").unwrap();
        assert_eq!((bounded.min, bounded.max), (1.0, 2048.0));
        for wrong in
            ["", "x", "normal(1)", "normal(1,2,3)", "normal(1,2", "zipf(2)", "lognormal(0,1)", "normal(5,1,9,3)"]
        {
            assert!(Lengths::parse(wrong).is_err(), "{wrong}");
        }
    }
}
