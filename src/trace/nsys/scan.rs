//! Reads tables in stretches of rows: several connections decode stretches at once, one thread puts them together in the order of the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::assembly::Assembly;
use super::cells::{Cells, MOST_COLUMNS, Reason, Skips, values_of};
use super::open::{Database, sqlite_error};
use super::pages::{Halt, Pages, Shape};
use super::schema::{Column, Schema, Table, quote};
use crate::diagnostics::Severity;
use crate::trace::import::{Progress, ReadError, ReadErrorKind, ReadOptions};

/// Rows in a stretch: large enough that what is shared is mapped rarely, small enough that little waits to be put together.
const STRETCH: i64 = 1 << 18;
/// A table is cut into no more stretches than this: in an edited file the row ids may lie far apart.
const MOST_STRETCHES: i64 = 4096;
/// Below this many rows in all, one connection is faster than starting another.
const FEW_ROWS: u64 = 200_000;
/// More threads than this wait for the disk and for each other.
const MOST_THREADS: usize = 8;
/// Rows between two looks at cancellation.
const ROWS_BETWEEN_LOOKS: u64 = 1 << 14;

/// Rows of one table, decoded.
pub(super) trait Chunk: Default + Send + 'static {
    /// The name of the table without version suffix.
    const TABLE: &'static str;
    /// What `Source::tables` calls it.
    const KIND: &'static str;
    /// What is read of it.
    const COLUMNS: &'static [Column];
    /// How many of `COLUMNS`, from the first, the table cannot do without.
    const REQUIRED: usize;

    /// Decodes one row. An error leaves the chunk as it was.
    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason>;
    /// Appends the rows to the timeline; `expected` is about how many the whole table has.
    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError>;
}

/// A decoded stretch that waits to be put together.
trait Merge: Send {
    fn merge(self: Box<Self>, assembly: &mut Assembly<'_>) -> Result<(), ReadError>;
}

struct Scanned<C> {
    chunk: C,
    skips: Skips,
    table: String,
    expected: usize,
}

impl<C: Chunk> Merge for Scanned<C> {
    fn merge(self: Box<Self>, assembly: &mut Assembly<'_>) -> Result<(), ReadError> {
        assembly.skipped(&self.table, &self.skips);
        self.chunk.merge(assembly, self.expected)
    }
}

type Run = dyn Fn(&Connection, &Control<'_>) -> Result<Box<dyn Merge>, ReadError> + Send + Sync;

/// The stretches to be read, in the order they are put together.
#[derive(Default)]
pub(super) struct Plan {
    jobs: Vec<Box<Run>>,
    rows: u64,
    /// Kinds of table the file has.
    pub(super) kinds: Vec<String>,
}

/// What the readers of stretches share.
struct Control<'a> {
    path: &'a Path,
    options: &'a ReadOptions<'a>,
    pages: Option<&'a Pages>,
    stop: AtomicBool,
    done: AtomicU64,
    total: u64,
}

impl Control<'_> {
    fn look(&self, rows: u64) -> Result<(), ReadError> {
        let done = self.done.fetch_add(rows, Ordering::Relaxed) + rows;
        (self.options.progress)(Progress { done, total: self.total.max(done) });
        if self.stop.load(Ordering::Relaxed) || (self.options.cancelled)() {
            return Err(ReadError::interrupted(self.path));
        }
        Ok(())
    }
}

