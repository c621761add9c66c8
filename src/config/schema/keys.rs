//! Every key of the settings: its type, its range, what it means.
//!
//! One table serves the check of unknown keys, the ranges, and `docs/CONFIG.md`; a test holds it against the structs.

use serde_json::Value;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A map of further keys.
    Section,
    /// A list of maps, whose keys are listed under `key.*`.
    Sections,
    /// `true` or `false`.
    Bool,
    /// A whole number between these bounds.
    Integer(u64, u64),
    /// A finite number in a range.
    Number(Range),
    /// Text.
    Text,
    /// A file or directory.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A text, or a list of them.
    OneOrTexts,
    /// A number above 0, or a list of them.
    Numbers,
    /// Levels of concurrency: numbers and ranges.
    Concurrency,
    /// A map with keys of the user's.
    Map,
    /// A storage format such as `bf16` or `q4_k`.
    Format,
    /// `cpu`, `cuda`, `cuda:N` or `auto`.
    Device,
}

/// Where a number may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// 0 or more.
    NotNegative,
    /// More than 0.
    Positive,
    /// From 0 to 1.
    Share,
    /// More than 0, up to 1.
    PositiveShare,
}

impl Range {
    fn contains(self, number: f64) -> bool {
        match self {
            Self::NotNegative => number >= 0.0,
            Self::Positive => number > 0.0,
            Self::Share => (0.0..=1.0).contains(&number),
            Self::PositiveShare => number > 0.0 && number <= 1.0,
        }
    }
    fn words(self) -> &'static str {
        match self {
            Self::NotNegative => "a number, 0 or more",
            Self::Positive => "a number above 0",
            Self::Share => "a number from 0 to 1",
            Self::PositiveShare => "a number above 0, at most 1",
        }
    }
}

impl Kind {
    /// What is expected, in words.
    pub fn words(self) -> String {
        let list = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Section | Self::Map => "a map".to_owned(),
            Self::Sections => "a list of maps".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Integer(0, U32 | U64) => "a whole number, 0 or more".to_owned(),
            Self::Integer(low, U32 | U64) => format!("a whole number, {low} or more"),
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number(range) => range.words().to_owned(),
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Word(words) => format!("one of {}", list(words)),
            Self::Words(words) => format!("a list of {}", list(words)),
            Self::Texts => "a list of texts".to_owned(),
            Self::OneOrTexts => "a text, or a list of texts".to_owned(),
            Self::Numbers => "a number above 0, or a list of them".to_owned(),
            Self::Concurrency => "numbers and ranges such as `1,2,4-16`".to_owned(),
            Self::Format => "a storage format such as `f32`, `bf16`, `q8_0`, `q4_1`, `q4_k`".to_owned(),
            Self::Device => "`cpu`, `cuda`, `cuda:N` or `auto`".to_owned(),
        }
    }
    /// True if an unquoted word is taken as it was typed, even where it looks like a number.
    pub fn takes_text(self) -> bool {
        matches!(self, Self::Text | Self::Path | Self::Word(_) | Self::Format | Self::Device)
    }
    /// True if `key=1,2` gives the key a list, and is no sweep over values.
    pub fn takes_list(self) -> bool {
        matches!(self, Self::OneOrTexts | Self::Numbers | Self::Concurrency)
    }
    /// Whether `value`, if it has the right type, lies in the range; values of a wrong type are left to the reader of the type.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::Integer(low, high) => match value {
                Value::Number(number) => match (number.as_u64(), number.as_f64()) {
                    (Some(whole), _) => (low..=high).contains(&whole),
                    // A negative or huge whole number is out of range; 1.5 is of a wrong type.
                    (None, Some(number)) => number.fract() != 0.0,
                    _ => false,
                },
                _ => true,
            },
            Self::Number(range) => value.as_f64().is_none_or(|number| range.contains(number)),
            Self::Path => value.as_str() != Some(""),
            _ => true,
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// The dotted path; `*` stands for any list index.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether `null` (unknown, not given) is a value.
    pub nullable: bool,
    /// What it means, for the documentation.
    pub meaning: &'static str,
}

const U32: u64 = u32::MAX as u64;
const U64: u64 = u64::MAX;

const fn key(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: false, meaning }
}
const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: true, meaning }
}

const SIZE: Kind = Kind::Integer(1, U32);

