//! The settings of `load`: which server, which requests, when they are sent, when the run ends, and what is judged.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::keys::{Key, Kind, Range};
use super::load_text::{Concurrency, Lengths};

/// More requests in flight than this are beyond the ports of one machine.
pub const MOST_IN_FLIGHT: u64 = 60_000;
const U32: u64 = u32::MAX as u64;

const fn key(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: false, meaning }
}
const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: true, meaning }
}

/// The keys of `load`.
pub const LOAD: &[Key] = &[
    optional(
        "base_url",
        Kind::OneOrTexts,
        "The server, with or without `/v1`; several are taken in turn, a connection each.",
    ),
    optional("model", Kind::Text, "The model as the server calls it. Null takes the only one the server names."),
    key("endpoint", Kind::Word(&["chat.completions", "completions", "responses"]), "Which API is called."),
    optional(
        "backend",
        Kind::Text,
        "What the reports call the server, e.g. `vllm`. Null is what its metrics or its `Server` header show.",
    ),
    key("stream", Kind::Bool, "Ask for a stream. Without one there is no TTFT and no ITL."),
    key(
        "include_usage",
        Kind::Bool,
        "Ask for the token counts at the end of a stream (`stream_options.include_usage`).",
    ),
    key(
        "continuous_usage",
        Kind::Bool,
        "Ask for token counts in every chunk (`stream_options.continuous_usage_stats`).",
    ),
    optional("api_key_env", Kind::Text, "The variable of the environment, or of `.env`, that holds the API key."),
    key("headers", Kind::OneOrTexts, "Further headers as `Name: value`; `${NAME}` is taken from the environment."),
    key("extra_body", Kind::Map, "Further fields of each request, as they stand."),
    key(
        "http",
        Kind::Word(&["auto", "1.1", "2"]),
        "`auto` speaks what TLS agrees on, and HTTP/1.1 without TLS; `2` without TLS is prior knowledge.",
    ),
    key(
        "connections",
        Kind::Word(&["auto", "pooled", "per_request"]),
        "Keep connections (`pooled`), or make a new one for each request. `auto` keeps them unless the server is seen to close them after an answer.",
    ),
    key("tls", Kind::Section, "The encryption of `https`."),
    key("tls.insecure", Kind::Bool, "Take any certificate. Stands in `run.json`."),
    optional("tls.ca_file", Kind::Path, "A PEM file of certificates to trust instead of those of the system."),
    key(
        "arrival",
        Kind::Word(&["closed", "constant", "poisson", "gamma", "ramp", "series", "trace"]),
        "`closed` keeps `concurrency` requests in flight. The others are open: requests are sent when they are due, whether earlier ones were answered or not.",
    ),
    key(
        "concurrency",
        Kind::Concurrency,
        "Stages of a closed loop: numbers and ranges such as `1,2,4-16`; `4-64x2` doubles, `8-64+8` adds 8.",
    ),
    key("rate", Kind::Numbers, "Stages of an open loop: requests per second."),
    optional(
        "rate_end",
        Kind::Number(Range::Positive),
        "With `arrival=ramp`: the rate each stage ends at; it begins at its `rate`.",
    ),
    key(
        "burstiness",
        Kind::Number(Range::Positive),
        "With `arrival=gamma`: the shape. 1 is Poisson, below is burstier, above more even.",
    ),
    optional(
        "rate_series",
        Kind::Path,
        "With `arrival=series`: lines of `seconds,requests_per_second`; each rate holds until the next line.",
    ),
    key(
        "trace_speed",
        Kind::Number(Range::Positive),
        "With `arrival=trace`: how much faster than recorded the trace is replayed.",
    ),
    optional(
        "max_in_flight",
        Kind::Integer(1, MOST_IN_FLIGHT),
        "The most requests in flight in an open loop. Null sets no limit but the system's.",
    ),
    key(
        "when_full",
        Kind::Word(&["queue", "drop"]),
        "What becomes of a request that is due while `max_in_flight` are out.",
    ),
    optional(
        "requests_per_stage",
        Kind::Integer(1, U32),
        "Requests of a stage. Null goes by `duration_s`, or by the ramp or the trace; without these it is 4 for each user and 32 at least, and of an \
         open loop those of 10 s.",
    ),
    optional(
        "requests_per_user",
        Kind::Integer(1, U32),
        "Requests of a closed loop for each of its users, where that is more than `requests_per_stage`.",
    ),
    optional(
        "duration_s",
        Kind::Number(Range::Positive),
        "Seconds in which a stage sends requests; with `requests_per_stage`, whichever is first.",
    ),
    key(
        "warmup",
        Kind::Integer(0, U32),
        "Requests before each stage that are in no figure; the stage begins when all have ended.",
    ),
    key("pause_s", Kind::Number(Range::NotNegative), "Seconds between stages."),
    key(
        "grace_s",
        Kind::Number(Range::NotNegative),
        "Seconds that requests may still take when a stage of `duration_s` is over; what is left is cancelled and counted.",
    ),
    key("seed", Kind::Integer(0, u64::MAX), "Seed of prompts, lengths, order and arrivals."),
    key(
        "dataset",
        Kind::Text,
        "The prompts: `builtin`, `random`, `synthetic`, or a file: JSON or JSONL with `prompt`, ShareGPT, or a trace (Mooncake, BurstGPT, Azure). The format is seen from the content.",
    ),
    key("prompts", Kind::Section, "How prompts are made or chosen."),
    optional(
        "prompts.input_tokens",
        Kind::Text,
        "Prompt lengths: `128`, `64-256`, `normal(512,128)`, `lognormal(512,0.5)`, `exponential(256)`, each with optional `,min,max`. Null keeps those of the dataset.",
    ),
    optional(
        "prompts.output_tokens",
        Kind::Text,
        "New tokens of each request, written alike. Null takes `max_tokens`, or what the dataset says.",
    ),
    optional("prompts.limit", Kind::Integer(1, U32), "Use the first so many prompts."),
    key("prompts.shuffle", Kind::Bool, "Shuffle them by `seed`."),
    key("prompts.lenient", Kind::Bool, "Skip lines of a dataset that cannot be used, and say how many."),
    key("prompts.shared_prefix_tokens", Kind::Integer(0, U32), "Tokens that all prompts of a group begin with."),
    key("prompts.prefixes", Kind::Integer(1, U32), "Groups with a prefix of their own."),
    key("prompts.turns", Kind::Integer(1, 1000), "Turns of a conversation: each sends what was said before."),
    key("prompts.think_time_s", Kind::Text, "Seconds between an answer and the next turn, as a length is written."),
    optional(
        "prompts.salt",
        Kind::Bool,
        "Begin each prompt with words of its own, so that no prompt cache answers. Null does so for the built-in prompts, which are few.",
    ),
    optional(
        "prompts.tokenizer",
        Kind::Path,
        "A `tokenizer.json` or `.gguf`: exact lengths, and token counts where the server gives none.",
    ),
    optional(
        "max_tokens",
        Kind::Integer(1, U32),
        "New tokens at most; a request whose dataset says less asks for less. Null takes what the dataset says, 128 where prompts are made up, else leaves it to the server.",
    ),
    optional("min_tokens", Kind::Integer(0, U32), "New tokens at least, where the server knows `min_tokens`."),
    key("ignore_eos", Kind::Bool, "Go on after the end-of-sequence token, where the server knows `ignore_eos`."),
    optional("temperature", Kind::Number(Range::NotNegative), "Temperature. Null leaves it to the server."),
    optional("top_p", Kind::Number(Range::PositiveShare), "Nucleus. Null leaves it to the server."),
    key("timeout", Kind::Section, "When a request is given up. 0 waits for ever."),
    key("timeout.connect_s", Kind::Number(Range::NotNegative), "Until a connection stands, TLS included."),
    key(
        "timeout.first_token_s",
        Kind::Number(Range::NotNegative),
        "From sending to the first token, or to the answer without a stream.",
    ),
    key("timeout.stall_s", Kind::Number(Range::NotNegative), "Between two events of a stream."),
    key("timeout.total_s", Kind::Number(Range::NotNegative), "From sending to the end."),
    key("retry", Kind::Section, "What is tried again. Every attempt is counted."),
    key("retry.attempts", Kind::Integer(0, 100), "Further attempts after 429 and 503."),
    key("retry.max_wait_s", Kind::Number(Range::NotNegative), "The longest `Retry-After` that is waited for."),
    key("stop", Kind::Section, "When a stage is given up."),
    optional("stop.max_errors", Kind::Integer(1, U32), "After so many failed requests."),
    optional(
        "stop.max_error_rate",
        Kind::Number(Range::PositiveShare),
        "When more than this share of the last requests (at least 20) failed.",
    ),
    key("stop.over_saturation", Kind::Bool, "In an open loop: when requests pile up without end."),
    key(
        "slo",
        Kind::Section,
        "A service level: goodput counts the requests that keep all of it. `slos` has further ones.",
    ),
    key("slo.name", Kind::Text, "What reports call it."),
    optional("slo.ttft_ms", Kind::Number(Range::Positive), "The longest time to the first token."),
    optional("slo.tpot_ms", Kind::Number(Range::Positive), "The longest time per output token after the first."),
    optional("slo.itl_ms", Kind::Number(Range::Positive), "The longest gap between two chunks of a request."),
    optional("slo.e2e_ms", Kind::Number(Range::Positive), "The longest time to the last token."),
    key(
        "slo.quantile",
        Kind::Number(Range::PositiveShare),
        "The share of requests that must keep the level for `find` to call a stage good.",
    ),
    key("slos", Kind::Sections, "Further service levels with the keys of `slo`."),
    key("slos.*.name", Kind::Text, "What reports call it."),
    optional("slos.*.ttft_ms", Kind::Number(Range::Positive), "The longest time to the first token."),
    optional("slos.*.tpot_ms", Kind::Number(Range::Positive), "The longest time per output token after the first."),
    optional("slos.*.itl_ms", Kind::Number(Range::Positive), "The longest gap between two chunks of a request."),
    optional("slos.*.e2e_ms", Kind::Number(Range::Positive), "The longest time to the last token."),
    key("slos.*.quantile", Kind::Number(Range::PositiveShare), "As `slo.quantile`."),
    key(
        "find",
        Kind::Word(&["none", "knee", "max_rate", "max_concurrency"]),
        "Look for something beyond the stages given: the knee of throughput, or the most load under which `slo` is kept.",
    ),
    key("find_limit", Kind::Integer(1, MOST_IN_FLIGHT), "The highest concurrency or rate that `find` tries."),
    key("client", Kind::Section, "The load generator itself."),
    key("client.threads", Kind::Integer(1, 256), "Threads that drive connections; each has its share of them."),
    key(
        "client.stamps",
        Kind::Word(&["auto", "kernel", "user"]),
        "Who stamps what arrives: the kernel at arrival, which a busy client cannot delay, or this program when it reads.",
    ),
    key("client.connect_rate", Kind::Number(Range::Positive), "Connections begun per second at most."),
    key(
        "client.max_event_bytes",
        Kind::Integer(1024, 1 << 32),
        "The longest event of a stream; a longer one ends its request.",
    ),
    key(
        "client.max_lag_ms",
        Kind::Number(Range::Positive),
        "The p99 of the client's own lag above which a stage is client-limited, and INVALID.",
    ),
    key(
        "client.max_dispatch_delay_ms",
        Kind::Number(Range::Positive),
        "The p99 of the delay between due and sent, in an open loop, above which a stage is INVALID.",
    ),
    key("client.keep_text", Kind::Bool, "Keep the text of each answer in its row."),
    key("telemetry", Kind::Section, "What is watched beside the requests."),
    key("telemetry.server", Kind::Word(&["auto", "off"]), "Scrape the server's `/metrics`, where it has any."),
    optional("telemetry.metrics_url", Kind::Text, "Where they are. Null is `/metrics` of the first server."),
    key("telemetry.interval_s", Kind::Number(Range::Positive), "Seconds between two scrapes."),
    key(
        "telemetry.gpu",
        Kind::Word(&["auto", "on", "off"]),
        "Sample the GPUs of this machine that `CUDA_VISIBLE_DEVICES` leaves in sight, by NVML. `auto` does so if a server has an address of this \
         machine.",
    ),
    key("telemetry.gpu_interval_ms", Kind::Integer(10, 60_000), "Milliseconds between two samples."),
    optional(
        "telemetry.price_usd_per_hour",
        Kind::Number(Range::Positive),
        "What the server costs, for the cost of a token.",
    ),
    key("output", Kind::Section, "What is written beside the run directory's own files."),
    key(
        "output.layout",
        Kind::Word(&["perfprof", "infra_bench", "bench_pack"]),
        "Further files under the names other tools gave them.",
    ),
    optional("output.summary_csv", Kind::Path, "A CSV file to which one line a stage is appended."),
    key("output.ui", Kind::Word(&["auto", "plain", "tui", "none"]), "How progress is shown."),
    key("run", Kind::Section, "How the run is named and judged."),
    optional("run.id", Kind::Text, "The run id. Null makes one from the time."),
    optional("run.tag", Kind::Text, "A word to find the run by."),
    key("run.allow_invalid", Kind::Bool, "Exit 0 even if the run is INVALID."),
];

