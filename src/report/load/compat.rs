//! The same rows in the definitions of other tools, under their labels, so that their figures can be put beside ours.
//!
//! What each tool does was read in its source (vLLM 0.33, SGLang 0.5.23, AIPerf 0.13, guidellm 0.8, genai-perf of 2025). Percentiles are by
//! linear interpolation as in these tools, but for guidellm, whose quantiles are weighted with tokens.

use crate::record::load::context::{LoadContext, StageRecord};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{ChunkKind, Phase, RequestRow, TokenSource};
use crate::report::escape::{cut, one_line};
use crate::report::number::{self, UNKNOWN};
use crate::report::table::{Cell, Table};
use crate::stats::quantile::quantile;
use crate::stats::summary::mean;

/// A tool whose definitions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `vllm bench serve`.
    Vllm,
    /// `sglang.bench_serving`.
    Sglang,
    /// NVIDIA AIPerf.
    Aiperf,
    /// guidellm.
    Guidellm,
    /// NVIDIA genai-perf.
    GenaiPerf,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Vllm, Self::Sglang, Self::Aiperf, Self::Guidellm, Self::GenaiPerf];

    /// The name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Aiperf => "aiperf",
            Self::Guidellm => "guidellm",
            Self::GenaiPerf => "genai-perf",
        }
    }
    /// The name in a sentence.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
            Self::Aiperf => "AIPerf",
            Self::Guidellm => "guidellm",
            Self::GenaiPerf => "genai-perf",
        }
    }
    /// The tool of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct CompatLine {
    /// The tool's label, its unit included.
    pub label: String,
    /// The value in the unit of the label; none where it cannot be told.
    pub value: Option<f64>,
}

/// The figures of a stage as another tool would print them.
#[derive(Debug, Clone, PartialEq)]
pub struct CompatTable {
    /// The tool.
    pub tool: Tool,
    /// The stage.
    pub stage: String,
    /// Its figures in its order.
    pub lines: Vec<CompatLine>,
    /// What it does otherwise than we do, and what of it cannot be reproduced.
    pub differs: Vec<String>,
}

impl CompatTable {
    /// The value under a label.
    pub fn value(&self, label: &str) -> Option<f64> {
        self.lines.iter().find(|line| line.label == label)?.value
    }
    /// As text for a terminal: a line a figure, then what differs.
    pub fn text(&self) -> String {
        let of = if self.stage.is_empty() { String::new() } else { format!(": {}", cut(&one_line(&self.stage), 40)) };
        let mut text = format!("=== as {} counts{of} ===\n", self.tool.title());
        for line in &self.lines {
            let value = line.value.map_or_else(|| UNKNOWN.to_owned(), shown);
            text.push_str(&format!("{:<52} {value:>12}\n", format!("{}:", line.label)));
        }
        for line in &self.differs {
            text.push_str(&format!("note: {line}\n"));
        }
        text
    }
    /// As a table of the report.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&["Label of the tool", "#Value"]);
        for line in &self.lines {
            let value = line.value.filter(|value| value.is_finite());
            let text = value.map_or_else(
                || UNKNOWN.to_owned(),
                |value| {
                    if value.fract() == 0.0 && value.abs() < 1e15 {
                        number::count(value as u64)
                    } else {
                        number::digits(value)
                    }
                },
            );
            table.push(vec![Cell::text(&line.label), Cell { text, sort: value, ..Cell::default() }]);
        }
        table
    }
    fn new(tool: Tool) -> Self {
        Self { tool, stage: String::new(), lines: Vec::new(), differs: Vec::new() }
    }
    fn push(&mut self, label: &str, value: Option<f64>) {
        self.lines.push(CompatLine { label: label.to_owned(), value: value.filter(|value| value.is_finite()) });
    }
    fn differs(&mut self, lines: &[&str]) {
        self.differs.extend(lines.iter().map(|line| (*line).to_owned()));
    }
}

/// What the tools are given: the measured requests of one stage.
struct Stage<'a> {
    record: Option<&'a StageRecord>,
    ok: Vec<&'a RequestRow>,
    failed: usize,
}

