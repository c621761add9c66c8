//! What a worker does with the sockets that stand: writing, reading, giving up.

use std::cmp::Reverse;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::connection::{Key, State};
use super::flight::{Conversation, Flight, ended, unsent};
use super::job::{Message, StageJob, Stop};
use super::worker::{Later, LaterWhat, Worker};
use crate::load::client::body::messages_of;
use crate::load::client::reception::{Answer, GivenUp, Reception};
use crate::load::client::transport::{Read, TransportError};
use crate::load::workload::item;
use crate::net::clock::{from_wall, now_ns, ns, wall_ns};
use crate::net::poller::{Interest, Ready};
use crate::record::load::outcome::Outcome;

/// After [DONE] and a finish_reason, how long the end of the body is waited for.
const AFTER_DONE: Duration = Duration::from_secs(2);

impl Worker {
    /// A request that was issued ends without having been sent.
    pub(super) fn end_unsent(
        &mut self,
        job: &StageJob,
        out: &Sender<Message>,
        flight: &Flight,
        outcome: Outcome,
        kind: &str,
        message: &str,
    ) {
        let context = self.row_context(job, flight);
        let row = unsent(flight, outcome, kind, message.to_owned(), &context);
        let _ = out.send(Message::Ended(Box::new(row)));
        self.place_free(job, None, flight.entered);
    }

    /// Sends `flight` over an idle connection, or lets it wait for one.
    pub(super) fn dispatch(&mut self, job: &StageJob, out: &Sender<Message>, mut flight: Box<Flight>, now: u64) {
        let target = flight.target as usize;
        while let Some(key) = self.idle[target].pop() {
            match self.send_on(key, flight, now_ns()) {
                None => {
                    // A connection of HTTP/2 goes on taking requests.
                    if let Some(State::Http2(http2)) = self.connections.get(key).map(|connection| &connection.state)
                        && http2.room() > 0
                    {
                        self.idle[target].push(key);
                    }
                    return;
                }
                Some(back) => flight = back,
            }
        }
        flight.issued_ns = now;
        self.pending[target].push_back(flight);
        self.connect_for_pending(target, job, out);
    }

    /// Writes `flight` to the idle connection `key`; gives it back if the connection turned out to be gone before a byte was written.
    fn send_on(&mut self, key: Key, mut flight: Box<Flight>, now: u64) -> Option<Box<Flight>> {
        let Some(connection) = self.connections.get(key) else { return Some(flight) };
        if let State::Http2(_) = connection.state {
            return self.send_stream(key, flight, now);
        }
        flight.sent_ns = Some(now);
        flight.attempts += 1;
        flight.first_sent_ns.get_or_insert(now);
        flight.written = 0;
        let Ok(written) = connection.transport.write(&flight.bytes) else {
            self.connections.remove(key);
            flight.attempts -= 1;
            if flight.attempts == 0 {
                flight.first_sent_ns = None;
            }
            flight.sent_ns = None;
            return Some(flight);
        };
        flight.written = written;
        let rest = written < flight.bytes.len() || connection.transport.wants_write();
        if connection.served == 0 {
            // It stood only when the request was waiting, and was not made ahead.
            let stood_ns = connection.begun_ns.saturating_add((connection.connect_ms * 1e6) as u64);
            flight.connect_ms = flight.connect_ms.or((stood_ns >= flight.issued_ns).then_some(connection.connect_ms));
        }
        connection.served += 1;
        connection.state = State::Busy(flight);
        self.watch(key, if rest { Interest::BOTH } else { Interest::READ });
        None
    }

