//! `perfprof load calibrate`: how far this load generator is to be believed on this machine, against a server whose every send is known.
//!
//! The mock and the load run are processes of their own. What the run reports is held against what the mock recorded of its own sends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::commands::interrupt::Interrupt;
use crate::commands::{Context, print_answer};
use crate::config::schema::load_text::Concurrency;
use crate::diagnostics::{ExitStatus, Failure};
use crate::load::client::simple::{Question, ask};
use crate::load::client::target::Target;

/// What the p99 of TTFT may be off by for a level to be good, in ms.
const TTFT_ERROR_MS: f64 = 2.0;
/// What the p99 of the gaps may be off by, in ms.
const GAP_ERROR_MS: f64 = 0.5;

/// Options of `perfprof load calibrate`.
#[derive(Debug, Clone)]
pub struct CalibrateOptions {
    /// Levels of concurrency.
    pub concurrency: String,
    /// From a request to its first token, in ms.
    pub ttft_ms: f64,
    /// From one chunk to the next, in ms.
    pub itl_ms: f64,
    /// Tokens of each answer.
    pub tokens: u32,
    /// Requests of each level, as a multiple of its concurrency.
    pub waves: u32,
    /// Further settings of the load run, e.g. `client.threads=2`.
    pub overrides: Vec<String>,
}

/// Percentiles of one measure as reported and as sent.
#[derive(Debug, Clone, Serialize)]
pub struct Against {
    /// As the load run reports them: p50, p99.
    pub reported_ms: [Option<f64>; 2],
    /// As the mock recorded its own sends: p50, p99.
    pub sent_ms: [Option<f64>; 2],
}

impl Against {
    fn error(&self, at: usize) -> Option<f64> {
        Some(self.reported_ms[at]? - self.sent_ms[at]?)
    }
}

/// One level.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    /// Requests asked to be in flight.
    pub concurrency: u32,
    /// The most that were, as the server saw it.
    pub peak_in_flight: Option<u64>,
    /// Requests that ended well, and all.
    pub ok: [u64; 2],
    /// Chunks per second over the stage.
    pub chunks_per_s: Option<f64>,
    /// Time to the first token.
    pub ttft: Against,
    /// Gaps between chunks.
    pub gap: Against,
    /// p99 of the client's lag in ms.
    pub lag_ms: Option<f64>,
    /// CPU time of the client per chunk in µs.
    pub cpu_us_per_chunk: Option<f64>,
    /// p99 of how late the mock was itself, in ms: a mock that is late says nothing about the client.
    pub mock_lag_ms: Option<f64>,
    /// Whether the figures of this level can be believed.
    pub good: bool,
    /// Why not.
    pub why_not: Vec<String>,
}

/// The child that serves; ended with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `perfprof load calibrate`.
pub fn run(options: &CalibrateOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let levels = Concurrency::parse(&options.concurrency)
        .map_err(|message| Failure::new(ExitStatus::Usage, message).hint("write levels as `64,256,1024`"))?;
    let interrupt = Interrupt::install()?;
    let program = std::env::current_exe()?;
    let scratch = tempfile::tempdir()?;
    let (server, url) = start(&program, options)?;
    let target = Target::parse(&url).and_then(Target::resolve)?;
    let mut measured = Vec::new();
    for level in levels.0 {
        if interrupt.asked() {
            return Ok(interrupt.status());
        }
        measured.push(measure(&program, scratch.path(), options, &target, &url, level)?);
    }
    drop(server);
    let text = if context.json { serde_json::to_string_pretty(&measured)? + "\n" } else { table(&measured, options) };
    print_answer(&text)?;
    let good = measured.iter().all(|level| level.good);
    Ok(if good { ExitStatus::Success } else { ExitStatus::Invalid })
}

fn start(program: &Path, options: &CalibrateOptions) -> anyhow::Result<(Server, String)> {
    let mut child = Command::new(program)
        .args(["mock", "--quiet", "--ttft-ms", &options.ttft_ms.to_string(), "--itl-ms", &options.itl_ms.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take();
    let server = Server(child);
    let mut url = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout).read_line(&mut url)?;
    }
    if url.trim().is_empty() {
        return Err(Failure::new(ExitStatus::CouldNotStart, "the mock server did not start")
            .hint("try `perfprof mock`")
            .into());
    }
    Ok((server, url.trim().to_owned()))
}

fn question<'a>(method: &'a str, path: &'a str) -> Question<'a> {
    Question { method, path, headers: "", body: b"", timeout: Duration::from_secs(30), watch: None }
}

fn measure(
    program: &Path,
    scratch: &Path,
    options: &CalibrateOptions,
    target: &Target,
    url: &str,
    level: u32,
) -> anyhow::Result<Level> {
    let requests = u64::from(level) * u64::from(options.waves.max(1));
    let failed = |what: String| Failure::new(ExitStatus::CouldNotStart, what);
    let mut command = Command::new(program);
    command
        .args(["load", "--json", "--quiet", "--output-root"])
        .arg(scratch)
        .args([
            format!("base_url={url}"),
            "model=mock".to_owned(),
            format!("concurrency={level}"),
            format!("requests_per_stage={requests}"),
            format!("prompts.output_tokens={}", options.tokens),
            "warmup=0".to_owned(),
            "telemetry.server=off".to_owned(),
            "telemetry.gpu=off".to_owned(),
            "run.allow_invalid=true".to_owned(),
        ])
        .args(&options.overrides)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    // The probe of the run before the first level is in the mock's records, too: the percentiles of thousands do not show it.
    ask(target, None, &question("POST", "/reset"))
        .map_err(|error| failed(format!("the mock server does not answer: {error}")))?;
    let output = command.output()?;
    let metrics: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        let words = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it said nothing").to_owned();
        failed(format!("the load run at {level} in flight gave no result: {words}"))
    })?;
    let reply = ask(target, None, &question("GET", "/stats"))
        .map_err(|error| failed(format!("the mock server does not answer: {error}")))?;
    let sent: Value = serde_json::from_slice(&reply.body)?;
    Ok(judge(level, &metrics["stages"][0], &sent))
}

