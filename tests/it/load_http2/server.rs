//! A server of HTTP/2 that notes when it sends what, and fails as it is told to. Over TLS it speaks HTTP/1.1 too, if that is agreed on.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What to do with a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// So many tokens: the first after a time, the others so far apart, each chunk padded to so many bytes.
    Stream { tokens: usize, first: Duration, gap: Duration, pad: usize },
    /// Reset the stream after so many tokens, 5 ms apart; with 0, before the head.
    Reset { after: usize, reason: Reason },
    /// A status and no stream.
    Status(u16),
    /// Never answer.
    Hang,
    /// End the connection by GOAWAY at once.
    GoAway(Reason),
    /// Answer, and let the connection take no further requests.
    Graceful,
}

/// A stream of 4 tokens, the first after 10 ms, the others 5 ms apart.
pub(crate) const SHORT: Act =
    Act::Stream { tokens: 4, first: Duration::from_millis(10), gap: Duration::from_millis(5), pad: 0 };

/// A request that was served.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) connection: usize,
    /// Requests under way on its connection when it came, itself among them.
    pub(crate) beside: usize,
    pub(crate) came: Instant,
    pub(crate) sent: Vec<Instant>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) uri: String,
    pub(crate) body: Value,
    /// Why the client reset it, if it did.
    pub(crate) reset: Option<Reason>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Connections that were accepted, those of the look at the server before the test among them.
    pub(crate) accepted: usize,
    pub(crate) served: Vec<Served>,
}

type Choose = dyn Fn(usize, usize) -> Act + Send + Sync;

/// The protocols offered for the connection of this number.
pub(crate) type Offered = fn(usize) -> &'static [&'static [u8]];

pub(crate) struct Settings {
    pub(crate) streams: Option<u32>,
    pub(crate) window: Option<u32>,
    /// What is offered over TLS on the connection of a number; no TLS at all if there is nothing.
    pub(crate) tls: Option<Offered>,
    /// What to do with a request, by its number and that of its connection.
    pub(crate) act: Box<Choose>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { streams: None, window: None, tls: None, act: Box::new(|_, _| SHORT) }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The certificate, in PEM.
    pub(crate) certificate: String,
    log: Arc<Mutex<Log>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(settings: Settings) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let accepting = accept(TcpListener::from_std(listener).unwrap(), settings, made, log);
                    tokio::select! { () = accepting => {}, _ = stopped => {} }
                });
            }
        });
        Self { address, certificate, log, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts the certificate into a file, and gives its settings.
    pub(crate) fn trusted(&self, sandbox: &crate::sandbox::Sandbox) -> (String, PathBuf) {
        let path = sandbox.write("ca.pem", &self.certificate);
        (format!("https://localhost:{}", self.address.port()), path)
    }

    pub(crate) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

struct Shared {
    settings: Settings,
    log: Arc<Mutex<Log>>,
}

async fn accept(
    listener: TcpListener,
    settings: Settings,
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
    log: Arc<Mutex<Log>>,
) {
    let shared = Arc::new(Shared { settings, log });
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let number = {
            let mut log = shared.log.lock().unwrap();
            log.accepted += 1;
            log.accepted - 1
        };
        let shared = Arc::clone(&shared);
        match shared.settings.tls {
            None => {
                tokio::spawn(async move { speak_http2(socket, number, &shared).await });
            }
            Some(offer) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
                let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
                let mut config = ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(vec![made.cert.der().clone()], key)
                    .unwrap();
                config.alpn_protocols = offer(number).iter().map(|protocol| protocol.to_vec()).collect();
                tokio::spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(socket).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        speak_http2(stream, number, &shared).await;
                    } else {
                        speak_http1(stream).await;
                    }
                });
            }
        }
    }
}