/// Everything `load` can be told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct LoadConfig {
    #[serde(deserialize_with = "one_or_many")]
    pub base_url: Vec<String>,
    pub model: Option<String>,
    pub endpoint: Endpoint,
    pub backend: Option<String>,
    pub stream: bool,
    pub include_usage: bool,
    pub continuous_usage: bool,
    pub api_key_env: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub headers: Vec<String>,
    pub extra_body: Map<String, Value>,
    pub http: HttpChoice,
    pub connections: ConnectionChoice,
    pub tls: TlsSettings,
    pub arrival: ArrivalKind,
    pub concurrency: Concurrency,
    #[serde(deserialize_with = "numbers")]
    pub rate: Vec<f64>,
    pub rate_end: Option<f64>,
    pub burstiness: f64,
    pub rate_series: Option<PathBuf>,
    pub trace_speed: f64,
    pub max_in_flight: Option<u32>,
    pub when_full: WhenFull,
    pub requests_per_stage: Option<u32>,
    pub requests_per_user: Option<u32>,
    pub duration_s: Option<f64>,
    pub warmup: u32,
    pub pause_s: f64,
    pub grace_s: f64,
    pub seed: u64,
    pub dataset: String,
    pub prompts: PromptSettings,
    pub max_tokens: Option<u32>,
    pub min_tokens: Option<u32>,
    pub ignore_eos: bool,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub timeout: TimeoutSettings,
    pub retry: RetrySettings,
    pub stop: StopSettings,
    pub slo: Slo,
    pub slos: Vec<Slo>,
    pub find: FindChoice,
    pub find_limit: u32,
    pub client: ClientSettings,
    pub telemetry: TelemetrySettings,
    pub output: OutputSettings,
    pub run: LoadRunSettings,
}

