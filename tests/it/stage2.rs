//! `perfprof stage2` as a user runs it, with stand-ins for nsys and ncu: what it leaves behind, and what happens when things break.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use perfprof::trace::builder::TimelineBuilder;
use serde_json::{Value, json};

use crate::fake_tools::{FLASH, FakeTools, MMQ, Tricks};
use crate::sandbox::{Sandbox, finish, json_of, start, text_of, until};

/// The only run of stage2 there is.
#[track_caller]
fn the_run(sandbox: &Sandbox) -> PathBuf {
    let mut runs: Vec<PathBuf> = std::fs::read_dir(sandbox.path().join("tmp/stage2"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn fits_the_schemas(metrics: &Value) {
    let check = |schema: &Value, document: &Value| {
        assert!(jsonschema::meta::is_valid(schema));
        let errors: Vec<String> = jsonschema::validator_for(schema)
            .unwrap()
            .iter_errors(document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    };
    check(&schema(include_str!("../../docs/schema/metrics.stage2.schema.json")), metrics);
    for capture in metrics["captures"].as_array().unwrap().iter().filter(|capture| !capture["analysis"].is_null()) {
        check(&schema(include_str!("../../docs/schema/metrics.analyze.schema.json")), &capture["analysis"]);
    }
}

/// Kernels of `metrics.json`: phase, name, outcome, skipped.
fn profiled(metrics: &Value) -> Vec<(String, String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let kernels = metrics["kernels"].as_array().unwrap().iter();
    kernels
        .map(|kernel| {
            let skip = kernel["skip"].as_u64().unwrap();
            (text(&kernel["phase"]), text(&kernel["full_name"]), text(&kernel["outcome"]), skip)
        })
        .collect()
}

fn near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is not {expected}"));
    assert!((value - expected).abs() <= expected.abs() * 1e-9, "{value} is not {expected}");
}

fn codes(metrics: &Value) -> Vec<String> {
    let all = metrics["diagnostics"].as_array().unwrap().iter();
    all.map(|diagnostic| diagnostic["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_workload_is_traced_its_costliest_kernels_profiled_and_both_joined() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let answer = finish(tools.stage2(&sandbox, &["stage2.ncu.top_n=2", "--json"])).exits(0);
    let metrics = answer.json();
    let run = the_run(&sandbox);
    fits_the_schemas(&json_of(&run, "metrics.json"));
    assert_eq!((&metrics["status"], &metrics["validity"]["status"]), (&json!("complete"), &json!("VALID")));

    // The timeline: 2 prefills, 6 decode steps.
    let analysis = &metrics["captures"][0]["analysis"];
    let steps = |name: &str| {
        analysis["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == name).unwrap()["steps"].clone()
    };
    assert_eq!((steps("prefill"), steps("decode")), (json!(2), json!(6)));

    // Of each phase the two longest; one launch of each is passed over: mul_mat_q of prefill is launches 0 and 7 of all, of decode 1 to 6 and 8 on.
    let kernel = |phase: &str, name: &str, skip: u64| (phase.to_owned(), name.to_owned(), "ok".to_owned(), skip);
    assert_eq!(
        profiled(&metrics),
        [
            kernel("prefill", MMQ, 7),
            kernel("prefill", FLASH, 1),
            kernel("decode", "gemv_f16", 1),
            kernel("decode", MMQ, 2)
        ]
    );
    let kernels = metrics["kernels"].as_array().unwrap();
    let mmq = &kernels[0];
    assert_eq!(mmq["matched_by"], "normalised", "ncu prints no casts");
    assert_eq!(
        (&mmq["calls"], &mmq["total_ns"], &mmq["counters"]["bound"]),
        (&json!(2), &json!(180_000), &json!("compute"))
    );
    near(&mmq["ncu_to_timeline"], 80_000.0 / 90_000.0);
    near(&mmq["share"], 180_000.0 / 284_000.0);
    // 9.6e9 operations of tensor cores and 24 MB: 400 FLOP per byte; an H100 SXM has 989.4 TFLOP/s and 3.35 TB/s.
    let roofline = &mmq["roofline"];
    assert_eq!((&roofline["arithmetic"], &roofline["bound"]), (&json!("tensor fp16 to fp32"), &json!("compute")));
    near(&roofline["flops_per_dram_byte"], 400.0);
    near(&roofline["flops_per_s"], 9.6e9 / 80e-6);
    near(&roofline["share_of_attainable"], 9.6e9 / 80e-6 / 989.4e12);
    // gemv: 2 × 61e6 operations of ordinary units, 61 MB: 2 FLOP per byte, memory.
    let gemv = &kernels[2];
    assert_eq!((&gemv["counters"]["bound"], &gemv["roofline"]["bound"]), (&json!("memory"), &json!("memory")));
    near(&gemv["roofline"]["share_of_attainable"], 61e6 / 30e-6 / 3.35e12);
    assert_eq!(gemv["counters"]["rules"][0]["name"], "SOLBottleneck");

    // What tracing cost is known: the same runs with and without.
    assert_eq!(metrics["overhead"][0]["basis"], "total_ms");
    assert!(metrics["overhead"][0]["ratio"].as_f64().unwrap() > 0.0);
    assert_eq!(metrics["measures"]["tracer_overhead_ratio"]["n"], 1);
    assert_eq!(metrics["workload"]["model"]["prompt_tokens"], 8);
    assert!(metrics["workload"]["overrides"].as_array().unwrap().contains(&json!("profiling.span_repeats=0")));
    for id in ["plain", "traced-all"] {
        let own = json_of(&run.join("runs/stage1").join(id), "metrics.json");
        assert_eq!((&own["command"], own["operators"].as_array().unwrap().len()), (&json!("stage1"), 0));
    }
    // A section and metrics that this ncu lacks were not asked for.
    assert!(codes(&metrics).contains(&"ncu_sections_left_out".to_owned()));
    assert!(!tools.calls().iter().any(|call| call.contains("SchedulerStats") || call.contains("dram__sectors")));

    let files = [
        "report.html",
        "report.md",
        "operators.md",
        "kernels.md",
        "commands.md",
        "assumptions.md",
        "config.yaml",
        "inputs.yaml",
        "env.json",
        "run.json",
        "trace.sqlite",
        "MANIFEST.json",
        "nsys/all.nsys-rep",
        "ncu/01.ncu-rep",
    ];
    for name in files {
        assert!(run.join(name).metadata().is_ok_and(|data| data.len() > 0), "{name}");
    }
    assert!(!run.join("logs").read_dir().unwrap().any(|entry| entry.unwrap().file_name() == "ncu-01-raw.out"));
    let leftover =
        run.read_dir().unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".scratch"));
    assert!(!leftover, "what nobody keeps is gone");
}

#[test]
fn every_command_is_recorded_and_can_be_read() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    finish(tools.stage2(&sandbox, &["stage2.ncu.top_n=1", "stage2.ncu.phases=[decode]"])).exits(0);
    let run = the_run(&sandbox);
    let commands = json_of(&run, "commands.json");
    let commands = commands["commands"].as_array().unwrap();
    let purposes: Vec<&str> = commands.iter().map(|command| command["purpose"].as_str().unwrap()).collect();
    assert_eq!(
        purposes,
        [
            "the workload alone",
            "nsys profile all",
            "nsys export all",
            "ncu sections",
            "ncu metrics",
            "ncu kernel 1",
            "ncu details page of ncu/01"
        ]
    );
    for command in commands {
        assert_eq!((&command["state"], &command["exit_code"]), (&json!("ended"), &json!(0)), "{command}");
        assert!(command["took_s"].as_f64().unwrap() >= 0.0 && run.join(command["stderr"].as_str().unwrap()).exists());
    }
    assert_eq!(commands[1]["version"], "2025.5.2.266-255236693005v0");
    assert_eq!(commands[5]["version"], "2025.3.1.0");
    let words = |at: usize| -> Vec<&str> {
        commands[at]["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
    };
    let nsys = words(1);
    assert_eq!(
        &nsys[1..6],
        ["profile", "--trace=cuda,nvtx,osrt", "--cuda-graph-trace=node", "--sample=none", "--cpuctxsw=none"]
    );
    assert!(nsys.contains(&"stage1") && nsys.contains(&"run.id=traced-all"), "{nsys:?}");
    let ncu = words(5).join(" ");
    for part in [
        "--target-processes all",
        "--replay-mode kernel",
        "--kernel-name regex:^gemv_f16$",
        "--launch-skip 1 --launch-count 1",
        "--section SpeedOfLight ",
        "--csv --page raw",
        "--metrics gpu__time_duration.sum,",
    ] {
        assert!(ncu.contains(part), "`{part}` is not in `{ncu}`");
    }
    // What the tools were given is what is recorded.
    assert!(tools.calls().contains(&format!("nsys {}", nsys[1..].join(" "))));
    let text = text_of(&run, "commands.md");
    assert!(text.contains("## ncu kernel 1") && text.contains("'regex:^gemv_f16$'"), "{text}");
}

#[test]
fn reports_are_made_again_from_what_the_tools_left() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    finish(tools.stage2(&sandbox, &["run.id=mine", "run.tag=here", "stage2.ncu.top_n=1"])).exits(0);
    let run = the_run(&sandbox);
    let before = json_of(&run, "metrics.json");
    for name in ["metrics.json", "report.html", "kernels.md", "MANIFEST.json"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    // Neither tool is needed any more.
    let answer = finish(sandbox.command(&["report", "here"])).exits(0);
    assert!(answer.stdout.contains("stage2 mine"), "{}", answer.stdout);
    assert_eq!(json_of(&run, "metrics.json"), before);
    assert!(text_of(&run, "kernels.md").contains("## What bounds them"));
    sandbox.run(&["runs", "verify", "here"]).exits(0);
    let listed = sandbox.run(&["runs", "list", "--command", "stage2", "--json"]).exits(0).json();
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["run_id"], &listed[0]["status"]),
        (1, &json!("mine"), &json!("complete"))
    );
    // The timeline is an ordinary one.
    let analyzed = sandbox.run(&["analyze", &run.join("trace.sqlite").display().to_string(), "--json"]).exits(0).json();
    assert_eq!(analyzed["coverage"]["kernels"], before["captures"][0]["analysis"]["coverage"]["kernels"]);
}

#[test]
fn the_console_says_what_bounds_the_kernels_and_hostile_names_stay_text() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let mut b = TimelineBuilder::new();
    let process = b.process(77);
    let thread = b.thread(process, 77);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    for id in 1..=4 {
        let begin = 1_000_000 + i64::from(id) * 20_000;
        b.call(thread, "cuLaunchKernel", begin, begin + 1_000, id);
        b.kernel(
            stream,
            "evil</script><img src=x onerror=alert(1)>|`\u{1b}]0;x\u{7}",
            begin + 2_000,
            begin + 9_000,
            id,
        );
    }
    tools.trace(&b.finish());
    let answer = finish(tools.stage2(&sandbox, &["--color", "never"])).exits(0);
    assert!(!answer.stdout.contains('\u{1b}'), "{}", answer.stdout);
    let run = the_run(&sandbox);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["kernels"][0]["outcome"], "no_kernels");
    for name in ["report.html", "kernels.md", "report.md", "commands.md"] {
        let text = text_of(&run, name);
        // Commands stand in a fenced block, where markup is text.
        assert!(name == "commands.md" || !text.contains("<img"), "{name}");
        assert!(!text.contains('\u{1b}'), "{name}");
    }
    let page = text_of(&run, "report.html");
    assert!(page.contains("perfprof <span>stage2</span>") && page.contains("id=\"profiled\""));

    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let answer = finish(tools.stage2(&sandbox, &["stage2.ncu.top_n=1"])).exits(0);
    let text = answer.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("gemv_f16, the costliest kernel of decode") && text.contains("is bound by memory"), "{text}");
    assert!(text.contains("Cost of tracing") && text.contains("2 of 2"), "{text}");
}

