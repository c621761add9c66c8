//! HTTP/2 without a runtime: the `h2` crate reads from and writes to memory, and is polled by hand.
//!
//! Bytes that were read are fed in, the connection is advanced, and the streams that something came for say so themselves: each has a waker that puts
//! its number on a list, so that of hundreds of streams only those are looked at. What is handed out between two feeds arrived with the first of
//! them, so one stamp is right for all of it.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::response::Head;
use super::transport::{Transport, TransportError};

/// Bytes the server may send on one stream, and on all of a connection, before it is told that they were read. Wide enough that no stream ever waits:
/// what was read is acknowledged at once.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes of the header fields of an answer at most, as in HTTP/1.1.
const MOST_HEAD_BYTES: u32 = 64 << 10;
/// Streams that were given up and are remembered for what still comes for them.
const REMEMBERED: usize = 4096;
/// While so many bytes wait for the socket, nothing more is made ready to be sent.
const MOST_WAITING: usize = 4 << 20;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT_BYTES: usize = 256 << 10;

/// Why a stream, or all of a connection, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A word for it.
    pub kind: &'static str,
    /// A sentence.
    pub message: String,
    /// The server says that it has not begun with the request, so it may be sent again.
    pub untouched: bool,
}

impl Fault {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), untouched: false }
    }
}

impl From<Fault> for TransportError {
    fn from(fault: Fault) -> Self {
        Self::Io(fault.kind, fault.message)
    }
}

/// Why a connection does not take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It carries as many as the server takes.
    Full,
    /// It takes none any more.
    Leaving,
}

/// What is handed out of a stream.
#[derive(Debug)]
pub enum Part<'a> {
    /// The head of the answer; comes once.
    Head(Head),
    /// Some of the body.
    Data(&'a [u8]),
    /// The body is whole.
    End,
    /// Nothing more will come.
    Broken(Fault),
}

/// What passes between `h2` and the socket.
#[derive(Debug, Default)]
struct Pipe {
    /// Read from the socket and not taken yet, from `taken` on.
    incoming: Vec<u8>,
    taken: usize,
    /// Nothing more will come in.
    ended: bool,
    /// To be written to the socket, from `written` on.
    outgoing: Vec<u8>,
    written: usize,
    /// The socket takes nothing any more: what is to be written is dropped.
    deaf: bool,
    /// `h2` waits for room in `outgoing`.
    blocked: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `h2`'s end of the pipe. It registers no waker: the connection is polled whenever the other end was touched.
struct End(Arc<Mutex<Pipe>>);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.0);
        let left = &pipe.incoming[pipe.taken..];
        if left.is_empty() {
            return if pipe.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let take = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..take]);
        pipe.taken += take;
        if pipe.taken == pipe.incoming.len() {
            pipe.incoming.clear();
            pipe.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.0);
        if pipe.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        if pipe.outgoing.len() - pipe.written >= MOST_WAITING {
            pipe.blocked = true;
            return Poll::Pending;
        }
        pipe.outgoing.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Says that the connection wants to be polled.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says that a stream has something, once until it is looked at.
#[derive(Debug)]
struct StreamWaker {
    slot: u32,
    listed: AtomicBool,
    list: Arc<Mutex<Vec<u32>>>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::Relaxed) {
            lock(&self.list).push(self.slot);
        }
    }
}

enum Answer {
    Awaited(ResponseFuture),
    Begun(RecvStream),
}

/// One request and its answer. Dropping it resets the stream, unless both are whole.
struct Stream {
    answer: Answer,
    _request: SendStream<Bytes>,
}

struct Slot {
    state: Arc<StreamWaker>,
    waker: Waker,
    stream: Option<Stream>,
}