impl LoadConfig {
    /// The service levels that set any limit.
    pub fn levels(&self) -> Vec<&Slo> {
        std::iter::once(&self.slo).chain(&self.slos).filter(|slo| slo.is_set()).collect()
    }
}

/// Which API is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    #[serde(rename = "chat.completions")]
    ChatCompletions,
    /// `/v1/completions`.
    #[serde(rename = "completions")]
    Completions,
    /// `/v1/responses`.
    #[serde(rename = "responses")]
    Responses,
}

impl Endpoint {
    /// The name in settings and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
        }
    }
    /// The path below the base of the API, which ends in `/v1`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Responses => "/responses",
        }
    }
}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpChoice {
    /// What TLS agrees on; 1.1 without.
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "2")]
    Http2,
}

/// Whether connections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionChoice {
    /// Kept, unless the server closes them.
    Auto,
    /// Kept for the next request.
    Pooled,
    /// A new one for each request.
    PerRequest,
}

/// The encryption of `https`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct TlsSettings {
    pub insecure: bool,
    pub ca_file: Option<PathBuf>,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalKind {
    /// When an earlier one has ended.
    Closed,
    /// At even distances.
    Constant,
    /// At exponential distances.
    Poisson,
    /// At distances of a gamma distribution.
    Gamma,
    /// At a rate that rises or falls steadily.
    Ramp,
    /// At rates from a file.
    Series,
    /// At the times of a recorded trace.
    Trace,
}

