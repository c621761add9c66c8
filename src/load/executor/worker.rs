//! One thread of the load generator: its event loop, and what it sends when.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::connection::{Connections, Key};
use super::flight::{Conversation, Flight, unsent};
use super::http2::EndedStream;
use super::job::{Arrivals, Message, RunShared, StageJob, Stop};
use super::lag::LagHistogram;
use crate::load::client::fields::request_of;
use crate::load::client::target::Target;
use crate::net::clock::{now_ns, ns, thread_cpu_ns};
use crate::net::limits::{OWN_DESCRIPTORS, raise_descriptors};
use crate::net::poller::{Poller, Ready, no_timer_slack};
use crate::record::load::outcome::Outcome;

/// Bytes of one read at most.
pub(super) const READ_BYTES: usize = 64 << 10;
/// Sockets reported at once.
const EVENTS: usize = 512;
/// How often deadlines are looked at, and orders to stop.
pub(super) const LOOK_NS: u64 = 10_000_000;
/// A look that took longer than this had nothing ready when it began.
const WAITED_NS: u64 = 50_000;

/// What a worker was while it drove a phase.
#[derive(Debug, Clone, Default)]
pub struct WorkerReport {
    /// Time from data at the socket to the stamp of this program.
    pub lag: LagHistogram,
    /// Whether the kernel stamped what arrived.
    pub kernel_stamps: bool,
    /// CPU time of the thread in ns, from the begin of the phase.
    pub cpu_ns: u64,
    /// Length of the phase in ns.
    pub wall_ns: u64,
    /// Time not spent waiting, in ns.
    pub busy_ns: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Chunks with output.
    pub chunks: u64,
    /// Chunks that were read together with a later one of the same answer by a thread that was late: they have its stamp, and not their own.
    pub misplaced: u64,
    /// Times of connecting in ms.
    pub connect_ms: Vec<f64>,
    /// The longest turn of the event loop in ns.
    pub longest_turn_ns: u64,
    /// The most a wait lasted longer than it was to, in ns.
    pub longest_oversleep_ns: u64,
}

/// A place of a closed loop that waits for its next turn or conversation.
#[derive(Debug)]
struct Waiting {
    due_ns: u64,
    conversation: Option<Conversation>,
}

/// A request of an open loop that is due.
#[derive(Debug)]
struct Queued {
    due_ns: u64,
    conversation: Conversation,
    /// All places were taken when it could have been sent.
    held: bool,
}

impl Queued {
    fn new(due_ns: u64, conversation: Conversation) -> Self {
        Self { due_ns, conversation, held: false }
    }
}

/// A later turn, or a further attempt, ordered by when it is due.
#[derive(Debug)]
pub(super) struct Later {
    pub due_ns: u64,
    pub what: LaterWhat,
}

#[derive(Debug)]
pub(super) enum LaterWhat {
    /// The next turn of a conversation.
    Turn(Conversation),
    /// A request that is tried again.
    Retry(Box<Flight>),
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.due_ns == other.due_ns
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due_ns.cmp(&other.due_ns)
    }
}

/// A thread's share of the load: connections, and the event loop that drives them. Connections outlive a phase.
#[derive(Debug)]
pub struct Worker {
    pub(super) shared: Arc<RunShared>,
    index: u32,
    pub(super) poller: Poller,
    pub(super) connections: Connections,
    /// Connections this worker may have, so that descriptors are left for files.
    pub(super) most_connections: usize,
    /// Idle connections of each target, the last used last.
    pub(super) idle: Vec<Vec<Key>>,
    /// Requests that wait for a connection to each target.
    pub(super) pending: Vec<VecDeque<Box<Flight>>>,
    /// Connections under way to each target.
    pub(super) connecting: Vec<usize>,
    /// Requests that a connection to each target takes at once, as the last one told; `usize::MAX` until one has.
    pub(super) lanes: Vec<usize>,
    /// The HTTP that was spoken with each target, once it was.
    pub(super) spoken: Vec<Option<&'static str>>,
    /// Each target's request in HTTP/2, without its length and its body.
    pub(super) requests: Vec<Result<http::Request<()>, String>>,
    /// Streams of a connection that have ended, while they are looked at.
    pub(super) ended: Vec<EndedStream>,
    /// The address of each target that answered last.
    pub(super) address: Vec<usize>,
    /// Later turns and further attempts.
    pub(super) later: BinaryHeap<Reverse<Later>>,
    /// Requests due in a closed loop.
    waiting: VecDeque<Waiting>,
    /// Requests due in an open loop that wait for a place.
    queued: VecDeque<Queued>,
    next_arrival: usize,
    pub(super) next_target: u32,
    pub(super) next_connect_ns: u64,
    pub(super) next_look_ns: u64,
    /// When the sockets were last looked at, and all that were ready were told.
    looked_ns: u64,
    /// When the look of this turn came back.
    pub(super) woken_ns: u64,
    /// What the look of this turn told may have been there for so long, in ns.
    pub(super) late_ns: u64,
    /// Requests of this worker between issued and ended.
    pub(super) under_way: usize,
    /// Nothing new is to be begun.
    exhausted: bool,
    pub(super) plain: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    ready: Vec<Ready>,
    pub(super) report: WorkerReport,
    /// Why a connection could not be made, the last time.
    pub(super) last_connect_error: Option<String>,
}

