//! What a finished point was: its settings, and the files they name. Under another fingerprint it is another point.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::commands::stage1::HASH_LIMIT_BYTES;
use crate::config::ConfigError;
use crate::config::dataset;
use crate::config::schema::load::LoadConfig;
use crate::config::schema::stage1::Stage1Config;
use crate::config::sweep::SweepPoint;
use crate::record::manifest;
use crate::runner::assemble;

/// Files beside the weights that say what is computed.
const BESIDE_WEIGHTS: [&str; 4] = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];

/// The settings of a point, by what runs it.
pub(super) enum PointConfig {
    /// `perfprof stage1`.
    Stage1(Box<Stage1Config>),
    /// `perfprof load`.
    Load(Box<LoadConfig>),
}

impl PointConfig {
    /// The settings of `point`, which `command` runs.
    pub(super) fn of(command: &str, point: &SweepPoint) -> Result<Self, ConfigError> {
        Ok(match command {
            "load" => Self::Load(Box::new(point.composed.load()?)),
            _ => Self::Stage1(Box::new(point.composed.stage1()?)),
        })
    }

    /// Whether a point that calls itself INVALID may be best.
    pub(super) fn allows_invalid(&self) -> bool {
        match self {
            Self::Stage1(config) => config.run.allow_invalid,
            Self::Load(config) => config.run.allow_invalid,
        }
    }

    /// Whether it has no server to send requests to.
    pub(super) fn lacks_a_server(&self) -> bool {
        matches!(self, Self::Load(config) if config.base_url.is_empty())
    }

    /// The files the settings name.
    fn files(&self) -> BTreeSet<PathBuf> {
        match self {
            Self::Stage1(config) => files(config),
            Self::Load(config) => load_files(config),
        }
    }
}

/// Takes fingerprints; each file is read once, however many points name it.
#[derive(Default)]
pub(super) struct Fingerprints {
    known: BTreeMap<PathBuf, String>,
}

impl Fingerprints {
    /// SHA-256 over the settings of the point, its environment and the content of the files it reads.
    pub(super) fn of(&mut self, point: &SweepPoint, config: &PointConfig) -> String {
        let mut text = format!("settings {}\n", point.sha256());
        for path in config.files() {
            let state = self.known.entry(path.clone()).or_insert_with(|| state(&path));
            text.push_str(&format!("file {} {state}\n", path.display()));
        }
        manifest::sha256_hex(text.as_bytes())
    }
}

/// The files the settings of a load test name.
fn load_files(config: &LoadConfig) -> BTreeSet<PathBuf> {
    let dataset = Some(PathBuf::from(&config.dataset)).filter(|path| path.is_file());
    let named = [&config.prompts.tokenizer, &config.rate_series, &config.tls.ca_file];
    dataset.into_iter().chain(named.into_iter().flatten().cloned()).collect()
}

/// The files the settings of stage1 name, by path.
fn files(config: &Stage1Config) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    // What is missing is told by the run of the point, with more words than here.
    if let Ok(chosen) = assemble::choose(config) {
        for weights in chosen.files {
            if let Some(folder) = weights.parent() {
                files.extend(BESIDE_WEIGHTS.iter().map(|name| folder.join(name)).filter(|path| path.is_file()));
            }
            files.insert(weights);
        }
    }
    if config.dataset.root.is_some() {
        files.extend(dataset::load(&config.dataset).into_iter().flatten().map(|prompt| prompt.file));
    }
    if let Some(text) = config.quality.text.as_deref().filter(|text| *text != "embedded") {
        files.insert(PathBuf::from(text));
    }
    files
}

/// The hash of the content; of files too large for that only their size.
fn state(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(data) if data.len() > HASH_LIMIT_BYTES => format!("{} bytes", data.len()),
        Ok(_) => manifest::entry(path).map_or_else(|_| "unreadable".to_owned(), |entry| entry.sha256),
        Err(_) => "missing".to_owned(),
    }
}
