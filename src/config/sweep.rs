//! Puts the points of a sweep together: a file of `configs/sweep/` or of the user, and what the command line adds to all points.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ConfigError;
use super::compose::{ComposeRequest, Composed, compose};
use super::error::near_matches;
use super::overrides::{self, Action, Element};
use super::provenance::{Origin, Provenance, join};
use super::render::{self, masked_override};
use super::sources::{Source, Sources};
use super::study::variable;
use super::tree;

/// More points than this are a mistake and not a sweep.
pub const MOST_POINTS: usize = 10_000;
/// What runs a point where nothing else is said.
const STAGE1: &str = "stage1";
/// The commands that points can be run by.
const COMMANDS: [&str; 2] = [STAGE1, "load"];
/// What a sweep is called that has no file.
const NAMELESS: &str = "command-line";

/// What a sweep is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepRequest {
    /// A name of `configs/sweep/` or a file, then settings of the sweep and of its points, as typed, in order.
    pub arguments: Vec<String>,
    /// Conditions on the best point beside those of the file (`--constraint`).
    pub constraints: Vec<String>,
    /// A directory whose files stand before the embedded ones.
    pub config_dir: Option<PathBuf>,
}

/// The order in which points are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepOrder {
    /// As they are written.
    #[default]
    Given,
    /// Shuffled by `seed`, so that a drift of the machine does not fall on one end of an axis.
    Random,
}

/// Values drawn at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SweepFile {
    command: String,
    overrides: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    grid: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
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
            command: STAGE1.to_owned(),
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
    /// All overrides of its run, variables of the environment (`env.NAME=value`) left out.
    pub overrides: Vec<String>,
    /// Variables of the environment of its run.
    pub environment: BTreeMap<String, String>,
    /// The settings they make.
    pub composed: Composed,
}

/// A sweep whose points are all checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// Name of the file.
    pub name: String,
    /// What runs a point: `stage1` or `load`.
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
    /// The settings of the sweep with their origins.
    resolved: Composed,
}

impl Sweep {
    /// The sweep as YAML that can be run again, each line with its origin; secrets are masked.
    pub fn to_yaml_with_provenance(&self) -> String {
        let mut value = self.resolved.value.clone();
        if let Some(Value::Array(list)) = value.get_mut("overrides") {
            for entry in list {
                if let Value::String(text) = entry {
                    *text = masked_override(text);
                }
            }
        }
        render::yaml_with_provenance(&value, &self.resolved.provenance)
    }
    /// SHA-256 of the settings of the sweep and of every point.
    pub fn sha256(&self) -> String {
        let points: Vec<Value> = self.points.iter().map(|point| Value::String(point.sha256())).collect();
        render::sha256(&json!({"sweep": self.resolved.value, "points": points}))
    }
}

impl SweepPoint {
    /// SHA-256 of its settings and of its environment; files that the settings name are not read.
    pub fn sha256(&self) -> String {
        render::sha256(&json!({"settings": self.composed.sha256(), "environment": self.environment}))
    }
}

