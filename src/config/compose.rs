//! Puts the settings of a command together: defaults list, groups, run file, overrides.
//!
//! Later layers win: the root file and its groups in the order of its defaults list, then the run file, then the overrides.
//! Maps are merged, everything else is replaced. What the values mean is checked in `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::ConfigError;
use super::error::near_matches;
use super::overrides::{self, Action, Override};
use super::provenance::{Origin, Provenance, join};
use super::render::masked_override;
use super::run_file::RunFile;
use super::schema::keys::{self, Key};
use super::sources::{REGISTRY, Source, Sources, aliases};
use super::tree;
use super::yaml::kind_of;
use super::{check, render};

/// What is to be composed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComposeRequest {
    /// The command, e.g. `stage1`.
    pub command: String,
    /// The overrides as typed, in order.
    pub overrides: Vec<String>,
    /// A run file (`--run-config`).
    pub run_config: Option<PathBuf>,
    /// A directory whose files stand before the embedded ones.
    pub config_dir: Option<PathBuf>,
}

/// Composed settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// The tree.
    pub value: Value,
    /// Where each leaf came from.
    pub provenance: Provenance,
}

/// Composes the settings of `request.command` and checks that every key is known and every number in its range.
pub fn compose(request: &ComposeRequest) -> Result<Composed, ConfigError> {
    let (composed, keys) = assemble(request, &[])?;
    match keys.and_then(|keys| check::keys_and_ranges(&composed, keys).into_iter().next()) {
        Some(error) => Err(error),
        None => Ok(composed),
    }
}

/// Everything that is wrong with the settings of `request`, instead of the first thing; empty if they can be used.
///
/// Each file of `placed` is taken as if it stood at the given path of `configs/`.
pub fn findings(request: &ComposeRequest, placed: &[(String, PathBuf)]) -> Vec<ConfigError> {
    let (composed, keys) = match assemble(request, placed) {
        Ok(assembled) => assembled,
        Err(error) => return vec![error],
    };
    let found = keys.map_or_else(Vec::new, |keys| check::keys_and_ranges(&composed, keys));
    if !found.is_empty() || keys.is_none() {
        return found;
    }
    let wrong = match request.command.as_str() {
        "stage2" => composed.stage2().err(),
        "load" => composed.load().err(),
        _ => composed.stage1().err(),
    };
    wrong.into_iter().collect()
}

/// Puts the settings together, and looks up the keys they must have.
fn assemble(
    request: &ComposeRequest,
    placed: &[(String, PathBuf)],
) -> Result<(Composed, Option<&'static [Key]>), ConfigError> {
    let unknown = || ConfigError::UnknownCommand { command: request.command.clone() };
    let keys = keys::of_command(&request.command);
    let mut sources = Sources::new(request.config_dir.as_deref())?;
    for (path, file) in placed {
        sources.place(path, file);
    }
    // A command with its own settings has its own root beside `config.yaml`.
    let shared = keys.is_some() && request.command != "load";
    let root = if shared { "config.yaml".to_owned() } else { format!("{}.yaml", request.command) };
    let root = if root == REGISTRY || root.contains('/') { None } else { sources.load(&root)? };
    let root = root.ok_or_else(unknown)?;
    let mut composer = Composer {
        sources,
        keys: keys.unwrap_or(&[]),
        choices: BTreeMap::new(),
        used: BTreeSet::new(),
        value: Value::Object(Map::new()),
        provenance: Provenance::default(),
    };
    composer.run(request, &root)?;
    Ok((Composed { value: composer.value, provenance: composer.provenance }, keys))
}

/// One line of a defaults list.
#[derive(Debug, Clone)]
enum Entry {
    /// `_self_`: the file's own content.
    Own,
    /// `group: name`, or `name` alone for a file of the same group.
    Group { group: String, name: Option<String>, optional: bool, origin: Origin },
}

/// Which file of a group is taken.
#[derive(Debug, Clone)]
struct Choice {
    name: Option<String>,
    origin: Origin,
}

struct Composer {
    sources: Sources,
    keys: &'static [Key],
    /// Choices made by overrides and run files, which stand before those of the defaults lists.
    choices: BTreeMap<String, Choice>,
    /// Groups that were met.
    used: BTreeSet<String>,
    value: Value,
    provenance: Provenance,
}

