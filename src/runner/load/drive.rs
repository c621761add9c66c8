//! Drives the stages of a load test: lets the workers go, takes in what ended, and ends a stage that has gone wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::config::schema::load::{ArrivalKind, StopSettings};
use crate::load::executor::job::{Arrivals, Ended, Message, RunShared, StageJob, Stop};
use crate::load::executor::lag::LagHistogram;
use crate::load::executor::worker::{Worker, WorkerReport};
use crate::net::clock::{now_ns, process_cpu_ns};
use crate::record::load::context::{ClientStage, StagePlan, StageRecord};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Phase, RequestRow, TokenSource};
use crate::runner::load::over_saturation::OverSaturation;

/// Requests that the share of errors is taken over.
const WINDOW: usize = 50;
/// Fewer requests say nothing about a share of errors.
const LEAST: usize = 20;
/// Points of the curve of requests in flight at most.
const MOST_POINTS: usize = 2000;
/// How often the driver looks up while nothing ends.
const LOOK: Duration = Duration::from_millis(50);
/// Between all workers being ready and the first request.
const HEAD_START_NS: u64 = 1_000_000;

/// What a stage looks like while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Requests that have ended, and those that failed.
    pub ended: u64,
    /// Failed requests among them.
    pub failed: u64,
    /// Requests in flight.
    pub in_flight: u32,
    /// Output tokens so far.
    pub tokens: u64,
    /// Time since the begin of the phase in ns.
    pub elapsed_ns: u64,
    /// Warm-up or not.
    pub warmup: bool,
}

/// What happens in a load test, as it happens.
pub trait LoadEvents {
    /// Why what happened could not be kept.
    type Error;
    /// A request has ended.
    ///
    /// # Errors
    /// If its row cannot be written: the test is ended then.
    fn row(&mut self, row: &RequestRow) -> Result<(), Self::Error>;
    /// How it goes; called a few times a second.
    fn progress(&mut self, stage: u32, progress: &Progress);
    /// Whether the user wants the test to end.
    fn interrupted(&self) -> bool;
}

/// Counts the tokens of a text; `None` where it cannot.
pub type CountTokens<'a> = dyn Fn(&str) -> Option<u64> + 'a;

/// Why a stage could not be driven.
#[derive(Debug)]
pub enum DriveError<E> {
    /// A row could not be kept.
    Row(E),
    /// The system refuses threads or descriptors.
    System(std::io::Error),
}

/// The workers and what they have in common.
pub struct LoadDriver<'a> {
    shared: Arc<RunShared>,
    workers: Vec<Worker>,
    next_item: u64,
    count_tokens: Option<&'a CountTokens<'a>>,
    stop: StopSettings,
}

/// What was taken in of one phase.
struct Taken {
    issued: u64,
    not_issued: u64,
    stopped: Option<String>,
    begin_ns: u64,
    issue_end_ns: u64,
    end_ns: u64,
    peak: u32,
    reports: Vec<WorkerReport>,
    /// When each request was sent and ended, on the run's clock.
    spans: Vec<(u64, u64)>,
    process_cpu_ns: u64,
}