/// Puts the sweep of `request` together and composes the settings of every point.
///
/// The points are every combination of `grid` (the last key varying fastest), then those of `list`, then those drawn by `random`. A setting of the
/// command line with several values (`batch=1,2,4`) is an axis of the grid, and so is one that names an axis. That holds for settings that take
/// a list, too: `concurrency=1,2` is two points, and `concurrency=[1,2]` one of two stages.
///
/// # Errors
/// The first mistake, wherever it is: nothing may start before the last point is known to be sound.
pub fn sweep(request: &SweepRequest) -> Result<Sweep, ConfigError> {
    let (config, settings) = match request.arguments.split_first() {
        Some((first, rest)) if is_config(first) => (Some(first.as_str()), rest),
        _ => (None, request.arguments.as_slice()),
    };
    let source = config.map(|config| find(config, request.config_dir.as_deref())).transpose()?;
    let mut file = SweepFile::default();
    let mut resolved = Composed { value: Value::Object(Map::new()), provenance: Provenance::default() };
    for key in ["command", "order", "seed", "objective", "constraints", "pareto", "overrides"] {
        resolved.provenance.set(key, Origin::Derived("the defaults".into()));
    }
    if let Some(source) = &source {
        file = serde_path_to_error::deserialize(source.document.value.clone())
            .map_err(|error| source.error(&error.path().to_string(), error.inner().to_string()))?;
        if !COMMANDS.contains(&file.command.as_str()) {
            return Err(source.error("command", no_command(&file.command)));
        }
        let provenance = &mut resolved.provenance;
        tree::merge(&mut resolved.value, provenance, "", &source.document.value, &|path| source.origin(path));
    }
    for (index, argument) in settings.iter().enumerate() {
        let index = index + 1 + usize::from(config.is_some());
        let origin = Origin::Override { index, text: masked_override(argument).into() };
        file.set(argument, &origin, &mut resolved.provenance)?;
    }
    for text in &request.constraints {
        let origin = Origin::Derived("--constraint".into());
        resolved.provenance.set(&join("constraints", &file.constraints.len().to_string()), origin);
        file.constraints.push(text.clone());
    }
    resolved.value = serde_json::to_value(&file).map_err(|error| ConfigError::Conflict {
        message: format!("the sweep cannot be written down: {error}"),
        origin: Origin::Derived("the settings of the sweep".into()),
    })?;
    let place = Place { source: source.as_ref() };
    let points = points(&file, &place, request.config_dir.as_deref())?;
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    if file.order == SweepOrder::Random {
        order.shuffle(&mut StdRng::seed_from_u64(file.seed));
    }
    let name = source.as_ref().map_or_else(
        || NAMELESS.to_owned(),
        |source| {
            let stem = Path::new(&source.name).file_stem();
            stem.map_or_else(|| source.name.clone(), |stem| stem.to_string_lossy().into_owned())
        },
    );
    Ok(Sweep {
        name,
        command: file.command,
        points,
        order,
        objective: file.objective,
        constraints: file.constraints,
        pareto: file.pareto,
        resolved,
    })
}

/// What is looked for among the points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Goals {
    /// Measure the best point is sought by.
    pub objective: Option<String>,
    /// Conditions on the best point, as written.
    pub constraints: Vec<String>,
    /// Measures of the Pareto front.
    pub pareto: Vec<String>,
}

/// The goals of a sweep that is gone on with: those it `had`, changed by the command line.
///
/// # Errors
/// If the request changes the points, which only the whole sweep can do.
pub fn goals(request: &SweepRequest, had: Goals) -> Result<Goals, ConfigError> {
    let mut file = SweepFile {
        objective: had.objective,
        constraints: had.constraints,
        pareto: had.pareto,
        ..SweepFile::default()
    };
    let points =
        |file: &SweepFile| (file.command.clone(), file.overrides.len(), file.grid.len(), file.order, file.seed);
    let before = points(&file);
    for (index, argument) in request.arguments.iter().enumerate() {
        let origin = Origin::Override { index: index + 1, text: masked_override(argument).into() };
        file.set(argument, &origin, &mut Provenance::default())?;
        if points(&file) != before {
            let message =
                "this would change the points of the sweep, which takes its name or file before it".to_owned();
            return Err(ConfigError::Conflict { message, origin });
        }
    }
    file.constraints.extend(request.constraints.iter().cloned());
    Ok(Goals { objective: file.objective, constraints: file.constraints, pareto: file.pareto })
}

/// Whether the request names a sweep or a setting of its points, and not only what is looked for among them.
pub fn names_points(request: &SweepRequest) -> bool {
    request.arguments.first().is_some_and(|first| is_config(first))
}

/// The settings of one point of `command` as they were recorded, composed again: what a sweep goes on with that is not told its settings once more.
///
/// # Errors
/// As [`compose`].
pub fn recorded_point(
    command: &str,
    settings: &[(String, String)],
    recorded: &[String],
    config_dir: Option<&Path>,
) -> Result<SweepPoint, ConfigError> {
    compose_point(command, settings.to_vec(), recorded.to_vec(), config_dir)
}

fn no_command(name: &str) -> String {
    format!(
        "no sweep can be made of `{name}`: a point is run by {}",
        COMMANDS.map(|name| format!("`{name}`")).join(" or ")
    )
}

/// Whether the first argument names a sweep and sets nothing.
fn is_config(argument: &str) -> bool {
    !argument.starts_with(['~', '+']) && (!argument.contains('=') || Path::new(argument).is_file())
}

