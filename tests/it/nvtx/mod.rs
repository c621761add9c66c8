//! NVTX ranges and the marked region of a real run, as a tool in its process sees them.
//!
//! The tools are libraries of a few lines of C, compiled here. A build without the feature `nvtx` skips what needs ranges, and says so.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use perfprof::instrument::nvtx::BUILT_IN;

use crate::sandbox::{Sandbox, finish, json_of};

const CASES: &str = "cases=[{name: a, prompt_tokens: 8}, {name: b, prompt_tokens: 4}]";

/// Compiles `source` of this folder to a shared library; `None`, and said, where there is no compiler.
fn library(sandbox: &Sandbox, source: &str, soname: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/nvtx");
    let out = sandbox.path().join(soname);
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1"]).arg(format!("-Wl,-soname,{soname}"));
    match compiler.arg("-o").arg(&out).arg(folder.join(source)).output() {
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            Some(out)
        }
        Err(error) => {
            eprintln!("skipped: no C compiler ({error})");
            None
        }
    }
}

fn lines(sandbox: &Sandbox) -> Vec<String> {
    std::fs::read_to_string(sandbox.path().join("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A run with the listening tool in it, and what the tool was told; `None` where that cannot be.
fn listened(settings: &[&str], with_driver: bool) -> Option<(Sandbox, Vec<String>)> {
    if !BUILT_IN {
        eprintln!("skipped: this build emits no NVTX ranges (feature `nvtx`)");
        return None;
    }
    let sandbox = Sandbox::new();
    let tool = library(&sandbox, "injection.c", "libinjection.so")?;
    let mut command = sandbox.stage1(settings);
    command.env("NVTX_INJECTION64_PATH", tool).env("NVTX_CALLS", sandbox.path().join("calls"));
    if with_driver {
        command.env("LD_PRELOAD", library(&sandbox, "driver.c", "libcuda.so.1")?);
    }
    finish(command).exits(0);
    let lines = lines(&sandbox);
    Some((sandbox, lines))
}

/// A range as the tool saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    depth: usize,
    text: String,
    category: String,
    payload: Option<u64>,
}

/// Every range in order of begin; all must be closed, in one domain, with registered strings.
fn ranges(lines: &[String]) -> Vec<Seen> {
    let (mut domains, mut strings, mut categories) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut seen = Vec::new();
    let mut depth = 0_usize;
    for line in lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let fields: Vec<&str> = rest.split(' ').collect();
        match word {
            "domain" => {
                domains.insert(fields[0].to_owned(), fields[1..].join(" "));
            }
            "string" => {
                let text = fields[2..].join(" ");
                assert!(!strings.values().any(|known| *known == text), "`{text}` is registered twice");
                strings.insert(fields[1].to_owned(), text);
            }
            "category" => {
                categories.insert(fields[1].to_owned(), fields[2..].join(" "));
            }
            "push" => {
                let [domain, category, payload_type, payload, message_type, message] = fields[..] else {
                    panic!("{line}")
                };
                assert_eq!(domains[domain], "perfprof");
                assert_eq!(message_type, "3", "a registered string: {line}");
                // 1 is an unsigned integer of 64 bits, 0 none.
                let payload = match payload_type {
                    "1" => Some(payload.parse().unwrap()),
                    "0" => None,
                    other => panic!("payload of type {other}"),
                };
                seen.push(Seen {
                    depth,
                    text: strings[message].clone(),
                    category: categories[category].clone(),
                    payload,
                });
                depth += 1;
            }
            "pop" => depth = depth.checked_sub(1).expect("no pop without its push"),
            _ => {}
        }
    }
    assert_eq!(depth, 0, "every range is closed");
    seen
}

/// What one repeat of the tiny model has to emit: two layers, 5 tokens, q, k and v apart, no norms of heads.
fn expected_repeat(row: u64, with_operators: bool) -> Vec<Seen> {
    let seen = |depth, text: &str, category: &str, payload| Seen {
        depth,
        text: text.to_owned(),
        category: category.to_owned(),
        payload,
    };
    let mut all = vec![seen(0, "request", "request", Some(row))];
    for step in 0..5 {
        let phase = if step == 0 { "prefill" } else { "decode" };
        all.push(seen(1, phase, "phase", Some(step)));
        if !with_operators {
            continue;
        }
        all.push(seen(2, "embed_tokens", "operator", None));
        for layer in 0..2 {
            let at = Some(layer);
            all.push(seen(2, &format!("layers.{layer}"), "layer", at));
            all.push(seen(3, "input_layernorm", "operator", at));
            all.push(seen(3, "self_attn", "module", at));
            for part in ["q_proj", "k_proj", "v_proj", "rotary_emb", "kv_write", "attention", "o_proj"] {
                all.push(seen(4, &format!("self_attn.{part}"), "operator", at));
            }
            all.push(seen(3, "residual", "operator", at));
            all.push(seen(3, "post_attention_layernorm", "operator", at));
            all.push(seen(3, "mlp", "module", at));
            for part in ["gate_proj", "up_proj", "act_fn", "down_proj"] {
                all.push(seen(4, &format!("mlp.{part}"), "operator", at));
            }
            all.push(seen(3, "residual", "operator", at));
        }
        for part in ["norm", "lm_head", "sampler"] {
            all.push(seen(2, part, "operator", None));
        }
    }
    all
}

fn expected(warmups: u64, rows: u64, with_operators: bool) -> Vec<Seen> {
    let warmup = |n| Seen { depth: 0, text: "warmup".to_owned(), category: "request".to_owned(), payload: Some(n) };
    (0..warmups).map(warmup).chain((0..rows).flat_map(|row| expected_repeat(row, with_operators))).collect()
}

#[test]
fn a_tool_sees_every_repeat_step_layer_module_and_operator_and_nothing_else() {
    let settings = ["repeats=2", "warmup=2", "profiling.span_repeats=1", "engine.ops=reference"];
    let Some((sandbox, lines)) = listened(&settings, false) else { return };
    // Three rows: one of them records operator spans besides, which must not change what is emitted.
    let (seen, expected) = (ranges(&lines), expected(2, 3, true));
    for (place, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
        assert_eq!(seen, expected, "range {place}");
    }
    assert_eq!(seen.len(), expected.len());
    assert!(lines.iter().any(|line| line.starts_with("thread ") && line.ends_with(" perfprof engine")), "{lines:?}");
    let metrics = json_of(&sandbox.the_run(), "metrics.json").to_string();
    assert!(metrics.contains("nvtx_tool_attached"), "the reader knows that a tool was there");
}

#[test]
fn phases_alone_are_emitted_where_they_are_asked_for_even_beside_operator_spans() {
    let settings = ["repeats=1", "warmup=1", "profiling.span_repeats=1", "profiling.nvtx=phases"];
    let Some((_sandbox, lines)) = listened(&settings, false) else { return };
    assert_eq!(ranges(&lines), expected(1, 2, false));
}

#[test]
fn nothing_is_emitted_where_that_is_asked_for() {
    let Some((sandbox, lines)) = listened(&["profiling.nvtx=off"], false) else { return };
    assert_eq!(ranges(&lines), []);
    assert!(!json_of(&sandbox.the_run(), "metrics.json").to_string().contains("nvtx"));
}

#[test]
fn without_a_tool_the_cost_of_a_range_is_measured_and_told() {
    if !BUILT_IN {
        eprintln!("skipped: this build emits no NVTX ranges (feature `nvtx`)");
        return;
    }
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&[])).exits(0);
    let notes = json_of(&sandbox.the_run(), "context.json")["notes"].to_string();
    let before = notes.split(" ns without a tool attached").next().unwrap();
    let ns: f64 = before.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{notes}"));
    assert!(ns > 0.0 && ns < 100_000.0, "{notes}");
    assert!(notes.contains("NVTX ranges of repeats and phases"), "{notes}");
}

