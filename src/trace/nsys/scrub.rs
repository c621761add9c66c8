//! Copies an export without what it holds about its user: environments, command lines, captured output, other processes of the host.
//!
//! `nsys` stores the environment of the profiled program in settings, in descriptions of the system, and in rows of `StringIds` that
//! nothing refers to; keys and tokens leave the house with a trace that way. What was recorded of GPU and host activity stays as it is.

use std::fs::File;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::open::{Database, FileKind, io_error, kind_of, percent_encoded, sqlite_error};
use super::remains::{Pieces, unexplained};
use super::schema::{Schema, quote};
use crate::trace::import::{ReadError, ReadErrorKind};

/// What [`scrub`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Rows removed or blanked, by table.
    pub removed: Vec<ScrubbedTable>,
    /// Pieces (32 bytes) of removed settings, environments or output that a row of activity holds too, where they were left.
    pub kept_in_activity: u64,
    /// Size of the copy in bytes.
    pub bytes: u64,
}

/// What was removed from one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubbedTable {
    /// Its name in the file.
    pub table: String,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows whose text was emptied.
    pub blanked: u64,
}

/// Columns that hold ids of `StringIds` in schemas that do not say so themselves.
const STRING_COLUMNS: [&str; 12] = [
    "nameId",
    "textId",
    "jsonTextId",
    "demangledName",
    "shortName",
    "mangledName",
    "symbol",
    "module",
    "filenameId",
    "nameid",
    "threadNameId",
    "descriptionId",
];

/// Settings that tell about the user and not about the capture.
const PRIVATE_SETTINGS: &str = "upper(name) LIKE '%ENVIRONMENT%' OR upper(name) LIKE '%COMMAND%' OR upper(name) LIKE '%ARGUMENT%' \
     OR upper(name) LIKE '%WORKING_DIR%' OR upper(name) LIKE '%USER%' OR upper(name) LIKE '%HOST%' \
     OR upper(name) LIKE '%DISPLAY_NAME%' OR upper(name) LIKE '%\\_PATH%' ESCAPE '\\' OR upper(name) LIKE '%\\_FILE' ESCAPE '\\'";

/// Descriptions of the system that carry an environment or the name of a host: by their name, or by their look.
const PRIVATE_SYSTEM: &str = "length(value) > 0 AND (upper(coalesce(name, '')) LIKE '%ENV%' OR upper(coalesce(name, '')) LIKE '%HOST%' \
     OR upper(coalesce(name, '')) LIKE '%USER%' OR upper(coalesce(name, '')) LIKE '%COMMAND%' OR upper(coalesce(name, '')) LIKE '%PATH%' \
     OR upper(coalesce(name, '')) LIKE '%ADDRESS%' OR instr(value, char(10)) > 0 OR instr(value, '=') > 0 OR length(value) > 200)";

/// Writes a copy of the export `source` without private data to `target`, which must not exist.
///
/// The copy is checked: none of the removed texts is left in its bytes, except where a row of activity holds the same text.
///
/// # Errors
/// If `source` is no export of nsys or damaged, or if `target` exists or cannot be written. No incomplete copy is left behind.
pub fn scrub(source: &Path, target: &Path) -> Result<ScrubReport, ReadError> {
    if std::fs::symlink_metadata(target).is_ok() {
        return Err(ReadError::new(target, ReadErrorKind::Io, "exists already and is not overwritten")
            .hint("name a file that does not exist"));
    }
    if kind_of(source)? == FileKind::Report {
        return Err(ReadError::new(source, ReadErrorKind::NotATrace, "is a report of nsys and not its SQLite export")
            .hint(format!("export it first: `{}`", super::export_command(source))));
    }
    let database = Database::find(source)?;
    {
        let connection = database.connect()?;
        let schema = Schema::load(source, &connection)?;
        super::check_origin(source, &connection, &schema)?;
    }
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write =
        |cause: &std::io::Error| ReadError::new(target, ReadErrorKind::Io, format!("cannot be written: {cause}"));
    // Beside the target, so that it gets its name in one step.
    let work =
        tempfile::Builder::new().prefix(".perfprof-scrub-").tempdir_in(directory).map_err(|cause| write(&cause))?;
    let copy = work.path().join("copy.sqlite");
    let absolute = std::path::absolute(&copy).map_err(|cause| write(&cause))?;
    database.copy_into(&absolute)?;
    let report = clean(source, &absolute)?;
    // A link fails where a rename would overwrite; file systems without links get a name first and the file then.
    std::fs::hard_link(&copy, target)
        .or_else(|_| {
            File::create_new(target)?;
            std::fs::rename(&copy, target).inspect_err(|_| {
                // Ours, and empty.
                let _ = std::fs::remove_file(target);
            })
        })
        .map_err(|cause| write(&cause))?;
    Ok(report)
}

