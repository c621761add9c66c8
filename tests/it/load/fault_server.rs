//! A server that plays scripts: what it sends, in which pieces, when, and how it ends is up to the test, so that every fault is exact.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perfprof::net::socket::reset_on_close;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::answers::{json_answer, tokens, whole_stream};

/// How often a thread that waits looks whether the test is over.
const LOOK: Duration = Duration::from_millis(20);
/// Nobody waits longer for a request.
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests are small; more is a mistake of the test.
const MOST_BYTES: usize = 8 << 20;

/// One thing to do. When a script is over, the next request of the connection is read.
#[derive(Debug)]
pub(crate) enum Step {
    /// One write, and so mostly one read of the client.
    Send(Vec<u8>),
    /// So many writes of the same.
    Repeat(Vec<u8>, usize),
    /// Milliseconds of silence, in which nothing is read, not even that the client has gone.
    Wait(u64),
    /// The connection ends in order.
    Close,
    /// The connection is reset.
    Reset,
    /// Silence until the client goes.
    Stall,
    /// The whole server is gone: nobody listens, every connection ends.
    Kill,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Number among the requests of the load test, from 0; those before it have none.
    pub(crate) number: Option<u64>,
    /// Request line and header.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    /// The number in `prompt 7` of the body.
    pub(crate) fn prompt(&self) -> usize {
        let (_, rest) = self.body.split_once("prompt ").unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }
    /// Whether it is the one the client sends to see that the server answers at all.
    fn is_probe(&self) -> bool {
        self.body.contains(r#""content":"Hi""#) || self.body.contains(r#""prompt":"Hi""#)
    }
}

/// How a connection is encrypted.
pub(crate) enum Tls {
    /// Not at all.
    Plain,
    /// By this certificate.
    With(Arc<ServerConfig>),
    /// It is accepted, and nothing is said.
    Silent,
}

type Answer = Box<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

struct Shared {
    answer: Answer,
    probe: Answer,
    models: Answer,
    tls: Box<dyn Fn(u64) -> Tls + Send + Sync>,
    address: SocketAddr,
    seen: Mutex<Vec<Seen>>,
    numbered: AtomicU64,
    connections: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
    stopped: AtomicBool,
    deaf: AtomicBool,
}

/// A running server. Dropped, it is killed.
pub(crate) struct FaultServer(Arc<Shared>);

/// What may be set beside the answers.
pub(crate) struct Builder {
    probe: Answer,
    models: Answer,
    tls: Box<dyn Fn(u64) -> Tls + Send + Sync>,
    address: &'static str,
}

impl Builder {
    /// What the request before the test is answered.
    pub(crate) fn probe(mut self, answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        self.probe = Box::new(answer);
        self
    }
    /// What `GET /v1/models` is answered.
    pub(crate) fn models(mut self, answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        self.models = Box::new(answer);
        self
    }
    /// How the connection of a number, counted from 1, is encrypted: two come before the test.
    pub(crate) fn tls(mut self, tls: impl Fn(u64) -> Tls + Send + Sync + 'static) -> Self {
        self.tls = Box::new(tls);
        self
    }
    /// Where to listen.
    pub(crate) fn address(mut self, address: &'static str) -> Self {
        self.address = address;
        self
    }
    /// Starts it, with what the requests of the test are answered.
    pub(crate) fn start(self, answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> FaultServer {
        let listener = TcpListener::bind(self.address).unwrap();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            probe: self.probe,
            models: self.models,
            tls: self.tls,
            address: listener.local_addr().unwrap(),
            seen: Mutex::default(),
            numbered: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || listen(listener, &of_thread));
        FaultServer(shared)
    }
}

impl FaultServer {
    pub(crate) fn builder() -> Builder {
        Builder {
            probe: Box::new(|_| whole_stream(&tokens(1))),
            models: Box::new(|_| {
                let list = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
                vec![Step::Send(json_answer(200, "", list))]
            }),
            tls: Box::new(|_| Tls::Plain),
            address: "127.0.0.1:0",
        }
    }
    /// A server that answers the requests of the test with `answer`, and those before it well.
    pub(crate) fn start(answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::builder().start(answer)
    }
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }
    /// The requests of the test, in the order in which they came.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut seen = self.all();
        seen.retain(|seen| seen.number.is_some());
        seen
    }
    /// All requests, those before the test included.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }
    /// Connections that were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let begin = Instant::now();
        while !self.deaf.load(Ordering::SeqCst) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        for stream in self.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn listen(listener: TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopped() {
            break;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        shared.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that has gone is no fault of the test.
            let _ = serve(stream, number, &shared);
        });
    }
    stop_listening(&listener);
    drop(listener);
    shared.deaf.store(true, Ordering::SeqCst);
}