#[test]
fn any_program_can_be_profiled() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let mark = sandbox.path().join("ran");
    let script = format!("echo \"$0 $1\" >> {}", mark.display());
    let mut command = tools.perfprof(&sandbox, &["stage2", "stage2.ncu.top_n=1", "stage2.ncu.gate=nvtx", "--json"]);
    command.args([
        "model=synthetic-llama-2-7b",
        "model.dtype=f16",
        "batch=1",
        "prompt_tokens=512",
        "--",
        "sh",
        "-c",
        &script,
        "a b",
        "$(x)",
    ]);
    let metrics = finish(command).exits(0).json();
    fits_the_schemas(&json_of(&the_run(&sandbox), "metrics.json"));
    // Alone, under nsys, and once for each of two kernels; arguments stay whole.
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "a b $(x)\n".repeat(4));
    assert!(metrics["workload"]["program"][0].as_str().unwrap().ends_with("/sh"));
    assert_eq!(metrics["overhead"][0]["basis"], "wall_s");
    assert_eq!(metrics["workload"]["model"]["name"], "synthetic-llama-2-7b");
    assert!(metrics["captures"][0]["analysis"]["modelled"]["phases"][0]["mbu"].as_f64().is_some());
    assert!(tools.calls().iter().any(|call| call.contains("--nvtx --nvtx-include decode/")), "{:?}", tools.calls());
    // The report of another program holds its environment, and is not kept.
    assert!(!the_run(&sandbox).join("nsys/all.nsys-rep").exists());
    let refused = |arguments: &[&str]| finish(tools.perfprof(&sandbox, arguments));
    refused(&["stage2", "--", "no-such-program"]).exits(2).says(&["no-such-program"]);
    refused(&["stage2", "repeats=3", "--", "sh"]).exits(1).says(&["repeats=3", "means nothing"]);
}