impl SweepFile {
    /// Takes one setting of the command line.
    fn set(&mut self, argument: &str, origin: &Origin, provenance: &mut Provenance) -> Result<(), ConfigError> {
        let mut note = |path: &str| {
            provenance.forget(path);
            provenance.set(path, origin.clone());
        };
        let refuse = |message: &str| ConfigError::Conflict { message: message.to_owned(), origin: origin.clone() };
        // Conditions hold signs that the grammar of overrides does not know.
        if let Some(text) = argument.strip_prefix("constraints=") {
            note("constraints");
            self.constraints = plain_list(text);
            return Ok(());
        }
        let parsed = overrides::parse(argument)?;
        if parsed.action != Action::Set {
            note(&join("overrides", &self.overrides.len().to_string()));
            self.overrides.push(argument.to_owned());
            return Ok(());
        }
        let texts = || -> Vec<String> {
            let flat = |element: &Element| match element {
                Element::List(inner) => inner.iter().filter_map(|one| one.to_text().map(str::to_owned)).collect(),
                one => one.to_text().map(str::to_owned).into_iter().collect::<Vec<String>>(),
            };
            parsed.values.iter().flat_map(flat).filter(|text| !text.is_empty()).collect()
        };
        match parsed.key.as_str() {
            "command" => {
                let names = texts();
                match names.as_slice() {
                    [one] if COMMANDS.contains(&one.as_str()) => self.command.clone_from(one),
                    _ => return Err(refuse(&no_command(&names.join(",")))),
                }
                note("command");
            }
            "objective" => {
                let mut names = texts();
                if names.len() > 1 {
                    return Err(refuse("a sweep has one objective; `pareto=` takes several measures"));
                }
                note("objective");
                self.objective = names.pop();
            }
            "pareto" => {
                note("pareto");
                self.pareto = texts();
            }
            "order" => {
                self.order = match texts().as_slice() {
                    [one] if one == "given" => SweepOrder::Given,
                    [one] if one == "random" => SweepOrder::Random,
                    _ => return Err(refuse("`order` is `given` or `random`")),
                };
                note("order");
            }
            "seed" => {
                let seed = texts().first().and_then(|text| text.parse().ok());
                self.seed = seed.ok_or_else(|| refuse("`seed` is a whole number of at least 0"))?;
                note("seed");
            }
            key => {
                let elsewhere = self.list.iter().any(|point| point.contains_key(key))
                    || self.random.as_ref().is_some_and(|random| random.space.contains_key(key));
                if elsewhere {
                    return Err(refuse(&format!(
                        "`{key}` is set by the points of the sweep, so that this would do nothing"
                    )));
                }
                if parsed.values.len() > 1 || self.grid.contains_key(key) {
                    let path = join("grid", key);
                    note(&path);
                    let values: Vec<Value> = parsed.values.iter().map(Element::to_value).collect();
                    self.grid.insert(key.to_owned(), Value::Array(values));
                } else {
                    note(&join("overrides", &self.overrides.len().to_string()));
                    self.overrides.push(argument.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// `a,b`, `[a,b]` or `['a','b']` as its parts; nothing for an empty text, `null` and `[]`.
fn plain_list(text: &str) -> Vec<String> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parts = inner.split(',').map(|part| part.trim().trim_matches(['\'', '"']).trim().to_owned());
    parts.filter(|part| !part.is_empty() && part != "null").collect()
}

/// Who is to blame for a mistake in the points: the file, or the command line where there is none.
struct Place<'a> {
    source: Option<&'a Source>,
}

impl Place<'_> {
    fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        match self.source {
            Some(source) => source.error(path, message),
            None => {
                ConfigError::Conflict { message: message.into(), origin: Origin::Derived("the command line".into()) }
            }
        }
    }
}

fn points(file: &SweepFile, place: &Place<'_>, config_dir: Option<&Path>) -> Result<Vec<SweepPoint>, ConfigError> {
    let mut all = grid(place, &file.grid)?;
    all.extend(list(place, &file.list)?);
    if let Some(random) = &file.random {
        all.extend(draw(place, random, file.seed)?);
    }
    if all.is_empty() {
        let message = match place.source {
            Some(_) => "there is no point: give `grid`, `list` or `random`",
            None => "there is no point: name a sweep, or give a setting several values such as `batch=1,2,4`",
        };
        return Err(place.error("", message));
    }
    if all.len() > MOST_POINTS {
        return Err(place.error("", format!("{} points are more than {MOST_POINTS}", all.len())));
    }
    let mut points = Vec::with_capacity(all.len());
    for settings in all {
        let mut overrides = file.overrides.clone();
        overrides.extend(settings.iter().map(|(key, value)| match value.to_text() {
            // The value of a variable is its text: it has no grammar.
            Some(text) if key.starts_with("env.") => format!("{key}={text}"),
            _ => format!("{key}={value}"),
        }));
        let settings = settings
            .into_iter()
            .map(|(key, value)| (key, value.to_text().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        points.push(compose_point(&file.command, settings, overrides, config_dir)?);
    }
    Ok(points)
}

fn compose_point(
    command: &str,
    settings: Vec<(String, String)>,
    all: Vec<String>,
    config_dir: Option<&Path>,
) -> Result<SweepPoint, ConfigError> {
    let mut environment = BTreeMap::new();
    let mut overrides = Vec::new();
    for text in all {
        let origin = || Origin::Derived("the points of the sweep".into());
        if ["run.id=", "run.tag="].iter().any(|key| text.starts_with(key)) {
            let key = text.split('=').next().unwrap_or_default();
            let message = format!("`{key}` cannot be set in a sweep, whose points have ids of their own");
            return Err(ConfigError::Conflict { message, origin: origin() });
        }
        match variable(&text) {
            Some(Ok((name, value))) => {
                environment.insert(name, value);
            }
            Some(Err(message)) => return Err(ConfigError::Conflict { message, origin: origin() }),
            None => overrides.push(text),
        }
    }
    let composed = compose(&ComposeRequest {
        command: command.to_owned(),
        overrides: overrides.clone(),
        run_config: None,
        config_dir: config_dir.map(Path::to_owned),
    })?;
    if command == STAGE1 {
        composed.stage1()?;
    } else {
        composed.load()?;
    }
    Ok(SweepPoint { settings, overrides, environment, composed })
}

fn find(config: &str, config_dir: Option<&Path>) -> Result<Source, ConfigError> {
    let path = Path::new(config);
    if path.is_file() || config.contains('/') || path.extension().is_some() {
        return Source::read(path);
    }
    let sources = Sources::new(config_dir)?;
    let harmless = config.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let found = if harmless { sources.load(&format!("sweep/{config}.yaml"))? } else { None };
    if let Some(source) = found {
        return Ok(source);
    }
    let groups = sources.catalog()?;
    let available =
        groups.into_iter().find(|group| group.name == "sweep").map(|group| group.choices).unwrap_or_default();
    Err(ConfigError::UnknownChoice {
        group: "sweep".into(),
        choice: config.into(),
        near: near_matches(config, available.iter().map(String::as_str)),
        available,
        origin: Origin::Override { index: 1, text: config.into() },
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

fn grid(source: &Place<'_>, grid: &Map<String, Value>) -> Result<Vec<Settings>, ConfigError> {
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

fn list(source: &Place<'_>, list: &[Map<String, Value>]) -> Result<Vec<Settings>, ConfigError> {
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

fn draw(source: &Place<'_>, random: &RandomFile, seed: u64) -> Result<Vec<Settings>, ConfigError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Sweep, ConfigError> {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        sweep(&SweepRequest { arguments, ..SweepRequest::default() })
    }

    fn settings(sweep: &Sweep) -> Vec<String> {
        let text = |point: &SweepPoint| {
            let pairs: Vec<String> = point.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(" ")
        };
        sweep.points.iter().map(text).collect()
    }

    #[test]
    fn several_values_make_an_axis_and_an_axis_can_be_set() {
        let sweep =
            asked(&["latency_grid", "prompt_tokens=8", "batch=1,2", "repeats=5", "engine.threads=1,2"]).unwrap();
        assert_eq!(sweep.points.len(), 2 * 2 * 2);
        assert_eq!(
            settings(&sweep)[..3],
            [
                "prompt_tokens=8 infer.max_new_tokens=16 batch=1 engine.threads=1",
                "prompt_tokens=8 infer.max_new_tokens=16 batch=1 engine.threads=2",
                "prompt_tokens=8 infer.max_new_tokens=16 batch=2 engine.threads=1",
            ]
        );
        let first = sweep.points[0].composed.stage1().unwrap();
        assert_eq!((first.repeats, first.batch), (5, 1), "the command line comes after the file");
        assert_eq!(sweep.name, "latency_grid");
        assert_eq!(settings(&asked(&["batch=1,2"]).unwrap()), ["batch=1", "batch=2"]);
        assert!(asked(&["batch=1"]).unwrap_err().to_string().contains("there is no point"));
    }

    #[test]
    fn what_is_best_can_be_said_on_the_command_line() {
        let request = SweepRequest {
            arguments: ["latency_grid", "objective=decode_tok_per_s", "pareto=decode_tok_per_s,ttft_ms"]
                .map(str::to_owned)
                .to_vec(),
            constraints: vec!["ttft_ms<200".to_owned()],
            config_dir: None,
        };
        let asked_for = sweep(&request).unwrap();
        assert_eq!(asked_for.objective.as_deref(), Some("decode_tok_per_s"));
        assert_eq!(asked_for.constraints, ["ttft_ms<200"]);
        assert_eq!(asked_for.pareto, ["decode_tok_per_s", "ttft_ms"]);
        let listed = asked(&["latency_grid", "constraints=['a<1','b.p99>=2']"]).unwrap();
        assert_eq!(listed.constraints, ["a<1", "b.p99>=2"]);
        assert!(asked(&["latency_grid", "objective=a,b"]).unwrap_err().to_string().contains("one objective"));
    }

    #[test]
    fn what_was_written_is_the_same_sweep_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("again.yaml");
        let first = asked(&["latency_grid", "batch=1,3", "order=random", "seed=7", "objective=ttft_ms"]).unwrap();
        std::fs::write(&path, first.to_yaml_with_provenance()).unwrap();
        let again = asked(&[path.to_str().unwrap()]).unwrap();
        assert_eq!((settings(&again), &again.order), (settings(&first), &first.order));
        assert_eq!(again.sha256(), first.sha256());
        assert_ne!(first.order, (0..first.points.len() as u32).collect::<Vec<_>>());
        let text = first.to_yaml_with_provenance();
        assert!(
            text.contains("# override 2: batch=1,3") && text.contains("configs/sweep/latency_grid.yaml:"),
            "{text}"
        );
    }

    #[test]
    fn a_setting_that_would_do_nothing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.yaml");
        std::fs::write(&path, "list:\n  - {batch: 1}\n  - {batch: 2}\n").unwrap();
        let file = path.to_str().unwrap();
        assert_eq!(settings(&asked(&[file]).unwrap()), ["batch=1", "batch=2"]);
        assert!(asked(&[file, "batch=4"]).unwrap_err().to_string().contains("would do nothing"));
        assert!(asked(&[file, "run.id=x"]).unwrap_err().to_string().contains("ids of their own"));
        assert!(asked(&["latency_grids"]).unwrap_err().hints().iter().any(|hint| hint.contains("latency_grid")));
    }

    #[test]
    fn points_of_load_tests_have_its_settings_and_an_axis_is_no_list_of_stages() {
        let sweep = asked(&["command=load", "base_url=http://127.0.0.1:1", "concurrency=2,[4,8]"]).unwrap();
        assert_eq!((sweep.command.as_str(), sweep.points.len()), ("load", 2));
        let stages = |point: &SweepPoint| point.composed.load().unwrap().concurrency.0;
        assert_eq!((stages(&sweep.points[0]), stages(&sweep.points[1])), (vec![2], vec![4, 8]));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("again.yaml");
        std::fs::write(&path, sweep.to_yaml_with_provenance()).unwrap();
        assert_eq!(asked(&[path.to_str().unwrap()]).unwrap().sha256(), sweep.sha256());
        let named = asked(&["load_grid", "base_url=http://127.0.0.1:1"]).unwrap();
        assert_eq!(named.command, "load");
        assert!(asked(&["command=load", "batch=1,2"]).unwrap_err().to_string().contains("unknown key `batch`"));
        let refused = asked(&["command=analyze", "batch=1,2"]).unwrap_err().to_string();
        assert!(refused.contains("`stage1` or `load`"), "{refused}");
    }

    #[test]
    fn a_variable_of_the_environment_is_an_axis_too() {
        let sweep = asked(&["env.MALLOC_ARENA_MAX=1,2"]).unwrap();
        assert_eq!(sweep.points[1].environment["MALLOC_ARENA_MAX"], "2");
        assert!(sweep.points[1].overrides.is_empty());
        assert_ne!(sweep.points[0].sha256(), sweep.points[1].sha256());
    }
}
