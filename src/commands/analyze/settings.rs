//! What the user says about the traced work: model, batch, lengths, ceilings, rules for names.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::{Context, wiring};
use super::AnalyzeOptions;
use crate::analysis::classify::{Classifier, UserRule};
use crate::analysis::steps::PhasePatterns;
use crate::config::yaml;
use crate::diagnostics::{ExitStatus, Failure};
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::record::find::resolve_run;
use crate::record::metrics::Stage1Metrics;
use crate::record::{RecordError, reader};
use crate::runner::analyze::{PeakSettings, WorkloadSettings};

/// A `config.json` larger than this is none.
const CONFIG_LIMIT_BYTES: u64 = 8 << 20;

/// The file of `--rules`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RulesFile {
    /// Kernel classes; tried before the built-in ones.
    classes: Vec<UserRule>,
    /// Phase patterns; a list given replaces the built-in one.
    phases: Option<PhasePatterns>,
}

/// Everything that shapes an analysis beside the traces.
#[derive(Debug)]
pub(super) struct Settings {
    pub workload: Option<WorkloadSettings>,
    pub peaks: PeakSettings,
    pub classifier: Classifier,
    pub user_rules: usize,
    pub patterns: PhasePatterns,
    /// Stretch of the timeline in the report, ns from the begin of the trace.
    pub window_ns: Option<(i64, i64)>,
    /// What the user said, for `config.yaml`.
    pub said: Said,
}

/// The settings of an analysis as given.
#[derive(Debug, serde::Serialize)]
pub(super) struct Said {
    schema_version: u32,
    overrides: Vec<String>,
    run: Option<String>,
    rules: Option<String>,
    window: Option<String>,
    exports: Vec<String>,
}

/// Files and settings apart: what has `=` and is no file is a setting.
pub(super) fn split_arguments(arguments: &[String]) -> (Vec<PathBuf>, Vec<String>) {
    let (mut paths, mut overrides) = (Vec::new(), Vec::new());
    for argument in arguments {
        let is_setting = argument.starts_with('~')
            || argument.split_once('=').is_some_and(|(key, _)| {
                !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
            });
        if is_setting && !Path::new(argument).exists() {
            overrides.push(argument.clone());
        } else {
            paths.push(PathBuf::from(argument));
        }
    }
    (paths, overrides)
}

impl Settings {
    pub(super) fn resolve(options: &AnalyzeOptions, overrides: &[String], context: &Context) -> anyhow::Result<Self> {
        let (classifier, user_rules, patterns) = read_rules(options.rules.as_deref())?;
        refuse_unused(overrides, options.run.is_some())?;
        let names_model = overrides.iter().any(|text| text.trim_start_matches('+').starts_with("model"));
        let from_run = match &options.run {
            Some(spec) => Some(workload_of_run(spec, context)?),
            None => None,
        };
        if from_run.is_some() && names_model {
            return Err(Failure::new(ExitStatus::Usage, "`--run` and `model=` both say which model ran")
                .hint("leave one of them out")
                .into());
        }
        let given = overrides;
        let (config_json, overrides) = take_config_json(overrides)?;
        let estimate = wiring::estimate_options(&overrides, context)?;
        let said = |key: &str| overrides.iter().any(|text| text.trim_start_matches('+').starts_with(key));
        let workload = match (from_run, config_json) {
            (Some(workload), _) => Some(workload),
            (None, Some((name, architecture, dtype))) => {
                let dtype = if said("model.dtype") { estimate.dtype } else { dtype.unwrap_or(Format::BF16) };
                Some(WorkloadSettings {
                    name,
                    architecture,
                    dtype,
                    kv_dtype: if said("engine.kv_dtype") { estimate.kv_dtype } else { Format::BF16 },
                    batch: estimate.batch,
                    prompt_tokens: said("prompt_tokens").then_some(estimate.prompt_tokens),
                    said_by: "config.json and settings".to_owned(),
                })
            }
            (None, None) if names_model => Some(WorkloadSettings {
                name: estimate.name,
                architecture: estimate.architecture,
                dtype: estimate.dtype,
                kv_dtype: estimate.kv_dtype,
                batch: estimate.batch,
                prompt_tokens: said("prompt_tokens").then_some(estimate.prompt_tokens),
                said_by: "settings".to_owned(),
            }),
            (None, None) => None,
        };
        let peaks = PeakSettings {
            flops_per_s: estimate.peak_flops_per_s,
            bytes_per_s: estimate.peak_bytes_per_s,
            dtype: workload.as_ref().map_or(Format::BF16, |workload| workload.dtype),
        };
        let window_ns = options.window.as_deref().map(window).transpose()?;
        let said = Said {
            schema_version: 1,
            overrides: given.to_vec(),
            run: options.run.clone(),
            rules: options.rules.as_ref().map(|path| path.display().to_string()),
            window: options.window.clone(),
            exports: options.exports.clone(),
        };
        Ok(Self { workload, peaks, classifier, user_rules, patterns, window_ns, said })
    }
}