#[test]
fn each_range_can_have_a_capture_of_its_own() {
    let sandbox = Sandbox::new();
    // The second range never begins: no report is written, and the tool ends well all the same.
    let tricks = Tricks { nsys_after: "case \"$range\" in never*) exit 0 ;; esac", ..Tricks::default() };
    let tools = FakeTools::new(&sandbox, tricks);
    let settings = ["stage2=per_phase", "stage2.ncu.top_n=1", "--json"];
    let metrics = finish(tools.stage2(&sandbox, &settings)).exits(0).json();
    let run = the_run(&sandbox);
    fits_the_schemas(&json_of(&run, "metrics.json"));
    let names: Vec<&Value> = metrics["captures"].as_array().unwrap().iter().map(|capture| &capture["name"]).collect();
    assert_eq!(names, [&json!("prefill"), &json!("decode")]);
    let calls = tools.calls();
    for range in ["prefill@perfprof", "decode@perfprof"] {
        let gate = format!(
            "--capture-range=nvtx --nvtx-capture={range} --capture-range-end=stop --env-var=NSYS_NVTX_PROFILER_REGISTER_ONLY=0"
        );
        assert!(calls.iter().any(|call| call.contains(&gate)), "{calls:?}");
    }
    assert!(calls.iter().any(|call| call.contains("--nvtx-include perfprof@decode/")), "{calls:?}");
    for name in ["report.html", "operators.md", "kernels.csv", "trace.sqlite", "metrics.json"] {
        assert!(run.join("captures/decode").join(name).exists(), "{name}");
    }
    assert!(metrics["overhead"].as_array().unwrap().is_empty(), "a part of a run is not compared with the whole");
    assert!(text_of(&run, "report.md").contains("captures/prefill/report.html"));

    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, tricks);
    let ranges = "stage2.nsys.ranges=[decode@perfprof,never@perfprof]";
    let metrics = finish(tools.stage2(&sandbox, &["stage2=per_phase", ranges, "stage2.ncu.enabled=false", "--json"]))
        .exits(3)
        .json();
    assert!(metrics["captures"][0]["error"].is_null());
    let error = metrics["captures"][1]["error"].as_str().unwrap();
    assert!(error.contains("`never@perfprof` never began"), "{error}");
    assert_eq!(metrics["validity"]["status"], "INVALID");
}

