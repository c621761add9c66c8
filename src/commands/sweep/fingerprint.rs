//! What a finished point was: its settings, and the files they name. Under another fingerprint it is another point.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::commands::stage1::HASH_LIMIT_BYTES;
use crate::config::dataset;
use crate::config::schema::stage1::Stage1Config;
use crate::config::sweep::SweepPoint;
use crate::record::manifest;
use crate::runner::assemble;

/// Files beside the weights that say what is computed.
const BESIDE_WEIGHTS: [&str; 4] = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];

/// Takes fingerprints; each file is read once, however many points name it.
#[derive(Default)]
pub(super) struct Fingerprints {
    known: BTreeMap<PathBuf, String>,
}

impl Fingerprints {
    /// SHA-256 over the settings of the point, its environment and the content of the files it reads.
    pub(super) fn of(&mut self, point: &SweepPoint, config: &Stage1Config) -> String {
        let mut text = format!("settings {}\n", point.sha256());
        for path in files(config) {
            let state = self.known.entry(path.clone()).or_insert_with(|| state(&path));
            text.push_str(&format!("file {} {state}\n", path.display()));
        }
        manifest::sha256_hex(text.as_bytes())
    }
}

/// The files the settings name, by path.
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
