//! As much of HTTP/1.1 as a client of the mock needs: the head of a request, within bounds, and the heads of answers.
//!
//! Lines end with CR LF and nothing else, lengths are given, and what is doubtful is refused: a test server that guesses hides faults of clients.

use std::io::Write as _;

/// Bytes the head of a request may have.
pub(super) const MOST_HEAD: usize = 64 << 10;
/// Bytes the body of a request may have.
pub(super) const MOST_BODY: usize = 64 << 20;
/// The longest method there is, and room for more.
const MOST_METHOD: usize = 16;

/// What the head of a request says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The method, in capitals.
    pub(super) method: String,
    /// The path without its query.
    pub(super) path: String,
    /// What follows the `?`, empty without one.
    pub(super) query: String,
    /// Bytes of the body.
    pub(super) body: usize,
    /// The connection ends after the answer.
    pub(super) close: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// Bytes of the head itself, the empty line included.
    pub(super) bytes: usize,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// The reason, in words.
    pub(super) reason: String,
}

impl Refusal {
    /// A refusal with a status.
    pub(super) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

/// Reads heads of requests as their bytes come in. Each byte is looked at once, however small the pieces are.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadReader {
    /// Bytes known to hold no end of the head.
    seen: usize,
    /// Begin of the line that is not complete yet.
    line: usize,
}

impl HeadReader {
    /// The head at the begin of `input`; `None` if more of it must come. A new head begins after one was returned.
    ///
    /// # Errors
    /// Why it cannot be a request.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<Option<Head>, Refusal> {
        self.check_begin(input)?;
        while let Some(at) = memchr::memchr(b'\n', &input[self.seen..]) {
            let end = self.seen + at;
            if end >= MOST_HEAD {
                break;
            }
            if end == 0 || input[end - 1] != b'\r' {
                return Err(Refusal::new(400, "a line of the head does not end with CR LF"));
            }
            let empty = end - 1 == self.line;
            self.seen = end + 1;
            // Empty lines before a request are left over from the one before it (RFC 9112, 2.2).
            let before = empty && input[..end].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
            self.line = self.seen;
            if empty && !before {
                *self = Self::default();
                return parse(&input[..=end]).map(Some);
            }
        }
        self.seen = self.seen.max(input.len().min(MOST_HEAD + 1));
        if input.len() > MOST_HEAD {
            return Err(Refusal::new(431, format!("the head of the request is longer than {MOST_HEAD} bytes")));
        }
        Ok(None)
    }

    /// Refuses at once what does not begin with a method, so that nobody waits for the end of a line that will not come.
    fn check_begin(&self, input: &[u8]) -> Result<(), Refusal> {
        if self.seen > MOST_METHOD + 64 {
            return Ok(());
        }
        let begin = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
        let method = &input[begin..input.len().min(begin + MOST_METHOD + 1)];
        let length = method.iter().position(|byte| *byte == b' ').unwrap_or(method.len());
        if length > MOST_METHOD || !method[..length].iter().all(u8::is_ascii_uppercase) || method.first() == Some(&b' ')
        {
            return Err(Refusal::new(400, "this is no HTTP request"));
        }
        Ok(())
    }
}

fn parse(head: &[u8]) -> Result<Head, Refusal> {
    let text = std::str::from_utf8(head).map_err(|_| Refusal::new(400, "the head of the request is not UTF-8"))?;
    let bytes = head.len();
    let mut lines = text.trim_start_matches("\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::new(400, "the first line is not `METHOD TARGET HTTP/1.1`"));
    };
    if version != "HTTP/1.1" {
        let status = if version.starts_with("HTTP/") { 505 } else { 400 };
        return Err(Refusal::new(status, "HTTP/1.1 is spoken here, and nothing else"));
    }
    if !target.starts_with('/') || target.chars().any(char::is_control) {
        return Err(Refusal::new(400, "the target of the request is no path"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut read = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body: 0,
        close: false,
        expects_continue: false,
        bytes,
    };
    let mut length = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| Refusal::new(400, "a line of the head has no colon"))?;
        if name.is_empty() || name.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(Refusal::new(400, "a header has no proper name"));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Refusal::new(400, "a header holds control characters"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || length.is_some_and(|known| known != value) {
                return Err(Refusal::new(400, "`Content-Length` is no number, or several"));
            }
            length = Some(value);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal::new(411, "requests must come with `Content-Length`"));
        } else if name.eq_ignore_ascii_case("connection") {
            read.close |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
        } else if name.eq_ignore_ascii_case("expect") {
            read.expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
    if let Some(value) = length {
        // What does not fit a number is too long as well.
        read.body = value.parse().unwrap_or(usize::MAX);
        if read.body > MOST_BODY {
            return Err(Refusal::new(413, format!("the body of the request is longer than {MOST_BODY} bytes")));
        }
    }
    Ok(read)
}

/// The words of a status.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// Appends a whole answer: its head, with `extra` lines (each with its CR LF), and its body.
pub(super) fn write_answer(out: &mut Vec<u8>, status: u16, kind: &str, extra: &str, close: bool, body: &[u8]) {
    write_head(out, status, kind, extra, close, body.len());
    out.extend_from_slice(body);
}

/// Appends the head of an answer whose body has `length` bytes.
pub(super) fn write_head(out: &mut Vec<u8>, status: u16, kind: &str, extra: &str, close: bool, length: usize) {
    let close = if close { "connection: close\r\n" } else { "" };
    let phrase = phrase(status);
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{extra}{close}\r\n"
    );
}

