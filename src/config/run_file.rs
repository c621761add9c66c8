//! Run files: an experiment as one file, whose keys are those of the root.
//!
//! Older tools write `model`, `backend`, `warmup`, `repeats`, `dtype` and `cases`; those and every other key of the settings are
//! read. A word where a group is expected chooses a file of that group.

use serde_json::{Map, Value};

use super::ConfigError;
use super::provenance::Origin;
use super::sources::Source;
use super::yaml::kind_of;

/// A run file, taken apart.
#[derive(Debug, Clone)]
pub(super) struct RunFile {
    source: Source,
    /// What it sets.
    pub(super) value: Value,
    /// What it chooses: group, name, origin.
    pub(super) choices: Vec<(String, Option<String>, Origin)>,
}

/// Keys of older run files, and where they stand in the settings.
const SHORT: [(&str, &str); 2] = [("dtype", "dtype"), ("local_files_only", "local_files_only")];

impl RunFile {
    /// Takes `source` apart; `groups` are those of the root's defaults list.
    pub(super) fn new<'a>(source: Source, groups: impl Iterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let groups: Vec<&str> = groups.collect();
        let Value::Object(entries) = &source.document.value else {
            return Err(source.error("", format!("expected keys, found {}", kind_of(&source.document.value))));
        };
        let mut value = Map::new();
        let mut model = Map::new();
        let mut choices = Vec::new();
        for (key, entry) in entries {
            match (key.as_str(), entry) {
                ("package", _) => {}
                ("defaults", _) => {
                    return Err(
                        source.error("defaults", "a run file has no defaults list: write `group: name` lines instead")
                    );
                }
                ("backend", Value::String(backend)) if backend == "candle" => {}
                ("backend", Value::String(backend)) => {
                    let (backend, origin) = (backend.clone(), source.origin("backend"));
                    return Err(ConfigError::UnsupportedBackend { backend, origin });
                }
                ("backend", other) => {
                    return Err(source.error("backend", format!("`backend` must be text, found {}", kind_of(other))));
                }
                ("run", Value::String(_)) => {
                    return Err(source.error("run", "a run file cannot choose another run file"));
                }
                (group, Value::String(name)) if groups.contains(&group) => {
                    choices.push((group.to_owned(), Some(name.clone()), source.origin(group)));
                }
                (group, Value::Null) if groups.contains(&group) => {
                    choices.push((group.to_owned(), None, source.origin(group)));
                }
                (short, entry) if SHORT.iter().any(|(name, _)| *name == short) => {
                    model.insert(short.to_owned(), entry.clone());
                }
                (key, entry) => {
                    value.insert(key.to_owned(), entry.clone());
                }
            }
        }
        for (key, entry) in model {
            match value.entry("model").or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(section) if !section.contains_key(&key) => {
                    section.insert(key, entry);
                }
                Value::Object(_) => {
                    return Err(source
                        .error(&key, format!("`{key}` and `model.{key}` are the same setting: write one of them")));
                }
                other => {
                    return Err(
                        source.error("model", format!("`model` must be a name or a map, found {}", kind_of(other)))
                    );
                }
            }
        }
        Ok(Self { source, value: Value::Object(value), choices })
    }

    /// The origin of the value at `path` of the settings.
    pub(super) fn origin(&self, path: &str) -> Origin {
        for (short, key) in SHORT {
            if path == format!("model.{key}") && self.source.document.value.get(short).is_some() {
                return self.source.origin(short);
            }
        }
        self.source.origin(path)
    }
}