/// Settings an analysis looks at; `model`, `batch` and lengths only together with a model.
const USED: [&str; 5] = ["model", "engine", "batch", "prompt_tokens", "hardware"];

/// A setting that changes nothing is a misunderstanding.
fn refuse_unused(overrides: &[String], has_run: bool) -> Result<(), Failure> {
    let top = |text: &str| text.trim_start_matches(['+', '~']).split(['=', '.']).next().unwrap_or_default().to_owned();
    let model = has_run || overrides.iter().any(|text| top(text) == "model");
    for text in overrides {
        let key = top(text);
        // Keys nobody knows have the better message of the composition.
        if ["device", "repeats", "warmup", "infer", "cases", "prompt", "dataset", "trace", "profiling", "run"]
            .contains(&key.as_str())
        {
            return Err(Failure::new(ExitStatus::Usage, format!("`{text}` means nothing to an analysis"))
                .hint(format!("settings it takes: {}", USED.map(|key| format!("`{key}`")).join(", "))));
        }
        if ["batch", "prompt_tokens", "engine"].contains(&key.as_str()) && !model {
            return Err(Failure::new(ExitStatus::Usage, format!("`{text}` needs to know the model"))
                .hint("give `model=` too, or `--run RUN`"));
        }
    }
    Ok(())
}

/// Kernel classes and phase patterns of `--rules`, the built-in ones without it.
pub(crate) fn name_rules(path: Option<&Path>) -> anyhow::Result<(Classifier, PhasePatterns)> {
    let (classifier, _, patterns) = read_rules(path)?;
    Ok((classifier, patterns))
}

fn read_rules(path: Option<&Path>) -> anyhow::Result<(Classifier, usize, PhasePatterns)> {
    let rules = match path {
        Some(path) => rules(path)?,
        None => RulesFile::default(),
    };
    let classifier = Classifier::with_user_rules(&rules.classes)
        .map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()).hint("see `--rules` in docs/TRACES.md"))?;
    Ok((classifier, rules.classes.len(), rules.phases.unwrap_or_default()))
}

fn rules(path: &Path) -> anyhow::Result<RulesFile> {
    let document = yaml::read(path).map_err(Failure::from)?;
    serde_path_to_error::deserialize(document.value).map_err(|error| {
        let at = error.path().to_string();
        Failure::new(ExitStatus::Usage, format!("`{}`: `{at}`: {}", path.display(), error.inner()))
            .hint("the file has `classes:` (a list of `pattern`, `class`, `name`) and `phases:` (lists of patterns)")
            .into()
    })
}

/// `model.path=…/config.json`, or a directory that has one and no weights: a shape is all an analysis needs.
type ConfigJson = (String, Architecture, Option<Format>);

