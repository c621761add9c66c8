//! A bounded window that moves over a stream, so that a trace is never in memory as a whole: neither mapped nor unpacked.

use std::io::{self, Read};

/// How much of the stream is held at least.
pub(super) const FIRST_CAPACITY: usize = 1 << 20;

/// One event, key or property larger than this is refused.
pub(super) const MAX_CAPACITY: usize = 64 << 20;

/// What came of asking for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refill {
    Grown,
    End,
    /// The window is full and as large as it may become.
    Full,
}

/// The window.
pub(super) struct Window<'r> {
    reader: Box<dyn Read + 'r>,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// Where in the stream the buffer begins.
    base: u64,
    at_end: bool,
}

impl<'r> Window<'r> {
    pub(super) fn with_capacity(reader: Box<dyn Read + 'r>, capacity: usize) -> Self {
        Self { reader, buffer: vec![0; capacity.max(1)], begin: 0, end: 0, base: 0, at_end: false }
    }
    /// What is held and not consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }
    /// Where in the stream the first byte of [`Self::bytes`] is.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.begin as u64
    }
    pub(super) fn consume(&mut self, bytes: usize) {
        self.begin += bytes;
        debug_assert!(self.begin <= self.end, "only what is held is consumed");
    }
    /// Reads until the buffer is full or the stream at its end; what is held and not consumed stays. Where that is more than half of the
    /// buffer the buffer doubles, so that scanning a value again from its begin costs no more than twice its length in all.
    pub(super) fn refill(&mut self) -> io::Result<Refill> {
        if self.at_end {
            return Ok(Refill::End);
        }
        let held = self.end - self.begin;
        self.base += self.begin as u64;
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, held);
        if held > self.buffer.len() / 2 {
            if self.buffer.len() >= MAX_CAPACITY {
                if held == self.buffer.len() {
                    return Ok(Refill::Full);
                }
            } else {
                self.buffer.resize((self.buffer.len() * 2).min(MAX_CAPACITY), 0);
            }
        }
        while self.end < self.buffer.len() {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.end > held { Ok(Refill::Grown) } else { Ok(Refill::End) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(into.len()).min(1);
            into[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn what_is_consumed_makes_room_and_offsets_go_on() {
        let text: Vec<u8> = (0..100).collect();
        let mut window = Window::with_capacity(Box::new(Drip(&text)), 8);
        let mut seen = Vec::new();
        while window.refill().unwrap() == Refill::Grown {
            let take = window.bytes().len().min(3);
            assert_eq!(usize::from(window.bytes()[0]), window.offset() as usize);
            seen.extend_from_slice(&window.bytes()[..take]);
            window.consume(take);
        }
        seen.extend_from_slice(window.bytes());
        assert_eq!(seen, text);
    }
}