async fn speak_http2(io: impl AsyncRead + AsyncWrite + Unpin, number: usize, shared: &Arc<Shared>) {
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = shared.settings.streams {
        builder.max_concurrent_streams(streams);
    }
    if let Some(window) = shared.settings.window {
        builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    let under_way = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (orders, mut ordered) = tokio::sync::mpsc::unbounded_channel();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(order) = ordered.recv() => {
                match order {
                    Reason::NO_ERROR => connection.graceful_shutdown(),
                    reason => connection.abrupt_shutdown(reason),
                }
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (shared, orders) = (Arc::clone(shared), orders.clone());
        let under_way = Arc::clone(&under_way);
        tokio::spawn(async move {
            let beside = under_way.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            serve(request, respond, number, beside, &shared, &orders).await;
            under_way.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

async fn whole(mut body: RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        bytes.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    bytes
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn token(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

fn last_events(tokens: usize) -> Bytes {
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}});
    Bytes::from(format!("data: {finish}\n\ndata: {usage}\n\ndata: [DONE]\n\n"))
}

async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    beside: usize,
    shared: &Shared,
    orders: &tokio::sync::mpsc::UnboundedSender<Reason>,
) {
    let came = Instant::now();
    let (parts, body) = request.into_parts();
    let body = whole(body).await;
    if parts.method == "GET" {
        let known = parts.uri.path().ends_with("/models");
        let answer =
            Response::builder().status(if known { 200 } else { 404 }).header("server", "test/1").body(()).unwrap();
        let mut stream = respond.send_response(answer, false).unwrap();
        let _ = stream.send_data(Bytes::from(json!({"data": [{"id": "m"}]}).to_string()), true);
        return;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let is_probe = body["messages"][0]["content"] == "Hi";
    let (number, act) = if is_probe {
        (usize::MAX, Act::Stream { tokens: 1, first: Duration::ZERO, gap: Duration::ZERO, pad: 0 })
    } else {
        let mut log = shared.log.lock().unwrap();
        let fields = parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        log.served.push(Served {
            connection,
            beside,
            came,
            sent: Vec::new(),
            fields: fields.collect(),
            uri: parts.uri.to_string(),
            body,
            reset: None,
        });
        let number = log.served.len() - 1;
        (number, (shared.settings.act)(number, connection))
    };
    let head = || Response::builder().status(200).header("content-type", "text/event-stream").body(()).unwrap();
    let note = |at: Instant| {
        if let Some(served) = shared.log.lock().unwrap().served.get_mut(number) {
            served.sent.push(at);
        }
    };
    match act {
        Act::Stream { tokens, first, gap, pad } => {
            let Ok(mut stream) = respond.send_response(head(), false) else { return };
            for index in 0..tokens {
                let due = came + first + gap * index as u32;
                tokio::time::sleep_until(due.into()).await;
                let text = format!("{number} {}", "x".repeat(pad));
                note(Instant::now());
                if !put(&mut stream, event(&token(&text))).await {
                    return;
                }
            }
            let _ = stream.send_data(last_events(tokens), true);
        }
        Act::Reset { after: 0, reason } => respond.send_reset(reason),
        Act::Reset { after, reason } => {
            let Ok(mut stream) = respond.send_response(head(), false) else { return };
            for _ in 0..after {
                tokio::time::sleep(Duration::from_millis(5)).await;
                put(&mut stream, event(&token("x"))).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            stream.send_reset(reason);
        }
        Act::Status(status) => {
            let mut stream =
                respond.send_response(Response::builder().status(status).body(()).unwrap(), false).unwrap();
            let _ = stream.send_data(Bytes::from_static(b"{\"error\": {\"message\": \"no\"}}"), true);
        }
        Act::Hang => {
            let reset = std::future::poll_fn(|context| respond.poll_reset(context)).await;
            if let (Ok(reason), Some(served)) = (reset, shared.log.lock().unwrap().served.get_mut(number)) {
                served.reset = Some(reason);
            }
        }
        Act::GoAway(reason) => {
            let _ = orders.send(reason);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Act::Graceful => {
            let Ok(mut stream) = respond.send_response(head(), false) else { return };
            put(&mut stream, event(&token("x"))).await;
            let _ = orders.send(Reason::NO_ERROR);
            tokio::time::sleep(Duration::from_millis(40)).await;
            put(&mut stream, event(&token("y"))).await;
            let _ = stream.send_data(last_events(2), true);
        }
    }
}

/// Sends `data` when the client has room for all of it; false if the client has reset the stream.
async fn put(stream: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(Ok(room)) = std::future::poll_fn(|context| stream.poll_capacity(context)).await else { return false };
        let part = data.split_to(room.min(data.len()));
        if stream.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}

/// One answer for each request, whose connection ends with it.
async fn speak_http1(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if io.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    while bytes.len() < head + length {
        if io.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let (kind, body) = if text.starts_with("get") {
        ("application/json", Bytes::from(json!({"data": [{"id": "m"}]}).to_string()))
    } else {
        let first = event(&token("x"));
        ("text/event-stream", Bytes::from([first, last_events(1)].concat()))
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = io.write_all(head.as_bytes()).await;
    let _ = io.write_all(&body).await;
    let _ = io.shutdown().await;
}