/// Nobody can connect any more, even if a process that is just being started holds a copy of the descriptor.
pub(crate) fn stop_listening(listener: &TcpListener) {
    // SAFETY: no memory is involved; the descriptor is that of a socket that is borrowed.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
    /// Reads once; `None` if nothing came for a while.
    fn wait(&mut self, buffer: &mut [u8], shared: &Shared) -> io::Result<Option<usize>> {
        if shared.is_stopped() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        match self.read(buffer) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn serve(stream: TcpStream, connection: u64, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut wire = match (shared.tls)(connection) {
        Tls::Plain => Wire::Plain(stream),
        Tls::With(config) => {
            let tls = ServerConnection::new(config).map_err(io::Error::other)?;
            Wire::Tls(Box::new(StreamOwned::new(tls, stream)))
        }
        Tls::Silent => {
            let mut wire = Wire::Plain(stream);
            return stall(&mut wire, shared);
        }
    };
    let played = converse(&mut wire, shared);
    // The last descriptor but this one: closing is what ends the connection.
    shared.open.lock().unwrap().remove(&connection);
    if !matches!(played, Ok(End::Reset)) {
        let _ = wire.socket().shutdown(Shutdown::Write);
    }
    played.map(|_| ())
}

enum End {
    Closed,
    Reset,
}

fn converse(wire: &mut Wire, shared: &Shared) -> io::Result<End> {
    while let Some((head, body)) = request(wire, shared)? {
        if shared.is_stopped() {
            return Ok(End::Closed);
        }
        let mut seen = Seen { number: None, head, body };
        let script = if seen.head.starts_with("GET /v1/models ") {
            (shared.models)(&seen)
        } else if seen.head.starts_with("GET ") {
            vec![Step::Send(json_answer(404, "", "{}"))]
        } else if seen.is_probe() {
            (shared.probe)(&seen)
        } else if !seen.head.starts_with("POST ") {
            // Whoever speaks TLS to a port that does not gets what real servers say.
            wire.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(End::Closed);
        } else {
            // Number and place in the list must agree, whoever comes first.
            let mut list = shared.seen.lock().unwrap();
            seen.number = Some(shared.numbered.fetch_add(1, Ordering::SeqCst));
            list.push(seen.clone());
            drop(list);
            (shared.answer)(&seen)
        };
        if seen.number.is_none() {
            shared.seen.lock().unwrap().push(seen.clone());
        }
        if let Some(end) = play(wire, script, shared)? {
            return Ok(end);
        }
    }
    Ok(End::Closed)
}

fn play(wire: &mut Wire, script: Vec<Step>, shared: &Shared) -> io::Result<Option<End>> {
    for step in script {
        match step {
            Step::Send(bytes) => wire.write(&bytes)?,
            Step::Repeat(bytes, times) => (0..times).try_for_each(|_| wire.write(&bytes))?,
            Step::Wait(ms) => {
                let end = Instant::now() + Duration::from_millis(ms);
                while let Some(left) = end.checked_duration_since(Instant::now())
                    && !shared.is_stopped()
                {
                    std::thread::sleep(left.min(LOOK));
                }
            }
            Step::Close => return Ok(Some(End::Closed)),
            Step::Reset => {
                reset_on_close(wire.socket())?;
                return Ok(Some(End::Reset));
            }
            Step::Stall => {
                stall(wire, shared)?;
                return Ok(Some(End::Closed));
            }
            Step::Kill => {
                shared.kill();
                return Ok(Some(End::Closed));
            }
        }
    }
    Ok(None)
}

fn stall(wire: &mut Wire, shared: &Shared) -> io::Result<()> {
    let socket = wire.socket().try_clone()?;
    let mut wire = Wire::Plain(socket);
    while wire.wait(&mut [0; 1024], shared)? != Some(0) {}
    Ok(())
}

/// The next request: head and body. `None` when the client has ended the connection.
fn request(wire: &mut Wire, shared: &Shared) -> io::Result<Option<(String, String)>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let begin = Instant::now();
    loop {
        if bytes.first() == Some(&0x16) {
            return Ok(Some(("TLS".to_owned(), String::new())));
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let whole = end + 4 + length.unwrap_or(0);
            if bytes.len() >= whole {
                assert_eq!(bytes.len(), whole, "the client sends one request after the other");
                return Ok(Some((head, String::from_utf8_lossy(&bytes[end + 4..]).into_owned())));
            }
        }
        assert!(bytes.len() < MOST_BYTES, "a request without end");
        match wire.wait(&mut buffer, shared)? {
            Some(0) => return Ok(None),
            Some(read) => bytes.extend_from_slice(&buffer[..read]),
            None if begin.elapsed() > PATIENCE => return Ok(None),
            None => {}
        }
    }
}
