//! `perfprof runs`: lists, shows, verifies and tags the runs on disk.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::compare::inputs::{LoadOptions, load_subject};
use super::{Context, print_answer};
use crate::compare::stored::{STORED_SCHEMA_VERSION, StoredBaseline};
use crate::diagnostics::{Diagnostic, ExitStatus, Failure, escape_control};
use crate::record::find::{self, RunEntry};
use crate::record::load;
use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::record::load::outcome::Outcome;
use crate::record::run_dir::{self, RUN_FILE};
use crate::record::{RecordError, RunRecord, RunStatus, atomic, manifest, reader};
use crate::units::Seconds;

/// What to do with the runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunsAction {
    /// Lists runs, newest first.
    List {
        /// Only those of this command.
        command: Option<String>,
        /// Only those with this status; `unreadable` for damaged ones.
        status: Option<String>,
        /// At most so many; 0 for all.
        limit: usize,
    },
    /// Shows one run and its files.
    Show {
        /// Id, beginning of an id, path, tag, `latest` or `latest:COMMAND`.
        run: String,
    },
    /// Compares a run with its manifest.
    Verify {
        /// As for `Show`.
        run: String,
    },
    /// Gives a run a name.
    Tag {
        /// As for `Show`.
        run: String,
        /// The name; empty to take it away.
        tag: String,
        /// Also write the values of the run to this file.
        store: Option<std::path::PathBuf>,
    },
}

/// The status shown for a directory whose `run.json` cannot be read.
const UNREADABLE: &str = "unreadable";

/// Runs `perfprof runs`.
pub fn run(action: &RunsAction, context: &Context) -> anyhow::Result<ExitStatus> {
    let (text, status) = answer(action, context)?;
    print_answer(&text)?;
    Ok(status)
}

/// What is printed, and how the process ends.
fn answer(action: &RunsAction, context: &Context) -> anyhow::Result<(String, ExitStatus)> {
    match action {
        RunsAction::List { command, status, limit } => list(context, command.as_deref(), status.as_deref(), *limit),
        RunsAction::Show { run } => show(context, run),
        RunsAction::Verify { run } => verify(context, run),
        RunsAction::Tag { run, tag, store } => set_tag(context, run, tag, store.as_deref()),
    }
}

fn list(
    context: &Context,
    command: Option<&str>,
    status: Option<&str>,
    limit: usize,
) -> anyhow::Result<(String, ExitStatus)> {
    if let Some(status) = status.filter(|name| *name != UNREADABLE && RunStatus::from_name(name).is_none()) {
        let hint = "one of running, complete, interrupted, failed, invalid, unreadable";
        return Err(Failure::new(ExitStatus::Usage, format!("there is no run status `{status}`")).hint(hint).into());
    }
    let entries = find::list_runs(&context.output_root).map_err(RecordError::into_failure)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let chosen: Vec<&RunEntry> = entries
        .iter()
        .filter(|entry| command.is_none_or(|wanted| entry.command == wanted))
        .filter(|entry| status.is_none_or(|wanted| status_name(entry) == wanted))
        .take(limit)
        .collect();
    if context.json {
        return Ok((json_text(&Value::Array(chosen.into_iter().map(entry_json).collect()))?, ExitStatus::Success));
    }
    if chosen.is_empty() {
        return Ok((format!("no runs under `{}`\n", context.output_root.display()), ExitStatus::Success));
    }
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["run", "command", "status", "started", "took", "tag", "note"]);
    for entry in chosen {
        let record = entry.record.as_ref().ok();
        table.add_row([
            escape_control(&entry.run_id),
            escape_control(&entry.command),
            status_name(entry).to_owned(),
            record.map_or_else(String::new, |record| escape_control(&record.started_at)),
            record.and_then(duration).unwrap_or_else(|| "–".to_owned()),
            record.and_then(|record| record.tag.as_deref()).map(escape_control).unwrap_or_default(),
            note(entry).map(|note| escape_control(&note)).unwrap_or_default(),
        ]);
    }
    Ok((format!("{table}\n"), ExitStatus::Success))
}