impl<'a> LoadDriver<'a> {
    /// Starts as many workers as the settings say.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub fn new(
        shared: RunShared,
        stop: StopSettings,
        count_tokens: Option<&'a CountTokens<'a>>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(shared);
        let threads = shared.options.threads.max(1);
        let workers = (0..threads).map(|index| Worker::new(Arc::clone(&shared), index)).collect::<Result<_, _>>()?;
        Ok(Self { shared, workers, next_item: 0, count_tokens, stop })
    }

    /// What the workers have in common.
    pub fn shared(&self) -> &RunShared {
        &self.shared
    }

    /// The HTTP spoken with target number `target`, if any was.
    pub fn spoken(&self, target: usize) -> Option<&'static str> {
        self.workers.iter().find_map(|worker| worker.spoken(target))
    }

    /// Drives one stage: its warm-up to the end of its last request, then the measured requests. `due_ns` has the arrivals of an open loop.
    ///
    /// # Errors
    /// If a row cannot be kept; the stage is ended at once then.
    pub fn stage<E: LoadEvents>(
        &mut self,
        index: u32,
        plan: &StagePlan,
        settings: &StageSettings,
        events: &mut E,
    ) -> Result<StageRecord, DriveError<E::Error>> {
        if plan.warmup > 0 {
            // A warm-up is a closed loop in any case: what counts is that it is over before the first measured request.
            let places = plan.concurrency.unwrap_or(4).min(plan.warmup);
            let mut job = self.job(
                index,
                Phase::Warmup,
                Arrivals::Closed { concurrency: places },
                Some(plan.warmup),
                None,
                settings,
            );
            if plan.arrival == ArrivalKind::Trace {
                // The last lines are the longest to be forgotten again by a prompt cache.
                job.first_item = (self.shared.dataset.items.len() as u64).saturating_sub(u64::from(plan.warmup));
            }
            let taken = self.drive(&job, events)?;
            // Each request of a trace has the time of its own line, so the first that is measured is that of the first.
            if plan.arrival != ArrivalKind::Trace {
                self.next_item += job.items_taken();
            }
            if let Some(reason) = &taken.stopped {
                return Ok(self.record(
                    plan,
                    &job,
                    Taken { stopped: Some(format!("in the warm-up: {reason}")), ..empty(&taken) },
                ));
            }
        }
        let arrivals = match plan.arrival {
            ArrivalKind::Closed => Arrivals::Closed { concurrency: plan.concurrency.unwrap_or(1) },
            _ => Arrivals::Open {
                due_ns: Arc::clone(&settings.due_ns),
                max_in_flight: settings.max_in_flight,
                drop_when_full: settings.drop_when_full,
            },
        };
        let duration = plan.duration_s.map(Duration::from_secs_f64);
        let job = self.job(index, Phase::Measured, arrivals, plan.requests, duration, settings);
        let taken = self.drive(&job, events)?;
        self.next_item += job.items_taken();
        Ok(self.record(plan, &job, taken))
    }

    fn job(
        &self,
        index: u32,
        phase: Phase,
        arrivals: Arrivals,
        requests: Option<u32>,
        duration: Option<Duration>,
        settings: &StageSettings,
    ) -> StageJob {
        let mut job =
            StageJob::new(index, phase, arrivals, requests.map(u64::from), duration, settings.grace, self.next_item);
        job.steady_rate = settings.steady_rate;
        job
    }

    fn drive<E: LoadEvents>(&mut self, job: &StageJob, events: &mut E) -> Result<Taken, DriveError<E::Error>> {
        let (sender, receiver) = channel();
        let threads = self.workers.len();
        let shared = Arc::clone(&self.shared);
        let (stop, count_tokens) = (self.stop, self.count_tokens);
        let cpu = process_cpu_ns();
        let (taking, reports) = std::thread::scope(|scope| {
            let handles: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| {
                    let sender = sender.clone();
                    std::thread::Builder::new().name("perfprof-load".to_owned()).spawn_scoped(scope, move || {
                        let report = worker.run(job, &sender);
                        drop(sender);
                        report
                    })
                })
                .collect();
            drop(sender);
            if handles.iter().any(Result::is_err) {
                job.stop(Stop::Now, false);
            }
            let taking = take_in(job, &shared, &receiver, threads, stop, count_tokens, events);
            if taking.is_err() {
                job.stop(Stop::Now, false);
            }
            // Nobody may wait for a reader that has gone.
            drop(receiver);
            let reports: Result<Vec<WorkerReport>, std::io::Error> = handles
                .into_iter()
                .map(|handle| match handle?.join() {
                    Ok(report) => report,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect();
            (taking, reports)
        });
        let mut taken = taking.map_err(DriveError::Row)?;
        taken.reports = reports.map_err(DriveError::System)?;
        taken.process_cpu_ns = process_cpu_ns().saturating_sub(cpu);
        taken.peak = job.peak_in_flight();
        taken.issued = job.issued();
        if let Arrivals::Open { due_ns, .. } = &job.arrivals {
            taken.not_issued = (due_ns.len() as u64).min(job.requests).saturating_sub(taken.issued);
        } else if job.requests != u64::MAX {
            taken.not_issued = job.requests.saturating_sub(taken.issued);
        }
        Ok(taken)
    }

    fn record(&self, plan: &StagePlan, job: &StageJob, taken: Taken) -> StageRecord {
        let origin = self.shared.origin_ns;
        let relative = |ns: u64| ns.saturating_sub(origin);
        let mut lag = LagHistogram::default();
        let (mut worker_cpu, mut chunks, mut misplaced, mut reads, mut bytes) = (0, 0, 0, 0, 0);
        let (mut busiest, mut turn, mut pause) = (0.0f64, 0, 0);
        let mut connects: Vec<f64> = Vec::new();
        for report in &taken.reports {
            lag.merge(&report.lag);
            worker_cpu += report.cpu_ns;
            chunks += report.chunks;
            misplaced += report.misplaced;
            reads += report.reads;
            bytes += report.bytes;
            busiest = busiest.max(report.cpu_ns as f64 / report.wall_ns.max(1) as f64);
            turn = turn.max(report.longest_turn_ns);
            pause = pause.max(report.longest_oversleep_ns).max(report.longest_turn_ns);
            connects.extend(&report.connect_ms);
        }
        connects.sort_unstable_by(f64::total_cmp);
        let connect_ms = connects.last().map(|last| [connects[connects.len() / 2], *last]);
        let by_kernel = self.shared.options.kernel_stamps && taken.reports.iter().any(|report| report.kernel_stamps);
        StageRecord {
            plan: plan.clone(),
            begin_ns: relative(taken.begin_ns),
            issue_end_ns: relative(taken.issue_end_ns),
            end_ns: relative(taken.end_ns),
            issued: if job.phase == Phase::Measured { taken.issued } else { 0 },
            not_issued: taken.not_issued,
            stopped: taken.stopped,
            client: ClientStage {
                stamps: if by_kernel { "kernel" } else { "user" }.to_owned(),
                lag_samples: lag.total(),
                lag_ms: lag.summary_ms(),
                worker_cpu_s: worker_cpu as f64 / 1e9,
                process_cpu_s: taken.process_cpu_ns as f64 / 1e9,
                busiest_worker: busiest,
                chunks,
                misplaced_chunks: misplaced,
                reads,
                bytes,
                peak_in_flight: taken.peak,
                connects: connects.len() as u64,
                connect_ms,
                longest_turn_ms: turn as f64 / 1e6,
                longest_pause_ms: pause as f64 / 1e6,
            },
            in_flight: in_flight_curve(&taken.spans),
        }
    }
}

