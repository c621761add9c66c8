//! One request and its answer, waited for: for looking at a server before and beside a test.

use std::time::Duration;

use bytes::Bytes;

use super::fields::{request_of, with_length};
use super::http2::{Fault, Part, Session};
use super::response::{Cut, Head, Piece, ResponseError, ResponseParser};
use super::target::Target;
use super::transport::{Read, Transport, TransportError};
use crate::net::clock::{now_ns, ns};
use crate::net::poller::{Interest, Poller, Ready};
use crate::net::tls::TlsClient;

/// Bytes of an answer at most.
const MOST_BYTES: usize = 64 << 20;

/// What to ask.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path, from the root.
    pub path: &'a str,
    /// Further header lines, each ended by CR LF.
    pub headers: &'a str,
    /// The body of a `POST`.
    pub body: &'a [u8],
    /// How long all of it may take.
    pub timeout: Duration,
    /// Keep the connection open for so long after the answer, to see whether the server closes it.
    pub watch: Option<Duration>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP that was spoken: `1.1` or `2`.
    pub http: &'static str,
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether the server closed the connection by itself after the answer; `None` if that was not watched, the answer said that it would, or it came
    /// in HTTP/2, where connections serve many requests.
    pub closed: Option<bool>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// No connection, or it broke.
    Transport(TransportError),
    /// Not in time.
    Timeout,
    /// It is no HTTP.
    NotHttp(String),
    /// It is too long.
    TooLong,
}

impl std::fmt::Display for NoReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(TransportError::Io(_, message) | TransportError::Tls(_, message))
            | Self::NotHttp(message) => f.write_str(message),
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooLong => f.write_str("the answer is too long"),
        }
    }
}

impl From<ResponseError> for NoReply {
    fn from(error: ResponseError) -> Self {
        Self::NotHttp(error.to_string())
    }
}

