//! `perfprof load`: drives an OpenAI-compatible server and writes a run directory.

pub mod calibrate;
pub(in crate::commands) mod credentials;
mod host;
mod output;
mod preflight;
mod tui;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use output::{RenderedLoad, print_summary, render_load};

use self::host::{Host, Title};
use super::Context;
use super::interrupt::Interrupt;
use super::stage1::HASH_LIMIT_BYTES;
use crate::config::compose::{ComposeRequest, Composed, compose};
use crate::config::schema::load::{
    ArrivalKind, ConnectionChoice, FindChoice, GpuChoice, HttpChoice, LoadConfig, UiChoice, Watch,
};
use crate::diagnostics::{Diagnostics, ExitStatus, Failure, Severity};
use crate::hardware::contention::{ContentionThresholds, machine_state};
use crate::hardware::identify;
use crate::load::arrival::{Arrival, Schedule};
use crate::load::client::target::{Target, TargetError};
use crate::load::executor::job::RunShared;
use crate::load::telemetry::scrape::{ScrapePlan, Scraper};
use crate::load::workload;
use crate::load::workload::counter::{Counter, TokenizerCounter};
use crate::load::workload::item::Dataset;
use crate::net::clock::{now_ns, wall_ns};
use crate::net::tls::{Offer, TlsClient};
use crate::record::gpu::gpu_file;
use crate::record::inputs::{FileInput, INPUTS_FILE, INPUTS_SCHEMA_VERSION, Inputs, to_yaml};
use crate::record::load::context::{LoadContext, StagePlan, StageRecord, TargetRecord, WorkloadRecord};
use crate::record::load::{LOAD_CONTEXT_FILE, LOAD_SCHEMA_VERSION, REQUESTS_FILE, SERVER_METRICS_FILE};
use crate::record::rows_writer::RowsWriter;
use crate::record::run_dir::{RunDir, RunOptions, RunStatus, rfc3339};
use crate::record::{RecordError, environment, manifest};
use crate::report::load::compat::Tool;
use crate::runner::load::drive::{CountTokens, DriveError, LoadDriver};
use crate::runner::load::find::Finder;
use crate::runner::load::gpu::{GpuWatch, is_here};
use crate::runner::load::prepare;
use crate::runner::summary::Ending;

/// The dataset that is there without a file.
const BUILTIN: &str = "builtin";
/// How long the machine is looked at after a run.
const LOOK: Duration = Duration::from_millis(200);
/// Wall and monotonic clock may differ by so much at the end of a run before somebody has set the clock.
const CLOCK_STEP_NS: u64 = 1_000_000_000;

/// Options of `perfprof load`.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `key=value` overrides in order.
    pub overrides: Vec<String>,
    /// A run file.
    pub run_config: Option<PathBuf>,
    /// Print the composed settings and their origins, send nothing.
    pub print_config: bool,
    /// Print the run in another tool's definitions too.
    pub compat: Option<String>,
    /// Further runs to show in the same report.
    pub with: Vec<String>,
}

