//! Event streams (WHATWG HTML §9.2), read as they come: any cut of the bytes gives the same events.

use thiserror::Error;

/// An event or a line is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an event of the stream is longer than {limit} bytes")]
pub struct Oversize {
    /// The limit.
    pub limit: usize,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name; empty if it has none.
    pub name: &'a [u8],
    /// Its data, lines joined by line feeds.
    pub data: &'a [u8],
}

/// Reads events.
///
/// An event that lies whole in one read is handed out without a copy; lines may end in CR, LF or both.
#[derive(Debug)]
pub struct SseDecoder {
    /// A line that is not whole yet.
    line: Vec<u8>,
    /// Data of the event under way, where they could not be borrowed.
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    /// The last line ended in CR: a line feed right after it belongs to it.
    after_cr: bool,
    /// Nothing was read yet: a byte-order mark may come.
    at_start: bool,
    limit: usize,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

impl SseDecoder {
    /// A decoder that refuses events longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            after_cr: false,
            at_start: true,
            limit,
        }
    }

    /// Takes `input` and hands out the events that are whole.
    ///
    /// # Errors
    /// [`Oversize`]; the decoder cannot go on then.
    pub fn feed(&mut self, input: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<(), Oversize> {
        let mut rest = input;
        // Data of the event under way that lie in `input`, as long as there is only one line of them.
        let mut borrowed: Option<&[u8]> = None;
        loop {
            if self.after_cr {
                let Some(first) = rest.first() else { break };
                self.after_cr = false;
                if *first == b'\n' {
                    rest = &rest[1..];
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else { break };
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            self.after_cr = rest[end] == b'\r';
            rest = after;
            if self.line.is_empty() && !self.at_start {
                self.whole_line(line, &mut borrowed, on)?;
            } else {
                self.line.extend_from_slice(line);
                let kept = std::mem::take(&mut self.line);
                let mut line = kept.as_slice();
                if std::mem::take(&mut self.at_start) {
                    line = line.strip_prefix(BOM).unwrap_or(line);
                }
                // What is kept cannot be lent beyond this line.
                let mut none = borrowed.take();
                if let Some(data) = none.take() {
                    self.add_data(data)?;
                }
                let mut own: Option<&[u8]> = None;
                self.whole_line(line, &mut own, on)?;
                if let Some(data) = own {
                    let data = data.to_vec();
                    self.add_data(&data)?;
                }
                self.line = kept;
                self.line.clear();
            }
        }
        if let Some(data) = borrowed {
            self.add_data(data)?;
        }
        self.line.extend_from_slice(rest);
        self.check(self.line.len())
    }

    /// Whether an event was begun and not ended. Such an event is no event.
    pub fn is_within(&self) -> bool {
        self.has_data || !self.line.is_empty()
    }

    fn check(&self, more: usize) -> Result<(), Oversize> {
        if self.data.len() + more > self.limit { Err(Oversize { limit: self.limit }) } else { Ok(()) }
    }

    fn add_data(&mut self, data: &[u8]) -> Result<(), Oversize> {
        self.check(data.len())?;
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data);
        self.has_data = true;
        Ok(())
    }

    fn whole_line<'a>(
        &mut self,
        line: &'a [u8],
        borrowed: &mut Option<&'a [u8]>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Oversize> {
        self.check(line.len())?;
        if line.is_empty() {
            match borrowed.take() {
                Some(data) if !self.has_data => on(Event { name: &self.name, data }),
                Some(data) => {
                    self.add_data(data)?;
                    on(Event { name: &self.name, data: &self.data });
                }
                None if self.has_data => on(Event { name: &self.name, data: &self.data }),
                None => {}
            }
            self.has_data = false;
            self.data.clear();
            self.name.clear();
            // One long event must not keep its memory for all that follow.
            if self.data.capacity() > 1 << 20 {
                self.data = Vec::new();
            }
            return Ok(());
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if let Some(earlier) = borrowed.replace(value) {
                    self.add_data(earlier)?;
                }
                if self.has_data
                    && let Some(value) = borrowed.take()
                {
                    self.add_data(value)?;
                }
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(&value[..value.len().min(64)]);
            }
            // A comment, an id, a time to reconnect after, or a field nobody knows.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(parts: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let mut decoder = SseDecoder::new(1 << 20);
        let mut events = Vec::new();
        for part in parts {
            decoder
                .feed(part, &mut |event| {
                    events.push((String::from_utf8_lossy(event.name).into_owned(), event.data.to_vec()));
                })
                .unwrap();
        }
        events
    }

    fn data(text: &[u8]) -> Vec<String> {
        read(&[text]).into_iter().map(|(_, data)| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn lines_end_in_any_of_three_ways() {
        for text in [&b"data: a\n\ndata: b\n\n"[..], b"data: a\r\n\r\ndata: b\r\n\r\n", b"data: a\r\rdata: b\r\r"] {
            assert_eq!(data(text), ["a", "b"], "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_space_is_optional_comments_are_nothing_and_lines_are_joined() {
        assert_eq!(data(b"data:a\n\n"), ["a"]);
        assert_eq!(data(b"data:  a\n\n"), [" a"]);
        assert_eq!(data(b": ping\n\n:\n\nid: 4\n\nretry: 5\n\n"), [""; 0]);
        assert_eq!(data(b"data: a\ndata: b\ndata\n\n"), ["a\nb\n"]);
        assert_eq!(data(b"data\n\n"), [""]);
        assert_eq!(data(b"\xEF\xBB\xBFdata: a\n\n"), ["a"]);
        assert_eq!(
            read(&[b"event: error\ndata: {}\n\ndata: x\n\n"]),
            [("error".to_owned(), b"{}".to_vec()), (String::new(), b"x".to_vec())]
        );
    }

    #[test]
    fn an_event_without_its_end_is_none() {
        assert_eq!(data(b"data: a\n\ndata: b"), ["a"]);
        assert_eq!(data(b"data: a\n\ndata: b\n"), ["a"]);
        let mut decoder = SseDecoder::new(100);
        decoder.feed(b"data: b\n", &mut |_| panic!("no event")).unwrap();
        assert!(decoder.is_within());
    }

    #[test]
    fn what_is_too_long_is_refused_wherever_it_grows() {
        let feed = |parts: &[&[u8]]| {
            let mut decoder = SseDecoder::new(1000);
            parts.iter().try_for_each(|part| decoder.feed(part, &mut |_| {}))
        };
        assert_eq!(feed(&[&[b'x'; 1001]]), Err(Oversize { limit: 1000 }));
        assert!(feed(&[&[b'x'; 600], &[b'x'; 600]]).is_err());
        assert!(feed(&[&b"data: 0123456789\n".repeat(100)]).is_err());
        // Many events that are each short are no long one.
        assert!(feed(&[&b"data: 0123456789\n\n".repeat(1000)]).is_ok());
    }

    const STREAM: &[u8] =
        "\u{feff}event: m\r\ndata: {\"a\": \"🦀\"}\r\n\r\n: c\ndata: 1\ndata: 2\r\rdata:3\n\nid: 9\rdata: [DONE]\n\n"
            .as_bytes();

    proptest! {
        #[test]
        fn any_cut_of_the_bytes_gives_the_same_events(cuts in proptest::collection::vec(0usize..=STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &STREAM[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&parts), read(&[STREAM]));
        }

        #[test]
        fn any_bytes_in_any_cut_give_the_same_events(bytes in "[datev: \r\n1]{0,60}", cut in 0usize..60) {
            let bytes = bytes.as_bytes();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let singles: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&[first, second]), read(&[bytes]));
            prop_assert_eq!(read(&singles), read(&[bytes]));
        }
    }

    #[test]
    fn every_byte_alone_gives_the_same_events() {
        let singles: Vec<&[u8]> = STREAM.chunks(1).collect();
        let got = read(&singles);
        assert_eq!(got, read(&[STREAM]));
        let texts: Vec<_> = got.iter().map(|(_, data)| String::from_utf8_lossy(data).into_owned()).collect();
        assert_eq!(texts, ["{\"a\": \"🦀\"}", "1\n2", "3", "[DONE]"]);
    }
}
