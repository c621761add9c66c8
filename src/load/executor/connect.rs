//! How a worker makes its connections: ahead of a phase, when requests wait for one, and what becomes of those that fail.

use std::sync::mpsc::Sender;

use super::connection::{Connection, Key, State};
use super::job::{Arrivals, Message, StageJob, Stop};
use super::worker::{LOOK_NS, Worker};
use crate::load::client::transport::{Read, Transport, TransportError};
use crate::net::clock::{now_ns, ns};
use crate::net::poller::{Interest, Ready};
use crate::record::load::outcome::Outcome;

impl Worker {
    /// Makes the connections a closed loop begins with, so that connecting is in nobody's latency.
    pub(super) fn connect_ahead(&mut self, job: &StageJob) -> std::io::Result<()> {
        let wanted = match job.arrivals {
            Arrivals::Closed { concurrency } => self.share(concurrency) as usize,
            // An open loop makes what it needs; one of each thread's shows early that the server is there.
            Arrivals::Open { .. } => 1,
        };
        if self.shared.options.connection_per_request {
            return Ok(());
        }
        let targets = self.shared.targets.len();
        let timeout = self.shared.options.connect_timeout.map_or(u64::MAX, ns);
        let deadline = now_ns().saturating_add(timeout);
        self.last_connect_error = None;
        for idle in &mut self.idle {
            idle.retain(|key| self.connections.get(*key).is_some());
        }
        let mut lanes = self.lanes.clone();
        let mut begun: Vec<usize> = (0..targets).map(|target| self.places(target)).collect();
        let share = |target: usize| wanted / targets + usize::from(target < wanted % targets);
        loop {
            let mut missing = 0;
            for (target, begun) in begun.iter_mut().enumerate() {
                while *begun < share(target) && now_ns() >= self.next_connect_ns {
                    self.begin_connect(target, self.address[target], job, None);
                    *begun = begun.saturating_add(self.lanes[target]);
                }
                missing += share(target).saturating_sub(*begun);
            }
            let connecting: usize = self.connecting.iter().sum();
            let now = now_ns();
            if now >= deadline || self.last_connect_error.is_some() || job.stopping() == Stop::Now {
                return Ok(());
            }
            if missing == 0 && connecting == 0 {
                if lanes == self.lanes {
                    return Ok(());
                }
                // A connection has told how many requests it takes at once: others may be needed.
                lanes.clone_from(&self.lanes);
                begun = (0..targets).map(|target| self.places(target)).collect();
                continue;
            }
            let wake = if missing > 0 { self.next_connect_ns } else { now + LOOK_NS };
            self.turn(job, &std::sync::mpsc::channel().0, wake)?;
        }
    }

    /// Requests the connections to `target` that stand could take now.
    fn places(&mut self, target: usize) -> usize {
        let mut places = 0usize;
        for key in &self.idle[target] {
            places = places.saturating_add(match self.connections.get(*key).map(|connection| &connection.state) {
                Some(State::Http2(http2)) => http2.room(),
                Some(_) => 1,
                None => 0,
            });
        }
        places
    }

    /// Begins a connection to `target` at its address number `address`. One that cannot be begun ends a request that waits for it.
    pub(super) fn begin_connect(
        &mut self,
        target: usize,
        address: usize,
        job: &StageJob,
        out: Option<&Sender<Message>>,
    ) {
        let options = &self.shared.options;
        let now = now_ns();
        let pace = (1e9 * f64::from(options.threads) / options.connect_rate) as u64;
        self.next_connect_ns = self.next_connect_ns.max(now.saturating_sub(10 * pace)) + pace;
        let begun = if self.has_room() {
            self.try_connect(target, address)
        } else {
            Err(TransportError::io(&std::io::Error::from_raw_os_error(libc::EMFILE)))
        };
        match begun {
            Ok(transport) => {
                let fd = transport.fd();
                let key = self.connections.insert(Connection {
                    transport,
                    target: target as u32,
                    address,
                    state: State::Connecting,
                    begun_ns: now,
                    connect_ms: 0.0,
                    served: 0,
                    interest: Interest::WRITE,
                });
                self.connecting[target] += 1;
                if let Err(error) = self.poller.add(fd, key.0, Interest::WRITE) {
                    self.connect_failed(key, &TransportError::io(&error), job, out);
                }
            }
            Err(error) => self.no_connection(target, &error, job, out),
        }
    }

    /// Whether a descriptor may be taken for a connection. An idle one to another server makes room.
    fn has_room(&mut self) -> bool {
        while self.connections.len() >= self.most_connections {
            let Some(key) = self.idle.iter_mut().find_map(Vec::pop) else { return false };
            self.connections.remove(key);
        }
        true
    }

    fn try_connect(&self, target: usize, address: usize) -> Result<Transport, TransportError> {
        let shared = &self.shared;
        let server = &shared.targets[target];
        let tls = match (&shared.tls, server.tls) {
            (Some(tls), true) => {
                Some(tls.connect(&server.host).map_err(|error| TransportError::Tls("setup", error.to_string()))?)
            }
            _ => None,
        };
        let Some(address) = server.addresses.get(address) else {
            return Err(TransportError::Io("unreachable", "no address is left".to_owned()));
        };
        // Asked for in any case: without them nobody knows how late this program reads.
        Transport::connect(*address, tls, true)
    }

