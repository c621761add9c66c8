//! One connection of the mock: what was read of it, what is still to be written, and the answer under way.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use super::ask::Ask;
use super::http::{Head, HeadReader};
use super::ledger::{Ending, Ticket};
use super::pace::Pace;
use super::render::{Plan, Voice};
use super::settings::{Fault, FaultKind};
use crate::net::poller::Interest;
use crate::net::socket::send;

/// The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// How a step on a connection ends.
pub(super) type Step = Result<(), Gone>;

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request, or for the rest of one.
    Reading,
    /// Answering one.
    Answering,
    /// Nothing more is written; what comes is thrown away until the client has read everything and closes.
    ///
    /// Closing at once would reset the connection if anything had come, and the client could lose the end of the answer.
    Lingering,
}

/// What is being written, and so what is next once it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// The head of a stream, with the role or without.
    Head {
        /// With the role.
        role: bool,
    },
    /// The next chunk with tokens.
    Chunk,
    /// A whole answer that is no stream.
    Whole,
    /// The first half of one, before this fault.
    Half(FaultKind),
    /// The end of a stream, or an error in place of an answer.
    End,
    /// The answer to something else than a request for tokens.
    Plain,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It takes no turn: refused by a fault, or not begun.
    Aside,
    /// It waits for another to end.
    Waiting,
    /// It is worked on.
    Running,
}

/// The answer under way.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ask: Ask,
    pub(super) number: u64,
    pub(super) ticket: Ticket,
    pub(super) plan: Plan,
    pub(super) fault: Option<Fault>,
    /// The fault has happened.
    pub(super) struck: bool,
    pub(super) turn: Turn,
    /// Set when its turn begins.
    pub(super) pace: Option<Pace>,
    /// The next chunk.
    pub(super) next: u32,
    /// When the last one was due.
    pub(super) last_due: u64,
    /// Tokens it holds in the cache.
    pub(super) held: u64,
}

impl Answer {
    /// The fault that is to happen before the next chunk.
    pub(super) fn fault_now(&self) -> Option<FaultKind> {
        let fault = self.fault.filter(|fault| fault.kind.is_inside() && !self.struck)?;
        (fault.after.min(self.plan.chunks) == self.next).then_some(fault.kind)
    }

    /// Whether a fault of this kind befalls it.
    pub(super) fn meets(&self, kind: FaultKind) -> bool {
        self.fault.is_some_and(|fault| fault.kind == kind)
    }

    /// How it ends when all of it was sent.
    pub(super) fn ending(&self) -> Ending {
        if self.fault.is_some() { Ending::Fault } else { Ending::Complete }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) token: u64,
    pub(super) phase: Phase,
    /// What was read; the first `taken` bytes are done with.
    pub(super) input: Vec<u8>,
    pub(super) taken: usize,
    pub(super) reader: HeadReader,
    /// The head of the request whose body is still coming.
    pub(super) head: Option<Head>,
    /// When the last bytes arrived, and when the answer before ended; both in ns of `CLOCK_MONOTONIC`.
    pub(super) arrived: u64,
    pub(super) since: u64,
    /// What there was no room for, and what follows once it is written.
    pub(super) out: Vec<u8>,
    pub(super) sending: Option<Sending>,
    /// When something is to happen; 0 if nothing is.
    pub(super) timer: u64,
    /// It was to happen while there was no room to write.
    pub(super) deferred: bool,
    pub(super) interest: Interest,
    /// The connection ends after this answer.
    pub(super) close: bool,
    pub(super) answer: Option<Answer>,
    pub(super) voice: Voice,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, token: u64, since: u64) -> Self {
        Self {
            stream,
            token,
            phase: Phase::Reading,
            input: Vec::new(),
            taken: 0,
            reader: HeadReader::default(),
            head: None,
            arrived: since,
            since,
            out: Vec::new(),
            sending: None,
            timer: 0,
            deferred: false,
            interest: Interest::READ,
            close: false,
            answer: None,
            voice: Voice::default(),
        }
    }

    /// Bytes read and not done with.
    pub(super) fn unread(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Lets go of what is done with, and of memory that a long body took.
    pub(super) fn tidy(&mut self) {
        const KEPT: usize = 64 << 10;
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.capacity() > KEPT && self.input.len() < KEPT / 2 && self.head.is_none() {
            self.input.shrink_to(KEPT);
        }
    }
}

/// Writes `bytes`, and keeps in `out` what there is no room for. True if all is written.
pub(super) fn push(stream: &TcpStream, out: &mut Vec<u8>, bytes: &[u8]) -> Result<bool, Gone> {
    loop {
        let written = match send(stream.as_raw_fd(), bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Gone),
        };
        out.extend_from_slice(&bytes[written..]);
        return Ok(written == bytes.len());
    }
}
