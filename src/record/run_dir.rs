//! Claims a run directory and keeps its `run.json` true from the first moment to the last.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic;
use super::error::RecordError;
use super::manifest;
use super::reader;
use super::redact::Redactor;

/// Version of [`RunRecord`].
pub const RUN_SCHEMA_VERSION: u32 = 1;
/// The file that makes a directory a run directory.
pub const RUN_FILE: &str = "run.json";
/// Longest name of a run, tag or command in bytes.
const NAME_LIMIT: usize = 100;
/// Fresh ids tried before giving up: 65,536 ids a second make even one collision rare.
const ATTEMPTS: u32 = 64;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Going on: the process that owns it is alive.
    Running,
    /// Ended with everything asked for.
    Complete,
    /// Cut short; what was finished is in the rows.
    Interrupted,
    /// Ended by an error; `error` says which.
    Failed,
    /// Ended, but its numbers must not be relied on.
    Invalid,
}

impl RunStatus {
    /// The name in every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
    /// From the name; `None` if there is no such status.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Running, Self::Complete, Self::Interrupted, Self::Failed, Self::Invalid]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the directory.
    pub run_id: String,
    /// The command that made it.
    pub command: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Process id of the owner.
    pub pid: u32,
    /// Start of the owner in clock ticks since boot (field 22 of `/proc/PID/stat`), so that a later process with the same id is
    /// not mistaken for it; null where the system does not tell.
    pub process_start_time: Option<u64>,
    /// The kernel's random id of this boot; process ids and start times mean nothing after another boot.
    pub boot_id: Option<String>,
    /// Hash of the machine's name: only there can one tell whether the owner is alive.
    pub host_hash: Option<String>,
    /// Begin, RFC 3339 UTC.
    pub started_at: String,
    /// End, RFC 3339 UTC; null while running and after a crash.
    pub ended_at: Option<String>,
    /// The command line, secrets replaced by `***`.
    pub argv: Vec<String>,
    /// SHA-256 of `config.yaml`; null until it is known.
    pub config_sha256: Option<String>,
    /// Version of perfprof.
    pub perfprof_version: String,
    /// A name given by the user.
    pub tag: Option<String>,
    /// What ended a failed run.
    pub error: Option<String>,
}

/// What a run begins with; the default reads the command line of the process and draws a fresh id.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The id instead of a fresh one.
    pub id: Option<String>,
    /// The command line instead of that of this process.
    pub argv: Option<Vec<String>>,
    /// A name for the run.
    pub tag: Option<String>,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: Option<String>,
}

/// A claimed run directory.
///
/// Dropped without [`RunDir::finish`] (a panic, an early return) it is left as `running`, which every reader shows as
/// `interrupted` once the process has ended.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    record: RunRecord,
    redactor: Redactor,
}

impl RunDir {
    /// Claims `<root>/<command>/<id>/` and writes `run.json` into it; with `id` of `None` a fresh id is drawn.
    pub fn create(root: &Path, command: &str, id: Option<&str>) -> Result<Self, RecordError> {
        Self::create_with(root, command, RunOptions { id: id.map(str::to_owned), ..RunOptions::default() })
    }

    /// [`RunDir::create`] with more said about the run.
    pub fn create_with(root: &Path, command: &str, options: RunOptions) -> Result<Self, RecordError> {
        check_name("command", command)?;
        if let Some(id) = &options.id {
            check_name("run id", id)?;
        }
        if let Some(tag) = &options.tag {
            check_name("tag", tag)?;
        }
        let parent = command_directory(root, command)?;
        let started = jiff::Timestamp::now();
        let path = match &options.id {
            Some(id) => claim(&parent.join(id))?,
            None => claim_fresh(&parent, started)?,
        };
        let redactor = Redactor::from_env();
        let argv = options
            .argv
            .unwrap_or_else(|| std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect());
        let pid = std::process::id();
        let record = RunRecord {
            schema_version: RUN_SCHEMA_VERSION,
            run_id: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            command: command.to_owned(),
            status: RunStatus::Running,
            pid,
            process_start_time: process_start_time(pid),
            boot_id: boot_id(),
            host_hash: super::environment::host_hash(),
            started_at: rfc3339(started),
            ended_at: None,
            argv: redactor.argv(&argv),
            config_sha256: options.config_sha256,
            perfprof_version: env!("CARGO_PKG_VERSION").to_owned(),
            tag: options.tag,
            error: None,
        };
        let run = Self { path, record, redactor };
        run.save().map_err(|error| {
            // Nothing is in the directory yet; left behind it would be a run that never was.
            let _ = std::fs::remove_dir(&run.path);
            match error {
                RecordError::Write { source, .. } => RecordError::NotWritable { path: run.path.clone(), source },
                other => other,
            }
        })?;
        Ok(run)
    }

