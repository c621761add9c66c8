//! The commands around a run, what they print and where; wrong settings; secrets, locales and hostile text.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::OpenOptions;
use std::path::Path;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, TINY, finish, json_of, rows_of, start, text_of};

const COMMANDS: [&[&str]; 15] = [
    &["--help"],
    &["--version"],
    &["stage1", "--help"],
    &["stage1", "--print-config"],
    &["stage2", "--help"],
    &["stage2", "--print-config"],
    &["validate"],
    &["validate", "--json"],
    &["estimate"],
    &["estimate", "--json"],
    &["runs", "list"],
    &["runs", "list", "--json"],
    &["doctor"],
    &["completions", "bash"],
    &["man"],
];

#[test]
fn every_command_answers_on_stdout_and_talks_on_stderr() {
    let sandbox = Sandbox::new();
    for command in COMMANDS {
        let answer = sandbox.run(command).exits(0);
        assert!(!answer.stdout.trim().is_empty(), "{command:?}");
        assert_eq!(answer.stderr, "", "{command:?}");
        assert!(!answer.stdout.contains('\u{1b}'), "{command:?} colours a pipe");
        if command.contains(&"--json") {
            answer.json();
        }
    }
    let help = sandbox.run(&["--help"]).stdout;
    for command in
        ["stage1", "stage2", "analyze", "estimate", "doctor", "runs", "validate", "report", "completions", "man"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(sandbox.run(&["completions", "bash"]).stdout.contains("complete -F _perfprof"));
    assert!(sandbox.run(&["man"]).stdout.contains(".TH perfprof 1"));
}

#[test]
fn a_reader_that_goes_away_and_a_full_disk_behind_stdout_are_no_panic() {
    let sandbox = Sandbox::new();
    for command in COMMANDS {
        let mut child = start(sandbox.command(command));
        drop(child.stdout.take());
        let ended = crate::sandbox::outcome(child.wait_with_output().unwrap());
        ended.exits(0);

        let mut full = sandbox.command(command);
        full.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let ended = crate::sandbox::outcome(
            full.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap(),
        );
        let by_clap = command.iter().any(|argument| ["--help", "--version"].contains(argument));
        ended.exits(if by_clap { 0 } else { 4 });
    }
}

#[test]
fn doctor_tells_what_the_machine_can_do_in_json() {
    let sandbox = Sandbox::new();
    let answer = sandbox.run(&["doctor", "--json"]).exits(0).json();
    assert_eq!((&answer["schema_version"], &answer["command"]), (&json!(1), &json!("doctor")));
    let checks = answer["checks"].as_array().unwrap();
    assert!(checks.len() > 5);
    for check in checks {
        let state = check["state"].as_str().unwrap();
        assert!(["ok", "limited", "missing", "broken"].contains(&state), "{check}");
        assert!(!check["detail"].as_str().unwrap().is_empty(), "{check}");
    }
    assert!(answer["machine"]["cpu"].is_object());
}

#[test]
fn estimate_counts_by_the_closed_forms_of_a_published_shape() {
    let sandbox = Sandbox::new();
    let answer = sandbox
        .run(&[
            "estimate",
            "--json",
            "model=synthetic-llama-2-7b",
            "model.dtype=f16",
            "prompt_tokens=128",
            "infer.max_new_tokens=2",
        ])
        .exits(0)
        .json();
    let text = answer.to_string();
    // Llama-2-7B (arXiv 2307.09288): 6 738 415 616 parameters; 512 KiB of f16 KV cache per token.
    assert!(text.contains("6738415616"), "{text}");
    assert!(text.contains("524288"), "{text}");
    assert!(!sandbox.path().join("tmp").exists(), "an estimate writes nothing");
    sandbox
        .run(&["estimate", "model=synthetic-llama-2-7b", "hardware.name=Phantom"])
        .exits(1)
        .says(&["Phantom"])
        .hints("peak_tflops");
}

#[test]
fn runs_are_listed_shown_tagged_and_found_again() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(&["runs", "list"]).exits(0).stdout.contains("no runs"));
    sandbox.run(&["runs", "show", "latest"]).exits(1).says(&["latest"]).hints("runs list");
    finish(sandbox.stage1(&["run.id=first", "run.tag=base"])).exits(0);
    finish(sandbox.stage1(&["run.id=second"])).exits(0);
    let listed = sandbox.run(&["runs", "--json"]).exits(0).json();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["second", "first"], "newest first");
    sandbox.run(&["runs", "tag", "second", "candidate"]).exits(0);
    let shown = sandbox.run(&["runs", "show", "candidate", "--json"]).exits(0).json();
    assert!(shown.to_string().contains("\"second\""), "{shown}");
    sandbox.run(&["runs", "verify", "candidate"]).exits(0);
    sandbox.run(&["runs", "tag", "second", "base"]).exits(1).says(&["base", "first"]);
    sandbox.run(&["report", "base"]).exits(0);
    sandbox.run(&["report", "secnd"]).exits(1).hints("did you mean `second`");
    sandbox.run(&["runs", "list", "--status", "broken"]).exits(1).says(&["broken"]);
}