/// Asks `target`, over a connection of its own, in the HTTP that TLS agrees on; without TLS in HTTP/2 if that is all that will do. Addresses are tried
/// in turn.
///
/// # Errors
/// [`NoReply`], that of the last address.
pub fn ask(target: &Target, tls: Option<&TlsClient>, question: &Question<'_>) -> Result<Reply, NoReply> {
    let deadline = now_ns().saturating_add(ns(question.timeout));
    let mut last = NoReply::Transport(TransportError::Io("unreachable", "no address".to_owned()));
    for address in &target.addresses {
        let connection = match (target.tls, tls) {
            (true, Some(tls)) => match tls.connect(&target.host) {
                Ok(connection) => Some(connection),
                Err(error) => return Err(NoReply::Transport(TransportError::Tls("setup", error.to_string()))),
            },
            _ => None,
        };
        match Transport::connect(*address, connection, false).map_err(NoReply::Transport) {
            Ok(transport) => match exchange(transport, target, question, deadline) {
                // Another address may listen where this one does not.
                Err(NoReply::Transport(error @ TransportError::Io("refused" | "unreachable", _))) => {
                    last = NoReply::Transport(error);
                }
                other => return other,
            },
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The connection of one question, which is waited for.
struct Line {
    transport: Transport,
    poller: Poller,
    deadline: u64,
    plain: Vec<u8>,
    scratch: Vec<u8>,
    ready: Vec<Ready>,
    connected: bool,
    /// The server has ended it.
    ended: bool,
}

fn exchange(transport: Transport, target: &Target, question: &Question<'_>, deadline: u64) -> Result<Reply, NoReply> {
    let mut line = Line::new(transport, deadline)?;
    let early = line.establish()?;
    let http2 = if target.tls { line.transport.agreed_http2() } else { target.http2 };
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: perfprof/{}\r\nAccept-Encoding: identity\r\n{}{}",
        question.method,
        question.path,
        target.host_header(),
        env!("CARGO_PKG_VERSION"),
        if question.watch.is_some() { "" } else { "Connection: close\r\n" },
        question.headers
    );
    if question.method == "POST" {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", question.body.len()));
    }
    if http2 {
        line.ask_http2(&head, question, target.tls, early)
    } else if target.http2 {
        let message = "the server did not agree on HTTP/2".to_owned();
        Err(NoReply::Transport(TransportError::Tls("no_http2", message)))
    } else {
        line.ask_http1(head, question, early)
    }
}

impl Line {
    fn new(transport: Transport, deadline: u64) -> Result<Self, NoReply> {
        let failed = |error: std::io::Error| NoReply::Transport(TransportError::io(&error));
        let poller = Poller::new(1).map_err(failed)?;
        poller.add(transport.fd(), 0, Interest::BOTH).map_err(failed)?;
        let (plain, scratch) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        Ok(Self { transport, poller, deadline, plain, scratch, ready: Vec::new(), connected: false, ended: false })
    }

    /// Waits until the socket is ready for `interest`.
    fn wait(&mut self, interest: Interest) -> Result<Ready, NoReply> {
        let failed = |error: std::io::Error| NoReply::Transport(TransportError::io(&error));
        self.poller.change(self.transport.fd(), 0, interest).map_err(failed)?;
        loop {
            let Some(left) = self.deadline.checked_sub(now_ns()).filter(|left| *left > 0) else {
                return Err(if self.connected && self.transport.is_handshaking() {
                    let message = "the server does not answer to TLS on this port: is it `http`?";
                    NoReply::Transport(TransportError::Tls("no_tls", message.to_owned()))
                } else {
                    NoReply::Timeout
                });
            };
            self.poller.wait(Some(left), &mut self.ready).map_err(failed)?;
            if let Some(event) = self.ready.first() {
                return Ok(*event);
            }
        }
    }

    /// Reads once into `plain`.
    fn read(&mut self) -> Result<usize, NoReply> {
        match self.transport.read(&mut self.plain, &mut self.scratch).map_err(NoReply::Transport)? {
            Read::Data { bytes, .. } => Ok(bytes),
            Read::Nothing => Ok(0),
            Read::End => {
                self.ended = true;
                Ok(0)
            }
        }
    }

    fn read_more(&mut self) -> Result<usize, NoReply> {
        self.transport.read_more(&mut self.plain).map_err(NoReply::Transport)
    }

    /// Waits until connection and encryption stand; gives the number of bytes in `plain` that came with the last of it.
    fn establish(&mut self) -> Result<usize, NoReply> {
        while !self.wait(Interest::WRITE)?.writable {}
        self.transport.connected().map_err(NoReply::Transport)?;
        self.connected = true;
        let mut early = 0;
        while self.transport.is_handshaking() {
            self.transport.flush().map_err(NoReply::Transport)?;
            let interest = if self.transport.wants_write() { Interest::BOTH } else { Interest::READ };
            if self.wait(interest)?.readable {
                early = self.read()?;
            }
            if self.ended {
                let message = "the connection ended while TLS was being agreed on".to_owned();
                return Err(NoReply::Transport(TransportError::Tls("closed", message)));
            }
        }
        self.transport.flush().map_err(NoReply::Transport)?;
        Ok(early)
    }

    fn ask_http1(&mut self, head: String, question: &Question<'_>, early: usize) -> Result<Reply, NoReply> {
        let mut out = head.into_bytes();
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(question.body);
        let (mut sent, mut bytes) = (0, early);
        let (mut parser, mut head, mut body, mut whole) = (ResponseParser::default(), None, Vec::new(), false);
        loop {
            while bytes > 0 {
                parser.feed::<NoReply>(&self.plain[..bytes], &mut |piece| {
                    match piece {
                        Piece::Head(found) => head = Some(found.clone()),
                        Piece::Data(data) => keep(&mut body, data)?,
                        Piece::End => whole = true,
                    }
                    Ok(())
                })?;
                bytes = self.read_more()?;
            }
            if whole || (self.ended && parser.cut() == Cut::Whole) {
                let head = head.ok_or(NoReply::Timeout)?;
                let closed = match question.watch {
                    Some(time) if whole && head.keep_alive => Some(self.closes(time)?),
                    _ => None,
                };
                return Ok(Reply { http: "1.1", head, body, closed });
            }
            if self.ended {
                return Err(NoReply::Transport(TransportError::Io("closed", parser.cut().words().to_owned())));
            }
            self.transport.flush().map_err(NoReply::Transport)?;
            if sent < out.len() {
                sent += self.transport.write(&out[sent..]).map_err(NoReply::Transport)?;
            }
            let rest = sent < out.len() || self.transport.wants_write();
            if self.wait(if rest { Interest::BOTH } else { Interest::READ })?.readable {
                bytes = self.read()?;
            }
        }
    }

    /// Whether the other side ends the connection within `time`.
    fn closes(&mut self, time: Duration) -> Result<bool, NoReply> {
        self.deadline = now_ns().saturating_add(ns(time));
        loop {
            match self.wait(Interest::READ) {
                Err(NoReply::Timeout) => return Ok(false),
                Err(error) => return Err(error),
                // The encryption has words of its own after an answer, e.g. tickets.
                Ok(_) if self.read().is_err() || self.ended => return Ok(true),
                Ok(_) => {}
            }
        }
    }

    fn ask_http2(&mut self, head: &str, question: &Question<'_>, tls: bool, early: usize) -> Result<Reply, NoReply> {
        let broken = |fault: Fault| NoReply::Transport(fault.into());
        let request =
            request_of(head, tls).map_err(|message| NoReply::Transport(TransportError::Io("header", message)))?;
        let request = if question.method == "POST" { with_length(&request, question.body.len()) } else { request };
        let mut asked = Some((request, Bytes::copy_from_slice(question.body)));
        let mut session = Session::new().map_err(broken)?;
        let mut bytes = early;
        let (mut head, mut body, mut end) = (None, Vec::new(), None);
        loop {
            while bytes > 0 {
                session.feed(&self.plain[..bytes]);
                bytes = self.read_more()?;
            }
            if self.ended {
                session.end("closed", "the server ended the connection");
            }
            session.advance();
            if session.room() > 0
                && let Some((request, body)) = asked.take()
                && session.request(request, body).is_err()
            {
                return Err(broken(session.failure()));
            }
            while session.has_work() && end.is_none() {
                session.advance();
                let Some(stream) = session.next_ready() else { continue };
                session.receive(stream, &mut |part| {
                    match part {
                        Part::Head(found) => head = Some(found),
                        Part::Data(data) => end = keep(&mut body, data).err().map(Err),
                        Part::End => end = Some(Ok(())),
                        Part::Broken(fault) => end = Some(Err(broken(fault))),
                    }
                    end.is_none()
                });
            }
            if let Some(end) = end {
                end?;
                let head = head.ok_or(NoReply::Timeout)?;
                return Ok(Reply { http: "2", head, body, closed: None });
            }
            if session.is_over() {
                return Err(broken(session.failure()));
            }
            let all = session.write_to(&mut self.transport).unwrap_or_else(|_| {
                // The server may have said why before it went: that is still read.
                session.deafen();
                true
            });
            if self.wait(if all { Interest::READ } else { Interest::BOTH })?.readable {
                bytes = self.read()?;
            }
        }
    }
}

fn keep(body: &mut Vec<u8>, data: &[u8]) -> Result<(), NoReply> {
    if body.len() + data.len() > MOST_BYTES {
        return Err(NoReply::TooLong);
    }
    body.extend_from_slice(data);
    Ok(())
}
