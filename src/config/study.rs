//! Puts a study of variants together: a file of `configs/study/`, variants and settings from the command line, the settings of each variant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::check;
use super::compose::{ComposeRequest, Composed, compose};
use super::error::near_matches;
use super::overrides::{self, Element};
use super::provenance::{Origin, Provenance, join};
use super::render::{self, masked_override};
use super::schema::keys::{self, STAGE1};
use super::schema::study::{STUDY, StudyConfig};
use super::sources::{Source, Sources};
use super::tree;
use super::yaml::kind_of;

/// Repeats of a turn where nobody says otherwise: as many as the test of the warm-up needs.
const REPEATS: u32 = 6;
/// Repeats with operator spans of a turn where nobody says otherwise: the attribution pools them over all turns.
const SPAN_REPEATS: u32 = 2;
/// Longest label in characters: it stands in tables and file names.
const LABEL_CHARS: usize = 40;
/// More variants than this are a sweep.
pub const MOST_VARIANTS: usize = 16;

/// What a study is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StudyRequest {
    /// `label='key=value,…'`, `study=NAME`, settings of the study and of `stage1`, as typed, in order.
    pub arguments: Vec<String>,
    /// A study file (`--study`).
    pub file: Option<PathBuf>,
    /// A directory whose files stand before the embedded ones.
    pub config_dir: Option<PathBuf>,
}

/// One override and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The override, e.g. `engine.threads=2`.
    pub text: String,
    /// Who gave it.
    pub origin: Origin,
}

/// One variant.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyVariant {
    /// What the reports call it.
    pub label: String,
    /// What it adds to the shared settings; `env.NAME=value` sets a variable of its environment.
    pub settings: Vec<Setting>,
    /// All overrides of `stage1` in the order in which they apply.
    pub overrides: Vec<String>,
    /// Variables of the environment.
    pub environment: BTreeMap<String, String>,
    /// The settings they make.
    pub composed: Composed,
}

/// A study whose settings are all checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// Name of its file, if it has one.
    pub name: Option<String>,
    /// How it is run.
    pub config: StudyConfig,
    /// Settings of all variants.
    pub shared: Vec<Setting>,
    /// The variants, baseline first.
    pub variants: Vec<StudyVariant>,
    /// The settings of the study with their origins.
    resolved: Composed,
}

impl Study {
    /// The study as YAML that can be run again with `--study`, each line with its origin; secrets are masked.
    pub fn to_yaml_with_provenance(&self) -> String {
        let mut value = self.resolved.value.clone();
        let mut provenance = self.resolved.provenance.clone();
        let mut put = |path: String, settings: &[Setting]| {
            let list = settings.iter().map(|setting| Value::String(masked_override(&setting.text))).collect();
            for (index, setting) in settings.iter().enumerate() {
                provenance.set(&join(&path, &index.to_string()), setting.origin.clone());
            }
            Value::Array(list)
        };
        let shared = put("shared".to_owned(), &self.shared);
        let variants: Map<String, Value> = self
            .variants
            .iter()
            .map(|variant| (variant.label.clone(), put(join("variants", &variant.label), &variant.settings)))
            .collect();
        if let Value::Object(map) = &mut value {
            map.insert("shared".to_owned(), shared);
            map.insert("variants".to_owned(), Value::Object(variants));
        }
        render::yaml_with_provenance(&value, &provenance)
    }
    /// SHA-256 of the settings of the study and of every variant.
    pub fn sha256(&self) -> String {
        let variants: Vec<Value> =
            self.variants.iter().map(|variant| json!([variant.label, variant.composed.sha256()])).collect();
        render::sha256(&json!({"study": self.resolved.value, "variants": variants}))
    }
}

