//! HTTP/2 in a worker: a connection that carries many requests at once.

use std::sync::mpsc::Sender;

use bytes::Bytes;

use super::connection::{Key, State};
use super::flight::Flight;
use super::job::{Message, StageJob, Stop};
use super::worker::Worker;
use crate::load::client::fields::with_length;
use crate::load::client::http2::{Fault, Part, Refusal, Session};
use crate::load::client::reception::{GivenUp, Reception};
use crate::load::client::transport::{Read, Transport, TransportError};
use crate::net::clock::{from_wall, now_ns, wall_ns};
use crate::net::poller::{Interest, Ready};
use crate::record::load::outcome::Outcome;

/// How often a request that servers send back untouched is tried elsewhere.
const MOST_REFUSALS: u32 = 3;

/// A connection of HTTP/2, and what is under way on it.
#[derive(Debug)]
pub(super) struct Http2 {
    session: Session,
    /// Requests by the numbers of their streams.
    flights: Vec<Option<Box<Flight>>>,
    /// The server has told its settings.
    open: bool,
    /// It takes no further requests, and is closed when those under way have ended.
    retired: bool,
}

/// A request whose stream has ended, or failed with it.
#[derive(Debug)]
pub(super) struct EndedStream {
    flight: Box<Flight>,
    fault: Option<Fault>,
    at_us: u64,
}

/// When what is handed out arrived.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    now: u64,
    wall: u64,
    /// The kernel's stamp, where it counts.
    stamp: Option<u64>,
    /// From the stamp to the read.
    lag: Option<u64>,
}

impl Arrival {
    fn of_now() -> Self {
        Self { now: now_ns(), wall: 0, stamp: None, lag: None }
    }

    /// The instant for a request that was sent at `sent`.
    fn at(&self, sent: u64) -> u64 {
        self.stamp.and_then(|stamp| from_wall(stamp, self.now, self.wall, sent)).unwrap_or(self.now)
    }
}

impl Http2 {
    /// Further requests it would take now.
    pub(super) fn room(&self) -> usize {
        if self.open && !self.retired { self.session.room() } else { 0 }
    }

    /// Whether the server has told its settings.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    fn put(&mut self, stream: u32, flight: Box<Flight>) {
        let index = stream as usize;
        if self.flights.len() <= index {
            self.flights.resize_with(index + 1, || None);
        }
        self.flights[index] = Some(flight);
    }

    /// Takes the request off its stream, and ends the stream if the server has not.
    fn take(&mut self, stream: u32) -> Option<Box<Flight>> {
        let flight = self.flights.get_mut(stream as usize)?.take()?;
        self.session.close(stream);
        Some(flight)
    }

    /// Numbers of the streams that carry a request for which `wanted` says so.
    fn streams(&self, wanted: impl Fn(&Flight) -> bool) -> Vec<u32> {
        let flights = self.flights.iter().enumerate();
        let carrying = flights.filter(|(_, flight)| flight.as_ref().is_some_and(|flight| wanted(flight)));
        carrying.map(|(stream, _)| stream as u32).collect()
    }

    /// Writes what is ready; gives what the socket is to be watched for.
    fn write(&mut self, transport: &mut Transport) -> Interest {
        match self.session.write_to(transport) {
            Ok(true) => Interest::READ,
            Ok(false) => Interest::BOTH,
            // The server may have said why before it went: that is still read.
            Err(_) => {
                self.session.deafen();
                Interest::READ
            }
        }
    }

    /// Hands what came to the requests it is for. Those that have ended with it are put into `ended`; gives the number of chunks with output.
    fn hand_out(&mut self, arrival: &Arrival, ended: &mut Vec<EndedStream>) -> u64 {
        let mut chunks = 0;
        loop {
            self.session.advance();
            while let Some(stream) = self.session.next_ready() {
                let Some(Some(flight)) = self.flights.get_mut(stream as usize) else { continue };
                let at_us = flight.offset_us(arrival.at(flight.sent_ns.unwrap_or(0)));
                let before = flight.reception.chunks().len();
                let (mut fault, mut came) = (None, false);
                let reception = &mut flight.reception;
                self.session.receive(stream, &mut |part| {
                    came = true;
                    match part {
                        Part::Head(head) => {
                            reception.on_first_byte(at_us);
                            reception.on_head(head);
                        }
                        Part::Data(data) => reception.on_data(data, at_us),
                        Part::End => reception.on_end(at_us),
                        Part::Broken(found) => fault = Some(found),
                    }
                    !reception.is_over()
                });
                chunks += (reception.chunks().len() - before) as u64;
                let over = fault.is_some() || reception.is_over();
                if came && let Some(lag) = arrival.lag {
                    flight.lag_ns = Some(flight.lag_ns.unwrap_or(0).max(lag));
                }
                if over && let Some(flight) = self.take(stream) {
                    self.retired |= fault.as_ref().is_some_and(|fault| fault.untouched);
                    ended.push(EndedStream { flight, fault, at_us });
                }
            }
            // What was read is acknowledged, and what was given up is told.
            if !self.session.is_flagged() {
                break;
            }
        }
        self.retired |= self.session.is_leaving();
        if self.session.is_over() {
            for stream in self.streams(|_| true) {
                if let Some(flight) = self.take(stream) {
                    let at_us = flight.offset_us(arrival.now);
                    ended.push(EndedStream { flight, fault: Some(self.session.failure()), at_us });
                }
            }
        }
        chunks
    }
}