impl<'a> Stage<'a> {
    fn new(rows: &'a [RequestRow], context: &'a LoadContext, stage: u32) -> Self {
        let all = rows.iter().filter(|row| row.phase == Phase::Measured && row.stage == stage);
        let (ok, rest): (Vec<&RequestRow>, Vec<&RequestRow>) = all.partition(|row| row.outcome == Outcome::Ok);
        Self { record: context.stages.get(stage as usize), ok, failed: rest.len() }
    }
    /// Seconds from the first dispatch until everything had ended.
    fn wall_s(&self) -> Option<f64> {
        let record = self.record?;
        let seconds = record.end_ns.saturating_sub(record.begin_ns) as f64 / 1e9;
        (seconds > 0.0).then_some(seconds)
    }
    /// Seconds from the first request sent to the last response of `end`, over successful requests.
    fn response_window_s(&self, end_ms: impl Fn(&RequestRow) -> Option<f64>) -> Option<f64> {
        let begin = self.ok.iter().filter_map(|row| row.sent_ns).min()?;
        let ends = self.ok.iter().filter_map(|row| Some((row.sent_ns? - begin) as f64 / 1e9 + end_ms(row)? / 1e3));
        ends.reduce(f64::max).filter(|seconds| *seconds > 0.0)
    }
    fn values(&self, get: impl Fn(&RequestRow) -> Option<f64>) -> Vec<f64> {
        self.ok.iter().filter_map(|row| get(row)).filter(|value| value.is_finite()).collect()
    }
    /// Sum of a count that is known of at least one request.
    fn sum(&self, get: impl Fn(&RequestRow) -> Option<u64>) -> Option<f64> {
        self.ok.iter().filter_map(|row| get(row)).reduce(u64::saturating_add).map(|sum| sum as f64)
    }
    fn gaps(&self) -> Vec<f64> {
        self.ok.iter().flat_map(|row| row.gaps_ms()).collect()
    }
}

fn over(value: Option<f64>, seconds: Option<f64>) -> Option<f64> {
    Some(value? / seconds.filter(|seconds| *seconds > 0.0)?)
}

fn end_ms(row: &RequestRow) -> Option<f64> {
    row.end_us.map(|us| us as f64 / 1e3)
}

/// (end − first token) / (n − 1), for more than one token.
fn per_later_token(end_ms: Option<f64>, ttft_ms: Option<f64>, tokens: Option<u64>) -> Option<f64> {
    let later = tokens?.checked_sub(1).filter(|later| *later > 0)?;
    Some((end_ms? - ttft_ms?) / later as f64)
}

/// Mean, median and p99 of each list under labels such as `Mean TTFT (ms)`.
fn classic(table: &mut CompatTable, name: &str, values: &[f64], percentiles: &[(&str, f64)]) {
    table.push(&format!("Mean {name} (ms)"), mean(values));
    table.push(&format!("Median {name} (ms)"), quantile(values, 0.5));
    for (label, p) in percentiles {
        table.push(&format!("{label} {name} (ms)"), quantile(values, *p));
    }
}

/// The figures of the stage `stage` as `tool` would print them, from rows that this program measured.
pub fn compat(tool: Tool, rows: &[RequestRow], context: &LoadContext, stage: u32) -> CompatTable {
    let stage = Stage::new(rows, context, stage);
    let table = match tool {
        Tool::Vllm => vllm(&stage),
        Tool::Sglang => sglang(&stage),
        Tool::Aiperf => aiperf(&stage),
        Tool::Guidellm => guidellm(&stage),
        Tool::GenaiPerf => genai_perf(&stage),
    };
    // One stage needs no name.
    let several = context.stages.len() > 1;
    let label = stage.record.filter(|_| several).map_or_else(String::new, |record| record.plan.label.clone());
    CompatTable { stage: label, ..table }
}

/// A value as a terminal shows it: counts whole, what is small with enough digits.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else if value.abs() < 1.0 {
        format!("{value:.4}")
    } else {
        format!("{value:.2}")
    }
}