// Tools that are missing, refuse, fail, or hang.

#[test]
fn without_nsys_the_run_fails_with_advice_and_keeps_what_there_is() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default()).without("nsys");
    finish(tools.stage2(&sandbox, &[]))
        .exits(2)
        .says(&["no timeline", "`nsys` is not on PATH"])
        .hints("install Nsight Systems");
    let run = the_run(&sandbox);
    let record = json_of(&run, "run.json");
    assert_eq!(record["status"], "failed");
    assert!(record["error"].as_str().unwrap().contains("nsys"));
    let metrics = json_of(&run, "metrics.json");
    fits_the_schemas(&metrics);
    assert_eq!((&metrics["status"], metrics["captures"].as_array().unwrap().len()), (&json!("failed"), 0));
    assert!(metrics["workload"]["plain"]["total_ms"].as_f64().unwrap() > 0.0, "the plain run is there");
    assert!(run.join("env.json").exists() && run.join("runs/stage1/plain/metrics.json").exists());
    assert!(text_of(&run, "report.md").contains("Nothing was profiled"));
    assert!(!tools.calls().iter().any(|call| call.contains("--launch-skip")), "ncu has nothing to choose from");
}

#[test]
fn another_program_called_nsys_is_not_used() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let other = sandbox.write("other/nsys", "#!/bin/sh\necho 'nsys: network status, version 1.2'\n");
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let setting = format!("stage2.nsys.path={}", other.display());
    finish(tools.stage2(&sandbox, &[&setting])).exits(2).says(&["network status", "--version"]);
}