/// Runs `perfprof load`.
pub fn run(options: &LoadOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let request = ComposeRequest {
        command: "load".to_owned(),
        overrides: options.overrides.clone(),
        run_config: options.run_config.clone(),
        config_dir: context.config_dir.clone(),
    };
    let tree = compose(&request).map_err(Failure::from)?;
    let mut config = tree.load().map_err(Failure::from)?;
    if config.dataset == BUILTIN {
        // Eighteen prompts in turn would be answered from a prompt cache, and the server look faster than it is.
        config.prompts.salt.get_or_insert(true);
    }
    if options.print_config {
        let redactor = crate::record::redact::Redactor::from_env();
        super::print_answer(&redactor.text(&tree.to_yaml_with_provenance()))?;
        return Ok(ExitStatus::Success);
    }
    // What would fail when all is over fails now, before anything is sent.
    let compat = options.compat.as_deref().map(output::tool).transpose()?;
    let others = others(options, context)?;
    if let Some(path) = &config.output.summary_csv {
        output::check_summary(path)?;
    }
    let interrupt = Interrupt::install()?;
    let prepared = Prepared::new(&config)?;
    for plan in &prepared.stages {
        if let Some((users, requests)) =
            plan.concurrency.zip(plan.requests).filter(|(users, requests)| requests < users)
        {
            tracing::warn!(
                "stage `{}` has {requests} requests for {users} users, and will be INVALID: raise `requests_per_stage`, or leave it out",
                plan.label
            );
        }
    }
    heavy(&prepared.stages, config.max_tokens);
    let run_options = RunOptions {
        id: config.run.id.clone(),
        argv: None,
        tag: config.run.tag.clone(),
        config_sha256: Some(tree.sha256()),
    };
    let mut directory =
        RunDir::create_with(&context.output_root, "load", run_options).map_err(RecordError::into_failure)?;
    match run_in(&mut directory, &tree, &config, context, &interrupt, prepared, &others, compat) {
        Ok(status) => Ok(status),
        Err(error) => {
            // The directory may be gone or full; the error that brought us here matters more than a second one.
            let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
            Err(error)
        }
    }
}

/// Requests in flight from which a test is a burden to a server that others use.
const HEAVY_USERS: u32 = 64;
/// Output tokens from which it is.
const HEAVY_TOKENS: u64 = 50_000;

/// Says beforehand what a heavy test asks of the server.
fn heavy(stages: &[StagePlan], max_tokens: Option<u32>) {
    let users = stages.iter().filter_map(|plan| plan.concurrency).max().unwrap_or(0);
    let requests: u64 = stages.iter().filter_map(|plan| plan.requests).map(u64::from).sum();
    let tokens = requests.saturating_mul(u64::from(max_tokens.unwrap_or(0)));
    if users >= HEAVY_USERS && tokens >= HEAVY_TOKENS {
        tracing::warn!(
            "a heavy test: {requests} requests in {} stages of up to {users} at once, and up to {tokens} output tokens; others who use the server \
             will wait for theirs",
            stages.len()
        );
    }
}

/// A test that nothing speaks against, before a directory is made or a request is sent.
struct Prepared {
    targets: Vec<Target>,
    tls: Option<TlsClient>,
    credentials: credentials::Credentials,
    found: preflight::Found,
    dataset: Dataset,
    counter: Option<TokenizerCounter>,
    stages: Vec<StagePlan>,
    /// Whether the server closes connections after an answer.
    server_closes: bool,
}

fn target_failure(error: &TargetError) -> Failure {
    let status = match error {
        TargetError::Malformed { .. } => ExitStatus::Usage,
        TargetError::Unresolved { .. } => ExitStatus::CouldNotStart,
    };
    Failure::new(status, error.to_string()).hint(error.hint())
}