    pub(super) fn watch(&mut self, key: Key, interest: Interest) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.interest == interest {
            return;
        }
        connection.interest = interest;
        let fd = connection.transport.fd();
        // A descriptor that is registered can be changed; if not, the deadlines end what waits on it.
        if let Err(error) = self.poller.change(fd, key.0, interest) {
            tracing::warn!("the interest of a socket could not be changed: {error}");
        }
    }

    /// Handles one ready socket.
    pub(super) fn on_ready(&mut self, job: &StageJob, out: &Sender<Message>, event: Ready) {
        let key = Key(event.token);
        let Some(connection) = self.connections.get(key) else { return };
        match connection.state {
            State::Connecting => {
                if !event.writable && !event.hung_up {
                    return;
                }
                match connection.transport.connected() {
                    Ok(()) if connection.transport.is_handshaking() => {
                        connection.state = State::Handshaking;
                        self.shake(key, event, job, out);
                    }
                    Ok(()) => self.agreed(key, 0, job, out),
                    Err(error) => self.connect_failed(key, &error, job, Some(out)),
                }
            }
            State::Handshaking => self.shake(key, event, job, out),
            State::Idle => {
                // Session tickets of TLS come after the handshake and are no data. Anything else nobody asked for, or the server ended it.
                let tickets = event.readable
                    && matches!(
                        connection.transport.read(&mut self.plain, &mut self.scratch),
                        Ok(Read::Nothing | Read::Data { bytes: 0, more: false, .. })
                    );
                if !tickets {
                    self.connections.remove(key);
                }
            }
            State::Busy(_) => self.exchange(key, event, job, out),
            State::Http2(_) => self.on_http2(key, event, job, out),
        }
    }

    /// Gives an idle connection to a request that waits, or keeps it.
    pub(super) fn serve_next(&mut self, key: Key, target: usize, job: &StageJob, out: &Sender<Message>) {
        if let Some(flight) = self.pending[target].pop_front() {
            if let Some(back) = self.send_on(key, flight, now_ns()) {
                self.pending[target].push_front(back);
                self.connect_for_pending(target, job, out);
            }
            return;
        }
        self.idle[target].push(key);
    }

    /// Writes what is left of the request and reads what has come of the answer.
    fn exchange(&mut self, key: Key, event: Ready, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Busy(flight) = &mut connection.state else { return };
        if event.writable {
            let written = connection.transport.flush().and_then(|()| {
                if flight.written < flight.bytes.len() {
                    connection.transport.write(&flight.bytes[flight.written..])
                } else {
                    Ok(0)
                }
            });
            match written {
                Ok(written) => {
                    flight.written += written;
                    if flight.written == flight.bytes.len() && !connection.transport.wants_write() {
                        self.watch(key, Interest::READ);
                    }
                }
                // An answer may have come before the connection broke, e.g. 413: it is read below.
                Err(_) if event.readable => {}
                Err(error) => return self.broken(key, &error, job, out),
            }
        }
        if event.readable {
            self.receive(key, job, out);
        }
    }

    fn receive(&mut self, key: Key, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Busy(flight) = &mut connection.state else { return };
        let read = connection.transport.read(&mut self.plain, &mut self.scratch);
        let now = now_ns();
        match read {
            Ok(Read::Nothing) => {}
            Ok(Read::Data { bytes, wall_ns: stamp, more }) => {
                self.report.reads += 1;
                self.report.bytes += bytes as u64;
                let mut at = now;
                if let Some(stamp) = stamp
                    && let Some(arrived) = from_wall(stamp, now, wall_ns(), flight.sent_ns.unwrap_or(0))
                {
                    let lag = now.saturating_sub(arrived);
                    self.report.kernel_stamps = true;
                    self.report.lag.add(lag);
                    flight.lag_ns = Some(flight.lag_ns.unwrap_or(0).max(lag));
                    if self.shared.options.kernel_stamps {
                        at = arrived;
                    }
                }
                let offset = flight.offset_us(at);
                let chunks = flight.reception.chunks().len();
                let mut left = bytes > 0 && flight.reception.on_bytes(&self.plain[..bytes], offset);
                let mut more = more;
                let mut failed = None;
                while more && !flight.reception.is_over() {
                    match connection.transport.read_more(&mut self.plain) {
                        Ok(0) => more = false,
                        Ok(bytes) => left |= flight.reception.on_bytes(&self.plain[..bytes], offset),
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                let came = (flight.reception.chunks().len() - chunks) as u64;
                self.report.chunks += came;
                // The kernel's stamp is that of what came last, so earlier chunks of the same read may be as early as the last look.
                let late = self.late_ns.saturating_add(now.saturating_sub(self.woken_ns));
                if came > 1 && late > self.shared.options.max_lag_ns {
                    self.report.misplaced += came - 1;
                    self.report.lag.add(late);
                    flight.lag_ns = Some(flight.lag_ns.unwrap_or(0).max(late));
                }
                if let Some(error) = failed {
                    return self.broken(key, &error, job, out);
                }
                if flight.reception.is_over() {
                    self.finish(key, left, job, out);
                }
            }
            Ok(Read::End) => {
                let at = flight.offset_us(now);
                self.lost(key, GivenUp::Closed, at, job, out);
            }
            Err(error) => self.broken(key, &error, job, out),
        }
    }

    fn broken(&mut self, key: Key, error: &TransportError, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Busy(flight) = &connection.state else { return };
        let at = flight.offset_us(now_ns());
        let (TransportError::Io(kind, message) | TransportError::Tls(kind, message)) = error.clone();
        self.lost(key, GivenUp::Broken(kind, message), at, job, out);
    }

    /// The connection of a request is gone. One that had carried requests before and brought no byte of an answer was stale.
    fn lost(&mut self, key: Key, why: GivenUp, at_us: u64, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let reused = connection.served > 1;
        let State::Busy(flight) = &mut connection.state else { return };
        if reused && !flight.reception.has_begun() {
            let message = format!(
                "a connection that had served before was closed {:.3} s after the next request was sent on it, without a byte of an answer",
                at_us as f64 / 1e6
            );
            flight.reception.give_up(GivenUp::Broken("stale_connection", message), at_us);
        } else {
            flight.reception.give_up(why, at_us);
        }
        self.finish(key, true, job, out);
    }

    /// A request has ended, well or not. `dirty`: the connection cannot be used again.
    fn finish(&mut self, key: Key, dirty: bool, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Busy(mut flight) = std::mem::replace(&mut connection.state, State::Idle) else { return };
        let whole = flight.written == flight.bytes.len();
        let target = connection.target as usize;
        let reception = std::mem::replace(&mut flight.reception, Reception::new(self.asked()));
        let answer = reception.finish();
        let reusable = answer.reusable && !dirty && whole && !self.shared.options.connection_per_request;
        if !reusable {
            self.connections.remove(key);
        }
        self.conclude(flight, answer, job, out);
        if reusable {
            self.serve_next(key, target, job, out);
        } else {
            self.connect_for_pending(target, job, out);
        }
    }

    /// Writes the row of a request that has an answer, or sees to it that it is tried again.
    pub(super) fn conclude(&mut self, mut flight: Box<Flight>, answer: Answer, job: &StageJob, out: &Sender<Message>) {
        if self.retried(job, &mut flight, answer.outcome, answer.status, answer.retry_after_s) {
            flight.connect_ms = None;
            let due_ns = now_ns() + answer.retry_after_s.unwrap_or(1).saturating_mul(1_000_000_000);
            self.later.push(Reverse(Later { due_ns, what: LaterWhat::Retry(flight) }));
        } else {
            let spoken = if answer.outcome == Outcome::Ok { Some(answer.text.clone()) } else { None };
            let context = self.row_context(job, &flight);
            let row = ended(&flight, answer, &context);
            let _ = out.send(Message::Ended(Box::new(row)));
            let conversation = spoken.and_then(|text| self.next_turn(&flight, text));
            self.place_free(job, conversation, flight.entered);
        }
    }

    /// Whether `flight` is tried again.
    fn retried(
        &self,
        job: &StageJob,
        flight: &mut Flight,
        outcome: Outcome,
        status: Option<u16>,
        after_s: Option<u64>,
    ) -> bool {
        let options = &self.shared.options;
        let transient = outcome == Outcome::RateLimited || (outcome == Outcome::Http5xx && status == Some(503));
        let patient = Duration::from_secs(after_s.unwrap_or(1)) <= options.max_retry_wait;
        transient && patient && flight.attempts <= options.retries + flight.refused && job.stopping() == Stop::Run
    }

    /// What is left of a conversation after an answer.
    fn next_turn(&self, flight: &Flight, text: String) -> Option<Conversation> {
        let items = &self.shared.dataset.items;
        let item = &items[(flight.conversation.item % items.len() as u64) as usize];
        let turn = item.turns.get(flight.conversation.turn)?;
        item.turns.get(flight.conversation.turn + 1)?;
        let mut history = flight.conversation.history.clone();
        history.extend(messages_of(&turn.prompt));
        history.push(item::Message { role: "assistant".to_owned(), content: text });
        Some(Conversation { item: flight.conversation.item, turn: flight.conversation.turn + 1, history })
    }

    /// Gives up what took too long. Looked at every few milliseconds, not at each event.
    pub(super) fn look_at_deadlines(&mut self, job: &StageJob, out: &Sender<Message>, now: u64) {
        for target in 0..self.pending.len() {
            self.connect_for_pending(target, job, out);
        }
        if now < self.next_look_ns {
            return;
        }
        self.next_look_ns = now + 20_000_000;
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            self.look_at(key, job, out, now);
        }
        let limit = self.shared.options.connect_timeout.map_or(u64::MAX, ns);
        for target in 0..self.pending.len() {
            while self.pending[target].front().is_some_and(|flight| now.saturating_sub(flight.issued_ns) > limit) {
                let Some(flight) = self.pending[target].pop_front() else { break };
                self.end_unsent(job, out, &flight, Outcome::TimeoutConnect, "timeout", "no connection in time");
            }
        }
    }

    fn look_at(&mut self, key: Key, job: &StageJob, out: &Sender<Message>, now: u64) {
        let limits = [
            self.shared.options.connect_timeout,
            self.shared.options.first_token_timeout,
            self.shared.options.stall_timeout,
            self.shared.options.total_timeout,
        ]
        .map(|limit| limit.map_or(u64::MAX, ns));
        let Some(connection) = self.connections.get(key) else { return };
        match &mut connection.state {
            State::Idle => {}
            State::Http2(http2) if http2.is_open() => {
                self.end_streams(key, job, out, |flight| overdue(flight, &limits, now).map(GivenUp::Timeout));
            }
            State::Connecting | State::Handshaking | State::Http2(_) => {
                if now.saturating_sub(connection.begun_ns) > limits[0] {
                    let error = TransportError::Io("no_time", "no connection in time".to_owned());
                    self.connect_failed(key, &error, job, Some(out));
                }
            }
            State::Busy(flight) => {
                let Some(outcome) = overdue(flight, &limits, now) else { return };
                let at = flight.offset_us(now);
                flight.reception.give_up(GivenUp::Timeout(outcome), at);
                self.finish(key, true, job, out);
            }
        }
    }

    /// Ends everything that is under way.
    pub(super) fn cancel_all(&mut self, job: &StageJob, out: &Sender<Message>, outcome: Outcome) {
        let now = now_ns();
        let keys: Vec<Key> = self.connections.keys().collect();
        for target in 0..self.pending.len() {
            while let Some(flight) = self.pending[target].pop_front() {
                self.end_unsent(
                    job,
                    out,
                    &flight,
                    outcome,
                    "unsent",
                    "waiting for a connection when the stage was over",
                );
            }
        }
        for key in keys {
            let Some(connection) = self.connections.get(key) else { continue };
            match &mut connection.state {
                State::Busy(flight) => {
                    let at = flight.offset_us(now);
                    flight.reception.give_up(GivenUp::Cancelled(outcome), at);
                    self.finish(key, true, job, out);
                }
                State::Connecting | State::Handshaking => {
                    let target = connection.target as usize;
                    self.connections.remove(key);
                    self.connecting[target] -= 1;
                }
                State::Http2(_) => self.cancel_http2(key, job, out, outcome),
                State::Idle => {}
            }
        }
    }
}

/// How a request has taken too long, if it has. `limits` are those of connecting, the first token, the time between events, and all of it, in ns.
fn overdue(flight: &Flight, limits: &[u64; 4], now: u64) -> Option<Outcome> {
    let sent = flight.sent_ns.unwrap_or(now);
    let since_sent = now.saturating_sub(sent);
    let reception = &flight.reception;
    let quiet = now.saturating_sub(reception.last_event_us().map_or(sent, |us| sent + us * 1000));
    if since_sent > limits[3] {
        Some(Outcome::TimeoutTotal)
    } else if !reception.has_output() && since_sent > limits[1] {
        Some(Outcome::TimeoutFirstToken)
    } else if reception.has_output() && quiet > limits[2] || reception.is_done() && quiet > ns(AFTER_DONE) {
        Some(Outcome::TimeoutStall)
    } else {
        None
    }
}
