//! Walks the document: the top-level keys in any order, and each event of `traceEvents` as the window passes over it.

use super::event::{Event, event};
use super::properties::{Properties, is_read};
use super::scan::{Cursor, Scan, Skipper, Stop, Value, unescape};
use super::window::{MAX_CAPACITY, Refill, Window};
use super::{Input, Opened};
use crate::trace::activity::OpRef;
use crate::trace::import::{Progress, ReadError, ReadErrorKind, ReadOptions};

/// Progress is told, and a wish to stop noticed, once in so many events.
const EVENTS_BETWEEN_LOOKS: u64 = 1 << 15;

/// Reads the document and hands each event with its byte offset to `take`; an element that is no object comes as an event without phase.
pub(super) fn scan(
    input: &Input<'_>,
    options: &ReadOptions<'_>,
    take: &mut impl FnMut(&Event<'_>, u64),
) -> Result<Properties, ReadError> {
    let Opened { text, done, total, compressed } = input.open()?;
    let mut document = Document {
        input,
        options,
        window: Window::with_capacity(text, input.capacity),
        done: &done,
        total,
        compressed,
        events: 0,
    };
    document.read(take)
}

struct Document<'a> {
    input: &'a Input<'a>,
    options: &'a ReadOptions<'a>,
    window: Window<'a>,
    done: &'a std::cell::Cell<u64>,
    total: u64,
    compressed: bool,
    events: u64,
}

/// What is expected next within `traceEvents`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    FirstOrEnd,
    Element,
    CommaOrEnd,
}