impl ArrivalKind {
    /// The name in settings and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Constant => "constant",
            Self::Poisson => "poisson",
            Self::Gamma => "gamma",
            Self::Ramp => "ramp",
            Self::Series => "series",
            Self::Trace => "trace",
        }
    }
}

/// What becomes of a request that is due while the most are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits, and its latency counts from when it was due.
    Queue,
    /// It is dropped and counted.
    Drop,
}

/// How prompts are made or chosen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct PromptSettings {
    pub input_tokens: Option<Lengths>,
    pub output_tokens: Option<Lengths>,
    pub limit: Option<u32>,
    pub shuffle: bool,
    pub lenient: bool,
    pub shared_prefix_tokens: u32,
    pub prefixes: u32,
    pub turns: u32,
    pub think_time_s: Lengths,
    pub salt: Option<bool>,
    pub tokenizer: Option<PathBuf>,
}

/// When a request is given up; 0 waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct TimeoutSettings {
    pub connect_s: f64,
    pub first_token_s: f64,
    pub stall_s: f64,
    pub total_s: f64,
}

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct RetrySettings {
    pub attempts: u32,
    pub max_wait_s: f64,
}

/// When a stage is given up.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct StopSettings {
    pub max_errors: Option<u32>,
    pub max_error_rate: Option<f64>,
    pub over_saturation: bool,
}

