//! Chrome trace JSON as the PyTorch profiler (Kineto) writes it, and its export for Perfetto.
//!
//! Plain, gzip and zstd files are read through one bounded window, so memory holds the rows and never the text. `{"traceEvents": […]}` and a
//! bare array are both read. Every time is turned from the decimals in the file into whole nanoseconds without a detour through floating
//! point, and counted from the earliest event; [`Source::epoch_ns`](super::places::Source::epoch_ns) says where that is.
//!
//! A trace that is cut off within `traceEvents` is an error that names the byte: nobody can say what is missing. Only a bare array may lack
//! its closing bracket, as the format allows; a diagnostic says so.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use super::import::{Import, ReadError, ReadErrorKind, ReadOptions};

mod category;
mod collect;
mod document;
mod event;
mod finish;
mod flows;
mod lanes;
mod owners;
mod properties;
mod scan;
mod skipped;
mod window;
pub mod writer;

/// Reads a Kineto or Chrome trace: plain, gzip or zstd, told apart by its first bytes.
///
/// # Errors
/// [`ReadErrorKind::Io`] if it cannot be read, [`ReadErrorKind::NotATrace`] if it is something else, [`ReadErrorKind::Malformed`] with a byte
/// offset if it is damaged or cut off, [`ReadErrorKind::TooLarge`], [`ReadErrorKind::Interrupted`].
pub fn read(path: &Path, options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    import(&Input { path, bytes: None, capacity: window::FIRST_CAPACITY }, options)
}

/// Reads a trace held in memory; `name` stands for its path in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(name: &Path, bytes: &[u8], options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    import(&Input { path: name, bytes: Some(bytes), capacity: window::FIRST_CAPACITY }, options)
}

/// Where the text comes from. It may be read a second time.
struct Input<'a> {
    path: &'a Path,
    bytes: Option<&'a [u8]>,
    /// Bytes of text that are held at least.
    capacity: usize,
}

/// A stream of JSON text, and how far it is in the file.
struct Opened<'a> {
    text: Box<dyn Read + 'a>,
    done: Rc<Cell<u64>>,
    total: u64,
    compressed: bool,
}

impl<'a> Input<'a> {
    fn open(&self) -> Result<Opened<'a>, ReadError> {
        let io_error =
            |error: io::Error| ReadError::new(self.path, ReadErrorKind::Io, format!("it cannot be read: {error}"));
        let (mut raw, total): (Box<dyn Read + 'a>, u64) = if let Some(bytes) = self.bytes {
            (Box::new(bytes), bytes.len() as u64)
        } else {
            let file = File::open(self.path).map_err(io_error)?;
            let about = file.metadata().map_err(io_error)?;
            if about.is_dir() {
                return Err(io_error(io::ErrorKind::IsADirectory.into()));
            }
            (Box::new(file), about.len())
        };
        let mut head = Vec::with_capacity(4);
        raw.by_ref().take(4).read_to_end(&mut head).map_err(io_error)?;
        let done = Rc::new(Cell::new(0));
        let is_gzip = head.starts_with(&[0x1f, 0x8b]);
        let is_zstd = head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        let counted = Counted { inner: io::Cursor::new(head).chain(raw), done: Rc::clone(&done) };
        let text: Box<dyn Read + 'a> = if is_gzip {
            Box::new(flate2::bufread::MultiGzDecoder::new(io::BufReader::with_capacity(1 << 16, counted)))
        } else if is_zstd {
            Box::new(zstd::stream::read::Decoder::new(counted).map_err(io_error)?)
        } else {
            Box::new(counted)
        };
        Ok(Opened { text, done, total, compressed: is_gzip || is_zstd })
    }
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    done: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.done.set(self.done.get() + read as u64);
        Ok(read)
    }
}

fn import(input: &Input<'_>, options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    let mut collector = collect::Collector::default();
    let about = document::scan(input, options, &mut |event, offset| collector.event(event, offset))?;
    if flows::needed(&collector) {
        let mut links = flows::Flows::default();
        let strings = &mut collector.timeline.strings;
        document::scan(input, options, &mut |event, _| links.event(event, strings))?;
        flows::apply(&mut collector, &links);
    }
    Ok(finish::finish(input.path, options.file, collector, about))
}

#[cfg(test)]
mod tests;