impl Composer {
    fn run(&mut self, request: &ComposeRequest, root: &Source) -> Result<(), ConfigError> {
        let mut entries = entries_of(root, "")?;
        if request.command == "stage2" {
            let origin = Origin::Derived("the defaults".into());
            let (group, name) = ("stage2".to_owned(), Some("default".to_owned()));
            entries.push(Entry::Group { group, name, optional: false, origin });
        }
        let mut assignments = Vec::new();
        for (index, argument) in request.overrides.iter().enumerate() {
            let parsed = overrides::parse(argument)?;
            let origin = Origin::Override { index: index + 1, text: masked_override(argument).into() };
            let list = keys::find(self.keys, &parsed.key).is_some_and(|key| key.kind.takes_list());
            if parsed.values.len() > 1 && !list {
                return Err(ConfigError::SeveralValues {
                    argument: masked_override(argument),
                    count: parsed.values.len(),
                });
            }
            if !self.choose(&parsed, &origin, argument, &mut entries)? {
                assignments.push((parsed, origin, argument.as_str()));
            }
        }

        let run_files = self.run_files(request, &mut entries)?;
        // The workload is a run of `stage1` of its own, which reads the same run file.
        if let Some(file) = run_files.iter().find(|file| file.value.get("stage2").is_some()) {
            return Err(ConfigError::Conflict {
                message: "`stage2` cannot stand in a run file: put it into `configs/stage2/NAME.yaml` and choose it by `stage2=NAME`"
                    .to_owned(),
                origin: file.origin("stage2"),
            });
        }
        self.drop_the_default_model(&run_files, &assignments, &entries);

        for entry in &entries {
            match entry {
                Entry::Own => self.merge_own(root, ""),
                Entry::Group { group, .. } if group == "run" => {
                    self.used.insert("run".to_owned());
                }
                Entry::Group { .. } => self.load_group(entry, &mut Vec::new())?,
            }
        }
        for file in &run_files {
            tree::merge(&mut self.value, &mut self.provenance, "", &file.value, &|path| file.origin(path));
        }
        if request.command == "load"
            && let Some(path) = &request.run_config
        {
            let source = Source::read(path)?;
            if !source.document.value.is_object() {
                let found = kind_of(&source.document.value);
                return Err(source.error("", format!("a file of settings is a map, found {found}")));
            }
            self.merge_own(&source, "");
        }
        if let Some((group, choice)) = self.choices.iter().find(|(group, _)| !self.used.contains(*group)) {
            return Err(ConfigError::UnknownKey {
                key: group.clone(),
                origin: choice.origin.clone(),
                near: near_matches(group, self.used.iter().map(String::as_str)),
                allowed: self.used.iter().cloned().collect(),
            });
        }
        for (parsed, origin, argument) in assignments {
            self.assign(&parsed, &origin, argument)?;
        }
        self.name_the_model();
        Ok(())
    }

    /// Takes `group=name`, `+group=name`, `~group`; false if the override is about a value.
    fn choose(
        &mut self,
        parsed: &Override,
        origin: &Origin,
        argument: &str,
        entries: &mut Vec<Entry>,
    ) -> Result<bool, ConfigError> {
        let listed = |group: &str, entries: &[Entry]| {
            entries.iter().position(|entry| matches!(entry, Entry::Group { group: known, .. } if known == group))
        };
        let place = listed(&parsed.key, entries);
        if parsed.key.contains('.') || (place.is_none() && !self.is_group(&parsed.key)?) {
            return Ok(false);
        }
        let name = match parsed.values.first() {
            None => None,
            Some(element) => match (element.to_text(), element.to_value()) {
                (Some(name), _) => Some(name.to_owned()),
                (None, Value::Null) => None,
                // `model={path: x}` sets values of the section that the group fills.
                _ => return Ok(false),
            },
        };
        if name.as_deref() == Some("") {
            return Err(ConfigError::Override {
                argument: masked_override(argument),
                position: argument.chars().count(),
                message: format!("the name of a file of `configs/{}/` is missing", parsed.key),
            });
        }
        match (parsed.action, place) {
            (Action::Delete, Some(place)) => {
                let Entry::Group { group, name: listed_name, .. } = &entries[place] else { return Ok(false) };
                let current = self.choices.get(group).map_or_else(|| listed_name.clone(), |choice| choice.name.clone());
                if name.is_some() && name != current {
                    let current = current.as_deref().unwrap_or("null");
                    let message = format!("`{group}` is `{current}`");
                    return Err(ConfigError::CannotDelete {
                        argument: masked_override(argument),
                        message,
                        near: Vec::new(),
                    });
                }
                self.choices.insert(parsed.key.clone(), Choice { name: None, origin: origin.clone() });
            }
            (Action::Delete, None) => {
                return Err(ConfigError::CannotDelete {
                    argument: masked_override(argument),
                    message: format!("no group `{}` is in the defaults list", parsed.key),
                    near: Vec::new(),
                });
            }
            (Action::Add, Some(_)) => {
                let existing = entries.iter().find_map(|entry| match entry {
                    Entry::Group { group, origin, .. } if *group == parsed.key => Some(origin.clone()),
                    _ => None,
                });
                let existing = existing.unwrap_or_else(|| origin.clone());
                return Err(ConfigError::CannotAdd {
                    argument: masked_override(argument),
                    key: parsed.key.clone(),
                    existing,
                });
            }
            (Action::Add | Action::AddOrSet, None) => {
                let group = parsed.key.clone();
                entries.push(Entry::Group { group, name, optional: false, origin: origin.clone() });
            }
            (Action::Set, None) if !parsed.key.contains('/') => return Ok(false),
            (Action::Set | Action::AddOrSet, _) => {
                self.choices.insert(parsed.key.clone(), Choice { name, origin: origin.clone() });
            }
        }
        Ok(true)
    }

