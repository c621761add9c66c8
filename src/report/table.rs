//! Tables as data, written the same way to Markdown and HTML.

use std::borrow::Cow;

use serde::Serialize;

use super::escape;
use super::number;

/// Longest foreign text shown whole in a cell; the rest is there on demand (HTML) or in the run's files (Markdown).
const CELL_LIMIT: usize = 96;

/// One cell. The text is raw: each format escapes it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cell {
    /// What is shown.
    pub text: String,
    /// The whole text where `text` is cut.
    pub full: Option<String>,
    /// Shown greyed: the value is weaker than it looks; `note` says why.
    pub weak: bool,
    /// Shown on hover.
    pub note: Option<String>,
    /// Value to sort by, for numbers.
    pub sort: Option<f64>,
}

impl Cell {
    /// Text from our own vocabulary or from outside; long text is cut.
    pub(super) fn text(text: &str) -> Self {
        Self::text_up_to(text, CELL_LIMIT)
    }
    /// [`Self::text`] with its own limit in characters.
    pub(super) fn text_up_to(text: &str, limit: usize) -> Self {
        let line = escape::one_line(text);
        let short = escape::cut(&line, limit);
        let full = (short != line).then(|| escape::cut(&line, 20_000));
        Self { text: short, full, ..Self::default() }
    }
    /// A formatted number with the value it sorts by.
    pub(super) fn number(text: String, value: f64) -> Self {
        Self { text, sort: value.is_finite().then_some(value), ..Self::default() }
    }
    /// A number in four digits, or `–`.
    pub(super) fn maybe(value: Option<f64>) -> Self {
        Self { text: number::maybe(value), sort: value.filter(|value| value.is_finite()), ..Self::default() }
    }
    /// A count.
    pub(super) fn count(value: u64) -> Self {
        Self::number(number::count(value), value as f64)
    }
    /// A ratio in per cent, or `–`.
    pub(super) fn percent(ratio: Option<f64>) -> Self {
        Self { text: number::maybe_percent(ratio), sort: ratio.filter(|ratio| ratio.is_finite()), ..Self::default() }
    }
    /// A percentile of `n` values; marked where `n` does not support it.
    pub(super) fn percentile(value: Option<f64>, unit: &str, percentile: u32, n: u64) -> Self {
        let Some(value) = value.filter(|value| value.is_finite()) else { return Self::maybe(None) };
        let needed = number::samples_needed(percentile);
        let text = number::in_unit(value, unit);
        if n >= needed {
            return Self::number(text, value);
        }
        Self {
            text: format!("{text} (n={n} < {needed})"),
            weak: true,
            note: Some(format!("p{percentile} needs {needed} values at 99 % confidence; there are {n}")),
            sort: Some(value),
            full: None,
        }
    }
    /// [`Self::percentile`] for narrow tables: `†` in place of the words.
    pub(super) fn percentile_mark(value: f64, percentile: u32, n: u64) -> Self {
        let mut cell = Self::percentile(Some(value), "", percentile, n);
        if cell.weak {
            cell.text = format!("{}†", number::digits(value));
        }
        cell
    }
}

/// One column.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    /// Heading.
    pub title: Cow<'static, str>,
    /// Right-aligned.
    pub numeric: bool,
}

/// A table.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Table {
    /// Columns.
    pub columns: Vec<Column>,
    /// Rows, each with one cell for every column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table; a heading that begins with `#` is of a right-aligned column (the mark is dropped).
    pub(super) fn new(headings: &[&'static str]) -> Self {
        Self::with_headings(headings.iter().map(|heading| Cow::Borrowed(*heading)))
    }
    /// [`Self::new`] with headings from outside.
    pub(super) fn with_headings(headings: impl Iterator<Item = Cow<'static, str>>) -> Self {
        let columns = headings
            .map(|heading| match heading.strip_prefix('#') {
                Some(title) => Column { title: title.to_owned().into(), numeric: true },
                None => Column { title: heading, numeric: false },
            })
            .collect();
        Self { columns, rows: Vec::new() }
    }
    /// Appends one row.
    pub(super) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a row has one cell for every column");
        self.rows.push(row);
    }
    /// As a GitHub-flavoured Markdown table, padded so that it can be read without rendering.
    pub(super) fn markdown(&self) -> String {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| escape::markdown_cell(&cell.text)).collect()).collect();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let widest = cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
                widest.max(column.title.chars().count()).clamp(3, CELL_LIMIT)
            })
            .collect();
        let line = |texts: &[String]| -> String {
            let mut out = String::from("|");
            for ((text, column), width) in texts.iter().zip(&self.columns).zip(&widths) {
                let padding = " ".repeat(width.saturating_sub(text.chars().count()));
                let text = if column.numeric { format!("{padding}{text}") } else { format!("{text}{padding}") };
                out.push_str(&format!(" {text} |"));
            }
            out
        };
        let headings: Vec<String> = self.columns.iter().map(|column| escape::markdown_cell(&column.title)).collect();
        let rule: String = std::iter::once("|".to_owned())
            .chain(self.columns.iter().zip(&widths).map(|(column, width)| {
                if column.numeric {
                    format!(" {}: |", "-".repeat(width - 1))
                } else {
                    format!(" {} |", "-".repeat(*width))
                }
            }))
            .collect();
        let mut lines = vec![line(&headings), rule];
        lines.extend(cells.iter().map(|row| line(row)));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_markdown_table_keeps_its_columns_whatever_the_cells_hold() {
        let mut table = Table::new(&["name", "#ms"]);
        table.push(vec![Cell::text("a|b\nc"), Cell::maybe(Some(1.5))]);
        table.push(vec![Cell::text("`x|y`"), Cell::maybe(None)]);
        assert_eq!(
            table.markdown(),
            "| name     |    ms |\n| -------- | ----: |\n| a\\|b ↵ c | 1.500 |\n| \\`x\\|y\\` |     – |"
        );
    }

    #[test]
    fn unsupported_percentiles_are_marked_and_supported_ones_bare() {
        assert_eq!(Cell::percentile(Some(12.3), "ms", 95, 3).text, "12.30 (n=3 < 90)");
        assert_eq!(Cell::percentile(Some(12.3), "ms", 95, 90).text, "12.30");
        assert_eq!(Cell::percentile_mark(12.3, 99, 458).text, "12.30†");
        assert_eq!(Cell::percentile_mark(12.3, 99, 459).text, "12.30");
        assert_eq!(Cell::percentile(None, "ms", 95, 3).text, "–");
    }

    #[test]
    fn long_text_is_cut_and_kept() {
        let cell = Cell::text(&"x".repeat(10_000));
        assert_eq!(cell.text.chars().count(), CELL_LIMIT);
        assert_eq!(cell.full.map(|full| full.len()), Some(10_000));
    }
}