/// Composes the study of `request` and the settings of all its variants.
///
/// # Errors
/// The first mistake, wherever it is: nothing may start before the last variant is known to be sound.
pub fn study(request: &StudyRequest) -> Result<Study, ConfigError> {
    let sources = Sources::new(request.config_dir.as_deref())?;
    let mut parts = Parts::default();
    let arguments = sort_arguments(request, &sources)?;
    let mut name = None;
    let source = match (&request.file, &arguments.name) {
        (Some(path), None) => {
            name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            Some(Source::read(path)?)
        }
        (None, Some((choice, origin))) => {
            name = Some(choice.clone());
            Some(find(&sources, choice, origin)?)
        }
        (Some(_), Some((_, origin))) => {
            return Err(ConfigError::Conflict {
                message: "both `--study` and `study=` name a study".to_owned(),
                origin: origin.clone(),
            });
        }
        (None, None) => None,
    };
    let mut resolved = Composed { value: defaults(), provenance: Provenance::default() };
    for key in STUDY {
        resolved.provenance.set(key.path, Origin::Derived("the defaults".into()));
    }
    if let Some(source) = &source {
        parts.read(source, &mut resolved)?;
    }
    for (key, value, origin) in arguments.study {
        tree::set(&mut resolved.value, &mut resolved.provenance, &key, value, &origin);
    }
    accept_words(&mut resolved.value);
    if let Some(error) = check::keys_and_ranges(&resolved, STUDY).into_iter().next() {
        return Err(error);
    }
    let config: StudyConfig = resolved.typed(STUDY)?;
    parts.shared.extend(arguments.shared);
    for (label, settings) in arguments.variants {
        parts.put_variant(label, settings);
    }
    if config.blocks < config.min_blocks {
        return Err(ConfigError::Conflict {
            message: format!("`blocks` is {}, less than `min_blocks`, which is {}", config.blocks, config.min_blocks),
            origin: resolved.provenance.origin("blocks").cloned().unwrap_or(Origin::Derived("the defaults".into())),
        });
    }
    if config.quality {
        let origin = resolved.provenance.origin("quality").cloned().unwrap_or(Origin::Derived("the defaults".into()));
        parts.shared.push(Setting { text: "quality=embedded".to_owned(), origin });
    }
    let variants = compose_variants(&parts, request.config_dir.as_deref())?;
    Ok(Study { name, config, shared: parts.shared, variants, resolved })
}

/// The settings where nobody gives others.
fn defaults() -> Value {
    json!({
        "blocks": 30,
        "min_blocks": 8,
        "budget_s": 900,
        "precision": 0.01,
        "margin": 0.01,
        "seed": 0,
        "control": null,
        "isolation": "own_process",
        "quality": false,
        "fail_on": [],
    })
}

/// Words that stand for values of other types: `control=off`, `quality=on`, one rule in place of a list of rules.
fn accept_words(value: &mut Value) {
    let Value::Object(map) = value else { return };
    let off = |value: &Value| value.as_bool() == Some(false) || value.as_str() == Some("off");
    if let Some(control) = map.get_mut("control") {
        if off(control) {
            *control = json!(0);
        } else if control.as_bool() == Some(true) || control.as_str() == Some("on") {
            *control = Value::Null;
        }
    }
    if let Some(quality) = map.get_mut("quality") {
        if off(quality) || quality.as_str() == Some("none") {
            *quality = json!(false);
        } else if matches!(quality.as_str(), Some("on" | "embedded")) {
            *quality = json!(true);
        }
    }
    if let Some(rules) = map.get_mut("fail_on") {
        match rules {
            Value::String(rule) => *rules = json!([rule]),
            Value::Null => *rules = json!([]),
            _ => {}
        }
    }
}

fn find(sources: &Sources, choice: &str, origin: &Origin) -> Result<Source, ConfigError> {
    let harmless = !choice.is_empty() && choice.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let found = if harmless { sources.load(&format!("study/{choice}.yaml"))? } else { None };
    if let Some(source) = found {
        return Ok(source);
    }
    let available: Vec<String> = sources
        .catalog()?
        .into_iter()
        .find(|group| group.name == "study")
        .map(|group| group.choices)
        .unwrap_or_default();
    Err(ConfigError::UnknownChoice {
        group: "study".into(),
        choice: choice.into(),
        near: near_matches(choice, available.iter().map(String::as_str)),
        available,
        origin: origin.clone(),
    })
}

/// The arguments of the command line, each where it belongs.
#[derive(Default)]
struct Arguments {
    name: Option<(String, Origin)>,
    study: Vec<(String, Value, Origin)>,
    shared: Vec<Setting>,
    variants: Vec<(String, Vec<Setting>)>,
}

