//! From settings to what the workers need: options, header lines, stages and their arrivals.

use std::sync::Arc;
use std::time::Duration;

use crate::config::schema::load::{ArrivalKind, ConnectionChoice, LoadConfig, StampChoice, WhenFull};
use crate::load::client::body::BodyTemplate;
use crate::load::client::target::Target;
use crate::load::executor::job::ClientOptions;
use crate::record::load::context::StagePlan;
use crate::runner::load::drive::StageSettings;

/// New tokens of a request whose prompt is made up, where nothing says how many.
const MADE_UP_TOKENS: u32 = 128;
/// Prompts prepared for a stage that ends by time, at least and at most.
const LEAST_PROMPTS: u64 = 1024;
const MOST_PROMPTS: u64 = 20_000;

/// A limit of seconds, where 0 is none.
fn limit(seconds: f64) -> Option<Duration> {
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).ok() } else { None }
}

/// How the client behaves.
/// `server_closes`: the server was seen to close a connection after an answer.
pub fn client_options(config: &LoadConfig, server_closes: bool) -> ClientOptions {
    ClientOptions {
        threads: config.client.threads,
        kernel_stamps: config.client.stamps != StampChoice::User,
        connection_per_request: match config.connections {
            ConnectionChoice::Auto => server_closes,
            ConnectionChoice::Pooled => false,
            ConnectionChoice::PerRequest => true,
        },
        connect_rate: config.client.connect_rate,
        max_bytes: usize::try_from(config.client.max_event_bytes).unwrap_or(usize::MAX),
        connect_timeout: limit(config.timeout.connect_s),
        first_token_timeout: limit(config.timeout.first_token_s),
        stall_timeout: limit(config.timeout.stall_s),
        total_timeout: limit(config.timeout.total_s),
        retries: config.retry.attempts,
        max_retry_wait: Duration::try_from_secs_f64(config.retry.max_wait_s).unwrap_or(Duration::MAX),
        keep_text: config.client.keep_text,
    }
}

/// What the bodies of all requests have in common.
pub fn body_template(config: &LoadConfig, model: &str) -> BodyTemplate {
    let made_up = matches!(config.dataset.as_str(), "random" | "synthetic");
    BodyTemplate {
        endpoint: config.endpoint,
        model: model.to_owned(),
        stream: config.stream,
        include_usage: config.include_usage,
        continuous_usage: config.continuous_usage,
        max_tokens: config
            .max_tokens
            .or_else(|| (made_up && config.prompts.output_tokens.is_none()).then_some(MADE_UP_TOKENS)),
        min_tokens: config.min_tokens,
        ignore_eos: config.ignore_eos,
        temperature: config.temperature,
        top_p: config.top_p,
        extra: config.extra_body.clone(),
    }
}

/// The request line and the header of requests to `target`, up to the length of the body. `lines` are further header lines, each ended by CR LF.
pub fn request_head(config: &LoadConfig, target: &Target, lines: &str) -> String {
    let accept = if config.stream { "text/event-stream" } else { "application/json" };
    let close = if config.connections == ConnectionChoice::PerRequest { "Connection: close\r\n" } else { "" };
    format!(
        "POST {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: perfprof/{}\r\nAccept: {accept}\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n{close}{lines}Content-Length: ",
        target.base_path,
        config.endpoint.path(),
        target.host_header(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The stages, in order.
pub fn stages(config: &LoadConfig) -> Vec<StagePlan> {
    let plan = |label: String, concurrency: Option<u32>, rate: Option<f64>| StagePlan {
        label,
        arrival: config.arrival,
        concurrency,
        rate,
        requests: config.requests_per_stage,
        duration_s: config.duration_s,
        warmup: config.warmup,
    };
    match config.arrival {
        ArrivalKind::Closed => config.concurrency.0.iter().map(|level| closed(&plan, *level)).collect(),
        ArrivalKind::Series => vec![plan("series".to_owned(), None, None)],
        ArrivalKind::Trace => vec![plan("trace".to_owned(), None, None)],
        _ => config.rate.iter().map(|rate| open(&plan, *rate)).collect(),
    }
}

fn closed(plan: &dyn Fn(String, Option<u32>, Option<f64>) -> StagePlan, level: u32) -> StagePlan {
    plan(format!("c={level}"), Some(level), None)
}

fn open(plan: &dyn Fn(String, Option<u32>, Option<f64>) -> StagePlan, rate: f64) -> StagePlan {
    plan(format!("{rate}/s"), None, Some(rate))
}

/// A stage like `model` at another concurrency.
pub fn at_concurrency(model: &StagePlan, level: u32) -> StagePlan {
    StagePlan { label: format!("c={level}"), concurrency: Some(level), ..model.clone() }
}

/// A stage like `model` at another rate.
pub fn at_rate(model: &StagePlan, rate: f64) -> StagePlan {
    let rate = (rate * 1000.0).round() / 1000.0;
    StagePlan { label: format!("{rate}/s"), rate: Some(rate), ..model.clone() }
}

/// What a stage needs beside its plan; `due_ns` are the arrivals of an open loop.
pub fn stage_settings(config: &LoadConfig, due_ns: Vec<u64>) -> StageSettings {
    StageSettings {
        grace: Duration::try_from_secs_f64(config.grace_s).unwrap_or(Duration::MAX),
        due_ns: Arc::from(due_ns),
        max_in_flight: config.max_in_flight,
        drop_when_full: config.when_full == WhenFull::Drop,
        steady_rate: matches!(config.arrival, ArrivalKind::Constant | ArrivalKind::Poisson | ArrivalKind::Gamma),
    }
}

/// The most requests in flight the settings can lead to, where that is known.
pub fn most_in_flight(config: &LoadConfig) -> Option<u32> {
    match config.arrival {
        ArrivalKind::Closed => config.concurrency.0.iter().copied().max(),
        _ => config.max_in_flight,
    }
}

/// How many conversations the settings may ask for, so that as many prompts can be made: warm-up and all stages. What a stage of a closed loop sends in its
/// time is up to the server; two requests a second from each place are prepared for, and beyond that prompts are used again.
pub fn requests_needed(config: &LoadConfig, stages: &[StagePlan]) -> u64 {
    let of = |stage: &StagePlan| {
        let in_time = stage.duration_s.map(|seconds| {
            let per_second = stage.rate.or(stage.concurrency.map(|places| 2.0 * f64::from(places))).unwrap_or(10.0);
            ((per_second * seconds * 1.2) as u64).clamp(LEAST_PROMPTS, MOST_PROMPTS)
        });
        let counted = stage.requests.map(u64::from);
        let sent = counted.into_iter().chain(in_time).min().unwrap_or(LEAST_PROMPTS);
        sent + u64::from(config.warmup)
    };
    stages.iter().map(of).sum()
}