#[test]
fn without_ncu_the_timeline_stands_and_the_counters_are_missed() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default()).without("ncu");
    let metrics = finish(tools.stage2(&sandbox, &["--json"])).exits(0).json();
    assert_eq!(metrics["status"], "complete");
    assert!(metrics["captures"][0]["analysis"]["coverage"]["kernels"].as_u64().unwrap() > 0);
    let found = metrics["diagnostics"].as_array().unwrap().iter().find(|one| one["code"] == "ncu_missing").unwrap();
    assert!(found["first"].as_str().unwrap().contains("install Nsight Compute"), "{found}");
    assert!(text_of(&the_run(&sandbox), "kernels.md").contains("install Nsight Compute"));
}

#[test]
fn counters_kept_for_root_are_asked_for_once_and_come_with_advice() {
    let sandbox = Sandbox::new();
    let refuse = "echo '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the target device 0.' >&3; exit 1";
    let tools = FakeTools::new(&sandbox, Tricks { ncu_before: refuse, ..Tricks::default() });
    let metrics = finish(tools.stage2(&sandbox, &["stage2.ncu.top_n=2", "--json"])).exits(0).json();
    let outcomes: Vec<String> = profiled(&metrics).into_iter().map(|kernel| kernel.2).collect();
    assert_eq!(outcomes, ["no_permission", "not_run", "not_run", "not_run"]);
    assert_eq!(tools.calls().iter().filter(|call| call.contains("--launch-skip")).count(), 1);
    let found = metrics["diagnostics"].as_array().unwrap().iter().find(|one| one["code"] == "ncu_permission").unwrap();
    assert!(found["first"].as_str().unwrap().contains("NVreg_RestrictProfilingToAdminUsers=0"), "{found}");
}