impl Prepared {
    fn new(config: &LoadConfig) -> anyhow::Result<Self> {
        if config.base_url.is_empty() {
            return Err(Failure::new(ExitStatus::Usage, "no server is given")
                .hint("give `base_url=http://HOST:PORT`")
                .into());
        }
        let stages = prepare::stages(config);
        let counter = match &config.prompts.tokenizer {
            Some(path) => Some(TokenizerCounter::open(path).map_err(|error| Failure::new(ExitStatus::Usage, error))?),
            None => None,
        };
        let needed = prepare::requests_needed(config, &stages);
        let dyn_counter = counter.as_ref().map(|counter| counter as &dyn Counter);
        let dataset = workload::build(config, dyn_counter, needed).map_err(Failure::from)?;
        for plan in &stages {
            arrivals(config, plan, &dataset)?;
        }
        let credentials = credentials::collect(config, Path::new(".env"))?;
        let mut targets = Vec::new();
        for url in &config.base_url {
            let mut target = Target::parse(url).and_then(Target::resolve).map_err(|error| target_failure(&error))?;
            target.http2 = config.http == HttpChoice::Http2;
            targets.push(target);
        }
        let tls = if targets.iter().any(|target| target.tls) {
            let offer = match config.http {
                HttpChoice::Auto => Offer::Both,
                HttpChoice::Http1 => Offer::Http1,
                HttpChoice::Http2 => Offer::Http2,
            };
            let tls = TlsClient::new(config.tls.ca_file.as_deref(), config.tls.insecure, offer);
            Some(tls.map_err(|error| {
                let failure = Failure::new(ExitStatus::CouldNotStart, error.to_string());
                match std::error::Error::source(&error) {
                    Some(source) => failure.because(source.to_string()),
                    None => failure.hint("give the certificate of the server's authority in `tls.ca_file`"),
                }
            })?)
        } else {
            None
        };
        preflight::limits(config, targets.len())?;
        preflight::stamps(config)?;
        let found = preflight::look(config, &targets, tls.as_ref(), &credentials.lines)?;
        let server_closes = match targets.first() {
            Some(first) => preflight::probe(config, first, tls.as_ref(), &credentials.lines, &found)?,
            None => false,
        };
        Ok(Self { targets, tls, credentials, found, dataset, counter, stages, server_closes })
    }
}

/// The arrivals of a stage of an open loop, in ns after its begin.
fn arrivals(config: &LoadConfig, plan: &StagePlan, dataset: &Dataset) -> anyhow::Result<Vec<u64>> {
    if plan.arrival == ArrivalKind::Closed {
        return Ok(Vec::new());
    }
    let arrival = Arrival::of(config, plan.rate.unwrap_or(1.0), dataset).map_err(Failure::from)?;
    let requests = plan.requests.map(u64::from);
    let schedule = Schedule::new(arrival, requests, plan.duration_s, config.seed).map_err(Failure::from)?;
    Ok(schedule.collect())
}

/// What stays of the settings and the machine while stages run.
struct Session<'a> {
    config: &'a LoadConfig,
    dataset_sha256: String,
    context: LoadContext,
}

impl Session<'_> {
    fn keep(&self, directory: &RunDir) -> anyhow::Result<()> {
        Ok(directory.write_json(LOAD_CONTEXT_FILE, &self.context).map_err(RecordError::into_failure)?)
    }
}