impl Worker {
    /// Begins HTTP/2 on a connection; `early` bytes of the server's are in `plain` already.
    pub(super) fn greet(&mut self, key: Key, early: usize, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let begun = match &self.requests[connection.target as usize] {
            Ok(_) => Session::new().map_err(TransportError::from),
            Err(message) => Err(TransportError::Io("header", message.clone())),
        };
        match begun {
            Ok(mut session) => {
                session.feed(&self.plain[..early]);
                let http2 = Http2 { session, flights: Vec::new(), open: false, retired: false };
                connection.state = State::Http2(Box::new(http2));
                self.pump(key, &Arrival::of_now(), job, out);
            }
            Err(error) => self.connect_failed(key, &error, job, Some(out)),
        }
    }

    /// Writes what waits and reads what has come.
    pub(super) fn on_http2(&mut self, key: Key, event: Ready, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Http2(http2) = &mut connection.state else { return };
        let mut arrival = Arrival::of_now();
        if event.readable {
            let read = connection.transport.read(&mut self.plain, &mut self.scratch);
            arrival.now = now_ns();
            match read {
                Ok(Read::Nothing) => {}
                Ok(Read::Data { bytes, wall_ns: stamp, mut more }) => {
                    self.report.reads += 1;
                    self.report.bytes += bytes as u64;
                    // What belongs to the encryption alone is no arrival that anybody waits for.
                    if let Some(stamp) = stamp
                        && bytes > 0
                    {
                        arrival.wall = wall_ns();
                        let arrived = from_wall(stamp, arrival.now, arrival.wall, connection.begun_ns);
                        arrival.lag = arrived.map(|arrived| arrival.now.saturating_sub(arrived));
                        arrival.stamp = Some(stamp).filter(|_| self.shared.options.kernel_stamps);
                    }
                    if let Some(lag) = arrival.lag {
                        self.report.kernel_stamps = true;
                        self.report.lag.add(lag);
                    }
                    http2.session.feed(&self.plain[..bytes]);
                    while more {
                        match connection.transport.read_more(&mut self.plain) {
                            Ok(0) => more = false,
                            Ok(bytes) => http2.session.feed(&self.plain[..bytes]),
                            Err(error) => {
                                end(&mut http2.session, error);
                                more = false;
                            }
                        }
                    }
                }
                Ok(Read::End) => http2.session.end("closed", "the server ended the connection"),
                Err(error) => end(&mut http2.session, error),
            }
        }
        self.pump(key, &arrival, job, out);
    }

    /// Brings a connection as far as it goes: hands out what came, writes what waits, and gives room to requests that wait.
    fn pump(&mut self, key: Key, arrival: &Arrival, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Http2(http2) = &mut connection.state else { return };
        let target = connection.target as usize;
        let mut ended = std::mem::take(&mut self.ended);
        let interest = loop {
            let came = http2.hand_out(arrival, &mut ended);
            self.report.chunks += came;
            // All that came in one read has the stamp of what came last.
            let late = self.late_ns.saturating_add(arrival.now.saturating_sub(self.woken_ns));
            if came > 1 && late > self.shared.options.max_lag_ns {
                self.report.misplaced += came - 1;
            }
            let interest = http2.write(&mut connection.transport);
            // There may be room again for what waited for it.
            if !http2.session.is_flagged() {
                break interest;
            }
        };
        let (over, opens) = (http2.session.is_over(), !http2.open && http2.session.limit() > 0);
        if over && !http2.open {
            let error = http2.session.failure().into();
            self.ended = ended;
            return self.connect_failed(key, &error, job, Some(out));
        }
        http2.open |= opens;
        let (lanes, retired) = (http2.session.limit(), http2.retired);
        self.watch(key, interest);
        if opens {
            self.stands(key, "2", lanes);
        }
        if retired {
            self.idle[target].retain(|idle| *idle != key);
        }
        if over {
            self.connections.remove(key);
        }
        for stream in ended.drain(..) {
            self.end_stream(stream, job, out);
        }
        self.ended = ended;
        self.serve_http2(key, target, job, out);
    }