// Wrong settings.

#[test]
fn wrong_settings_name_the_key_the_place_and_the_way_out() {
    let sandbox = Sandbox::new();
    let refused = |settings: &[&str]| {
        let mut command = sandbox.command(&["stage1"]);
        command.args(settings);
        finish(command).exits(1)
    };
    refused(&["repeats"]).says(&["`repeats`", "`=` is missing"]).hints("key=value");
    refused(&["prompt=\"open"]).says(&["prompt=\"open"]);
    refused(&["engine.thread=2"])
        .says(&["unknown key `engine.thread`", "override 1"])
        .hints("did you mean `engine.threads`");
    refused(&["batch=1", "repeats=many"]).says(&["`repeats` is `many`", "a whole number", "override 2"]);
    refused(&["engine.ops=quick"]).says(&["engine.ops", "`quick`", "reference"]);
    refused(&["engine.cuda_graph=on", "device=cpu"]).says(&["engine.cuda_graph=on", "CPU"]);
    if !cfg!(feature = "cuda") {
        refused(&["trace=cupti"]).says(&["trace=cupti", "no CUPTI tracer", "scripts/build-cuda.sh", "nsys profile"]);
    }
    refused(&["trace=cupti", "device=cpu"]).says(&["trace=cupti"]);
    refused(&["~nothing"]).says(&["nothing"]);
    refused(&["--multirun", "repeats=1,x"]).says(&["repeats"]);
    refused(&["-c", "absent.yaml"]).says(&["absent.yaml"]);
    // What the parser of the command line refuses is a wrong setting like any other.
    refused(&["--no-such-flag"]).says(&["--no-such-flag"]);
    sandbox.run(&["stag1"]).exits(1).says(&["stag1", "stage1"]);
    sandbox.made_no_run();
}

#[test]
fn wrong_files_are_refused_with_file_and_line() {
    let sandbox = Sandbox::new();
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")));
    }
    for (name, text, words) in [
        ("unknown.yaml", "model: synthetic\nrepeets: 3\n", ["unknown.yaml:2", "repeats"]),
        ("type.yaml", "model: synthetic\nrepeats: [1]\n", ["type.yaml:2", "repeats"]),
        ("twice.yaml", "repeats: 1\nrepeats: 2\n", ["twice.yaml", "repeats"]),
        ("tab.yaml", "cases:\n\t- prompt: x\n", ["tab.yaml", "2"]),
        ("open.yaml", "cases: [1, 2\n", ["open.yaml", "open"]),
        ("bomb.yaml", &bomb, ["bomb.yaml", "bomb"]),
        ("zero.yaml", "model: synthetic\ncases:\n  - {prompt: x, new_tokens: 0}\n", ["zero.yaml:3", "new_tokens"]),
    ] {
        sandbox.write(name, text);
        sandbox.run(&["stage1", "-c", name]).exits(1).says(&words);
        // `validate` sees the same without running anything.
        let checked = sandbox.run(&["validate", name]).exits(1);
        assert!(checked.stdout.contains(words[0]) && checked.stdout.contains("1 mistake found"), "{}", checked.stdout);
    }
    sandbox.made_no_run();
    // A byte order mark and Windows line ends are no mistakes.
    sandbox.write(
        "dos.yaml",
        "\u{feff}model: synthetic\r\nrepeats: 1\r\ncases:\r\n  - {prompt_tokens: 4, new_tokens: 2}\r\n",
    );
    let mut command = sandbox.command(&["stage1", "-c", "dos.yaml"]);
    command.args(TINY);
    finish(command).exits(0);
    sandbox.write("bad.jsonl", "{\"prompt\":\"x\"}\n{\"prompt\":\n");
    finish(sandbox.stage1(&["dataset.root=bad.jsonl", "prompt_tokens=null"])).exits(1).says(&["bad.jsonl:2"]);
    finish(sandbox.stage1(&["dataset.root=absent.jsonl", "prompt_tokens=null"])).exits(1).says(&["absent.jsonl"]);
}

