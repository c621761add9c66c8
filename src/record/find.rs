//! Lists the runs under an output root and finds the one a user means.

use std::path::{Path, PathBuf};

use super::error::RecordError;
use super::reader;
use super::run_dir::{RUN_FILE, RunRecord};

/// Stands for the newest run.
pub const LATEST: &str = "latest";
/// Names suggested when none fits.
const SUGGESTIONS: usize = 3;

/// A directory that is, or should be, a run.
#[derive(Debug)]
pub struct RunEntry {
    /// Where it is.
    pub path: PathBuf,
    /// The command directory it stands in.
    pub command: String,
    /// Name of the directory.
    pub run_id: String,
    /// Its `run.json`, or why that cannot be read.
    pub record: Result<RunRecord, RecordError>,
}

impl RunEntry {
    /// `command/run_id`, which names a run uniquely under its root.
    pub fn name(&self) -> String {
        format!("{}/{}", self.command, self.run_id)
    }
    fn tag(&self) -> Option<&str> {
        self.record.as_ref().ok()?.tag.as_deref()
    }
}

/// All runs under `root`, newest first; those without a readable `run.json` come last. A missing root has none.
pub fn list_runs(root: &Path) -> Result<Vec<RunEntry>, RecordError> {
    let mut entries = Vec::new();
    for (command, directory) in subdirectories(root)? {
        for (run_id, path) in subdirectories(&directory)? {
            let record = reader::read_run(&path);
            entries.push(RunEntry { path, command: command.clone(), run_id, record });
        }
    }
    entries.sort_by(|a, b| {
        let started = |entry: &RunEntry| entry.record.as_ref().ok().map(|record| record.started_at.clone());
        started(b).cmp(&started(a)).then_with(|| b.run_id.cmp(&a.run_id))
    });
    Ok(entries)
}

/// The directory of the run that `spec` means: `latest`, `latest:COMMAND`, a path, a run id, `COMMAND/RUN_ID`, a tag, or the
/// beginning of an id that only one run has.
pub fn resolve_run(root: &Path, spec: &str) -> Result<PathBuf, RecordError> {
    let newest = |command: Option<&str>| {
        list_runs(root)?
            .into_iter()
            .find(|entry| entry.record.is_ok() && command.is_none_or(|wanted| entry.command == wanted))
            .map(|entry| entry.path)
            .ok_or_else(|| no_such_run(root, spec, Vec::new()))
    };
    if spec == LATEST {
        return newest(None);
    }
    if let Some(command) = spec.strip_prefix("latest:") {
        return newest(Some(command));
    }
    let as_path = Path::new(spec);
    if as_path.join(RUN_FILE).is_file() {
        return Ok(as_path.to_owned());
    }
    if as_path.file_name().is_some_and(|name| name == RUN_FILE) && as_path.is_file() {
        return Ok(as_path.parent().map_or_else(PathBuf::new, Path::to_owned));
    }
    let entries = list_runs(root)?;
    let full = |entry: &RunEntry| entry.name() == spec;
    let id = |entry: &RunEntry| entry.run_id == spec;
    let tag = |entry: &RunEntry| entry.tag() == Some(spec);
    let prefix =
        |entry: &RunEntry| !spec.is_empty() && (entry.run_id.starts_with(spec) || entry.name().starts_with(spec));
    // From the most to the least exact: a full id is never ambiguous with the beginning of a longer one.
    let rules: [&dyn Fn(&RunEntry) -> bool; 4] = [&full, &id, &tag, &prefix];
    for rule in rules {
        let matches: Vec<&RunEntry> = entries.iter().filter(|entry| rule(entry)).collect();
        match matches.as_slice() {
            [] => {}
            [only] => return Ok(only.path.clone()),
            several => {
                return Err(RecordError::AmbiguousRun {
                    spec: spec.to_owned(),
                    matches: several.iter().map(|entry| entry.name()).collect(),
                });
            }
        }
    }
    if as_path.is_dir() {
        return Err(RecordError::NotARun { path: as_path.to_owned(), reason: "it has no run.json".to_owned() });
    }
    let names = entries.iter().flat_map(|entry| [Some(entry.run_id.as_str()), entry.tag()]).flatten();
    let mut near: Vec<(f64, &str)> =
        names.map(|name| (strsim::jaro_winkler(name, spec), name)).filter(|(score, _)| *score > 0.8).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.dedup_by(|a, b| a.1 == b.1);
    Err(no_such_run(root, spec, near.into_iter().take(SUGGESTIONS).map(|(_, name)| name.to_owned()).collect()))
}

