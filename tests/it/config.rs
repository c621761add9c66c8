//! Composition as a user meets it: files, groups, run files, overrides, and what is said when something is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use perfprof::config::compose::{ComposeRequest, Composed, compose};
use perfprof::config::schema::choice::{DeviceChoice, InferMode, ModelSource, OpsChoice, Switch};
use perfprof::config::schema::keys::{self, Key, Kind};
use perfprof::config::schema::load::LOAD;
use perfprof::config::schema::stage1::Stage1Config;
use perfprof::config::schema::stage2::STAGE2_BLOCK;
use perfprof::config::schema::study::STUDY;
use perfprof::config::study::StudyRequest;
use perfprof::config::{self, ConfigError};
use perfprof::diagnostics::Failure;
use perfprof::estimate::format::Format;
use proptest::prelude::*;

fn request(overrides: &[&str]) -> ComposeRequest {
    ComposeRequest {
        command: "stage1".to_owned(),
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        run_config: None,
        config_dir: None,
    }
}

fn composed(overrides: &[&str]) -> Composed {
    compose(&request(overrides)).unwrap_or_else(|error| panic!("{overrides:?}: {error}"))
}

fn stage1(overrides: &[&str]) -> Stage1Config {
    composed(overrides).stage1().unwrap_or_else(|error| panic!("{overrides:?}: {error}"))
}

/// The error, followed by its hints, as the command edge prints them.
fn refusal(request: &ComposeRequest) -> String {
    let error = compose(request).and_then(|composed| composed.stage1()).expect_err(&format!("{request:?}"));
    text_of(error)
}

fn text_of(error: ConfigError) -> String {
    perfprof::diagnostics::render_error(&anyhow::Error::new(Failure::from(error)))
}

fn refused(overrides: &[&str]) -> String {
    refusal(&request(overrides))
}

/// A directory with these files.
fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory can be made");
        std::fs::write(path, text).expect("a file can be written");
    }
    directory
}

fn with_dir(directory: &Path, overrides: &[&str]) -> ComposeRequest {
    ComposeRequest { config_dir: Some(directory.to_owned()), ..request(overrides) }
}

fn with_run(file: PathBuf, overrides: &[&str]) -> ComposeRequest {
    ComposeRequest { run_config: Some(file), ..request(overrides) }
}

#[test]
fn nothing_given_is_the_synthetic_model() {
    let config = stage1(&[]);
    assert_eq!(config.model.name, "synthetic");
    assert_eq!(config.model.source, ModelSource::Synthetic);
    assert_eq!(config.model.dtype, Some(Format::F32));
    let shape = config.model.architecture.unwrap();
    assert_eq!((shape.hidden_size, shape.num_layers, shape.num_heads, shape.num_kv_heads), (256, 8, 8, 4));
    assert_eq!(config.device, DeviceChoice::Auto);
    assert_eq!(config.engine.cuda_graph, Switch::Off);
    assert!(config.infer.ignore_eos);
}

#[test]
fn the_documented_overrides_arrive() {
    let config = stage1(&[
        "model=smollm2",
        "model.dtype=bfloat16",
        "device=cuda",
        "repeats=3",
        "warmup=0",
        "infer.max_new_tokens=64",
        "infer.mode=two_pass",
        "infer.temperature=0.7",
        "infer.top_p=0.9",
        "prompt_tokens=256",
        "batch=2",
        "dataset.root=prompts",
        "engine=fused",
        "engine.threads=3",
        "engine.cuda_graph=on",
        "trace=spans",
        "torch_profiler.activities=[cpu,cuda]",
        "hardware.peak_tflops=989.4",
        "run.tag=007",
        "run.notes='a, b'",
    ]);
    assert_eq!(config.model.path.as_deref(), Some(Path::new("models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")));
    assert_eq!(config.model.name, "smollm2");
    assert_eq!(config.model.dtype, Some(Format::BF16));
    assert_eq!(config.device, DeviceChoice::Cuda(0));
    assert_eq!((config.repeats, config.warmup, config.batch), (3, 0, 2));
    assert_eq!((config.infer.max_new_tokens, config.infer.mode), (64, InferMode::TwoPass));
    assert_eq!((config.infer.temperature, config.infer.top_p), (0.7, Some(0.9)));
    assert_eq!(config.prompt_tokens, Some(256));
    assert_eq!((config.engine.ops, config.engine.threads), (OpsChoice::Fused, Some(3)));
    assert!(config.engine.cuda_graph.is_on());
    assert_eq!(config.torch_profiler.activities.len(), 2);
    assert_eq!(config.hardware.peak_tflops, Some(989.4));
    assert_eq!(config.run.tag.as_deref(), Some("007"), "a tag is what was typed, and no number");
    assert_eq!(config.run.notes.as_deref(), Some("a, b"));
}