fn vllm(stage: &Stage<'_>) -> CompatTable {
    let mut table = CompatTable::new(Tool::Vllm);
    let (wall, input, output) = (stage.wall_s(), stage.sum(|row| row.input_tokens), stage.sum(|row| row.output_tokens));
    table.push("Successful requests", Some(stage.ok.len() as f64));
    table.push("Failed requests", Some(stage.failed as f64));
    if let Some(concurrency) = stage.record.and_then(|record| record.plan.concurrency) {
        table.push("Maximum request concurrency", Some(f64::from(concurrency)));
    }
    table.push("Benchmark duration (s)", wall);
    table.push("Total input tokens", input);
    table.push("Total generated tokens", output);
    table.push("Request throughput (req/s)", over(Some(stage.ok.len() as f64), wall));
    table.push("Output token throughput (tok/s)", over(output, wall));
    table.push("Total token throughput (tok/s)", over(input.zip(output).map(|(input, output)| input + output), wall));
    let tpot = |row: &RequestRow| per_later_token(row.e2e_ms(), row.ttft_ms(), row.output_tokens);
    classic(&mut table, "TTFT", &stage.values(RequestRow::ttft_ms), &[("P99", 0.99)]);
    classic(&mut table, "TPOT", &stage.values(tpot), &[("P99", 0.99)]);
    classic(&mut table, "ITL", &stage.gaps(), &[("P99", 0.99)]);
    classic(&mut table, "E2EL", &stage.values(RequestRow::e2e_ms), &[("P99", 0.99)]);
    table.differs(&[
        "ITL is the gap between chunks, all requests together, whatever number of tokens a chunk holds: our inter-chunk gap.",
        "TPOT divides by the tokens less 1 even where the first chunk holds several.",
        "Throughput is over the whole wall, ramp and drain included.",
        "Not reproduced: its TTFT begins before the connection is made, and in its Python client `reasoning_content` is no token.",
    ]);
    let first_events = stage.values(|row| row.first_event_us.map(|us| us as f64 / 1e3));
    if let Some(first) = quantile(&first_events, 0.5) {
        table.differs.push(format!(
            "Its Rust client takes any event with choices for the first token, one that only names the role included: its median TTFT would be at \
             least {} ms.",
            number::digits(first)
        ));
    }
    table
}

fn sglang(stage: &Stage<'_>) -> CompatTable {
    let mut table = CompatTable::new(Tool::Sglang);
    // Without `usage` the length that was asked for stands for the length that came.
    let tokens = |row: &RequestRow| match row.token_source {
        Some(TokenSource::Usage) => row.output_tokens,
        _ => row.max_tokens.map(u64::from).or(row.output_tokens),
    };
    let (wall, input, output) = (stage.wall_s(), stage.sum(|row| row.input_tokens), stage.sum(tokens));
    let latencies = stage.values(end_ms);
    table.push("Successful requests", Some(stage.ok.len() as f64));
    table.push("Benchmark duration (s)", wall);
    table.push("Total input tokens", input);
    table.push("Total generated tokens", output);
    table.push("Request throughput (req/s)", over(Some(stage.ok.len() as f64), wall));
    table.push("Input token throughput (tok/s)", over(input, wall));
    table.push("Output token throughput (tok/s)", over(output, wall));
    table.push("Total token throughput (tok/s)", over(input.zip(output).map(|(input, output)| input + output), wall));
    let busy = (!latencies.is_empty()).then(|| crate::stats::summary::sum(&latencies) / 1e3);
    table.push("Concurrency", over(busy, wall));
    let tpot = |row: &RequestRow| per_later_token(end_ms(row), row.ttft_ms(), tokens(row));
    classic(&mut table, "E2E Latency", &latencies, &[("P99", 0.99)]);
    classic(&mut table, "TTFT", &stage.values(RequestRow::ttft_ms), &[("P99", 0.99)]);
    classic(&mut table, "TPOT", &stage.values(tpot), &[("P99", 0.99)]);
    let gaps = stage.gaps();
    classic(&mut table, "ITL", &gaps, &[("P95", 0.95), ("P99", 0.99)]);
    table.push("Max ITL (ms)", gaps.iter().copied().reduce(f64::max));
    table.differs(&[
        "E2E ends with the stream, usage and `[DONE]` included, and TPOT with it.",
        "Without `usage` the tokens asked for stand for those that came.",
        "ITL is the gap between chunks, all requests together. Throughput is over the whole wall.",
        "Concurrency is the sum of the latencies over the wall, not what was kept in flight.",
    ]);
    table
}