/// A service level; a limit of `None` is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct Slo {
    #[serde(default = "slo_name")]
    pub name: String,
    #[serde(default)]
    pub ttft_ms: Option<f64>,
    #[serde(default)]
    pub tpot_ms: Option<f64>,
    #[serde(default)]
    pub itl_ms: Option<f64>,
    #[serde(default)]
    pub e2e_ms: Option<f64>,
    #[serde(default = "slo_quantile")]
    pub quantile: f64,
}

fn slo_name() -> String {
    "slo".to_owned()
}
fn slo_quantile() -> f64 {
    0.95
}

impl Slo {
    /// Whether it limits anything.
    pub fn is_set(&self) -> bool {
        [self.ttft_ms, self.tpot_ms, self.itl_ms, self.e2e_ms].iter().any(Option::is_some)
    }
}

/// What is looked for beyond the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindChoice {
    /// Nothing.
    None,
    /// Where throughput stops to grow.
    Knee,
    /// The highest rate under which the level is kept.
    MaxRate,
    /// The highest concurrency under which the level is kept.
    MaxConcurrency,
}

/// The load generator itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct ClientSettings {
    pub threads: u32,
    pub stamps: StampChoice,
    pub connect_rate: f64,
    pub max_event_bytes: u64,
    pub max_lag_ms: f64,
    pub max_dispatch_delay_ms: f64,
    pub keep_text: bool,
}

/// Who stamps what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampChoice {
    /// The kernel where it does, else this program.
    Auto,
    /// The kernel, or the run is refused.
    Kernel,
    /// This program, when it reads.
    User,
}

/// Whether the server's metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// Where it has any.
    Auto,
    /// Not at all.
    Off,
}

/// Whether the GPUs of this machine are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuChoice {
    /// If a server is on this machine.
    Auto,
    /// Wherever the server is.
    On,
    /// Not at all.
    Off,
}

/// What is watched beside the requests.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct TelemetrySettings {
    pub server: Watch,
    pub metrics_url: Option<String>,
    pub interval_s: f64,
    pub gpu: GpuChoice,
    pub gpu_interval_ms: u32,
    pub price_usd_per_hour: Option<f64>,
}

/// Under which names further files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutChoice {
    /// No further files.
    Perfprof,
    /// `<backend>_<time>.json` and `_requests.csv`.
    InfraBench,
    /// `requests_cN.csv`, `summary_cN.json`, `summary_all.csv`, `overall_summary.json`.
    BenchPack,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UiChoice {
    /// A line on a terminal, else nothing.
    Auto,
    /// A line each few seconds.
    Plain,
    /// A screen of panels.
    Tui,
    /// Nothing.
    None,
}

/// What is written beside the run directory's own files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct OutputSettings {
    pub layout: LayoutChoice,
    pub summary_csv: Option<PathBuf>,
    pub ui: UiChoice,
}

/// How the run is named and judged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys above says what each means")]
pub struct LoadRunSettings {
    pub id: Option<String>,
    pub tag: Option<String>,
    pub allow_invalid: bool,
}

/// One text, a list of them, or null.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(String),
        Many(Vec<String>),
        None(()),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::One(text) => vec![text],
        Given::Many(texts) => texts,
        Given::None(()) => Vec::new(),
    })
}

/// One number, or a list of them, each above 0.
fn numbers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(f64),
        Many(Vec<f64>),
    }
    let numbers = match Given::deserialize(deserializer)? {
        Given::One(number) => vec![number],
        Given::Many(numbers) => numbers,
    };
    match numbers.iter().find(|number| !(number.is_finite() && **number > 0.0)) {
        Some(bad) => Err(serde::de::Error::custom(format!("{bad} is no rate: it must be above 0"))),
        None => Ok(numbers),
    }
}