    fn is_group(&self, key: &str) -> Result<bool, ConfigError> {
        let folder = format!("{key}/");
        Ok(self.sources.paths()?.iter().any(|path| path.starts_with(&folder)))
    }

    /// The run files, in the order in which they apply; what they choose for groups is noted, unless an override chose already.
    fn run_files(&mut self, request: &ComposeRequest, entries: &mut [Entry]) -> Result<Vec<RunFile>, ConfigError> {
        let mut files = Vec::new();
        let listed = entries.iter().find_map(|entry| match entry {
            Entry::Group { group, name, origin, .. } if group == "run" => {
                Some(Choice { name: name.clone(), origin: origin.clone() })
            }
            _ => None,
        });
        if let Some(Choice { name: Some(name), origin }) = self.choices.get("run").cloned().or(listed) {
            let source = self.find("run", &name)?.ok_or_else(|| self.unknown_choice("run", &name, &origin))?;
            files.push(RunFile::new(source, entries.iter().filter_map(group_of))?);
        }
        // A file of `load` has the keys of its root and nothing else, and is merged as it stands.
        if let Some(path) = request.run_config.as_ref().filter(|_| request.command != "load") {
            files.push(RunFile::new(Source::read(path)?, entries.iter().filter_map(group_of))?);
        }
        let by_override: BTreeSet<String> = self.choices.keys().cloned().collect();
        for file in &files {
            for (group, name, origin) in &file.choices {
                if !by_override.contains(group) {
                    let choice = Choice { name: name.clone(), origin: origin.clone() };
                    self.choices.insert(group.clone(), choice);
                }
            }
        }
        Ok(files)
    }

    /// `model.path=x` without `model=…` means the model at `x`, and not the default model with another path.
    fn drop_the_default_model(
        &mut self,
        run_files: &[RunFile],
        assignments: &[(Override, Origin, &str)],
        entries: &[Entry],
    ) {
        let chosen_by_override =
            self.choices.get("model").is_some_and(|choice| matches!(choice.origin, Origin::Override { .. }));
        if chosen_by_override || !entries.iter().any(|entry| group_of(entry) == Some("model")) {
            return;
        }
        // A section that says where the weights come from describes a whole model, as the record of a run does.
        let given = |value: &Value| {
            ["path", "hf_id", "source"].iter().any(|key| value.get(key).is_some_and(|value| !value.is_null()))
        };
        let by_file =
            run_files.iter().find(|file| file.value.get("model").is_some_and(given)).map(|file| file.origin("model"));
        let by_override = assignments.iter().find(|(parsed, _, _)| {
            let value = parsed.values.first().map(overrides::Element::to_value).unwrap_or_default();
            match parsed.key.as_str() {
                "model.path" | "model.hf_id" => !value.is_null(),
                "model" => given(&value),
                _ => false,
            }
        });
        // A run file that both names a model and gives it another path means the named model.
        let by_file = by_file.filter(|_| !self.choices.contains_key("model"));
        if let Some(origin) = by_override.map(|(_, origin, _)| origin.clone()).or(by_file) {
            self.choices.insert("model".to_owned(), Choice { name: None, origin });
        }
    }

