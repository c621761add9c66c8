//! The profiles of a run: what this ncu offers, a run of the workload for each kernel, and what it said.

use std::path::Path;
use std::time::Duration;

use super::drive::{Drive, Ended, Job, Part, Stage2Host, advice, failed};
use super::examine::Examined;
use super::ncu::{self, Collection, KernelFilter, Offer, Said, Target};
use super::select::{Origin, Wanted, select};
use super::tool::Cut;
use crate::diagnostics::Severity;
use crate::record::stage2::{ProfileOutcome, ProfileRecord};

/// Seconds a list or a page may take.
const LISTS_S: u64 = 120;
/// Where the files of ncu lie below the run.
const NCU_FOLDER: &str = "ncu";

/// How to be allowed to read the counters.
const COUNTERS_FOR_ALL: &str = "let users read the GPU counters (`options nvidia NVreg_RestrictProfilingToAdminUsers=0` in /etc/modprobe.d/, then \
                                    reload the driver), or run as root; a container needs the capability SYS_ADMIN. `perfprof doctor` tells the state";

impl<H: Stage2Host> Drive<'_, H> {
    /// Profiles the costliest kernels.
    pub(super) fn profiles(&mut self) -> Part<(), H> {
        let Some(tool) = self.tools.ncu.clone() else {
            let problem = self.state.tools.iter().find(|tool| tool.name == "ncu").and_then(|tool| tool.problem.clone());
            let why = problem.unwrap_or_else(|| "ncu was not found".to_owned());
            if !self.state.settings.nsys.enabled {
                return failed(format!("no counters: {why}"), advice("ncu"));
            }
            self.note("ncu_missing", Severity::Warn, format!("kernels have no counters: {why}; {}", advice("ncu")));
            return Ok(());
        };
        let wanted = self.choose();
        if wanted.is_empty() {
            self.note("ncu_skipped", Severity::Info, "there is no kernel to profile: the timeline has no GPU work");
            return Ok(());
        }
        let collection = self.collection(&tool)?;
        self.host.folder(NCU_FOLDER)?;
        let total = wanted.len();
        let mut refused = false;
        for (index, (capture, wanted)) in wanted.into_iter().enumerate() {
            let number = index as u32 + 1;
            if refused {
                let record = record(number, capture, &wanted, ProfileOutcome::NotRun);
                let error = Some("not tried: the driver keeps the counters for root".to_owned());
                self.state.profiles.push(ProfileRecord { error, ..record });
                continue;
            }
            self.host.progress(&format!("profiling kernel {number} of {total}"));
            let record = self.profile(&tool, number, capture, &wanted, &collection)?;
            refused = record.outcome == ProfileOutcome::NoPermission;
            self.state.profiles.push(record);
            self.host.keep(self.state)?;
        }
        self.host.keep(self.state)?;
        Ok(())
    }

    /// What to profile, and from which capture it was chosen.
    fn choose(&mut self) -> Vec<(Option<String>, Wanted)> {
        let settings = self.state.settings.clone();
        if !settings.nsys.enabled {
            // Without a timeline nobody knows which kernels matter: the first ones stand for all.
            let count = settings.ncu.launch_count.saturating_mul(settings.ncu.top_n);
            let skip = u64::from(settings.ncu.launch_skip);
            let target = Target { filter: KernelFilter::Any, skip, count, nvtx: None, from_start: true };
            return vec![(None, Wanted { phase: None, name: String::new(), mangled: None, target })];
        }
        let mut all = Vec::new();
        let mut missing: Vec<String> = Vec::new();
        let captures = self.examined.len();
        for examined in &self.examined {
            let range = self.state.captures.iter().find(|known| known.name == examined.name);
            let origin = Origin { range: range.and_then(|known| known.range.as_deref()), own: self.host.is_own() };
            let (wanted, without) = select(&examined.timeline, &examined.analysis, &settings, origin);
            all.extend(wanted.into_iter().map(|wanted| (Some(examined.name.clone()), wanted)));
            missing.extend(without);
        }
        // A phase that one of several captures lacks is in another.
        missing.retain(|phase| {
            let here = |examined: &&Examined| examined.analysis.steps.phases.iter().any(|known| known.name == *phase);
            captures == 1 || !self.examined.iter().any(|examined| here(&examined))
        });
        missing.dedup();
        for phase in missing {
            self.note("ncu_phase_missing", Severity::Warn, format!("no kernels of `{phase}` are in the timeline"));
        }
        all
    }

    /// What of the preset this ncu offers.
    fn collection(&mut self, tool: &Path) -> Part<Collection, H> {
        self.host.progress("asking ncu what it offers");
        let mut lists = Vec::new();
        for (purpose, argument) in [("ncu sections", "--list-sections"), ("ncu metrics", "--query-metrics")] {
            let job = Job {
                purpose: purpose.to_owned(),
                log: purpose.replace(' ', "-"),
                tool: Some("ncu"),
                program: tool.to_owned(),
                arguments: vec![argument.into()],
                limit: Duration::from_secs(LISTS_S),
            };
            let ended = self.command(&job)?;
            lists.push(if ended.code == Some(0) { ended.stdout } else { String::new() });
        }
        let offer = Offer::read(&lists[0], &lists[1]);
        let preset = self.state.settings.ncu.preset;
        let collection = ncu::collection(preset, &offer);
        if !collection.sections_left_out.is_empty() {
            let left = collection.sections_left_out.join(", ");
            let text = format!("this ncu has no section {left}, which the preset `{}` asks for", preset.name());
            self.note("ncu_sections_left_out", Severity::Info, text);
        }
        if collection.metrics_unknown {
            let text = "ncu did not say which metrics it has, so none is asked for by name: the roofline may lack operations or bytes";
            self.note("ncu_metrics_unknown", Severity::Warn, text);
        }
        Ok(collection)
    }

    fn profile(
        &mut self,
        tool: &Path,
        number: u32,
        capture: Option<String>,
        wanted: &Wanted,
        collection: &Collection,
    ) -> Part<ProfileRecord, H> {
        let mut record = record(number, capture, wanted, ProfileOutcome::Failed);
        let (mut said, mut took) = self.attempt(tool, number, "", &wanted.target, collection)?;
        record.took_s = took;
        if said == Attempt::NoKernels {
            // Once more for any launch of the kernel, by the name that all tools print alike, with what ncu collects by itself.
            let filter = match (&wanted.target.filter, &wanted.mangled) {
                (KernelFilter::Demangled(_), Some(mangled)) => KernelFilter::Mangled(mangled.clone()),
                (filter, _) => filter.clone(),
            };
            let bare = Target { filter, skip: 0, count: wanted.target.count, nvtx: None, from_start: true };
            (record.retried, record.skip) = (true, 0);
            (said, took) = self.attempt(tool, number, "-again", &bare, &Collection::default())?;
            record.took_s += took;
        }
        let suffix = if record.retried { "-again" } else { "" };
        let stem = format!("{NCU_FOLDER}/{number:02}{suffix}");
        match said {
            Attempt::Counters => {
                record.outcome = ProfileOutcome::Ok;
                record.raw = Some(format!("{stem}.csv"));
                let (details, seconds) = self.advice_page(tool, number, &stem)?;
                record.details = details;
                record.took_s += seconds;
            }
            Attempt::NoKernels => {
                record.outcome = ProfileOutcome::NoKernels;
                record.error = Some("ncu met no launch of it, also without gate, sections and metrics".to_owned());
            }
            Attempt::NoPermission => {
                record.outcome = ProfileOutcome::NoPermission;
                record.error = Some("the driver keeps the GPU counters for root (ERR_NVGPUCTRPERM)".to_owned());
                let text = format!("kernels have no counters: ERR_NVGPUCTRPERM; {COUNTERS_FOR_ALL}");
                self.note("ncu_permission", Severity::Warn, text);
            }
            Attempt::TimedOut => {
                let limit = self.state.settings.ncu.timeout_s;
                record.outcome = ProfileOutcome::TimedOut;
                record.error = Some(format!("ncu did not end within {limit} s and was ended by force"));
            }
            Attempt::Failed(why) => record.error = Some(why),
        }
        if record.outcome != ProfileOutcome::Ok && record.outcome != ProfileOutcome::NoPermission {
            let why = record.error.clone().unwrap_or_default();
            self.note("ncu_profile_failed", Severity::Warn, format!("profile {number}: {why}"));
        }
        let report = format!("{stem}.ncu-rep");
        if self.path(&report).exists() {
            if self.keeps_reports() {
                record.report = Some(report);
            } else {
                self.host.remove(&report);
            }
        }
        Ok(record)
    }

    /// One run of the workload under ncu.
    fn attempt(
        &mut self,
        tool: &Path,
        number: u32,
        suffix: &str,
        target: &Target,
        collection: &Collection,
    ) -> Part<(Attempt, f64), H> {
        let settings = self.state.settings.ncu.clone();
        let stem = format!("{NCU_FOLDER}/{number:02}{suffix}");
        let (report, csv) = (self.path(&stem), self.path(&format!("{stem}.csv")));
        let workload = self.host.workload(&format!("ncu-{number:02}{suffix}"), false);
        let job = Job {
            purpose: format!("ncu kernel {number}{}", if suffix.is_empty() { "" } else { " again" }),
            log: format!("ncu-{number:02}{suffix}"),
            tool: Some("ncu"),
            program: tool.to_owned(),
            arguments: ncu::profile(target, collection, &settings, &report, &csv, &workload),
            limit: Duration::from_secs(settings.timeout_s),
        };
        let ended = self.command(&job)?;
        if ended.cut == Some(Cut::Limit) {
            return Ok((Attempt::TimedOut, ended.took_s));
        }
        let mut page =
            std::fs::read(&csv).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        // Some versions print the page beside the words of the program.
        if !has_counters(&page) && has_counters(&ended.stdout) {
            page.clone_from(&ended.stdout);
            self.host.write(&format!("{stem}.csv"), &page)?;
        }
        let mut took_s = ended.took_s;
        // Others print nothing while they write a report.
        if !has_counters(&page) && self.path(&format!("{stem}.ncu-rep")).exists() {
            let log = format!("ncu-{number:02}{suffix}-raw");
            let printed = self.page(tool, &stem, "raw", log)?;
            took_s += printed.took_s;
            if has_counters(&printed.stdout) {
                page.clone_from(&printed.stdout);
                self.host.write(&format!("{stem}.csv"), &page)?;
            }
        }
        let attempt = match ncu::said([page.as_str(), ended.stdout.as_str(), ended.stderr.as_str()]) {
            Said::NoPermission => Attempt::NoPermission,
            // A program that fails after its kernels were profiled does not make their counters wrong.
            _ if has_counters(&page) => Attempt::Counters,
            Said::Error(why) => Attempt::Failed(format!("ncu: {why}")),
            Said::NoKernels => Attempt::NoKernels,
            Said::Fine => match ended.failure("`ncu`", settings.timeout_s) {
                Some(why) => Attempt::Failed(why),
                None => Attempt::NoKernels,
            },
        };
        Ok((attempt, took_s))
    }

    /// Prints a page of the report `stem`.
    fn page(&mut self, tool: &Path, stem: &str, page: &str, log: String) -> Part<Ended, H> {
        let job = Job {
            purpose: format!("ncu {page} page of {stem}"),
            log,
            tool: Some("ncu"),
            program: tool.to_owned(),
            arguments: ncu::import(&self.path(&format!("{stem}.ncu-rep")), page),
            limit: Duration::from_secs(LISTS_S),
        };
        self.command(&job)
    }

    /// The page with the tool's advice; the raw page has none.
    fn advice_page(&mut self, tool: &Path, number: u32, stem: &str) -> Part<(Option<String>, f64), H> {
        if !self.path(&format!("{stem}.ncu-rep")).exists() {
            return Ok((None, 0.0));
        }
        let ended = self.page(tool, stem, "details", format!("ncu-{number:02}-details"))?;
        let name = format!("{stem}.details.csv");
        if !has_counters(&ended.stdout) {
            return Ok((None, ended.took_s));
        }
        self.host.write(&name, &ended.stdout)?;
        Ok((Some(name), ended.took_s))
    }
}

/// What one run under ncu gave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attempt {
    Counters,
    NoKernels,
    NoPermission,
    TimedOut,
    Failed(String),
}

/// Whether the text has the header of a page.
fn has_counters(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("\"ID\",") && line.contains("Kernel Name"))
}

fn record(number: u32, capture: Option<String>, wanted: &Wanted, outcome: ProfileOutcome) -> ProfileRecord {
    ProfileRecord {
        number,
        capture,
        phase: wanted.phase.clone(),
        kernel: Some(wanted.name.clone()).filter(|name| !name.is_empty()),
        skip: wanted.target.skip,
        count: wanted.target.count,
        outcome,
        retried: false,
        error: None,
        raw: None,
        details: None,
        report: None,
        took_s: 0.0,
    }
}