#[test]
fn the_settings_of_a_run_say_where_each_came_from() {
    let sandbox = Sandbox::new();
    let printed = sandbox.run(&["stage1", "--print-config", "repeats=3", "model=synthetic"]).exits(0).stdout;
    let line = |key: &str| printed.lines().find(|line| line.trim_start().starts_with(key)).unwrap().to_owned();
    assert!(line("repeats:").contains("repeats: 3") && line("repeats:").contains("override 1"), "{printed}");
    assert!(line("warmup:").contains("configs/config.yaml:"), "{printed}");
    sandbox.made_no_run();
    // What stands in the run is the same text; nothing in it was taken for a secret.
    finish(sandbox.stage1(&[])).exits(0);
    let config = text_of(&sandbox.the_run(), "config.yaml");
    assert!(!config.contains("***"), "{config}");
}

// Secrets, locales, hostile text.

/// Every file below `directory` that holds `needle`.
fn files_with(directory: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn secrets_reach_neither_artifacts_nor_terminal() {
    const KEY: &str = "sk-SENTINEL0123456789abcdef";
    let secret = |sandbox: &Sandbox, arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        command
            .env("OPENAI_API_KEY", KEY)
            .env("HF_TOKEN", "hf_SENTINELabcdefghijklmnop")
            .env("DB_PASSWORD", "SENTINEL-pass");
        command.env("PERFPROF_LOG", "trace");
        let ended = finish(command);
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains("SENTINEL"), "{arguments:?}:\n{text}");
        }
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    };
    let sandbox = Sandbox::new();
    let notes = format!("run.notes=sent with {KEY}");
    let name = format!("model.name={KEY}");
    let url = "prompt='see https://user:SENTINEL-pass@host/x?token=tok-SENTINEL-88 now'";
    let mut arguments = vec!["stage1", &notes, &name, url, "infer.max_new_tokens=2", "repeats=1", "-vvv", "--json"];
    arguments.extend(TINY);
    let ended = secret(&sandbox, &arguments);
    ended.exits(0);
    secret(&sandbox, &["report", "latest"]).exits(0);
    secret(&sandbox, &["runs", "show", "latest"]).exits(0);
    secret(&sandbox, &["doctor"]).exits(0);
    for command in COMMANDS {
        secret(&sandbox, command).exits(0);
    }
    secret(&sandbox, &["stage1", "--help"]).exits(0);
    secret(&sandbox, &["stage1", "--print-config", &notes]).exits(0);
    // Wrong settings are quoted in messages.
    secret(&sandbox, &["stage1", &format!("repeats={KEY}")]).exits(1);
    secret(&sandbox, &["stage1", "+backend.api_key=SENTINEL-other"]).exits(1);
    secret(&sandbox, &["stage1", &format!("{KEY}=1")]).exits(1);
    secret(&sandbox, &["stage1", &format!("model.path={KEY}.gguf")]).exits(2);
    assert_eq!(files_with(&sandbox.path().join("tmp"), "SENTINEL"), [""; 0]);
    let run = sandbox.the_run();
    assert_eq!(json_of(&run, "metrics.json")["model"]["name"], "***");
}