#[test]
fn a_path_alone_replaces_the_default_model() {
    let config = stage1(&["model.path=some/dir/Tiny.Q8_0.gguf"]);
    assert_eq!(config.model.name, "Tiny.Q8_0");
    assert_eq!(config.model.source, ModelSource::Auto);
    assert!(config.model.architecture.is_none() && config.model.dtype.is_none());
    assert_eq!(stage1(&["model.path=some/dir/"]).model.name, "dir");
    assert_eq!(stage1(&["run=quick", "model.path=m.gguf"]).model.name, "m", "an override stands above a run file");
    let text = refused(&["model=synthetic", "model.path=x.gguf"]);
    assert!(text.contains("model.source") && text.contains("override 2: model.path=x.gguf"), "{text}");
}

#[test]
fn published_shapes_have_the_published_number_of_parameters() {
    // Totals of the checkpoints' safetensors indices on the Hugging Face hub.
    for (name, parameters) in [
        ("synthetic-smollm2-135m", 134_515_008_u64),
        ("synthetic-llama-2-7b", 6_738_415_616),
        ("synthetic-llama-3-8b", 8_030_261_248),
        ("synthetic-mistral-7b", 7_241_732_096),
        ("synthetic-qwen2.5-0.5b", 494_032_768),
        ("synthetic-qwen2.5-7b", 7_615_616_512),
        ("synthetic-qwen3-0.6b", 596_049_920),
        ("synthetic-qwen3-8b", 8_190_735_360),
        ("synthetic-tinyllama-1.1b", 1_100_048_384),
    ] {
        let shape = stage1(&[&format!("model={name}")]).model.architecture.unwrap();
        let (hidden, q, kv) = (shape.hidden_size, shape.q_width(), shape.kv_width());
        let mut layer = hidden * q + 2 * hidden * kv + q * hidden + 3 * hidden * shape.intermediate_size + 2 * hidden;
        if shape.qkv_bias {
            layer += q + 2 * kv;
        }
        if shape.o_bias {
            layer += hidden;
        }
        if shape.qk_norm {
            layer += 2 * shape.head_dim;
        }
        let embeddings = if shape.tie_word_embeddings { 1 } else { 2 };
        let total = layer * shape.num_layers + embeddings * shape.vocab_size * hidden + hidden;
        assert_eq!(total as u64, parameters, "{name}");
    }
}

#[test]
fn every_choice_of_every_group_composes() {
    for group in config::catalog(None).unwrap() {
        if !["model", "hardware", "dataset", "engine", "profiling", "quality", "run"].contains(&group.name.as_str()) {
            continue;
        }
        assert!(!group.choices.is_empty());
        for choice in &group.choices {
            stage1(&[&format!("{}={choice}", group.name)]);
        }
    }
}

