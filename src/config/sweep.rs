//! Puts the points of a sweep together: a file of `configs/sweep/` or of the user, and what the command line adds to all points.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ConfigError;
use super::compose::{ComposeRequest, Composed, compose};
use super::error::near_matches;
use super::overrides::Element;
use super::provenance::Origin;
use super::sources::{Source, Sources};

/// More points than this are a mistake and not a sweep.
pub const MOST_POINTS: usize = 10_000;

/// What a sweep is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepRequest {
    /// A name of `configs/sweep/`, or a file.
    pub config: String,
    /// Overrides of every point, after those of the file.
    pub overrides: Vec<String>,
    /// A directory whose files stand before the embedded ones.
    pub config_dir: Option<PathBuf>,
}

/// The order in which points are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepOrder {
    /// As they are written.
    #[default]
    Given,
    /// Shuffled by `seed`, so that a drift of the machine does not fall on one end of an axis.
    Random,
}

/// Values drawn at random.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RandomFile {
    /// Points to draw.
    samples: u32,
    /// Key and what its values are drawn from: a list, or `{min, max}` with `log: true` and `integer: true` where wanted.
    space: Map<String, Value>,
}

/// A range values are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeFile {
    min: f64,
    max: f64,
    #[serde(default)]
    log: bool,
    #[serde(default)]
    integer: bool,
}

/// The file of a sweep.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SweepFile {
    command: String,
    overrides: Vec<String>,
    grid: Map<String, Value>,
    list: Vec<Map<String, Value>>,
    random: Option<RandomFile>,
    order: SweepOrder,
    seed: u64,
    objective: Option<String>,
    constraints: Vec<String>,
    pareto: Vec<String>,
}

impl Default for SweepFile {
    fn default() -> Self {
        Self {
            command: "stage1".to_owned(),
            overrides: Vec::new(),
            grid: Map::new(),
            list: Vec::new(),
            random: None,
            order: SweepOrder::Given,
            seed: 0,
            objective: None,
            constraints: Vec::new(),
            pareto: Vec::new(),
        }
    }
}

/// One point with its settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPoint {
    /// What tells it from the others.
    pub settings: Vec<(String, String)>,
    /// All overrides of its run.
    pub overrides: Vec<String>,
    /// The settings they make.
    pub composed: Composed,
}

/// A sweep whose points are all checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// Name of the file.
    pub name: String,
    /// `stage1`.
    pub command: String,
    /// The points.
    pub points: Vec<SweepPoint>,
    /// Order in which they are tried.
    pub order: Vec<u32>,
    /// Measure the best point is sought by.
    pub objective: Option<String>,
    /// Conditions on the best point, as written.
    pub constraints: Vec<String>,
    /// Measures of the Pareto front.
    pub pareto: Vec<String>,
}

/// Reads the sweep of `request` and composes the settings of every point.
///
/// The points are every combination of `grid` (the last key varying fastest), then those of `list`, then those drawn by `random`.
///
/// # Errors
/// The first mistake, wherever it is: nothing may start before the last point is known to be sound.
pub fn sweep(request: &SweepRequest) -> Result<Sweep, ConfigError> {
    let source = find(request)?;
    let file: SweepFile = serde_path_to_error::deserialize(source.document.value.clone())
        .map_err(|error| source.error(&error.path().to_string(), error.inner().to_string()))?;
    if file.command != "stage1" {
        let message = format!("a sweep over `{}` is not part of this version; `stage1` is", file.command);
        return Err(source.error("command", message));
    }
    let mut settings = grid(&source, &file.grid)?;
    settings.extend(list(&source, &file.list)?);
    if let Some(random) = &file.random {
        settings.extend(draw(&source, random, file.seed)?);
    }
    if settings.is_empty() {
        return Err(source.error("", "there is no point: give `grid`, `list` or `random`"));
    }
    if settings.len() > MOST_POINTS {
        return Err(source.error("", format!("{} points are more than {MOST_POINTS}", settings.len())));
    }
    let mut points = Vec::with_capacity(settings.len());
    for settings in settings {
        let mut overrides = file.overrides.clone();
        overrides.extend(request.overrides.iter().cloned());
        overrides.extend(settings.iter().map(|(key, value)| format!("{key}={value}")));
        let composed = compose(&ComposeRequest {
            command: "stage1".to_owned(),
            overrides: overrides.clone(),
            run_config: None,
            config_dir: request.config_dir.clone(),
        })?;
        composed.stage1()?;
        let settings = settings
            .into_iter()
            .map(|(key, value)| (key, value.to_text().map_or_else(|| value.to_string(), str::to_owned)));
        points.push(SweepPoint { settings: settings.collect(), overrides, composed });
    }
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    if file.order == SweepOrder::Random {
        order.shuffle(&mut StdRng::seed_from_u64(file.seed));
    }
    let name = Path::new(&source.name)
        .file_stem()
        .map_or_else(|| source.name.clone(), |stem| stem.to_string_lossy().into_owned());
    Ok(Sweep {
        name,
        command: file.command,
        points,
        order,
        objective: file.objective,
        constraints: file.constraints,
        pareto: file.pareto,
    })
}

