//! The GPU sampler in a run of the real binary, against a `libnvidia-ml.so.1` whose device does what a test tells it.
//!
//! The runs are on the CPU and watch the device. How a run *on* the device is judged is seen by telling the rows and the context that they
//! were one, and rebuilding the report from them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say when they cannot run"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox, finish, json_of, rows_of, rows_so_far, start, text_of, until};
use crate::stage1::schema_errors;

/// Repeats of about a tenth of a second and more, looked at every 10 ms. The runner of the tests gives them the machine for themselves.
const WATCHED: [&str; 6] = [
    "device=cpu",
    "profiling.gpu_telemetry=on",
    "profiling.gpu_interval_ms=10",
    "profiling.span_repeats=0",
    "infer.max_new_tokens=800",
    "repeats=3",
];

/// Compiles the library into the sandbox; `None` where there is no C compiler.
pub(crate) fn library(sandbox: &Sandbox) -> Option<PathBuf> {
    let folder = sandbox.path().join("lib");
    std::fs::create_dir_all(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nvml.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(folder.join("libnvidia-ml.so.1"))
        .arg(source)
        .output();
    match built {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(folder)
        }
        Err(error) => {
            eprintln!("skipped: no C compiler to build a libnvidia-ml.so.1 with ({error})");
            None
        }
    }
}

/// `perfprof stage1` beside a device that does what `script` says.
fn watched(sandbox: &Sandbox, library: &Path, script: &[(&str, &str)], settings: &[&str]) -> Command {
    let mut command = sandbox.stage1(&WATCHED);
    command.args(settings).env("LD_LIBRARY_PATH", library).envs(script.iter().copied());
    command
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn close(value: &Value, expected: f64, part: f64) {
    let found = number(value);
    assert!((found - expected).abs() <= part * expected.abs(), "{found} is not {expected} within {part}");
}

/// The finding with this code.
#[track_caller]
fn finding<'a>(metrics: &'a Value, code: &str) -> &'a Value {
    let all = metrics["diagnostics"].as_array().unwrap();
    all.iter().find(|found| found["code"] == code).unwrap_or_else(|| panic!("no `{code}` in {all:#?}"))
}

fn codes(metrics: &Value) -> Vec<&str> {
    // On a busy machine the sampler may be late in any run.
    let gpu = |code: &&str| code.starts_with("gpu_") && *code != "gpu_sampler_late";
    metrics["diagnostics"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap()).filter(gpu).collect()
}

/// Tells the run that it ran on the device, and rebuilds its report.
fn judged_as_gpu_run(sandbox: &Sandbox, run: &Path, code: i32) -> (Value, Outcome) {
    let mut context = json_of(run, "context.json");
    context["hardware"]["device_id"] = json!("cuda:0");
    std::fs::write(run.join("context.json"), context.to_string()).unwrap();
    let rows = rows_of(run).into_iter().map(|mut row| {
        row["device"] = json!("cuda:0");
        row["energy_j"] = row["gpu"]["energy_j"].clone();
        row["energy_source"] = row["gpu"]["energy_source"].clone();
        row.to_string() + "\n"
    });
    std::fs::write(run.join("per_run.jsonl"), rows.collect::<String>()).unwrap();
    let outcome = sandbox.run(&["report", run.to_str().unwrap()]).exits(code);
    (json_of(run, "metrics.json"), outcome)
}

