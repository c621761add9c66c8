//! Comma-separated text as the csv formatter of nsys writes it.

use std::fmt::Write as _;

/// A table that is written row by row; the header appears with the first row.
#[derive(Debug)]
pub(super) struct Csv {
    header: &'static [&'static str],
    text: String,
    at_row_start: bool,
}

impl Csv {
    pub(super) fn new(header: &'static [&'static str]) -> Self {
        Self { header, text: String::new(), at_row_start: true }
    }
    /// The text, empty if no row was written.
    pub(super) fn finish(self) -> String {
        self.text
    }
    pub(super) fn end_row(&mut self) {
        self.text.push('\n');
        self.at_row_start = true;
    }
    fn separate(&mut self) {
        if self.text.is_empty() {
            let header = self.header;
            for (column, name) in header.iter().enumerate() {
                if column > 0 {
                    self.text.push(',');
                }
                quoted(&mut self.text, name);
            }
            self.text.push('\n');
        }
        if !self.at_row_start {
            self.text.push(',');
        }
        self.at_row_start = false;
    }
    /// A number without decimals.
    pub(super) fn int(&mut self, value: impl Into<i128>) {
        self.separate();
        let value: i128 = value.into();
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{value}");
    }
    /// A number with one decimal.
    pub(super) fn tenth(&mut self, value: f64) {
        self.separate();
        self.text.push_str(&tenths(value));
    }
    /// Bytes in millions of bytes, three decimals.
    pub(super) fn megabytes(&mut self, bytes: f64) {
        self.separate();
        let _ = write!(self.text, "{:.3}", bytes / 1e6);
    }
    /// A text, quoted where it must be.
    pub(super) fn text(&mut self, value: &str) {
        self.separate();
        quoted(&mut self.text, value);
    }
    /// No value.
    pub(super) fn empty(&mut self) {
        self.separate();
    }
}

fn quoted(out: &mut String, value: &str) {
    if value.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&value.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(value);
    }
}

/// `value` with one decimal, rounded as the SQL function `round(value, 1)` of nsys does it: half away from zero on the exact binary value.
///
/// Rust rounds the exact binary value too, but halves to even. A double lies exactly half-way only at `n.25` and `n.75`, and the two rules
/// differ only at `n.25`.
pub(super) fn tenths(value: f64) -> String {
    if (value * 4.0).abs() % 4.0 == 1.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{:.0}.3", value.abs().trunc());
    }
    format!("{value:.1}")
}

/// The number [`tenths`] writes.
pub(super) fn round_tenths(value: f64) -> f64 {
    tenths(value).parse().expect("a number written in decimals is a number")
}

#[cfg(test)]
mod tests {
    use super::{Csv, tenths};

    #[test]
    fn halves_go_away_from_zero_and_other_values_to_the_nearest_tenth() {
        // From tables printed by nsys: 1663957 / 4 = 415989.25 -> 415989.3, 8032181 / 20 = 401609.05 (below, in binary) -> 401609.0.
        for (value, text) in [
            (415_989.25, "415989.3"),
            (401_609.05, "401609.0"),
            (0.25, "0.3"),
            (2.75, "2.8"),
            (0.35, "0.3"),
            (0.65, "0.7"),
            (-0.25, "-0.3"),
            (0.0, "0.0"),
            (350_645_370.0, "350645370.0"),
        ] {
            assert_eq!(tenths(value), text, "{value}");
        }
    }

    #[test]
    fn only_cells_that_need_it_are_quoted_and_a_table_without_rows_has_no_text() {
        assert_eq!(Csv::new(&["A"]).finish(), "");
        let mut csv = Csv::new(&["A", "B", "C", "D"]);
        csv.text("f(int, int)");
        csv.text("say \"x\"");
        csv.empty();
        csv.text("plain (x)");
        csv.end_row();
        csv.empty();
        csv.int(-5);
        csv.tenth(1.0);
        csv.megabytes(402_653_184.0);
        csv.end_row();
        assert_eq!(csv.finish(), "A,B,C,D\n\"f(int, int)\",\"say \"\"x\"\"\",,plain (x)\n,-5,1.0,402.653\n");
    }
}