#[test]
fn a_kernel_that_is_not_met_is_tried_once_more_and_does_not_stop_the_others() {
    let sandbox = Sandbox::new();
    // The gate hides the kernel, and so does its demangled name: as of versions that print it in yet another way.
    let hide = "if [ \"$base\" = demangled ]; then case \"$filter\" in *mul_mat_q*) filter='^nothing$' ;; esac; fi; \
                case \"$filter\" in *gemv*) echo '==ERROR== Profiling failed because a driver resource was unavailable.' >&3; exit 1 ;; esac";
    let tools = FakeTools::new(&sandbox, Tricks { ncu_before: hide, ..Tricks::default() });
    let metrics =
        finish(tools.stage2(&sandbox, &["stage2.ncu.top_n=3", "stage2.ncu.phases=[decode]", "--json"])).exits(0).json();
    let kernels: Vec<(String, String)> = profiled(&metrics).into_iter().map(|kernel| (kernel.1, kernel.2)).collect();
    let row = |name: &str, outcome: &str| (name.to_owned(), outcome.to_owned());
    assert_eq!(kernels, [row("gemv_f16", "failed"), row(MMQ, "ok"), row("rms_norm_f32", "ok")]);
    let [gemv, mmq, norm] = &metrics["kernels"].as_array().unwrap()[..] else { panic!("three kernels") };
    assert!(gemv["error"].as_str().unwrap().contains("driver resource was unavailable"), "{gemv}");
    assert_eq!((&mmq["retried"], &norm["retried"]), (&json!(true), &json!(false)));
    let again = tools.calls().into_iter().find(|call| call.contains("--kernel-name-base mangled")).unwrap();
    assert!(
        again.contains("regex:^_Z9mul_mat_qIL9ggml_type8ELi128ELb0EEvPKcPf$") && again.contains("--launch-skip 0"),
        "{again}"
    );
    assert!(!again.contains("--section") && !again.contains("--metrics"), "{again}");
    assert!(mmq["counters"]["duration"]["mean_ns"].as_f64().is_some());
}

#[test]
fn a_capture_that_fails_leaves_its_words_and_a_failed_run() {
    for (tricks, said) in [
        (
            Tricks { nsys_before: "echo 'Agent launcher failed.' >&2; exit 1", ..Tricks::default() },
            "Agent launcher failed.",
        ),
        (Tricks { nsys_export: "echo 'Failed to export: bad report' >&2; exit 2", ..Tricks::default() }, "bad report"),
        (
            Tricks { nsys_export: "head -c 9000 \"$here/trace.sqlite\" > \"$out\"; exit 0", ..Tricks::default() },
            "the exported timeline cannot be",
        ),
        (Tricks { nsys_export: "exit 0", ..Tricks::default() }, "wrote no file"),
    ] {
        let sandbox = Sandbox::new();
        let tools = FakeTools::new(&sandbox, tricks);
        finish(tools.stage2(&sandbox, &[])).exits(2).says(&[said]).hints("logs/");
        let run = the_run(&sandbox);
        assert_eq!(json_of(&run, "run.json")["status"], "failed");
        let metrics = json_of(&run, "metrics.json");
        assert!(metrics["captures"][0]["error"].as_str().unwrap().contains(said), "{metrics}");
        assert!(metrics["captures"][0]["analysis"].is_null() && !run.join("trace.sqlite").exists());
        assert!(run.join("logs/nsys-all.err").exists() && run.join("report.html").exists());
        assert!(!tools.calls().iter().any(|call| call.contains("--launch-skip")));
    }
}

#[test]
fn a_workload_that_does_not_run_alone_is_not_profiled() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    finish(tools.perfprof(&sandbox, &["stage2", "--", "sh", "-c", "echo broken >&2; exit 9"]))
        .exits(2)
        .says(&["exit code 9", "broken"])
        .hints("by itself first");
    assert!(!tools.calls().iter().any(|call| call.starts_with("nsys profile")), "{:?}", tools.calls());
    assert_eq!(json_of(&the_run(&sandbox), "run.json")["status"], "failed");
}

#[test]
fn a_timeline_without_gpu_work_is_invalid_and_nothing_is_profiled() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let mut b = TimelineBuilder::new();
    let process = b.process(77);
    let thread = b.thread(process, 77);
    b.call(thread, "cudaMalloc_v3020", 1_000, 2_000, 1);
    tools.trace(&b.finish());
    let metrics = finish(tools.stage2(&sandbox, &["--json"])).exits(3).json();
    assert_eq!(metrics["status"], "invalid");
    assert!(codes(&metrics).contains(&"ncu_skipped".to_owned()), "{:?}", codes(&metrics));
    assert!(!tools.calls().iter().any(|call| call.contains("--launch-skip")));
}