/// A phase in which nothing measured happened.
fn empty(taken: &Taken) -> Taken {
    Taken {
        issued: 0,
        not_issued: 0,
        stopped: None,
        begin_ns: taken.begin_ns,
        issue_end_ns: taken.begin_ns,
        end_ns: taken.end_ns,
        peak: 0,
        reports: Vec::new(),
        spans: Vec::new(),
        process_cpu_ns: 0,
    }
}

/// What a stage needs beside its plan.
#[derive(Debug, Clone)]
pub struct StageSettings {
    /// How long requests may go on after the last was sent because time was up.
    pub grace: Duration,
    /// Arrivals of an open loop, in ns after its begin.
    pub due_ns: Arc<[u64]>,
    /// The most in flight in an open loop.
    pub max_in_flight: Option<u32>,
    /// Drop what is due while the most are in flight.
    pub drop_when_full: bool,
    /// Whether requests arrive at a rate that is the same all the time: only then does a pile that grows say that the server cannot keep up.
    pub steady_rate: bool,
}

/// Takes in what the workers say until all have ended.
fn take_in<E: LoadEvents>(
    job: &StageJob,
    shared: &RunShared,
    receiver: &Receiver<Message>,
    threads: usize,
    stop: StopSettings,
    count_tokens: Option<&CountTokens<'_>>,
    events: &mut E,
) -> Result<Taken, E::Error> {
    let mut ready = 0;
    let mut progress = Progress { warmup: job.phase == Phase::Warmup, ..Progress::default() };
    let mut recent: VecDeque<bool> = VecDeque::with_capacity(WINDOW);
    let mut stopped = None;
    let mut spans = Vec::new();
    // When the last request that was never sent was given up: it has no time of its own.
    let mut last_unsent = 0;
    let mut last_look = 0;
    let mut pile = stop.over_saturation.then(OverSaturation::default).filter(|_| job.steady_rate);
    loop {
        let message = receiver.recv_timeout(LOOK);
        let now = now_ns();
        match message {
            Ok(Message::Ready) => {
                ready += 1;
                if ready == threads {
                    job.begin(now + HEAD_START_NS);
                }
            }
            Ok(Message::Ended(ended)) => {
                let row = counted(*ended, count_tokens);
                progress.ended += 1;
                progress.failed += u64::from(row.outcome.is_error());
                progress.tokens += row.output_tokens.unwrap_or(0);
                if let (Some(sent), Some(end)) = (row.sent_ns, last_instant(&row)) {
                    spans.push((sent, end));
                } else if row.outcome.is_error() {
                    last_unsent = now;
                }
                if !row.outcome.is_cancelled() {
                    if recent.len() == WINDOW {
                        recent.pop_front();
                    }
                    recent.push_back(row.outcome.is_error());
                }
                events.row(&row)?;
                if let (Some(pile), Some(begin), Some(ttft)) = (&mut pile, job.begin_ns(), from_due_ms(&row))
                    && job.phase == Phase::Measured
                    && stopped.is_none()
                    && let Some(found) = pile.feed(now.saturating_sub(begin) as f64 / 1e9, job.in_flight(), ttft)
                {
                    stopped = Some(format!("over-saturated: {found}"));
                    job.stop(Stop::Issue, false);
                }
                if stopped.is_none()
                    && let Some(reason) = must_stop(&stop, &progress, &recent, &row)
                {
                    stopped = Some(reason);
                    job.stop(Stop::Issue, false);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if now.saturating_sub(last_look) > 100_000_000 {
            last_look = now;
            progress.in_flight = job.in_flight();
            progress.elapsed_ns = job.begin_ns().map_or(0, |begin| now.saturating_sub(begin));
            events.progress(job.stage, &progress);
        }
        if events.interrupted() && job.stopping() == Stop::Run {
            stopped.get_or_insert_with(|| "ended by the user".to_owned());
            job.stop(Stop::Issue, true);
        }
    }
    let begin_ns = job.begin_ns().unwrap_or(shared.origin_ns);
    let last = spans.iter().map(|(_, end)| *end + shared.origin_ns).max().unwrap_or(begin_ns).max(last_unsent);
    Ok(Taken {
        issued: 0,
        not_issued: 0,
        stopped,
        begin_ns,
        issue_end_ns: job.issue_end_ns().max(begin_ns),
        end_ns: last.max(begin_ns),
        peak: 0,
        reports: Vec::new(),
        spans,
        process_cpu_ns: 0,
    })
}

/// From when a request was due to its first token, in ms: what grows when requests pile up, wherever they do.
fn from_due_ms(row: &RequestRow) -> Option<f64> {
    Some(row.dispatch_delay_ms()? + row.ttft_ms().or_else(|| row.e2e_ms())?)
}

/// When a request was seen last, on the run's clock.
fn last_instant(row: &RequestRow) -> Option<u64> {
    let offset = row.end_us.or(row.gone_us).or(row.chunks.at_us.last().copied()).or(row.first_byte_us).unwrap_or(0);
    row.at_ns(offset)
}

/// The row with its output tokens: the server's count, else the tokenizer's, else the chunks.
fn counted(ended: Ended, count_tokens: Option<&CountTokens<'_>>) -> RequestRow {
    let mut row = ended.row;
    if row.output_tokens.is_none() && row.outcome == Outcome::Ok {
        // A tool call has tokens that are in no text.
        let tools = row.chunks.count(crate::record::load::row::ChunkKind::Tool) > 0;
        let by_tokenizer = count_tokens.filter(|_| !tools).and_then(|count| {
            let reasoning = if ended.reasoning.is_empty() { Some(0) } else { count(&ended.reasoning) };
            Some(count(&ended.text)? + reasoning?)
        });
        if let Some(tokens) = by_tokenizer {
            row.output_tokens = Some(tokens);
            row.token_source = Some(TokenSource::Tokenizer);
        } else if !row.chunks.is_empty() {
            row.output_tokens = Some(row.chunks.len() as u64);
            row.token_source = Some(TokenSource::Chunks);
        }
    }
    row
}

/// Why the stage is to be given up, if it is.
fn must_stop(stop: &StopSettings, progress: &Progress, recent: &VecDeque<bool>, row: &RequestRow) -> Option<String> {
    let last = || {
        let why = row.failed.as_ref().map_or("", |failed| failed.message.as_str());
        format!("; the last: {}: {why}", row.outcome.name())
    };
    if !row.outcome.is_error() {
        return None;
    }
    if let Some(most) = stop.max_errors
        && progress.failed >= u64::from(most)
    {
        return Some(format!("{} requests failed, and `stop.max_errors` is {most}{}", progress.failed, last()));
    }
    if let Some(most) = stop.max_error_rate
        && recent.len() >= LEAST
    {
        let failed = recent.iter().filter(|failed| **failed).count();
        if failed as f64 > most * recent.len() as f64 {
            let of = recent.len();
            return Some(format!(
                "{failed} of the last {of} requests failed, and `stop.max_error_rate` is {most}{}",
                last()
            ));
        }
    }
    None
}

/// Requests in flight over time, from when each was sent and ended; thinned to what a chart can show, peaks kept.
fn in_flight_curve(spans: &[(u64, u64)]) -> Vec<(u64, u32)> {
    let mut changes: Vec<(u64, i32)> = spans.iter().flat_map(|(sent, end)| [(*sent, 1), (*end, -1)]).collect();
    changes.sort_unstable();
    let mut curve = Vec::with_capacity(changes.len());
    let mut now = 0i64;
    for (at, change) in changes {
        now += i64::from(change);
        match curve.last_mut() {
            Some((last, count)) if *last == at => *count = now.max(0) as u32,
            _ => curve.push((at, now.max(0) as u32)),
        }
    }
    let every = curve.len().div_ceil(MOST_POINTS / 2).max(1);
    if every == 1 {
        return curve;
    }
    curve
        .chunks(every)
        .flat_map(|part| {
            let low = part.iter().min_by_key(|(_, count)| *count).copied();
            let high = part.iter().max_by_key(|(_, count)| *count).copied();
            let mut both: Vec<(u64, u32)> = low.into_iter().chain(high).collect();
            both.sort_unstable();
            both.dedup();
            both
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_goes_up_with_each_request_and_comes_back_to_zero() {
        assert_eq!(in_flight_curve(&[(0, 10), (5, 20), (10, 30)]), [(0, 1), (5, 2), (10, 2), (20, 1), (30, 0)]);
        let many: Vec<(u64, u64)> = (0..10_000).map(|at| (at * 10, at * 10 + 35)).collect();
        let curve = in_flight_curve(&many);
        assert!(curve.len() <= MOST_POINTS + 2);
        assert_eq!(curve.iter().map(|(_, count)| *count).max(), Some(4));
        assert_eq!(curve.last().map(|(_, count)| *count), Some(0));
    }
}