impl Worker {
    /// Worker number `index` of `shared.options.threads`.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub fn new(shared: Arc<RunShared>, index: u32) -> std::io::Result<Self> {
        let targets = shared.targets.len();
        let one_each = shared.options.connection_per_request;
        // Without TLS it is known beforehand what is spoken.
        let lanes = |target: &Target| if one_each || !(target.tls || target.http2) { 1 } else { usize::MAX };
        let requests = shared.heads.iter().zip(&shared.targets).map(|(head, target)| request_of(head, target.tls));
        let descriptors = raise_descriptors(0).unwrap_or(u64::MAX).saturating_sub(OWN_DESCRIPTORS);
        let most = descriptors.div_ceil(u64::from(shared.options.threads.max(1)));
        Ok(Self {
            lanes: shared.targets.iter().map(lanes).collect(),
            spoken: vec![None; targets],
            requests: requests.collect(),
            ended: Vec::new(),
            index,
            most_connections: usize::try_from(most).unwrap_or(usize::MAX),
            poller: Poller::new(EVENTS)?,
            connections: Connections::default(),
            idle: vec![Vec::new(); targets],
            pending: (0..targets).map(|_| VecDeque::new()).collect(),
            connecting: vec![0; targets],
            address: vec![0; targets],
            later: BinaryHeap::new(),
            waiting: VecDeque::new(),
            queued: VecDeque::new(),
            next_arrival: 0,
            next_target: index,
            next_connect_ns: 0,
            next_look_ns: 0,
            looked_ns: now_ns(),
            woken_ns: 0,
            late_ns: 0,
            under_way: 0,
            exhausted: false,
            plain: vec![0; READ_BYTES],
            scratch: vec![0; READ_BYTES],
            ready: Vec::with_capacity(EVENTS),
            report: WorkerReport::default(),
            last_connect_error: None,
            shared,
        })
    }

    /// The HTTP spoken with target number `target`, if any was.
    pub fn spoken(&self, target: usize) -> Option<&'static str> {
        self.spoken.get(target).copied().flatten()
    }

    /// This worker's share of `concurrency` places.
    pub(super) fn share(&self, concurrency: u32) -> u32 {
        let threads = self.shared.options.threads.max(1);
        concurrency / threads + u32::from(self.index < concurrency % threads)
    }

    /// Drives this worker's share of a phase to its end. Says [`Message::Ready`] when its connections stand, then waits for [`StageJob::begin`].
    ///
    /// # Errors
    /// If the poller fails, which is a defect of the system.
    pub fn run(&mut self, job: &StageJob, out: &Sender<Message>) -> std::io::Result<WorkerReport> {
        no_timer_slack();
        self.report = WorkerReport::default();
        self.waiting.clear();
        self.queued.clear();
        self.next_arrival = 0;
        self.exhausted = false;
        self.connect_ahead(job)?;
        // The driver may have gone, which ends the phase soon enough.
        let _ = out.send(Message::Ready);
        let begin = loop {
            if let Some(begin) = job.begin_ns() {
                break begin;
            }
            if job.stopping() == Stop::Now {
                return Ok(std::mem::take(&mut self.report));
            }
            self.turn(job, out, now_ns() + 1_000_000)?;
        };
        while now_ns() < begin {
            self.turn(job, out, begin)?;
        }
        if let Arrivals::Closed { concurrency } = job.arrivals {
            let places = self.share(concurrency);
            // With more threads than places there is nothing for this one to do.
            self.exhausted = places == 0;
            self.waiting.extend((0..places).map(|_| Waiting { due_ns: begin, conversation: None }));
        }
        // What connecting cost is not the cost of the phase.
        let connects = std::mem::take(&mut self.report.connect_ms);
        self.report = WorkerReport { connect_ms: connects, ..WorkerReport::default() };
        let cpu = thread_cpu_ns();
        let mut deadline = None;
        loop {
            let now = now_ns();
            self.issue(job, out, begin, now);
            let over = self.exhausted && self.waiting.is_empty() && self.queued.is_empty() && self.later.is_empty();
            if self.under_way == 0 && over {
                break;
            }
            let stopping = job.stopping();
            let timed_out = job.duration.is_some_and(|duration| now >= begin.saturating_add(ns(duration)));
            if stopping != Stop::Run || timed_out {
                self.give_up_waiting(job, out);
                let deadline = *deadline.get_or_insert_with(|| now.saturating_add(ns(job.grace)));
                if stopping == Stop::Now || now >= deadline {
                    let user = job.ended_by_user();
                    self.cancel_all(job, out, if user { Outcome::CancelledUser } else { Outcome::CancelledDeadline });
                    break;
                }
            }
            let wake = self.next_wake(job, begin, now);
            self.turn(job, out, wake)?;
        }
        self.report.cpu_ns = thread_cpu_ns().saturating_sub(cpu);
        self.report.wall_ns = now_ns().saturating_sub(begin);
        Ok(std::mem::take(&mut self.report))
    }

    /// Waits for sockets until `wake_ns` at the latest, and handles what is ready.
    pub(super) fn turn(&mut self, job: &StageJob, out: &Sender<Message>, wake_ns: u64) -> std::io::Result<()> {
        let before = now_ns();
        let timeout = wake_ns.saturating_sub(before).min(LOOK_NS);
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(Some(timeout), &mut ready)?;
        let after = now_ns();
        // What was ready at once may have lain there since the last look; what was waited for came while nobody was late, unless the wait itself
        // lasted longer than it was to.
        let waited = after.saturating_sub(before);
        self.late_ns =
            if waited > WAITED_NS { waited.saturating_sub(timeout) } else { after.saturating_sub(self.looked_ns) };
        self.woken_ns = after;
        // A look that gave all it can may have left others behind.
        if ready.len() < EVENTS {
            self.looked_ns = after;
        }
        self.report.longest_oversleep_ns =
            self.report.longest_oversleep_ns.max(after.saturating_sub(before.saturating_add(timeout)));
        for event in &ready {
            self.on_ready(job, out, *event);
        }
        self.ready = ready;
        self.look_at_deadlines(job, out, after);
        let end = now_ns();
        self.report.busy_ns += end.saturating_sub(after);
        self.report.longest_turn_ns = self.report.longest_turn_ns.max(end.saturating_sub(after));
        Ok(())
    }

    /// When something is due next.
    fn next_wake(&self, job: &StageJob, begin: u64, now: u64) -> u64 {
        let mut wake = now + LOOK_NS;
        if let Arrivals::Open { due_ns, .. } = &job.arrivals
            && !self.exhausted
            && let Some(due) = due_ns.get(self.arrival_index())
        {
            wake = wake.min(begin.saturating_add(*due));
        }
        if let Some(Reverse(later)) = self.later.peek() {
            wake = wake.min(later.due_ns);
        }
        if self.wants_connections() {
            wake = wake.min(self.next_connect_ns);
        }
        wake
    }

    /// Number of this worker's next arrival among all.
    fn arrival_index(&self) -> usize {
        self.next_arrival * self.shared.options.threads.max(1) as usize + self.index as usize
    }

    /// Sends what is due.
    fn issue(&mut self, job: &StageJob, out: &Sender<Message>, begin: u64, now: u64) {
        let over = job.stopping() != Stop::Run
            || job.duration.is_some_and(|duration| now >= begin.saturating_add(ns(duration)));
        if over {
            self.exhausted = true;
        }
        while self.later.peek().is_some_and(|Reverse(later)| later.due_ns <= now) {
            let Some(Reverse(later)) = self.later.pop() else { break };
            match later.what {
                LaterWhat::Retry(flight) => self.dispatch(job, out, flight, now),
                LaterWhat::Turn(conversation) if over => drop(conversation),
                LaterWhat::Turn(conversation) => match &job.arrivals {
                    Arrivals::Closed { .. } => {
                        self.waiting.push_back(Waiting { due_ns: later.due_ns, conversation: Some(conversation) });
                    }
                    Arrivals::Open { .. } => self.queued.push_back(Queued::new(later.due_ns, conversation)),
                },
            }
        }
        match &job.arrivals {
            Arrivals::Closed { .. } => {
                while !over && let Some(waiting) = self.waiting.pop_front() {
                    let Some(id) = job.take_id() else {
                        self.exhausted = true;
                        self.waiting.clear();
                        break;
                    };
                    let conversation = waiting.conversation.unwrap_or_else(|| new_conversation(job));
                    job.enter(None);
                    self.launch(job, out, id, conversation, waiting.due_ns, false);
                }
            }
            Arrivals::Open { due_ns, max_in_flight, drop_when_full } => {
                let due_ns = Arc::clone(due_ns);
                // What is due after the end of the phase is not due at all.
                while let Some(offset) = due_ns.get(self.arrival_index()).filter(|_| !over) {
                    let due = begin.saturating_add(*offset);
                    if due > now {
                        break;
                    }
                    self.next_arrival += 1;
                    self.queued.push_back(Queued::new(due, new_conversation(job)));
                }
                self.exhausted |= due_ns.len() <= self.arrival_index();
                while let Some(Queued { due_ns: due, conversation, held }) = self.queued.pop_front() {
                    if job.enter(*max_in_flight) {
                        let Some(id) = job.take_id() else {
                            job.leave();
                            self.exhausted = true;
                            self.queued.clear();
                            break;
                        };
                        self.launch(job, out, id, conversation, due, held);
                    } else if *drop_when_full {
                        let Some(id) = job.take_id() else { break };
                        self.drop_arrival(job, out, id, conversation, due);
                    } else {
                        self.queued.push_front(Queued { due_ns: due, conversation, held: true });
                        // Whoever is behind waits as well.
                        for later in self.queued.iter_mut().rev().take_while(|later| !later.held) {
                            later.held = true;
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Makes the request of the next turn of `conversation` and sends it, or lets it wait for a connection.
    fn launch(
        &mut self,
        job: &StageJob,
        out: &Sender<Message>,
        id: u64,
        conversation: Conversation,
        due_ns: u64,
        held: bool,
    ) {
        let mut flight = self.flight(id, conversation, due_ns, true);
        flight.held = held;
        self.under_way += 1;
        let now = now_ns();
        job.issued_at(now);
        self.dispatch(job, out, flight, now);
    }

    fn drop_arrival(
        &mut self,
        job: &StageJob,
        out: &Sender<Message>,
        id: u64,
        conversation: Conversation,
        due_ns: u64,
    ) {
        let flight = self.flight(id, conversation, due_ns, false);
        let context = self.row_context(job, &flight);
        let message = "as many requests as `max_in_flight` allows were under way".to_owned();
        let row = unsent(&flight, Outcome::Dropped, "max_in_flight", message, &context);
        let _ = out.send(Message::Ended(Box::new(row)));
    }

    /// A request has ended: its place is free, and its conversation may go on.
    pub(super) fn place_free(&mut self, job: &StageJob, conversation: Option<Conversation>, entered: bool) {
        self.under_way -= 1;
        if entered {
            job.leave();
        }
        let now = now_ns();
        let next = conversation.and_then(|conversation| {
            let items = &self.shared.dataset.items;
            let item = &items[(conversation.item % items.len() as u64) as usize];
            item.turns.get(conversation.turn).map(|turn| (turn.think_ns, conversation))
        });
        match (next, &job.arrivals) {
            (Some((think, conversation)), _) if think > 0 => {
                self.later.push(Reverse(Later { due_ns: now + think, what: LaterWhat::Turn(conversation) }));
            }
            (next, Arrivals::Closed { .. }) => {
                self.waiting
                    .push_back(Waiting { due_ns: now, conversation: next.map(|(_, conversation)| conversation) });
            }
            (Some((_, conversation)), Arrivals::Open { .. }) => self.queued.push_back(Queued::new(now, conversation)),
            (None, Arrivals::Open { .. }) => {}
        }
    }

    /// The phase is over: what was due and not sent is not sent any more. Requests that wait for a place of an open loop are counted.
    fn give_up_waiting(&mut self, job: &StageJob, out: &Sender<Message>) {
        self.waiting.clear();
        let outcome = if job.ended_by_user() { Outcome::CancelledUser } else { Outcome::CancelledDeadline };
        while let Some(Queued { due_ns: due, conversation, .. }) = self.queued.pop_front() {
            let Some(id) = job.take_id() else { break };
            let flight = self.flight(id, conversation, due, false);
            let context = self.row_context(job, &flight);
            let row = unsent(
                &flight,
                outcome,
                "queued",
                "still waiting to be sent when the stage was over".to_owned(),
                &context,
            );
            let _ = out.send(Message::Ended(Box::new(row)));
        }
        self.queued.clear();
        let retries: Vec<Later> = std::mem::take(&mut self.later).into_iter().map(|Reverse(later)| later).collect();
        for later in retries {
            // A further attempt is under way; a later turn was never issued.
            if let LaterWhat::Retry(flight) = later.what {
                self.end_unsent(
                    job,
                    out,
                    &flight,
                    outcome,
                    "retry",
                    "waiting to be tried again when the stage was over",
                );
            }
        }
    }
}

fn new_conversation(job: &StageJob) -> Conversation {
    Conversation { item: job.take_item(), turn: 0, history: Vec::new() }
}