    /// Takes over the run in `path`, whose owner is gone or has ended it: it is running again, under this process.
    ///
    /// # Errors
    /// If it has no readable `run.json`, or that cannot be written. Whether its owner still lives is the caller's to ask.
    pub fn reopen(path: &Path) -> Result<Self, RecordError> {
        let mut record = reader::read_run(path)?;
        let pid = std::process::id();
        record.status = RunStatus::Running;
        record.pid = pid;
        record.process_start_time = process_start_time(pid);
        record.boot_id = boot_id();
        record.host_hash = super::environment::host_hash();
        record.ended_at = None;
        record.error = None;
        let run = Self { path: path.to_owned(), record, redactor: Redactor::from_env() };
        run.save()?;
        Ok(run)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id: the name of the directory.
    pub fn run_id(&self) -> &str {
        &self.record.run_id
    }

    /// `run.json` as it is on disk.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Replaces secrets in text that is about to be written into the run.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Learns a secret that is in no secret-looking variable, e.g. a key read from a file, and hides it from now on.
    pub fn hide(&mut self, secret: &str) -> Result<(), RecordError> {
        self.redactor.add_secret(secret);
        self.record.argv = self.redactor.argv(&self.record.argv);
        self.save()
    }

    /// Path of the file `name` in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the file `name` whole; see [`atomic::write_atomic`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RecordError> {
        atomic::write_atomic(&self.file(name), bytes)
    }

    /// Writes the file `name` as indented JSON.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), RecordError> {
        atomic::write_json_atomic(&self.file(name), value)
    }

    /// Records the hash of the resolved configuration.
    pub fn set_config_sha256(&mut self, sha256: String) -> Result<(), RecordError> {
        self.record.config_sha256 = Some(sha256);
        self.save()
    }

    /// Ends the run: the final `run.json`, then the manifest over everything in the directory.
    pub fn finish(&mut self, status: RunStatus, error: Option<&str>) -> Result<(), RecordError> {
        self.record.status = status;
        self.record.error = error.map(|text| self.redactor.text(text));
        self.record.ended_at = Some(rfc3339(jiff::Timestamp::now()));
        // `runs tag` may have named the run while it was going on.
        if let Ok(on_disk) = reader::read_run(&self.path) {
            self.record.tag = on_disk.tag;
        }
        self.save()?;
        manifest::write(&self.path)
    }

    fn save(&self) -> Result<(), RecordError> {
        atomic::write_json_atomic(&self.file(RUN_FILE), &self.record)
    }
}

impl RunRecord {
    /// The status a reader must show: a run whose owner is gone was interrupted, whatever the file says.
    pub fn effective_status(&self) -> RunStatus {
        if self.status == RunStatus::Running && self.owner_alive() == Some(false) {
            RunStatus::Interrupted
        } else {
            self.status
        }
    }

    /// Whether the process that owns the run is alive; `None` if it cannot be told from here.
    pub fn owner_alive(&self) -> Option<bool> {
        if self.host_hash != super::environment::host_hash() {
            return None;
        }
        if let (Some(then), Some(now)) = (&self.boot_id, boot_id())
            && *then != now
        {
            return Some(false);
        }
        if !Path::new("/proc/self/stat").exists() {
            return None;
        }
        Some(match (process_start_time(self.pid), self.process_start_time) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(then)) => now == then,
        })
    }
}

/// Start time of a living process in clock ticks since boot; `None` if there is none, or only its exit status is left.
fn process_start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    start_time_of_stat(&stat)
}

/// Field 22 of `/proc/PID/stat` (proc(5)), for states other than zombie and dead.
fn start_time_of_stat(stat: &[u8]) -> Option<u64> {
    // The second field is the name in parentheses and may itself hold spaces and parentheses.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // `fields` stands before field 4.
    fields.nth(22 - 4)?.parse().ok()
}

/// The kernel's random id of this boot.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}

/// Refuses names that are not one plain directory name on every common system.
pub fn check_name(what: &'static str, name: &str) -> Result<(), RecordError> {
    let refuse =
        |reason: &str| Err(RecordError::InvalidName { what, name: name.to_owned(), reason: reason.to_owned() });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_LIMIT {
        return refuse(&format!("it has {} bytes, more than {NAME_LIMIT}", name.len()));
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._+=@,-".contains(*c)) {
        return refuse(&format!("it has the character {bad:?}"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("it does not begin with a letter or digit");
    }
    if name.ends_with('.') {
        return refuse("it ends with `.`");
    }
    // Windows resolves these to devices, whatever the extension; a run directory may be copied there.
    let stem = name.split('.').next().unwrap_or(name).to_ascii_uppercase();
    let is_port = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || is_port("COM") || is_port("LPT") {
        return refuse("it is the name of a device on Windows");
    }
    if name.eq_ignore_ascii_case("latest") {
        return refuse("`latest` stands for the newest run");
    }
    Ok(())
}

/// Makes and checks `<root>/<command>`.
fn command_directory(root: &Path, command: &str) -> Result<PathBuf, RecordError> {
    let directory = root.join(command);
    std::fs::create_dir_all(&directory).map_err(|source| not_writable(&directory, source))?;
    let real_root = root.canonicalize().map_err(|source| not_writable(root, source))?;
    let target = directory.canonicalize().map_err(|source| not_writable(&directory, source))?;
    if !target.starts_with(&real_root) {
        return Err(RecordError::OutsideRoot { path: directory, target });
    }
    Ok(directory)
}

fn not_writable(path: &Path, source: io::Error) -> RecordError {
    // The part that is in the way says more than the whole path: a file where a directory should be, or a read-only parent.
    let obstacle = path.ancestors().find(|part| std::fs::symlink_metadata(part).is_ok()).unwrap_or(path);
    RecordError::NotWritable { path: obstacle.to_owned(), source }
}

/// Makes the directory `path`, which nobody else may have; `mkdir` is exclusive and follows no link.
fn claim(path: &Path) -> Result<PathBuf, RecordError> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(path.to_owned()),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(RecordError::Exists { path: path.to_owned() })
        }
        Err(source) => Err(not_writable(path, source)),
    }
}

