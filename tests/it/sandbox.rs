//! Runs the real binary in a directory of its own, with models small enough for a repeat to take a millisecond.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A two-layer model with ceilings given, so that nothing is measured; on a busy machine a run is VALID all the same.
pub(crate) const TINY: [&str; 10] = [
    "model.architecture.num_hidden_layers=2",
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=96",
    "model.architecture.num_attention_heads=4",
    "model.architecture.num_key_value_heads=2",
    "model.architecture.head_dim=16",
    "model.architecture.vocab_size=300",
    "hardware.peak_tflops=1",
    "hardware.peak_bandwidth_gbs=10",
    "profiling.max_disturbed_share=1",
];

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The exit code is `code`, and nothing panicked.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
    /// stderr holds every one of `parts`.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in:\n{}", self.stderr);
        }
        self
    }
    /// stderr ends with a hint that holds `part`.
    #[track_caller]
    pub(crate) fn hints(self, part: &str) -> Self {
        let hint = self.stderr.lines().any(|line| line.starts_with("hint: ") && line.contains(part));
        assert!(hint, "no hint with `{part}` in:\n{}", self.stderr);
        self
    }
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

/// A working directory; runs land in its `tmp/`.
pub(crate) struct Sandbox(TempDir);

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
    /// The binary, with an environment that nothing of this machine's leaks into.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perfprof"));
        self.prepare(&mut command);
        command.args(arguments);
        command
    }
    /// `perfprof stage1` of the tiny model: 8 prompt tokens, 5 new ones, one repeat; `settings` may say otherwise.
    pub(crate) fn stage1(&self, settings: &[&str]) -> Command {
        let mut command = self.command(&["stage1"]);
        command.args(TINY).args(["prompt_tokens=8", "infer.max_new_tokens=5", "repeats=1", "warmup=0"]).args(settings);
        command
    }
    /// The same under a shell that has run `before`, e.g. `ulimit -f 8`.
    pub(crate) fn shell(&self, before: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        self.prepare(&mut command);
        command.args(["-c", &format!("{before}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_perfprof")]).args(arguments);
        command
    }
    fn prepare(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("TMPDIR", self.path());
        command.current_dir(self.path()).stdin(Stdio::null());
    }
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments))
    }
    /// All run directories of stage1, oldest first.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path().join("tmp/stage1")) else { return Vec::new() };
        let mut runs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        let started = |run: &PathBuf| {
            std::fs::read(run.join("run.json")).ok().map(|_| json_of(run, "run.json")["started_at"].to_string())
        };
        runs.sort_by_key(started);
        runs
    }
    /// The only run there is.
    #[track_caller]
    pub(crate) fn the_run(&self) -> PathBuf {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].clone()
    }
    /// No run directory was made.
    #[track_caller]
    pub(crate) fn made_no_run(&self) {
        assert!(self.runs().is_empty(), "{:?}", self.runs());
    }
    /// No run says of itself that it is complete.
    #[track_caller]
    pub(crate) fn claims_nothing(&self) {
        for run in self.runs() {
            let status = json_of(&run, "run.json")["status"].clone();
            assert_eq!(status, "failed", "{}", run.display());
        }
    }
    /// A directory with a Llama of random weights in safetensors; `change` may damage its config and its tensors.
    pub(crate) fn model(&self, change: impl FnOnce(&mut Value, &mut Tensors)) -> PathBuf {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 258,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": false, "hidden_act": "silu", "torch_dtype": "float32"
        });
        let mut tensors = llama_tensors();
        change(&mut config, &mut tensors);
        self.write("model/config.json", config.to_string());
        self.write("model/tokenizer.json", word_tokenizer(258));
        self.write("model/model.safetensors", safetensors(&tensors));
        self.path().join("model")
    }
}

/// Name, shape and values of each tensor.
pub(crate) type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn llama_tensors() -> Tensors {
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![258, 32])];
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![32]),
            ("self_attn.q_proj", vec![32, 32]),
            ("self_attn.k_proj", vec![16, 32]),
            ("self_attn.v_proj", vec![16, 32]),
            ("self_attn.o_proj", vec![32, 32]),
            ("post_attention_layernorm", vec![32]),
            ("mlp.gate_proj", vec![48, 32]),
            ("mlp.up_proj", vec![48, 32]),
            ("mlp.down_proj", vec![32, 48]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    shapes.push(("model.norm.weight".to_owned(), vec![32]));
    shapes.push(("lm_head.weight".to_owned(), vec![258, 32]));
    let mut state = 1u32;
    let mut next = move || {
        // Numerical Recipes' generator: any sequence without a pattern will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    };
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let values = (0..count).map(|_| if shape.len() == 1 { 1.0 } else { next() }).collect();
            (name, shape, values)
        })
        .collect()
}

/// A tokenizer of so many words, in the format of the `tokenizers` library.
pub(crate) fn word_tokenizer(words: usize) -> String {
    let vocabulary: serde_json::Map<String, Value> = (0..words).map(|id| (format!("t{id}"), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"}
    });
    tokenizer.to_string()
}

/// The format: length of the header in 8 bytes, the header in JSON, the values.
fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    file
}

/// Waits for the process to end.
pub(crate) fn finish(mut command: Command) -> Outcome {
    outcome(command.output().unwrap())
}

pub(crate) fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Starts a process whose output is kept.
pub(crate) fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `what` holds; fails after a time that no working machine needs.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "in vain waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
pub(crate) fn text_of(run: &Path, name: &str) -> String {
    std::fs::read_to_string(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
pub(crate) fn json_of(run: &Path, name: &str) -> Value {
    serde_json::from_str(&text_of(run, name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rows; every line must be whole.
#[track_caller]
pub(crate) fn rows_of(run: &Path) -> Vec<Value> {
    text_of(run, "per_run.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many whole rows are on disk now.
pub(crate) fn rows_so_far(run: &Path) -> usize {
    std::fs::read(run.join("per_run.jsonl")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}