fn take_config_json(overrides: &[String]) -> anyhow::Result<(Option<ConfigJson>, Vec<String>)> {
    let mut rest = Vec::with_capacity(overrides.len());
    let mut found = None;
    for text in overrides {
        let path = text.strip_prefix("model.path=").or_else(|| text.strip_prefix("model=")).map(Path::new);
        let config = path.and_then(|path| {
            if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
                return Some(path.to_owned());
            }
            Some(path.join("config.json")).filter(|config| path.is_dir() && config.is_file())
        });
        let Some(config) = config else {
            rest.push(text.clone());
            continue;
        };
        let unusable = |why: String| {
            Failure::new(ExitStatus::Usage, format!("`{}` is no usable model configuration: {why}", config.display()))
                .hint(
                    "give the `config.json` of a Hugging Face model, or an alias such as `model=synthetic-llama-3-8b`",
                )
        };
        if std::fs::metadata(&config).is_ok_and(|data| data.len() > CONFIG_LIMIT_BYTES) {
            return Err(unusable("it is too large".to_owned()).into());
        }
        let bytes = std::fs::read(&config).map_err(|error| unusable(error.to_string()))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        let architecture = Architecture::from_hf_config(&value).map_err(|error| unusable(error.to_string()))?;
        let dtype = ["torch_dtype", "dtype"].iter().find_map(|key| Format::parse(value.get(key)?.as_str()?));
        let name = value
            .get("_name_or_path")
            .and_then(|name| name.as_str())
            .filter(|name| !name.is_empty())
            .map_or_else(|| config.display().to_string(), str::to_owned);
        found = Some((name, architecture, dtype));
    }
    Ok((found, rest))
}

fn workload_of_run(spec: &str, context: &Context) -> anyhow::Result<WorkloadSettings> {
    let directory = resolve_run(&context.output_root, spec).map_err(RecordError::into_failure)?;
    let metrics = reader::read_metrics(&directory).map_err(RecordError::into_failure)?;
    let dtypes = [&metrics.model.dtype, &metrics.model.kv_dtype];
    workload_of(&metrics).ok_or_else(|| {
        let unknown = dtypes.into_iter().find(|name| Format::parse(name).is_none()).cloned().unwrap_or_default();
        Failure::new(ExitStatus::CouldNotStart, format!("run `{spec}` names an unknown format `{unknown}`")).into()
    })
}

/// The model of a run of stage1, at the lengths of its first case; `None` where a format of it is not known.
pub(crate) fn workload_of(metrics: &Stage1Metrics) -> Option<WorkloadSettings> {
    let case = metrics.cases.first();
    Some(WorkloadSettings {
        name: metrics.model.name.clone(),
        dtype: Format::parse(&metrics.model.dtype)?,
        kv_dtype: Format::parse(&metrics.model.kv_dtype)?,
        architecture: metrics.model.architecture.clone(),
        batch: case.map_or(1, |case| case.batch),
        prompt_tokens: case.map(|case| case.prompt_len),
        said_by: format!("run {}", metrics.run_id),
    })
}

/// `1.2s..1.35s`, `250ms..300ms`, `0..5ms`; a bare number is seconds.
fn window(text: &str) -> Result<(i64, i64), Failure> {
    let bad = || {
        Failure::new(ExitStatus::Usage, format!("`--window {text}` is no stretch of time")).hint(
            "write `BEGIN..END` from the begin of the trace, e.g. `--window 1.2s..1.3s` or `--window 250ms..300ms`",
        )
    };
    let (begin, end) = text.split_once("..").ok_or_else(bad)?;
    let (begin, end) = (time_ns(begin).ok_or_else(bad)?, time_ns(end).ok_or_else(bad)?);
    if begin < end { Ok((begin, end)) } else { Err(bad()) }
}

fn time_ns(text: &str) -> Option<i64> {
    let text = text.trim();
    let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let (number, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale))).unwrap_or((text, 1e9));
    let value: f64 = number.trim().parse().ok()?;
    let ns = value * scale;
    (ns.is_finite() && (0.0..9e18).contains(&ns)).then_some(ns as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_settings_are_told_apart() {
        let arguments = ["a.sqlite", "model=llama", "dir/x=y.json", "~dataset", "+hardware.name=h100", "b=c"];
        let (paths, overrides) = split_arguments(&arguments.map(str::to_owned));
        assert_eq!(paths, [PathBuf::from("a.sqlite"), PathBuf::from("dir/x=y.json")]);
        assert_eq!(overrides, ["model=llama", "~dataset", "+hardware.name=h100", "b=c"]);
    }

    #[test]
    fn windows_have_units_and_an_order() {
        assert_eq!(window("1.2s..1.35s").unwrap(), (1_200_000_000, 1_350_000_000));
        assert_eq!(window("250us..3ms").unwrap(), (250_000, 3_000_000));
        assert_eq!(window("0..1").unwrap(), (0, 1_000_000_000));
        for bad in ["1s", "2s..1s", "a..b", "-1s..2s", "nan..1s", ""] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }
}