fn is_gone(pid: &str) -> bool {
    // A killed process is a zombie until its parent collects it.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_tool_that_hangs_meets_its_limit_with_all_it_started() {
    let sandbox = Sandbox::new();
    let hang = "setsid sh -c 'sleep 600 & echo $! > \"$0/far\"; wait' \"$here\" & sleep 600";
    let tools = FakeTools::new(&sandbox, Tricks { nsys_before: hang, ..Tricks::default() });
    let began = Instant::now();
    finish(tools.stage2(&sandbox, &["stage2.nsys.timeout_s=2", "stage2.plain=false"]))
        .exits(2)
        .says(&["`nsys profile` did not end within 2 s"]);
    assert!(began.elapsed() < Duration::from_mins(1));
    let pid = std::fs::read_to_string(tools.folder().join("far")).unwrap();
    until("the far child to end", || is_gone(&pid));
    let commands = json_of(&the_run(&sandbox), "commands.json");
    assert_eq!(commands["commands"][0]["state"], "over_limit");
}

#[test]
fn an_interrupt_ends_the_tools_and_keeps_what_was_finished() {
    let sandbox = Sandbox::new();
    // The first profile ends, the second waits for ever.
    let wait = "if [ -e \"$here/once\" ]; then echo $$ > \"$here/waits\"; trap '' INT; sleep 600 & echo $! > \"$here/child\"; wait; sleep 600; fi; touch \"$here/once\"";
    let tools = FakeTools::new(&sandbox, Tricks { ncu_before: wait, ..Tricks::default() });
    let child = start(tools.stage2(&sandbox, &["stage2.ncu.top_n=1"]));
    let waits = tools.folder().join("child");
    until("the second profile", || waits.metadata().is_ok_and(|data| data.len() > 0));
    // SAFETY: a plain system call; the process has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let ended = crate::sandbox::outcome(child.wait_with_output().unwrap()).exits(130);
    assert!(!ended.stderr.contains("error:"), "{}", ended.stderr);
    for name in ["waits", "child"] {
        let pid = std::fs::read_to_string(tools.folder().join(name)).unwrap();
        until("the tool to end", || is_gone(&pid));
    }
    let run = the_run(&sandbox);
    assert_eq!(json_of(&run, "run.json")["status"], "interrupted");
    let metrics = json_of(&run, "metrics.json");
    fits_the_schemas(&metrics);
    assert_eq!(
        (&metrics["status"], profiled(&metrics).len()),
        (&json!("interrupted"), 1),
        "the finished profile is there"
    );
    assert!(metrics["captures"][0]["analysis"].is_object());
    let commands = json_of(&run, "commands.json");
    assert_eq!(commands["commands"].as_array().unwrap().last().unwrap()["state"], "interrupted");
}

#[test]
fn a_killed_run_is_rebuilt_from_what_it_had() {
    let sandbox = Sandbox::new();
    let wait = "echo $$ > \"$here/waits\"; exec sleep 600";
    let tools = FakeTools::new(&sandbox, Tricks { ncu_before: wait, ..Tricks::default() });
    let mut child = start(tools.stage2(&sandbox, &["run.id=killed"]));
    let waits = tools.folder().join("waits");
    until("the first profile", || waits.metadata().is_ok_and(|data| data.len() > 0));
    child.kill().unwrap();
    child.wait().unwrap();
    let pid = std::fs::read_to_string(&waits).unwrap();
    until("the tool to end with its parent", || is_gone(&pid));
    finish(sandbox.command(&["report", "killed"])).exits(3);
    let metrics = json_of(&the_run(&sandbox), "metrics.json");
    assert_eq!(metrics["status"], "interrupted");
    assert!(metrics["captures"][0]["analysis"]["coverage"]["kernels"].as_u64().unwrap() > 0);
}