    /// Connecting failed: the next address is tried, else a request that waits has failed with it.
    pub(super) fn connect_failed(
        &mut self,
        key: Key,
        error: &TransportError,
        job: &StageJob,
        out: Option<&Sender<Message>>,
    ) {
        let Some(connection) = self.connections.remove(key) else { return };
        let target = connection.target as usize;
        self.connecting[target] -= 1;
        let next = connection.address + 1;
        let elsewhere = matches!(error, TransportError::Io("refused" | "unreachable" | "timed_out", _));
        if elsewhere && next < self.shared.targets[target].addresses.len() {
            return self.begin_connect(target, next, job, out);
        }
        self.no_connection(target, error, job, out);
    }

    fn no_connection(&mut self, target: usize, error: &TransportError, job: &StageJob, out: Option<&Sender<Message>>) {
        let (kind, message) = match error {
            TransportError::Tls("no_protocol", message) if self.shared.targets[target].http2 => {
                ("no_http2", message.clone())
            }
            // As where a request was given up that no connection was begun for.
            TransportError::Io("no_time", message) => ("timeout", message.clone()),
            TransportError::Io(kind, message) | TransportError::Tls(kind, message) => (*kind, message.clone()),
        };
        self.last_connect_error = Some(message.clone());
        let outcome = match error {
            TransportError::Tls(..) => Outcome::TlsError,
            TransportError::Io(..) if error.is_ours() => Outcome::ClientError,
            TransportError::Io("no_time", _) => Outcome::TimeoutConnect,
            TransportError::Io(..) => Outcome::ConnectError,
        };
        if let Some(out) = out
            && let Some(flight) = self.pending[target].pop_front()
        {
            self.end_unsent(job, out, &flight, outcome, kind, &message);
        }
    }

    /// Whether requests wait for connections that were not begun.
    pub(super) fn wants_connections(&self) -> bool {
        (0..self.pending.len()).any(|target| self.wants_connection(target))
    }

    fn wants_connection(&self, target: usize) -> bool {
        self.pending[target].len() > self.connecting[target].saturating_mul(self.lanes[target])
    }

    pub(super) fn connect_for_pending(&mut self, target: usize, job: &StageJob, out: &Sender<Message>) {
        while self.wants_connection(target) && now_ns() >= self.next_connect_ns {
            let before = self.pending[target].len();
            self.begin_connect(target, self.address[target], job, Some(out));
            // A connection that failed at once has ended a request; the place it frees is filled by the loop, and not from here.
            if self.pending[target].len() < before {
                break;
            }
        }
    }

    /// Goes on agreeing on the encryption.
    pub(super) fn shake(&mut self, key: Key, event: Ready, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let mut result = Ok(Read::Nothing);
        if event.readable {
            result = connection.transport.read(&mut self.plain, &mut self.scratch);
        }
        let result = result.and_then(|read| connection.transport.flush().map(|()| read));
        match result {
            Err(error) => self.connect_failed(key, &error, job, Some(out)),
            Ok(Read::End) => {
                let error =
                    TransportError::Tls("closed", "the connection ended while TLS was being agreed on".to_owned());
                self.connect_failed(key, &error, job, Some(out));
            }
            Ok(_) if connection.transport.is_handshaking() => {
                let interest = if connection.transport.wants_write() { Interest::BOTH } else { Interest::READ };
                self.watch(key, interest);
            }
            Ok(read) => {
                // The server may speak first in HTTP/2, right behind the last of the encryption's own.
                let early = if let Read::Data { bytes, .. } = read { bytes } else { 0 };
                self.agreed(key, early, job, out);
            }
        }
    }

    /// The connection is there, and its encryption: what is spoken on it? `early` bytes of the server's are in `plain` already.
    pub(super) fn agreed(&mut self, key: Key, early: usize, job: &StageJob, out: &Sender<Message>) {
        let Some(connection) = self.connections.get(key) else { return };
        let server = &self.shared.targets[connection.target as usize];
        let http2 = if server.tls { connection.transport.agreed_http2() } else { server.http2 };
        if http2 {
            self.greet(key, early, job, out);
        } else if server.http2 {
            let error = TransportError::Tls("no_http2", "the server did not agree on HTTP/2".to_owned());
            self.connect_failed(key, &error, job, Some(out));
        } else {
            self.stands(key, "1.1", 1);
            if let Some(connection) = self.connections.get(key) {
                connection.state = State::Idle;
                let target = connection.target as usize;
                self.watch(key, Interest::READ);
                self.serve_next(key, target, job, out);
            }
        }
    }

    /// A connection stands, and takes so many requests at once.
    pub(super) fn stands(&mut self, key: Key, http: &'static str, lanes: usize) {
        let now = now_ns();
        let Some(connection) = self.connections.get(key) else { return };
        connection.connect_ms = now.saturating_sub(connection.begun_ns) as f64 / 1e6;
        let target = connection.target as usize;
        self.connecting[target] -= 1;
        self.address[target] = connection.address;
        self.lanes[target] = if self.shared.options.connection_per_request { 1 } else { lanes };
        self.spoken[target] = Some(http);
        self.report.connect_ms.push(connection.connect_ms);
    }
}