    /// A request has ended with its stream. One that the server has not begun with is sent again over another connection.
    fn end_stream(&mut self, ended: EndedStream, job: &StageJob, out: &Sender<Message>) {
        let EndedStream { mut flight, fault, at_us } = ended;
        if let Some(fault) = fault {
            let again = fault.untouched
                && !flight.reception.has_begun()
                && flight.refused < MOST_REFUSALS
                && job.stopping() != Stop::Now;
            if again {
                flight.refused += 1;
                flight.connect_ms = None;
                return self.dispatch(job, out, flight, now_ns());
            }
            flight.reception.give_up(GivenUp::Broken(fault.kind, fault.message), at_us);
        }
        let asked = self.asked();
        let answer = std::mem::replace(&mut flight.reception, Reception::new(asked)).finish();
        self.conclude(flight, answer, job, out);
    }

    /// Gives the room of a connection to requests that wait, and closes it if nothing will ever use it again.
    fn serve_http2(&mut self, key: Key, target: usize, job: &StageJob, out: &Sender<Message>) {
        while let Some(State::Http2(http2)) = self.connections.get(key).map(|connection| &connection.state) {
            if http2.retired && http2.session.active() == 0 {
                self.connections.remove(key);
                break;
            }
            if http2.room() == 0 {
                break;
            }
            let Some(flight) = self.pending[target].pop_front() else {
                if !self.idle[target].contains(&key) {
                    self.idle[target].push(key);
                }
                break;
            };
            if let Some(back) = self.send_stream(key, flight, now_ns()) {
                self.pending[target].push_front(back);
                break;
            }
        }
        self.connect_for_pending(target, job, out);
    }

    /// Sends `flight` on a stream of its own; gives it back if the connection takes no more.
    pub(super) fn send_stream(&mut self, key: Key, mut flight: Box<Flight>, now: u64) -> Option<Box<Flight>> {
        let Some(connection) = self.connections.get(key) else { return Some(flight) };
        let State::Http2(http2) = &mut connection.state else { return Some(flight) };
        let Ok(request) = &self.requests[connection.target as usize] else { return Some(flight) };
        if http2.room() == 0 {
            return Some(flight);
        }
        let body = Bytes::copy_from_slice(&flight.bytes[flight.body_at..]);
        let stream = match http2.session.request(with_length(request, body.len()), body) {
            Ok(stream) => stream,
            Err(refusal) => {
                http2.retired |= refusal == Refusal::Leaving;
                return Some(flight);
            }
        };
        flight.sent_ns = Some(now);
        flight.attempts += 1;
        flight.first_sent_ns.get_or_insert(now);
        flight.written = flight.bytes.len();
        // It waited for this connection to be made.
        flight.connect_ms =
            flight.connect_ms.or((connection.begun_ns >= flight.issued_ns).then_some(connection.connect_ms));
        connection.served += 1;
        http2.retired |= self.shared.options.connection_per_request;
        http2.put(stream, flight);
        http2.session.advance();
        let interest = http2.write(&mut connection.transport);
        self.watch(key, interest);
        None
    }

    /// Ends requests of a connection, each as `why` says, and lets the others go on.
    pub(super) fn end_streams(
        &mut self,
        key: Key,
        job: &StageJob,
        out: &Sender<Message>,
        why: impl Fn(&Flight) -> Option<GivenUp>,
    ) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Http2(http2) = &mut connection.state else { return };
        let now = now_ns();
        let streams = http2.streams(|flight| why(flight).is_some());
        let left_alone = http2.session.has_work() || (http2.retired && http2.session.active() == 0);
        if streams.is_empty() && !left_alone {
            return;
        }
        let mut ended = std::mem::take(&mut self.ended);
        for stream in streams {
            let Some(mut flight) = http2.take(stream) else { continue };
            let at_us = flight.offset_us(now);
            if let Some(why) = why(&flight) {
                flight.reception.give_up(why, at_us);
            }
            ended.push(EndedStream { flight, fault: None, at_us });
        }
        self.ended = ended;
        self.pump(key, &Arrival::of_now(), job, out);
    }

    /// Ends all requests of a connection, or the connection if it does not stand yet.
    pub(super) fn cancel_http2(&mut self, key: Key, job: &StageJob, out: &Sender<Message>, outcome: Outcome) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Http2(http2) = &connection.state else { return };
        if http2.open {
            return self.end_streams(key, job, out, |_| Some(GivenUp::Cancelled(outcome)));
        }
        let target = connection.target as usize;
        self.connections.remove(key);
        self.connecting[target] -= 1;
    }
}

/// The connection of `session` has failed.
fn end(session: &mut Session, error: TransportError) {
    let (TransportError::Io(kind, message) | TransportError::Tls(kind, message)) = error;
    session.end(kind, message);
}