fn judge(level: u32, stage: &Value, sent: &Value) -> Level {
    let against = |measure: &str, record: &str| Against {
        reported_ms: ["p50", "p99"].map(|p| stage["measures"][measure][p].as_f64()),
        sent_ms: ["p50", "p99"].map(|p| sent[record][p].as_f64()),
    };
    let (ttft, gap) = (against("ttft_ms", "ttft_ms"), against("inter_chunk_ms", "itl_ms"));
    let issued = stage["issued"].as_u64().unwrap_or(0);
    let ok = stage["outcomes"]["ok"].as_u64().unwrap_or(0);
    let peak = sent["peak_in_flight"].as_u64();
    let client = &stage["client"];
    let elapsed = stage["elapsed_s"].as_f64();
    let chunks = client["chunks"].as_f64();
    let mut why_not = Vec::new();
    if ok < issued {
        why_not.push(format!("{} of {issued} requests failed", issued - ok));
    }
    if peak.is_some_and(|peak| peak < u64::from(level)) {
        why_not.push(format!("{} were in flight at most", peak.unwrap_or(0)));
    }
    let mut far = |what: &str, error: Option<f64>, limit: f64| match error {
        Some(error) if error.abs() <= limit => {}
        Some(error) => why_not.push(format!("the p99 of {what} is off by {error:+.2} ms")),
        None => why_not.push(format!("the p99 of {what} is not known")),
    };
    far("TTFT", ttft.error(1), TTFT_ERROR_MS);
    far("the gaps", gap.error(1), GAP_ERROR_MS);
    Level {
        concurrency: level,
        peak_in_flight: peak,
        ok: [ok, issued],
        chunks_per_s: chunks
            .zip(elapsed)
            .filter(|(_, elapsed)| *elapsed > 0.0)
            .map(|(chunks, elapsed)| chunks / elapsed),
        lag_ms: client["lag_ms"].as_f64().or_else(|| client["lag_ms"][2].as_f64()),
        cpu_us_per_chunk: client["cpu_us_per_chunk"].as_f64(),
        mock_lag_ms: sent["lag_ms"]["p99"].as_f64(),
        good: why_not.is_empty(),
        why_not,
        ttft,
        gap,
    }
}

fn table(levels: &[Level], options: &CalibrateOptions) -> String {
    let cell =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"));
    let off = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:+.2}"));
    let mut text = format!(
        "against a mock on this machine, {} ms to the first token, {} ms between chunks, {} tokens a request\n\n  asked   peak  chunks/s  TTFT p50  p99 error  gap p99  error ms  lag p99  CPU µs/chunk  mock lag\n",
        options.ttft_ms, options.itl_ms, options.tokens
    );
    for level in levels {
        text.push_str(&format!(
            "{:>7}{:>7}{:>10}{:>10}{:>11}{:>9}{:>10}{:>9}{:>14}{:>10}  {}\n",
            level.concurrency,
            level.peak_in_flight.map_or_else(|| "–".to_owned(), |peak| peak.to_string()),
            cell(level.chunks_per_s, 0),
            cell(level.ttft.reported_ms[0], 1),
            off(level.ttft.error(1)),
            cell(level.gap.reported_ms[1], 2),
            off(level.gap.error(1)),
            cell(level.lag_ms, 2),
            cell(level.cpu_us_per_chunk, 1),
            cell(level.mock_lag_ms, 2),
            if level.good { "good".to_owned() } else { level.why_not.join("; ") },
        ));
    }
    let best = levels.iter().take_while(|level| level.good).last();
    text.push('\n');
    text.push_str(&match best {
        Some(level) => format!(
            "Figures of this client can be believed up to {} streams at {} ms on this machine as it is now (errors of p99: TTFT {TTFT_ERROR_MS} ms, gaps {GAP_ERROR_MS} ms).\n",
            level.concurrency, options.itl_ms
        ),
        None => "Not even the lowest level can be believed: stop other work on this machine and try again.\n".to_owned(),
    });
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn level(reported_p99: f64, peak: u64, ok: u64) -> Level {
        let stage = json!({
            "issued": 10, "outcomes": {"ok": ok}, "elapsed_s": 2.0,
            "measures": {"ttft_ms": {"p50": 100.1, "p99": reported_p99}, "inter_chunk_ms": {"p50": 20.0, "p99": 20.2}},
            "client": {"chunks": 1000, "cpu_us_per_chunk": 9.0, "lag_ms": 0.3},
        });
        let sent = json!({"peak_in_flight": peak, "ttft_ms": {"p50": 100.0, "p99": 100.2}, "itl_ms": {"p50": 20.0, "p99": 20.1}, "lag_ms": {"p99": 0.1}});
        judge(8, &stage, &sent)
    }

    #[test]
    fn a_level_is_good_if_it_says_what_was_sent() {
        let good = level(101.0, 8, 10);
        assert!(good.good, "{:?}", good.why_not);
        assert_eq!((good.chunks_per_s, good.lag_ms), (Some(500.0), Some(0.3)));
        assert!(level(103.0, 8, 10).why_not[0].contains("TTFT"));
        assert!(level(98.0, 8, 10).why_not[0].contains("-2.20"));
        assert!(level(101.0, 7, 10).why_not[0].contains("in flight"));
        assert!(level(101.0, 8, 9).why_not[0].contains("1 of 10"));
    }
}