#[test]
fn every_preset_of_load_composes_and_every_key_of_it_is_there() {
    let load = |overrides: &[&str]| {
        let request = ComposeRequest { command: "load".to_owned(), ..request(overrides) };
        compose(&request).and_then(|tree| tree.load()).unwrap_or_else(|error| panic!("{overrides:?}: {error}"))
    };
    let group = config::catalog(None).unwrap().into_iter().find(|group| group.name == "load").unwrap();
    for choice in ["quick", "standard", "heavy", "closed", "open", "slo"] {
        assert!(group.choices.iter().any(|known| known == choice), "{choice}");
        load(&[&format!("load={choice}")]);
    }
    assert_eq!(load(&["load=quick"]).concurrency.0, [1, 2, 4]);
    assert_eq!(load(&["load=standard"]).concurrency.0, [1, 2, 4, 8, 16, 32, 64]);
    assert_eq!(load(&["concurrency=1,2,4-6"]).concurrency.0, [1, 2, 4, 5, 6]);
    assert_eq!(load(&["arrival=poisson", "rate=0.5,2"]).rate, [0.5, 2.0]);
    assert_eq!(load(&["base_url=http://a,http://b"]).base_url, ["http://a", "http://b"]);
    let body = load(&["extra_body.chat_template_kwargs={enable_thinking: false}", "extra_body.seed=3"]).extra_body;
    assert_eq!(serde_json::to_string(&body).unwrap(), r#"{"chat_template_kwargs":{"enable_thinking":false},"seed":3}"#);
}

#[test]
fn what_contradicts_itself_in_a_load_test_is_refused() {
    for (overrides, named) in [
        (&["concurrency=0"][..], "at least one"),
        (&["concurrency=8-4,x"], "`x`"),
        (&["arrival=poisson"], "`rate`"),
        (&["rate=3"], "closed loop"),
        (&["arrival=constant", "rate=-1"], "rate"),
        (&["arrival=series", "rate_series=rates.csv"], "duration_s"),
        (&["arrival=ramp", "rate=1"], "rate_end"),
        (&["find=max_rate", "slo.ttft_ms=3"], "arrival=closed"),
        (&["find=max_concurrency"], "slo.ttft_ms"),
        (&["prompts.input_tokens=normal(3)"], "normal"),
        (&["headers=[Token]"], "`Token`"),
        (&["min_tokens=9", "max_tokens=3"], "min_tokens"),
        (&["slo.ttft=3"], "slo.ttft_ms"),
        (&["timeout=5"], "`timeout.total_s`"),
    ] {
        let request = ComposeRequest { command: "load".to_owned(), ..request(overrides) };
        let error = compose(&request).and_then(|tree| tree.load()).expect_err(&format!("{overrides:?}"));
        let text = format!("{error} {}", error.hints().join(" "));
        assert!(text.contains(named), "{overrides:?}: {text}");
    }
}

#[test]
fn every_file_of_configs_is_embedded_and_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut names = BTreeSet::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.starts_with("# "), "{} does not say what it is for", path.display());
                let name = path.strip_prefix(&root).unwrap().with_extension("").display().to_string();
                if let Some((group, name)) = name.rsplit_once('/') {
                    names.insert((group.to_owned(), name.to_owned()));
                }
            }
        }
    }
    // Without a directory only what is in the binary can be listed.
    let mut embedded: BTreeSet<(String, String)> = config::catalog(None)
        .unwrap()
        .into_iter()
        .flat_map(|group| group.choices.into_iter().map(move |choice| (group.name.clone(), choice)))
        .collect();
    embedded.retain(|choice| choice.0 != "model" || names.contains(choice));
    assert_eq!(embedded, names);
}

#[test]
fn a_file_of_the_user_stands_before_the_embedded_one() {
    let directory = written(&[
        ("engine/default.yaml", "# mine\nops: fused\nthreads: 2\n"),
        ("engine/slow.yaml", "threads: 1\n"),
        ("models.yaml", "mine:\n  path: a/b.gguf\n  dtype_default: fp16\n  local_files_only: True\n"),
    ]);
    let config = compose(&with_dir(directory.path(), &[])).unwrap();
    let typed = config.stage1().unwrap();
    assert_eq!((typed.engine.ops, typed.engine.threads), (OpsChoice::Fused, Some(2)));
    let origin = config.provenance.origin("engine.threads").unwrap().to_string();
    assert_eq!(origin, format!("{}/engine/default.yaml:3", directory.path().display()));
    let typed = compose(&with_dir(directory.path(), &["engine=slow", "model=mine"])).unwrap().stage1().unwrap();
    assert_eq!((typed.engine.ops, typed.engine.threads), (OpsChoice::Reference, Some(1)));
    assert_eq!((typed.model.name.as_str(), typed.model.dtype_default), ("mine", Some(Format::F16)));
    let missing = refusal(&with_dir(&directory.path().join("none"), &[]));
    assert!(missing.contains("cannot read"), "{missing}");
}

#[test]
fn aliases_of_both_registry_forms_work_and_carry_their_lines() {
    let directory =
        written(&[("models.yaml", "models:\n  qwen2.5-x:\n    hf_id: Qwen/X\n    dtype_default: \"float16\"\n")]);
    let config = compose(&with_dir(directory.path(), &["model=qwen2.5-x"])).unwrap();
    assert_eq!(config.stage1().unwrap().model.hf_id.as_deref(), Some("Qwen/X"));
    let origin = config.provenance.origin("model.dtype_default").unwrap().to_string();
    assert!(origin.ends_with("models.yaml:4"), "{origin}");
    let text = refusal(&with_dir(directory.path(), &["model=qwen2.5x"]));
    assert!(text.contains("no model is called `qwen2.5x` (override 1: model=qwen2.5x)"), "{text}");
    assert!(text.contains("did you mean `qwen2.5-x`"), "{text}");
    assert!(text.contains("`synthetic-llama-3-8b`"), "all models are listed: {text}");
    let broken = written(&[("models.yaml", "models:\n  a:\n    hf_id: X/Y\n    local_only: true\n")]);
    let text = refusal(&with_dir(broken.path(), &["model=a"]));
    assert!(text.contains("unknown key `model.local_only`") && text.contains("models.yaml:4"), "{text}");
    assert!(text.contains("`model.local_files_only`"), "{text}");
}