fn show(context: &Context, spec: &str) -> anyhow::Result<(String, ExitStatus)> {
    let path = resolve(context, spec)?;
    let entry = entry_at(&path);
    let files = files(&path).map_err(RecordError::into_failure)?;
    // Rows are read leniently here: to show a damaged run is the point.
    let rows = rows(&path);
    let stages = load_stages(&path);
    if context.json {
        let mut value = entry_json(&entry);
        value["record"] = serde_json::to_value(entry.record.as_ref().ok())?;
        value["files"] = files.iter().map(|(name, bytes)| json!({ "path": name, "bytes": bytes })).collect();
        value["rows"] = match &rows {
            Some(Ok((rows, diagnostics))) => json!({ "count": rows, "diagnostics": diagnostics, "error": null }),
            Some(Err(error)) => json!({ "count": null, "diagnostics": [], "error": error.to_string() }),
            None => Value::Null,
        };
        value["stages"] = stages.as_ref().map_or(Value::Null, stages_json);
        return Ok((json_text(&value)?, ExitStatus::Success));
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", escape_control(value));
    };
    line("run", &entry.name());
    line("path", &path.display().to_string());
    line("status", status_name(&entry));
    if let Some(note) = note(&entry) {
        line("note", &note);
    }
    if let Ok(record) = &entry.record {
        line("started", &record.started_at);
        line("ended", record.ended_at.as_deref().unwrap_or("–"));
        line("took", duration(record).as_deref().unwrap_or("–"));
        line("tag", record.tag.as_deref().unwrap_or("–"));
        line("perfprof", &record.perfprof_version);
        line("config", record.config_sha256.as_deref().unwrap_or("–"));
        line("argv", &record.argv.join(" "));
    }
    match &rows {
        Some(Ok((rows, diagnostics))) => {
            line("rows", &rows.to_string());
            for diagnostic in diagnostics {
                line("", &format!("{} × {}: {}", diagnostic.count, diagnostic.code, diagnostic.first));
            }
        }
        Some(Err(error)) => line("rows", &error.to_string()),
        None => line("rows", "none"),
    }
    if let Some(metrics) = &stages {
        line("server", &format!("{}, model {}, {}", metrics.backend, metrics.model, metrics.endpoint));
        for (index, stage) in metrics.stages.iter().enumerate() {
            line(if index == 0 { "stages" } else { "" }, &stage_line(stage));
        }
    }
    for (index, (name, bytes)) in files.iter().enumerate() {
        line(if index == 0 { "files" } else { "" }, &format!("{name} ({})", crate::units::Bytes(*bytes as f64)));
    }
    Ok((text, ExitStatus::Success))
}

/// How many rows a run has, and what was lost of them; `None` for a run without any.
fn rows(path: &Path) -> Option<Result<(usize, Vec<Diagnostic>), RecordError>> {
    if path.join(reader::ROWS_FILE).is_file() {
        return Some(reader::read_rows(path, true).map(|(rows, found)| (rows.len(), found)));
    }
    let requests = path.join(load::REQUESTS_FILE).is_file();
    requests.then(|| load::reader::read_rows(path, true).map(|(rows, found)| (rows.len(), found)))
}

/// The summary of a load test; `None` for other runs, and for one without a summary.
fn load_stages(path: &Path) -> Option<LoadMetrics> {
    if path.join(load::LOAD_CONTEXT_FILE).is_file() { load::reader::read_metrics(path).ok() } else { None }
}

/// The median of a measure of a stage.
fn median(stage: &StageBlock, name: &str) -> Option<f64> {
    stage.measures.get(name)?.summary.p50
}

fn ok_of(stage: &StageBlock) -> u64 {
    stage.outcomes.get(Outcome::Ok.name()).copied().unwrap_or(0)
}

fn stages_json(metrics: &LoadMetrics) -> Value {
    let stage = |stage: &StageBlock| {
        json!({
            "stage": stage.plan.label,
            "issued": stage.issued,
            "ok": ok_of(stage),
            "request_per_s": stage.rates.request_per_s,
            "output_tok_per_s": stage.rates.output_tok_per_s,
            "ttft_ms": median(stage, "ttft_ms"),
            "tpot_ms": median(stage, "tpot_ms"),
            "valid": stage.validity.is_valid(),
        })
    };
    metrics.stages.iter().map(stage).collect()
}

