//! The order of a run: the workload alone, each capture, the choice of kernels, a profile of each.
//!
//! What fails ends only what rests on it. Every outcome is in the [`Stage2State`] before the next command begins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::examine::{Examined, examine};
use super::nsys::{self, Capture};
use super::tool::Cut;
use crate::config::schema::stage2::CaptureChoice;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::record::stage2::{CaptureRecord, ModelRecord, Stage2State, TRACE_FILE, WorkloadRun};
use crate::trace::import::{ReadErrorKind, ReadOptions};

/// Where the reports of nsys lie below the run.
const NSYS_FOLDER: &str = "nsys";
/// Where per-range captures have their reports below the run.
const CAPTURES_FOLDER: &str = "captures";

/// How to get a tool that is missing.
pub fn advice(tool: &str) -> &'static str {
    match tool {
        "nsys" => {
            "install Nsight Systems (package `nsight-systems-cli` of NVIDIA's repository, part of every CUDA toolkit) and put `nsys` on PATH, or \
             give `stage2.nsys.path=`; `perfprof doctor` tells what is found"
        }
        _ => {
            "install Nsight Compute (package `nsight-compute` of NVIDIA's repository, part of every CUDA toolkit) and put `ncu` on PATH, or give \
             `stage2.ncu.path=`; `perfprof doctor` tells what is found"
        }
    }
}

/// The tools as they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// nsys; `None` if it cannot be used.
    pub nsys: Option<PathBuf>,
    /// ncu; `None` if it cannot be used.
    pub ncu: Option<PathBuf>,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What it is for, e.g. `nsys profile all`.
    pub purpose: String,
    /// What its logs are called by.
    pub log: String,
    /// The tool whose version is recorded; `None` for the workload itself.
    pub tool: Option<&'static str>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Ended by force after this long.
    pub limit: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Exit code; `None` if a signal ended it, or if it was not started.
    pub code: Option<i32>,
    /// Why it was ended from outside, if it was.
    pub cut: Option<Cut>,
    /// Seconds.
    pub took_s: f64,
    /// What it wrote to stdout, bounded.
    pub stdout: String,
    /// What it wrote to stderr, bounded.
    pub stderr: String,
    /// Why it could not be started; `None` if it was.
    pub not_started: Option<String>,
}

impl Ended {
    /// Why it did not end well; `None` if it did.
    pub(super) fn failure(&self, what: &str, limit_s: u64) -> Option<String> {
        if let Some(why) = &self.not_started {
            return Some(format!("{what} could not be started: {why}"));
        }
        if self.cut == Some(Cut::Limit) {
            return Some(format!("{what} did not end within {limit_s} s and was ended by force"));
        }
        let last = last_line(&self.stderr).or_else(|| last_line(&self.stdout));
        let said = last.map_or_else(String::new, |line| format!(": {line}"));
        match self.code {
            Some(0) => None,
            Some(code) => Some(format!("{what} ended with exit code {code}{said}")),
            None => Some(format!("{what} was ended by a signal{said}")),
        }
    }
}

/// The last line that says something; of a perfprof the line of its error.
fn last_line(text: &str) -> Option<String> {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("error: ")).or_else(|| lines().next())?;
    Some(line.trim_start_matches("error: ").chars().take(300).collect())
}

/// How the run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage2End {
    /// Everything was tried.
    Complete,
    /// The user asked to stop.
    Interrupted,
    /// Nothing that follows can be done: why, and what to do about it.
    Failed(String, Vec<String>),
}

/// Runs commands and keeps files.
pub trait Stage2Host {
    /// What it fails with: artifacts that cannot be written.
    type Error;
    /// The run directory.
    fn directory(&self) -> &Path;
    /// A folder for files that nobody keeps.
    fn scratch(&self) -> &Path;
    /// Program and arguments of the workload; `kept` runs lie below the run, others in the scratch folder.
    fn workload(&self, id: &str, kept: bool) -> Vec<OsString>;
    /// True for `perfprof stage1`.
    fn is_own(&self) -> bool;
    /// What is known of the run `id` of the workload after `wall_s` seconds.
    fn workload_run(&self, id: &str, wall_s: f64) -> WorkloadRun;
    /// The model that the run `id` of the workload says it ran; `None` where it says none.
    fn model(&self, id: &str) -> Option<ModelRecord>;
    /// Runs a command to its end.
    ///
    /// # Errors
    /// If its logs or its record cannot be written.
    fn command(&mut self, job: &Job) -> Result<Ended, Self::Error>;
    /// Makes the folder `name` below the run.
    ///
    /// # Errors
    /// If it cannot be made.
    fn folder(&mut self, name: &str) -> Result<(), Self::Error>;
    /// Writes what became of the run so far.
    ///
    /// # Errors
    /// If it cannot be written.
    fn keep(&mut self, state: &Stage2State) -> Result<(), Self::Error>;
    /// Writes the file `name` below the run.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&mut self, name: &str, text: &str) -> Result<(), Self::Error>;
    /// Removes the file `name` below the run, which nobody wants.
    fn remove(&mut self, name: &str);
    /// Moves an export to `database` without what it holds about its user.
    ///
    /// # Errors
    /// In words, if it is no whole export.
    fn scrub(&mut self, export: &Path, database: &Path) -> Result<(), String>;
    /// Tells what goes on.
    fn progress(&mut self, text: &str);
    /// Tells whether the user asked to stop.
    fn canceller(&self) -> Arc<dyn Fn() -> bool + Send + Sync>;
}