/// Average and percentiles of a list under labels such as `Request Latency (ms) p99`.
fn spread(table: &mut CompatTable, name: &str, values: &[f64], percentiles: &[(&str, f64)]) {
    table.push(&format!("{name} avg"), mean(values));
    for (label, p) in percentiles {
        table.push(&format!("{name} {label}"), quantile(values, *p));
    }
}

fn aiperf(stage: &Stage<'_>) -> CompatTable {
    const PERCENTILES: [(&str, f64); 3] = [("p99", 0.99), ("p90", 0.9), ("p50", 0.5)];
    let mut table = CompatTable::new(Tool::Aiperf);
    let window = stage.response_window_s(RequestRow::e2e_ms);
    let count = |get: fn(&RequestRow) -> Option<u64>| move |row: &RequestRow| get(row).map(|tokens| tokens as f64);
    let itl = stage.values(RequestRow::tpot_ms);
    let users: Vec<f64> = itl.iter().filter(|itl| **itl > 0.0).map(|itl| 1e3 / itl).collect();
    spread(&mut table, "Time to First Token (ms)", &stage.values(RequestRow::ttft_ms), &PERCENTILES);
    spread(&mut table, "Time to First Output Token (ms)", &stage.values(RequestRow::ttfo_ms), &PERCENTILES);
    spread(&mut table, "Request Latency (ms)", &stage.values(RequestRow::e2e_ms), &PERCENTILES);
    spread(&mut table, "Inter Token Latency (ms)", &itl, &PERCENTILES);
    spread(&mut table, "Inter Chunk Latency (ms)", &stage.gaps(), &PERCENTILES);
    spread(&mut table, "Output Token Throughput Per User (tokens/sec/user)", &users, &PERCENTILES);
    spread(&mut table, "Output Sequence Length (tokens)", &stage.values(count(|row| row.output_tokens)), &PERCENTILES);
    spread(&mut table, "Input Sequence Length (tokens)", &stage.values(count(|row| row.input_tokens)), &PERCENTILES);
    table.push("Output Token Throughput (tokens/sec)", over(stage.sum(|row| row.output_tokens), window));
    table.push("Request Throughput (requests/sec)", over(Some(stage.ok.len() as f64), window));
    table.push("Request Count (requests)", Some(stage.ok.len() as f64));
    table.differs(&[
        "Inter Token Latency is one mean a request, our TPOT: its percentiles hide single slow tokens. Inter Chunk Latency holds the gaps.",
        "Throughput is from the first request sent to the last response.",
        "Not reproduced: it counts output tokens with its own tokenizer unless `--use-server-token-count` is given.",
    ]);
    table
}

/// Weighted quantile: the smallest value at which the weights of all up to it reach the share `p`.
fn weighted_quantile(values: &[(f64, f64)], p: f64) -> Option<f64> {
    let mut sorted: Vec<(f64, f64)> = values.iter().copied().filter(|(_, weight)| *weight > 0.0).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = sorted.iter().map(|(_, weight)| weight).sum::<f64>() * p;
    let mut sum = 0.0;
    for (value, weight) in &sorted {
        sum += weight;
        if sum >= wanted {
            return Some(*value);
        }
    }
    sorted.last().map(|(value, _)| *value)
}

fn weighted(table: &mut CompatTable, name: &str, values: &[(f64, f64)]) {
    let weights: f64 = values.iter().map(|(_, weight)| weight).sum();
    let products: f64 = values.iter().map(|(value, weight)| value * weight).sum();
    table.push(&format!("{name} Mean"), (weights > 0.0).then(|| products / weights));
    table.push(&format!("{name} Mdn"), weighted_quantile(values, 0.5));
    table.push(&format!("{name} p95"), weighted_quantile(values, 0.95));
}