#[test]
fn a_run_file_of_older_tools_is_read() {
    let directory = written(&[(
        "old.yaml",
        "model: smollm2\nbackend: candle\nwarmup: 2\nrepeats: 5\ndtype: float16\ncases:\n  - prompt: Hello\n    new_tokens: 32\n  - prompt: Why?\n    new_tokens: 8\n",
    )]);
    let file = directory.path().join("old.yaml");
    let config = compose(&with_run(file.clone(), &[])).unwrap();
    let typed = config.stage1().unwrap();
    assert_eq!((typed.model.name.as_str(), typed.model.dtype), ("smollm2", Some(Format::F16)));
    assert_eq!((typed.warmup, typed.repeats), (2, 5));
    let cases = typed.effective_cases();
    assert_eq!(cases.len(), 2);
    assert_eq!((cases[1].prompt.as_deref(), cases[1].new_tokens), (Some("Why?"), Some(8)));
    assert!(config.provenance.origin("model.dtype").unwrap().to_string().ends_with("old.yaml:5"));
    assert!(config.provenance.origin("cases.1.new_tokens").unwrap().to_string().ends_with("old.yaml:10"));
    let typed =
        compose(&with_run(file, &["model=synthetic", "repeats=1", "cases.1.new_tokens=9"])).unwrap().stage1().unwrap();
    assert_eq!((typed.model.name.as_str(), typed.repeats, typed.cases[1].new_tokens), ("synthetic", 1, Some(9)));
}

#[test]
fn mistakes_in_a_run_file_name_the_line() {
    for (text, expected) in [
        ("model: smolm2\n", vec!["no model is called `smolm2`", "run.yaml:1", "`smollm2`"]),
        ("model: smollm2\nbackend: vllm\n", vec!["backend `vllm` is not supported", "run.yaml:2", "candle"]),
        ("repeats: 0\n", vec!["`repeats` is `0`: expected a whole number, 1 or more", "run.yaml:1"]),
        ("repeats: many\n", vec!["`repeats` is `many`: expected a whole number", "run.yaml:1"]),
        ("repeat: 3\n", vec!["unknown key `repeat`", "run.yaml:1", "did you mean `repeats`"]),
        (
            "cases:\n  - prompt: a\n    new_token: 3\n",
            vec!["unknown key `cases.0.new_token`", "run.yaml:3", "`cases.0.new_tokens`"],
        ),
        ("cases:\n  - prompt: a\n    new_tokens: 0\n", vec!["`cases.0.new_tokens` is `0`", "run.yaml:3"]),
        ("cases:\n  - prompt: 3\n", vec!["`cases.0.prompt` is `3`: expected text: put it in quotes", "run.yaml:2"]),
        ("cases:\n  - prompt: a\n    prompt_tokens: 3\n", vec!["`cases.0` has both", "run.yaml:3"]),
        ("cases: {prompt: a}\n", vec!["`cases`", "a list of maps", "run.yaml:1"]),
        ("cases: [hello]\n", vec!["cases.0", "hello", "run.yaml:1"]),
        ("dtype: q9\n", vec!["`model.dtype` is `q9`", "storage format", "run.yaml:1"]),
        ("repeats: 3\nrepeats: 4\n", vec!["run.yaml:2:1", "duplicate"]),
        ("model:\n\tname: x\n", vec!["run.yaml:2:1", "tab"]),
        ("", vec!["run.yaml:1:1", "empty"]),
    ] {
        let directory = written(&[("run.yaml", text)]);
        let message = refusal(&with_run(directory.path().join("run.yaml"), &[]));
        for words in expected {
            assert!(message.contains(words), "{text:?}: `{words}` is not in:\n{message}");
        }
    }
}

