//! Whether the numbers of a stage may be relied on, and what is worth knowing about it.

use std::collections::BTreeMap;

use super::measures::waited_ms;
use crate::config::schema::load::ArrivalKind;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::record::load::context::{LoadContext, StageRecord};
use crate::record::load::metrics::ErrorBlock;
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{RequestRow, TokenSource};
use crate::stats::outliers::outliers;
use crate::stats::quantile::{quantile, samples_needed, supported};
use crate::stats::slow_first::slow_first;

/// Share of failed requests above which a stage is INVALID, if `stop.max_error_rate` does not set a lower limit, or none.
pub(super) const ERRORS_INVALID: f64 = 0.1;
/// Seconds below which a stage is hardly more than its begin and its end.
pub(super) const SHORT_STAGE_S: f64 = 1.0;
/// Share of failed requests that is worth a word.
pub const ERRORS_WORTH_A_WORD: f64 = 0.01;
/// The share of the median end-to-end time that the lag may have where the kernel stamps what arrives.
pub const LAG_SHARE: f64 = 0.01;
/// Share of the chunks that may have the stamp of a later one, because they were read late and together.
pub(super) const MISPLACED_LIMIT: f64 = 0.01;
/// Share of its time that a thread driving connections may be busy before it, and not the server, sets the figures.
pub const BUSY_LIMIT: f64 = 0.9;
/// Share of the asked concurrency that must have been in flight at once.
pub const PEAK_SHARE: f64 = 0.95;
/// Milliseconds the process may stand still.
pub const PAUSE_LIMIT_MS: f64 = 1000.0;
/// Milliseconds after which a request of an open loop was sent late.
pub const LATE_MS: f64 = 1.0;
/// Chance with which the sample behind a p99 must reach above the true one, as in [`supported`].
const SUPPORT: f64 = 0.99;

/// A stage as it is judged.
pub(super) struct Facts<'a> {
    /// What was planned for all.
    pub context: &'a LoadContext,
    /// How it went.
    pub record: &'a StageRecord,
    /// Its measured requests, in the order of issue.
    pub measured: &'a [&'a RequestRow],
    /// Those that succeeded.
    pub ok: &'a [&'a RequestRow],
    /// Failed requests over all that were not cancelled.
    pub error_rate: Option<f64>,
    /// Its errors, the most frequent first.
    pub errors: &'a [ErrorBlock],
    /// Most requests in flight at once.
    pub peak_in_flight: u32,
    /// Whether the run was cut off in it.
    pub cut_off: bool,
    /// Its length in seconds.
    pub elapsed_s: f64,
}

/// What is said of a stage.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Why its numbers may not be relied on.
    pub reasons: Vec<String>,
    /// Whether this client set its figures.
    pub client_limited: bool,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

