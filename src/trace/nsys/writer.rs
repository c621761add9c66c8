//! Writes a timeline as the SQLite file `nsys export` would write (schema 3.24), so that NVIDIA's report scripts and everything else that
//! reads such exports, our reader included, read it.
//!
//! Tables are written only if they have rows, as the tool does by default. Times stay as they are, negative ones too: NVTX rows of real
//! exports have them. The file is written beside its place and renamed over it when it is whole.
//!
//! What the format has no place for (host spans of a live run, shapes of operators) is left out and counted in the report.

mod activity;
mod host;
mod ids;
mod places;
mod schema;

use std::cell::RefCell;
use std::path::Path;

use rusqlite::{Connection, Statement, params};

use self::ids::GlobalIds;
use self::schema::Table;
use super::super::export::{WriteError, WriteReport, put_in_place, temporary_beside};
use super::super::strings::StringId;
use super::super::timeline::Timeline;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};

/// Version of the schema the tables follow.
pub const SCHEMA_VERSION: &str = "3.24.8";

/// Writes `timeline` to `path`, over what is there.
///
/// # Errors
/// If the file cannot be created, written or renamed; `path` is then as it was.
pub fn write(timeline: &Timeline, path: &Path) -> Result<WriteReport, WriteError> {
    let temporary = temporary_beside(path)?;
    let mut report = fill(timeline, temporary.path()).map_err(WriteError::at(path, "SQLite failed"))?;
    report.bytes = put_in_place(temporary, path)?;
    Ok(report)
}

fn fill(timeline: &Timeline, path: &Path) -> rusqlite::Result<WriteReport> {
    let mut connection = Connection::open(path)?;
    // The file is not yet anyone's: a crash leaves a temporary file behind and nothing to roll back.
    connection
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;")?;
    let transaction = connection.transaction()?;
    let ids = GlobalIds::new(timeline);
    let report = RefCell::default();
    let used = RefCell::new(vec![false; timeline.strings.len()]);
    let sink = Sink { db: &transaction, timeline, ids: &ids, used, report };
    places::write(&sink)?;
    activity::write(&sink)?;
    host::write(&sink)?;
    sink.strings()?;
    let mut report = sink.report.into_inner();
    report.diagnostics = left_out(timeline, &ids);
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(report)
}

/// Where rows go.
struct Sink<'a> {
    db: &'a Connection,
    timeline: &'a Timeline,
    ids: &'a GlobalIds,
    /// Which strings rows refer to: only those are written, whatever else the reader met.
    used: RefCell<Vec<bool>>,
    report: RefCell<WriteReport>,
}

impl Sink<'_> {
    /// Creates a table and inserts `rows` rows, each bound by `insert`; does nothing for none.
    fn table(
        &self,
        table: &Table,
        rows: usize,
        mut insert: impl FnMut(&mut Statement<'_>, usize) -> rusqlite::Result<usize>,
    ) -> rusqlite::Result<()> {
        // Readers know an export by its strings: that table is there even if nothing has a name.
        if rows == 0 && table.name != schema::STRING_IDS.name {
            return Ok(());
        }
        self.db.execute_batch(&table.create_sql())?;
        let mut statement = self.db.prepare(&table.insert_sql())?;
        for row in 0..rows {
            insert(&mut statement, row)?;
        }
        self.report.borrow_mut().wrote(table.name, rows);
        Ok(())
    }
    /// The id a string has in the file.
    fn text(&self, id: StringId) -> i64 {
        self.used.borrow_mut()[id.0 as usize] = true;
        i64::from(id.0)
    }
    fn strings(&self) -> rusqlite::Result<()> {
        let used = self.used.borrow();
        let ids: Vec<u32> = (0..used.len() as u32).filter(|id| used[*id as usize]).collect();
        self.table(&schema::STRING_IDS, ids.len(), |statement, row| {
            statement.execute(params![i64::from(ids[row]), self.timeline.text(StringId(ids[row]))])
        })
    }
}

/// 0 stands for "none" in a timeline, and null in the file.
fn known(value: impl Into<i64>) -> Option<i64> {
    Some(value.into()).filter(|value| *value != 0)
}

/// As [`known`], for ids of 64 bits, which SQLite keeps as signed.
fn known_wide(value: u64) -> Option<i64> {
    (value != 0).then_some(value.cast_signed())
}

/// What the format cannot hold.
fn left_out(timeline: &Timeline, ids: &GlobalIds) -> Vec<Diagnostic> {
    let mut diagnostics = Diagnostics::default();
    let mut note = |code: &str, count: usize, text: String| {
        if count > 0 {
            let mut diagnostic = Diagnostic::new(code, Severity::Info, text);
            diagnostic.count = count as u64;
            diagnostics.push(diagnostic);
        }
    };
    let spans = timeline.spans.len();
    note("nsys_spans_left_out", spans, format!("{spans} spans of a live run have no table in an nsys file"));
    let shapes = timeline.ranges.shape.iter().filter(|shape| !timeline.text(**shape).is_empty()).count();
    note("nsys_shapes_left_out", shapes, format!("input shapes of {shapes} operators have no column in an nsys file"));
    let foreign = timeline.ranges.kind.iter().filter(|kind| !kind.is_nvtx()).count();
    note(
        "nsys_ranges_as_nvtx",
        foreign,
        format!("{foreign} operator, Python and annotation ranges became NVTX ranges"),
    );
    note(
        "nsys_threads_renumbered",
        ids.renumbered,
        format!("{} thread ids do not fit 24 bits or stand twice in a process and were renumbered", ids.renumbered),
    );
    diagnostics.into_vec()
}
