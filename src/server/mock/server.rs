//! The loop of the mock: one thread that accepts, reads, and sends each chunk when it is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use super::connection::{Answer, Connection, Gone, Phase, Step, Turn, push};
use super::http::{CONTINUE, MOST_HEAD};
use super::ledger::{Ending, Gauges, Ledger};
use super::settings::MockSettings;
use crate::net::clock::{from_wall, now_ns, wall_ns};
use crate::net::poller::{Interest, Poller, Ready, no_timer_slack};
use crate::net::socket::{enable_stamps, receive};

const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
/// Sockets reported at once.
const EVENTS: usize = 256;
/// What is due is sent in portions, so that requests are read in between however late the sends are.
const PORTION: usize = 256;
/// Connections accepted in a row.
const ACCEPTS: usize = 16;
/// Connections the kernel may hold before they are accepted; it takes less where `net.core.somaxconn` says so.
const BACKLOG: libc::c_int = 65_535;
const BUFFER: usize = 64 << 10;
/// Reads of a buffer in a row.
const READS: usize = 16;
/// How long a connection waits for the client to close it.
const LINGER_NS: u64 = 1_000_000_000;
/// How long until connections are accepted again when descriptors had run out.
const RETRY_NS: u64 = 100_000_000;

/// A connection's place, and how often the place was used before.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// All of the server; it lives on its thread.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) settings: MockSettings,
    listener: TcpListener,
    poller: Poller,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// What is due next, with the connection's token.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) waiting: VecDeque<u64>,
    pub(super) ledger: Ledger,
    pub(super) gauges: Gauges,
    pub(super) scratch: Vec<u8>,
    buffer: Vec<u8>,
    begun: u64,
}

impl Server {
    /// A server for connections of `listener`, which is bound.
    pub(super) fn new(settings: MockSettings, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // The backlog of the standard library is too short for a burst of thousands, which would then be repeated after a second.
        // SAFETY: no memory is involved; the descriptor is that of a bound socket.
        if unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // Connections inherit the option. A kernel without it only makes the times of arrival those of reading.
        enable_stamps(&TcpStream::from(OwnedFd::from(listener.try_clone()?)));
        let poller = Poller::new(EVENTS)?;
        poller.add(listener.as_raw_fd(), LISTENER, Interest::READ)?;
        Ok(Self {
            settings,
            listener,
            poller,
            slots: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            waiting: VecDeque::new(),
            ledger: Ledger::default(),
            gauges: Gauges::default(),
            scratch: Vec::new(),
            buffer: vec![0; BUFFER],
            begun: now_ns(),
        })
    }

    /// Serves until there is something to read from the other end of `wake`, or that end is closed.
    pub(super) fn run(mut self, wake: &UnixStream) -> io::Result<()> {
        self.poller.add(wake.as_raw_fd(), WAKE, Interest::READ)?;
        no_timer_slack();
        self.ledger.reset(self.settings.most_stamps, 0);
        let mut ready = Vec::with_capacity(EVENTS);
        loop {
            self.send_due();
            let timeout = self.due.peek().map(|Reverse((due, _))| due.saturating_sub(now_ns()));
            self.poller.wait(timeout, &mut ready)?;
            for event in &ready {
                match event.token {
                    WAKE => return Ok(()),
                    LISTENER => self.accept(),
                    _ => self.ready(*event),
                }
                // Reading a request takes longer than sending a chunk; nothing that is due waits for more than one.
                self.send_due();
            }
        }
    }

    /// Sends what is due, up to a portion.
    fn send_due(&mut self) {
        let mut now = now_ns();
        for _ in 0..PORTION {
            let Some(&Reverse((due, token))) = self.due.peek() else { return };
            if due > now {
                now = now_ns();
                if due > now {
                    return;
                }
            }
            self.due.pop();
            if token == LISTENER {
                // An error shows again at the next accept.
                let _ = self.poller.add(self.listener.as_raw_fd(), LISTENER, Interest::READ);
            } else if let Some(mut connection) = self.take(token) {
                // Else it was set anew.
                if connection.timer == due {
                    connection.timer = 0;
                    self.work(connection, Self::fire);
                } else {
                    self.put_back(connection);
                }
            }
        }
    }

    fn fire(&mut self, connection: &mut Connection) -> Step {
        match connection.phase {
            Phase::Reading => Ok(()),
            Phase::Lingering => Err(Gone),
            Phase::Answering if !connection.out.is_empty() => {
                connection.deferred = true;
                Ok(())
            }
            Phase::Answering => self.act(connection),
        }
    }