fn sort_arguments(request: &StudyRequest, sources: &Sources) -> Result<Arguments, ConfigError> {
    let groups: BTreeSet<String> = sources.catalog()?.into_iter().map(|group| group.name).collect();
    let mut sorted = Arguments::default();
    for (index, argument) in request.arguments.iter().enumerate() {
        let origin = Origin::Override { index: index + 1, text: masked_override(argument).into() };
        let Some((name, value)) = argument.split_once('=') else {
            if argument.starts_with('~') {
                sorted.shared.push(Setting { text: argument.clone(), origin });
                continue;
            }
            return Err(refused(
                argument,
                argument.chars().count(),
                "`=` is missing: a variant is written `label='key=value,…'`",
            ));
        };
        let is_setting = name.starts_with(['+', '~'])
            || name.contains('.')
            || name.split_once('/').is_some_and(|(group, _)| groups.contains(group))
            || keys::find(STAGE1, name).is_some()
            || (groups.contains(name) && name != "study");
        if name == "study" {
            let parsed = overrides::parse(argument)?;
            let choice = parsed.values.first().and_then(Element::to_text).unwrap_or_default().to_owned();
            sorted.name = Some((choice, origin));
        } else if keys::find(STUDY, name).is_some() {
            let parsed = overrides::parse(argument)?;
            // `fail_on=a,b` is a list of rules; rules have no grammar of overrides, so their text is taken as it stands.
            let value = match parsed.values.as_slice() {
                _ if name == "fail_on" => json!([value]),
                [one] => check::typed_value(one, name, STUDY),
                several => {
                    return Err(ConfigError::SeveralValues {
                        argument: masked_override(argument),
                        count: several.len(),
                    });
                }
            };
            sorted.study.push((name.to_owned(), value, origin));
        } else if is_setting {
            sorted.shared.push(Setting { text: argument.clone(), origin });
        } else if value.is_empty() || value.contains('=') || value.starts_with('~') {
            check_label(name, &origin)?;
            let settings = split(value)
                .map_err(|message| refused(argument, name.chars().count() + 2, &message))?
                .into_iter()
                .map(|text| Setting { text, origin: origin.clone() })
                .collect();
            if sorted.variants.iter().any(|(label, _)| label == name) {
                return Err(ConfigError::Conflict { message: format!("two variants are called `{name}`"), origin });
            }
            sorted.variants.push((name.to_owned(), settings));
        } else if keys::find(STAGE1, value.trim()).is_some() {
            return Err(refused(argument, name.chars().count() + 2, &format!("`{}` is no `key=value`", value.trim())));
        } else {
            // Neither a setting nor a variant: most likely a misspelt setting.
            let known = STUDY.iter().chain(STAGE1).map(|key| key.path).filter(|path| !path.contains('*'));
            return Err(ConfigError::UnknownKey {
                key: name.to_owned(),
                origin,
                near: near_matches(name, known),
                allowed: vec!["label='key=value,…' for a variant".to_owned()]
                    .into_iter()
                    .chain(STUDY.iter().map(|key| key.path.to_owned()))
                    .collect(),
            });
        }
    }
    Ok(sorted)
}

fn refused(argument: &str, position: usize, message: &str) -> ConfigError {
    ConfigError::Override { argument: masked_override(argument), position, message: message.to_owned() }
}

fn check_label(label: &str, origin: &Origin) -> Result<(), ConfigError> {
    let begins_well = label.starts_with(|c: char| c.is_ascii_alphanumeric());
    let harmless = label.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    if begins_well && harmless && label.chars().count() <= LABEL_CHARS {
        return Ok(());
    }
    Err(ConfigError::Conflict {
        message: format!(
            "`{}` is no label: a label has at most {LABEL_CHARS} letters, digits and `._+-`, and begins with a letter or digit",
            label.chars().take(LABEL_CHARS + 1).collect::<String>()
        ),
        origin: origin.clone(),
    })
}

/// The overrides in `text`, separated by commas outside quotes and brackets.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote, mut escaped) = (0_i32, None, false);
    for c in text.chars() {
        let part = parts.last_mut().expect("it begins with one");
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if quote == Some(c) => quote = None,
            _ if quote.is_some() => {}
            '\'' | '"' => quote = Some(c),
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    if parts.len() == 1 && parts[0].trim().is_empty() {
        return Ok(Vec::new());
    }
    for part in &mut parts {
        *part = part.trim().to_owned();
        if !part.contains('=') && !part.starts_with('~') {
            return Err(format!("`{part}` is no `key=value`; a value with commas is quoted or stands in brackets"));
        }
    }
    Ok(parts)
}