/// Why the run is INVALID, in one text.
fn reasons(metrics: &Value) -> String {
    metrics["validity"]["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_steady_device_is_told_as_it_is_in_rows_summary_and_reports() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let script = [
        ("NVML_UTIL", "70"),
        ("NVML_POWER_MW", "300000"),
        ("NVML_ENERGY_MW", "250000"),
        ("NVML_SM_MHZ", "1700"),
        ("NVML_TEMP", "61"),
        ("NVML_MEM_MIB", "512"),
        ("NVML_REASONS", "0x1"),
    ];
    let outcome = finish(watched(&sandbox, &library, &script, &["hardware.price_usd_per_hour=3.6"])).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(schema_errors(&metrics), [""; 0]);
    sandbox.run(&["runs", "verify", run.to_str().unwrap()]).exits(0);
    assert_eq!(metrics["validity"]["status"], "VALID");
    // The device that was busy is not the one that ran the model: a note, no more.
    assert_eq!(codes(&metrics), ["gpu_busy_before"]);
    assert_eq!(finding(&metrics, "gpu_busy_before")["severity"], "info");

    let rows = rows_of(&run);
    for row in &rows {
        let (gpu, window_s) = (&row["gpu"], number(&row["gpu"]["window_ms"]) * 1e-3);
        assert!(window_s * 1e3 >= number(&row["total_ms"]), "{row}");
        assert!(number(&gpu["looks"]) >= 4.0, "{gpu}");
        assert_eq!(gpu["energy_source"], "nvml:counter");
        close(&gpu["energy_j"], 250.0 * window_s, 0.1);
        close(&gpu["power_w"], 250.0, 0.1);
        close(&gpu["sm_mhz"], 1700.0, 1e-9);
        assert_eq!((&gpu["sm_mhz_min"], &gpu["temperature_c"]), (&json!(1700.0), &json!(61.0)));
        assert_eq!((&gpu["memory_used_bytes"], &gpu["throttled_share"]), (&json!(512u64 << 20), &json!(0.0)));
        // Energy and memory of the run are those of the CPU, which ran it.
        assert!(row["energy_source"] == Value::Null || row["energy_source"] == "rapl");
        assert_eq!((&row["energy_j"], &row["memory"]["peak_vram_bytes"]), (&row["cpu_energy_j"], &Value::Null));
    }

    let gpu = &metrics["gpu"];
    assert_eq!(
        (&gpu["name"], &gpu["uuid"], &gpu["ran_here"]),
        (&json!("Scripted GPU"), &json!("GPU-5ca1ab1e"), &json!(false))
    );
    let steady = |value: f64| (value, value, value);
    for (name, (mean, min, max)) in [
        ("utilisation", steady(0.7)),
        ("memory_utilisation", steady(0.35)),
        ("power_w", steady(300.0)),
        ("sm_mhz", steady(1700.0)),
        ("memory_mhz", steady(2619.0)),
        ("temperature_c", steady(61.0)),
        ("memory_used_bytes", steady(512.0 * 1048576.0)),
    ] {
        let metric = &gpu["metrics"][name];
        close(&metric["mean"], mean, 1e-9);
        assert_eq!((number(&metric["min"]), number(&metric["max"])), (min, max), "{name}");
    }
    close(&gpu["energy_j"], 250.0 * (number(&gpu["to_s"]) - number(&gpu["from_s"])), 0.1);
    assert_eq!(gpu["throttle"], json!([{"reason": "gpu_idle", "share": 1.0, "effect": "harmless"}]));
    assert_eq!((&gpu["slowdown_share"], &gpu["ecc_uncorrected"]), (&json!(0.0), &json!(0)));
    assert!(number(&gpu["sm_clock_spread"]) < 1e-9, "{}", gpu["sm_clock_spread"]);
    assert_eq!((&gpu["before"]["utilisation"], &gpu["before"]["persistence_mode"]), (&json!(0.7), &json!(true)));
    assert_eq!((&gpu["failures"], &gpu["unsupported"], &gpu["power_limit_w"]), (&json!(0), &json!([]), &json!(700.0)));

    // The series has a look at both ends of each repeat, in the order of time.
    let series = json_of(&run, "gpu_telemetry.json");
    let times: Vec<f64> = series["samples"]["t_s"].as_array().unwrap().iter().map(number).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]) && series["complete"] == true);
    assert_eq!(series["repeats"].as_array().unwrap().len(), 3);
    for (repeat, row) in series["repeats"].as_array().unwrap().iter().zip(&rows) {
        assert_eq!(repeat["row"], row["index"]);
        let [start_s, end_s] = ["start_s", "end_s"].map(|end| number(&repeat[end]));
        assert!(times.contains(&start_s) && times.contains(&end_s));
        close(&row["gpu"]["window_ms"], (end_s - start_s) * 1e3, 1e-9);
    }
    assert_eq!(series["slow_samples"]["pcie_rx_bytes_per_s"][0], 3e6, "NVML gives KB/s");

    assert!(outcome.stdout.contains("GPU Scripted GPU, 300.0 W (max 300.0), SM 1700 MHz"), "{}", outcome.stdout);
    let report = text_of(&run, "report.md");
    assert!(report.contains("## GPU") && report.contains("watched only, the model ran on the CPU"), "{report}");
    let words: Vec<&str> = report.split_whitespace().collect();
    assert!(words.join(" ").contains("| SM clock (MHz) | 1700 | 1700 | 1700 |"), "{report}");
    let page = text_of(&run, "report.html");
    assert!(
        page.contains("data-chart=\"gpu-series\"") && page.contains("<title>row 0: "),
        "the chart marks the repeats"
    );

    // The same run, had it been on the device: its energy is the run's.
    let (metrics, outcome) = judged_as_gpu_run(&sandbox, &run, 0);
    assert_eq!(finding(&metrics, "gpu_busy_before")["severity"], "warn");
    let joules: f64 = rows.iter().map(|row| number(&row["gpu"]["energy_j"])).sum::<f64>() / 3.0;
    close(&metrics["measures"]["energy_per_token_j"]["mean"], joules / 800.0, 1e-9);
    assert!(outcome.stdout.contains("J per token"), "{}", outcome.stdout);
    let report = text_of(&run, "report.md");
    assert!(
        report.contains("energy per new token (J)") && report.contains("cost per million new tokens (USD)"),
        "{report}"
    );
}

