//! What really happened: when each chunk left, and what is told of it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::pace::Pace;
use crate::net::clock::{now_ns, thread_cpu_ns};
use crate::stats::quantile::quantile_of_sorted;

/// Names a request to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// What was before a reset is not counted after it.
    epoch: u64,
    record: Option<usize>,
}

/// One request.
#[derive(Debug, Clone)]
struct Record {
    id: String,
    streamed: bool,
    chunks: u32,
    request: u64,
    pace: Option<Pace>,
    sends: Vec<u64>,
    role: Option<u64>,
    end: Option<u64>,
    fault: Option<&'static str>,
}

/// A request as it arrives.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// Id of its answer.
    pub(super) id: String,
    /// Whether the answer is a stream.
    pub(super) streamed: bool,
    /// Chunks the answer is to have.
    pub(super) chunks: u32,
    /// When it arrived, in ns of `CLOCK_MONOTONIC`.
    pub(super) request: u64,
    /// The fault that befalls it.
    pub(super) fault: Option<&'static str>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should.
    Complete,
    /// As a fault wants it.
    Fault,
    /// The client went away before the end.
    Gone,
}

/// Counts and times since the start or the last reset.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    epoch: u64,
    begun: u64,
    cpu_begun: u64,
    requests: u64,
    completed: u64,
    faulted: u64,
    disconnected: u64,
    refused: u64,
    unrecorded: u64,
    chunks: u64,
    tokens: u64,
    blocked: u64,
    peak_in_flight: u64,
    records: Vec<Record>,
    /// Stamps that may still be kept.
    room: usize,
}

impl Ledger {
    /// Forgets everything, and keeps up to `room` stamps from now on. `in_flight` requests go on uncounted. To be called on the thread of the server.
    pub(super) fn reset(&mut self, room: usize, in_flight: u64) {
        *self = Self {
            epoch: self.epoch + 1,
            begun: now_ns(),
            cpu_begun: thread_cpu_ns(),
            peak_in_flight: in_flight,
            room,
            ..Self::default()
        };
    }

    /// The number of the next request, from 1.
    pub(super) fn next_number(&self) -> u64 {
        self.requests + 1
    }

    /// Notes a request; with it `in_flight` are.
    pub(super) fn arrive(&mut self, arrival: Arrival, in_flight: u64) -> Ticket {
        self.requests += 1;
        self.peak_in_flight = self.peak_in_flight.max(in_flight);
        let stamps = if arrival.streamed { arrival.chunks as usize } else { 1 };
        let Some(room) = self.room.checked_sub(stamps) else {
            self.unrecorded += 1;
            return Ticket { epoch: self.epoch, record: None };
        };
        self.room = room;
        let Arrival { id, streamed, chunks, request, fault } = arrival;
        // Memory is taken now, so that none is while chunks are sent.
        let sends = Vec::with_capacity(stamps);
        self.records.push(Record { id, streamed, chunks, request, pace: None, sends, role: None, end: None, fault });
        Ticket { epoch: self.epoch, record: Some(self.records.len() - 1) }
    }

    fn record(&mut self, ticket: Ticket) -> Option<&mut Record> {
        if ticket.epoch != self.epoch {
            return None;
        }
        self.records.get_mut(ticket.record?)
    }

    /// Notes that work on a request begins.
    pub(super) fn begin(&mut self, ticket: Ticket, pace: Pace) {
        if let Some(record) = self.record(ticket) {
            record.pace = Some(pace);
        }
    }

    /// Notes that the role was sent.
    pub(super) fn role(&mut self, ticket: Ticket, at: u64) {
        if let Some(record) = self.record(ticket) {
            record.role = Some(at);
        }
    }

    /// Notes a chunk with `tokens` sent at `at`.
    pub(super) fn sent(&mut self, ticket: Ticket, at: u64, tokens: u32) {
        if ticket.epoch == self.epoch {
            self.chunks += 1;
            self.tokens += u64::from(tokens);
        }
        if let Some(record) = self.record(ticket) {
            record.sends.push(at);
        }
    }

    /// Notes the end of an answer at `at`.
    pub(super) fn end(&mut self, ticket: Ticket, at: u64, ending: Ending) {
        if ticket.epoch != self.epoch {
            return;
        }
        match ending {
            Ending::Complete => self.completed += 1,
            Ending::Fault => self.faulted += 1,
            Ending::Gone => self.disconnected += 1,
        }
        if let Some(record) = self.record(ticket).filter(|_| ending == Ending::Complete) {
            record.end = Some(at);
        }
    }