fn no_such_run(root: &Path, spec: &str, near: Vec<String>) -> RecordError {
    RecordError::NoSuchRun { spec: spec.to_owned(), root: root.to_owned(), near }
}

/// Directories in `directory` that are no links and not hidden, by name; none if it does not exist.
fn subdirectories(directory: &Path) -> Result<Vec<(String, PathBuf)>, RecordError> {
    let failed = |source| RecordError::Read { path: directory.to_owned(), source };
    let items = match std::fs::read_dir(directory) {
        Ok(items) => items,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for item in items {
        let item = item.map_err(failed)?;
        let name = item.file_name().to_string_lossy().into_owned();
        // A run may be removed while we look; what is gone is not listed.
        let is_directory = item.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && !name.starts_with('.') {
            found.push((name, item.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::atomic;
    use crate::record::run_dir::{RunDir, RunOptions};

    /// Runs `(command, id, tag, second)` that began in the given order.
    fn runs(list: &[(&str, &str, Option<&str>, u32)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (command, id, tag, second) in list {
            let options =
                RunOptions { id: Some((*id).to_owned()), tag: tag.map(str::to_owned), ..RunOptions::default() };
            let run = RunDir::create_with(root.path(), command, options).unwrap();
            let record = RunRecord { started_at: format!("2026-01-01T00:00:{second:02}.000Z"), ..run.record().clone() };
            atomic::write_json_atomic(&run.file(RUN_FILE), &record).unwrap();
        }
        root
    }

    fn sample() -> tempfile::TempDir {
        runs(&[
            ("stage1", "20260101-000001-aaaa", Some("base"), 3),
            ("stage1", "20260101-000002-bbbb", None, 1),
            ("load", "20260102-000000-cccc", None, 2),
        ])
    }

    fn found(root: &Path, spec: &str) -> String {
        resolve_run(root, spec).unwrap().strip_prefix(root).unwrap().display().to_string()
    }

    #[test]
    fn every_way_to_name_a_run_finds_it() {
        let root = sample();
        let root = root.path();
        assert_eq!(found(root, "latest"), "stage1/20260101-000001-aaaa");
        assert_eq!(found(root, "latest:load"), "load/20260102-000000-cccc");
        assert_eq!(found(root, "base"), "stage1/20260101-000001-aaaa");
        assert_eq!(found(root, "20260102"), "load/20260102-000000-cccc");
        assert_eq!(found(root, "20260101-000002-bbbb"), "stage1/20260101-000002-bbbb");
        assert_eq!(found(root, "stage1/20260101-000002"), "stage1/20260101-000002-bbbb");
        let path = root.join("load/20260102-000000-cccc");
        assert_eq!(resolve_run(root, path.to_str().unwrap()).unwrap(), path);
        assert_eq!(resolve_run(root, path.join(RUN_FILE).to_str().unwrap()).unwrap(), path);
    }

    #[test]
    fn a_full_id_is_not_the_beginning_of_a_longer_one() {
        let root = runs(&[("stage1", "a", None, 1), ("stage1", "ab", None, 2)]);
        assert_eq!(found(root.path(), "a"), "stage1/a");
    }

    #[test]
    fn what_fits_two_runs_or_none_is_an_error_that_helps() {
        let root = sample();
        let error = resolve_run(root.path(), "2026").unwrap_err();
        assert!(matches!(&error, RecordError::AmbiguousRun { matches, .. } if matches.len() == 3), "{error}");
        let error = resolve_run(root.path(), "20260101-000001-aaab").unwrap_err();
        assert!(error.hint().unwrap().starts_with("did you mean `20260101-000001-aaaa`"), "{:?}", error.hint());
        assert!(matches!(resolve_run(root.path(), ""), Err(RecordError::NoSuchRun { .. })));
        assert!(matches!(resolve_run(root.path(), "latest:sweep"), Err(RecordError::NoSuchRun { .. })));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(resolve_run(&empty.path().join("none"), "latest"), Err(RecordError::NoSuchRun { .. })));
        let directory = root.path().join("stage1");
        let error = resolve_run(root.path(), directory.to_str().unwrap()).unwrap_err();
        assert!(matches!(error, RecordError::NotARun { .. }), "{error}");
    }

    #[test]
    fn damaged_runs_are_listed_last_and_never_the_latest() {
        let root = sample();
        let torn = root.path().join("stage1/20270101-000000-dddd");
        std::fs::create_dir(&torn).unwrap();
        std::fs::write(torn.join(RUN_FILE), "{").unwrap();
        let listed = list_runs(root.path()).unwrap();
        assert!(listed.last().unwrap().record.is_err());
        assert_eq!(found(root.path(), "latest"), "stage1/20260101-000001-aaaa");
    }
}