/// `c=4: 30 of 30 ok, 51.2 req/s, 614 tok/s, TTFT 20.1 ms, TPOT 5.00 ms`, the last two being medians.
fn stage_line(stage: &StageBlock) -> String {
    let mut text = format!("{}: {} of {} ok", stage.plan.label, ok_of(stage), stage.issued);
    if let Some(rate) = stage.rates.request_per_s {
        let _ = write!(text, ", {rate:.1} req/s");
    }
    if let Some(rate) = stage.rates.output_tok_per_s {
        let _ = write!(text, ", {rate:.0} tok/s");
    }
    for (name, measure) in [("TTFT", "ttft_ms"), ("TPOT", "tpot_ms")] {
        if let Some(ms) = median(stage, measure) {
            let _ = write!(text, ", {name} {}", Seconds(ms / 1e3));
        }
    }
    if !stage.validity.is_valid() {
        let _ = write!(text, "; INVALID: {}", stage.validity.reasons.join("; "));
    }
    text
}

fn verify(context: &Context, spec: &str) -> anyhow::Result<(String, ExitStatus)> {
    let path = resolve(context, spec)?;
    let mismatches = manifest::verify(&path).map_err(RecordError::into_failure)?;
    let verdict = if mismatches.is_empty() { ExitStatus::Success } else { ExitStatus::Invalid };
    if context.json {
        let value =
            json!({ "path": path.display().to_string(), "intact": mismatches.is_empty(), "mismatches": mismatches });
        return Ok((json_text(&value)?, verdict));
    }
    if mismatches.is_empty() {
        return Ok((format!("`{}` is as it was written\n", path.display()), ExitStatus::Success));
    }
    let mut text = String::new();
    for mismatch in &mismatches {
        let what = match mismatch.kind {
            manifest::MismatchKind::Missing => "is missing",
            manifest::MismatchKind::Unlisted => "was not there when the run ended",
            manifest::MismatchKind::Changed => "has changed: the SHA-256 differs",
            manifest::MismatchKind::NotAFile => "is no longer a plain file",
        };
        let _ = writeln!(text, "{} {what}", escape_control(&mismatch.path));
    }
    Ok((text, verdict))
}

fn set_tag(
    context: &Context,
    spec: &str,
    tag: &str,
    store: Option<&std::path::Path>,
) -> anyhow::Result<(String, ExitStatus)> {
    let path = resolve(context, spec)?;
    let tag = (!tag.is_empty()).then_some(tag);
    if let Some(tag) = tag {
        run_dir::check_name("tag", tag).map_err(RecordError::into_failure)?;
        let entries = find::list_runs(&context.output_root).map_err(RecordError::into_failure)?;
        let here = path.canonicalize().unwrap_or_else(|_| path.clone());
        let holder = entries.iter().find(|entry| {
            entry.record.as_ref().is_ok_and(|record| record.tag.as_deref() == Some(tag))
                && entry.path.canonicalize().is_ok_and(|other| other != here)
        });
        if let Some(holder) = holder {
            let taken = RecordError::TagTaken { tag: tag.to_owned(), holder: holder.name() };
            return Err(taken.into_failure().into());
        }
    }
    retag(&path, tag).map_err(RecordError::into_failure)?;
    let name = entry_at(&path).name();
    let stored = match store {
        Some(file) => {
            store_baseline(context, &path, tag, file)?;
            format!("its values are in `{}`: `perfprof compare {} CANDIDATE`\n", file.display(), file.display())
        }
        None => String::new(),
    };
    if context.json {
        return Ok((json_text(&json!({ "run": name, "tag": tag, "stored": store }))?, ExitStatus::Success));
    }
    let text = match tag {
        Some(tag) => format!("{name} is now `{tag}`\n"),
        None => format!("{name} has no tag\n"),
    };
    Ok((text + &stored, ExitStatus::Success))
}

/// Writes the values of the run at `path` as a file that `compare` reads, so that a baseline outlives the run.
fn store_baseline(
    context: &Context,
    path: &std::path::Path,
    label: Option<&str>,
    file: &std::path::Path,
) -> anyhow::Result<()> {
    let options =
        LoadOptions { root: &context.output_root, salvage: false, traces_of_runs: false, cancelled: &|| false };
    let loaded = load_subject(&path.to_string_lossy(), label, &options)?;
    let stored = StoredBaseline { version: STORED_SCHEMA_VERSION, subject: loaded.subject };
    atomic::write_json_atomic(file, &stored).map_err(RecordError::into_failure)?;
    Ok(())
}

