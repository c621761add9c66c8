//! Checks composed settings and turns them into types; every refusal names the key, the value, and who set it.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::ConfigError;
use super::compose::Composed;
use super::error::near_matches;
use super::overrides::Element;
use super::provenance::{Origin, join};
use super::render::value_text;
use super::schema::choice::ModelSource;
use super::schema::keys::{self, Key, Kind};
use super::schema::load::{ArrivalKind, FindChoice, LOAD, LoadConfig};
use super::schema::stage1::Stage1Config;
use super::schema::stage2::{CaptureChoice, STAGE2_BLOCK, Stage2Config, Stage2Settings};
use super::tree;
use crate::estimate::format::Format;

/// The tree below `stage2`, with its name.
#[derive(Deserialize)]
struct Stage2Block {
    stage2: Stage2Settings,
}

/// The value of an override for the key at `path`: a key that wants text gets what was typed, even if it looks like a number.
pub(super) fn typed_value(element: &Element, path: &str, keys: &[Key]) -> Value {
    match element {
        Element::List(elements) => Value::Array(
            elements
                .iter()
                .enumerate()
                .map(|(index, inner)| typed_value(inner, &join(path, &index.to_string()), keys))
                .collect(),
        ),
        Element::Dict(entries) => Value::Object(
            entries.iter().map(|(key, inner)| (key.clone(), typed_value(inner, &join(path, key), keys))).collect(),
        ),
        scalar => match (keys::find(keys, path), scalar.to_text()) {
            // `engine.cuda_graph=true` is a switch and stays a boolean.
            (Some(Key { kind: Kind::Word(words), .. }), Some(_)) if words.contains(&"on") => scalar.to_value(),
            (Some(key), Some(text)) if key.kind.takes_text() => Value::String(text.to_owned()),
            _ => scalar.to_value(),
        },
    }
}

/// The keys of `tree` and of the schema right below `path`.
fn siblings(tree: &Value, keys: &[Key], path: &str) -> Vec<String> {
    let mut names = keys::children(keys, path);
    if keys.is_empty()
        && let Some(Value::Object(map)) = tree::get(tree, path)
    {
        names.extend(map.keys().cloned());
    }
    names
}

/// Keys that `key` may be a misspelling of: among its siblings, else its last part anywhere.
pub(super) fn near_keys(tree: &Value, keys: &[Key], key: &str) -> Vec<String> {
    let (parent, last) = key.rsplit_once('.').unwrap_or(("", key));
    let siblings = siblings(tree, keys, parent);
    let mut near: Vec<String> =
        near_matches(last, siblings.iter().map(String::as_str)).iter().map(|name| join(parent, name)).collect();
    // `max_new_tokens=8` for `infer.max_new_tokens=8`: the right word in the wrong place.
    let elsewhere = keys.iter().map(|key| key.path).filter(|path| !path.contains('*'));
    for path in elsewhere.filter(|path| path.rsplit('.').next() == Some(last) && *path != key) {
        if !near.iter().any(|known| known == path) {
            near.insert(0, path.to_owned());
        }
    }
    if near.is_empty() {
        near = near_matches(key, keys.iter().map(|key| key.path).filter(|path| !path.contains('*')));
    }
    near.truncate(3);
    near
}

/// The error for a key that no setting has.
pub(super) fn unknown_key(tree: &Value, keys: &[Key], key: &str, origin: &Origin) -> ConfigError {
    // The place to list is the deepest part of the path that is known.
    let mut parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
    while !parent.is_empty() && siblings(tree, keys, parent).is_empty() {
        parent = parent.rsplit_once('.').map_or("", |(parent, _)| parent);
    }
    ConfigError::UnknownKey {
        key: key.to_owned(),
        origin: origin.clone(),
        near: near_keys(tree, keys, key),
        allowed: siblings(tree, keys, parent),
    }
}

/// Every unknown key and every number outside its range.
pub(super) fn keys_and_ranges(composed: &Composed, keys: &[Key]) -> Vec<ConfigError> {
    let mut found = Vec::new();
    check_node(composed, keys, &composed.value, "", &mut found);
    found
}