/// Appends the head of a stream of events in chunks of HTTP.
pub(super) fn write_stream_head(out: &mut Vec<u8>, close: bool) {
    let close = if close { "connection: close\r\n" } else { "" };
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
         transfer-encoding: chunked\r\n{close}\r\n"
    );
}

/// Appends `payload` as one chunk of HTTP.
pub(super) fn write_chunk(out: &mut Vec<u8>, payload: &[u8]) {
    let _ = write!(out, "{:x}\r\n", payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The chunk that ends a body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What a client that expects it waits for.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POST: &str = "POST /v1/completions?full=1&x HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:  12 \r\n\
                        Connection: keep-alive, Close\r\nExpect: 100-continue\r\n\r\n";

    #[test]
    fn a_head_is_read_whole_and_byte_by_byte() {
        let expected = Head {
            method: "POST".to_owned(),
            path: "/v1/completions".to_owned(),
            query: "full=1&x".to_owned(),
            body: 12,
            close: true,
            expects_continue: true,
            bytes: POST.len(),
        };
        let input = format!("{POST}GET ");
        assert_eq!(HeadReader::default().read(input.as_bytes()), Ok(Some(expected.clone())));
        let mut reader = HeadReader::default();
        for end in 0..POST.len() {
            assert_eq!(reader.read(&POST.as_bytes()[..end]), Ok(None), "{end}");
        }
        assert_eq!(reader.read(POST.as_bytes()), Ok(Some(expected)));
        let get = "\r\n\r\nGET /health HTTP/1.1\r\n\r\n";
        let head = reader.read(get.as_bytes()).unwrap().expect("empty lines before a request are left out");
        assert_eq!((head.method.as_str(), head.path.as_str(), head.body, head.bytes), ("GET", "/health", 0, get.len()));
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_status() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MOST_HEAD));
        for (text, status) in [
            ("\u{0}\u{1}\u{2}", 400),
            ("get / HTTP/1.1\r\n\r\n", 400),
            (" / HTTP/1.1\r\n\r\n", 400),
            ("AVERYLONGMETHODTHATISNONE", 400),
            ("GET / HTTP/1.1\n\n", 400),
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET x HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nspace : x\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("GET / HTTP/1.0\r\n\r\n", 505),
            (&long, 431),
        ] {
            let refused = HeadReader::default().read(text.as_bytes()).unwrap_err();
            assert_eq!(refused.status, status, "{text:.40} {refused:?}");
        }
    }

    #[test]
    fn the_longest_head_is_taken_and_one_byte_more_is_not() {
        let head = |length: usize| {
            let rest = length - "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(rest))
        };
        assert!(HeadReader::default().read(head(MOST_HEAD).as_bytes()).unwrap().is_some());
        assert_eq!(HeadReader::default().read(head(MOST_HEAD + 1).as_bytes()).unwrap_err().status, 431);
    }

    #[test]
    fn answers_are_framed() {
        let mut out = Vec::new();
        write_answer(&mut out, 429, "text/plain", "retry-after: 1\r\n", true, b"no");
        assert_eq!(
            out,
            b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nretry-after: 1\r\nconnection: close\r\n\r\nno"
        );
        out.clear();
        write_chunk(&mut out, b"0123456789abcdef");
        assert_eq!(out, b"10\r\n0123456789abcdef\r\n");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_pieces_change_nothing(
            bytes in prop::collection::vec(prop::sample::select(b"GET /:\r\n HTTP/1.1x0\xff".to_vec()), 0..80), cut in 0usize..80,
        ) {
            let whole = HeadReader::default().read(&bytes);
            let mut reader = HeadReader::default();
            let first = reader.read(&bytes[..cut.min(bytes.len())]);
            match first {
                Ok(None) => prop_assert_eq!(reader.read(&bytes), whole),
                // What the begin decides, more bytes do not undo.
                early => prop_assert_eq!(early.map_err(|refused| refused.status), whole.map_err(|refused| refused.status)),
            }
        }
    }
}