/// Rewrites the tag in `run.json`, and that file's entry in the manifest.
fn retag(path: &Path, tag: Option<&str>) -> Result<(), RecordError> {
    let file = path.join(RUN_FILE);
    let before = manifest::entry(&file)?;
    let mut record = reader::read_run(path)?;
    record.tag = tag.map(str::to_owned);
    atomic::write_json_atomic(&file, &record)?;
    manifest::renew(path, RUN_FILE, &before)
}

fn resolve(context: &Context, spec: &str) -> anyhow::Result<std::path::PathBuf> {
    Ok(find::resolve_run(&context.output_root, spec).map_err(RecordError::into_failure)?)
}

/// The entry of a run found by [`resolve`].
fn entry_at(path: &Path) -> RunEntry {
    let record = reader::read_run(path);
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = |part: Option<&Path>| {
        part.and_then(Path::file_name).map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let command = record.as_ref().map_or_else(|_| name(real.parent()), |record| record.command.clone());
    RunEntry { path: path.to_owned(), command, run_id: name(Some(&real)), record }
}

fn status_name(entry: &RunEntry) -> &'static str {
    entry.record.as_ref().map_or(UNREADABLE, |record| record.effective_status().name())
}

/// What a reader of the list must know beyond the status.
fn note(entry: &RunEntry) -> Option<String> {
    match &entry.record {
        Err(error) => Some(error.to_string()),
        Ok(record) if record.status == RunStatus::Running => match record.owner_alive() {
            Some(true) => Some(format!("process {}", record.pid)),
            Some(false) => Some(format!("process {} is gone; `perfprof report` rebuilds from the rows", record.pid)),
            None => Some("on another machine, or its process cannot be seen".to_owned()),
        },
        Ok(record) => record.error.clone(),
    }
}

fn duration(record: &RunRecord) -> Option<String> {
    let started: jiff::Timestamp = record.started_at.parse().ok()?;
    let ended: jiff::Timestamp = record.ended_at.as_deref()?.parse().ok()?;
    let seconds = ended.duration_since(started).as_secs_f64();
    Some(if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", seconds as u64 / 60, seconds as u64 % 60)
    })
}

fn entry_json(entry: &RunEntry) -> Value {
    let record = entry.record.as_ref().ok();
    json!({
        "run_id": entry.run_id,
        "command": entry.command,
        "status": status_name(entry),
        "started_at": record.map(|record| &record.started_at),
        "ended_at": record.and_then(|record| record.ended_at.as_ref()),
        "tag": record.and_then(|record| record.tag.as_ref()),
        "note": note(entry),
        "path": entry.path.display().to_string(),
    })
}

/// Names and sizes of the files directly in a run directory, by name.
fn files(path: &Path) -> Result<Vec<(String, u64)>, RecordError> {
    let failed = |source| RecordError::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    for item in std::fs::read_dir(path).map_err(failed)? {
        let item = item.map_err(failed)?;
        let name = item.file_name().to_string_lossy().into_owned();
        if item.file_type().is_ok_and(|kind| kind.is_file()) && !name.starts_with(atomic::TEMP_PREFIX) {
            files.push((name, item.metadata().map_err(failed)?.len()));
        }
    }
    files.sort();
    Ok(files)
}