/// Variants and shared settings, from the file and from the command line.
#[derive(Default)]
struct Parts {
    shared: Vec<Setting>,
    variants: Vec<(String, Vec<Setting>)>,
}

impl Parts {
    /// Takes `variants` and `shared` of a study file; the rest goes into `resolved`.
    fn read(&mut self, source: &Source, resolved: &mut Composed) -> Result<(), ConfigError> {
        let Value::Object(root) = &source.document.value else { return Ok(()) };
        for (key, value) in root {
            match key.as_str() {
                "shared" => self.shared = settings(source, "shared", value)?,
                "variants" => {
                    let Value::Object(map) = value else {
                        return Err(source.error(
                            key,
                            format!(
                                "expected a map of variants, each with the settings it changes, found {}",
                                kind_of(value)
                            ),
                        ));
                    };
                    for (label, inner) in map {
                        let path = join("variants", label);
                        check_label(label, &source.origin(&path))?;
                        let settings = settings(source, &path, inner)?;
                        self.variants.push((label.clone(), settings));
                    }
                }
                _ => tree::merge(&mut resolved.value, &mut resolved.provenance, "", &json!({ key: value }), &|path| {
                    source.origin(path)
                }),
            }
        }
        Ok(())
    }

    /// A variant of the command line stands in place of that of the file.
    fn put_variant(&mut self, label: String, settings: Vec<Setting>) {
        match self.variants.iter_mut().find(|(known, _)| *known == label) {
            Some(known) => known.1 = settings,
            None => self.variants.push((label, settings)),
        }
    }
}

/// The settings below `path` of a study file: a map of keys, nested or dotted, or a list of overrides.
fn settings(source: &Source, path: &str, value: &Value) -> Result<Vec<Setting>, ConfigError> {
    let mut found = Vec::new();
    match value {
        Value::Null => {}
        Value::Object(_) => flatten(source, path, "", value, &mut found),
        Value::Array(list) => {
            for (index, entry) in list.iter().enumerate() {
                let path = join(path, &index.to_string());
                let Value::String(text) = entry else {
                    return Err(source.error(
                        &path,
                        format!("expected an override such as `engine.threads=2`, found {}", kind_of(entry)),
                    ));
                };
                found.push(Setting { text: text.clone(), origin: source.origin(&path) });
            }
        }
        other => return Err(source.error(path, format!("expected a map of settings, found {}", kind_of(other)))),
    }
    Ok(found)
}

fn flatten(source: &Source, path: &str, key: &str, value: &Value, found: &mut Vec<Setting>) {
    match value {
        Value::Object(map) if key.is_empty() || !map.is_empty() => {
            for (inner_key, inner) in map {
                flatten(source, &join(path, inner_key), &join(key, inner_key), inner, found);
            }
        }
        leaf => found.push(Setting { text: format!("{key}={}", element(leaf)), origin: source.origin(path) }),
    }
}

/// A value of a file in the grammar of overrides.
fn element(value: &Value) -> Element {
    match value {
        Value::String(text) => {
            let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
                && !["true", "false", "null", "on", "off", "yes", "no", "inf", "nan"]
                    .contains(&text.to_ascii_lowercase().as_str());
            if plain {
                Element::Plain { value: value.clone(), text: text.clone() }
            } else {
                Element::Quoted(text.clone())
            }
        }
        Value::Array(list) => Element::List(list.iter().map(element).collect()),
        Value::Object(map) => Element::Dict(map.iter().map(|(key, inner)| (key.clone(), element(inner))).collect()),
        scalar => Element::Plain { value: scalar.clone(), text: scalar.to_string() },
    }
}

/// Name and value of a variable of the environment, `env.NAME=value`; why it is none, if it only looks like one.
pub(super) fn variable(text: &str) -> Option<Result<(String, String), String>> {
    let (name, value) = text.strip_prefix("env.")?.split_once('=')?;
    let known = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if known && !value.contains('\0') {
        return Some(Ok((name.to_owned(), value.to_owned())));
    }
    Some(Err(format!("`{}` is no variable of an environment", masked_override(text))))
}