/// The keys of `stage1` and of the commands that run it.
pub const STAGE1: &[Key] = &[
    key(
        "model",
        Kind::Section,
        "The model. `model=<name>` chooses a file of `configs/model/` or an alias of `configs/models.yaml`.",
    ),
    key(
        "model.name",
        Kind::Text,
        "What the report calls the model: the name it was chosen by, else that of the file or repository.",
    ),
    optional("model.path", Kind::Path, "A `.gguf` or `.safetensors` file, or a directory with `config.json`."),
    optional("model.hf_id", Kind::Text, "A Hugging Face repository, looked up in the local cache."),
    key("model.local_files_only", Kind::Bool, "Use only what is in the local cache."),
    key(
        "model.source",
        Kind::Word(&["auto", "safetensors", "gguf", "synthetic"]),
        "Which kind of weights; `auto` decides by what is given: a path by its content, then `hf_id`, then `architecture`.",
    ),
    optional(
        "model.dtype",
        Kind::Format,
        "Storage of the weights. Null keeps what the file has. A dense format dequantizes a GGUF file, a quantized one quantizes dense weights on load.",
    ),
    optional("model.dtype_default", Kind::Format, "Storage of dense weights where `model.dtype` is null."),
    optional("model.tokenizer", Kind::Path, "A `tokenizer.json` that does not lie beside the weights."),
    key("model.seed", Kind::Integer(0, U64), "Seed of synthetic weights."),
    optional(
        "model.architecture",
        Kind::Section,
        "The shape of a synthetic model, written flat with the names of Hugging Face's `config.json`.",
    ),
    optional("model.architecture.model_type", Kind::Text, "`llama`, `mistral`, `qwen2`, `qwen3`; null is `llama`."),
    key("model.architecture.hidden_size", SIZE, "Width of the residual stream."),
    key("model.architecture.intermediate_size", SIZE, "Width of the MLP."),
    key("model.architecture.num_hidden_layers", SIZE, "Decoder layers."),
    key("model.architecture.num_attention_heads", SIZE, "Query heads."),
    optional("model.architecture.num_key_value_heads", SIZE, "Key/value heads; null is as many as query heads."),
    optional("model.architecture.head_dim", SIZE, "Width of a head; null is `hidden_size / num_attention_heads`."),
    key("model.architecture.vocab_size", SIZE, "Rows of the embedding."),
    optional("model.architecture.max_position_embeddings", SIZE, "The longest context in tokens; null is 2048."),
    optional("model.architecture.rms_norm_eps", Kind::Number(Range::Positive), "Epsilon of the norms; null is 1e-6."),
    optional(
        "model.architecture.rope_theta",
        Kind::Number(Range::Positive),
        "Base of the rotary frequencies; null is 10000.",
    ),
    optional(
        "model.architecture.rope_scaling",
        Kind::Section,
        "Rescaling of the rotary frequencies for long contexts.",
    ),
    key("model.architecture.rope_scaling.rope_type", Kind::Word(&["linear", "llama3", "yarn"]), "Which rescaling."),
    key(
        "model.architecture.rope_scaling.factor",
        Kind::Number(Range::Positive),
        "The divisor of the positions or of the long wavelengths.",
    ),
    optional(
        "model.architecture.rope_scaling.low_freq_factor",
        Kind::Number(Range::Positive),
        "`llama3`: wavelengths above original context / this are divided.",
    ),
    optional(
        "model.architecture.rope_scaling.high_freq_factor",
        Kind::Number(Range::Positive),
        "`llama3`: wavelengths below original context / this are kept.",
    ),
    optional(
        "model.architecture.rope_scaling.original_max_position_embeddings",
        SIZE,
        "Context of the original training; null is `max_position_embeddings`.",
    ),
    optional(
        "model.architecture.rope_scaling.beta_fast",
        Kind::Number(Range::Positive),
        "`yarn`: rotations above which a dimension is kept; null is 32.",
    ),
    optional(
        "model.architecture.rope_scaling.beta_slow",
        Kind::Number(Range::Positive),
        "`yarn`: rotations below which a dimension is interpolated; null is 1.",
    ),
    optional(
        "model.architecture.rope_scaling.attention_factor",
        Kind::Number(Range::Positive),
        "`yarn`: attention temperature; null is `0.1·ln(factor) + 1`.",
    ),
    optional("model.architecture.tie_word_embeddings", Kind::Bool, "The LM head reuses the embedding; null is false."),
    optional(
        "model.architecture.attention_bias",
        Kind::Bool,
        "Bias on q, k, v (and o, except for `qwen2`); null is true for `qwen2`, else false.",
    ),
    optional(
        "model.architecture.qk_norm",
        Kind::Bool,
        "RMS norm on each q and k head; null is true for `qwen3`, else false.",
    ),
    optional("model.architecture.sliding_window", SIZE, "Attention sees only the last so many positions."),
    optional("model.architecture.num_experts", SIZE, "Experts per layer; null is a dense MLP."),
    optional("model.architecture.num_experts_per_tok", SIZE, "Experts each token is sent to."),
    optional("model.architecture.moe_intermediate_size", SIZE, "Width of one expert; null is `intermediate_size`."),
    optional(
        "model.architecture.shared_expert_intermediate_size",
        Kind::Integer(0, U32),
        "Width of the expert that every token passes; null is none.",
    ),
    key("device", Kind::Device, "Where the model runs. `auto` takes the first CUDA device, else the CPU."),
    key("engine", Kind::Section, "How the model runs. `engine=<name>` chooses a file of `configs/engine/`."),
    key(
        "engine.ops",
        Kind::Word(&["reference", "fused"]),
        "Which implementation of the operators. `fused` has kernels of its own for the CPU and for CUDA devices.",
    ),
    optional(
        "engine.threads",
        Kind::Integer(1, 65_536),
        "Threads of the engine. Null is the physical cores available to the process.",
    ),
    optional("engine.kv_dtype", Kind::Format, "Storage of the KV cache. Null is that of the activations."),
    key("engine.cuda_graph", Kind::Word(&["on", "off"]), "Decode through a captured CUDA graph."),
    optional("engine.max_context", SIZE, "Positions the KV cache is made for. Null is what the cases need."),
    key("batch", SIZE, "Sequences generated side by side."),
    key("repeats", SIZE, "Measured repeats of each case."),
    key("warmup", Kind::Integer(0, U32), "Repeats before them that are run and not recorded."),
    optional("prompt_tokens", SIZE, "The exact prompt length, filled with synthetic ids. Null takes `prompt`."),
    key("infer", Kind::Section, "The generation."),
    key("infer.max_new_tokens", SIZE, "Tokens to generate."),
    key("infer.ignore_eos", Kind::Bool, "Go on after an end-of-sequence token, so that lengths are exact."),
    key("infer.temperature", Kind::Number(Range::NotNegative), "0 takes the most likely token."),
    optional("infer.top_k", SIZE, "Sample among so many most likely tokens."),
    optional(
        "infer.top_p",
        Kind::Number(Range::PositiveShare),
        "Sample among the most likely tokens that together reach this probability.",
    ),
    key("infer.seed", Kind::Integer(0, U64), "Seed of sampling and of synthetic prompts."),
    key(
        "infer.mode",
        Kind::Word(&["single_pass", "two_pass"]),
        "`single_pass` takes TTFT and TPOT from one generation; `two_pass` from a generation of one token and one of all: TPOT = (full − first) / (n − 1).",
    ),
    key("infer.chat_template", Kind::Bool, "Wrap the prompt as a user turn of the model's chat format."),
    key(
        "cases",
        Kind::Sections,
        "Cases to run one after another; empty is one case of `prompt`/`prompt_tokens` and `infer.max_new_tokens`.",
    ),
    optional("cases.*.name", Kind::Text, "What the report calls the case."),
    optional("cases.*.prompt", Kind::Text, "The prompt text. Null is `prompt`."),
    optional(
        "cases.*.prompt_tokens",
        SIZE,
        "The exact prompt length, filled with synthetic ids. Null is `prompt_tokens`.",
    ),
    optional("cases.*.new_tokens", SIZE, "Tokens to generate. Null is `infer.max_new_tokens`."),
    optional("prompt", Kind::Text, "The prompt text."),
    key("dataset", Kind::Section, "A set of prompts. `dataset=<name>` chooses a file of `configs/dataset/`."),
    optional(
        "dataset.root",
        Kind::Path,
        "A JSON or JSONL file of prompts, or a directory of such files and of `.txt` files.",
    ),
    optional(
        "dataset.subset",
        Kind::Path,
        "A file that lists ids or file names, one per line; all others are left out.",
    ),
    optional("dataset.limit", SIZE, "At most so many prompts."),
    key("dataset.seed", Kind::Integer(0, U64), "Seed of the shuffle."),
    key("dataset.randomize", Kind::Bool, "Shuffle before `dataset.limit` is applied."),
    key(
        "trace",
        Kind::Word(&["none", "spans", "cupti"]),
        "What is traced beside the measures: what `torch_profiler.activities` asks for, operator spans in any case, or CUDA activity too.",
    ),
    key(
        "profiling",
        Kind::Section,
        "How the spans are taken and the machine is watched. `profiling=<name>` chooses a file of `configs/profiling/`.",
    ),
    optional(
        "profiling.span_repeats",
        Kind::Integer(0, U32),
        "Repeats with operator spans, interleaved with those without. Null is as many as `repeats`.",
    ),
    optional(
        "profiling.trace_repeats",
        Kind::Integer(1, U32),
        "Repeats under the tracer of `trace=cupti`, interleaved with the others. Null is as many as `repeats`.",
    ),
    optional(
        "profiling.nvtx",
        Kind::Word(&["off", "phases", "all"]),
        "NVTX ranges: none, those of repeats and phases, or layers, modules and operators too. Null is `all` where a tool listens, else `phases`; in a build without NVTX, none.",
    ),
    key("profiling.cooldown_ms", Kind::Integer(0, 3_600_000), "Rest before each repeat in milliseconds."),
    key(
        "profiling.max_disturbed_share",
        Kind::Number(Range::Share),
        "The share of repeats disturbed by other load above which the run is INVALID.",
    ),
    key(
        "profiling.gpu_telemetry",
        Kind::Word(&["auto", "on", "off"]),
        "Look at the GPU through NVML during the repeats: power, clocks, memory, throttling. `auto` does where the model runs on one; `on` also watches the first GPU beside a run on the CPU.",
    ),
    key("profiling.gpu_interval_ms", Kind::Integer(10, 1000), "Interval between looks at the GPU in milliseconds."),
    key(
        "quality",
        Kind::Section,
        "How well the model predicts a text, measured after the repeats. `quality=embedded` takes the embedded text.",
    ),
    optional("quality.text", Kind::Text, "`embedded`, or a file of UTF-8 text. Null measures no quality."),
    key("quality.tokens", Kind::Integer(2, 1_000_000), "At most so many tokens from the begin of the text."),
    key("quality.window", Kind::Integer(2, 1_000_000), "Tokens of one window; each starts from an empty KV cache."),
    optional(
        "quality.reference_dtype",
        Kind::Format,
        "Storage of the same weights in the reference that the divergence is from. Null loads no reference.",
    ),
    key("torch_profiler", Kind::Section, "Accepted for compatibility with PyTorch-based tools."),
    key("torch_profiler.activities", Kind::Words(&["cpu", "cuda"]), "Which sides get operator spans."),
    key("hardware", Kind::Section, "The machine's limits. `hardware=<name>` chooses a file of `configs/hardware/`."),
    key("hardware.name", Kind::Text, "`auto`, or the id of an entry of the peaks table."),
    optional(
        "hardware.peak_tflops",
        Kind::Number(Range::Positive),
        "Peak dense TFLOP/s of the dtype in use, in place of the table's.",
    ),
    optional(
        "hardware.peak_bandwidth_gbs",
        Kind::Number(Range::Positive),
        "Peak memory bandwidth in GB/s (10⁹), in place of the table's.",
    ),
    optional("hardware.memory_gib", Kind::Number(Range::Positive), "Memory in GiB, in place of the device's."),
    optional(
        "hardware.price_usd_per_hour",
        Kind::Number(Range::Positive),
        "Price per hour in US dollars, for the cost per token.",
    ),
    optional("hardware.power_w", Kind::Number(Range::Positive), "Power in watts where no meter is readable."),
    key(
        "hardware.measure",
        Kind::Word(&["auto", "always", "never"]),
        "When the ceilings of this machine are measured: where no peak is known, in every run, or never.",
    ),
    key(
        "run",
        Kind::Section,
        "How the run is named and judged. `run=<name>` chooses a run file of `configs/run/`, whose keys are those of the root.",
    ),
    optional("run.id", Kind::Text, "The run id. Null makes one from the time."),
    optional("run.tag", Kind::Text, "A word to find the run by."),
    optional("run.notes", Kind::Text, "Free text kept with the run."),
    key("run.allow_invalid", Kind::Bool, "Exit 0 even if the run is INVALID."),
    key("run.keep_going", Kind::Bool, "Go on with the next case after one failed."),
];

