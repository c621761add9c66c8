//! The files of `configs/`: those inside the binary, and a directory of the user's whose files stand before them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::provenance::Origin;
use super::yaml::{self, Document};
use super::{ConfigError, Group};

macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/", $path)))),*]
    };
}

/// Every YAML file of `configs/`, by its path in it. A test holds the list against the folder.
pub(super) const EMBEDDED: &[(&str, &str)] = embed![
    "backend/candle.yaml",
    "backend/hf.yaml",
    "backend/llama_cpp.yaml",
    "backend/sglang.yaml",
    "backend/vllm.yaml",
    "config.yaml",
    "dataset/first16.yaml",
    "dataset/none.yaml",
    "dataset/random16.yaml",
    "engine/default.yaml",
    "engine/fused.yaml",
    "engine/reference.yaml",
    "hardware/auto.yaml",
    "hardware/measured.yaml",
    "hardware/unknown.yaml",
    "load.yaml",
    "load/closed.yaml",
    "load/heavy.yaml",
    "load/open.yaml",
    "load/quick.yaml",
    "load/slo.yaml",
    "load/standard.yaml",
    "model/smollm2.yaml",
    "model/synthetic-llama-2-7b.yaml",
    "model/synthetic-llama-3-8b.yaml",
    "model/synthetic-mistral-7b.yaml",
    "model/synthetic-qwen2.5-0.5b.yaml",
    "model/synthetic-qwen2.5-7b.yaml",
    "model/synthetic-qwen3-0.6b.yaml",
    "model/synthetic-qwen3-8b.yaml",
    "model/synthetic-smollm2-135m.yaml",
    "model/synthetic-tinyllama-1.1b.yaml",
    "model/synthetic.yaml",
    "models.yaml",
    "profiling/default.yaml",
    "profiling/max.yaml",
    "profiling/min.yaml",
    "quality/embedded.yaml",
    "quality/none.yaml",
    "run/cases.yaml",
    "run/default.yaml",
    "run/quick.yaml",
    "run/two_pass.yaml",
    "stage2/default.yaml",
    "stage2/per_phase.yaml",
    "stage2/timeline.yaml",
    "study/aa.yaml",
    "study/gpu.yaml",
    "study/ops.yaml",
    "study/quantization.yaml",
    "study/threads.yaml",
    "sweep/latency_grid.yaml",
    "sweep/load_grid.yaml",
];

/// The registry of model aliases, beside the groups.
pub(super) const REGISTRY: &str = "models.yaml";

/// A file that was found.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Its content.
    pub(super) document: Document,
    /// What messages call it.
    pub(super) name: String,
    /// True if it lies inside the binary.
    pub(super) embedded: bool,
}

impl Source {
    /// The origin of the node at `path` of the file.
    pub(super) fn origin(&self, path: &str) -> Origin {
        let mut path = path;
        let line = loop {
            match (self.document.lines.get(path), path.rfind('.')) {
                (Some(line), _) => break *line,
                (None, Some(dot)) => path = &path[..dot],
                (None, None) => break 0,
            }
        };
        Origin::File { file: self.name.as_str().into(), line, embedded: self.embedded }
    }
    /// An error about the node at `path`.
    pub(super) fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::File { origin: self.origin(path), message: message.into() }
    }
    /// Reads a file that is not part of `configs/`.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self { document: yaml::read(path)?, name: path.display().to_string(), embedded: false })
    }
}

/// Where group files are looked up.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    directory: Option<PathBuf>,
    /// Files that stand in for others: path in `configs/`, file.
    placed: BTreeMap<String, PathBuf>,
}