/// Removes the private rows of the copy at `path`.
fn clean(source: &Path, path: &Path) -> Result<ScrubReport, ReadError> {
    let fail = |error| sqlite_error(source, "a copy of it", None, error);
    let uri = format!("file:{}?mode=rw", percent_encoded(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).map_err(fail)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode=MEMORY; PRAGMA secure_delete=ON; PRAGMA foreign_keys=OFF; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY",
        )
        .map_err(fail)?;
    let schema = Schema::load(source, &connection)?;
    let mut cleaner =
        Cleaner { source, connection: &connection, schema, report: ScrubReport::default(), pieces: Pieces::default() };
    for table in ["META_DATA_CAPTURE", "META_DATA_EXPORT", "EXPORT_META_DATA"] {
        cleaner.delete(table, PRIVATE_SETTINGS, &["value"])?;
    }
    cleaner.blank("TARGET_INFO_SYSTEM_ENV", "value", PRIVATE_SYSTEM, true)?;
    cleaner.delete("ProcessStreams", "1", &[])?;
    let active = cleaner.active_processes()?;
    cleaner.delete("PROCESSES", &format!("coalesce(globalPid & -16777216, -1) NOT IN ({active})"), &["name"])?;
    cleaner.delete("ThreadNames", &format!("coalesce(globalTid & -16777216, -1) NOT IN ({active})"), &[])?;
    let referenced = cleaner.referenced_strings()?;
    cleaner.blank("StringIds", "value", &format!("length(value) > 0 AND id NOT IN ({referenced})"), false)?;
    connection.execute_batch("VACUUM").map_err(fail)?;
    let Cleaner { mut report, pieces, .. } = cleaner;
    let read = |cause| io_error(path, &cause);
    report.bytes = std::fs::metadata(path).map_err(read)?.len();
    let found = pieces.find_in_file(path).map_err(read)?;
    let (left, explained) = unexplained(source, &connection, &pieces, &found)?;
    if left > 0 {
        return Err(ReadError::new(
            source,
            ReadErrorKind::Malformed,
            format!("{left} pieces of removed texts were still in the copy, so it was not kept"),
        ));
    }
    report.kept_in_activity = explained;
    Ok(report)
}

struct Cleaner<'a> {
    source: &'a Path,
    connection: &'a Connection,
    schema: Schema,
    report: ScrubReport,
    pieces: Pieces,
}

