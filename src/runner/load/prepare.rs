//! From settings to what the workers need: options, header lines, stages and their arrivals.

use std::sync::Arc;
use std::time::Duration;

use crate::config::schema::load::{ArrivalKind, ConnectionChoice, FindChoice, LoadConfig, StampChoice, WhenFull};
use crate::load::arrival::Arrival;
use crate::load::client::body::BodyTemplate;
use crate::load::client::target::Target;
use crate::load::executor::job::ClientOptions;
use crate::load::workload::item::Dataset;
use crate::record::load::context::StagePlan;
use crate::runner::load::drive::StageSettings;

/// New tokens of a request whose prompt is made up, where nothing says how many.
const MADE_UP_TOKENS: u32 = 128;
/// Prompts prepared for a stage that ends by time, at least and at most.
const LEAST_PROMPTS: u64 = 1024;
const MOST_PROMPTS: u64 = 20_000;
/// Prompts prepared for a search, whose stages nobody knows beforehand.
const FIND_PROMPTS: u64 = 4096;

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
        max_lag_ns: (config.client.max_lag_ms * 1e6) as u64,
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

/// Requests of a stage at least, where nothing says how many.
const LEAST_REQUESTS: u32 = 32;
/// Requests for each user there, so that most of a stage has as many in flight as were asked for.
const REQUESTS_PER_USER: u32 = 4;
/// Seconds of an open loop there.
const OPEN_SECONDS: f64 = 10.0;

/// Requests of a stage; `None` where its time, its ramp or its trace ends it.
fn requests(config: &LoadConfig, concurrency: Option<u32>, rate: Option<f64>) -> Option<u32> {
    let of_users = concurrency.zip(config.requests_per_user).map(|(users, each)| users.saturating_mul(each));
    let given = config.requests_per_stage.max(of_users);
    let ends_itself = config.duration_s.is_some()
        || matches!(config.arrival, ArrivalKind::Ramp | ArrivalKind::Series | ArrivalKind::Trace);
    if given.is_some() || ends_itself {
        return given;
    }
    let enough = concurrency.map_or_else(
        || (rate.unwrap_or(1.0) * OPEN_SECONDS).ceil() as u32,
        |users| users.saturating_mul(REQUESTS_PER_USER),
    );
    Some(enough.max(LEAST_REQUESTS))
}

fn plan(config: &LoadConfig, label: String, concurrency: Option<u32>, rate: Option<f64>) -> StagePlan {
    StagePlan {
        label,
        arrival: config.arrival,
        concurrency,
        rate,
        requests: requests(config, concurrency, rate),
        duration_s: config.duration_s,
        warmup: config.warmup,
    }
}

/// The stages, in order.
pub fn stages(config: &LoadConfig) -> Vec<StagePlan> {
    match config.arrival {
        ArrivalKind::Closed => config.concurrency.0.iter().map(|level| at_concurrency(config, *level)).collect(),
        ArrivalKind::Series => vec![plan(config, "series".to_owned(), None, None)],
        ArrivalKind::Trace => vec![plan(config, "trace".to_owned(), None, None)],
        ArrivalKind::Ramp => {
            let end = config.rate_end.map_or_else(String::new, |end| format!("{end}"));
            config.rate.iter().map(|rate| plan(config, format!("{rate}-{end}/s"), None, Some(*rate))).collect()
        }
        _ => config.rate.iter().map(|rate| plan(config, format!("{rate}/s"), None, Some(*rate))).collect(),
    }
}

/// The stage of a closed loop at a concurrency.
pub fn at_concurrency(config: &LoadConfig, level: u32) -> StagePlan {
    plan(config, format!("c={level}"), Some(level), None)
}

/// The stage of an open loop at a rate, which is rounded to thousandths.
pub fn at_rate(config: &LoadConfig, rate: f64) -> StagePlan {
    let rate = (rate * 1000.0).round() / 1000.0;
    plan(config, format!("{rate}/s"), None, Some(rate))
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
///
/// 0 if nobody knows: a trace has all its requests itself, and a search goes on with stages that are not planned.
pub fn requests_needed(config: &LoadConfig, stages: &[StagePlan]) -> u64 {
    let made_up = matches!(config.dataset.as_str(), "builtin" | "random" | "synthetic");
    if config.arrival == ArrivalKind::Trace || (config.find != FindChoice::None && !made_up) {
        return 0;
    }
    let of = |stage: &StagePlan| {
        let in_time = stage.duration_s.map(|seconds| {
            let sent = match stage.arrival {
                ArrivalKind::Closed => 2.0 * f64::from(stage.concurrency.unwrap_or(1)) * seconds,
                // A series that cannot be read is refused with its stage.
                _ => Arrival::of(config, stage.rate.unwrap_or(1.0), &Dataset::default())
                    .map_or(0.0, |arrival| arrival.expected(seconds)),
            };
            ((sent * 1.2) as u64).clamp(LEAST_PROMPTS, MOST_PROMPTS)
        });
        let counted = stage.requests.map(u64::from);
        let sent = counted.into_iter().chain(in_time).min().unwrap_or(LEAST_PROMPTS);
        sent + u64::from(config.warmup)
    };
    let planned: u64 = stages.iter().map(of).sum();
    if config.find == FindChoice::None { planned } else { planned.max(FIND_PROMPTS) }
}
