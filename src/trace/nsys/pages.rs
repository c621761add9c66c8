//! Reads the rows of a table straight from the pages of a database file, several times faster than through SQL statements.
//!
//! Format: <https://www.sqlite.org/fileformat2.html>. Only the plain case is read here: UTF-8, tables with row ids, a file without
//! write-ahead log. At anything else, and at anything that looks damaged, this gives up and SQLite reads the rows instead; it is SQLite
//! that says whether a file is damaged.
//!
//! The caller holds a read transaction of SQLite on the file, so nobody writes it meanwhile. The file must not be closed before the
//! connections are: closing it would release their locks (POSIX).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::types::ValueRef;

use super::cells::MOST_COLUMNS;
use crate::trace::import::ReadError;

/// Pages read at once where a table lies in one piece.
const BLOCK_PAGES: u32 = 32;
/// SQLite's own bound on the depth of a tree.
const MOST_LEVELS: usize = 20;

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum Halt {
    /// Something this module leaves to SQLite.
    Unusual,
    /// An error of the caller.
    Error(Box<ReadError>),
}

/// What to read of a table: its root page, and for each column wanted its place in the record and in the answer, by place in the record.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) root: u32,
    pub(super) columns: Vec<(usize, usize)>,
}

/// A database file as pages.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    page: usize,
    /// Bytes of a page without those reserved for extensions.
    usable: usize,
    count: u32,
}