#[test]
fn mistakes_in_overrides_name_the_argument() {
    for (overrides, expected) in [
        (vec!["repeats"], vec!["override `repeats`: `=` is missing at character 8"]),
        (
            vec!["repeat=3"],
            vec!["unknown key `repeat` (override 1: repeat=3)", "did you mean `repeats`?", "allowed here", "`warmup`"],
        ),
        (vec!["max_new_tokens=8"], vec!["did you mean `infer.max_new_tokens`"]),
        (vec!["infer.max_new_token=8"], vec!["did you mean `infer.max_new_tokens`", "`temperature`"]),
        (vec!["batch=2", "batch=0"], vec!["`batch` is `0`: expected a whole number, 1 or more (override 2: batch=0)"]),
        (vec!["repeats=-1"], vec!["`repeats` is `-1`"]),
        (vec!["repeats=1.5"], vec!["`repeats` is `1.5`: expected a whole number"]),
        (vec!["repeats=99999999999"], vec!["`repeats` is `99999999999`"]),
        (vec!["repeats=null"], vec!["`repeats` is `null`"]),
        (vec!["repeats=[1,2]"], vec!["`repeats` is `[1,2]`"]),
        (vec!["repeats=1,2"], vec!["gives 2 values for one run", "`-m`"]),
        (vec!["infer.max_new_tokens=0"], vec!["`infer.max_new_tokens` is `0`"]),
        (vec!["prompt_tokens=0"], vec!["`prompt_tokens` is `0`"]),
        (vec!["infer.temperature=-1"], vec!["`infer.temperature` is `-1`"]),
        (vec!["infer.top_p=1.5"], vec!["`infer.top_p` is `1.5`"]),
        (vec!["device=gpu"], vec!["`device` is `gpu`", "`cuda:N`"]),
        (vec!["engine.ops=quick"], vec!["`engine.ops` is `quick`: expected one of `reference`, `fused`"]),
        (vec!["trace=everything"], vec!["`cupti`"]),
        (vec!["torch_profiler.activities=[cpu,gpu]"], vec!["torch_profiler.activities.1", "gpu"]),
        (vec!["torch_profiler.activities=cpu"], vec!["`torch_profiler.activities` is `cpu`: expected a list"]),
        (vec!["engine=fast"], vec!["no engine is called `fast`", "available: `default`, `fused`, `reference`"]),
        (vec!["model=../../etc/passwd"], vec!["no model is called"]),
        (vec!["model="], vec!["is missing"]),
        (vec!["model.path="], vec!["`model.path` is ``"]),
        (vec!["model.dtype=u32"], vec!["`model.dtype` is `u32`"]),
        (vec!["+repeats=3"], vec!["`repeats` is there already (configs/config.yaml:", "++repeats"]),
        (vec!["+nonsense=3"], vec!["unknown key `nonsense`"]),
        (vec!["~repeatss"], vec!["no key `repeatss`", "`repeats`"]),
        (vec!["~repeats"], vec!["`repeats` must have a value"]),
        (vec!["~prompt='other'"], vec!["`prompt` is `Explain"]),
        (vec!["~sweep"], vec!["no group `sweep`"]),
        (vec!["repeats.x=3"], vec!["unknown key `repeats.x`"]),
        (vec!["cases.0.prompt=x"], vec!["cases"]),
        (vec!["~prompt"], vec!["no prompt is given"]),
        (vec!["model=null"], vec!["no model is given"]),
        (
            vec!["model.architecture.num_key_value_heads=3"],
            vec!["`model.architecture.num_key_value_heads` is `3`", "not a multiple", "override 1"],
        ),
        (
            vec!["model.architecture={hidden_size:64}", "model=null"],
            vec!["`model.architecture.intermediate_size` is missing: expected a whole number"],
        ),
        (vec!["cases=[x]"], vec!["`cases.0` is `x`: expected a map"]),
        (vec!["model.architecture.hidden_size=0"], vec!["`model.architecture.hidden_size` is `0`"]),
        (vec!["a=[1"], vec!["`[` is not closed", "character 3"]),
        (vec!["prompt='x"], vec!["quote ' is not closed", "character 8"]),
    ] {
        let message = refused(&overrides);
        for words in expected {
            assert!(message.contains(words), "{overrides:?}: `{words}` is not in:\n{message}");
        }
    }
}

#[test]
fn additions_and_deletions_do_what_they_say() {
    assert_eq!(
        stage1(&["+model.architecture.sliding_window=128"]).model.architecture.unwrap().sliding_window,
        Some(128)
    );
    assert_eq!(stage1(&["model.architecture.sliding_window=64"]).model.architecture.unwrap().sliding_window, Some(64));
    assert_eq!(stage1(&["++repeats=7"]).repeats, 7);
    assert_eq!(stage1(&["run=quick", "~run.tag"]).run.tag, None);
    assert_eq!(stage1(&["run=quick", "~run.tag=quick"]).run.tag, None);
    assert_eq!(stage1(&["run=cases", "~cases.0"]).cases.len(), 2);
    assert!(stage1(&["run=cases", "~cases"]).cases.is_empty());
    assert_eq!(
        stage1(&["profiling=max", "~profiling"]).profiling.cooldown_ms,
        0,
        "without its file the root's defaults stay"
    );
    let cases = stage1(&["cases=[{prompt:'a, b',new_tokens:4},{prompt_tokens:32}]"]).effective_cases();
    assert_eq!(cases[0].prompt.as_deref(), Some("a, b"));
    assert_eq!((cases[1].prompt_tokens, cases[1].prompt.as_deref(), cases[1].new_tokens), (Some(32), None, Some(64)));
    assert_eq!(stage1(&["infer={max_new_tokens:5,top_k:40}"]).infer.top_k, Some(40));
    assert_eq!(stage1(&["infer={max_new_tokens:5}"]).infer.seed, 0, "a map is merged");
}

