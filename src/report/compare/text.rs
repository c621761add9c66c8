//! Markdown under construction; every text from outside is escaped here.

use crate::report::escape::{self, markdown};
use crate::report::table::Table;

/// Collects paragraphs.
pub(in crate::report) struct Text(String);

impl Text {
    pub(in crate::report) fn new() -> Self {
        Self(String::new())
    }
    /// Markup of our own, with what comes from outside already escaped.
    pub(in crate::report) fn raw(&mut self, text: &str) {
        if !text.is_empty() {
            self.0.push_str(text);
            self.0.push_str("\n\n");
        }
    }
    pub(in crate::report) fn paragraph(&mut self, text: &str) {
        self.raw(&markdown(&escape::cut(text, 1000)));
    }
    pub(in crate::report) fn strong(&mut self, text: &str) {
        self.raw(&format!("**{}**", markdown(escape::cut(text, 1000).trim())));
    }
    pub(in crate::report) fn heading(&mut self, level: usize, text: &str) {
        self.raw(&format!("{} {}", "#".repeat(level), markdown(&escape::cut(text, 200))));
    }
    pub(in crate::report) fn list(&mut self, lines: &[String]) {
        for line in lines {
            self.0.push_str(&format!("- {}\n", markdown(&escape::cut(line, 1000))));
        }
        if !lines.is_empty() {
            self.0.push('\n');
        }
    }
    /// At most `limit` rows; `more` says where the others are.
    pub(in crate::report) fn table(&mut self, table: &Table, limit: usize, more: &str) {
        if table.rows.is_empty() {
            return;
        }
        if table.rows.len() <= limit {
            return self.raw(&table.markdown());
        }
        let mut short = table.clone();
        short.rows.truncate(limit);
        self.raw(&short.markdown());
        self.paragraph(&format!("{} more rows are in {more}.", table.rows.len() - limit));
    }
    pub(in crate::report) fn finish(mut self) -> String {
        while self.0.ends_with("\n\n") {
            self.0.pop();
        }
        self.0
    }
}
