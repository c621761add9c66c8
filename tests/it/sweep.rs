//! `perfprof sweep` with real processes of a model small enough for a repeat to take a millisecond.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox, TINY, finish, json_of, text_of, until};

/// Settings of every point: over in some ten milliseconds.
const QUICK: [&str; 4] = ["infer.max_new_tokens=5", "repeats=2", "profiling.span_repeats=0", "warmup=1"];

fn sweep(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(&["sweep"]);
    // The number of prompt tokens comes first, so that a test may say another.
    command.args(TINY).args(QUICK).arg("prompt_tokens=8").args(arguments);
    command
}

/// A sweep file of the tiny model with `rest` below its overrides.
fn file(sandbox: &Sandbox, rest: &str) -> String {
    let all: Vec<&str> = TINY.iter().chain(&QUICK).copied().chain(["prompt_tokens=8"]).collect();
    let text = format!("overrides:\n  - {}\n{rest}", all.join("\n  - "));
    sandbox.write("mine.yaml", text).display().to_string()
}

fn sweeps(sandbox: &Sandbox) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(sandbox.path().join("tmp/sweep")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[track_caller]
fn the_sweep(sandbox: &Sandbox) -> PathBuf {
    let sweeps = sweeps(sandbox);
    assert_eq!(sweeps.len(), 1, "{sweeps:?}");
    sweeps[0].clone()
}

/// The whole rows that are on disk.
fn rows(sweep: &Path) -> Vec<Value> {
    let bytes = std::fs::read(sweep.join("points.jsonl")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Points with a row that settles them, and how many such rows each has.
fn settled(sweep: &Path) -> BTreeMap<u64, usize> {
    let mut count = BTreeMap::new();
    for row in rows(sweep).iter().filter(|row| ["ok", "oom"].contains(&row["status"].as_str().unwrap())) {
        *count.entry(row["point"].as_u64().unwrap()).or_insert(0) += 1;
    }
    count
}

#[test]
fn a_sweep_leaves_a_whole_directory_and_its_maps_hold_the_medians_of_the_runs() {
    let sandbox = Sandbox::new();
    let arguments = [
        "batch=1,2,3",
        "engine.threads=1,2",
        "objective=decode_tok_per_s",
        "pareto=decode_tok_per_s,ttft_ms",
        "--constraint",
        "ttft_ms<60000",
        "--tag",
        "mine",
        "--json",
    ];
    let metrics = finish(sweep(&sandbox, &arguments)).exits(0).json();
    let sweep = the_sweep(&sandbox);
    for file in [
        "run.json",
        "config.yaml",
        "env.json",
        "sweep.json",
        "points.jsonl",
        "metrics.json",
        "report.md",
        "report.html",
        "points.csv",
        "stakeholder_summary.md",
        "assumptions.md",
        "MANIFEST.json",
    ] {
        assert!(sweep.join(file).is_file(), "{file}");
    }
    assert_eq!((metrics["command"].as_str(), metrics["status"].as_str()), (Some("sweep"), Some("complete")));
    assert_eq!((&metrics["points"], &metrics["outcomes"]), (&json!(6), &json!({"ok": 6})));
    assert_eq!(metrics["best"]["candidates"], 6);

    // Both maps, of the objective and of the front, say what the runs of the points say.
    let results = metrics["results"].as_array().unwrap();
    let maps = metrics["heat_maps"].as_array().unwrap();
    let mut cells = 0;
    for map in maps {
        let measure = map["measure"].as_str().unwrap();
        let (across, down) = (map["x"]["key"].as_str().unwrap(), map["y"]["key"].as_str().unwrap());
        for (y, row) in map["y"]["values"].as_array().unwrap().iter().enumerate() {
            for (x, column) in map["x"]["values"].as_array().unwrap().iter().enumerate() {
                let is_it = |result: &&Value| result["settings"][across] == *column && result["settings"][down] == *row;
                let result = results.iter().find(is_it).unwrap();
                let run = json_of(&sweep.join("runs/stage1").join(result["run"].as_str().unwrap()), "metrics.json");
                assert_eq!(
                    map["values"][y][x], run["cases"][0]["measures"][measure]["p50"],
                    "{measure} {row} {column}"
                );
                let batch = run["cases"][0]["batch"].to_string();
                assert_eq!(result["settings"]["batch"].as_str(), Some(batch.as_str()), "the settings reached the run");
                cells += 1;
            }
        }
    }
    assert_eq!((maps.len(), cells), (2, 12));

    // The best is what the runs say, and its command line runs.
    let best = &metrics["best"];
    let of = |result: &Value| result["measures"]["decode_tok_per_s"]["p50"].as_f64().unwrap();
    let largest = results.iter().map(of).fold(0.0, f64::max);
    assert_eq!(of(&results[best["result"].as_u64().unwrap() as usize]), largest);
    let line = best["command_line"].as_str().unwrap();
    assert!(line.contains("batch=") && line.contains("engine.threads="), "{line}");
    let words: Vec<&str> = line.strip_prefix("perfprof ").unwrap().split(' ').collect();
    finish(sandbox.command(&words)).exits(0);
    let report = text_of(&sweep, "report.md");
    assert!(report.contains(&format!("```sh\n{line}\n```")), "{report}");

    // What was written is a sweep again, of the same points.
    let config = sweep.join("config.yaml").display().to_string();
    let listed = sandbox.run(&["sweep", &config, "--dry-run"]).exits(0).stdout;
    assert!(listed.contains("# 6 points of `stage1`") && listed.contains("# 5: batch=3 engine.threads=2"), "{listed}");
    sandbox.run(&["sweep", &config, "--resume", "mine"]).exits(0);
    assert_eq!(rows(&sweep).len(), 6, "nothing was left to try");
    sandbox.run(&["runs", "verify", "mine"]).exits(0);
    let list = sandbox.run(&["runs", "list", "--command", "sweep"]).exits(0).stdout;
    assert!(list.contains("mine") && list.contains("complete"), "{list}");

    // The reports are rebuilt from the rows alone.
    for file in ["metrics.json", "report.md", "report.html", "points.csv"] {
        std::fs::remove_file(sweep.join(file)).unwrap();
    }
    let rebuilt = sandbox.run(&["report", "mine", "--json"]).exits(0).json();
    assert_eq!((&rebuilt["results"], &rebuilt["best"]), (&metrics["results"], &metrics["best"]));
    assert!(text_of(&sweep, "report.html").contains("data-chart=\"map-0\""));
}

#[test]
fn points_that_do_not_fit_and_points_that_fail_are_recorded_and_passed() {
    let sandbox = Sandbox::new();
    let path = file(
        &sandbox,
        "list:\n  - {batch: 90000000}\n  - {env.PERFPROF_FAULT: \"error:*\"}\n  - {env.PERFPROF_FAULT: \"panic:*\"}\n  - {batch: 2}\nobjective: total_tok_per_s\n",
    );
    let metrics = sandbox.run(&["sweep", &path, "--json"]).exits(0).json();
    assert_eq!(metrics["outcomes"], json!({"failed": 2, "ok": 1, "oom": 1}));
    let results = metrics["results"].as_array().unwrap();
    let told = |at: usize| results[at]["error"].as_str().unwrap().to_owned();
    assert!(told(0).contains("but this process may use"), "{}", told(0));
    assert!(told(1).contains("injected error"), "{}", told(1));
    assert!(!told(2).is_empty());
    assert_eq!((&results[3]["status"], &results[3]["settings"]["batch"]), (&json!("ok"), &json!("2")));
    assert_eq!((&metrics["best"]["result"], &metrics["validity"]["status"]), (&json!(3), &json!("VALID")));
    let codes: Vec<&str> =
        metrics["diagnostics"].as_array().unwrap().iter().filter_map(|found| found["code"].as_str()).collect();
    assert!(codes.contains(&"point_out_of_memory") && codes.contains(&"point_failed"), "{codes:?}");
    let sweep = the_sweep(&sandbox);
    let report = text_of(&sweep, "report.md");
    assert!(report.contains("Points without a result") && report.contains("injected error"), "{report}");

    // What failed is tried again; what ended well or does not fit is not.
    sandbox.run(&["sweep", "--resume", "latest"]).exits(0);
    let tried: Vec<(u64, u64)> =
        rows(&sweep).iter().map(|row| (row["point"].as_u64().unwrap(), row["attempt"].as_u64().unwrap())).collect();
    assert_eq!(tried, [(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (2, 1)]);
    let runs: BTreeSet<String> = rows(&sweep).iter().map(|row| row["child"].as_str().unwrap().to_owned()).collect();
    assert_eq!(runs.len(), 6, "no run is overwritten");
    sandbox.run(&["sweep", "--resume", "latest", "--retry-oom", "--max-points", "1"]).exits(0);
    assert_eq!((&rows(&sweep)[6]["point"], &rows(&sweep)[6]["status"]), (&json!(0), &json!("oom")));
}

#[test]
fn a_sweep_without_any_result_is_invalid_and_says_why() {
    let sandbox = Sandbox::new();
    let outcome = finish(sweep(&sandbox, &["batch=90000000,80000000", "objective=ttft_ms"])).exits(3);
    assert!(outcome.stdout.contains("INVALID"), "{outcome:?}");
    let sweep = the_sweep(&sandbox);
    assert_eq!(json_of(&sweep, "run.json")["status"], "invalid");
    let metrics = json_of(&sweep, "metrics.json");
    let reasons = metrics["validity"]["reasons"].to_string();
    assert!(reasons.contains("no point of 2 ended well"), "{reasons}");
    assert!(reasons.contains("2 did not fit into the memory, the first because"), "{reasons}");
    assert!(reasons.contains("but this process may use"), "{reasons}");
    assert_eq!(metrics["best"]["result"], Value::Null);
}

/// Starts a sweep of many points and waits until so many rows are written.
fn begun(sandbox: &Sandbox, arguments: &[&str], points: usize) -> (Child, PathBuf) {
    let mut command = sweep(sandbox, arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut found = None;
    until("points of the sweep", || {
        found = sweeps(sandbox).first().cloned();
        found.as_ref().is_some_and(|sweep| rows(sweep).len() >= points)
    });
    (child, found.unwrap())
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn however_often_a_sweep_is_killed_no_finished_point_is_lost_or_tried_again() {
    let sandbox = Sandbox::new();
    let (mut child, sweep) = begun(&sandbox, &["batch=1,2,3,4,5,6", "profiling.cooldown_ms=20"], 1);
    kill(&mut child);
    // Again and again, right behind a row or in the midst of a point.
    for round in 0..4 {
        let before = settled(&sweep);
        let attempts = rows(&sweep).len();
        let runs = || std::fs::read_dir(sweep.join("runs/stage1")).map_or(0, Iterator::count);
        let runs_before = runs();
        let mut command = sandbox.command(&["sweep", "--resume", "latest"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut ended = false;
        until("the next point", || {
            ended = child.try_wait().unwrap().is_some();
            let reached = if round % 2 == 0 { rows(&sweep).len() > attempts } else { runs() > runs_before };
            ended || reached
        });
        if !ended {
            kill(&mut child);
        }
        for (point, count) in before {
            assert_eq!(settled(&sweep).get(&point), Some(&count), "point {point} in round {round}");
        }
    }
    let metrics = sandbox.run(&["sweep", "--resume", "latest", "--json"]).exits(0).json();
    assert_eq!(settled(&sweep), (0..6).map(|point| (point, 1)).collect::<BTreeMap<u64, usize>>());
    assert_eq!((metrics["status"].as_str(), &metrics["outcomes"]), (Some("complete"), &json!({"ok": 6})));
    sandbox.run(&["runs", "verify", sweep.to_str().unwrap()]).exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_sweep_is_shown_as_interrupted_and_reported_from_its_rows() {
    let sandbox = Sandbox::new();
    let (mut child, sweep) = begun(&sandbox, &["batch=1,2,3,4,5,6", "profiling.cooldown_ms=100"], 2);
    kill(&mut child);
    assert!(!sweep.join("metrics.json").exists(), "nothing had been summed up yet");
    let metrics = sandbox.run(&["report", "latest:sweep", "--json"]).exits(0).json();
    assert_eq!(metrics["status"], "interrupted");
    assert!(metrics["outcomes"]["ok"].as_u64() >= Some(2), "{}", metrics["outcomes"]);
}

#[test]
fn a_torn_row_is_tried_again_and_one_that_lacks_only_its_end_is_kept() {
    let sandbox = Sandbox::new();
    finish(sweep(&sandbox, &["batch=1,2,3"])).exits(0);
    let sweep = the_sweep(&sandbox);
    let path = sweep.join("points.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 40]).unwrap();
    let metrics = sandbox.run(&["report", "latest", "--json"]).exits(0).json();
    assert!(metrics["diagnostics"].to_string().contains("torn_last_row"), "{}", metrics["diagnostics"]);
    assert_eq!(metrics["outcomes"], json!({"not_run": 1, "ok": 2}));
    sandbox.run(&["sweep", "--resume", "latest"]).exits(0);
    let tried: Vec<u64> = rows(&sweep).iter().map(|row| row["point"].as_u64().unwrap()).collect();
    assert_eq!(tried, [0, 1, 2], "the torn row is gone, and no line is damaged");

    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.trim_end()).unwrap();
    sandbox.run(&["sweep", "--resume", "latest"]).exits(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // Damage in the middle is no torn end: nothing is silently left out.
    std::fs::write(&path, text.replacen("\"point\":1", "\"point\":x", 1)).unwrap();
    sandbox.run(&["sweep", "--resume", "latest"]).exits(2).says(&["points.jsonl:2"]);
    sandbox.run(&["report", "latest"]).exits(2).says(&["points.jsonl:2"]);
    let salvaged = sandbox.run(&["report", "latest", "--salvage", "--json"]).exits(0).json();
    assert_eq!(salvaged["outcomes"], json!({"not_run": 1, "ok": 2}));
}

#[test]
fn a_changed_plan_is_refused_with_its_points_unless_told() {
    let sandbox = Sandbox::new();
    let path = file(&sandbox, "grid:\n  batch: [1, 2]\n");
    sandbox.run(&["sweep", &path]).exits(0);
    let sweep = the_sweep(&sandbox);
    let before = rows(&sweep);
    file(&sandbox, "grid:\n  batch: [3, 1, 2]\n");
    let refused = sandbox.run(&["sweep", &path, "--resume", "latest"]).exits(1);
    let refused =
        refused.says(&["3 of 3 differ", "point 0 was (batch=1) and is (batch=3)", "point 2 (batch=2) is new"]);
    refused.hints("--allow-changed");
    // Not told the file, it is still the sweep that it was.
    sandbox.run(&["sweep", "--resume", "latest"]).exits(0);
    assert_eq!(rows(&sweep), before);
    let metrics = sandbox.run(&["sweep", &path, "--resume", "latest", "--allow-changed", "--json"]).exits(0).json();
    assert_eq!(
        (rows(&sweep).len(), &rows(&sweep)[..2]),
        (3, &before[..]),
        "what was finished is found in its new place"
    );
    let batches: Vec<&Value> =
        metrics["results"].as_array().unwrap().iter().map(|result| &result["settings"]["batch"]).collect();
    assert_eq!(batches, [&json!("3"), &json!("1"), &json!("2")]);
    assert_eq!(metrics["outcomes"], json!({"ok": 3}));
}

#[test]
fn a_file_that_a_point_reads_is_part_of_it() {
    let sandbox = Sandbox::new();
    let prompts = sandbox.write("prompts.jsonl", "{\"id\":\"a\",\"prompt\":\"one two\"}\n");
    let root = format!("dataset.root='{}'", prompts.display());
    let mut command = sandbox.command(&["sweep"]);
    command.args(TINY).args(QUICK).args([root.as_str(), "batch=1,2"]);
    finish(command).exits(0);
    sandbox.run(&["sweep", "--resume", "latest"]).exits(0);
    std::fs::write(&prompts, "{\"id\":\"a\",\"prompt\":\"three four\"}\n").unwrap();
    let refused = sandbox.run(&["sweep", "--resume", "latest"]).exits(1);
    refused.says(&["2 of 2 differ", "other content of a file they name"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_sweep_has_a_report_and_can_be_gone_on_with() {
    let sandbox = Sandbox::new();
    let (child, sweep) = begun(&sandbox, &["batch=1,2,3,4,5,6,7,8,9", "profiling.cooldown_ms=100"], 2);
    // SAFETY: a plain system call on a process that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json_of(&sweep, "run.json")["status"], "interrupted");
    let metrics = json_of(&sweep, "metrics.json");
    assert_eq!(metrics["status"], "interrupted");
    assert!(metrics["outcomes"]["ok"].as_u64() >= Some(2), "{}", metrics["outcomes"]);
    assert!(metrics["outcomes"]["not_run"].as_u64() >= Some(1), "{}", metrics["outcomes"]);
    let report = text_of(&sweep, "report.md");
    assert!(report.contains("--resume") && report.contains("interrupted"), "{report}");
    let before = settled(&sweep);
    let refused = sandbox.run(&["sweep", "--resume", "latest", "profiling.cooldown_ms=0"]).exits(1);
    refused.says(&["would change the points of the sweep"]);
    sandbox.run(&["sweep", "--resume", "latest", "objective=ttft_ms"]).exits(0);
    assert_eq!(settled(&sweep).len(), 9);
    assert!(before.iter().all(|(point, count)| settled(&sweep).get(point) == Some(count)));
    assert!(json_of(&sweep, "metrics.json")["best"]["result"].is_u64());
}

#[cfg(target_os = "linux")]
#[test]
fn two_processes_cannot_go_on_with_one_sweep() {
    let sandbox = Sandbox::new();
    let (mut child, sweep) = begun(&sandbox, &["batch=1,2,3,4,5,6,7,8,9", "profiling.cooldown_ms=1000"], 0);
    until("the lock", || sweep.join("sweep.json").is_file());
    sandbox.run(&["sweep", "--resume", "latest"]).exits(2).says(&["is still running"]);
    // Nor where run.json does not tell.
    let mut record = json_of(&sweep, "run.json");
    record["status"] = json!("interrupted");
    std::fs::write(sweep.join("run.json"), record.to_string()).unwrap();
    sandbox.run(&["sweep", "--resume", "latest"]).exits(2).says(&["is still running"]);
    kill(&mut child);
}

#[cfg(target_os = "linux")]
#[test]
fn a_point_killed_by_the_system_counts_as_out_of_memory_and_the_sweep_goes_on() {
    let sandbox = Sandbox::new();
    let (child, sweep) = begun(&sandbox, &["batch=1,2,3", "profiling.cooldown_ms=1500", "--json"], 0);
    let runs = format!("{}/runs", sweep.file_name().unwrap().to_str().unwrap());
    let process = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&runs)
        })
    };
    let mut victim = None;
    until("the process of a point", || {
        victim = process();
        victim.is_some()
    });
    // SAFETY: a plain system call; the process rests for longer than this takes.
    assert_eq!(unsafe { libc::kill(victim.unwrap(), libc::SIGKILL) }, 0);
    let output = child.wait_with_output().unwrap();
    let metrics: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(metrics["outcomes"], json!({"ok": 2, "oom": 1}));
    assert!(rows(&sweep)[0]["error"].as_str().unwrap().contains("killed by signal 9"));
}

#[test]
fn limits_leave_the_rest_for_later() {
    let sandbox = Sandbox::new();
    let outcome = finish(sweep(&sandbox, &["batch=1,2,3", "--max-points", "1"])).exits(0);
    assert!(outcome.stdout.contains("2 not tried yet") && outcome.stdout.contains("--resume"), "{}", outcome.stdout);
    let sweep = the_sweep(&sandbox);
    assert_eq!(rows(&sweep).len(), 1);
    sandbox.run(&["sweep", "--resume", "latest", "--point-limit-s", "0.001"]).exits(0);
    assert_eq!(rows(&sweep)[1]["status"], "failed");
    assert!(rows(&sweep)[1]["error"].as_str().unwrap().contains("was ended after"));
    sandbox.run(&["sweep", "--resume", "latest"]).exits(0);
    assert_eq!(settled(&sweep).len(), 3);
}

#[test]
fn mistakes_are_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&[])).exits(0);
    let load = sandbox.write("load.yaml", "command: load\ngrid:\n  batch: [1]\n").display().to_string();
    let other = sandbox.write("other.yaml", "command: analyze\ngrid:\n  batch: [1]\n").display().to_string();
    let typo = sandbox.write("typo.yaml", "gird:\n  batch: [1]\n").display().to_string();
    let goal = file(&sandbox, "grid:\n  batch: [1, 2]\nconstraints: ['ttft_ms=3']\n");
    for (arguments, words) in [
        (vec!["latency_grids"], "no sweep is called `latency_grids`"),
        (vec!["batch=1"], "there is no point"),
        (vec!["batch=1,2", "engine.thread=2"], "unknown key `engine.thread`"),
        (vec!["batch=1,0"], "`batch` is `0`"),
        (vec!["batch=1,2", "run.id=x"], "run.id"),
        (vec!["batch=1,2", "objective=decode_tok_per_sec"], "no measure of a run"),
        (vec!["batch=1,2", "objective=cpu_utilisation"], "no better side"),
        (vec!["batch=1,2", "--constraint", "ttft_ms"], "no `<` or `>`"),
        (vec!["batch=1,2", "--budget-s", "0"], "--budget-s"),
        (vec!["batch=1,2", "--resume", "nothing"], "no run `nothing`"),
        (vec!["--resume", "latest:stage1"], "only a sweep can be gone on with"),
        (vec![load.as_str()], "unknown key `batch`"),
        (vec![other.as_str()], "no sweep can be made of `analyze`"),
        (vec![typo.as_str()], "gird"),
        (vec![goal.as_str()], "ttft_ms=3"),
        (vec!["nowhere/at_all.yaml"], "nowhere/at_all.yaml"),
    ] {
        let mut command = sandbox.command(&["sweep"]);
        command.args(&arguments);
        let outcome: Outcome = finish(command);
        assert!(outcome.stderr.contains(words), "{arguments:?}: `{words}` is not in\n{}", outcome.stderr);
        assert_eq!(outcome.code, Some(1), "{arguments:?}: {outcome:?}");
        assert!(sweeps(&sandbox).is_empty(), "{arguments:?} made a run");
    }
}

#[test]
fn validate_checks_the_points_and_the_goals_of_a_sweep_file() {
    let sandbox = Sandbox::new();
    let good = file(&sandbox, "grid:\n  batch: [1, 2]\nobjective: ttft_ms\n");
    let outcome = sandbox.run(&["validate", &good]).exits(0);
    assert!(outcome.stdout.contains("(sweep file)"), "{}", outcome.stdout);
    for (rest, words) in [
        ("grid:\n  batches: [1, 2]\n", "batches"),
        ("grid:\n  batch: [1, 2]\nobjective: speed\n", "`speed` is no measure"),
        ("grid:\n  batch: [1, 2]\nconstraint: [a]\n", "constraint"),
        ("list:\n  - {}\n", "the point sets nothing"),
    ] {
        let path = file(&sandbox, rest);
        let outcome = sandbox.run(&["validate", &path]).exits(1);
        assert!(outcome.stdout.contains(words), "{rest}: {}", outcome.stdout);
    }
}

#[test]
fn the_measures_that_can_be_looked_for_are_those_that_runs_have() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&[])).exits(0);
    let metrics = json_of(&sandbox.the_run(), "metrics.json");
    let has: BTreeSet<&str> = metrics["cases"][0]["measures"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(has, perfprof::runner::summary::MEASURES.into_iter().collect());
}