    fn load_group(&mut self, entry: &Entry, stack: &mut Vec<String>) -> Result<(), ConfigError> {
        let Entry::Group { group, name, optional, origin } = entry else { return Ok(()) };
        self.used.insert(group.clone());
        let (name, origin) = match self.choices.get(group) {
            Some(choice) => (choice.name.clone(), choice.origin.clone()),
            None => (name.clone(), origin.clone()),
        };
        let Some(name) = name else { return Ok(()) };
        let source = match self.find(group, &name)? {
            Some(source) => source,
            None if *optional => return Ok(()),
            None => return Err(self.unknown_choice(group, &name, &origin)),
        };
        let id = format!("{group}/{name}");
        if stack.contains(&id) {
            return Err(
                source.error("defaults", format!("the defaults lists of `{}` go in a circle", stack.join("` and `")))
            );
        }
        stack.push(id);
        for inner in entries_of(&source, group)? {
            match &inner {
                Entry::Own => {
                    let package = package_of(&source, group)?;
                    self.merge_own(&source, &package);
                }
                Entry::Group { group: inner_group, .. } if inner_group == group => self.load_sibling(&inner, stack)?,
                Entry::Group { .. } => self.load_group(&inner, stack)?,
            }
        }
        stack.pop();
        if group == "model" {
            let path = "model.name";
            if tree::get(&self.value, path).is_none_or(Value::is_null) {
                tree::set(&mut self.value, &mut self.provenance, path, Value::String(name), &origin);
            }
        }
        Ok(())
    }

    /// A file of the same group that another builds on: the group's choice is about the outer one.
    fn load_sibling(&mut self, entry: &Entry, stack: &mut Vec<String>) -> Result<(), ConfigError> {
        let Entry::Group { group, .. } = entry else { return Ok(()) };
        let chosen = self.choices.remove(group);
        let named = tree::get(&self.value, "model.name").cloned();
        let result = self.load_group(entry, stack);
        if group == "model" {
            let origin =
                self.provenance.origin("model.name").cloned().unwrap_or(Origin::Derived("the defaults".into()));
            tree::set(&mut self.value, &mut self.provenance, "model.name", named.unwrap_or_default(), &origin);
        }
        if let Some(chosen) = chosen {
            self.choices.insert(group.clone(), chosen);
        }
        result
    }

    /// The file called `name` in `group`; for models also the registry, each time the user's before the embedded one.
    fn find(&self, group: &str, name: &str) -> Result<Option<Source>, ConfigError> {
        let harmless =
            !name.split('/').any(|part| part.is_empty() || part.starts_with('.')) && !name.contains(['\\', '\0']);
        let path = format!("{group}/{name}.yaml");
        if !harmless {
            return Ok(None);
        }
        if let Some(source) = self.sources.of_user(&path)? {
            return Ok(Some(source));
        }
        let user_registry = if group == "model" { self.sources.of_user(REGISTRY)? } else { None };
        let has_own_registry = user_registry.is_some();
        if let Some(source) = user_registry.map(|registry| from_registry(&registry, name)).transpose()?.flatten() {
            return Ok(Some(source));
        }
        if let Some(source) = Sources::of_binary(&path)? {
            return Ok(Some(source));
        }
        if group == "model"
            && !has_own_registry
            && let Some(registry) = Sources::of_binary(REGISTRY)?
        {
            return from_registry(&registry, name);
        }
        Ok(None)
    }

    fn unknown_choice(&self, group: &str, name: &str, origin: &Origin) -> ConfigError {
        let available = match self.sources.catalog() {
            Ok(groups) => {
                groups.into_iter().find(|known| known.name == group).map(|known| known.choices).unwrap_or_default()
            }
            // A broken registry explains itself better than a missing name.
            Err(error) => return error,
        };
        ConfigError::UnknownChoice {
            group: group.into(),
            choice: name.into(),
            near: near_matches(name, available.iter().map(String::as_str)),
            available,
            origin: origin.clone(),
        }
    }

    /// Merges the content of a file, without the keys that steer composition, at `package`.
    fn merge_own(&mut self, source: &Source, package: &str) {
        let mut own = source.document.value.clone();
        if let Value::Object(map) = &mut own {
            map.shift_remove("defaults");
            map.shift_remove("package");
        }
        let prefix = if package.is_empty() { String::new() } else { format!("{package}.") };
        let origin = |path: &str| source.origin(path.strip_prefix(&prefix).unwrap_or(""));
        let at = package
            .split('.')
            .filter(|part| !part.is_empty())
            .rev()
            .fold(own, |inner, part| Value::Object(Map::from_iter([(part.to_owned(), inner)])));
        tree::merge(&mut self.value, &mut self.provenance, "", &at, &origin);
    }