impl Document<'_> {
    fn read(&mut self, take: &mut impl FnMut(&Event<'_>, u64)) -> Result<Properties, ReadError> {
        let mut about = Properties::default();
        self.refill()?;
        if self.window.bytes().starts_with(b"\xef\xbb\xbf") {
            self.window.consume(3);
        }
        let first = match self.one("", next_byte) {
            Ok(first) => first,
            Err(error) if error.kind == ReadErrorKind::Malformed => {
                return Err(self.error(ReadErrorKind::NotATrace, String::from("the file is empty")));
            }
            Err(error) => return Err(error),
        };
        match first {
            b'[' => {
                self.one("", |cursor| cursor.expect(b'[', ""))?;
                about.has_events = true;
                about.unclosed = !self.events(true, take)?;
            }
            b'{' => self.object(&mut about, take)?,
            _ => {
                return Err(self
                    .error(ReadErrorKind::NotATrace, String::from("it does not begin like JSON, with `{` or `[`"))
                    .hint("a Chrome trace is what `torch.profiler` exports as .json or .json.gz"));
            }
        }
        if !about.has_events {
            return Err(self.error(ReadErrorKind::NotATrace, String::from("it is JSON without `traceEvents`")));
        }
        if !about.unclosed {
            match self.one("", next_byte) {
                Err(error) if error.kind == ReadErrorKind::Malformed => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let detail = format!("there is more after the end of the trace, at byte {}", self.window.offset());
                    return Err(self.error(ReadErrorKind::Malformed, detail));
                }
            }
        }
        self.look()?;
        Ok(about)
    }

    fn object(&mut self, about: &mut Properties, take: &mut impl FnMut(&Event<'_>, u64)) -> Result<(), ReadError> {
        let mut more = self.one("the trace", |cursor| cursor.open(b'{', b'}', "an object is expected here"))?;
        while more {
            let key = self.one("a top-level key", |cursor| {
                let mut scratch = String::new();
                let key = cursor.string("a key in quotes is expected here")?;
                let key = unescape(key, &mut scratch).to_owned();
                cursor.expect(b':', "a colon is expected after a key")?;
                cursor.peek()?;
                Ok(key)
            })?;
            if key == "traceEvents" {
                self.one("`traceEvents`", |cursor| cursor.expect(b'[', "`traceEvents` is not an array"))?;
                about.has_events = true;
                self.events(false, take)?;
            } else if is_read(&key) {
                let text = self.one(&format!("`{key}`"), |cursor| {
                    let begin = cursor.clone();
                    cursor.value()?;
                    Ok(begin.until(cursor).to_vec())
                })?;
                about.set(&key, &text);
            } else {
                self.skip(&key)?;
            }
            more = self.one("the trace", |cursor| cursor.another(b'}'))?;
        }
        Ok(())
    }

    /// Steps over a value of any size.
    fn skip(&mut self, key: &str) -> Result<(), ReadError> {
        if !matches!(self.window.bytes().first(), Some(b'{' | b'[')) {
            // A scalar. It may be cut at the end of the window, but not at that of the text.
            return self.one(&format!("`{key}`"), |cursor| cursor.value().map(|_| ()));
        }
        let begin = self.window.offset();
        let mut skipper = Skipper::default();
        loop {
            match skipper.feed(self.window.bytes()) {
                Ok(Some(length)) => {
                    self.window.consume(length);
                    return Ok(());
                }
                Ok(None) => {
                    self.window.consume(self.window.bytes().len());
                    if self.refill()? != Refill::Grown {
                        return Err(self.cut(&format!("`{key}`"), begin));
                    }
                }
                Err((at, complaint)) => return Err(self.bad(at, complaint)),
            }
        }
    }

    /// Runs `read` on what the window holds, with more of the text until it has enough.
    fn one<T>(&mut self, what: &str, read: impl Fn(&mut Cursor<'_>) -> Scan<T>) -> Result<T, ReadError> {
        loop {
            let mut cursor = Cursor::new(self.window.bytes());
            match read(&mut cursor) {
                Ok(value) => {
                    let used = cursor.pos;
                    self.window.consume(used);
                    return Ok(value);
                }
                Err(Stop::Bad(at, complaint)) => return Err(self.bad(at, complaint)),
                Err(Stop::More) => self.need_more(what)?,
            }
        }
    }

    fn need_more(&mut self, what: &str) -> Result<(), ReadError> {
        let begin = self.window.offset();
        match self.refill()? {
            Refill::Grown => Ok(()),
            Refill::End => Err(self.cut(what, begin)),
            Refill::Full => {
                let detail = format!("{what} at byte {begin} is longer than {} MiB", MAX_CAPACITY >> 20);
                Err(self.error(ReadErrorKind::Malformed, detail))
            }
        }
    }

    /// Reads the elements up to the closing bracket; false if a bare array ends without one.
    fn events(&mut self, bare: bool, take: &mut impl FnMut(&Event<'_>, u64)) -> Result<bool, ReadError> {
        let mut next = Next::FirstOrEnd;
        loop {
            let mut cursor = Cursor::new(self.window.bytes());
            let base = self.window.offset();
            let mut done = 0;
            let stop = loop {
                match step(&mut cursor, &mut next, &mut |event, at| take(event, base + at)) {
                    Ok(true) => {
                        self.window.consume(cursor.pos);
                        return Ok(true);
                    }
                    Ok(false) => {
                        done = cursor.pos;
                        if next == Next::CommaOrEnd {
                            self.events += 1;
                            if self.events.is_multiple_of(EVENTS_BETWEEN_LOOKS) {
                                break None;
                            }
                        }
                    }
                    Err(stop) => break Some(stop),
                }
            };
            let seen = cursor.pos;
            // The last event may have a comma behind it already.
            let rest = self.window.bytes()[done..].trim_ascii();
            let rest_is_blank = self.events > 0 && (rest.is_empty() || rest == b",");
            match stop {
                None => {
                    self.window.consume(done);
                    self.look()?;
                }
                Some(Stop::Bad(at, complaint)) => return Err(self.bad(at, complaint)),
                Some(Stop::More) => {
                    self.window.consume(done);
                    debug_assert!(seen >= done, "a scan does not go back");
                    self.look()?;
                    match self.need_more("an event") {
                        Err(error) if bare && rest_is_blank && error.kind == ReadErrorKind::Malformed => {
                            return Ok(false);
                        }
                        other => other?,
                    }
                }
            }
        }
    }

    fn look(&self) -> Result<(), ReadError> {
        (self.options.progress)(Progress { done: self.done.get().min(self.total), total: self.total });
        if (self.options.cancelled)() {
            return Err(ReadError::interrupted(self.input.path));
        }
        if self.events > OpRef::MAX_ROWS as u64 {
            return Err(self.error(ReadErrorKind::TooLarge, format!("it has more than {} events", OpRef::MAX_ROWS)));
        }
        Ok(())
    }

    fn refill(&mut self) -> Result<Refill, ReadError> {
        self.window.refill().map_err(|error| {
            let at = self.window.offset() + self.window.bytes().len() as u64;
            if !self.compressed {
                return self.error(ReadErrorKind::Io, format!("reading stopped at byte {at}: {error}"));
            }
            let detail = format!("the compressed data is damaged or cut off after byte {at} of the text: {error}");
            self.error(ReadErrorKind::Malformed, detail).hint("record the trace again, or copy it again")
        })
    }

    fn error(&self, kind: ReadErrorKind, detail: String) -> ReadError {
        ReadError::new(self.input.path, kind, detail)
    }
    fn of_text(&self) -> &'static str {
        if self.compressed { " of the unpacked text" } else { "" }
    }
    fn bad(&self, at: usize, complaint: &str) -> ReadError {
        let at = self.window.offset() + at as u64;
        self.error(ReadErrorKind::Malformed, format!("{complaint}, at byte {at}{}", self.of_text()))
    }
    fn cut(&self, what: &str, begin: u64) -> ReadError {
        let end = self.window.offset() + self.window.bytes().len() as u64;
        let detail = format!(
            "the trace is cut off: it ends at byte {end}{} within {what}, which begins at byte {begin}",
            self.of_text()
        );
        self.error(ReadErrorKind::Malformed, detail)
            .hint("the writer was stopped or the disk was full; record the trace again, or copy it again")
    }
}

/// The byte after white space, which stays.
fn next_byte(cursor: &mut Cursor<'_>) -> Scan<u8> {
    cursor.peek()
}

/// One step through the array: an element, a comma, or the closing bracket (true).
#[inline]
fn step(cursor: &mut Cursor<'_>, next: &mut Next, take: &mut impl FnMut(&Event<'_>, u64)) -> Scan<bool> {
    match *next {
        Next::CommaOrEnd => {
            let another = cursor.another(b']')?;
            *next = Next::Element;
            Ok(!another)
        }
        Next::FirstOrEnd | Next::Element => {
            let byte = cursor.peek()?;
            if byte == b']' && *next == Next::FirstOrEnd {
                cursor.pos += 1;
                return Ok(true);
            }
            let at = cursor.pos as u64;
            if byte == b'{' {
                let event = event(cursor)?;
                take(&event, at);
            } else {
                let name = match cursor.value()? {
                    Value::String(text) => Some(text),
                    _ => None,
                };
                take(&Event { phase: NOT_AN_OBJECT, name, ..Event::default() }, at);
            }
            *next = Next::CommaOrEnd;
            Ok(false)
        }
    }
}

/// The phase of an element that is no object.
pub(super) const NOT_AN_OBJECT: u8 = 1;