#[test]
fn a_case_has_a_prompt_or_a_length_and_takes_the_rest_from_the_top() {
    let seen = |overrides: &[&str]| -> Vec<(Option<String>, Option<u32>, Option<u32>)> {
        let cases = stage1(overrides).effective_cases();
        cases.into_iter().map(|case| (case.prompt, case.prompt_tokens, case.new_tokens)).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(seen(&["prompt=top", "infer.max_new_tokens=5"]), [(text("top"), None, Some(5))]);
    assert_eq!(seen(&["prompt=top", "prompt_tokens=9"]), [(None, Some(9), Some(64))]);
    assert_eq!(
        seen(&["prompt_tokens=9", "cases=[{prompt:own},{prompt_tokens:3,new_tokens:2},{name:rest}]"]),
        [(text("own"), None, Some(64)), (None, Some(3), Some(2)), (None, Some(9), Some(64))]
    );
}

#[test]
fn a_secret_is_in_no_message() {
    for argument in [
        "api_key=k9k9",
        "api_key=[k9k9",
        "api_key=k9k9,k9k9",
        "+run={api_key:k9k9}",
        "~api_key=k9k9",
        "run.api_key=k9k9",
    ] {
        let message = refused(&[argument]);
        assert!(!message.contains("k9k9"), "{argument}: {message}");
    }
}

#[test]
fn a_preset_can_reach_beyond_its_group() {
    let config = composed(&["profiling=min"]);
    let typed = config.stage1().unwrap();
    assert_eq!((typed.profiling.span_repeats, typed.torch_profiler.activities.len()), (Some(1), 1));
    assert_eq!(
        config.provenance.origin("torch_profiler.activities.0").unwrap().to_string(),
        "configs/profiling/min.yaml:8, built in"
    );
}

#[test]
fn groups_nest_and_go_in_circles_only_once() {
    let directory = written(&[
        (
            "engine/mine.yaml",
            "defaults:\n  - reference\n  - cache: small\n  - /profiling: max\n  - optional extra: none\nthreads: 4\n",
        ),
        ("engine/cache/small.yaml", "# @package engine\nmax_context: 99\n"),
        ("engine/cache/large.yaml", "# @package engine\nmax_context: 9999\n"),
        ("engine/a.yaml", "defaults: [b]\n"),
        ("engine/b.yaml", "defaults: [a]\n"),
        ("engine/c.yaml", "defaults: [cache: huge]\n"),
    ]);
    let compose_with = |overrides: &[&str]| compose(&with_dir(directory.path(), overrides));
    let typed = compose_with(&["engine=mine"]).unwrap().stage1().unwrap();
    assert_eq!((typed.engine.threads, typed.engine.max_context), (Some(4), Some(99)));
    let typed = compose_with(&["engine=mine", "engine/cache=large"]).unwrap().stage1().unwrap();
    assert_eq!(typed.engine.max_context, Some(9999));
    for (overrides, words) in [
        (vec!["engine=a"], "in a circle"),
        (vec!["engine=c"], "no engine/cache is called `huge`"),
        (vec!["engine/cache=large"], "unknown key `engine/cache`"),
    ] {
        let message = refusal(&with_dir(directory.path(), &overrides));
        assert!(message.contains(words), "{overrides:?}: {message}");
    }
}

#[test]
fn the_record_says_where_each_value_came_from() {
    let config = composed(&["model=smollm2", "repeats=3", "prompt='two\nlines'"]);
    let text = config.to_yaml_with_provenance();
    for line in [
        "repeats: 3  # override 2: repeats=3",
        "path: models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf  # configs/model/smollm2.yaml:2, built in",
        "name: smollm2  # override 1: model=smollm2",
    ] {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    assert!(text.lines().filter(|line| !line.trim_end().ends_with(':')).all(|line| line.contains("  # ")), "{text}");
    let again = perfprof::config::yaml::parse("config.yaml", &text).unwrap();
    assert_eq!(again.value, config.value, "the record is the configuration");
}

#[test]
fn the_record_of_a_run_is_a_run_file() {
    for overrides in [
        vec!["model=synthetic-qwen3-0.6b", "repeats=3", "cases=[{prompt:x}]", "profiling=max"],
        vec!["model=smollm2", "model.dtype=f32", "engine=fused"],
        vec!["model=qwen3-0.6b", "run=two_pass"],
        vec!["model.path=a/b.gguf"],
        vec![
            "model=null",
            "model.architecture={hidden_size:64,intermediate_size:96,num_hidden_layers:2,num_attention_heads:4,vocab_size:300}",
        ],
    ] {
        let first = composed(&overrides);
        let directory = written(&[("config.yaml", &first.to_yaml_with_provenance())]);
        let second = compose(&with_run(directory.path().join("config.yaml"), &[])).unwrap();
        assert_eq!(second.stage1().unwrap(), first.stage1().unwrap(), "{overrides:?}");
    }
}

#[test]
fn composition_is_the_same_every_time_and_the_hash_follows_the_values() {
    let first = composed(&["model=smollm2", "repeats=3"]);
    assert_eq!(first, composed(&["model=smollm2", "repeats=3"]));
    assert_eq!(first.sha256(), composed(&["repeats=3", "model=smollm2"]).sha256());
    assert_ne!(first.sha256(), composed(&["model=smollm2", "repeats=4"]).sha256());
    assert_eq!(first.sha256().len(), 64);
}

#[test]
fn the_grid_of_the_sweep_preset_is_made_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sweep/latency_grid.yaml");
    let document = config::yaml::read(&path).unwrap().value;
    let mut arguments: Vec<String> =
        document["overrides"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    for (key, values) in document["grid"].as_object().unwrap() {
        let values: Vec<String> = values.as_array().unwrap().iter().map(ToString::to_string).collect();
        arguments.push(format!("{key}={}", values.join(",")));
    }
    let runs = config::overrides::expand_multirun(&arguments).unwrap();
    assert_eq!(runs.len(), 12);
    for overrides in runs {
        compose(&ComposeRequest { overrides, ..request(&[]) }).unwrap().stage1().unwrap();
    }
}

#[test]
fn a_command_without_settings_is_refused() {
    let error = compose(&ComposeRequest { command: "dance".into(), ..request(&[]) }).unwrap_err();
    assert!(matches!(error, ConfigError::UnknownCommand { .. }));
}

#[test]
fn a_command_without_types_composes_from_its_own_root() {
    let root = "defaults:\n  - _self_\n  - backend: vllm\nbase_url: null\nbackend:\n  note: mine\n";
    let directory = written(&[("serve.yaml", root)]);
    let compose_with = |overrides: &[&str]| {
        compose(&ComposeRequest { command: "serve".into(), ..with_dir(directory.path(), overrides) })
    };
    let value = compose_with(&["base_url=http://localhost:8000", "backend.port=5", "+backend.extra=1"]).unwrap().value;
    assert_eq!(value["base_url"], "http://localhost:8000");
    assert_eq!((&value["backend"]["port"], &value["backend"]["note"]), (&5.into(), &"mine".into()));
    assert_eq!((&value["backend"]["kind"], &value["backend"]["extra"]), (&"vllm".into(), &1.into()));
    assert_eq!(compose_with(&["backend=sglang"]).unwrap().value["backend"]["kind"], "sglang");
    assert!(compose_with(&["~backend.note"]).unwrap().value["backend"].get("note").is_none());
    let text = text_of(compose_with(&["backend.prt=5"]).unwrap_err());
    assert!(text.contains("unknown key `backend.prt`") && text.contains("did you mean `backend.port`"), "{text}");
}

/// The keys with their defaults, as `docs/CONFIG.md` shows them.
fn key_table() -> String {
    let root = composed(&[
        "model=null",
        "hardware=null",
        "dataset=null",
        "engine=null",
        "profiling=null",
        "quality=null",
        "run=null",
    ]);
    let mut table = String::from("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in keys::STAGE1 {
        let default = match (key.kind, root.value.pointer(&format!("/{}", key.path.replace('.', "/")))) {
            (Kind::Section, Some(value)) if value.is_object() => String::new(),
            (_, Some(value)) => format!("`{}`", perfprof::config::yaml::scalar_text(value)),
            // Keys of a shape or a case exist only where one is given.
            (_, None) if key.nullable => "`null`".to_owned(),
            (Kind::Section, None) => String::new(),
            (_, None) => "required".to_owned(),
        };
        let null = if key.nullable { ", or `null`" } else { "" };
        table.push_str(&format!(
            "| `{}` | {}{null} | {default} | {} |\n",
            key.path,
            key.kind.words(),
            key.meaning.replace('|', "\\|")
        ));
    }
    table
}

/// The groups with their choices, as `docs/CONFIG.md` shows them.
fn group_table() -> String {
    let mut table = String::from("| group | choices |\n|---|---|\n");
    for group in config::catalog(None).expect("the embedded files are sound") {
        let choices: Vec<String> = group.choices.iter().map(|choice| format!("`{choice}`")).collect();
        table.push_str(&format!("| `{}` | {} |\n", group.name, choices.join(", ")));
    }
    table
}

/// The keys of a study with their defaults, as `docs/CONFIG.md` shows them.
fn study_table() -> String {
    let request = StudyRequest { arguments: vec!["study=threads".to_owned()], ..StudyRequest::default() };
    let defaults = config::study::study(&request).expect("the embedded study is sound").to_yaml_with_provenance();
    let mut table = String::from("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in STUDY {
        let line = defaults.lines().find_map(|line| line.strip_prefix(&format!("{}: ", key.path)));
        let default = line.and_then(|line| line.split("  #").next()).expect("every key has a default");
        let null = if key.nullable { ", or `null`" } else { "" };
        table.push_str(&format!("| `{}` | {}{null} | `{default}` | {} |\n", key.path, key.kind.words(), key.meaning));
    }
    table
}

/// The keys of the block `stage2` with their defaults, as `docs/CONFIG.md` shows them.
fn stage2_table() -> String {
    defaults_table("stage2", STAGE2_BLOCK)
}

/// The keys of `load` with their defaults, as `docs/CONFIG.md` shows them.
fn load_table() -> String {
    defaults_table("load", LOAD)
}

fn defaults_table(command: &str, keys: &[Key]) -> String {
    let request = ComposeRequest { command: command.to_owned(), ..request(&[]) };
    let defaults = compose(&request).expect("the embedded settings are sound").value;
    let mut table = String::from("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in keys.iter().filter(|key| key.kind != Kind::Section) {
        let default = match defaults.pointer(&format!("/{}", key.path.replace('.', "/"))) {
            Some(value) if value.is_object() => "`{}`".to_owned(),
            Some(value) if value.is_array() => format!("`{value}`"),
            Some(value) => format!("`{}`", perfprof::config::yaml::scalar_text(value)),
            // The keys of a list exist only in its elements.
            None if key.path.contains('*') => String::new(),
            None => panic!("`{}` has no default", key.path),
        };
        let null = if key.nullable { ", or `null`" } else { "" };
        table.push_str(&format!("| `{}` | {}{null} | {default} | {} |\n", key.path, key.kind.words(), key.meaning));
    }
    table
}

#[test]
fn the_manual_has_every_key_and_every_group() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (name, table) in [
        ("keys", key_table()),
        ("groups", group_table()),
        ("stage2", stage2_table()),
        ("load", load_table()),
        ("study", study_table()),
    ] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- {name}: end -->"));
        let from = text.find(&begin).unwrap_or_else(|| panic!("no `{begin}`")) + begin.len();
        let to = text.find(&end).unwrap_or_else(|| panic!("no `{end}`"));
        if std::env::var_os("PERFPROF_BLESS").is_some() {
            text.replace_range(from..to, &table);
            std::fs::write(&path, &text).unwrap();
        } else {
            assert_eq!(&text[from..to], table, "run the test with PERFPROF_BLESS=1 to write docs/CONFIG.md again");
        }
    }
}