impl Plan {
    /// Plans to read the table of `C`, if the file has it.
    pub(super) fn add<C: Chunk>(
        &mut self,
        assembly: &mut Assembly<'_>,
        connection: &Connection,
        schema: &Schema,
        length: u64,
    ) -> Result<bool, ReadError> {
        let path = assembly.path;
        let Some(table) = schema.table(path, connection, C::TABLE)? else { return Ok(false) };
        let missing = C::COLUMNS.iter().take(C::REQUIRED).find(|names| !table.has(names));
        if let Some([missing, ..]) = missing {
            assembly.diagnostics.note(
                "column_missing",
                Severity::DataLoss,
                format!("`{}` has no column `{}`, so the table is left out", table.name, missing),
            );
            return Ok(false);
        }
        self.kinds.push(C::KIND.to_owned());
        let sql = table.select(C::COLUMNS);
        let Some(rowid) = table.rowid() else {
            let rows = 0;
            self.push::<C>(path, table, sql, None, rows);
            return Ok(true);
        };
        let Some((first, last)) = row_range(path, connection, &table, rowid)? else { return Ok(true) };
        let span = last.saturating_sub(first).saturating_add(1).max(1);
        // A row takes more bytes than that, whatever the ids say.
        let rows = (span as u64).min(length / 24);
        self.rows += rows;
        let stretch = STRETCH.max(span / MOST_STRETCHES + 1);
        let sql = format!("{sql} WHERE {rowid} BETWEEN ?1 AND ?2");
        let mut from = first;
        loop {
            let to = from.saturating_add(stretch - 1).min(last);
            self.push::<C>(path, table.clone(), sql.clone(), Some((from, to)), rows as usize);
            match to.checked_add(1) {
                Some(next) if next <= last => from = next,
                _ => return Ok(true),
            }
        }
    }
    fn push<C: Chunk>(&mut self, path: &Path, table: Table, sql: String, range: Option<(i64, i64)>, expected: usize) {
        let path = path.to_owned();
        self.jobs.push(Box::new(move |connection, control| {
            let (chunk, skips) = scan::<C>(&path, connection, control, &table, &sql, range)?;
            Ok(Box::new(Scanned { chunk, skips, table: table.name.clone(), expected }))
        }));
    }
    /// Reads everything that was planned.
    pub(super) fn run(
        &self,
        assembly: &mut Assembly<'_>,
        connection: &Connection,
        database: &Database,
        pages: Option<&Pages>,
        options: &ReadOptions<'_>,
    ) -> Result<(), ReadError> {
        let path = assembly.path;
        let control =
            Control { path, options, pages, stop: AtomicBool::new(false), done: AtomicU64::new(0), total: self.rows };
        control.look(0)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = cores.min(MOST_THREADS).min(self.jobs.len());
        if threads < 2 || self.rows < FEW_ROWS {
            for job in &self.jobs {
                job(connection, &control)?.merge(assembly)?;
            }
            return Ok(());
        }
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            // The bound keeps readers from running ahead of what is put together.
            let (sender, receiver) = mpsc::sync_channel(1);
            let mut workers = Vec::new();
            for _ in 0..threads {
                let (sender, control, next) = (sender.clone(), &control, &next);
                workers.push(scope.spawn(move || {
                    let connection = match database.connect() {
                        Ok(connection) => connection,
                        Err(error) => {
                            let _ = sender.send((usize::MAX, Err(error)));
                            return;
                        }
                    };
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = self.jobs.get(index) else { return };
                        let result = job(&connection, control);
                        let failed = result.is_err();
                        if sender.send((index, result)).is_err() || failed {
                            return;
                        }
                    }
                }));
            }
            drop(sender);
            let outcome = put_together(assembly, &receiver, &control);
            drop(receiver);
            for worker in workers {
                if worker.join().is_err() {
                    return Err(ReadError::new(
                        path,
                        ReadErrorKind::Malformed,
                        "is damaged: a value could not be read",
                    ));
                }
            }
            let merged = outcome?;
            debug_assert_eq!(merged, self.jobs.len(), "every stretch arrives or an error does");
            Ok(())
        })
    }
}

type Delivery = (usize, Result<Box<dyn Merge>, ReadError>);

/// Puts stretches together in order; returns how many.
fn put_together(
    assembly: &mut Assembly<'_>,
    receiver: &mpsc::Receiver<Delivery>,
    control: &Control<'_>,
) -> Result<usize, ReadError> {
    let mut waiting = BTreeMap::new();
    let mut expected = 0;
    let stop = |error| {
        control.stop.store(true, Ordering::Relaxed);
        Err(error)
    };
    while let Ok((index, result)) = receiver.recv() {
        match result {
            Ok(chunk) => {
                waiting.insert(index, chunk);
            }
            Err(error) => return stop(error),
        }
        while let Some(chunk) = waiting.remove(&expected) {
            if let Err(error) = chunk.merge(assembly) {
                return stop(error);
            }
            expected += 1;
        }
    }
    Ok(expected)
}