#[test]
fn a_build_without_ranges_refuses_them_and_warns_where_a_tool_listens() {
    if BUILT_IN {
        eprintln!("skipped: this build emits NVTX ranges");
        return;
    }
    let sandbox = Sandbox::new();
    for word in ["phases", "all"] {
        let setting = format!("profiling.nvtx={word}");
        finish(sandbox.stage1(&[&setting])).exits(1).says(&[&setting, "--features nvtx"]);
    }
    sandbox.made_no_run();
    let mut command = sandbox.stage1(&["profiling.nvtx=off"]);
    command.env("NVTX_INJECTION64_PATH", "/nowhere/libtool.so");
    finish(command).exits(0);
    let mut command = sandbox.stage1(&[]);
    command.env("NVTX_INJECTION64_PATH", "/nowhere/libtool.so");
    finish(command).exits(0);
    let warned: Vec<bool> = sandbox
        .runs()
        .iter()
        .map(|run| json_of(run, "metrics.json").to_string().contains("nvtx_not_built_in"))
        .collect();
    assert_eq!(warned, [false, true], "asked for none; a tool listens in vain");
}

#[test]
#[cfg(target_os = "linux")]
fn the_measured_repeats_of_all_cases_are_one_marked_region_without_the_warm_up() {
    let sandbox = Sandbox::new();
    let Some(driver) = library(&sandbox, "driver.c", "libcuda.so.1") else { return };
    let run = |settings: &[&str]| {
        std::fs::remove_file(sandbox.path().join("calls")).ok();
        let mut command = sandbox.stage1(settings);
        command.env("LD_PRELOAD", &driver).env("NVTX_CALLS", sandbox.path().join("calls"));
        finish(command)
    };
    run(&["repeats=2", "warmup=1", CASES, "prompt_tokens=null"]).exits(0);
    assert_eq!(lines(&sandbox), ["profiler_start", "profiler_stop"]);
    // Without a driver there is nothing to tell.
    std::fs::remove_file(sandbox.path().join("calls")).unwrap();
    let mut command = sandbox.stage1(&[]);
    command.env("NVTX_CALLS", sandbox.path().join("calls"));
    finish(command).exits(0);
    assert_eq!(lines(&sandbox), [""; 0]);

    // Where ranges are emitted too, the order shows that warming up lies outside.
    let Some((_sandbox, lines)) = listened(&["repeats=1", "warmup=1", "profiling.nvtx=phases"], true) else { return };
    let at = |text: &str| lines.iter().position(|line| line.starts_with(text)).unwrap();
    let last_pop = lines.iter().rposition(|line| line.starts_with("pop")).unwrap();
    let first_pop = at("pop");
    assert!(at("push") < first_pop && first_pop < at("profiler_start"), "{lines:?}");
    assert!(at("profiler_start") < last_pop && last_pop < at("profiler_stop"), "{lines:?}");
}
