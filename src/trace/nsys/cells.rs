//! Values of one row, checked: what SQLite stores is typed by row and not by column, so every cell may be anything.

use crate::trace::activity::MemoryKind;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::diagnostics::{Diagnostic, Severity};

/// Times beyond ±2^61 ns (73 years) are no times; differences of smaller ones never overflow.
const TIME_LIMIT_NS: i64 = 1 << 61;
/// Nothing in a trace lasts longer than 2^50 ns (13 days).
const DURATION_LIMIT_NS: i64 = 1 << 50;

/// Stands for "NULL" where keys are plain integers; it is no id of nsys.
pub(super) const NULL_ID: i64 = i64::MIN;

/// Why a row was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Begin or end is NULL.
    TimeMissing,
    /// Begin or end, or their difference, is beyond any trace.
    TimeOutOfRange,
    /// Begin and end are both 0: CUPTI did not collect them.
    TimeNotCollected,
    /// The end is before the begin.
    NegativeDuration,
    /// A number is something else, or does not fit.
    WrongType,
}

impl Reason {
    fn code(self) -> &'static str {
        match self {
            Self::TimeMissing => "row_time_missing",
            Self::TimeOutOfRange => "row_time_out_of_range",
            Self::TimeNotCollected => "row_time_not_collected",
            Self::NegativeDuration => "row_negative_duration",
            Self::WrongType => "row_wrong_type",
        }
    }
    fn words(self) -> &'static str {
        match self {
            Self::TimeMissing => "its begin or end is NULL",
            Self::TimeOutOfRange => "its begin, end or duration is beyond any trace",
            Self::TimeNotCollected => "its begin and end are 0: CUPTI did not collect them",
            Self::NegativeDuration => "it ends before it begins",
            Self::WrongType => "it holds something else where a number must be",
        }
    }
}

/// Rows left out, by reason.
#[derive(Debug, Default)]
pub(super) struct Skips(Vec<(Reason, u64, i64)>);

impl Skips {
    /// Counts one row.
    pub(super) fn note(&mut self, reason: Reason, rowid: i64) {
        match self.0.iter_mut().find(|(known, _, _)| *known == reason) {
            Some((_, count, _)) => *count += 1,
            None => self.0.push((reason, 1, rowid)),
        }
    }
    /// As diagnostics.
    pub(super) fn diagnostics<'a>(&'a self, table: &'a str) -> impl Iterator<Item = Diagnostic> + 'a {
        self.0.iter().map(move |(reason, count, rowid)| Diagnostic {
            code: reason.code().to_owned(),
            severity: Severity::DataLoss,
            count: *count,
            first: format!("row {rowid} of `{table}` is left out: {}", reason.words()),
        })
    }
}

/// No table has more columns that are read.
pub(super) const MOST_COLUMNS: usize = 32;

/// One row: the columns that were asked for, NULL where the table lacks one.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a>(pub(super) &'a [ValueRef<'a>]);

/// The values of a row of a statement whose first column is the row id, and the row id (0 in a table without).
pub(super) fn values_of<'a>(row: &'a Row<'_>, columns: usize) -> (i64, [ValueRef<'a>; MOST_COLUMNS]) {
    let mut values = [ValueRef::Null; MOST_COLUMNS];
    for (column, value) in values.iter_mut().enumerate().take(columns) {
        // The columns are those of our own SELECT, so each is there.
        *value = row.get_ref(column + 1).unwrap_or(ValueRef::Null);
    }
    let rowid = match row.get_ref(0) {
        Ok(ValueRef::Integer(rowid)) => rowid,
        _ => 0,
    };
    (rowid, values)
}

impl<'a> Cells<'a> {
    /// The raw value.
    pub(super) fn value(self, column: usize) -> ValueRef<'a> {
        self.0[column]
    }
    /// An integer; NULL is `None`, anything else is an error.
    pub(super) fn int(self, column: usize) -> Result<Option<i64>, Reason> {
        integer(self.value(column))
    }
    /// An integer, or `default` for NULL.
    pub(super) fn int_or(self, column: usize, default: i64) -> Result<i64, Reason> {
        Ok(self.int(column)?.unwrap_or(default))
    }
    /// An unsigned number of 32 bits; NULL is 0.
    pub(super) fn u32_or_0(self, column: usize) -> Result<u32, Reason> {
        u32::try_from(self.int_or(column, 0)?).map_err(|_| Reason::WrongType)
    }
    /// An unsigned number of 32 bits, `None` for NULL and for what does not fit: for facts a row can do without.
    pub(super) fn u32_lenient(self, column: usize) -> Option<u32> {
        self.int(column).ok().flatten().and_then(|value| u32::try_from(value).ok())
    }
    /// A small number, 0 for NULL and for what does not fit.
    pub(super) fn u8_lenient(self, column: usize) -> u8 {
        self.int(column).ok().flatten().and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
    }
    /// A kind of memory; unknown where it is NULL, absent or no number.
    pub(super) fn memory_kind(self, column: usize) -> MemoryKind {
        let number = self.int(column).ok().flatten().and_then(|value| u8::try_from(value).ok());
        number.map_or(MemoryKind::UNKNOWN, MemoryKind::from_nsys)
    }
    /// A time in ns.
    pub(super) fn time(self, column: usize) -> Result<i64, Reason> {
        let time = self.int(column)?.ok_or(Reason::TimeMissing)?;
        if (-TIME_LIMIT_NS..=TIME_LIMIT_NS).contains(&time) { Ok(time) } else { Err(Reason::TimeOutOfRange) }
    }
    /// Begin and end in ns.
    pub(super) fn interval(self, start: usize, end: usize) -> Result<(i64, i64), Reason> {
        let (start, end) = (self.time(start)?, self.time(end)?);
        checked_interval(start, end)
    }
    /// Begin and end of work of a device, which CUPTI sets to 0 when it has none.
    pub(super) fn device_interval(self, start: usize, end: usize) -> Result<(i64, i64), Reason> {
        match self.interval(start, end)? {
            (0, 0) => Err(Reason::TimeNotCollected),
            interval => Ok(interval),
        }
    }
    /// Text, with what is no UTF-8 replaced; `None` for anything else.
    pub(super) fn text(self, column: usize) -> Option<String> {
        match self.value(column) {
            ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }
}

/// An interval that is one.
pub(super) fn checked_interval(start: i64, end: i64) -> Result<(i64, i64), Reason> {
    if end < start {
        Err(Reason::NegativeDuration)
    } else if end - start > DURATION_LIMIT_NS {
        Err(Reason::TimeOutOfRange)
    } else {
        Ok((start, end))
    }
}

/// An integer, also one that a foreign tool stored as a real number without loss.
pub(super) fn integer(value: ValueRef<'_>) -> Result<Option<i64>, Reason> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        ValueRef::Integer(value) => Ok(Some(value)),
        ValueRef::Null => Ok(None),
        ValueRef::Real(value) if value.fract() == 0.0 && value.abs() <= EXACT => Ok(Some(value as i64)),
        ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => Err(Reason::WrongType),
    }
}