fn find(request: &SweepRequest) -> Result<Source, ConfigError> {
    let path = Path::new(&request.config);
    if path.is_file() || request.config.contains('/') || path.extension().is_some() {
        return Source::read(path);
    }
    let sources = Sources::new(request.config_dir.as_deref())?;
    let harmless = request.config.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let found = if harmless { sources.load(&format!("sweep/{}.yaml", request.config))? } else { None };
    if let Some(source) = found {
        return Ok(source);
    }
    let groups = sources.catalog()?;
    let available =
        groups.into_iter().find(|group| group.name == "sweep").map(|group| group.choices).unwrap_or_default();
    Err(ConfigError::UnknownChoice {
        group: "sweep".into(),
        choice: request.config.as_str().into(),
        near: near_matches(&request.config, available.iter().map(String::as_str)),
        available,
        origin: Origin::Override { index: 1, text: request.config.as_str().into() },
    })
}

type Settings = Vec<(String, Element)>;

/// A value of the file as an override has it.
fn element(value: &Value) -> Element {
    match value {
        Value::String(text) => Element::Quoted(text.clone()),
        Value::Array(items) => Element::List(items.iter().map(element).collect()),
        Value::Object(map) => Element::Dict(map.iter().map(|(key, value)| (key.clone(), element(value))).collect()),
        scalar => Element::Plain { value: scalar.clone(), text: super::yaml::scalar_text(scalar) },
    }
}

fn grid(source: &Source, grid: &Map<String, Value>) -> Result<Vec<Settings>, ConfigError> {
    let mut points: Vec<Settings> = Vec::new();
    for (key, values) in grid {
        let values = match values {
            Value::Array(values) if !values.is_empty() => values.clone(),
            Value::Array(_) => return Err(source.error(&format!("grid.{key}"), "the list of values is empty")),
            one => vec![one.clone()],
        };
        let before = if points.is_empty() { vec![Vec::new()] } else { points };
        if before.len().saturating_mul(values.len()) > MOST_POINTS {
            return Err(source.error("grid", format!("the grid has more than {MOST_POINTS} points")));
        }
        points = before
            .iter()
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    point.push((key.clone(), element(value)));
                    point
                })
            })
            .collect();
    }
    Ok(points)
}

fn list(source: &Source, list: &[Map<String, Value>]) -> Result<Vec<Settings>, ConfigError> {
    list.iter()
        .enumerate()
        .map(|(index, point)| {
            if point.is_empty() {
                return Err(source.error(&format!("list.{index}"), "the point sets nothing"));
            }
            Ok(point.iter().map(|(key, value)| (key.clone(), element(value))).collect())
        })
        .collect()
}

fn draw(source: &Source, random: &RandomFile, seed: u64) -> Result<Vec<Settings>, ConfigError> {
    if random.samples as usize > MOST_POINTS {
        return Err(source.error("random.samples", format!("more than {MOST_POINTS} points")));
    }
    enum Drawn {
        Values(Vec<Value>),
        Range(RangeFile),
    }
    let mut space = Vec::new();
    for (key, from) in &random.space {
        let at = format!("random.space.{key}");
        let drawn = match from {
            Value::Array(values) if !values.is_empty() => Drawn::Values(values.clone()),
            Value::Object(_) => {
                let range: RangeFile = serde_path_to_error::deserialize(from.clone())
                    .map_err(|error| source.error(&at, error.to_string()))?;
                let sound = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
                if !sound || (range.log && range.min <= 0.0) {
                    return Err(source.error(&at, "expected `min` ≤ `max`, and `min` above 0 with `log`"));
                }
                Drawn::Range(range)
            }
            _ => return Err(source.error(&at, "expected a list of values, or `{min, max}`")),
        };
        space.push((key.clone(), drawn));
    }
    let mut generator = StdRng::seed_from_u64(seed);
    let mut points = Vec::new();
    for _ in 0..random.samples {
        let mut point = Vec::new();
        for (key, from) in &space {
            let value = match from {
                Drawn::Values(values) => values[generator.random_range(0..values.len())].clone(),
                Drawn::Range(range) => {
                    let drawn = if range.log {
                        generator.random_range(range.min.ln()..=range.max.ln()).exp()
                    } else {
                        generator.random_range(range.min..=range.max)
                    };
                    let drawn = drawn.clamp(range.min, range.max);
                    if range.integer { Value::from(drawn.round() as i64) } else { Value::from(drawn) }
                }
            };
            point.push((key.clone(), element(&value)));
        }
        // Drawn twice it would only be measured twice.
        if !points.contains(&point) {
            points.push(point);
        }
    }
    Ok(points)
}