    fn assign(&mut self, parsed: &Override, origin: &Origin, argument: &str) -> Result<(), ConfigError> {
        let key = parsed.key.as_str();
        let current = tree::get(&self.value, key);
        let known = keys::find(self.keys, key);
        match parsed.action {
            Action::Delete => {
                let missing = |message: String, near| ConfigError::CannotDelete {
                    argument: masked_override(argument),
                    message,
                    near,
                };
                let Some(current) = current else {
                    let near = self.near_keys(key);
                    return Err(missing(format!("there is no key `{key}`"), near));
                };
                if let Some(element) = parsed.values.first() {
                    let wanted = check::typed_value(element, key, self.keys);
                    if wanted != *current {
                        return Err(missing(format!("`{key}` is `{}`", render::value_text(key, current)), Vec::new()));
                    }
                }
                let instead = match known {
                    Some(known) if known.nullable => Some(Value::Null),
                    Some(Key { kind: keys::Kind::Sections | keys::Kind::Words(_), .. }) => {
                        Some(Value::Array(Vec::new()))
                    }
                    Some(_) => return Err(missing(format!("`{key}` must have a value"), Vec::new())),
                    None => None,
                };
                match instead {
                    Some(value) => tree::set(&mut self.value, &mut self.provenance, key, value, origin),
                    None => tree::remove(&mut self.value, &mut self.provenance, key, origin),
                }
                return Ok(());
            }
            Action::Add if current.is_some() => {
                let existing = self.provenance.origin(key).cloned().unwrap_or_else(|| origin.clone());
                return Err(ConfigError::CannotAdd {
                    argument: masked_override(argument),
                    key: key.to_owned(),
                    existing,
                });
            }
            Action::Set if current.is_none() && known.is_none() => return Err(self.unknown_key(key, origin)),
            _ if known.is_none() && current.is_none() && !self.keys.is_empty() => {
                return Err(self.unknown_key(key, origin));
            }
            _ => {}
        }
        let element = parsed.values.first().expect("only a deletion has no value");
        let value = match parsed.values.as_slice() {
            [element] => check::typed_value(element, key, self.keys),
            several => Value::Array(several.iter().map(overrides::Element::to_value).collect()),
        };
        if let Some(parent) = tree::blocking_parent(&self.value, key) {
            let found = tree::get(&self.value, &parent).map_or("nothing", kind_of);
            return Err(ConfigError::Conflict {
                message: format!("`{key}` cannot be set: `{parent}` is {found}"),
                origin: origin.clone(),
            });
        }
        let merges = value.as_object().is_some_and(|map| !map.is_empty()) && current.is_some_and(Value::is_object);
        if merges {
            let nested = key
                .split('.')
                .rev()
                .fold(value, |inner, part| Value::Object(Map::from_iter([(part.to_owned(), inner)])));
            // A list element cannot be reached by nested maps; it is replaced below.
            if !key.split('.').any(|part| part.parse::<usize>().is_ok()) {
                tree::merge(&mut self.value, &mut self.provenance, "", &nested, &|_| origin.clone());
                return Ok(());
            }
            let value = check::typed_value(element, key, self.keys);
            tree::set(&mut self.value, &mut self.provenance, key, value, origin);
            return Ok(());
        }
        tree::set(&mut self.value, &mut self.provenance, key, value, origin);
        Ok(())
    }

    fn near_keys(&self, key: &str) -> Vec<String> {
        check::near_keys(&self.value, self.keys, key)
    }

    fn unknown_key(&self, key: &str, origin: &Origin) -> ConfigError {
        check::unknown_key(&self.value, self.keys, key, origin)
    }

    /// A model without a name is called after its file or repository.
    fn name_the_model(&mut self) {
        let Some(model) = self.value.get("model").filter(|model| model.is_object()) else { return };
        if model.get("name").is_some_and(|name| !name.is_null()) {
            return;
        }
        let text = |key: &str| model.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (name, from) = if let Some(path) = text("path") {
            let path = std::path::Path::new(path);
            let is_weights =
                path.extension().is_some_and(|extension| extension == "gguf" || extension == "safetensors");
            let name = if is_weights { path.file_stem() } else { path.file_name() };
            (name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned()), "model.path")
        } else if let Some(id) = text("hf_id") {
            (id.to_owned(), "model.hf_id")
        } else if model.get("architecture").is_some_and(Value::is_object) {
            ("synthetic".to_owned(), "model.architecture")
        } else {
            return;
        };
        let origin = Origin::Derived(from.into());
        tree::set(&mut self.value, &mut self.provenance, "model.name", Value::String(name), &origin);
    }
}