/// A connection of HTTP/2, without its socket.
pub struct Session {
    pipe: Arc<Mutex<Pipe>>,
    sender: SendRequest<Bytes>,
    connection: Connection<End, Bytes>,
    flag: Arc<Flag>,
    waker: Waker,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Streams that something came for, as their wakers list them.
    list: Arc<Mutex<Vec<u32>>>,
    /// Those taken from the list.
    due: Vec<u32>,
    heard: bool,
    over: bool,
    /// Why nothing more comes.
    ended: Option<Fault>,
    /// The server takes no more requests, and why.
    goaway: Option<Reason>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.active();
        f.debug_struct("Session").field("streams", &streams).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection whose greeting waits to be written. It takes requests once the server has told its settings.
    ///
    /// # Errors
    /// If `h2` cannot begin, which would be a defect of it.
    pub fn new() -> Result<Self, Fault> {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MOST_HEAD_BYTES)
            .enable_push(false)
            // None before the server says how many it takes.
            .initial_max_send_streams(0)
            .max_concurrent_reset_streams(REMEMBERED)
            // Guards against servers that attack. A token is a small frame, and a test goes on when streams fail.
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX);
        let handshake = pin!(builder.handshake(End(Arc::clone(&pipe))));
        // It writes the greeting, for which there is room, and waits for nothing.
        let (sender, connection) = match handshake.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(both)) => both,
            Poll::Ready(Err(error)) => return Err(Fault::new("http2", error.to_string())),
            Poll::Pending => return Err(Fault::new("http2", "the greeting could not be written")),
        };
        flag.0.store(true, Ordering::Relaxed);
        Ok(Self {
            pipe,
            sender,
            connection,
            flag,
            waker,
            slots: Vec::new(),
            free: Vec::new(),
            list: Arc::default(),
            due: Vec::new(),
            heard: false,
            over: false,
            ended: None,
            goaway: None,
        })
    }

    /// Takes bytes that were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.heard && bytes.starts_with(b"HTTP/1.") {
            return self.end("no_http2", "the server answers in HTTP/1.1: it does not speak HTTP/2 here");
        }
        self.heard = true;
        lock(&self.pipe).incoming.extend_from_slice(bytes);
        self.flag.0.store(true, Ordering::Relaxed);
    }

    /// Nothing more will be read: why, as a word and a sentence.
    pub fn end(&mut self, kind: &'static str, message: impl Into<String>) {
        self.ended.get_or_insert_with(|| Fault::new(kind, message));
        lock(&self.pipe).ended = true;
        self.flag.0.store(true, Ordering::Relaxed);
    }

    /// Nothing more can be written; what was received may still be read.
    pub fn deafen(&mut self) {
        let mut pipe = lock(&self.pipe);
        pipe.deaf = true;
        pipe.outgoing = Vec::new();
        pipe.written = 0;
        self.flag.0.store(true, Ordering::Relaxed);
    }

    /// Lets the connection do what there is to do: take in what was fed, and make ready what is to be written.
    pub fn advance(&mut self) {
        while !self.over && self.flag.0.swap(false, Ordering::Relaxed) {
            let mut context = Context::from_waker(&self.waker);
            if let Poll::Ready(result) = Pin::new(&mut self.connection).poll(&mut context) {
                self.over = true;
                if let Err(error) = &result {
                    let fault = self.fault(error);
                    self.ended.get_or_insert(fault);
                }
            }
            if let Poll::Ready(Err(error)) = self.sender.poll_ready(&mut context)
                && error.is_go_away()
                && error.is_remote()
            {
                self.goaway = error.reason();
            }
        }
    }

    /// Whether there is something to do for [`Session::advance`].
    pub fn is_flagged(&self) -> bool {
        !self.over && self.flag.0.load(Ordering::Relaxed)
    }

    /// Whether the connection has ended, well or not.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the server has said that it takes no more requests on this connection.
    pub fn is_leaving(&self) -> bool {
        self.over || self.goaway.is_some()
    }

    /// Why the connection has ended.
    pub fn failure(&self) -> Fault {
        match (&self.ended, self.goaway) {
            (_, Some(reason)) => gone_away(reason),
            (Some(fault), None) => fault.clone(),
            (None, None) => Fault::new("closed", "the connection ended"),
        }
    }

    /// Requests the server takes at once; 0 before it has said so.
    pub fn limit(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Requests under way.
    pub fn active(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Further requests the server would take now.
    pub fn room(&self) -> usize {
        if self.is_leaving() { 0 } else { self.limit().saturating_sub(self.active()) }
    }

    /// Begins a request and gives the number of its stream.
    ///
    /// # Errors
    /// [`Refusal`], if the connection does not take it.
    pub fn request(&mut self, request: Request<()>, body: Bytes) -> Result<u32, Refusal> {
        // A stream that was given up counts until the server has been told.
        self.advance();
        if self.is_leaving() {
            return Err(Refusal::Leaving);
        }
        if self.room() == 0 {
            return Err(Refusal::Full);
        }
        let mut context = Context::from_waker(&self.waker);
        match self.sender.poll_ready(&mut context) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending => return Err(Refusal::Full),
            Poll::Ready(Err(_)) => return Err(Refusal::Leaving),
        }
        let (answer, mut sending) = match self.sender.send_request(request, body.is_empty()) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!("a request was not taken: {error}");
                return Err(Refusal::Leaving);
            }
        };
        if !body.is_empty() {
            // A stream that ends before it has begun says so when it is looked at.
            let _ = sending.send_data(body, true);
        }
        self.flag.0.store(true, Ordering::Relaxed);
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.slots.len() as u32;
            let state = Arc::new(StreamWaker { slot: number, listed: AtomicBool::new(false), list: self.list.clone() });
            self.slots.push(Slot { waker: Waker::from(Arc::clone(&state)), state, stream: None });
            number
        });
        let slot = &mut self.slots[number as usize];
        slot.stream = Some(Stream { answer: Answer::Awaited(answer), _request: sending });
        // It has to be looked at once before it can say that something came.
        slot.waker.wake_by_ref();
        Ok(number)
    }

    /// Whether streams wait to be looked at, or the connection to be advanced.
    pub fn has_work(&self) -> bool {
        self.is_flagged() || !self.due.is_empty() || !lock(&self.list).is_empty()
    }

    /// The number of a stream that something came for; each is given once.
    pub fn next_ready(&mut self) -> Option<u32> {
        loop {
            if self.due.is_empty() {
                std::mem::swap(&mut self.due, &mut *lock(&self.list));
            }
            let slot = self.slots.get(self.due.pop()? as usize)?;
            slot.state.listed.store(false, Ordering::Relaxed);
            if slot.stream.is_some() {
                return Some(slot.state.slot);
            }
        }
    }

    /// Hands out what came for a stream, as long as `on` says that it wants more.
    pub fn receive(&mut self, number: u32, on: &mut impl FnMut(Part<'_>) -> bool) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        let Some(stream) = &mut slot.stream else { return };
        let mut context = Context::from_waker(&slot.waker);
        if let Answer::Awaited(answer) = &mut stream.answer {
            match Pin::new(answer).poll(&mut context) {
                Poll::Pending => return,
                Poll::Ready(Ok(answer)) => {
                    let (parts, body) = answer.into_parts();
                    stream.answer = Answer::Begun(body);
                    if !on(Part::Head(head(&parts))) {
                        return;
                    }
                }
                Poll::Ready(Err(error)) => {
                    let fault = self.fault(&error);
                    on(Part::Broken(fault));
                    return;
                }
            }
        }
        let Answer::Begun(body) = &mut stream.answer else { return };
        let more = loop {
            match body.poll_data(&mut context) {
                Poll::Pending => return,
                Poll::Ready(None) => break Ok(()),
                Poll::Ready(Some(Ok(data))) => {
                    // Only a stream that is gone has nothing to give back.
                    let _ = body.flow_control().release_capacity(data.len());
                    if !on(Part::Data(&data)) {
                        return;
                    }
                }
                Poll::Ready(Some(Err(error))) => break Err(error),
            }
        };
        match more {
            Ok(()) => on(Part::End),
            Err(error) => {
                let fault = self.fault(&error);
                on(Part::Broken(fault))
            }
        };
    }

    /// Forgets a stream. The server is told if it has not ended.
    pub fn close(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize)
            && slot.stream.take().is_some()
        {
            self.free.push(number);
            self.flag.0.store(true, Ordering::Relaxed);
        }
    }

    /// Writes what is ready to be sent. True if all of it went out.
    ///
    /// # Errors
    /// If the socket or its encryption failed.
    pub fn write_to(&mut self, transport: &mut Transport) -> Result<bool, TransportError> {
        transport.flush()?;
        let mut pipe = lock(&self.pipe);
        while pipe.written < pipe.outgoing.len() {
            let sent = transport.write(&pipe.outgoing[pipe.written..])?;
            if sent == 0 {
                break;
            }
            pipe.written += sent;
        }
        let all = pipe.written == pipe.outgoing.len();
        if all {
            pipe.written = 0;
            pipe.outgoing.clear();
            if pipe.outgoing.capacity() > KEPT_BYTES {
                pipe.outgoing = Vec::new();
            }
        }
        if pipe.blocked && pipe.outgoing.len() - pipe.written < MOST_WAITING {
            pipe.blocked = false;
            self.flag.0.store(true, Ordering::Relaxed);
        }
        Ok(all && !transport.wants_write())
    }

    fn fault(&self, error: &h2::Error) -> Fault {
        match (error.reason(), error.is_remote()) {
            (Some(Reason::REFUSED_STREAM), true) if error.is_reset() => Fault {
                untouched: true,
                ..Fault::new("refused_stream", "the server refused the stream (REFUSED_STREAM)")
            },
            (Some(reason), true) if error.is_reset() => {
                Fault::new("rst_stream", format!("the server reset the stream ({reason:?})"))
            }
            // Streams the server has begun with go on: those that end so are behind the last of them.
            (Some(reason), true) => Fault { untouched: reason == Reason::NO_ERROR, ..gone_away(reason) },
            _ if error.is_library() => {
                Fault::new("protocol", format!("the server breaks the rules of HTTP/2: {error}"))
            }
            _ if error.is_io() => self.failure(),
            _ => Fault::new("http2", error.to_string()),
        }
    }
}

fn gone_away(reason: Reason) -> Fault {
    Fault::new("goaway", format!("the server ended the connection by GOAWAY ({reason:?})"))
}

fn head(parts: &response::Parts) -> Head {
    let mut head = Head::new(parts.status.as_u16());
    for (name, value) in &parts.headers {
        head.field(name.as_str(), value.as_bytes());
    }
    head
}