fn guidellm(stage: &Stage<'_>) -> CompatTable {
    let mut table = CompatTable::new(Tool::Guidellm);
    let wall = stage.wall_s();
    let once = |get: fn(&RequestRow) -> Option<f64>, factor: f64| -> Vec<(f64, f64)> {
        stage.values(get).into_iter().map(|value| (value * factor, 1.0)).collect()
    };
    let tokens = |row: &RequestRow| row.output_tokens.filter(|tokens| *tokens > 0);
    let itl: Vec<(f64, f64)> = stage
        .ok
        .iter()
        .filter_map(|row| {
            let value = per_later_token(row.e2e_ms(), row.ttft_ms(), tokens(row))?;
            Some((value, tokens(row)? as f64 - 1.0))
        })
        .collect();
    let tpot: Vec<(f64, f64)> = stage
        .ok
        .iter()
        .filter_map(|row| {
            let tokens = tokens(row)? as f64;
            Some((row.e2e_ms()? / tokens, tokens))
        })
        .collect();
    table.push("Requests Completed", Some(stage.ok.len() as f64));
    table.push("Requests Errored", Some(stage.failed as f64));
    weighted(&mut table, "Request Latency Sec", &once(end_ms, 1e-3));
    weighted(&mut table, "TTFT ms", &once(RequestRow::ttft_ms, 1.0));
    weighted(&mut table, "ITL ms", &itl);
    weighted(&mut table, "TPOT ms", &tpot);
    let (input, output) = (stage.sum(|row| row.input_tokens), stage.sum(|row| row.output_tokens));
    table.push("Requests Per Sec Mean", over(Some(stage.ok.len() as f64), wall));
    table.push("Input Tokens Per Sec Mean", over(input, wall));
    table.push("Output Tokens Per Sec Mean", over(output, wall));
    table.push("Total Tokens Per Sec Mean", over(input.zip(output).map(|(input, output)| input + output), wall));
    table.differs(&[
        "TPOT is (last token − start) / n: it includes the time to the first token, unlike that of every other tool.",
        "ITL is one mean a request, weighted with its tokens; gaps are not kept. Quantiles of ITL and TPOT are weighted alike.",
        "Request latency ends with the stream. Rates are over the measured phase, here the whole stage.",
        "Not reproduced: it takes times from the wall clock.",
    ]);
    table
}

/// When the first and the last chunk of content arrived, in ms; without a stream both are the end of the answer.
fn content_ms(row: &RequestRow) -> Option<(f64, f64)> {
    if !row.streamed() {
        return end_ms(row).map(|end| (end, end));
    }
    let mut index = 0usize;
    let (mut first, mut last) = (None, None);
    for (kind, number) in &row.chunks.kinds {
        let next = index + *number as usize;
        if *kind == ChunkKind::Content && next > index {
            first = first.or(row.chunks.at_us.get(index));
            last = row.chunks.at_us.get(next - 1);
        }
        index = next;
    }
    Some((*first? as f64 / 1e3, *last? as f64 / 1e3))
}