#[expect(clippy::too_many_arguments, reason = "each is a thing of its own, and nobody else calls this")]
fn run_in(
    directory: &mut RunDir,
    tree: &Composed,
    config: &LoadConfig,
    context: &Context,
    interrupt: &Interrupt,
    prepared: Prepared,
    others: &[PathBuf],
    compat: Option<Tool>,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    for secret in &prepared.credentials.secrets {
        directory.hide(secret).map_err(record)?;
    }
    for target in &prepared.targets {
        if let Some(userinfo) = &target.userinfo {
            directory.hide(userinfo).map_err(record)?;
        }
    }
    let config_text = directory.redactor().text(&tree.to_yaml_with_provenance());
    directory.write("config.yaml", config_text.as_bytes()).map_err(record)?;
    let machine = identify::machine();
    directory.write_json("env.json", &environment::capture(serde_json::to_value(&machine.gpu)?)).map_err(record)?;
    directory.write(INPUTS_FILE, to_yaml(&inputs(config, &prepared))?.as_bytes()).map_err(record)?;

    let mut diagnostics = Diagnostics::default();
    if config.tls.insecure {
        diagnostics.note(
            "tls_insecure",
            Severity::Warn,
            "certificates were not checked (`tls.insecure=true`)".to_owned(),
        );
    }
    let (origin_ns, started_wall_ns) = (now_ns(), wall_ns());
    let Prepared { targets, tls, credentials, found, dataset, counter, stages, server_closes } = prepared;
    if server_closes && config.connections == ConnectionChoice::Auto {
        let text = "the server closes each connection after its answer: each request has a connection of its own, made before it is sent";
        diagnostics.note("server_closes_connections", Severity::Info, text.to_owned());
    }
    let workload = WorkloadRecord {
        dataset: directory.redactor().text(&dataset.name),
        format: dataset.format.clone(),
        prompts: dataset.items.len() as u64,
        distinct: dataset.distinct(),
        sha256: dataset.sha256(),
        seed: config.seed,
        tokenizer: counter.as_ref().map(Counter::name),
        notes: dataset.notes.clone(),
    };
    let mut session = Session {
        config,
        dataset_sha256: workload.sha256.clone(),
        context: LoadContext {
            schema_version: LOAD_SCHEMA_VERSION,
            run_id: directory.run_id().to_owned(),
            backend: config.backend.clone().unwrap_or_else(|| shown_backend(&found.targets)),
            model: directory.redactor().text(&found.model),
            endpoint: config.endpoint.name().to_owned(),
            stream: config.stream,
            targets: found.targets.clone(),
            workload,
            levels: config.levels().into_iter().cloned().collect(),
            seed: config.seed,
            started_at: rfc3339(jiff::Timestamp::now()),
            started_wall_ns,
            max_lag_ms: config.client.max_lag_ms,
            max_dispatch_delay_ms: config.client.max_dispatch_delay_ms,
            max_error_rate: config.stop.max_error_rate,
            price_usd_per_hour: config.telemetry.price_usd_per_hour,
            stages: Vec::new(),
            diagnostics: Vec::new(),
            complete: false,
        },
    };
    tracing::debug!(sha256 = session.dataset_sha256, prompts = session.context.workload.prompts, "workload");
    session.keep(directory)?;

    let scraper = scraper(config, &targets, tls.as_ref(), &credentials.lines, origin_ns);
    let scraper = match scraper {
        Some(Ok(scraper)) => Some(scraper),
        Some(Err(reason)) if config.telemetry.metrics_url.is_some() => {
            diagnostics.note(
                "server_metrics",
                Severity::Warn,
                format!("the server's metrics cannot be read: {reason}"),
            );
            None
        }
        _ => None,
    };
    if let (None, Some(scraper)) = (&config.backend, &scraper) {
        scraper.dialect().clone_into(&mut session.context.backend);
    }
    session.keep(directory)?;
    let watched = match config.telemetry.gpu {
        GpuChoice::Auto => targets.iter().flat_map(|target| &target.addresses).any(|address| is_here(address.ip())),
        choice => choice == GpuChoice::On,
    };
    let interval = Duration::from_millis(u64::from(config.telemetry.gpu_interval_ms));
    let gpus = if watched {
        GpuWatch::start(directory.run_id(), interval, origin_ns)
    } else {
        let why = if config.telemetry.gpu == GpuChoice::Off {
            "`telemetry.gpu=off`"
        } else {
            "the server is on another machine; `telemetry.gpu=on` looks at those of this one"
        };
        GpuWatch::none(why.to_owned())
    };
    if let Some(why) = gpus.why_none() {
        let text = format!("no GPU is looked at, so energy and the cost of it are not known: {why}");
        diagnostics.note("gpu_unavailable", Severity::Info, text);
    }
    let shared = RunShared {
        heads: targets
            .iter()
            .map(|target| prepare::request_head(config, target, &head_lines(target, &credentials.lines)))
            .collect(),
        targets,
        tls,
        template: prepare::body_template(config, &found.model),
        dataset,
        options: prepare::client_options(config, server_closes),
        origin_ns,
    };
    let mut host = Host::new(
        RowsWriter::create(&directory.file(REQUESTS_FILE)).map_err(record)?,
        directory.redactor().clone(),
        interrupt,
        if config.output.ui == UiChoice::Auto && !context.progress { UiChoice::None } else { config.output.ui },
        &Title {
            backend: &session.context.backend,
            model: &session.context.model,
            url: found.targets.first().map_or("", |target| &target.url),
            stages: stages.len(),
        },
        config.find != FindChoice::None,
    )?;
    let count = |text: &str| counter.as_ref().map(|counter| counter.count(text) as u64);
    let counts: Option<&CountTokens<'_>> = if counter.is_some() { Some(&count) } else { None };
    let mut driver = LoadDriver::new(shared, config.stop, counts).map_err(|error| {
        Failure::new(ExitStatus::CouldNotStart, format!("the load generator cannot start: {error}"))
    })?;
    let driven = drive_stages(directory, &mut session, &mut driver, &mut host, stages, interrupt);
    host.finish().map_err(record)?;
    driven?;

    if let Some(scraper) = scraper {
        let metrics = scraper.finish(directory.run_id());
        directory.write_json(SERVER_METRICS_FILE, &metrics).map_err(record)?;
    }
    for (place, telemetry) in gpus.finish(&session.context.stages).iter().enumerate() {
        directory.write_json(&gpu_file(place), telemetry).map_err(record)?;
    }
    // Looked at when all is over: before, it would keep the first request waiting, and during the test a server on this machine is what is busy.
    for warning in machine_state(LOOK).warnings(&ContentionThresholds::default()) {
        diagnostics.note("busy_machine", Severity::Warn, warning);
    }
    let stepped = (wall_ns().saturating_sub(started_wall_ns)).abs_diff(now_ns().saturating_sub(origin_ns));
    if stepped > CLOCK_STEP_NS {
        let seconds = stepped as f64 / 1e9;
        let text = format!("the wall clock was set by {seconds:.1} s during the run; durations are not affected");
        diagnostics.note("clock_step", Severity::Warn, text);
    }
    for (index, target) in session.context.targets.iter_mut().enumerate() {
        if let Some(http) = driver.spoken(index) {
            http.clone_into(&mut target.http);
        }
    }
    session.context.diagnostics = diagnostics.into_vec();
    let interrupted = interrupt.asked();
    session.context.complete = !interrupted;
    session.keep(directory)?;
    let ending = if interrupted { Ending::Interrupted } else { Ending::Complete };
    let rendered = output::render_load(directory.path(), ending, false, others)?;
    output::write_layout(&rendered, config.output.layout, directory.path())?;
    let status = match ending {
        Ending::Interrupted => RunStatus::Interrupted,
        _ if rendered.metrics.validity.is_valid() => RunStatus::Complete,
        _ => RunStatus::Invalid,
    };
    directory.finish(status, None).map_err(record)?;
    output::print_summary(&rendered, directory.path(), context)?;
    // The run is whole and shown before a file outside of it can fail.
    output::append_summary(&rendered, config.output.summary_csv.as_deref())?;
    if let Some(tool) = compat {
        output::print_compat(&rendered, tool, context)?;
    }
    Ok(match status {
        RunStatus::Interrupted => interrupt.status(),
        RunStatus::Invalid if !config.run.allow_invalid => ExitStatus::Invalid,
        _ => ExitStatus::Success,
    })
}