fn json_text(value: &Value) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::status_of;
    use crate::record::RunDir;

    fn context(root: &Path, json: bool) -> Context {
        Context {
            json,
            progress: false,
            config_dir: None,
            output_root: root.to_owned(),
            color: super::super::ColorChoice::Never,
        }
    }

    fn list_all() -> RunsAction {
        RunsAction::List { command: None, status: None, limit: 0 }
    }

    fn parsed(action: &RunsAction, root: &Path) -> Value {
        serde_json::from_str(&answer(action, &context(root, true)).unwrap().0).unwrap()
    }

    /// A complete run `a`, a run `b` whose process is gone, and a directory `c` with half a `run.json`.
    fn three_runs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let mut a = RunDir::create(root.path(), "stage1", Some("a")).unwrap();
        a.finish(RunStatus::Complete, None).unwrap();
        let b = RunDir::create(root.path(), "load", Some("b")).unwrap();
        let dead = RunRecord { pid: i32::MAX as u32, ..b.record().clone() };
        atomic::write_json_atomic(&b.file(RUN_FILE), &dead).unwrap();
        let c = root.path().join("stage1/c");
        std::fs::create_dir(&c).unwrap();
        std::fs::write(c.join(RUN_FILE), "{\"schema_version\": 1, ").unwrap();
        root
    }

    #[test]
    fn torn_and_abandoned_runs_are_listed_as_such() {
        let root = three_runs();
        let listed = parsed(&list_all(), root.path());
        let mut statuses: Vec<(&str, &str)> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|run| (run["run_id"].as_str().unwrap(), run["status"].as_str().unwrap()))
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [("a", "complete"), ("b", "interrupted"), ("c", "unreadable")]);
        let (table, status) = answer(&list_all(), &context(root.path(), false)).unwrap();
        assert_eq!(status, ExitStatus::Success);
        assert!(table.contains("interrupted") && table.contains("unreadable"), "{table}");
    }

    #[test]
    fn the_list_is_filtered_and_cut() {
        let root = three_runs();
        let only = |command: Option<&str>, status: Option<&str>, limit| {
            let action =
                RunsAction::List { command: command.map(str::to_owned), status: status.map(str::to_owned), limit };
            parsed(&action, root.path()).as_array().unwrap().len()
        };
        assert_eq!((only(Some("stage1"), None, 0), only(None, Some("interrupted"), 0), only(None, None, 2)), (2, 1, 2));
        let wrong = RunsAction::List { command: None, status: Some("done".to_owned()), limit: 0 };
        assert_eq!(status_of(&answer(&wrong, &context(root.path(), false)).unwrap_err()), ExitStatus::Usage);
    }

    #[test]
    fn an_edited_artifact_is_reported_and_the_answer_is_no() {
        let root = three_runs();
        let verify = RunsAction::Verify { run: "a".to_owned() };
        assert_eq!(answer(&verify, &context(root.path(), false)).unwrap().1, ExitStatus::Success);
        std::fs::write(root.path().join("stage1/a/metrics.json"), "{}").unwrap();
        let (text, status) = answer(&verify, &context(root.path(), false)).unwrap();
        assert_eq!(status, ExitStatus::Invalid);
        assert!(text.starts_with("metrics.json was not there"), "{text}");
    }

    #[test]
    fn a_tag_names_one_run_and_leaves_it_verifiable() {
        let root = three_runs();
        let tag = |run: &str, tag: &str| {
            answer(
                &RunsAction::Tag { run: run.to_owned(), tag: tag.to_owned(), store: None },
                &context(root.path(), false),
            )
        };
        tag("a", "baseline").unwrap();
        assert_eq!(parsed(&RunsAction::Show { run: "baseline".to_owned() }, root.path())["run_id"], "a");
        assert_eq!(parsed(&RunsAction::Verify { run: "baseline".to_owned() }, root.path())["intact"], true);
        let taken = tag("b", "baseline").unwrap_err();
        assert_eq!(taken.to_string(), "the tag `baseline` is already on the run stage1/a");
        assert_eq!(status_of(&tag("a", "../x").unwrap_err()), ExitStatus::Usage);
        tag("a", "").unwrap();
        tag("b", "baseline").unwrap();
    }

    #[test]
    fn a_run_is_shown_with_its_files_and_damage() {
        let root = three_runs();
        std::fs::write(root.path().join("load/b/per_run.jsonl"), "{\"half").unwrap();
        let shown = parsed(&RunsAction::Show { run: "latest:load".to_owned() }, root.path());
        assert_eq!(shown["status"], "interrupted");
        assert_eq!(shown["rows"]["diagnostics"][0]["code"], "torn_last_row");
        let (text, _) = answer(&RunsAction::Show { run: "b".to_owned() }, &context(root.path(), false)).unwrap();
        assert!(text.contains("per_run.jsonl (6.00 B)") && text.contains("is gone"), "{text}");
    }

    #[test]
    fn file_names_cannot_drive_the_terminal() {
        let root = three_runs();
        std::fs::write(root.path().join("stage1/a/\u{1b}[31m"), "").unwrap();
        let (text, _) = answer(&RunsAction::Show { run: "a".to_owned() }, &context(root.path(), false)).unwrap();
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[31m"), "{text}");
    }
}