impl Sources {
    /// With `directory` before the embedded files; it must be a directory.
    pub(super) fn new(directory: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(path) = directory {
            // `read_dir` tells "not a directory" and "permission denied" apart, which `is_dir` does not.
            std::fs::read_dir(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        }
        Ok(Self { directory: directory.map(Path::to_owned), placed: BTreeMap::new() })
    }

    /// Lets `file` stand at `path` of `configs/`, before all others.
    pub(super) fn place(&mut self, path: &str, file: &Path) {
        self.placed.insert(path.to_owned(), file.to_owned());
    }

    /// The user's file at `path` of `configs/`, if there is one.
    pub(super) fn of_user(&self, path: &str) -> Result<Option<Source>, ConfigError> {
        if let Some(file) = self.placed.get(path) {
            return Source::read(file).map(Some);
        }
        let Some(file) = self.directory.as_ref().map(|directory| directory.join(path)) else { return Ok(None) };
        // A file that is there but unreadable is an error, and no reason to take the embedded one in silence.
        if file.symlink_metadata().is_err() {
            return Ok(None);
        }
        Source::read(&file).map(Some)
    }

    /// The embedded file at `path` of `configs/`, if there is one.
    pub(super) fn of_binary(path: &str) -> Result<Option<Source>, ConfigError> {
        let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == path) else { return Ok(None) };
        let name = format!("configs/{path}");
        Ok(Some(Source { document: yaml::parse(&name, text)?, name, embedded: true }))
    }

    /// The file at `path` of `configs/`: the user's, else the embedded one.
    pub(super) fn load(&self, path: &str) -> Result<Option<Source>, ConfigError> {
        match self.of_user(path)? {
            Some(source) => Ok(Some(source)),
            None => Self::of_binary(path),
        }
    }

    /// Every file, embedded and the user's, by its path in `configs/`.
    pub(super) fn paths(&self) -> Result<BTreeSet<String>, ConfigError> {
        let mut paths: BTreeSet<String> = EMBEDDED.iter().map(|(path, _)| (*path).to_owned()).collect();
        if let Some(directory) = &self.directory {
            walk(directory, "", 0, &mut paths)?;
        }
        paths.extend(self.placed.keys().cloned());
        Ok(paths)
    }

    /// Every group with its choices; the aliases of the registry count as choices of `model`.
    pub(super) fn catalog(&self) -> Result<Vec<Group>, ConfigError> {
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for path in self.paths()? {
            if let Some((group, name)) = path.strip_suffix(".yaml").and_then(|path| path.rsplit_once('/')) {
                groups.entry(group.to_owned()).or_default().insert(name.to_owned());
            }
        }
        if let Some(registry) = self.load(REGISTRY)? {
            groups
                .entry("model".to_owned())
                .or_default()
                .extend(aliases(&registry)?.into_iter().map(|(alias, _)| alias));
        }
        Ok(groups.into_iter().map(|(name, choices)| Group { name, choices: choices.into_iter().collect() }).collect())
    }
}

/// The entries of a registry, each with its dotted path in the file. Both `models: {alias: …}` and `alias: …` are read.
pub(super) fn aliases(registry: &Source) -> Result<Vec<(String, String)>, ConfigError> {
    let root = &registry.document.value;
    let (entries, prefix) = match root.get("models") {
        Some(models) if root.as_object().is_some_and(|map| map.len() == 1) => (models, "models."),
        Some(_) => {
            return Err(
                registry.error("models", "`models` must be the only key beside none: all aliases stand below it")
            );
        }
        None => (root, ""),
    };
    let Value::Object(entries) = entries else {
        return Err(registry.error("models", format!("expected aliases, found {}", yaml::kind_of(entries))));
    };
    entries
        .iter()
        .map(|(alias, entry)| {
            let path = format!("{prefix}{alias}");
            match entry {
                Value::Object(_) => Ok((alias.clone(), path)),
                other => {
                    Err(registry
                        .error(&path, format!("alias `{alias}`: expected a map, found {}", yaml::kind_of(other))))
                }
            }
        })
        .collect()
}

/// Collects the `.yaml` files below `directory`; hidden ones and folders deeper than any group are left out.
fn walk(directory: &Path, prefix: &str, depth: usize, paths: &mut BTreeSet<String>) -> Result<(), ConfigError> {
    let io = |source| ConfigError::Io { path: directory.to_owned(), source };
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            if depth < 3 {
                walk(&entry.path(), &format!("{path}/"), depth + 1, paths)?;
            }
        } else if name.strip_suffix(".yaml").is_some_and(|stem| !stem.is_empty()) {
            paths.insert(path);
        }
    }
    Ok(())
}