/// Drives the stages of the plan, and those that `find` adds.
fn drive_stages(
    directory: &RunDir,
    session: &mut Session<'_>,
    driver: &mut LoadDriver<'_>,
    host: &mut Host<'_>,
    stages: Vec<StagePlan>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let config = session.config;
    let mut finder = Finder::new(config, &stages);
    let mut queue: std::collections::VecDeque<StagePlan> = stages.into();
    let mut index = 0u32;
    while let Some(plan) = queue.pop_front().or_else(|| finder.further()) {
        if interrupt.asked() {
            break;
        }
        if index > 0 && config.pause_s > 0.0 {
            host.pause(Duration::from_secs_f64(config.pause_s));
        }
        host.stage(&plan);
        let due = arrivals(config, &plan, &driver.shared().dataset)?;
        let settings = prepare::stage_settings(config, due);
        let driven = driver.stage(index, &plan, &settings, host);
        let stage: StageRecord = driven.map_err(|error| match error {
            DriveError::Row(error) => error.into_failure(),
            DriveError::System(error) => {
                Failure::new(ExitStatus::CouldNotStart, format!("the load generator failed: {error}"))
            }
        })?;
        let rows = host.stage_ended(&stage);
        if config.find != FindChoice::None {
            finder.saw(&stage, &rows);
        }
        session.context.stages.push(stage);
        session.keep(directory)?;
        index += 1;
    }
    Ok(())
}