fn genai_perf(stage: &Stage<'_>) -> CompatTable {
    const PERCENTILES: [(&str, f64); 3] = [("p99", 0.99), ("p90", 0.9), ("p75", 0.75)];
    let mut table = CompatTable::new(Tool::GenaiPerf);
    let first = |row: &RequestRow| content_ms(row).map(|(first, _)| first);
    let last = |row: &RequestRow| content_ms(row).map(|(_, last)| last);
    // Only the text of the answer is tokenized.
    let tokens = |row: &RequestRow| {
        let all = row.output_tokens?;
        let reasoning = row.chunks.count(ChunkKind::Reasoning);
        match row.reasoning_tokens {
            Some(counted) => Some(all.saturating_sub(counted)),
            None if reasoning == 0 => Some(all),
            // The server does not say how many of them were reasoning: as many as its chunks are of all.
            None => Some((all as f64 * (1.0 - reasoning as f64 / row.chunks.len() as f64)).round() as u64),
        }
    };
    let seen = stage.values(last).len();
    let window = stage.response_window_s(last);
    let speed = |row: &RequestRow| Some(tokens(row)? as f64 / (last(row)? / 1e3));
    spread(&mut table, "Time To First Token (ms)", &stage.values(first), &PERCENTILES);
    spread(&mut table, "Request Latency (ms)", &stage.values(last), &PERCENTILES);
    let itl = |row: &RequestRow| per_later_token(last(row), first(row), tokens(row));
    spread(&mut table, "Inter Token Latency (ms)", &stage.values(itl), &PERCENTILES);
    spread(&mut table, "Output Token Throughput Per Request (tokens/sec)", &stage.values(speed), &PERCENTILES);
    let lengths = stage.values(|row| tokens(row).map(|tokens| tokens as f64));
    spread(&mut table, "Output Sequence Length (tokens)", &lengths, &PERCENTILES);
    let inputs = stage.values(|row| row.input_tokens.map(|tokens| tokens as f64));
    spread(&mut table, "Input Sequence Length (tokens)", &inputs, &PERCENTILES);
    table.push("Output Token Throughput (tokens/sec)", over(stage.sum(tokens), window));
    table.push("Request Throughput (requests/sec)", over(Some(seen as f64), window));
    table.push("Request Count (count)", Some(seen as f64));
    table.differs(&[
        "Only content is a token: of a model that reasons first its TTFT is our TTFO, and its tokens are without the reasoning.",
        "Inter Token Latency is one mean a request. Throughput is from the first request sent to the last response.",
        "Not reproduced: it tokenizes prompts and answers itself.",
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::record::load::row::Chunks;

    /// Two answers and a failure in a stage of 2 s: 5 tokens in 3 chunks, and 2 tokens that nobody counted but we, of 4 asked for.
    fn rows() -> Vec<RequestRow> {
        let row = |id: u64, sent_ms: u64, at_ms: &[u64], end_ms: u64, tokens: u64| {
            let mut chunks = Chunks::default();
            for at in at_ms {
                chunks.push(at * 1000, ChunkKind::Content);
            }
            RequestRow {
                due_ns: sent_ms * 1_000_000,
                sent_ns: Some(sent_ms * 1_000_000),
                first_event_us: Some(1_000),
                chunks,
                end_us: Some(end_ms * 1000),
                input_tokens: Some(10 * (id + 1)),
                output_tokens: Some(tokens),
                ..testing::row(0, id)
            }
        };
        let a = RequestRow { max_tokens: Some(8), ..row(0, 0, &[100, 120, 140], 150, 5) };
        let b = RequestRow {
            max_tokens: Some(4),
            token_source: Some(TokenSource::Chunks),
            ..row(1, 100, &[200, 260], 300, 2)
        };
        let c = RequestRow { outcome: Outcome::Http5xx, ..row(2, 0, &[1], 1, 1) };
        vec![a, b, c]
    }

    fn of(tool: Tool) -> CompatTable {
        let context = testing::context(&[("c=2", 2, 2_000_000_000)]);
        compat(tool, &rows(), &context, 0)
    }

    fn assert_values(table: &CompatTable, expected: &[(&str, f64)]) {
        for (label, value) in expected {
            let actual = table.value(label).unwrap_or_else(|| panic!("no {label}: {:?}", table.lines));
            assert!((actual - value).abs() <= 1e-9 * value.abs().max(1.0), "{label}: {actual} is not {value}");
        }
    }

    #[test]
    fn vllm_pools_the_gaps_and_divides_by_the_whole_wall() {
        assert_values(
            &of(Tool::Vllm),
            &[
                ("Successful requests", 2.0),
                ("Failed requests", 1.0),
                ("Maximum request concurrency", 2.0),
                ("Benchmark duration (s)", 2.0),
                ("Request throughput (req/s)", 1.0),
                ("Output token throughput (tok/s)", 3.5),
                ("Total token throughput (tok/s)", 18.5),
                ("Mean TTFT (ms)", 150.0),
                ("P99 TTFT (ms)", 199.0),
                // 40 ms over 4 tokens, and 60 ms over 1.
                ("Mean TPOT (ms)", 35.0),
                ("P99 TPOT (ms)", 59.5),
                // Gaps of 20, 20 and 60 ms.
                ("Mean ITL (ms)", 100.0 / 3.0),
                ("Median ITL (ms)", 20.0),
                ("P99 ITL (ms)", 59.2),
                ("Mean E2EL (ms)", 200.0),
            ],
        );
        let said = of(Tool::Vllm).differs.join(" ");
        assert!(said.contains("its median TTFT would be at least 1.000 ms"), "{said}");
    }

    #[test]
    fn sglang_ends_with_the_stream_and_takes_the_length_asked_for() {
        assert_values(
            &of(Tool::Sglang),
            &[
                ("Total generated tokens", 9.0),
                ("Output token throughput (tok/s)", 4.5),
                ("Mean E2E Latency (ms)", 225.0),
                ("Concurrency", 0.225),
                // 50 ms over 4 tokens, and 100 ms over 3.
                ("Mean TPOT (ms)", f64::midpoint(12.5, 100.0 / 3.0)),
                ("Max ITL (ms)", 60.0),
            ],
        );
    }

    #[test]
    fn aiperf_has_one_mean_a_request_and_the_window_of_the_responses() {
        assert_values(
            &of(Tool::Aiperf),
            &[
                ("Inter Token Latency (ms) avg", 35.0),
                ("Inter Chunk Latency (ms) p50", 20.0),
                ("Request Latency (ms) p50", 200.0),
                ("Output Token Throughput Per User (tokens/sec/user) avg", f64::midpoint(100.0, 1000.0 / 60.0)),
                // From 0 to 100 + 260 ms.
                ("Request Throughput (requests/sec)", 2.0 / 0.36),
                ("Output Token Throughput (tokens/sec)", 7.0 / 0.36),
                ("Request Count (requests)", 2.0),
            ],
        );
    }

    #[test]
    fn guidellm_counts_the_first_token_in_and_weights_with_tokens() {
        assert_values(
            &of(Tool::Guidellm),
            &[
                ("Request Latency Sec Mean", 0.225),
                // 10 ms of 4 gaps and 60 ms of 1.
                ("ITL ms Mean", 20.0),
                ("ITL ms Mdn", 10.0),
                ("ITL ms p95", 60.0),
                // 28 ms of 5 tokens and 130 ms of 2.
                ("TPOT ms Mean", 400.0 / 7.0),
                ("TPOT ms Mdn", 28.0),
                ("Requests Per Sec Mean", 1.0),
                ("Requests Errored", 1.0),
            ],
        );
    }

    #[test]
    fn genai_perf_sees_content_only() {
        let context = testing::context(&[("c=1", 1, 1_000_000_000)]);
        let mut chunks = Chunks::default();
        chunks.push(100_000, ChunkKind::Reasoning);
        chunks.push(200_000, ChunkKind::Content);
        chunks.push(260_000, ChunkKind::Content);
        let row = RequestRow {
            sent_ns: Some(0),
            chunks,
            end_us: Some(270_000),
            output_tokens: Some(13),
            reasoning_tokens: Some(9),
            ..testing::row(0, 0)
        };
        let table = compat(Tool::GenaiPerf, &[row], &context, 0);
        assert_values(
            &table,
            &[
                ("Time To First Token (ms) avg", 200.0),
                ("Request Latency (ms) avg", 260.0),
                // 60 ms over 4 − 1 tokens.
                ("Inter Token Latency (ms) avg", 20.0),
                ("Output Token Throughput (tokens/sec)", 4.0 / 0.26),
                ("Request Throughput (requests/sec)", 1.0 / 0.26),
            ],
        );
        assert_values(&of(Tool::GenaiPerf), &[("Inter Token Latency (ms) avg", 35.0)]);
    }

    #[test]
    fn nothing_is_unknown_and_never_zero_time() {
        let context = testing::context(&[("c=1", 1, 1_000_000_000)]);
        for tool in Tool::ALL {
            let table = compat(tool, &[], &context, 0);
            for line in table.lines.iter().filter(|line| line.label.contains("(ms)") || line.label.contains(" ms ")) {
                assert_eq!(line.value, None, "{}: {}", tool.name(), line.label);
            }
            assert!(table.text().contains('–') && !table.differs.is_empty());
            assert_eq!(Tool::named(tool.name()), Some(tool));
            // A stage that is not there is no panic.
            assert!(!compat(tool, &[], &context, 7).lines.is_empty());
        }
    }
}