/// First and last row id of a table, `None` if it is empty. Two statements, since one with both would read the whole table.
fn row_range(
    path: &Path,
    connection: &Connection,
    table: &Table,
    rowid: &str,
) -> Result<Option<(i64, i64)>, ReadError> {
    let ask = |function: &str| {
        let sql = format!("SELECT {function}({rowid}) FROM {} NOT INDEXED", quote(&table.name));
        connection
            .query_row(&sql, [], |row| row.get::<_, Option<i64>>(0))
            .map_err(|error| sqlite_error(path, &format!("`{}`", table.name), None, error))
    };
    Ok(ask("min")?.zip(ask("max")?))
}

fn scan<C: Chunk>(
    path: &Path,
    connection: &Connection,
    control: &Control<'_>,
    table: &Table,
    sql: &str,
    range: Option<(i64, i64)>,
) -> Result<(C, Skips), ReadError> {
    const { assert!(C::COLUMNS.len() <= MOST_COLUMNS) };
    if let (Some(pages), Some(shape), Some(range)) = (control.pages, table.shape(C::COLUMNS), range) {
        match scan_pages(pages, &shape, control, range) {
            Ok(scanned) => return Ok(scanned),
            Err(Halt::Error(error)) => return Err(*error),
            Err(Halt::Unusual) => {}
        }
    }
    scan_statement(path, connection, control, table, sql, range)
}

/// Rows that are decoded, one after the other.
#[derive(Default)]
struct Decoder<C> {
    chunk: C,
    skips: Skips,
    since_look: u64,
}

impl<C: Chunk> Decoder<C> {
    fn row(&mut self, control: &Control<'_>, rowid: i64, values: &[ValueRef<'_>]) -> Result<(), ReadError> {
        if let Err(reason) = self.chunk.push(Cells(values)) {
            self.skips.note(reason, rowid);
        }
        self.since_look += 1;
        if self.since_look == ROWS_BETWEEN_LOOKS {
            control.look(std::mem::take(&mut self.since_look))?;
        }
        Ok(())
    }
    fn end(self, control: &Control<'_>) -> Result<(C, Skips), ReadError> {
        control.look(self.since_look)?;
        Ok((self.chunk, self.skips))
    }
}

fn scan_pages<C: Chunk>(
    pages: &Pages,
    shape: &Shape,
    control: &Control<'_>,
    (from, to): (i64, i64),
) -> Result<(C, Skips), Halt> {
    let mut decoder = Decoder::<C>::default();
    pages.scan(shape, from, to, &mut |rowid, values| decoder.row(control, rowid, values))?;
    decoder.end(control).map_err(|error| Halt::Error(Box::new(error)))
}

fn scan_statement<C: Chunk>(
    path: &Path,
    connection: &Connection,
    control: &Control<'_>,
    table: &Table,
    sql: &str,
    range: Option<(i64, i64)>,
) -> Result<(C, Skips), ReadError> {
    let mut decoder = Decoder::<C>::default();
    let mut last = None;
    let fail = |last, error| sqlite_error(path, &format!("`{}`", table.name), last, error);
    let mut statement = connection.prepare_cached(sql).map_err(|error| fail(last, error))?;
    let mut rows = match range {
        Some((from, to)) => statement.query([from, to]),
        None => statement.query([]),
    }
    .map_err(|error| fail(last, error))?;
    while let Some(row) = rows.next().map_err(|error| fail(last, error))? {
        let (rowid, values) = values_of(row, C::COLUMNS.len());
        // A damaged tree of pages can lead to the same rows twice.
        if range.is_some() && last.is_some_and(|last| rowid <= last) {
            return Err(ReadError::new(
                path,
                ReadErrorKind::Malformed,
                format!("is damaged at `{}`: row {rowid} comes after row {}", table.name, last.unwrap_or_default()),
            )
            .hint("copy the file again, or export the report again with `nsys export --type sqlite`"));
        }
        last = Some(rowid);
        decoder.row(control, rowid, &values)?;
    }
    decoder.end(control)
}