/// The keys of a command's settings; `None` for a command whose settings have no types yet.
pub fn of_command(command: &str) -> Option<&'static [Key]> {
    match command {
        "stage1" | "ab" | "sweep" | "estimate" => Some(STAGE1),
        "stage2" => Some(&super::stage2::STAGE2),
        "load" => Some(super::load::LOAD),
        _ => None,
    }
}

/// `path` with list indices replaced by `*`.
pub fn pattern(path: &str) -> String {
    path.split('.')
        .map(|part| if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) { "*" } else { part })
        .collect::<Vec<_>>()
        .join(".")
}

/// The key at `path`.
pub fn find<'a>(keys: &'a [Key], path: &str) -> Option<&'a Key> {
    let pattern = pattern(path);
    // Below a map of the user's every key is known.
    let within =
        |key: &Key| key.kind == Kind::Map && pattern.strip_prefix(key.path).is_some_and(|rest| rest.starts_with('.'));
    keys.iter().find(|key| key.path == pattern).or_else(|| keys.iter().find(|key| within(key)))
}

/// The names allowed right below `path` (the root for an empty path).
pub fn children(keys: &[Key], path: &str) -> Vec<String> {
    let pattern = pattern(path);
    let prefix = if pattern.is_empty() { String::new() } else { format!("{pattern}.") };
    keys.iter()
        .filter_map(|key| key.path.strip_prefix(&prefix))
        .filter(|rest| !rest.contains('.') && *rest != "*")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::schema::{model, stage1};
    use serde::Deserialize;
    use serde_json::json;

    /// A reader that only notes which fields a struct asks for.
    struct Fields<'a>(&'a mut Vec<&'static str>);

    impl<'de> serde::Deserializer<'de> for Fields<'_> {
        type Error = serde::de::value::Error;
        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only structs are looked at"))
        }
        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            self.deserialize_any(visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    /// The fields that the struct `T` asks for.
    pub(in crate::config::schema) fn fields_of<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
        let mut fields = Vec::new();
        assert!(T::deserialize(Fields(&mut fields)).is_err());
        fields
    }

    fn assert_fields<T: for<'de> Deserialize<'de>>(path: &str) {
        let mut fields = fields_of::<T>();
        let mut children = children(STAGE1, path);
        children.sort();
        fields.sort_unstable();
        assert_eq!(children, fields, "the table and the struct of `{path}` differ");
    }

    #[test]
    fn the_table_lists_exactly_the_fields_of_the_structs() {
        assert_fields::<stage1::Stage1Config>("");
        assert_fields::<model::ModelConfig>("model");
        assert_fields::<model::FlatArchitecture>("model.architecture");
        assert_fields::<model::FlatRopeScaling>("model.architecture.rope_scaling");
        assert_fields::<stage1::EngineConfig>("engine");
        assert_fields::<stage1::InferConfig>("infer");
        assert_fields::<stage1::CaseConfig>("cases.0");
        assert_fields::<stage1::DatasetConfig>("dataset");
        assert_fields::<stage1::QualityConfig>("quality");
        assert_fields::<stage1::ProfilingConfig>("profiling");
        assert_fields::<stage1::TorchProfilerConfig>("torch_profiler");
        assert_fields::<stage1::HardwareConfig>("hardware");
        assert_fields::<stage1::RunConfig>("run");
        let sections = STAGE1.iter().filter(|key| matches!(key.kind, Kind::Section | Kind::Sections)).count();
        assert_eq!(sections, 12, "a section was added: name its struct above");
    }

    #[test]
    fn keys_are_found_through_list_indices() {
        assert_eq!(find(STAGE1, "cases.12.prompt").unwrap().path, "cases.*.prompt");
        assert!(find(STAGE1, "cases.x.prompt").is_none());
        assert_eq!(children(STAGE1, "cases.0"), ["name", "prompt", "prompt_tokens", "new_tokens"]);
        assert!(children(STAGE1, "").contains(&"repeats".to_owned()));
        assert!(!children(STAGE1, "").contains(&"model.path".to_owned()));
    }

    #[test]
    fn ranges_refuse_what_is_outside_and_leave_types_alone() {
        let one_up = Kind::Integer(1, U32);
        for (value, admitted) in [
            (json!(1), true),
            (json!(0), false),
            (json!(-1), false),
            (json!(4294967296_u64), false),
            (json!(1e20), false),
            (json!(1.5), true),
            (json!("x"), true),
            (json!(null), true),
        ] {
            assert_eq!(one_up.admits(&value), admitted, "{value}");
        }
        assert!(!Kind::Number(Range::PositiveShare).admits(&json!(0)));
        assert!(Kind::Number(Range::PositiveShare).admits(&json!(1)));
        assert!(!Kind::Number(Range::Share).admits(&json!(1.01)));
        assert!(!Kind::Number(Range::Positive).admits(&json!(0.0)));
    }
}