/// What the server calls itself in its header; servers on uvicorn say no more than that.
fn shown_backend(targets: &[TargetRecord]) -> String {
    let shown = targets.iter().find_map(|target| target.server.clone());
    let name = shown.as_deref().and_then(|name| name.split(['/', ' ']).next()).unwrap_or_default().to_lowercase();
    if name.is_empty() || name == "uvicorn" { "server".to_owned() } else { name.chars().take(40).collect() }
}

/// The header lines for `target`: those of all, and its own user and password.
fn head_lines(target: &Target, lines: &str) -> String {
    match &target.userinfo {
        Some(userinfo) if !lines.to_ascii_lowercase().contains("authorization:") => {
            format!("{lines}Authorization: Basic {}\r\n", base64(userinfo.as_bytes()))
        }
        _ => lines.to_owned(),
    }
}

/// Base64 of RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..4 {
            let shown = digit <= part.len();
            text.push(if shown { DIGITS[(word >> (18 - 6 * digit)) as usize & 63] as char } else { '=' });
        }
    }
    text
}

fn scraper(
    config: &LoadConfig,
    targets: &[Target],
    tls: Option<&TlsClient>,
    lines: &str,
    origin_ns: u64,
) -> Option<Result<Scraper, String>> {
    if config.telemetry.server == Watch::Off {
        return None;
    }
    let (target, path, tls) = if let Some(url) = &config.telemetry.metrics_url {
        let target = match Target::parse(url).and_then(Target::resolve) {
            Ok(target) => target,
            Err(error) => return Some(Err(error.to_string())),
        };
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let path = rest.find('/').map_or("/metrics".to_owned(), |at| rest[at..].to_owned());
        // It may be another server, which speaks what it likes.
        let tls = target.tls.then(|| TlsClient::new(config.tls.ca_file.as_deref(), config.tls.insecure, Offer::Both));
        match tls.transpose() {
            Ok(tls) => (target, path, tls),
            Err(error) => return Some(Err(error.to_string())),
        }
    } else {
        let target = targets.first()?.clone();
        let path = format!("{}/metrics", target.root_path());
        (target, path, tls.cloned())
    };
    let interval = Duration::from_secs_f64(config.telemetry.interval_s);
    let headers = head_lines(&target, lines);
    Some(Scraper::start(ScrapePlan { target, path, tls, headers, interval, origin_ns }))
}

fn inputs(config: &LoadConfig, prepared: &Prepared) -> Inputs {
    let path = Path::new(&config.dataset);
    let file = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|data| FileInput {
        role: "prompts".to_owned(),
        path: config.dataset.clone(),
        bytes: data.len(),
        sha256: if data.len() <= HASH_LIMIT_BYTES {
            manifest::entry(path).ok().map(|entry| entry.sha256)
        } else {
            None
        },
    });
    Inputs {
        schema_version: INPUTS_SCHEMA_VERSION,
        count: prepared.dataset.items.len() as u64,
        dataset_root: None,
        subset_filelist: None,
        seeds: [("prompts and arrivals".to_owned(), config.seed)].into_iter().collect(),
        files: file.into_iter().collect(),
        // What is sent has its hash in `load.json`; thousands of prompts would say no more.
        prompts: Vec::new(),
    }
}

/// The runs to show beside this one.
fn others(options: &LoadOptions, context: &Context) -> anyhow::Result<Vec<PathBuf>> {
    let resolve = |spec: &String| crate::record::find::resolve_run(&context.output_root, spec);
    Ok(options.with.iter().map(resolve).collect::<Result<_, _>>().map_err(RecordError::into_failure)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }
}