fn check_node(composed: &Composed, keys: &[Key], node: &Value, path: &str, found: &mut Vec<ConfigError>) {
    let is_element = path.rsplit('.').next().is_some_and(|last| last.parse::<usize>().is_ok());
    match keys::find(keys, path) {
        // The root, and list elements, have no entry of their own; their keys have.
        None if path.is_empty() || is_element => {}
        None => {
            // What stands below an unknown key is not worth a word of its own.
            found.push(unknown_key(&composed.value, keys, path, &composed.origin(path)));
            return;
        }
        Some(key) if !key.kind.admits(node) => found.push(ConfigError::OutOfRange {
            key: path.to_owned(),
            value: value_text(path, node),
            expected: key.kind.words(),
            origin: composed.origin(path),
        }),
        Some(key) if key.kind == Kind::Section && !node.is_object() && !node.is_null() => {
            let inner: Vec<String> =
                keys::children(keys, path).iter().map(|name| format!("`{}`", join(path, name))).collect();
            found.push(ConfigError::WrongType {
                key: path.to_owned(),
                value: format!("`{}`", value_text(path, node)),
                expected: format!("it has settings of its own: {}", inner.join(", ")),
                origin: composed.origin(path),
            });
            return;
        }
        // What a map of the user's holds is the user's business.
        Some(key) if key.kind == Kind::Map => return,
        // A map where something else is expected is a wrong type, which the reader of types tells better.
        Some(key) if node.is_object() && key.kind != Kind::Section => return,
        Some(_) => {}
    }
    match node {
        Value::Object(map) => {
            for (key, inner) in map {
                check_node(composed, keys, inner, &join(path, key), found);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate().filter(|(_, inner)| inner.is_object()) {
                check_node(composed, keys, inner, &join(path, &index.to_string()), found);
            }
        }
        _ => {}
    }
}

impl Composed {
    /// Who set the value at `path`.
    fn origin(&self, path: &str) -> Origin {
        self.provenance.origin(path).cloned().unwrap_or_else(|| Origin::Derived("the defaults".into()))
    }

    /// The typed settings of `stage1`.
    pub fn stage1(&self) -> Result<Stage1Config, ConfigError> {
        if self.value.pointer("/model/name").is_none_or(Value::is_null) {
            return Err(self.conflict("model", "no model is given: choose one by `model=<name>` or `model.path=FILE`"));
        }
        let config: Stage1Config = self.typed(keys::STAGE1)?;
        self.check_model(&config)?;
        self.check_prompts(&config)?;
        Ok(config)
    }

    /// The typed settings of `stage2`: those of its workload, and its own.
    pub fn stage2(&self) -> Result<Stage2Config, ConfigError> {
        let mut workload = self.clone();
        let block = match &mut workload.value {
            Value::Object(map) => map.shift_remove("stage2"),
            _ => None,
        };
        let stage1 = workload.stage1()?;
        let block = Self {
            value: Value::Object(block.map(|block| ("stage2".to_owned(), block)).into_iter().collect()),
            provenance: self.provenance.clone(),
        };
        let Stage2Block { stage2 } = block.typed(STAGE2_BLOCK)?;
        let nothing = !stage2.nsys.enabled && !stage2.ncu.enabled;
        if nothing {
            return Err(self.conflict("stage2.nsys.enabled", "neither nsys nor ncu is to run: that is `stage1`"));
        }
        if stage2.nsys.capture == CaptureChoice::Nvtx && stage2.nsys.ranges.is_empty() {
            return Err(self.conflict("stage2.nsys.capture", "`capture=nvtx` needs `stage2.nsys.ranges`"));
        }
        let bad = stage2.nsys.ranges.iter().find(|range| range.trim().is_empty() || range.starts_with('@'));
        if let Some(range) = bad {
            return Err(self.conflict("stage2.nsys.ranges", format!("`{range}` names no range")));
        }
        Ok(Stage2Config { stage1, stage2 })
    }

    /// The typed settings of `load`.
    pub fn load(&self) -> Result<LoadConfig, ConfigError> {
        let config: LoadConfig = self.typed(LOAD)?;
        self.check_load(&config)?;
        Ok(config)
    }

    /// Settings of `load` that contradict each other.
    fn check_load(&self, config: &LoadConfig) -> Result<(), ConfigError> {
        let closed = config.arrival == ArrivalKind::Closed;
        if config.requests_per_stage.is_none() && config.duration_s.is_none() && config.arrival == ArrivalKind::Series {
            return Err(
                self.conflict("duration_s", "neither `requests_per_stage` nor `duration_s` says when the series ends")
            );
        }
        let rates = matches!(
            config.arrival,
            ArrivalKind::Constant | ArrivalKind::Poisson | ArrivalKind::Gamma | ArrivalKind::Ramp
        );
        if rates && config.rate.is_empty() {
            let message = format!("`arrival={}` needs `rate`, in requests per second", config.arrival.name());
            return Err(self.conflict("arrival", message));
        }
        if closed && !config.rate.is_empty() {
            let message =
                "a closed loop has no `rate`: give `arrival=poisson` or `arrival=constant`, or leave `rate` out";
            return Err(self.conflict("rate", message));
        }
        if config.arrival == ArrivalKind::Ramp && (config.rate_end.is_none() || config.duration_s.is_none()) {
            return Err(self.conflict("arrival", "`arrival=ramp` needs `rate_end` and `duration_s`"));
        }
        if config.arrival == ArrivalKind::Series && config.rate_series.is_none() {
            return Err(self.conflict("arrival", "`arrival=series` needs `rate_series`"));
        }
        let overlong = config.min_tokens.zip(config.max_tokens).filter(|(min, max)| min > max);
        if let Some((min, max)) = overlong {
            return Err(
                self.conflict("min_tokens", format!("`min_tokens` is {min}, more than `max_tokens`, which is {max}"))
            );
        }
        let sought = match config.find {
            FindChoice::None | FindChoice::Knee => None,
            FindChoice::MaxRate => Some("max_rate"),
            FindChoice::MaxConcurrency => Some("max_concurrency"),
        };
        if let Some(sought) = sought {
            if !config.slo.is_set() {
                return Err(self.conflict("find", format!("`find={sought}` needs a limit such as `slo.ttft_ms`")));
            }
            if (sought == "max_concurrency") != closed {
                let arrival = config.arrival.name();
                return Err(self.conflict("find", format!("`find={sought}` does not go with `arrival={arrival}`")));
            }
        }
        if let Some(bad) = config.headers.iter().find(|header| !header.contains(':')) {
            let name: String = bad.chars().take(20).collect();
            return Err(self.conflict("headers", format!("a header is written `Name: value`, and `{name}` has no `:`")));
        }
        Ok(())
    }

    /// Reads the tree as a `T` whose keys are `keys`.
    pub(super) fn typed<'de, T: Deserialize<'de>>(&'de self, keys: &[Key]) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let mut path = error.path().to_string().replace('[', ".").replace(']', "");
            if path == "." {
                path.clear();
            }
            let message = error.inner().to_string();
            if keys::find(keys, &path).is_some_and(|key| key.kind == Kind::Section) {
                path = self.blamed(&path, &message, keys);
            }
            let value = tree::get(&self.value, &path);
            let is_element = path.rsplit('.').next().is_some_and(|last| last.parse::<usize>().is_ok());
            let expected = match (keys::find(keys, &path), value) {
                // The message is about this key and others.
                (Some(_), Some(_)) if message.contains(&format!("`{}`", path.rsplit('.').next().unwrap_or(&path))) => {
                    message
                }
                (Some(key), Some(Value::Number(_) | Value::Bool(_))) if key.kind == Kind::Text => {
                    "expected text: put it in quotes".to_owned()
                }
                // What a type of our own says of its text is better than the name of the type.
                (Some(_), Some(_)) if message.contains("` is no ") => message,
                (Some(key), _) if key.kind != Kind::Section || value.is_none() => {
                    format!("expected {}", key.kind.words())
                }
                (None, Some(Value::Object(_)) | None) => message,
                (None, Some(_)) if is_element && !keys::children(keys, &path).is_empty() => "expected a map".to_owned(),
                _ => message,
            };
            let value = value.map_or_else(|| "missing".to_owned(), |value| format!("`{}`", value_text(&path, value)));
            ConfigError::WrongType { value, expected, origin: self.origin(&path), key: path }
        })
    }

    /// The key below `section` that `message` is about: among those it names, one that an override set, else the first.
    fn blamed(&self, section: &str, message: &str, keys: &[Key]) -> String {
        let named: Vec<String> = message
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|name| join(section, name))
            .filter(|path| keys::find(keys, path).is_some())
            .collect();
        let overridden = named.iter().find(|path| matches!(self.origin(path), Origin::Override { .. }));
        overridden.or(named.first()).cloned().unwrap_or_else(|| section.to_owned())
    }

    fn conflict(&self, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Conflict { message: message.into(), origin: self.origin(path) }
    }

    fn check_model(&self, config: &Stage1Config) -> Result<(), ConfigError> {
        let model = &config.model;
        let has_files = model.path.is_some() || model.hf_id.is_some();
        match model.source {
            ModelSource::Synthetic if has_files => {
                let key = if model.path.is_some() { "model.path" } else { "model.hf_id" };
                return Err(self.conflict(
                    key,
                    format!("`model.source` is `synthetic` and `{key}` is given: a synthetic model reads no weights; leave out `model={}`, or set `model.source=auto`", model.name),
                ));
            }
            ModelSource::Synthetic if model.architecture.is_none() => {
                return Err(
                    self.conflict("model.source", "`model.source` is `synthetic` and `model.architecture` is null")
                );
            }
            ModelSource::Safetensors | ModelSource::Gguf if !has_files => {
                return Err(self.conflict(
                    "model.source",
                    "`model.source` names a kind of file and neither `model.path` nor `model.hf_id` is given",
                ));
            }
            ModelSource::Auto if !has_files && model.architecture.is_none() => {
                return Err(
                    self.conflict("model", "no model is given: choose one by `model=<name>` or `model.path=FILE`")
                );
            }
            _ => {}
        }
        for (key, format) in [
            ("model.dtype", model.dtype),
            ("model.dtype_default", model.dtype_default),
            ("engine.kv_dtype", config.engine.kv_dtype),
        ] {
            if let Some(format @ (Format::U32 | Format::I8)) = format {
                return Err(ConfigError::OutOfRange {
                    key: key.to_owned(),
                    value: format.to_string(),
                    expected: "a format of real numbers".to_owned(),
                    origin: self.origin(key),
                });
            }
        }
        Ok(())
    }

    fn check_prompts(&self, config: &Stage1Config) -> Result<(), ConfigError> {
        let mut names = BTreeSet::new();
        for (index, case) in config.cases.iter().enumerate() {
            let path = format!("cases.{index}");
            if case.prompt.is_some() && case.prompt_tokens.is_some() {
                return Err(self.conflict(
                    &join(&path, "prompt_tokens"),
                    format!("`{path}` has both `prompt` and `prompt_tokens`: a prompt of an exact length is made of synthetic ids"),
                ));
            }
            if let Some(name) = case.name.as_ref().filter(|name| !names.insert((*name).clone())) {
                return Err(self.conflict(&join(&path, "name"), format!("two cases are called `{name}`")));
            }
        }
        let some_case_lacks =
            config.effective_cases().iter().any(|case| case.prompt.is_none() && case.prompt_tokens.is_none());
        if some_case_lacks && config.dataset.root.is_none() {
            return Err(
                self.conflict("prompt", "no prompt is given: set `prompt`, `prompt_tokens`, `cases` or `dataset.root`")
            );
        }
        Ok(())
    }
}