impl Pages {
    /// Opens a file, if it is one this module reads.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut head = [0_u8; 100];
        file.read_exact_at(&mut head, 0).ok()?;
        let page = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = page.checked_sub(usize::from(head[20]))?;
        let utf8 = u32::from_be_bytes([head[56], head[57], head[58], head[59]]) == 1;
        // The smallest usable size the format allows.
        if !super::is_sqlite(&head) || !page.is_power_of_two() || usable < 480 || !utf8 {
            return None;
        }
        let count = u32::try_from(file.metadata().ok()?.len() / page as u64).ok()?;
        Some(Self { file, page, usable, count })
    }
    /// Calls `each` with row id and values of every row with `from <= id <= to`, in the order of the ids.
    pub(super) fn scan(
        &self,
        shape: &Shape,
        from: i64,
        to: i64,
        each: &mut impl FnMut(i64, &[ValueRef<'_>]) -> Result<(), ReadError>,
    ) -> Result<(), Halt> {
        let block = Block { bytes: Vec::new(), first: 0, pages: 0, last: 0 };
        let mut walk = Walk { pages: self, shape, from, to, last: None, block, spilled: Vec::new() };
        walk.page(shape.root, 0, each)
    }
    fn read(&self, page: u32, pages: u32, into: &mut Vec<u8>) -> Result<(), Halt> {
        into.resize(self.page * pages as usize, 0);
        let at = u64::from(page - 1) * self.page as u64;
        self.file.read_exact_at(into, at).map_err(|_| Halt::Unusual)
    }
}

/// The pages read last.
struct Block {
    bytes: Vec<u8>,
    first: u32,
    pages: u32,
    last: u32,
}

impl Block {
    fn get(&mut self, pages: &Pages, number: u32) -> Result<&[u8], Halt> {
        if number < 1 || number > pages.count {
            return Err(Halt::Unusual);
        }
        if number < self.first || number - self.first >= self.pages {
            // A page that does not follow the one before says that the table lies scattered.
            let wanted = if number == self.last.wrapping_add(1) { BLOCK_PAGES } else { 1 };
            self.pages = wanted.min(pages.count - number + 1);
            self.first = number;
            pages.read(number, self.pages, &mut self.bytes)?;
        }
        self.last = number;
        let at = (number - self.first) as usize * pages.page;
        Ok(&self.bytes[at..at + pages.usable])
    }
}

struct Walk<'a> {
    pages: &'a Pages,
    shape: &'a Shape,
    from: i64,
    to: i64,
    last: Option<i64>,
    block: Block,
    /// A record that lies in several pages.
    spilled: Vec<u8>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let pair = bytes.get(at..at + 2)?;
    Some(usize::from(pair[0]) << 8 | usize::from(pair[1]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// A number of 1 to 9 bytes and where it ends.
#[inline]
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 { Some((u64::from(first), at + 1)) } else { long_varint(bytes, at) }
}

fn long_varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for index in 0..8 {
        let byte = *bytes.get(at + index)?;
        value = value << 7 | u64::from(byte & 0x7F);
        if byte < 0x80 {
            return Some((value, at + index + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(at + 8)?), at + 9))
}

impl Walk<'_> {
    fn page(
        &mut self,
        number: u32,
        level: usize,
        each: &mut impl FnMut(i64, &[ValueRef<'_>]) -> Result<(), ReadError>,
    ) -> Result<(), Halt> {
        const INTERIOR: u8 = 5;
        const LEAF: u8 = 13;
        let page = self.block.get(self.pages, number)?;
        // Page 1 begins with the header of the file; no table of a user has it as root.
        if number == 1 || level >= MOST_LEVELS {
            return Err(Halt::Unusual);
        }
        match page[0] {
            LEAF => self.leaf(number, each),
            INTERIOR => {
                let page = page.to_vec();
                let cells = u16_at(&page, 3).ok_or(Halt::Unusual)?;
                for cell in 0..cells {
                    let at = u16_at(&page, 12 + 2 * cell).ok_or(Halt::Unusual)?;
                    let key = varint(&page, at + 4).ok_or(Halt::Unusual)?.0 as i64;
                    if key >= self.from {
                        self.page(u32_at(&page, at).ok_or(Halt::Unusual)?, level + 1, each)?;
                    }
                    if key >= self.to {
                        return Ok(());
                    }
                }
                self.page(u32_at(&page, 8).ok_or(Halt::Unusual)?, level + 1, each)
            }
            _ => Err(Halt::Unusual),
        }
    }
    fn leaf(
        &mut self,
        number: u32,
        each: &mut impl FnMut(i64, &[ValueRef<'_>]) -> Result<(), ReadError>,
    ) -> Result<(), Halt> {
        let Self { pages, shape, from, to, last, block, spilled } = self;
        let usable = pages.usable;
        let page = block.get(pages, number)?;
        let cells = u16_at(page, 3).ok_or(Halt::Unusual)?;
        let pointers = 8 + 2 * cells;
        for cell in 0..cells {
            let at = u16_at(page, 8 + 2 * cell).ok_or(Halt::Unusual)?;
            if at < pointers {
                return Err(Halt::Unusual);
            }
            let (length, at) = varint(page, at).ok_or(Halt::Unusual)?;
            let (rowid, at) = varint(page, at).ok_or(Halt::Unusual)?;
            let rowid = rowid as i64;
            if last.is_some_and(|last| rowid <= last) {
                return Err(Halt::Unusual);
            }
            *last = Some(rowid);
            if rowid < *from {
                continue;
            }
            if rowid > *to {
                return Ok(());
            }
            let length = usize::try_from(length).map_err(|_| Halt::Unusual)?;
            let most = usable - 35;
            let record = if length <= most {
                page.get(at..at + length).ok_or(Halt::Unusual)?
            } else {
                let least = (usable - 12) * 32 / 255 - 23;
                let local = least + (length - least) % (usable - 4);
                let local = if local <= most { local } else { least };
                let begin = page.get(at..at + local).ok_or(Halt::Unusual)?;
                let next = u32_at(page, at + local).ok_or(Halt::Unusual)?;
                spill(pages, begin, next, length, spilled)?;
                spilled.as_slice()
            };
            let mut values = [ValueRef::Null; MOST_COLUMNS];
            decode(record, &shape.columns, &mut values).ok_or(Halt::Unusual)?;
            each(rowid, &values).map_err(|error| Halt::Error(Box::new(error)))?;
        }
        Ok(())
    }
}

/// Puts a record of `length` bytes together that begins with `begin` and goes on at page `next`.
fn spill(pages: &Pages, begin: &[u8], mut next: u32, length: usize, into: &mut Vec<u8>) -> Result<(), Halt> {
    if length > pages.count as usize * pages.page {
        return Err(Halt::Unusual);
    }
    into.clear();
    into.extend_from_slice(begin);
    let mut page = Vec::new();
    while into.len() < length {
        if next < 2 || next > pages.count {
            return Err(Halt::Unusual);
        }
        pages.read(next, 1, &mut page)?;
        next = u32_at(&page, 0).ok_or(Halt::Unusual)?;
        let take = (length - into.len()).min(pages.usable - 4);
        into.extend_from_slice(&page[4..4 + take]);
    }
    Ok(())
}

/// Bytes of a value by its kind in the header of a record, for the kinds below 10.
const SIZES: [usize; 10] = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0];

/// Decodes the wanted columns of a record; columns it lacks are NULL. `None` for a record that is none.
fn decode<'r>(record: &'r [u8], columns: &[(usize, usize)], values: &mut [ValueRef<'r>]) -> Option<()> {
    let (header, mut at) = varint(record, 0)?;
    let header = usize::try_from(header).ok().filter(|header| *header <= record.len())?;
    let mut body = header;
    let mut column = 0;
    // Kept, since several answers may come from one place.
    let mut last = (0, &record[..0]);
    for (place, answer) in columns {
        while column <= *place {
            if at >= header {
                return Some(());
            }
            let (kind, after) = varint(record, at)?;
            at = after;
            let size = match SIZES.get(kind as usize) {
                Some(size) => *size,
                None if kind >= 12 => usize::try_from((kind - 12) / 2).ok()?,
                None => return None,
            };
            let end = body.checked_add(size)?;
            if column == *place {
                last = (kind, record.get(body..end)?);
            }
            body = end;
            column += 1;
        }
        values[*answer] = value(last.0, last.1);
    }
    Some(())
}

#[inline]
fn value(kind: u64, bytes: &[u8]) -> ValueRef<'_> {
    match (kind, bytes) {
        (0, _) => ValueRef::Null,
        (8, _) => ValueRef::Integer(0),
        (9, _) => ValueRef::Integer(1),
        (1, [a]) => ValueRef::Integer(i64::from(*a as i8)),
        (2, [a, b]) => ValueRef::Integer(i64::from(i16::from_be_bytes([*a, *b]))),
        (3, [a, b, c]) => ValueRef::Integer(i64::from(i32::from_be_bytes([*a, *b, *c, 0]) >> 8)),
        (4, [a, b, c, d]) => ValueRef::Integer(i64::from(i32::from_be_bytes([*a, *b, *c, *d]))),
        (5, [a, b, c, d, e, f]) => ValueRef::Integer(i64::from_be_bytes([*a, *b, *c, *d, *e, *f, 0, 0]) >> 16),
        (6 | 7, [a, b, c, d, e, f, g, h]) => {
            let bits = i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            let real = f64::from_bits(bits as u64);
            match kind {
                6 => ValueRef::Integer(bits),
                _ if real.is_nan() => ValueRef::Null,
                _ => ValueRef::Real(real),
            }
        }
        _ if kind.is_multiple_of(2) => ValueRef::Blob(bytes),
        _ => ValueRef::Text(bytes),
    }
}
