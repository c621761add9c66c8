//! One request and its answer, waited for: for looking at a server before and beside a test.

use std::time::Duration;

use super::response::{Head, Piece, ResponseError, ResponseParser};
use super::target::Target;
use super::transport::{Read, Transport, TransportError};
use crate::net::clock::{now_ns, ns};
use crate::net::poller::{Interest, Poller};
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
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether the server closed the connection by itself after the answer; `None` if that was not watched, or the answer said that it would.
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

/// Asks `target`, over a connection of its own. Addresses are tried in turn.
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

fn exchange(
    mut transport: Transport,
    target: &Target,
    question: &Question<'_>,
    deadline: u64,
) -> Result<Reply, NoReply> {
    let failed = |error: std::io::Error| NoReply::Transport(TransportError::io(&error));
    let mut poller = Poller::new(1).map_err(failed)?;
    poller.add(transport.fd(), 0, Interest::BOTH).map_err(failed)?;
    let mut out = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: perfprof/{}\r\nAccept-Encoding: identity\r\n{}{}",
        question.method,
        question.path,
        target.host_header(),
        env!("CARGO_PKG_VERSION"),
        if question.watch.is_some() { "" } else { "Connection: close\r\n" },
        question.headers
    )
    .into_bytes();
    if question.method == "POST" {
        out.extend_from_slice(
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", question.body.len()).as_bytes(),
        );
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(question.body);
    let (mut sent, mut connected) = (0, false);
    let (mut parser, mut head, mut body, mut whole) = (ResponseParser::default(), None, Vec::new(), false);
    let (mut plain, mut scratch, mut ready) = (vec![0; 64 << 10], vec![0; 64 << 10], Vec::new());
    while !whole {
        let Some(left) = deadline.checked_sub(now_ns()).filter(|left| *left > 0) else {
            return Err(if connected && transport.is_handshaking() {
                let message = "the server does not answer to TLS on this port: is it `http`?";
                NoReply::Transport(TransportError::Tls("no_tls", message.to_owned()))
            } else {
                NoReply::Timeout
            });
        };
        poller.wait(Some(left), &mut ready).map_err(failed)?;
        let Some(event) = ready.first().copied() else { continue };
        if !connected {
            if !event.writable {
                continue;
            }
            transport.connected().map_err(NoReply::Transport)?;
            connected = true;
        }
        transport.flush().map_err(NoReply::Transport)?;
        if sent < out.len() && !transport.is_handshaking() {
            sent += transport.write(&out[sent..]).map_err(NoReply::Transport)?;
        }
        if event.readable {
            let mut end = false;
            let mut bytes = match transport.read(&mut plain, &mut scratch).map_err(NoReply::Transport)? {
                Read::Data { bytes, .. } => bytes,
                Read::Nothing => 0,
                Read::End => {
                    end = true;
                    0
                }
            };
            while bytes > 0 {
                parser.feed::<NoReply>(&plain[..bytes], &mut |piece| {
                    match piece {
                        Piece::Head(found) => head = Some(found.clone()),
                        Piece::Data(data) if body.len() + data.len() > MOST_BYTES => return Err(NoReply::TooLong),
                        Piece::Data(data) => body.extend_from_slice(data),
                        Piece::End => whole = true,
                    }
                    Ok(())
                })?;
                bytes = transport.read_more(&mut plain).map_err(NoReply::Transport)?;
            }
            if end && !whole {
                if head.is_some() && parser.cut() == super::response::Cut::Whole {
                    break;
                }
                let message = parser.cut().words().to_owned();
                return Err(NoReply::Transport(TransportError::Io("closed", message)));
            }
        }
        let interest = if sent < out.len() || transport.wants_write() { Interest::BOTH } else { Interest::READ };
        poller.change(transport.fd(), 0, interest).map_err(failed)?;
    }
    let head = head.ok_or(NoReply::Timeout)?;
    let closed = match question.watch {
        Some(time) if whole && head.keep_alive => Some(closes(&mut transport, &mut poller, time, &mut scratch)?),
        _ => None,
    };
    Ok(Reply { head, body, closed })
}

/// Whether the other side ends the connection within `time`.
fn closes(transport: &mut Transport, poller: &mut Poller, time: Duration, scratch: &mut [u8]) -> Result<bool, NoReply> {
    let (deadline, mut ready, mut plain) = (now_ns().saturating_add(ns(time)), Vec::new(), vec![0; 1024]);
    loop {
        let Some(left) = deadline.checked_sub(now_ns()).filter(|left| *left > 0) else { return Ok(false) };
        let waited = poller.wait(Some(left), &mut ready);
        waited.map_err(|error| NoReply::Transport(TransportError::io(&error)))?;
        if ready.first().is_some_and(|event| event.readable) {
            match transport.read(&mut plain, scratch) {
                Ok(Read::End) | Err(_) => return Ok(true),
                // The encryption has words of its own after an answer, e.g. tickets.
                Ok(Read::Data { .. } | Read::Nothing) => {}
            }
        }
    }
}