fn compose_variants(parts: &Parts, config_dir: Option<&Path>) -> Result<Vec<StudyVariant>, ConfigError> {
    let nowhere = || Origin::Derived("the command line".into());
    match parts.variants.len() {
        0 | 1 => {
            let message =
                "a study needs two variants at least: `base='key=value' cand='key=value'`, or `study=NAME`".to_owned();
            return Err(ConfigError::Conflict { message, origin: nowhere() });
        }
        count if count > MOST_VARIANTS => {
            let message = format!("a study has {MOST_VARIANTS} variants at most, here are {count}: that is a sweep");
            return Err(ConfigError::Conflict { message, origin: nowhere() });
        }
        _ => {}
    }
    let mut variants = Vec::new();
    for (label, settings) in &parts.variants {
        let all: Vec<&Setting> = parts.shared.iter().chain(settings).collect();
        let mut environment = BTreeMap::new();
        let mut overrides = Vec::new();
        let says =
            |key: &str| all.iter().any(|setting| setting.text.split_once('=').is_some_and(|(known, _)| known == key));
        // A run file has repeats of its own.
        if !says("run") && !says("repeats") {
            overrides.push(format!("repeats={REPEATS}"));
        }
        if !says("run") && !says("profiling") && !says("profiling.span_repeats") {
            overrides.push(format!("profiling.span_repeats={SPAN_REPEATS}"));
        }
        for setting in &all {
            match variable(&setting.text) {
                Some(Ok((name, value))) => {
                    environment.insert(name, value);
                }
                Some(Err(message)) => {
                    return Err(ConfigError::Conflict { message, origin: setting.origin.clone() });
                }
                None => overrides.push(setting.text.clone()),
            }
        }
        for key in ["run.id", "run.tag"] {
            if let Some(setting) = all.iter().find(|setting| setting.text.starts_with(&format!("{key}="))) {
                return Err(ConfigError::Conflict {
                    message: format!("`{key}` cannot be set in a study, whose turns have ids of their own"),
                    origin: setting.origin.clone(),
                });
            }
        }
        let request = ComposeRequest {
            command: "stage1".to_owned(),
            overrides: overrides.clone(),
            run_config: None,
            config_dir: config_dir.map(Path::to_owned),
        };
        let composed = compose(&request)?;
        composed.stage1()?;
        variants.push(StudyVariant {
            label: label.clone(),
            settings: settings.clone(),
            overrides,
            environment,
            composed,
        });
    }
    Ok(variants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Study, ConfigError> {
        study(&StudyRequest {
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            ..StudyRequest::default()
        })
    }

    fn at<'a>(study: &'a Study, variant: usize, pointer: &str) -> &'a Value {
        study.variants[variant].composed.value.pointer(pointer).unwrap()
    }

    #[test]
    fn variants_settings_of_all_and_settings_of_the_study_are_told_apart() {
        let study = asked(&[
            "base=engine.threads=1",
            "cand='engine.threads=2'".replace('\'', "").as_str(),
            "repeats=3",
            "blocks=40",
            "control=off",
            "third=",
            "fail_on=a_ms>+1%,b",
        ])
        .unwrap();
        let labels: Vec<&str> = study.variants.iter().map(|variant| variant.label.as_str()).collect();
        assert_eq!(labels, ["base", "cand", "third"], "the first one is the baseline");
        for (variant, threads) in [(0, json!(1)), (1, json!(2)), (2, Value::Null)] {
            assert_eq!(at(&study, variant, "/engine/threads"), &threads);
            assert_eq!(at(&study, variant, "/repeats"), &json!(3));
            assert_eq!(at(&study, variant, "/profiling/span_repeats"), &json!(SPAN_REPEATS));
        }
        assert_eq!((study.config.blocks, study.config.control_blocks(), study.config.min_blocks), (40, 0, 8));
        assert_eq!(study.config.fail_on, ["a_ms>+1%,b"]);
        assert_eq!(asked(&["a=", "b="]).unwrap().config.control_blocks(), 8, "a control as long as the shortest study");
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate_settings() {
        let study = asked(&["a=", "b=torch_profiler.activities=[cpu,cuda],prompt='x, y=1',repeats=2"]).unwrap();
        assert_eq!(at(&study, 1, "/prompt"), "x, y=1");
        assert_eq!(at(&study, 1, "/repeats"), &json!(2));
        assert_eq!(split("a=1, b=[1,2],c={x:1,y:2}").unwrap(), ["a=1", "b=[1,2]", "c={x:1,y:2}"]);
        assert!(split("a=1,,b=2").is_err());
    }

    #[test]
    fn a_variant_may_set_its_environment_and_nothing_else_of_its_process() {
        let study = asked(&["a=", "b=env.OMP_NUM_THREADS=1,batch=2", "env.SHARED=x"]).unwrap();
        assert_eq!(study.variants[1].environment.len(), 2);
        assert_eq!(study.variants[0].environment["SHARED"], "x");
        assert_eq!(at(&study, 1, "/batch"), &json!(2));
        assert!(!study.variants[1].overrides.iter().any(|text| text.starts_with("env.")));
        assert!(asked(&["a=", "b=env.1X=1"]).is_err());
    }

    #[test]
    fn a_study_file_takes_maps_nested_or_dotted_and_lists_and_the_command_line_stands_before_it() {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        let text = "shared:\n  model: synthetic\n  infer:\n    max_new_tokens: 5\nvariants:\n  q4.1:\n    model.dtype: bf16\n  n:\n    engine:\n      threads: 2\n      cuda_graph: off\n  l: [batch=2]\nmargin: 0.02\nfail_on: x_ms>1%\n";
        std::fs::write(file.path(), text).unwrap();
        let request = |arguments: &[&str]| StudyRequest {
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            file: Some(file.path().to_owned()),
            config_dir: None,
        };
        let read = study(&request(&["margin=0.03", "l=batch=3"])).unwrap();
        assert_eq!(at(&read, 0, "/model/dtype"), "bf16");
        assert_eq!(at(&read, 1, "/engine/threads"), &json!(2));
        assert_eq!(at(&read, 2, "/batch"), &json!(3));
        assert_eq!(at(&read, 1, "/infer/max_new_tokens"), &json!(5));
        assert_eq!((read.config.margin, read.config.fail_on.as_slice()), (0.03, ["x_ms>1%".to_owned()].as_slice()));
        // What is written is the same study when it is read.
        let written = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(written.path(), read.to_yaml_with_provenance()).unwrap();
        let again = study(&StudyRequest { file: Some(written.path().to_owned()), ..StudyRequest::default() }).unwrap();
        assert_eq!(again.config, read.config);
        assert_eq!(again.sha256(), read.sha256());
    }

    #[test]
    fn every_mistake_in_a_file_names_its_line() {
        for (text, line, words) in [
            ("variants:\n  a: {}\n  b:\n    engine.thread: 2\n", 0, "engine.thread"),
            ("variants:\n  a: {}\n  b: 3\n", 3, "expected a map of settings"),
            ("variants: [a, b]\n", 1, "expected a map of variants"),
            ("variants:\n  a: {}\n  b: {}\nblock: 3\n", 4, "unknown key `block`"),
            ("variants:\n  a: {}\n  b: {}\nprecision: x\n", 4, "`precision` is `x`"),
            ("variants:\n  a: {}\n  \"b c\": {}\n", 3, "is no label"),
        ] {
            let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
            std::fs::write(file.path(), text).unwrap();
            let error =
                study(&StudyRequest { file: Some(file.path().to_owned()), ..StudyRequest::default() }).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(words), "{text}: {said}");
            if line > 0 {
                assert!(said.contains(&format!(":{line}")), "{text}: {said}");
            }
        }
    }

    #[test]
    fn the_shipped_studies_are_sound_and_ask_what_they_say() {
        for (name, labels) in [
            ("aa", vec!["base", "same"]),
            ("ops", vec!["reference", "fused"]),
            ("quantization", vec!["f32", "f16", "bf16", "q8_0", "q4_k", "q4_1", "as_shipped"]),
            ("threads", vec!["one", "two"]),
        ] {
            let study = asked(&[&format!("study={name}")]).unwrap();
            assert_eq!(study.variants.iter().map(|variant| variant.label.as_str()).collect::<Vec<_>>(), labels);
        }
        let quantization = asked(&["study=quantization"]).unwrap();
        assert_eq!(at(&quantization, 3, "/quality/text"), "embedded", "the quality is measured");
        assert_eq!(at(&quantization, 3, "/model/dtype"), "q8_0");
        assert_eq!(asked(&["study=aa"]).unwrap().config.control_blocks(), 0);
    }
}