    /// Notes a request that is none, or for something that is not here.
    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Notes that there was no room to send.
    pub(super) fn block(&mut self) {
        self.blocked += 1;
    }

    /// What `/stats` tells, `in_flight` requests being under way; with `full` of each request too.
    pub(super) fn stats(&self, in_flight: u64, full: bool) -> Value {
        let (mut ttft, mut itl, mut e2e, mut lag) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for record in &self.records {
            if record.streamed {
                ttft.extend(record.sends.first().map(|first| ms(first.saturating_sub(record.request))));
                itl.extend(record.sends.windows(2).map(|pair| ms(pair[1].saturating_sub(pair[0]))));
            }
            e2e.extend(record.end.map(|end| ms(end.saturating_sub(record.request))));
            lag.extend(record.lags().map(ms));
        }
        let mut stats = json!({
            "requests": self.requests,
            "completed": self.completed,
            "faulted": self.faulted,
            "disconnected": self.disconnected,
            "refused": self.refused,
            "unrecorded": self.unrecorded,
            "in_flight": in_flight,
            "peak_in_flight": self.peak_in_flight,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "blocked_sends": self.blocked,
            "ttft_ms": spread(ttft),
            "itl_ms": spread(itl),
            "e2e_ms": spread(e2e),
            "lag_ms": spread(lag),
            "cpu_s": seconds(thread_cpu_ns().saturating_sub(self.cpu_begun)),
            "wall_s": seconds(now_ns().saturating_sub(self.begun)),
        });
        if full {
            stats["per_request"] = self.records.iter().map(Record::json).collect();
        }
        stats
    }
}

impl Record {
    /// How late each chunk was, in ns after it was due.
    fn lags(&self) -> impl Iterator<Item = u64> + '_ {
        let mut last = 0;
        let first = if self.streamed { 0 } else { self.chunks - 1 };
        self.pace.into_iter().flat_map(move |pace| {
            self.sends.iter().zip(first..).map(move |(sent, index)| {
                last = pace.due(index, last);
                sent.saturating_sub(last)
            })
        })
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "streamed": self.streamed,
            "t_request_ns": self.request,
            "t_role_ns": self.role,
            "sends_ns": self.sends,
            "t_end_ns": self.end,
            "fault": self.fault,
        })
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Percentiles; null where there is nothing.
fn spread(mut values: Vec<f64>) -> Value {
    values.sort_unstable_by(f64::total_cmp);
    let at = |p| quantile_of_sorted(&values, p);
    match at(1.0) {
        Some(max) => json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": max}),
        None => Value::Null,
    }
}

/// What a server of models tells its monitors. Counters never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gauges {
    /// Requests under way, in whatever state.
    pub(super) in_flight: u64,
    /// Requests worked on.
    pub(super) running: usize,
    /// Requests waiting for their turn.
    pub(super) waiting: usize,
    /// Tokens of prompts and answers worked on.
    pub(super) kv_used: u64,
    /// Tokens of prompts since the start.
    pub(super) prompt_tokens: u64,
    /// Tokens of answers since the start.
    pub(super) generation_tokens: u64,
}

