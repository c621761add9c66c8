//! Which tables and columns a file has: tables are lazy, may carry a version suffix, and lose and gain columns from release to release.

use std::path::Path;

use rusqlite::Connection;

use super::open::sqlite_error;
use super::pages::Shape;
use crate::trace::import::{ReadError, ReadErrorKind};

/// A table of the file.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its name in the file, with its version suffix if it has one.
    pub(super) name: String,
    /// Its columns in the spelling of the file.
    columns: Vec<String>,
    /// Whether its rows have ids.
    pub(super) has_rowid: bool,
    /// Its root page, where a record is what the columns say: no column stands for the row id or has a default.
    plain_root: Option<u32>,
}

/// Every table of the file, by its name in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Schema {
    objects: Vec<Object>,
}

#[derive(Debug, Clone)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
    root: u32,
}

/// A column to be read: the first of these names that the table has.
pub(super) type Column = &'static [&'static str];

impl Schema {
    /// Reads the schema.
    pub(super) fn load(path: &Path, connection: &Connection) -> Result<Self, ReadError> {
        let fail = |error| sqlite_error(path, "the schema", None, error);
        let mut statement =
            connection.prepare("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_schema").map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        let mut objects = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let text = |column: usize| match row.get_ref(column) {
                Ok(rusqlite::types::ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            };
            objects.push(Object {
                kind: text(0),
                name: text(1),
                table: text(2),
                sql: text(3),
                root: row.get(4).unwrap_or(0),
            });
        }
        Ok(Self { objects })
    }
    /// True if an object has exactly this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.objects.iter().any(|object| object.name == name)
    }
    /// Names of the tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().filter(|object| object.kind == "table").map(|object| object.name.as_str())
    }
    /// The table called `name`, or `name_V<n>` with the highest `n`, if the file has one.
    ///
    /// Refuses a view, trigger, virtual table or generated column under that name: reading one runs what the file says.
    pub(super) fn table(&self, path: &Path, connection: &Connection, name: &str) -> Result<Option<Table>, ReadError> {
        let Some((_, object)) = self
            .objects
            .iter()
            .filter(|object| object.kind != "index")
            .filter_map(|object| Some((version(&object.name, name)?, object)))
            .max_by_key(|(version, object)| (*version, object.kind != "table"))
        else {
            return Ok(None);
        };
        self.checked(path, connection, object).map(Some)
    }
    /// The table called exactly `name`, checked like those of [`Self::table`]; `None` for tables of SQLite itself.
    pub(super) fn table_exactly(
        &self,
        path: &Path,
        connection: &Connection,
        name: &str,
    ) -> Result<Option<Table>, ReadError> {
        let object = self.objects.iter().find(|object| object.name == name && object.kind == "table");
        match object.filter(|object| !object.name.starts_with("sqlite_")) {
            Some(object) => self.checked(path, connection, object).map(Some),
            None => Ok(None),
        }
    }
    fn checked(&self, path: &Path, connection: &Connection, object: &Object) -> Result<Table, ReadError> {
        let refuse = |what: &str| {
            Err(ReadError::new(
                path,
                ReadErrorKind::NotATrace,
                format!("`{}` is not a table but {what}, which no export of nsys has", object.name),
            )
            .hint("export the report again with `nsys export --type sqlite`"))
        };
        match object.kind.as_str() {
            "table" => {}
            "view" => return refuse("a view"),
            "trigger" => return refuse("a trigger"),
            _ => return refuse("something unknown"),
        }
        let sql = object.sql.trim_start().to_ascii_uppercase();
        if !sql.starts_with("CREATE TABLE") {
            return refuse("a virtual table");
        }
        if self.objects.iter().any(|other| other.kind == "trigger" && other.table.eq_ignore_ascii_case(&object.name)) {
            return refuse("a table with a trigger");
        }
        let fail = |error| sqlite_error(path, &object.name, None, error);
        let mut statement = connection.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1)").map_err(fail)?;
        let mut rows = statement.query([&object.name]).map_err(fail)?;
        let mut columns = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let hidden: i64 = row.get(1).map_err(fail)?;
            if hidden != 0 {
                return refuse("a table with a generated column");
            }
            columns.push(row.get::<_, String>(0).map_err(fail)?);
        }
        // nsys explains its columns in comments.
        let code: String = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        // Everything behind the last parenthesis is table options; nothing else can hold these words there.
        let options = code.rsplit(')').next().unwrap_or_default();
        let has_rowid = !options.contains("WITHOUT");
        let plain = has_rowid && !code.contains("DEFAULT") && !code.contains("PRIMARY") && object.root > 1;
        Ok(Table { name: object.name.clone(), columns, has_rowid, plain_root: plain.then_some(object.root) })
    }
    /// Columns of the table `name` that hold ids of `StringIds` as its own definition says, be it in a comment.
    pub(super) fn string_columns(&self, name: &str) -> Vec<&str> {
        let object = self.objects.iter().find(|object| object.name == name && object.kind == "table");
        let lines = object.map(|object| object.sql.lines()).into_iter().flatten();
        lines
            .filter(|line| line.contains("StringId"))
            .filter_map(|line| line.split_whitespace().next())
            .map(|word| word.trim_matches(|c| "\"`[],".contains(c)))
            .collect()
    }
    /// The definitions of everything in the file.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().flat_map(|object| [object.sql.as_str(), object.name.as_str()])
    }
}

/// 0 for `base` itself, `n` for `base_V<n>`, `None` for anything else.
fn version(name: &str, base: &str) -> Option<u64> {
    // SQLite compares names of tables without regard to case.
    let (head, tail) = name.split_at_checked(base.len())?;
    if !head.eq_ignore_ascii_case(base) {
        return None;
    }
    if tail.is_empty() {
        return Some(0);
    }
    let digits = tail.strip_prefix("_V").or_else(|| tail.strip_prefix("_v"))?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl Table {
    /// The spelling of the first of `names` that is a column.
    pub(super) fn column(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.columns.iter().find(|column| column.eq_ignore_ascii_case(name)))
            .map(String::as_str)
    }
    /// The names of its columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }
    /// True if it has a column called by one of `names`.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.column(names).is_some()
    }
    /// What the row id is called, where it has one.
    pub(super) fn rowid(&self) -> Option<&'static str> {
        // A column of that name hides the row id.
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| self.has_rowid && !self.has(&[name]))
    }
    /// Where `columns` lie in the pages of the file, if they can be read from there.
    pub(super) fn shape(&self, columns: &[Column]) -> Option<Shape> {
        let mut places: Vec<(usize, usize)> = columns
            .iter()
            .enumerate()
            .filter_map(|(answer, names)| {
                let name = self.column(names)?;
                Some((self.columns.iter().position(|column| column == name)?, answer))
            })
            .collect();
        places.sort_unstable();
        Some(Shape { root: self.plain_root?, columns: places })
    }
    /// `SELECT` of the row id (NULL where there is none) and `columns` (NULL for those it lacks), in the order the rows are stored.
    ///
    /// No index is used: an index somebody added would change the order of the rows.
    pub(super) fn select(&self, columns: &[Column]) -> String {
        let mut sql = format!("SELECT {}", self.rowid().unwrap_or("NULL"));
        for names in columns {
            sql.push_str(", ");
            match self.column(names) {
                Some(column) => sql.push_str(&quote(column)),
                None => sql.push_str("NULL"),
            }
        }
        sql.push_str(&format!(" FROM {} NOT INDEXED", quote(&self.name)));
        sql
    }
}

/// A name of SQL in quotes.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
