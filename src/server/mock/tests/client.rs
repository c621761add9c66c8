//! A blocking client that knows just enough HTTP to see what is wrong with it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::server::mock::{Mock, MockSettings};

/// A server that is as quick as it can be, so that tests are.
pub(super) fn quick() -> MockSettings {
    MockSettings { ttft_ms: 1.0, itl_ms: 0.2, ..MockSettings::default() }
}

pub(super) fn start(settings: MockSettings) -> Mock {
    Mock::start(settings).unwrap()
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    lines: Vec<String>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) name: Option<String>,
    pub(super) data: String,
}

impl Event {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With the last chunk of HTTP.
    Whole,
    /// The connection ended in order.
    Closed,
    /// The connection was reset.
    Reset,
    /// Nothing more came for a while.
    Quiet,
}

pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn new(mock: &Mock) -> Self {
        let stream = TcpStream::connect(mock.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(super) fn patience(&self, ms: u64) {
        self.stream.set_read_timeout(Some(Duration::from_millis(ms))).unwrap();
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Writes as much as the server takes.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(super) fn post(&mut self, path: &str, body: &str) {
        let length = body.len();
        self.write(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes());
    }

    pub(super) fn chat(&mut self, tokens: u32) {
        let body = format!(
            r#"{{"model":"mock","stream":true,"max_tokens":{tokens},"messages":[{{"role":"user","content":"one two three"}}],"stream_options":{{"include_usage":true}}}}"#
        );
        self.post("/v1/chat/completions", &body);
    }

    pub(super) fn whole_chat(&mut self, tokens: u32) {
        self.post("/v1/chat/completions", &format!(r#"{{"messages":[{{"content":"a b"}}],"max_tokens":{tokens}}}"#));
    }

    /// More bytes, or how the connection ended.
    fn more(&mut self) -> Result<(), End> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(End::Quiet),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next bytes up to and without `end`.
    fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end) {
                let found = self.buffer[..at].to_vec();
                self.buffer.drain(..at + end.len());
                return Ok(found);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.buffer.len() < count {
            self.more()?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    pub(super) fn try_head(&mut self) -> Result<Head, End> {
        let text = String::from_utf8(self.until(b"\r\n\r\n")?).unwrap();
        let mut lines = text.split("\r\n").map(str::to_owned);
        let first = lines.next().unwrap();
        let status = first.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        Ok(Head { status, lines: lines.collect() })
    }

    pub(super) fn head(&mut self) -> Head {
        self.try_head().unwrap()
    }

    /// Head and body of an answer with a length.
    pub(super) fn answer(&mut self) -> (Head, String) {
        let head = self.head();
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        let body = self.exactly(length).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Bytes that come until the connection ends in one way or another.
    pub(super) fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.more() {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// The payload of the next chunk of HTTP; `None` is the last.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>, End> {
        let size = String::from_utf8(self.until(b"\r\n")?).unwrap();
        let size = usize::from_str_radix(&size, 16).unwrap();
        let payload = self.exactly(size)?;
        assert_eq!(self.exactly(2)?, b"\r\n");
        Ok((size > 0).then_some(payload))
    }

    /// The next event; `None` at the end of the stream. Each event is one chunk of HTTP.
    pub(super) fn event(&mut self) -> Result<Option<Event>, End> {
        let Some(payload) = self.chunk()? else { return Ok(None) };
        let text = String::from_utf8(payload).unwrap();
        let event = text.strip_suffix("\n\n").unwrap_or_else(|| panic!("no whole event: {text:?}"));
        let name = event.lines().find_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
        Ok(Some(Event { name, data }))
    }

    /// The events that are left of a stream, and how it ended.
    pub(super) fn events(&mut self) -> (Vec<Event>, End) {
        let mut events = Vec::new();
        loop {
            match self.event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, End::Whole),
                Err(end) => return (events, end),
            }
        }
    }

    /// Head and events of a stream that begins with 200.
    pub(super) fn stream(&mut self) -> (Vec<Event>, End) {
        let head = self.head();
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        self.events()
    }
}

/// The body of a `GET`, on a connection of its own.
pub(super) fn get(mock: &Mock, path: &str) -> String {
    let mut client = Client::new(mock);
    client.write(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
    let (head, body) = client.answer();
    assert_eq!(head.status, 200, "{body}");
    body
}

pub(super) fn stats(mock: &Mock) -> Value {
    serde_json::from_str(&get(mock, "/stats?full=1")).unwrap()
}

/// Waits until the statistics are as wanted.
pub(super) fn stats_when(mock: &Mock, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let stats = stats(mock);
        if wanted(&stats) {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came to that: {}", stats(mock));
}

/// Texts of the chunks that have some.
pub(super) fn texts(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| {
        let value = (event.data != "[DONE]").then(|| event.json())?;
        let choice = &value["choices"][0];
        let text =
            [&choice["delta"]["content"], &choice["text"], &value["delta"]].into_iter().find_map(Value::as_str)?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    events.iter().filter_map(text).collect()
}