impl Gauges {
    /// The text of `/metrics`, in the names of vLLM.
    pub(super) fn prometheus(&self, model: &str, kv_tokens: u64) -> String {
        let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let usage = (self.kv_used as f64 / kv_tokens as f64).min(1.0);
        let metrics = [
            ("num_requests_running", "gauge", "Requests worked on.", self.running as f64),
            ("num_requests_waiting", "gauge", "Requests waiting for their turn.", self.waiting as f64),
            ("kv_cache_usage_perc", "gauge", "Used share of the KV cache, 1 is all of it.", usage),
            ("prompt_tokens_total", "counter", "Tokens of prompts.", self.prompt_tokens as f64),
            ("generation_tokens_total", "counter", "Tokens of answers.", self.generation_tokens as f64),
            // The mock's cache limits nothing, so nobody is ever sent back to wait.
            ("num_preemptions_total", "counter", "Requests sent back to wait.", 0.0),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in metrics {
            let _ = write!(
                text,
                "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}\nvllm:{name}{{engine=\"0\",model_name=\"{model}\"}} {value:?}\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::mock::settings::MockSettings;

    fn arrival(request: u64, chunks: u32, streamed: bool) -> Arrival {
        Arrival { id: "a".to_owned(), streamed, chunks, request, fault: None }
    }

    #[test]
    fn percentiles_are_those_of_the_times_of_sending() {
        let settings = MockSettings { ttft_ms: 10.0, itl_ms: 5.0, ..MockSettings::default() };
        let mut ledger = Ledger::default();
        ledger.reset(100, 0);
        let ticket = ledger.arrive(arrival(1_000_000_000, 3, true), 1);
        ledger.begin(ticket, Pace::new(&settings, 1, 1_000_000_000, 0, 3));
        // Due at +10, +15 and +20 ms; late by 0.5, 0 and 2 ms.
        for at in [1_010_500_000, 1_015_000_000, 1_022_000_000] {
            ledger.sent(ticket, at, 2);
        }
        ledger.end(ticket, 1_022_100_000, Ending::Complete);
        let whole = ledger.arrive(arrival(2_000_000_000, 3, false), 2);
        ledger.begin(whole, Pace::new(&settings, 2, 2_000_000_000, 0, 3));
        ledger.sent(whole, 2_021_000_000, 6);
        ledger.end(whole, 2_021_000_000, Ending::Complete);
        let stats = ledger.stats(0, true);
        assert_eq!(stats["ttft_ms"], json!({"p50": 10.5, "p90": 10.5, "p99": 10.5, "max": 10.5}));
        assert_eq!(stats["itl_ms"], json!({"p50": 5.75, "p90": 6.75, "p99": 6.975, "max": 7.0}));
        assert_eq!(stats["e2e_ms"]["max"], 22.1);
        assert_eq!(stats["lag_ms"]["p50"], 0.75);
        assert_eq!(stats["lag_ms"]["max"], 2.0);
        for (name, value) in [("requests", 2), ("completed", 2), ("chunks", 4), ("tokens", 12), ("peak_in_flight", 2)] {
            assert_eq!(stats[name], value, "{name}");
        }
        let first = &stats["per_request"][0];
        assert_eq!(first["t_request_ns"], 1_000_000_000u64);
        assert_eq!(first["sends_ns"], json!([1_010_500_000u64, 1_015_000_000, 1_022_000_000]));
    }

    #[test]
    fn nothing_is_null_and_not_zero() {
        let mut ledger = Ledger::default();
        ledger.reset(10, 0);
        let stats = ledger.stats(0, false);
        for name in ["ttft_ms", "itl_ms", "e2e_ms", "lag_ms", "per_request"] {
            assert!(stats[name].is_null(), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_was_before_a_reset_is_not() {
        let mut ledger = Ledger::default();
        ledger.reset(5, 0);
        let kept = ledger.arrive(arrival(0, 4, true), 1);
        let left_out = ledger.arrive(arrival(0, 4, true), 2);
        ledger.sent(kept, 1, 1);
        ledger.sent(left_out, 1, 1);
        let stats = ledger.stats(0, true);
        assert_eq!((&stats["unrecorded"], &stats["chunks"]), (&json!(1), &json!(2)));
        assert_eq!(stats["per_request"].as_array().unwrap().len(), 1);
        ledger.reset(5, 2);
        ledger.sent(kept, 2, 1);
        ledger.end(left_out, 2, Ending::Gone);
        let stats = ledger.stats(2, true);
        for (name, value) in [("requests", 0), ("chunks", 0), ("disconnected", 0), ("peak_in_flight", 2)] {
            assert_eq!(stats[name], value, "{name}");
        }
        assert_eq!(ledger.next_number(), 1);
    }

    #[test]
    fn metrics_bear_the_names_of_vllm() {
        let gauges = Gauges { running: 3, waiting: 1, kv_used: 250, generation_tokens: 7, ..Gauges::default() };
        let text = gauges.prometheus("a\"b", 1000);
        for line in [
            "# TYPE vllm:num_requests_running gauge",
            "vllm:num_requests_running{engine=\"0\",model_name=\"a\\\"b\"} 3.0",
            "vllm:num_requests_waiting{engine=\"0\",model_name=\"a\\\"b\"} 1.0",
            "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"a\\\"b\"} 0.25",
            "vllm:generation_tokens_total{engine=\"0\",model_name=\"a\\\"b\"} 7.0",
            "vllm:num_preemptions_total{engine=\"0\",model_name=\"a\\\"b\"} 0.0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