#[test]
fn only_variables_that_matter_are_recorded() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.stage1(&[]);
    command
        .env("AWS_SECRET_ACCESS_KEY", "AKIAverysecret00")
        .env("GITHUB_TOKEN", "ghp_abcdefghijklmn")
        .env("MY_OWN_THING", "private-words");
    command.env("RAYON_NUM_THREADS", "2").env("CUDA_VISIBLE_DEVICES", "0");
    finish(command).exits(0);
    let run = sandbox.the_run();
    let text = text_of(&run, "env.json");
    for hidden in ["AKIAverysecret00", "ghp_abcdefghijklmn", "private-words", "MY_OWN_THING", "GITHUB_TOKEN"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert!(text.contains("CUDA_VISIBLE_DEVICES"), "{text}");
}

#[test]
fn numbers_and_times_do_not_depend_on_the_locale() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.stage1(&["hardware.peak_tflops=1.5"]);
    command.env("LC_ALL", "de_DE.UTF-8").env("LANG", "de_DE.UTF-8").env("TZ", "Asia/Kolkata");
    let before = std::time::SystemTime::now();
    finish(command).exits(0);
    let run = sandbox.the_run();
    assert_eq!(json_of(&run, "metrics.json")["hardware"]["peak_flops_per_s"]["value"], 1.5e12);
    let row = &rows_of(&run)[0];
    assert!(row["total_ms"].is_f64());
    // UTC, whatever the clock on the wall shows.
    let started: jiff::Timestamp = row["started_at"].as_str().unwrap().parse().unwrap();
    assert!(row["started_at"].as_str().unwrap().ends_with('Z'));
    let before = jiff::Timestamp::try_from(before).unwrap();
    assert!((started.as_second() - before.as_second()).abs() < 60, "{started} {before}");
    let csv = text_of(&run, "per_run.csv");
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().skip(1).all(|line| line.split(',').count() >= columns), "{csv}");
}

#[test]
fn hostile_names_are_shown_as_text_in_every_report() {
    const HOSTILE: &str =
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>|`=HYPERLINK(\"x\")\u{2028}\u{1b}]0;x\u{7}";
    let benign = Sandbox::new();
    finish(benign.stage1(&["run.id=x"])).exits(0);
    let count = |sandbox: &Sandbox, part: &str| {
        let html = text_of(&sandbox.path().join("tmp/stage1/x"), "report.html");
        html.matches(part).count()
    };

    let sandbox = Sandbox::new();
    let case = json!({ "name": HOSTILE, "prompt": HOSTILE, "new_tokens": 5 });
    let file = json!({ "model": "synthetic", "warmup": 0, "repeats": 1, "cases": [case] });
    sandbox.write("hostile.yaml", file.to_string());
    let name = format!("model.name='{HOSTILE}'");
    let mut command = sandbox.command(&["stage1", "-c", "hostile.yaml", "run.id=x", &name]);
    command.args(TINY);
    let ended = finish(command).exits(0);
    assert!(!ended.stdout.contains('\u{1b}') && !ended.stderr.contains('\u{1b}'), "{}", ended.stdout);
    for part in ["<script", "</script", "<img", "onerror=\"", "Content-Security-Policy"] {
        assert_eq!(count(&sandbox, part), count(&benign, part), "{part}");
    }
    assert!(count(&sandbox, "&lt;script&gt;alert(1)") > 0, "it is shown, as text");
    let run = sandbox.path().join("tmp/stage1/x");
    for file in ["report.md", "operators.md", "stakeholder_summary.md", "assumptions.md"] {
        let text = text_of(&run, file);
        assert!(!text.contains("<script") && !text.contains("<img") && !text.contains('\u{1b}'), "{file}");
    }
    assert_eq!(rows_of(&run)[0]["case"], HOSTILE, "data keep the name as it is");
    let metrics: Value = json_of(&run, "metrics.json");
    assert_eq!(metrics["model"]["name"], HOSTILE);
    sandbox.run(&["runs", "verify", "x"]).exits(0);
}