fn claim_fresh(parent: &Path, started: jiff::Timestamp) -> Result<PathBuf, RecordError> {
    let second = started.strftime("%Y%m%d-%H%M%S").to_string();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match claim(&parent.join(format!("{second}-{:04x}", rand::random::<u16>()))) {
            Err(taken @ RecordError::Exists { .. }) => last = Some(taken),
            done => return done,
        }
    }
    Err(last.expect("ATTEMPTS is not 0, and every attempt that does not return sets `last`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_on_disk_before_anything_else_and_final_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDir::create(root.path(), "stage1", None).unwrap();
        let first = reader::read_run(run.path()).unwrap();
        assert_eq!(first.status, RunStatus::Running);
        assert_eq!(first.effective_status(), RunStatus::Running);
        assert_eq!(first.pid, std::process::id());
        assert!(first.ended_at.is_none());
        run.finish(RunStatus::Failed, Some("no model")).unwrap();
        let last = reader::read_run(run.path()).unwrap();
        assert_eq!((last.status, last.error.as_deref()), (RunStatus::Failed, Some("no model")));
        assert!(last.ended_at.unwrap() >= last.started_at);
        assert!(run.file("MANIFEST.json").exists());
    }

    #[test]
    fn a_fresh_id_is_the_utc_second_and_four_hex_digits() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "stage1", None).unwrap();
        let id = run.run_id();
        let shape: String = id
            .chars()
            .map(|c| match c {
                '0'..='9' | 'a'..='f' => '0',
                other => other,
            })
            .collect();
        assert_eq!(shape, "00000000-000000-0000");
        let started = &run.record().started_at;
        assert_eq!(id[..15], started[..19].replace(['-', ':'], "").replace('T', "-"));
    }

    #[test]
    fn a_secret_learnt_later_is_hidden_from_the_command_line_and_the_error() {
        let root = tempfile::tempdir().unwrap();
        let argv = Some(vec!["perfprof".to_owned(), "note=from-a-file-42".to_owned()]);
        let options = RunOptions { argv, ..RunOptions::default() };
        let mut run = RunDir::create_with(root.path(), "load", options).unwrap();
        run.hide("from-a-file-42").unwrap();
        run.finish(RunStatus::Failed, Some("bad key from-a-file-42")).unwrap();
        let record = reader::read_run(run.path()).unwrap();
        assert_eq!((record.argv[1].as_str(), record.error.as_deref()), ("note=***", Some("bad key ***")));
    }

    #[test]
    fn a_tag_given_meanwhile_survives_the_end() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDir::create(root.path(), "stage1", None).unwrap();
        let mut tagged = run.record().clone();
        tagged.tag = Some("baseline".to_owned());
        atomic::write_json_atomic(&run.file(RUN_FILE), &tagged).unwrap();
        run.finish(RunStatus::Complete, None).unwrap();
        assert_eq!(reader::read_run(run.path()).unwrap().tag.as_deref(), Some("baseline"));
    }

    #[test]
    fn a_recycled_pid_another_boot_and_a_dead_process_read_as_interrupted() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "stage1", None).unwrap();
        let alive = run.record().clone();
        let recycled =
            RunRecord { process_start_time: alive.process_start_time.map(|ticks| ticks + 1), ..alive.clone() };
        assert_eq!(recycled.effective_status(), RunStatus::Interrupted);
        let rebooted = RunRecord { boot_id: Some("another".to_owned()), ..alive.clone() };
        assert_eq!(rebooted.effective_status(), RunStatus::Interrupted);
        let dead = RunRecord { pid: i32::MAX as u32, ..alive.clone() };
        assert_eq!(dead.effective_status(), RunStatus::Interrupted);
        // On another machine nothing can be known, so nothing is claimed.
        let elsewhere = RunRecord { host_hash: Some("another".to_owned()), pid: i32::MAX as u32, ..alive };
        assert_eq!((elsewhere.owner_alive(), elsewhere.effective_status()), (None, RunStatus::Running));
    }

    #[test]
    fn the_start_time_is_found_behind_any_process_name() {
        let stat = b"42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 987654 1 1\n";
        assert_eq!(start_time_of_stat(stat), Some(987_654));
        assert_eq!(start_time_of_stat(&stat.map(|byte| if byte == b'S' { b'Z' } else { byte })), None);
        assert_eq!(start_time_of_stat(b"garbage"), None);
    }
}