/// Runs everything; the timelines that were read come back, so that they are read once.
///
/// # Errors
/// Of the host.
pub fn run<H: Stage2Host>(
    state: &mut Stage2State,
    tools: &Tools,
    host: &mut H,
) -> Result<(Stage2End, Vec<Examined>), H::Error> {
    let mut drive = Drive { state, tools, host, examined: Vec::new() };
    let end = match drive.run() {
        Ok(()) => Stage2End::Complete,
        Err(Stop::End(end)) => end,
        Err(Stop::Host(error)) => return Err(error),
    };
    drive.host.keep(drive.state)?;
    Ok((end, drive.examined))
}

pub(super) struct Drive<'a, H> {
    pub(super) state: &'a mut Stage2State,
    pub(super) tools: &'a Tools,
    pub(super) host: &'a mut H,
    pub(super) examined: Vec<Examined>,
}

/// Why nothing more is done.
#[derive(Debug)]
pub(super) enum Stop<E> {
    /// The run ends so.
    End(Stage2End),
    /// The host failed.
    Host(E),
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Self::Host(error)
    }
}

/// What a part of a run gives.
pub(super) type Part<T, H> = Result<T, Stop<<H as Stage2Host>::Error>>;

pub(super) fn failed<T, E>(why: String, hint: &str) -> Result<T, Stop<E>> {
    Err(Stop::End(Stage2End::Failed(why, vec![hint.to_owned()])))
}