#[test]
fn without_an_energy_counter_power_is_integrated_over_the_repeat() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let script = [("NVML_WITHOUT", "energy"), ("NVML_POWER_MW", "100000"), ("NVML_POWER_MW_PER_S", "400000")];
    finish(watched(&sandbox, &library, &script, &[])).exits(0);
    let run = sandbox.the_run();
    let series = json_of(&run, "gpu_telemetry.json");
    let column = |name: &str| series["samples"][name].as_array().unwrap().iter().map(number).collect::<Vec<f64>>();
    let (times, power) = (column("t_s"), column("power_w"));
    let power_at = |t_s: &Value| power[times.iter().position(|time| *time == number(t_s)).unwrap()];
    for (repeat, row) in series["repeats"].as_array().unwrap().iter().zip(rows_of(&run)) {
        // The power rises in a straight line, so its mean is that of its ends.
        let mean = f64::midpoint(power_at(&repeat["start_s"]), power_at(&repeat["end_s"]));
        assert!(mean > 100.0);
        assert_eq!(row["gpu"]["energy_source"], "nvml:power");
        close(&row["gpu"]["power_w"], mean, 0.03);
        close(&row["gpu"]["energy_j"], mean * number(&row["gpu"]["window_ms"]) * 1e-3, 0.03);
    }
    let gpu = &json_of(&run, "metrics.json")["gpu"];
    let power = &gpu["metrics"]["power_w"];
    close(&power["mean"], f64::midpoint(number(&power["min"]), number(&power["max"])), 0.03);
    assert_eq!((&gpu["energy_source"], &gpu["unsupported"]), (&json!("nvml:power"), &json!(["energy_j"])));
}

#[test]
fn a_repeat_too_short_for_the_counter_has_no_energy_and_the_run_still_has() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let settings =
        ["infer.max_new_tokens=800", "repeats=4", "profiling.gpu_interval_ms=100", "profiling.cooldown_ms=250"];
    finish(watched(&sandbox, &library, &[], &settings)).exits(0);
    let run = sandbox.the_run();
    for row in rows_of(&run) {
        assert_eq!((&row["gpu"]["energy_j"], &row["gpu"]["power_w"]), (&Value::Null, &Value::Null), "{row}");
        close(&row["gpu"]["sm_mhz"], 1500.0, 1e-9);
    }
    let metrics = json_of(&run, "metrics.json");
    close(
        &metrics["gpu"]["energy_j"],
        50.0 * (number(&metrics["gpu"]["to_s"]) - number(&metrics["gpu"]["from_s"])),
        0.1,
    );
    assert!(
        number(&metrics["gpu"]["repeats_share"]) < 0.5,
        "rests are most of it: {}",
        metrics["gpu"]["repeats_share"]
    );
    assert!(finding(&metrics, "gpu_energy_unknown")["first"].as_str().unwrap().contains("4 of 4 repeats"));
}

#[test]
fn what_a_device_does_not_have_is_null_and_what_fails_is_counted() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let script =
        [("NVML_WITHOUT", "util,power,energy,reasons,procs,pcie,ecc,persistence,memory"), ("NVML_BROKEN", "temp")];
    finish(watched(&sandbox, &library, &script, &[])).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!((schema_errors(&metrics), &metrics["validity"]["status"]), (vec![], &json!("VALID")));
    let gpu = &metrics["gpu"];
    let known: Vec<&String> = gpu["metrics"].as_object().unwrap().keys().collect();
    assert_eq!(known, ["memory_mhz", "sm_mhz"]);
    for name in ["energy_j", "slowdown_share", "ecc_uncorrected", "processes_max"] {
        assert_eq!(gpu[name], Value::Null, "{name}");
    }
    let first = finding(&metrics, "gpu_metrics_unsupported")["first"].as_str().unwrap().to_owned();
    for name in ["utilisation", "power_w", "energy_j", "throttle_reasons", "ecc_uncorrected", "pcie_rx_bytes_per_s"] {
        assert!(first.contains(name), "{first}");
    }
    assert_eq!(gpu["failed_metrics"], gpu["attempts"], "the temperature failed in every look");
    assert_eq!(finding(&metrics, "gpu_metrics_failed")["count"], gpu["attempts"]);
    let series = json_of(&run, "gpu_telemetry.json");
    assert_eq!((&series["samples"]["power_w"], &series["samples"]["temperature_c"]), (&Value::Null, &Value::Null));
    assert!(text_of(&run, "report.html").contains("data-chart=\"gpu-series\""), "the clock is drawn");
}