#[test]
fn secrets_of_the_environment_reach_neither_the_tools_nor_the_run() {
    const SECRET: &str = "sentinel-0123456789abcdef";
    let sandbox = Sandbox::new();
    let leak = "env; echo \"token is $SERVICE_API_KEY\"";
    let tools = FakeTools::new(&sandbox, Tricks { nsys_before: leak, ncu_before: leak, ..Tricks::default() });
    let mut command = tools.stage2(&sandbox, &["stage2.ncu.top_n=1"]);
    command.env("SERVICE_API_KEY", SECRET);
    finish(command).exits(0);
    let run = the_run(&sandbox);
    assert!(std::fs::read(run.join("nsys/all.nsys-rep")).is_ok(), "reports of stage1 are kept");
    nothing_holds(&run, SECRET);

    // Another program may need its secrets; they stay out of the run all the same.
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks { nsys_before: leak, ..Tricks::default() });
    let mut command = tools.perfprof(&sandbox, &["stage2", "stage2.ncu.enabled=false"]);
    command
        .args(["--", "sh", "-c", "test -n \"$SERVICE_API_KEY\" && echo $SERVICE_API_KEY", "--token", SECRET])
        .env("SERVICE_API_KEY", SECRET);
    finish(command).exits(0);
    nothing_holds(&the_run(&sandbox), SECRET);
}

#[track_caller]
fn nothing_holds(folder: &Path, secret: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nothing_holds(&path, secret);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn wrong_settings_are_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let refused = |settings: &[&str]| finish(tools.stage2(&sandbox, settings)).exits(1);
    refused(&["stage2.ncu.topn=3"]).says(&["stage2.ncu.topn"]).hints("stage2.ncu.top_n");
    refused(&["stage2.ncu.preset=most"]).says(&["stage2.ncu.preset", "`most`", "memory"]);
    refused(&["stage2.ncu.top_n=0"]).says(&["stage2.ncu.top_n"]);
    refused(&["stage2.nsys.enabled=false", "stage2.ncu.enabled=false"]).says(&["neither nsys nor ncu"]);
    refused(&["stage2.nsys.capture=nvtx", "stage2.nsys.ranges=[]"]).says(&["stage2.nsys.ranges"]);
    refused(&["stage2=nothing"]).says(&["nothing"]).hints("per_phase");
    refused(&["trace=cupti"]).says(&["trace=cupti"]);
    refused(&["repeat=3"]).says(&["repeat"]).hints("repeats");
    let file = sandbox.write("run.yaml", "repeats: 2\nstage2:\n  plain: false\n");
    sandbox.write("configs/run/with.yaml", std::fs::read(file).unwrap());
    refused(&["run=with"]).says(&["`stage2` cannot stand in a run file"]);
    assert!(!sandbox.path().join("tmp").exists());
    assert!(!tools.calls().iter().any(|call| call.contains("profile")));
    let shown = finish(tools.stage2(&sandbox, &["stage2.ncu.top_n=7", "--print-config"])).exits(0).stdout;
    let line = shown.lines().find(|line| line.contains("top_n: 7")).unwrap();
    assert!(line.contains("override") && shown.contains("configs/stage2/default.yaml"), "{shown}");
    assert!(!sandbox.path().join("tmp").exists());
    let sandbox = Sandbox::new();
    sandbox.run(&["validate", "--set", "stage2.ncu.top_n=7"]).exits(0);
    sandbox.run(&["validate", "--set", "stage2.ncu.top_n=x"]).exits(1);
}

#[test]
fn without_a_timeline_ncu_profiles_what_comes() {
    let sandbox = Sandbox::new();
    let tools = FakeTools::new(&sandbox, Tricks::default());
    let settings = ["stage2.nsys.enabled=false", "stage2.ncu.top_n=16", "stage2.ncu.launch_skip=0", "--json"];
    let metrics = finish(tools.stage2(&sandbox, &settings)).exits(0).json();
    fits_the_schemas(&json_of(&the_run(&sandbox), "metrics.json"));
    assert!(metrics["captures"].as_array().unwrap().is_empty());
    // Of the launches of all kernels the first 16.
    let kernels = metrics["kernels"].as_array().unwrap();
    let found: Vec<(&str, &Value)> =
        kernels.iter().map(|kernel| (kernel["full_name"].as_str().unwrap(), &kernel["counters"]["launches"])).collect();
    let mmq = "void mul_mat_q<8, 128, 0>(const char *, float *)";
    assert_eq!(found, [(mmq, &json!(14)), ("void flash_fwd<128>(Params)", &json!(2))]);
    assert!(kernels.iter().all(|kernel| kernel["phase"].is_null() && kernel["calls"].is_null()));
}