#[test]
fn the_commands_of_the_manual_are_accepted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("perfprof stage1 ")) {
        let command = line.split("  #").next().expect("a line has a beginning");
        let mut multirun = false;
        let mut overrides = Vec::new();
        for word in shell_words(command) {
            if word == "-m" { multirun = true } else { overrides.push(word) }
        }
        let runs = if multirun { config::overrides::expand_multirun(&overrides).unwrap() } else { vec![overrides] };
        for overrides in runs {
            compose(&ComposeRequest { overrides, ..request(&[]) })
                .and_then(|composed| composed.stage1())
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} commands were found");
}

/// Splits at spaces outside single quotes, as a shell does for the commands of the manual.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is always a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_overrides_compose_or_are_refused_the_same_way_twice(
        overrides in prop::collection::vec(
            prop_oneof![
                "[+~]{0,2}(model|infer|cases|run|engine|device|repeats|prompt)(\\.[a-z0-9_]{1,12}){0,2}=?[a-z0-9\\[\\]{}:,.'-]{0,12}",
                "\\PC{0,20}",
            ],
            0..4,
        )
    ) {
        let request = ComposeRequest { overrides, ..request(&[]) };
        let once = || match compose(&request) {
            Ok(composed) => Ok((composed.to_yaml_with_provenance(), composed.sha256(), composed.stage1().map_err(text_of))),
            Err(error) => Err(text_of(error)),
        };
        prop_assert_eq!(once(), once());
    }
}