impl Facts<'_> {
    fn open(&self) -> bool {
        self.record.plan.arrival != ArrivalKind::Closed
    }

    fn text(&self, text: &str) -> String {
        format!("stage `{}`: {text}", self.record.plan.label)
    }

    fn note(&self, diagnostics: &mut Diagnostics, code: &str, severity: Severity, count: u64, text: &str) {
        diagnostics.push(Diagnostic { count, ..Diagnostic::new(code, severity, self.text(text)) });
    }

    /// All that is to be said.
    pub(super) fn judge(&self, diagnostics: &mut Diagnostics) -> Verdict {
        let mut verdict = Verdict::default();
        self.accounting(&mut verdict, diagnostics);
        self.errors(&mut verdict, diagnostics);
        self.client(&mut verdict, diagnostics);
        self.tokens(&mut verdict, diagnostics);
        self.spread(diagnostics);
        self.answers(diagnostics);
        verdict
    }

    /// The law of outcomes, and stages that did not come to their end.
    fn accounting(&self, verdict: &mut Verdict, diagnostics: &mut Diagnostics) {
        let (issued, told) = (self.record.issued, self.measured.len() as u64);
        if self.cut_off {
            if issued > told {
                let lost = issued - told;
                let text = format!("{lost} of {issued} requests have no row: the run was cut off while they were out");
                self.note(diagnostics, "rows_lost", Severity::DataLoss, lost, &text);
            }
        } else if issued != told {
            let text = format!("{issued} requests were issued, but their outcomes add up to {told}");
            self.note(diagnostics, "accounting", Severity::Error, issued.abs_diff(told), &text);
            verdict.reasons.push(text);
        }
        let cancelled = self.measured.iter().filter(|row| row.outcome == Outcome::CancelledUser).count();
        if self.cut_off || cancelled > 0 {
            verdict
                .reasons
                .push(format!("interrupted: {} of {told} requests had ended by themselves", told - cancelled as u64));
        }
        if let Some(why) = &self.record.stopped {
            verdict.reasons.push(format!("given up: {why}"));
        }
        if self.record.not_issued > 0 {
            let text = format!("{} requests were due and never issued", self.record.not_issued);
            self.note(diagnostics, "not_issued", Severity::Warn, self.record.not_issued, &text);
        }
    }

    /// Failed requests, and successes that are too few.
    fn errors(&self, verdict: &mut Verdict, diagnostics: &mut Diagnostics) {
        let n = self.ok.len() as u64;
        if n == 0 {
            let what = if self.measured.is_empty() { "no request was issued" } else { "no request succeeded" };
            verdict.reasons.push(what.to_owned());
        }
        if let Some(rate) = self.error_rate {
            // A stage may be let go on further than its numbers can be trusted: those of the survivors flatter.
            let limit = self.context.max_error_rate.map(|limit| limit.min(ERRORS_INVALID));
            if let Some(limit) = limit.filter(|limit| rate > *limit) {
                verdict.reasons.push(format!("{} of the requests failed (limit {})", percent(rate), percent(limit)));
            }
            if rate > ERRORS_WORTH_A_WORD {
                let failed: u64 = self.errors.iter().map(|error| error.count).sum();
                let first = self.errors.first().map_or(String::new(), |error| {
                    let status = error.status.map_or(String::new(), |status| format!(" with status {status}"));
                    format!(", most often {} ({}){status}: {}", error.outcome, error.kind, error.first)
                });
                let text = format!("{failed} requests failed ({}){first}", percent(rate));
                self.note(diagnostics, "errors", Severity::Warn, failed, &text);
            }
        }
        if n > 0 && self.elapsed_s < SHORT_STAGE_S {
            let text = format!(
                "it lasted {:.2} s: its begin and its end weigh in all rates; raise `requests_per_stage` or `duration_s`",
                self.elapsed_s
            );
            self.note(diagnostics, "short_stage", Severity::Warn, 1, &text);
        }
        if n > 0 && !supported(0.99, n) {
            let needed = samples_needed(0.99, SUPPORT).unwrap_or(u64::MAX);
            let text = format!(
                "{n} requests do not support a p99, which needs {needed}; raise `requests_per_stage` or `duration_s`"
            );
            self.note(diagnostics, "few_requests", Severity::Info, 1, &text);
        }
    }

    /// Whether this client did what it was to do.
    fn client(&self, verdict: &mut Verdict, diagnostics: &mut Diagnostics) {
        let (client, context) = (&self.record.client, self.context);
        let mut limited = |reason: String| {
            verdict.client_limited = true;
            verdict.reasons.push(format!("client-limited: {reason}"));
        };
        // Stamps of the kernel are right however late they are read. Then only what is sent next is late, which is nothing beside a request of seconds.
        let by_kernel = client.stamps == "kernel";
        let ends: Vec<f64> = self.measured.iter().filter_map(|row| row.e2e_ms()).collect();
        let leave = if by_kernel { quantile(&ends, 0.5).map_or(0.0, |e2e| LAG_SHARE * e2e) } else { 0.0 };
        let limit = context.max_lag_ms.max(leave);
        if let Some(lag) = client.lag_ms.map(|quantiles| quantiles[2]).filter(|lag| *lag > limit) {
            let effect = if by_kernel {
                "the kernel stamps what arrives, but what depends on it is sent late"
            } else {
                "what arrives is stamped as late"
            };
            limited(format!("p99 of this client's lag is {lag:.2} ms (limit {limit:.1} ms): {effect}"));
        }
        let misplaced = client.misplaced_chunks as f64 / client.chunks.max(1) as f64;
        if misplaced > MISPLACED_LIMIT {
            limited(format!(
                "{} of the chunks were read more than {} ms late and together with later ones, whose stamps they have: gaps between them are not seen",
                percent(misplaced),
                context.max_lag_ms
            ));
        }
        if client.busiest_worker > BUSY_LIMIT {
            limited(format!(
                "a thread that drives connections was busy {} of its time (limit {}); raise `client.threads`",
                percent(client.busiest_worker),
                percent(BUSY_LIMIT)
            ));
        }
        if self.open() {
            // Those that waited for one of the places of `max_in_flight` were late by the user's own wish.
            let held = self.measured.iter().filter(|row| row.held).count();
            let limit = context.max_dispatch_delay_ms;
            let p99 = |of_held: bool| {
                let delays = self.measured.iter().filter(|row| of_held || !row.held).filter_map(|row| waited_ms(row));
                quantile(&delays.collect::<Vec<f64>>(), 0.99).filter(|delay| *delay > limit)
            };
            if held > 0 {
                let text = format!(
                    "{held} of {} requests waited for one of the places of `max_in_flight`; TTFT and E2E from due include it",
                    self.measured.len()
                );
                self.note(diagnostics, "held_back", Severity::Warn, held as u64, &text);
                if let Some(delay) = p99(true) {
                    verdict.reasons.push(format!(
                        "held back by `max_in_flight`, so that the server did not get the load that was asked for: p99 of the delay between due \
                         and sent is {delay:.2} ms (limit {limit} ms)"
                    ));
                }
            }
            if let Some(delay) = p99(false) {
                verdict.reasons.push(format!(
                    "load generator late: p99 of the delay between due and sent is {delay:.2} ms (limit {limit} ms)"
                ));
            }
        } else if let Some(wanted) = self.record.plan.concurrency
            && self.record.stopped.is_none()
            && !self.cut_off
            && f64::from(self.peak_in_flight) < PEAK_SHARE * f64::from(wanted)
        {
            let why = if self.record.issued < u64::from(wanted) {
                format!(": only {} were issued; raise `requests_per_stage`", self.record.issued)
            } else {
                String::new()
            };
            verdict
                .reasons
                .push(format!("at most {} of {wanted} requests were in flight at once{why}", self.peak_in_flight));
        }
        if client.longest_pause_ms > PAUSE_LIMIT_MS {
            let text = format!("this process stood still for {:.2} s", client.longest_pause_ms / 1e3);
            self.note(diagnostics, "process_paused", Severity::Warn, 1, &text);
            verdict.reasons.push(text);
        }
    }

    /// Where the numbers of output tokens come from.
    fn tokens(&self, verdict: &mut Verdict, diagnostics: &mut Diagnostics) {
        let mut sources: BTreeMap<&str, u64> = BTreeMap::new();
        for row in self.ok {
            *sources.entry(row.token_source.map_or("nowhere", TokenSource::name)).or_default() += 1;
        }
        let words: Vec<String> = sources.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        if sources.len() > 1 {
            verdict.reasons.push(format!("mixed sources of token counts, with their requests: {}", words.join(", ")));
        }
        let without: u64 =
            sources.iter().filter(|(name, _)| **name != TokenSource::Usage.name()).map(|entry| entry.1).sum();
        if without > 0 {
            let others: Vec<&str> = sources.keys().copied().filter(|name| *name != TokenSource::Usage.name()).collect();
            let text = format!(
                "{without} of {} answers had no usable `usage`; their output tokens come from {}",
                self.ok.len(),
                others.join(" and ")
            );
            self.note(diagnostics, "usage_missing", Severity::Warn, without, &text);
        }
    }

    /// A slow first request, and requests far from the others.
    fn spread(&self, diagnostics: &mut Diagnostics) {
        let first: Vec<f64> = self.ok.iter().filter_map(|row| row.ttft_ms().or_else(|| row.e2e_ms())).collect();
        if let Some(slow) = slow_first(&first) {
            let text = format!(
                "the first request waited {:.2} ms for its answer, the median of the others is {:.2} ms; raise `warmup`",
                slow.first, slow.median_of_others
            );
            self.note(diagnostics, "slow_first_request", Severity::Warn, 1, &text);
        }
        // Answers differ in length, so their whole times do too; and nobody minds a fast one.
        type Get = fn(&RequestRow) -> Option<f64>;
        for (name, get) in [("TTFT", RequestRow::ttft_ms as Get), ("TPOT", RequestRow::tpot_ms as Get)] {
            let timed: Vec<(u64, f64)> = self.ok.iter().filter_map(|row| Some((row.id, get(row)?))).collect();
            let times: Vec<f64> = timed.iter().map(|(_, ms)| *ms).collect();
            let slow: Vec<_> = outliers(&times).into_iter().filter(|outlier| outlier.score > 0.0).collect();
            if let Some(outlier) = slow.first() {
                let text = format!(
                    "request {} had a {name} of {:.2} ms, the median is {:.2} ms (modified z-score {:.0}); it is kept in all figures",
                    timed[outlier.index].0,
                    outlier.value,
                    quantile(&times, 0.5).unwrap_or(f64::NAN),
                    outlier.score
                );
                self.note(diagnostics, "outlier", Severity::Info, slow.len() as u64, &text);
            }
        }
    }

    /// What was odd about answers, by the codes in the rows.
    fn answers(&self, diagnostics: &mut Diagnostics) {
        let mut odd: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for row in self.measured {
            for code in &row.notes {
                odd.entry(code).or_insert((row.id, 0)).1 += 1;
            }
        }
        // Who counted the tokens is said with the sources.
        odd.remove("usage_missing");
        for (code, (id, count)) in odd.into_iter().filter(|(code, _)| is_code(code)) {
            let (severity, words) = match code {
                "done_missing" => (Severity::Info, "the stream ended without `[DONE]`"),
                "data_after_done" => (Severity::Info, "the stream went on after `[DONE]`; that was not read"),
                "not_streamed" => (Severity::Warn, "a stream was asked for, and the answer came in one piece"),
                "compressed" => (Severity::Warn, "the answer was compressed, so its chunks may have come in clumps"),
                other => (Severity::Warn, other),
            };
            self.note(diagnostics, code, severity, count, &format!("request {id}: {words}"));
        }
    }
}

/// Whether a word of a row, which anybody may have edited, can be the code of a diagnostic.
fn is_code(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.len() <= 64
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
