//! What the workers share: the settings of a run, and the stage under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::load::client::body::BodyTemplate;
use crate::load::client::target::Target;
use crate::load::workload::item::Dataset;
use crate::net::tls::TlsClient;
use crate::record::load::row::{Phase, RequestRow};

/// How connections are made and requests given up.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Threads.
    pub threads: u32,
    /// Whether an arrival counts from the kernel's stamp, where there is one, and not from when this program read it.
    pub kernel_stamps: bool,
    /// Connections are used for one request only.
    pub connection_per_request: bool,
    /// Connections begun per second at most, all threads together.
    pub connect_rate: f64,
    /// The longest event, and the longest answer that is no stream.
    pub max_bytes: usize,
    /// Until a connection stands; `None` waits for ever.
    pub connect_timeout: Option<Duration>,
    /// From sending to the first output.
    pub first_token_timeout: Option<Duration>,
    /// Between events.
    pub stall_timeout: Option<Duration>,
    /// From sending to the end.
    pub total_timeout: Option<Duration>,
    /// Further attempts after 429 and 503.
    pub retries: u32,
    /// The longest `Retry-After` that is waited for.
    pub max_retry_wait: Duration,
    /// Keep the text of each answer in its row.
    pub keep_text: bool,
    /// A thread that is later than this misplaces what it reads together, in ns.
    pub max_lag_ns: u64,
}

/// What does not change over a run.
#[derive(Debug)]
pub struct RunShared {
    /// Servers, resolved.
    pub targets: Vec<Target>,
    /// Encryption, if any server wants it.
    pub tls: Option<TlsClient>,
    /// Header lines of each target up to the length of the body, secrets included.
    pub heads: Vec<String>,
    /// The body of requests.
    pub template: BodyTemplate,
    /// What is sent.
    pub dataset: Dataset,
    /// The client.
    pub options: ClientOptions,
    /// Begin of the run's clock, in ns of the monotonic clock.
    pub origin_ns: u64,
}

/// When the requests of a stage are due.
#[derive(Debug, Clone)]
pub enum Arrivals {
    /// When an earlier one has ended.
    Closed {
        /// Requests to keep in flight.
        concurrency: u32,
    },
    /// At these instants, in ns after the begin of the stage, rising.
    Open {
        /// The instants.
        due_ns: Arc<[u64]>,
        /// The most in flight.
        max_in_flight: Option<u32>,
        /// Drop what is due while the most are in flight, instead of letting it wait.
        drop_when_full: bool,
    },
}

/// How far a stage is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    Run,
    /// Nothing new is sent; what is under way has its time of grace.
    Issue,
    /// Everything is ended at once.
    Now,
}

/// One phase of one stage: its orders and its counters.
#[derive(Debug)]
pub struct StageJob {
    /// The stage, from 0.
    pub stage: u32,
    /// Warm-up or measured.
    pub phase: Phase,
    /// When requests are due.
    pub arrivals: Arrivals,
    /// Requests at most.
    pub requests: u64,
    /// Nothing is sent later than this after the begin.
    pub duration: Option<Duration>,
    /// How long requests may go on after the last was sent because of `duration` or a stop.
    pub grace: Duration,
    /// Number of the first conversation in the dataset.
    pub first_item: u64,
    /// Whether the rate of an open loop is the same all the time.
    pub steady_rate: bool,
    next_id: AtomicU64,
    next_item: AtomicU64,
    begin_ns: AtomicU64,
    issue_end_ns: AtomicU64,
    in_flight: AtomicU32,
    peak_in_flight: AtomicU32,
    stop: AtomicU8,
    by_user: AtomicBool,
}

impl StageJob {
    /// A phase that has not begun.
    pub fn new(
        stage: u32,
        phase: Phase,
        arrivals: Arrivals,
        requests: Option<u64>,
        duration: Option<Duration>,
        grace: Duration,
        first_item: u64,
    ) -> Self {
        Self {
            stage,
            phase,
            arrivals,
            requests: requests.unwrap_or(u64::MAX),
            duration,
            grace,
            first_item,
            steady_rate: false,
            next_id: AtomicU64::new(0),
            next_item: AtomicU64::new(0),
            begin_ns: AtomicU64::new(0),
            issue_end_ns: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            peak_in_flight: AtomicU32::new(0),
            stop: AtomicU8::new(0),
            by_user: AtomicBool::new(false),
        }
    }

    /// Lets the workers begin at `at_ns` of the monotonic clock.
    pub fn begin(&self, at_ns: u64) {
        self.begin_ns.store(at_ns.max(1), Ordering::Release);
    }

    /// When the phase begins, in ns of the monotonic clock, once that is known.
    pub fn begin_ns(&self) -> Option<u64> {
        Some(self.begin_ns.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// Ends the phase; a milder stop does not undo a harder one.
    pub fn stop(&self, stop: Stop, by_user: bool) {
        if by_user {
            self.by_user.store(true, Ordering::Relaxed);
        }
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
    }

    /// How far the phase is to be ended.
    pub fn stopping(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::Run,
            1 => Stop::Issue,
            _ => Stop::Now,
        }
    }

    /// Whether the user asked for the end.
    pub fn ended_by_user(&self) -> bool {
        self.by_user.load(Ordering::Relaxed)
    }

    /// The number of the next request; `None` if all have been issued.
    pub(super) fn take_id(&self) -> Option<u64> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        (id < self.requests).then_some(id)
    }

    /// The number of the next conversation in the dataset.
    pub(super) fn take_item(&self) -> u64 {
        self.first_item + self.next_item.fetch_add(1, Ordering::Relaxed)
    }

    /// Conversations that were begun.
    pub fn items_taken(&self) -> u64 {
        self.next_item.load(Ordering::Relaxed)
    }

    /// Requests that were issued.
    pub fn issued(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed).min(self.requests)
    }

    /// When the last request was issued, in ns of the monotonic clock; 0 before the first.
    pub fn issue_end_ns(&self) -> u64 {
        self.issue_end_ns.load(Ordering::Relaxed)
    }

    pub(super) fn issued_at(&self, now: u64) {
        self.issue_end_ns.fetch_max(now, Ordering::Relaxed);
    }

    /// A request is about to be sent; false if the most are in flight.
    pub(super) fn enter(&self, most: Option<u32>) -> bool {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if most.is_some_and(|most| before >= most) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.peak_in_flight.fetch_max(before + 1, Ordering::Relaxed);
        true
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most requests that were in flight at once.
    pub fn peak_in_flight(&self) -> u32 {
        self.peak_in_flight.load(Ordering::Relaxed)
    }
}

/// What a worker says.
#[derive(Debug)]
pub enum Message {
    /// Its connections for the stage stand, or could not be made.
    Ready,
    /// A request has ended.
    Ended(Box<Ended>),
}

/// A request that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its row; output tokens are filled in where the server told them.
    pub row: RequestRow,
    /// Text of the answer.
    pub text: String,
    /// Text of the reasoning.
    pub reasoning: String,
}