    /// Lets something happen to the connection at `due`.
    pub(super) fn arm(&mut self, connection: &mut Connection, due: u64) {
        connection.timer = due;
        self.due.push(Reverse((due, connection.token)));
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                    continue;
                }
                Err(error) => {
                    // Without a descriptor the listener would be reported ready for ever.
                    tracing::warn!("the mock server cannot accept connections for now: {error}");
                    let _ = self.poller.remove(self.listener.as_raw_fd());
                    self.due.push(Reverse((now_ns() + RETRY_NS, LISTENER)));
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            let index = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            });
            let token = u64::from(self.slots[index].generation) << 32 | index as u64;
            if self.poller.add(stream.as_raw_fd(), token, Interest::READ).is_err() {
                self.free.push(index);
                continue;
            }
            // Data may have come before the connection was accepted, but not before the server was there.
            self.slots[index].connection = Some(Box::new(Connection::new(stream, token, self.begun)));
        }
    }

    /// Takes a connection out of its slot; `None` if it is not there any more.
    pub(super) fn take(&mut self, token: u64) -> Option<Box<Connection>> {
        let slot = self.slots.get_mut((token & 0xffff_ffff) as usize)?;
        if u64::from(slot.generation) == token >> 32 { slot.connection.take() } else { None }
    }

    /// Puts it back.
    pub(super) fn put_back(&mut self, connection: Box<Connection>) {
        let index = (connection.token & 0xffff_ffff) as usize;
        self.slots[index].connection = Some(connection);
    }

    /// Does something with a connection, then what follows from it, and puts it back or closes it.
    fn work(&mut self, mut connection: Box<Connection>, step: impl FnOnce(&mut Self, &mut Connection) -> Step) {
        let done = step(self, &mut connection)
            .and_then(|()| self.process(&mut connection))
            .and_then(|()| self.watch(&mut connection));
        match done {
            Ok(()) => self.put_back(connection),
            Err(Gone) => self.close(*connection),
        }
    }

    fn close(&mut self, mut connection: Connection) {
        let index = (connection.token & 0xffff_ffff) as usize;
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        if let Some(answer) = connection.answer.take() {
            let ending = if answer.struck { Ending::Fault } else { Ending::Gone };
            self.release(&answer, now_ns(), ending);
        }
    }

    /// Ends the account of an answer, and lets the next one begin.
    pub(super) fn release(&mut self, answer: &Answer, at: u64, ending: Ending) {
        self.ledger.end(answer.ticket, at, ending);
        self.gauges.in_flight -= 1;
        match answer.turn {
            Turn::Aside => {}
            Turn::Waiting => self.gauges.waiting -= 1,
            Turn::Running => {
                self.gauges.running -= 1;
                self.gauges.kv_used -= answer.held;
                self.start_waiting();
            }
        }
    }

    fn ready(&mut self, event: Ready) {
        // A connection that was closed after the event was reported is not there.
        let Some(connection) = self.take(event.token) else { return };
        self.work(connection, |server, connection| {
            if event.writable {
                server.flush(connection)?;
            }
            if event.readable { server.read(connection, event.hung_up) } else { Ok(()) }
        });
    }

    fn flush(&mut self, connection: &mut Connection) -> Step {
        if connection.out.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut connection.out);
        if !push(&connection.stream, &mut connection.out, &waiting)? {
            return Ok(());
        }
        if let Some(sending) = connection.sending.take() {
            self.sent(connection, sending, now_ns())?;
        }
        if std::mem::take(&mut connection.deferred) { self.fire(connection) } else { Ok(()) }
    }

    fn read(&mut self, connection: &mut Connection, hung_up: bool) -> Step {
        if !connection.interest.read {
            return if hung_up { Err(Gone) } else { Ok(()) };
        }
        for _ in 0..READS {
            let received = match receive(connection.stream.as_raw_fd(), &mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Gone),
            };
            if received.bytes == 0 {
                return Err(Gone);
            }
            if connection.phase == Phase::Lingering {
                continue;
            }
            let (now, wall) = (now_ns(), wall_ns());
            let arrived = received.wall_ns.and_then(|stamp| from_wall(stamp, now, wall, connection.since));
            connection.arrived = arrived.unwrap_or(now);
            connection.input.extend_from_slice(&self.buffer[..received.bytes]);
            if received.bytes < BUFFER || connection.phase == Phase::Answering {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes up the requests that were read, one after the other, until one is not answered at once.
    fn process(&mut self, connection: &mut Connection) -> Step {
        while connection.phase == Phase::Reading && connection.unread() > 0 {
            let head = match connection.head.take() {
                Some(head) => head,
                None => match connection.reader.read(&connection.input[connection.taken..]) {
                    Ok(Some(head)) => {
                        connection.taken += head.bytes;
                        if head.expects_continue
                            && connection.unread() < head.body
                            && !push(&connection.stream, &mut connection.out, CONTINUE)?
                        {
                            // A client without room for one line has not read a thing.
                            return Err(Gone);
                        }
                        head
                    }
                    Ok(None) => break,
                    Err(refusal) => {
                        connection.close = true;
                        self.refuse(connection, &refusal)?;
                        break;
                    }
                },
            };
            if connection.unread() < head.body {
                connection.head = Some(head);
                break;
            }
            let body = connection.taken..connection.taken + head.body;
            connection.taken = body.end;
            // Out of the connection for as long as it is read.
            let input = std::mem::take(&mut connection.input);
            self.route(connection, &head, &input[body])?;
            connection.input = input;
        }
        if connection.phase == Phase::Lingering {
            connection.input.clear();
            connection.taken = 0;
        }
        if connection.taken > 0 {
            connection.tidy();
        }
        Ok(())
    }

    /// Watches for what the connection needs now.
    fn watch(&mut self, connection: &mut Connection) -> Step {
        // Requests ahead of their turn are read up to a limit and then left to the kernel.
        let read = connection.phase != Phase::Answering || connection.unread() < MOST_HEAD;
        let wanted = Interest { read, write: !connection.out.is_empty() };
        if wanted != connection.interest {
            self.poller.change(connection.stream.as_raw_fd(), connection.token, wanted).map_err(|_| Gone)?;
            connection.interest = wanted;
        }
        Ok(())
    }

    /// Writes nothing more, and waits for the client to close.
    pub(super) fn linger(&mut self, connection: &mut Connection) -> Step {
        connection.stream.shutdown(Shutdown::Write).map_err(|_| Gone)?;
        connection.phase = Phase::Lingering;
        self.arm(connection, now_ns() + LINGER_NS);
        Ok(())
    }
}