fn group_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Own => None,
        Entry::Group { group, .. } => Some(group),
    }
}

/// The entry `name` of a registry as if it were a file of `configs/model/`.
fn from_registry(registry: &Source, name: &str) -> Result<Option<Source>, ConfigError> {
    let Some((_, path)) = aliases(registry)?.into_iter().find(|(alias, _)| alias == name) else { return Ok(None) };
    let root = &registry.document.value;
    let entry = if path.len() > name.len() { &root["models"][name] } else { &root[name] };
    let mut document = registry.document.clone();
    document.value = entry.clone();
    let prefix = format!("{path}.");
    let mut lines: BTreeMap<String, u64> = registry
        .document
        .lines
        .iter()
        .filter_map(|(known, line)| known.strip_prefix(&prefix).map(|rest| (rest.to_owned(), *line)))
        .collect();
    lines.insert(String::new(), registry.document.lines.get(&path).copied().unwrap_or(0));
    document.lines = lines;
    document.package = None;
    Ok(Some(Source { document, name: registry.name.clone(), embedded: registry.embedded }))
}

/// The defaults list of a file; a file without one is only its own content, which also comes last if `_self_` is left out.
fn entries_of(source: &Source, group: &str) -> Result<Vec<Entry>, ConfigError> {
    let Some(list) = source.document.value.get("defaults") else { return Ok(vec![Entry::Own]) };
    let Value::Array(list) = list else {
        return Err(source.error("defaults", format!("`defaults` must be a list, found {}", kind_of(list))));
    };
    let mut entries = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let path = format!("defaults.{index}");
        let origin = source.origin(&path);
        match item {
            Value::String(own) if own == "_self_" => entries.push(Entry::Own),
            Value::String(name) if !group.is_empty() => {
                let (group, name) = (group.to_owned(), Some(name.clone()));
                entries.push(Entry::Group { group, name, optional: false, origin });
            }
            Value::Object(map) if map.len() == 1 => {
                let (key, name) = map.iter().next().expect("the map has one entry");
                let (optional, key) = match key.strip_prefix("optional ") {
                    Some(key) => (true, key.trim()),
                    None => (false, key.as_str()),
                };
                let name = match name {
                    Value::Null => None,
                    Value::String(name) => Some(name.clone()),
                    other => {
                        return Err(source.error(&path, format!("`{key}` must name a file, found {}", kind_of(other))));
                    }
                };
                let inner = match key.strip_prefix('/') {
                    Some(absolute) => absolute.to_owned(),
                    None if group.is_empty() => key.to_owned(),
                    None => format!("{group}/{key}"),
                };
                entries.push(Entry::Group { group: inner, name, optional, origin });
            }
            _ => return Err(source.error(&path, "a defaults list has entries like `_self_` and `group: name`")),
        }
    }
    if !entries.iter().any(|entry| matches!(entry, Entry::Own)) {
        entries.push(Entry::Own);
    }
    Ok(entries)
}

/// Where the content of a group file goes: its group, or what `package:` or `# @package` says.
fn package_of(source: &Source, group: &str) -> Result<String, ConfigError> {
    let named = match source.document.value.get("package") {
        Some(Value::String(name)) => Some(name.clone()),
        Some(other) => return Err(source.error("package", format!("`package` must be text, found {}", kind_of(other)))),
        None => source.document.package.clone(),
    };
    Ok(match named.as_deref() {
        Some("_global_") => String::new(),
        Some("_group_") | None => group.replace('/', "."),
        Some(name) => join("", name),
    })
}

impl Composed {
    /// The tree as YAML, each leaf with a comment that says where it came from; secrets are masked.
    pub fn to_yaml_with_provenance(&self) -> String {
        render::yaml_with_provenance(&self.value, &self.provenance)
    }
    /// SHA-256 of the tree as canonical JSON (sorted keys, no spaces, secrets masked), in lower-case hex.
    pub fn sha256(&self) -> String {
        render::sha256(&self.value)
    }
}