impl<H: Stage2Host> Drive<'_, H> {
    fn run(&mut self) -> Part<(), H> {
        self.host.keep(self.state)?;
        if self.state.settings.plain {
            self.plain()?;
        }
        if self.state.settings.nsys.enabled {
            self.captures()?;
        }
        if self.state.settings.ncu.enabled {
            self.profiles()?;
        }
        Ok(())
    }

    /// Runs a command; a user who asked to stop meanwhile is heard.
    pub(super) fn command(&mut self, job: &Job) -> Part<Ended, H> {
        let ended = self.host.command(job)?;
        if ended.cut == Some(Cut::Interrupted) { Err(Stop::End(Stage2End::Interrupted)) } else { Ok(ended) }
    }

    pub(super) fn note(&mut self, code: &str, severity: Severity, text: impl Into<String>) {
        let mut all = Diagnostics::default();
        all.extend(std::mem::take(&mut self.state.diagnostics));
        all.push(Diagnostic::new(code, severity, text));
        self.state.diagnostics = all.into_vec();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.host.directory().join(name)
    }

    /// The workload as it runs by itself: what does not run alone need not be profiled.
    fn plain(&mut self) -> Part<(), H> {
        self.host.progress("running the workload alone");
        let mut argv = self.host.workload("plain", true).into_iter();
        let job = Job {
            purpose: "the workload alone".to_owned(),
            log: "plain".to_owned(),
            tool: None,
            program: argv.next().unwrap_or_default().into(),
            arguments: argv.collect(),
            limit: Duration::from_secs(self.state.settings.timeout_s),
        };
        let ended = self.command(&job)?;
        if let Some(why) = ended.failure("the workload", self.state.settings.timeout_s) {
            return failed(
                why,
                "nothing was profiled: make the workload run by itself first; its words are in `logs/plain.err`",
            );
        }
        self.state.plain = Some(self.host.workload_run("plain", ended.took_s));
        self.learn("plain");
        self.host.keep(self.state)?;
        Ok(())
    }

    /// Takes over what the run `id` says of its model.
    fn learn(&mut self, id: &str) {
        if self.state.model.is_none()
            && let Some(model) = self.host.model(id)
        {
            self.state.peaks.dtype.clone_from(&model.dtype);
            self.state.model = Some(model);
        }
    }

    fn captures(&mut self) -> Part<(), H> {
        let Some(nsys) = self.tools.nsys.clone() else {
            let problem =
                self.state.tools.iter().find(|tool| tool.name == "nsys").and_then(|tool| tool.problem.clone());
            let why = problem.unwrap_or_else(|| "nsys was not found".to_owned());
            return failed(format!("no timeline: {why}"), advice("nsys"));
        };
        self.host.folder(NSYS_FOLDER)?;
        for capture in nsys::captures(&self.state.settings.nsys) {
            let (record, examined) = self.capture(&nsys, &capture)?;
            self.state.captures.push(record);
            self.examined.extend(examined);
            self.host.keep(self.state)?;
        }
        if self.examined.is_empty() {
            let first = self.state.captures.iter().find_map(|capture| capture.error.clone());
            let why = first.unwrap_or_else(|| "nothing was captured".to_owned());
            return failed(why, "what nsys said is in `logs/`, and every command in `commands.md`");
        }
        Ok(())
    }

    /// One capture: profile, export, scrub, read.
    fn capture(&mut self, nsys: &Path, capture: &Capture) -> Part<(CaptureRecord, Option<Examined>), H> {
        let settings = self.state.settings.nsys.clone();
        let single = settings.capture != CaptureChoice::Nvtx;
        let name = &capture.name;
        let directory = if single { String::new() } else { format!("{CAPTURES_FOLDER}/{name}") };
        let database = if single { TRACE_FILE.to_owned() } else { format!("{directory}/{TRACE_FILE}") };
        if !single {
            self.host.folder(&directory)?;
        }
        let mut record = CaptureRecord {
            name: name.clone(),
            range: capture.range.clone(),
            directory,
            database: None,
            report: None,
            workload: None,
            error: None,
        };
        self.host.progress(&format!("capturing {}", if single { "the run" } else { name }));
        let stem = self.path(&format!("{NSYS_FOLDER}/{name}"));
        let id = format!("traced-{name}");
        let job = Job {
            purpose: format!("nsys profile {name}"),
            log: format!("nsys-{name}"),
            tool: Some("nsys"),
            program: nsys.to_owned(),
            arguments: nsys::profile(&settings, capture, &stem, &self.host.workload(&id, true)),
            limit: Duration::from_secs(settings.timeout_s),
        };
        let ended = self.command(&job)?;
        let report = self.path(&format!("{NSYS_FOLDER}/{name}.nsys-rep"));
        let failure = ended.failure("`nsys profile`", settings.timeout_s);
        if ended.cut.is_some() || ended.not_started.is_some() || !report.exists() {
            let gate = "it wrote no report: nothing opened the capture, or it failed";
            record.error = Some(match (failure, capture.range.as_deref()) {
                (Some(why), _) => why,
                (None, Some(range)) => format!("`nsys profile` wrote no report: the range `{range}` never began"),
                (None, None) => format!("`nsys profile` ended, but {gate}"),
            });
            return Ok((record, None));
        }
        record.workload = Some(self.host.workload_run(&id, ended.took_s));
        self.learn(&id);
        if let Some(why) = failure {
            self.note(
                "workload_failed_under_nsys",
                Severity::Warn,
                format!("{why}; what it captured until then is used"),
            );
        }
        let exported = self.export(nsys, name, &report, settings.timeout_s)?;
        if self.keeps_reports() {
            record.report = Some(format!("{NSYS_FOLDER}/{name}.nsys-rep"));
        } else {
            // It holds the environment of the process.
            self.host.remove(&format!("{NSYS_FOLDER}/{name}.nsys-rep"));
        }
        let found = exported.and_then(|export| self.host.scrub(&export, &self.path(&database)));
        if let Err(why) = found {
            record.error = Some(why);
            return Ok((record, None));
        }
        record.database = Some(database);
        self.read(record)
    }

    /// Exports a report into the scratch folder.
    fn export(&mut self, nsys: &Path, name: &str, report: &Path, limit_s: u64) -> Part<Result<PathBuf, String>, H> {
        self.host.progress("exporting the timeline");
        let export = self.host.scratch().join(format!("{name}.sqlite"));
        let job = Job {
            purpose: format!("nsys export {name}"),
            log: format!("nsys-export-{name}"),
            tool: Some("nsys"),
            program: nsys.to_owned(),
            arguments: nsys::export(report, &export),
            limit: Duration::from_secs(limit_s),
        };
        let ended = self.command(&job)?;
        Ok(match ended.failure("`nsys export`", limit_s) {
            Some(why) => Err(why),
            None if !export.exists() => Err("`nsys export` wrote no file".to_owned()),
            None => Ok(export),
        })
    }

    fn read(&mut self, mut record: CaptureRecord) -> Part<(CaptureRecord, Option<Examined>), H> {
        self.host.progress("analysing the timeline");
        let directory = self.host.directory().to_owned();
        let asked = self.host.canceller();
        let options = ReadOptions { cancelled: &*asked, ..ReadOptions::default() };
        match examine(&directory, &record, self.state, &options, &|_| {}) {
            Ok(_) if asked() => Err(Stop::End(Stage2End::Interrupted)),
            Ok(examined) => Ok((record, Some(examined))),
            Err(error) if error.kind == ReadErrorKind::Interrupted => Err(Stop::End(Stage2End::Interrupted)),
            Err(error) => {
                record.error = Some(format!("the exported timeline cannot be read: {}", error.detail));
                Ok((record, None))
            }
        }
    }

    pub(super) fn keeps_reports(&self) -> bool {
        self.state.settings.keep_reports.unwrap_or_else(|| self.host.is_own())
    }
}