impl Cleaner<'_> {
    fn fail(&self, table: &str, error: rusqlite::Error) -> ReadError {
        sqlite_error(self.source, &format!("`{table}` of a copy of it"), None, error)
    }
    /// The name of a table in the file, if it is there with all of `columns`.
    fn table(&self, name: &str, columns: &[&str]) -> Result<Option<String>, ReadError> {
        let table = self.schema.table(self.source, self.connection, name)?;
        Ok(table.filter(|table| columns.iter().all(|column| table.has(&[column]))).map(|table| table.name))
    }
    fn count(&mut self, table: &str, deleted: usize, blanked: usize) {
        if deleted + blanked > 0 {
            let (deleted, blanked) = (deleted as u64, blanked as u64);
            self.report.removed.push(ScrubbedTable { table: table.to_owned(), deleted, blanked });
        }
    }
    /// Remembers the texts in `column` of the rows that are to go.
    fn remember(&mut self, table: &str, column: &str, condition: &str, private: bool) -> Result<(), ReadError> {
        let sql = format!("SELECT {} FROM {} WHERE {condition}", quote(column), quote(table));
        let fail = |error| sqlite_error(self.source, &format!("`{table}` of a copy of it"), None, error);
        let mut statement = self.connection.prepare(&sql).map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            if let Ok(ValueRef::Text(text) | ValueRef::Blob(text)) = row.get_ref(0) {
                self.pieces.add(text, private);
            }
        }
        Ok(())
    }
    fn delete(&mut self, name: &str, condition: &str, private_columns: &[&str]) -> Result<(), ReadError> {
        let needs: &[&str] = match name {
            "PROCESSES" => &["globalPid", "name"],
            "ThreadNames" => &["globalTid"],
            "ProcessStreams" => &[],
            _ => &["name", "value"],
        };
        let Some(table) = self.table(name, needs)? else { return Ok(()) };
        for column in private_columns {
            self.remember(&table, column, condition, true)?;
        }
        let deleted = self
            .connection
            .execute(&format!("DELETE FROM {} WHERE {condition}", quote(&table)), [])
            .map_err(|error| self.fail(&table, error))?;
        self.count(&table, deleted, 0);
        Ok(())
    }
    fn blank(&mut self, name: &str, column: &str, condition: &str, private: bool) -> Result<(), ReadError> {
        let needs: &[&str] = if name == "StringIds" { &["id", "value"] } else { &["name", "value"] };
        let Some(table) = self.table(name, needs)? else { return Ok(()) };
        self.remember(&table, column, condition, private)?;
        let sql = format!("UPDATE {} SET {} = '' WHERE {condition}", quote(&table), quote(column));
        let blanked = self.connection.execute(&sql, []).map_err(|error| self.fail(&table, error))?;
        self.count(&table, 0, blanked);
        Ok(())
    }
    /// `SELECT` of every process with a row of activity.
    fn active_processes(&self) -> Result<String, ReadError> {
        let mut parts = Vec::new();
        for name in self.schema.tables() {
            if ["PROCESSES", "ThreadNames", "ProcessStreams", "DIAGNOSTIC_EVENT"].contains(&name) {
                continue;
            }
            let Some(table) = self.schema.table_exactly(self.source, self.connection, name)? else { continue };
            for column in ["globalPid", "globalTid"] {
                if let Some(column) = table.column(&[column]) {
                    let column = quote(column);
                    parts.push(format!(
                        "SELECT DISTINCT {column} & -16777216 FROM {} WHERE {column} IS NOT NULL",
                        quote(&table.name)
                    ));
                }
            }
        }
        Ok(union(&parts))
    }
    /// `SELECT` of every id of `StringIds` that a table refers to.
    fn referenced_strings(&self) -> Result<String, ReadError> {
        let mut parts = Vec::new();
        for name in self.schema.tables() {
            if name.eq_ignore_ascii_case("StringIds") {
                continue;
            }
            let Some(table) = self.schema.table_exactly(self.source, self.connection, name)? else { continue };
            let told = self.schema.string_columns(name);
            for column in table.columns() {
                let known = STRING_COLUMNS.iter().any(|known| column.eq_ignore_ascii_case(known));
                if known || told.iter().any(|told| column.eq_ignore_ascii_case(told)) {
                    let column = quote(column);
                    parts.push(format!(
                        "SELECT DISTINCT {column} FROM {} WHERE typeof({column}) = 'integer'",
                        quote(&table.name)
                    ));
                }
            }
        }
        Ok(union(&parts))
    }
}

fn union(parts: &[String]) -> String {
    if parts.is_empty() { "SELECT -1 WHERE 0".to_owned() } else { parts.join(" UNION ") }
}