#[test]
fn a_device_lost_in_the_run_ends_no_run_on_the_cpu_and_spoils_one_on_it() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let settings = ["repeats=1000000", "infer.max_new_tokens=800", "profiling.cooldown_ms=20"];
    let child = start(watched(&sandbox, &library, &[("NVML_LOST_IF", "lost")], &settings));
    let lost = || {
        sandbox
            .runs()
            .first()
            .is_some_and(|run| run.join("per_run.jsonl").exists() && rows_of_live(run).contains("\"gpu\":null"))
    };
    until("two rows", || sandbox.runs().first().is_some_and(|run| rows_so_far(run) >= 2));
    sandbox.write("lost", "");
    until("a repeat without a device", lost);
    // SAFETY: the process is ours and has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    crate::sandbox::outcome(child.wait_with_output().unwrap()).exits(130);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(schema_errors(&metrics), [""; 0]);
    let gpu = &metrics["gpu"];
    let (lost_at, last_good) = (number(&gpu["lost_at_s"]), number(&gpu["last_good_s"]));
    assert!(lost_at > last_good && last_good > 0.0, "{lost_at} {last_good}");
    assert_eq!(finding(&metrics, "gpu_lost")["severity"], "info");
    assert!(!reasons(&metrics).contains("lost"), "{}", reasons(&metrics));
    let rows = rows_of(&run);
    assert!(rows.first().unwrap()["gpu"].is_object() && rows.last().unwrap()["gpu"].is_null());
    assert!(rows.iter().all(|row| row["status"] == "ok"));
    assert!(text_of(&run, "report.html").contains("look(s) failed: "), "the chart marks the loss");
    let (metrics, _) = judged_as_gpu_run(&sandbox, &run, 3);
    assert!(reasons(&metrics).contains("Scripted GPU was lost"), "{}", reasons(&metrics));
}

/// The rows while they are written: the last may not be whole.
fn rows_of_live(run: &Path) -> String {
    std::fs::read_to_string(run.join("per_run.jsonl")).unwrap_or_default()
}

#[test]
fn a_missing_driver_is_a_line_and_nothing_else() {
    let sandbox = Sandbox::new();
    // A directory without the library, so that one of this machine is not in the way of anything: a run on the CPU asks for none.
    finish(sandbox.stage1(&["device=cpu"])).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!((&metrics["gpu"], codes(&metrics)), (&Value::Null, vec![]));
    assert!(!text_of(&run, "report.md").contains("## GPU") && !text_of(&run, "report.html").contains("id=\"gpu\""));
    assert!(!run.join("gpu_telemetry.json").exists());

    let Some(library) = library(&sandbox) else { return };
    finish(watched(&sandbox, &library, &[("NVML_INIT", "9")], &["repeats=1"])).exits(0);
    let run = sandbox.runs().pop().unwrap();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!((&metrics["gpu"], codes(&metrics)), (&Value::Null, vec!["gpu_unavailable"]));
    let first = finding(&metrics, "gpu_unavailable")["first"].as_str().unwrap();
    assert!(first.contains("kernel driver is not loaded"), "{first}");
    assert!(!run.join("gpu_telemetry.json").exists());
    assert!(rows_of(&run).iter().all(|row| row["gpu"].is_null()));
}

