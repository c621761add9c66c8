//! HTTP/1.1 answers (RFC 9112), read as they come: any cut of the bytes gives the same pieces.

use thiserror::Error;

/// Heads longer than this are refused.
const MOST_HEAD_BYTES: usize = 64 << 10;
/// Header fields of a head at most.
const MOST_FIELDS: usize = 128;
/// Digits of a chunk's size at most, and bytes of its extensions and of trailers.
const MOST_LINE_BYTES: usize = 16 << 10;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// It is not HTTP.
    #[error("the answer is no HTTP: {0}")]
    Malformed(String),
    /// Its head has no end.
    #[error("the head of the answer is longer than {MOST_HEAD_BYTES} bytes")]
    HeadTooLong,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// `text/event-stream`.
    EventStream,
    /// JSON of any kind.
    Json,
    /// Anything else.
    Other,
    /// The head does not say.
    Unknown,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`: zlib.
    Deflate,
    /// A way that is not read here.
    Unknown,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// What the body is.
    pub content: ContentKind,
    /// How it is compressed.
    pub encoding: Encoding,
    /// `Retry-After` in seconds; dates are not read.
    pub retry_after_s: Option<u64>,
    /// `Server`.
    pub server: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// Whether the connection can be used again after the body.
    pub keep_alive: bool,
}

impl Head {
    /// A head of `status` with nothing known, for fields to be put in with [`Head::field`].
    pub fn new(status: u16) -> Self {
        Self {
            status,
            content: ContentKind::Unknown,
            encoding: Encoding::Identity,
            retry_after_s: None,
            server: None,
            location: None,
            keep_alive: true,
        }
    }

    /// Takes note of one header field.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        let text = || String::from_utf8_lossy(value).trim().chars().take(200).collect::<String>();
        if name.eq_ignore_ascii_case("content-type") {
            let media = text().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            self.content = match media.as_str() {
                "text/event-stream" => ContentKind::EventStream,
                media if media == "application/json" || media.ends_with("+json") => ContentKind::Json,
                "" => ContentKind::Unknown,
                _ => ContentKind::Other,
            };
        } else if name.eq_ignore_ascii_case("content-encoding") {
            self.encoding = match text().to_ascii_lowercase().as_str() {
                "" | "identity" => Encoding::Identity,
                "gzip" | "x-gzip" => Encoding::Gzip,
                "deflate" => Encoding::Deflate,
                _ => Encoding::Unknown,
            };
        } else if name.eq_ignore_ascii_case("retry-after") {
            self.retry_after_s = text().parse().ok();
        } else if name.eq_ignore_ascii_case("server") {
            self.server = Some(text());
        } else if name.eq_ignore_ascii_case("location") {
            self.location = Some(text());
        }
    }
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many more bytes.
    Length(u64),
    /// The line with the size of the next chunk; its bytes so far are in `line`.
    ChunkSize,
    /// So many more bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Fields after the last chunk, to an empty line.
    Trailers,
    /// Until the connection ends.
    UntilClose,
    /// Over.
    Done,
}

/// What is handed out.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The head; comes once.
    Head(&'a Head),
    /// Some of the body.
    Data(&'a [u8]),
    /// The body is whole.
    End,
}

/// How an answer stood when the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing had come.
    Nothing,
    /// Within the head.
    Head,
    /// The body was to end with the connection, as it did.
    Whole,
    /// Bytes of `Content-Length` are missing.
    Length,
    /// The last chunk is missing.
    Chunked,
}

impl Cut {
    /// What is missing, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "the connection ended before an answer",
            Self::Head => "the connection ended within the head of the answer",
            Self::Whole => "the body ended with the connection",
            Self::Length => "bytes of the announced Content-Length are missing",
            Self::Chunked => "the chunk that ends the body is missing",
        }
    }
}

/// Reads one answer.
#[derive(Debug)]
pub struct ResponseParser {
    head: Option<Head>,
    /// Bytes of a head that is not whole yet, or of a line of the chunked framing.
    line: Vec<u8>,
    framing: Framing,
    trailer_bytes: usize,
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self { head: None, line: Vec::new(), framing: Framing::Done, trailer_bytes: 0 }
    }
}

impl ResponseParser {
    /// The head, once it is there.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether the answer is whole.
    pub fn is_done(&self) -> bool {
        self.head.is_some() && self.framing == Framing::Done
    }

    /// Takes `input` and hands out what it holds. Bytes behind the answer are left: their number is returned.
    ///
    /// # Errors
    /// If it is no HTTP; the parser cannot go on then.
    pub fn feed<E: From<ResponseError>>(
        &mut self,
        mut input: &[u8],
        on: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        while self.head.is_none() {
            if input.is_empty() {
                return Ok(0);
            }
            let used = self.feed_head(input)?;
            input = &input[used..];
            if let Some(head) = &self.head {
                on(Piece::Head(head))?;
                if self.framing == Framing::Done {
                    on(Piece::End)?;
                }
            }
        }
        while !input.is_empty() {
            match self.framing {
                Framing::Done => return Ok(input.len()),
                Framing::UntilClose => {
                    on(Piece::Data(input))?;
                    return Ok(0);
                }
                Framing::Length(left) => {
                    let take = left.min(input.len() as u64) as usize;
                    on(Piece::Data(&input[..take]))?;
                    input = &input[take..];
                    self.framing =
                        if left == take as u64 { Framing::Done } else { Framing::Length(left - take as u64) };
                    if self.framing == Framing::Done {
                        on(Piece::End)?;
                    }
                }
                Framing::Chunk(left) => {
                    let take = left.min(input.len() as u64) as usize;
                    on(Piece::Data(&input[..take]))?;
                    input = &input[take..];
                    self.framing =
                        if left == take as u64 { Framing::ChunkEnd } else { Framing::Chunk(left - take as u64) };
                }
                Framing::ChunkSize | Framing::ChunkEnd | Framing::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', input) else {
                        self.keep_line(input)?;
                        return Ok(0);
                    };
                    let (line, rest) = input.split_at(end + 1);
                    input = rest;
                    if self.line.is_empty() {
                        self.framed_line(&line[..end])?;
                    } else {
                        self.keep_line(&line[..end])?;
                        let line = std::mem::take(&mut self.line);
                        self.framed_line(&line)?;
                        self.line = line;
                        self.line.clear();
                    }
                    if self.framing == Framing::Done {
                        on(Piece::End)?;
                    }
                }
            }
        }
        Ok(0)
    }

    /// What the end of the connection means.
    pub fn cut(&self) -> Cut {
        match (&self.head, self.framing) {
            (None, _) if self.line.is_empty() => Cut::Nothing,
            (None, _) => Cut::Head,
            (Some(_), Framing::UntilClose | Framing::Done) => Cut::Whole,
            (Some(_), Framing::Length(_)) => Cut::Length,
            (Some(_), _) => Cut::Chunked,
        }
    }

    fn keep_line(&mut self, bytes: &[u8]) -> Result<(), ResponseError> {
        self.line.extend_from_slice(bytes);
        if self.line.len() > MOST_LINE_BYTES {
            return Err(ResponseError::Malformed("a line of the chunked framing has no end".to_owned()));
        }
        Ok(())
    }

    /// One line of the chunked framing, without its line feed.
    fn framed_line(&mut self, line: &[u8]) -> Result<(), ResponseError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.framing {
            Framing::ChunkEnd if line.is_empty() => self.framing = Framing::ChunkSize,
            Framing::ChunkEnd => {
                return Err(ResponseError::Malformed("a chunk is longer than it says".to_owned()));
            }
            Framing::Trailers => {
                self.trailer_bytes += line.len();
                if line.is_empty() {
                    self.framing = Framing::Done;
                } else if self.trailer_bytes > MOST_LINE_BYTES {
                    return Err(ResponseError::Malformed("the trailers have no end".to_owned()));
                }
            }
            _ => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(digits).ok().map(str::trim).filter(|digits| {
                    !digits.is_empty() && digits.len() <= 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
                });
                let Some(size) = size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
                    let shown: String = String::from_utf8_lossy(line).chars().take(40).collect();
                    return Err(ResponseError::Malformed(format!("`{}` is no size of a chunk", shown.escape_debug())));
                };
                self.framing = if size == 0 { Framing::Trailers } else { Framing::Chunk(size) };
            }
        }
        Ok(())
    }

    /// Takes bytes of the head; the number that were its.
    fn feed_head(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        // Mostly the head comes whole and nothing is copied.
        if self.line.is_empty()
            && let Some(used) = self.parse_head(input)?
        {
            return Ok(used);
        }
        let before = self.line.len();
        if self.line.is_empty() {
            self.line.extend_from_slice(input);
        } else {
            self.line.extend_from_slice(input);
            let whole = std::mem::take(&mut self.line);
            if let Some(used) = self.parse_head(&whole)? {
                return Ok(used.saturating_sub(before));
            }
            self.line = whole;
        }
        if self.line.len() > MOST_HEAD_BYTES {
            return Err(ResponseError::HeadTooLong);
        }
        Ok(input.len())
    }

    /// Reads a head from the begin of `bytes`; `None` if it is not whole. An answer of 1xx is passed over.
    fn parse_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let used = match response.parse(bytes) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(ResponseError::Malformed(error.to_string())),
        };
        let status = response.code.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            return Ok(Some(used));
        }
        let mut head = Head::new(status);
        let mut length: Option<u64> = None;
        let mut chunked = false;
        let old = response.version == Some(0);
        head.keep_alive = !old;
        for field in response.headers.iter() {
            let name = field.name;
            if name.eq_ignore_ascii_case("content-length") {
                let digits = std::str::from_utf8(field.value).map(str::trim).unwrap_or_default();
                let value = digits.parse().map_err(|_| {
                    ResponseError::Malformed(format!("`{}` is no Content-Length", digits.escape_debug()))
                })?;
                if length.is_some_and(|known| known != value) {
                    return Err(ResponseError::Malformed("two values of Content-Length".to_owned()));
                }
                length = Some(value);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                let codings = String::from_utf8_lossy(field.value).to_ascii_lowercase();
                chunked = codings.split(',').next_back().is_some_and(|last| last.trim() == "chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                let options = String::from_utf8_lossy(field.value).to_ascii_lowercase();
                for option in options.split(',').map(str::trim) {
                    match option {
                        "close" => head.keep_alive = false,
                        "keep-alive" if old => head.keep_alive = true,
                        _ => {}
                    }
                }
            } else {
                head.field(name, field.value);
            }
        }
        self.framing = match (status, chunked, length) {
            (204 | 304, _, _) | (_, false, Some(0)) => Framing::Done,
            (_, true, _) => Framing::ChunkSize,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => {
                head.keep_alive = false;
                Framing::UntilClose
            }
        };
        self.head = Some(head);
        self.line = Vec::new();
        Ok(Some(used))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was handed out, the data joined.
    #[derive(Debug, PartialEq, Eq)]
    struct Read {
        head: Option<Head>,
        body: Vec<u8>,
        ended: bool,
        left: usize,
        cut: Cut,
    }

    fn read(parts: &[&[u8]]) -> Result<Read, ResponseError> {
        let mut parser = ResponseParser::default();
        let (mut head, mut body, mut ended, mut left) = (None, Vec::new(), false, 0);
        for part in parts {
            left = parser.feed::<ResponseError>(part, &mut |piece| {
                match piece {
                    Piece::Head(found) => assert!(head.replace(found.clone()).is_none()),
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::End => {
                        assert!(!ended);
                        ended = true;
                    }
                }
                Ok(())
            })?;
        }
        assert_eq!(parser.is_done(), ended);
        Ok(Read { head, body, ended, left, cut: parser.cut() })
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nServer: uvicorn\r\nTransfer-Encoding: chunked\r\n\r\n\
        6\r\ndata: \r\n3;ext=1\r\n{}\n\r\n1\r\n\n\r\n0\r\nX-Trailer: 1\r\n\r\n";

    #[test]
    fn chunks_are_joined_and_the_last_one_ends() {
        let got = read(&[CHUNKED]).unwrap();
        let head = got.head.unwrap();
        assert_eq!((head.status, head.content, head.keep_alive), (200, ContentKind::EventStream, true));
        assert_eq!(head.server.as_deref(), Some("uvicorn"));
        assert_eq!((got.body.as_slice(), got.ended, got.left), (&b"data: {}\n\n"[..], true, 0));
    }

    #[test]
    fn a_cut_says_what_is_missing() {
        let upto = |text: &[u8], bytes: usize| read(&[&text[..bytes]]).unwrap().cut;
        assert_eq!(upto(CHUNKED, 0), Cut::Nothing);
        assert_eq!(upto(CHUNKED, 9), Cut::Head);
        assert_eq!(upto(CHUNKED, CHUNKED.len() - 1), Cut::Chunked);
        assert_eq!(upto(CHUNKED, CHUNKED.len()), Cut::Whole);
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell";
        assert_eq!(upto(length, length.len()), Cut::Length);
        let close = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\nhell";
        let got = read(&[close]).unwrap();
        assert_eq!((got.cut, got.ended, got.body.as_slice()), (Cut::Whole, false, &b"hell"[..]));
        assert!(!got.head.unwrap().keep_alive);
    }

    #[test]
    fn an_interim_answer_is_passed_over_and_bytes_behind_are_left() {
        let got = read(&[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Too Many\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1"])
            .unwrap();
        let head = got.head.unwrap();
        assert_eq!((head.status, head.retry_after_s, head.keep_alive), (429, Some(2), false));
        assert_eq!((got.body.as_slice(), got.left), (&b"{}"[..], 8));
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ] {
            assert!(matches!(read(&[bytes]), Err(ResponseError::Malformed(_))), "{:?}", String::from_utf8_lossy(bytes));
        }
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; MOST_HEAD_BYTES + 1]].concat();
        assert_eq!(read(&[&endless]), Err(ResponseError::HeadTooLong));
        let trailers = [CHUNKED, b"" as &[u8]].concat();
        let cut = trailers.len() - 2;
        let endless = [&trailers[..cut], &b"A: b\r\n".repeat(4000)[..]].concat();
        assert!(read(&[&endless]).is_err());
    }

    proptest! {
        #[test]
        fn any_cut_of_the_bytes_reads_the_same(cuts in proptest::collection::vec(0usize..=CHUNKED.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, CHUNKED.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &CHUNKED[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&parts).unwrap(), read(&[CHUNKED]).unwrap());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), whole in any::<bool>()) {
            let begin: &[u8] = if whole { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"" };
            let _ = read(&[begin, &bytes]);
        }
    }
}