#[test]
fn a_device_shared_and_slowed_down_makes_a_run_on_it_invalid() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let script = [
        ("NVML_UTIL", "80"),
        ("NVML_PROCS", "4242:9000,0:700"),
        ("NVML_MEM_MIB", "9700"),
        ("NVML_REASONS", "0x20"),
        ("NVML_PERSISTENCE", "0"),
        ("NVML_ECC_PER_READ", "2"),
    ];
    finish(watched(&sandbox, &library, &script, &[])).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["validity"]["status"], "VALID", "the CPU ran it");
    for row in rows_of(&run) {
        assert_eq!(
            (&row["gpu"]["throttled_share"], &row["gpu"]["throttle_reasons"]),
            (&json!(1.0), &json!(["sw_thermal_slowdown"]))
        );
        assert_eq!(
            row["gpu"]["process_memory_bytes"],
            700u64 << 20,
            "the memory of this process, not that of the other"
        );
    }
    let gpu = &metrics["gpu"];
    assert_eq!((&gpu["processes_max"], &gpu["other_processes_max"]), (&json!(2), &json!(1)));
    assert!(number(&gpu["ecc_uncorrected"]) >= 2.0, "{}", gpu["ecc_uncorrected"]);

    let (metrics, _) = judged_as_gpu_run(&sandbox, &run, 3);
    let reasons = reasons(&metrics);
    assert!(reasons.contains("another process used Scripted GPU: it was 80 % busy before the run"), "{reasons}");
    assert!(reasons.contains("slowed down in 100 % of the looks (limit 10 %): sw_thermal_slowdown"), "{reasons}");
    let mut found = codes(&metrics);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "gpu_busy_before",
            "gpu_ecc_uncorrected",
            "gpu_memory_in_use",
            "gpu_other_processes",
            "gpu_persistence_off",
            "gpu_shared",
            "gpu_throttled",
            "gpu_throttled_before"
        ]
    );
    assert_eq!(finding(&metrics, "gpu_ecc_uncorrected")["severity"], "error");
    assert_eq!(finding(&metrics, "gpu_throttled")["severity"], "warn");
}

#[test]
fn the_power_limit_alone_is_a_warning_and_with_moving_clocks_it_is_invalid() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    finish(watched(&sandbox, &library, &[("NVML_REASONS", "0x4")], &[])).exits(0);
    let run = sandbox.the_run();
    let (metrics, _) = judged_as_gpu_run(&sandbox, &run, 0);
    assert_eq!(codes(&metrics), ["gpu_throttled_before", "gpu_power_limited"]);
    assert_eq!(metrics["gpu"]["power_limit_share"], 1.0);

    let moving = [("NVML_REASONS", "0x4"), ("NVML_SM_MHZ", "1900"), ("NVML_SM_MHZ_PER_S", "-300")];
    finish(watched(&sandbox, &library, &moving, &["profiling.cooldown_ms=400"])).exits(0);
    let run = sandbox.runs().pop().unwrap();
    let (metrics, _) = judged_as_gpu_run(&sandbox, &run, 3);
    // Three repeats that begin at least 0.4 s apart: the clocks of the first and the last differ by 240 MHz or more of less than 1900.
    assert!(number(&metrics["gpu"]["sm_clock_spread"]) > 0.12, "{}", metrics["gpu"]["sm_clock_spread"]);
    assert!(codes(&metrics).contains(&"gpu_clocks_moved"));
    assert!(
        reasons(&metrics).contains("the power limit of 700 W of Scripted GPU moved its clocks"),
        "{}",
        reasons(&metrics)
    );
}

#[test]
fn a_driver_that_hangs_for_a_while_is_seen_in_the_intervals() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    finish(watched(&sandbox, &library, &[("NVML_STALL", "25:700")], &["repeats=8"])).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    let intervals = &metrics["gpu"]["intervals"];
    assert!(number(&intervals["max_s"]) >= 0.7 && number(&intervals["late"]) >= 1.0, "{intervals}");
    assert!(finding(&metrics, "gpu_sampler_late")["first"].as_str().unwrap().contains("more than twice the 10 ms"));
    assert!(rows_of(&run).iter().all(|row| row["status"] == "ok"));
}

#[test]
fn a_killed_run_keeps_the_look_before_it_and_says_what_is_lost() {
    let sandbox = Sandbox::new();
    let Some(library) = library(&sandbox) else { return };
    let mut child = start(watched(&sandbox, &library, &[("NVML_UTIL", "33")], &["repeats=1000000"]));
    until("two rows", || sandbox.runs().first().is_some_and(|run| rows_so_far(run) >= 2));
    child.kill().unwrap();
    child.wait().unwrap();
    let run = sandbox.the_run();
    sandbox.run(&["report", run.to_str().unwrap()]).exits(3);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(schema_errors(&metrics), [""; 0]);
    assert_eq!(metrics["gpu"]["before"]["utilisation"], 0.33);
    assert_eq!((&metrics["gpu"]["metrics"], &metrics["gpu"]["energy_j"]), (&json!({}), &Value::Null));
    assert!(codes(&metrics).contains(&"gpu_looks_lost"));
    assert!(rows_of(&run)[0]["gpu"].is_object(), "the rows have what they had");
    assert!(text_of(&run, "report.md").contains("## GPU"));
}
